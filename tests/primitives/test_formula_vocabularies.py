"""Formulas and the operations they are written with."""

import pickle
from collections.abc import Callable

import pytest
from torch import Tensor

from autoprox.primitives import (
    OPERATIONS,
    Formula,
    FormulaError,
    Operation,
    Vocabulary,
    apply,
    from_json,
    parse,
    statistic,
)


def test_smaller_vocabularies_say_what_they_lack() -> None:
    few = Vocabulary(OPERATIONS["sum"], OPERATIONS["l1"], OPERATIONS["mul"])
    assert str(parse("sum(l1(weight * weight_grad))", few)) == "sum(l1(weight * weight_grad))"
    for text, lacking in {"params + 1": "add", "-params": "neg", "log(params)": "log"}.items():
        with pytest.raises(FormulaError, match=f"unknown operation '{lacking}'"):
            parse(text, few)
    with pytest.raises(FormulaError, match="unknown operation 'add'"):
        from_json(parse("params + 1").to_json(), few)


def test_larger_vocabularies_are_read() -> None:
    def triple(x):
        return (3 * x).clamp(-1e30, 1e30)

    larger = OPERATIONS.extended(Operation("triple", "map", triple, r"3 \cdot \left({0}\right)"))
    formula = parse("sum(l1(triple(weight)))", larger)
    assert from_json(formula.to_json(), larger) == formula
    with pytest.raises(FormulaError, match="unknown operation 'triple'"):
        parse(str(formula))


def one(x):
    return x.abs().clamp(max=1)


def two(x):
    return x.abs().clamp(max=2)


def mine(function: Callable[..., Tensor]) -> Vocabulary:
    """Return the vocabulary with the function as the operation `mine`."""
    return OPERATIONS.extended(Operation("mine", "map", function, r"m\left({0}\right)"))


def test_formulas_of_one_text_differ_where_their_operations_do() -> None:
    text = "sum(l1(mine(weight))) + depth"
    first, second, again = (parse(text, mine(function)) for function in (one, two, one))
    assert first == again
    assert len({first, second, again}) == 2
    assert parse("mine(depth) - mine(2 * depth)", mine(one)) != parse("mine(depth) - mine(2 * depth)", mine(two))


def test_a_formula_may_mix_vocabularies() -> None:
    def nested(outer: Vocabulary, inner: Vocabulary) -> Formula:
        return apply(outer["mine"], apply(inner["mine"], statistic("depth")))

    assert nested(mine(one), mine(two)) == nested(mine(one), mine(two)) != nested(mine(two), mine(one))


def test_an_operation_with_the_name_of_another_is_not_that() -> None:
    own = Vocabulary(Operation("abs", "map", two, r"\left|{0}\right|"))
    formula = parse("abs(depth)", own)
    assert formula != parse("abs(depth)")
    assert not formula.built_in
    assert parse("abs(depth)").built_in


@pytest.mark.parametrize("function", [one, two])
def test_operations_are_the_same_in_another_process(function: Callable[..., Tensor]) -> None:
    formula = parse("sum(l1(mine(abs(weight)))) + depth", mine(function))
    arrived = pickle.loads(pickle.dumps(formula))
    assert arrived == formula
    assert arrived != parse(formula.text, mine({one: two, two: one}[function]))
    for node in arrived.nodes():
        if isinstance(node.head, Operation) and node.head.name != "mine":
            assert node.head is OPERATIONS[node.head.name]
        assert node.built_in is ("mine" not in node.text)
