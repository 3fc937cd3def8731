"""Canonical form: one form for what ranks alike, and never another ranking."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import formulas, layer_formulas, reading

from autoprox.primitives import (
    OPERATIONS,
    Formula,
    Operation,
    Reading,
    Vocabulary,
    apply,
    canonical,
    constant,
    evaluate,
    parse,
)

#: Networks of two and of three blocks, with other widths, heads and tokens each.
NETWORKS = [reading(seed, blocks=2 + seed % 2) for seed in range(7)]


def scores(formula: Formula, networks: list[Reading] = NETWORKS) -> list[float]:
    return [evaluate(formula, network) for network in networks]


def gap(a: float, b: float) -> float:
    """Return how far apart two scores are, relative to the larger, with its sign."""
    return (a - b) / max(abs(a), abs(b), 1e-300)


RULES = {
    # commutative arguments in the order of their texts
    "depth + params": "depth + params",
    "params + depth": "depth + params",
    "params * depth": "depth * params",
    "maximum(params, depth)": "maximum(depth, params)",
    "minimum(params, depth)": "minimum(depth, params)",
    "params - depth": "params - depth",
    "params / depth": "params / depth",
    "pow(params, depth)": "pow(params, depth)",
    "sum(l1(weight_grad * weight) + fan_in)": "sum(fan_in + l1(weight * weight_grad))",
    "sum(sum(matmul(weight_grad, weight)))": "sum(sum(matmul(weight_grad, weight)))",
    # no-ops and involutions
    "identity(params + depth)": "depth + params",
    "sum(l1(identity(weight)))": "sum(l1(weight))",
    "sum(sum(neg(neg(weight))))": "sum(sum(weight))",
    "sum(sum(-(-(-weight))))": "sum(sum(neg(weight)))",
    "sum(sum(neg(identity(neg(weight)))))": "sum(sum(weight))",
    "sum(sum(weight + 0))": "sum(sum(weight))",
    "sum(sum(0 + weight))": "sum(sum(weight))",
    "sum(sum(weight - 0))": "sum(sum(weight))",
    "sum(sum(0 - weight))": "sum(sum(0 - weight))",
    "sum(sum(weight * 1))": "sum(sum(weight))",
    "sum(sum(1 * weight))": "sum(sum(weight))",
    "sum(sum(weight / 1))": "sum(sum(weight))",
    "sum(sum(1 / weight))": "sum(sum(1 / weight))",
    "sum(sum(weight * 0))": "sum(sum(0 * weight))",
    "sum(sum(weight * (3 - 2)))": "sum(sum(weight))",
    # idempotents, and signs that are known
    "sum(sum(abs(abs(weight))))": "sum(sum(abs(weight)))",
    "sum(sum(relu(relu(weight))))": "sum(sum(relu(weight)))",
    "sum(sum(sign(sign(weight))))": "sum(sum(sign(weight)))",
    "sum(sum(sqrt(sqrt(weight))))": "sum(sum(sqrt(sqrt(weight))))",
    "sum(sum(abs(square(weight))))": "sum(sum(square(weight)))",
    "sum(relu(l1(weight)))": "sum(l1(weight))",
    "sum(abs(sum(weight)))": "sum(abs(sum(weight)))",
    "sum(sum(abs(neg(weight))))": "sum(sum(abs(weight)))",
    "sum(sum(square(neg(weight))))": "sum(sum(square(weight)))",
    "sum(sum(square(abs(weight))))": "sum(sum(square(weight)))",
    "sum(sum(abs(neg(square(weight)))))": "sum(sum(square(weight)))",
    # constants folded
    "sum(sum(weight * (1 + 2)))": "sum(sum(3 * weight))",
    "sum(sum(weight * neg(exp(0))))": "sum(sum(-1 * weight))",
    "sum(sum(weight) * square(1e20))": "sum(1e+30 * sum(weight))",
    "sum(sum(weight) / (1 / 0))": "sum(sum(weight) / 0)",
    # at the root, what cannot change a ranking
    "exp(params)": "params",
    "sqrt(sigmoid(tanh(exp(params))))": "params",
    "params + 7": "params",
    "7 + params": "params",
    "params - 7": "params",
    "params * 2": "params",
    "2 * params": "params",
    "params / 2": "params",
    "sqrt(2 * exp(params - 3) + 1)": "params",
    "-2 * params": "neg(params)",
    "params / -2": "neg(params)",
    "1 - params": "neg(params)",
    "neg(params + 1)": "neg(params)",
    "neg(1 - params)": "params",
    "1 - exp(-params)": "params",
    "neg(exp(neg(exp(params))))": "params",
    "-3 * (2 - params / -4)": "neg(params)",
    "params * (2 - 5)": "neg(params)",
    "log(params)": "log(params)",
    "square(params)": "square(params)",
    "abs(params)": "abs(params)",
    "0 * params": "0 * params",
    "params / 0": "params / 0",
    "params / 1e-31": "params / 1e-31",
    "2 / params": "2 / params",
    "params + depth + 1": "depth + params",
    "sum(exp(l1(weight)))": "sum(exp(l1(weight)))",
    "exp(params) + depth": "depth + exp(params)",
}


@pytest.mark.parametrize(("written", "form"), RULES.items())
def test_rules(written: str, form: str) -> None:
    assert str(canonical(parse(written))) == form


def test_root_of_an_incomplete_formula_stays() -> None:
    """Only a score is a ranking: what gives numbers per layer keeps its values."""
    assert str(canonical(parse("exp(l1(weight) * 2)", complete=False))) == "exp(2 * l1(weight))"
    assert str(canonical(parse("exp(weight)", complete=False))) == "exp(weight)"


def test_folding_keeps_what_is_too_large_for_a_constant() -> None:
    """An operation of the user's may give more than a constant may be; it is then left as it is written."""

    def huge(x):
        return x.sign() * 1e38

    larger = OPERATIONS.extended(Operation("huge", "map", huge, r"h\left({0}\right)"))
    assert str(canonical(parse("sum(sum(weight * huge(2)))", larger))) == "sum(sum(huge(2) * weight))"


def test_names_of_the_language_mean_nothing_in_another_vocabulary() -> None:
    def seven(*args):
        return torch.full_like(torch.broadcast_tensors(*args)[0], 7.0)

    families = {"identity": "map", "abs": "map", "neg": "map", "add": "binary", "mul": "binary", "sub": "binary"}
    other = Vocabulary(*(Operation(name, family, seven, "{0}") for name, family in families.items()))
    for text in ("identity(depth)", "abs(neg(depth))", "neg(depth)", "add(depth, 0)", "mul(depth, 2)", "sub(1, depth)"):
        formula = parse(text, other)
        assert canonical(formula) == formula


@settings(max_examples=4 * settings.default.max_examples)
@given(formula=formulas(6))
def test_idempotent(formula: Formula) -> None:
    once = canonical(formula)
    assert canonical(once) == once
    assert once.is_complete
    assert once.size <= formula.size + 1  # a factor below zero leaves one sign


@settings(max_examples=4 * settings.default.max_examples)
@given(formula=formulas(6))
def test_same_ranking(formula: Formula) -> None:
    """No pair is reversed, and pairs that the formula tells apart stay apart."""
    before, after = scores(formula), scores(canonical(formula))
    for a, b in itertools.combinations(range(len(NETWORKS)), 2):
        gap_before, gap_after = gap(before[a], before[b]), gap(after[a], after[b])
        assert gap_before * gap_after >= 0 or abs(gap_before) < 1e-12
        if abs(gap_before) > 1e-6:
            assert gap_after != 0


@settings(max_examples=4 * settings.default.max_examples)
@given(formula=layer_formulas(5))
def test_same_values_below_the_root(formula: Formula) -> None:
    """Only the root loses what cannot change a ranking: everywhere else the values are the same to the last bit."""
    total = apply(OPERATIONS["sum"], formula)
    settled = apply(OPERATIONS["sum"], canonical(formula))
    assert scores(total, NETWORKS[:3]) == scores(settled, NETWORKS[:3])


@settings(max_examples=4 * settings.default.max_examples)
@given(formula=formulas(6), data=st.data())
def test_commutative_variants_share_one_form(formula: Formula, data: st.DataObject) -> None:
    assert canonical(varied(formula, data)) == canonical(formula)


def varied(node: Formula, data: st.DataObject) -> Formula:
    """Return another way to write the same: arguments swapped, nothing added, signs doubled."""
    if not node.args:
        return node
    args = [varied(arg, data) for arg in node.args]
    if node.head.commutative and data.draw(st.booleans()):
        args.reverse()
    again = apply(node.head, *args)
    match data.draw(st.integers(0, 5)):
        case 0:
            return apply(OPERATIONS["identity"], again)
        case 1:
            return apply(OPERATIONS["neg"], apply(OPERATIONS["neg"], again))
        case 2:
            return apply(OPERATIONS["add"], constant(0.0), again)
        case 3:
            return apply(OPERATIONS["div"], again, constant(1.0))
    return again


@settings(max_examples=4 * settings.default.max_examples)
@given(formula=formulas(4), data=st.data())
def test_increasing_roots_share_one_form(formula: Formula, data: st.DataObject) -> None:
    steps = {
        "exp": lambda f: apply(OPERATIONS["exp"], f),
        "shift": lambda f: apply(OPERATIONS["add"], f, constant(3.5)),
        "scale": lambda f: apply(OPERATIONS["mul"], constant(0.25), f),
        "twice negated": lambda f: apply(OPERATIONS["sub"], constant(1.0), apply(OPERATIONS["div"], f, constant(-2.0))),
    }
    wrapped = formula
    for name in data.draw(st.lists(st.sampled_from(list(steps)), max_size=4)):
        wrapped = steps[name](wrapped)
    assert canonical(wrapped) == canonical(formula)


def test_networks_are_told_apart() -> None:
    """The properties above are about rankings of networks that differ."""
    for text in (
        "params",
        "sum(l1(weight))",
        "sum(fro(act_grad[synflow]))",
        "sum(nuclear(attn[noise]))",
        "sum(fan_in)",
    ):
        assert len(set(scores(parse(text)))) > 3


@settings(max_examples=50)
@given(st.lists(formulas(), min_size=2, max_size=5))
def test_what_was_settled_of_other_formulas_changes_nothing(several: list[Formula]) -> None:
    together = [canonical(formula) for formula in several]
    assert together == [canonical(parse(formula.text)) for formula in several]
    assert [canonical(formula) for formula in together] == together
