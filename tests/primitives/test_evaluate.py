"""Evaluate: against a slow, plain reference in numpy, one formula and one layer at a time."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from plain_evaluation import REFERENCE, deep, reference
from strategies import formulas, reading
from strategies import reductions as random_reductions

from autoprox.primitives import OPERATIONS, Formula, LayerError, Operation, Reading, evaluate, parse
from autoprox.primitives.evaluate import (
    Layout,
    at_slot,
    finish,
    layer_numbers,
    layer_tensor,
    matrix_reductions,
    reductions,
    requirements,
)
from autoprox.primitives.kinds import role_slots
from autoprox.primitives.reduce import reduce_layers


def perturbed(statistics: Reading, seed: int) -> Reading:
    """Return the statistics with every entry changed by about one part in 10⁹."""
    rng = np.random.default_rng(seed)

    def changed(x: torch.Tensor) -> torch.Tensor:
        return x * (1 + 1e-9 * torch.tensor(rng.normal(0, 1, x.shape)))

    return Reading(
        {key: [changed(x) for x in blocks] for key, blocks in statistics.matrices.items()},
        statistics.samples,
        {key: [x * (1 + 1e-9 * rng.normal()) for x in blocks] for key, blocks in statistics.layers.items()},
        {key: x * (1 + 1e-9 * rng.normal()) for key, x in statistics.net.items()},
    )


def is_well_conditioned(formula: Formula, statistics: Reading) -> bool:
    """Return whether changes of 1e-9 stay below 1e-7; if not, what it gives is rounding errors in any arithmetic."""
    expected = reference(formula, statistics)
    near = [reference(formula, perturbed(statistics, number)) for number in range(2)]
    return all(abs(value - expected) <= 1e-7 * abs(expected) for value in near) and not absorbs(formula)


def absorbs(formula: Formula) -> bool:
    """Return whether it may take the deviation of numbers that adding ±1e30 has made equal: only rounding errors."""
    names = {node.head.name for node in formula.nodes() if isinstance(node.head, Operation)}
    return "1e+30" in formula.text and bool(names & {"zscore", "std", "batch_std"})


def test_every_operation_has_a_reference() -> None:
    assert set(REFERENCE) == set(OPERATIONS)


ARGUMENT = {
    "matrix": "weight[msa] - weight_grad[msa]",
    "stacked": "act[fc1] + act_grad[fc1]",
    "layer": "mean(weight[mlp]) * fan_in[mlp]",
    "net": "log(params) - 17.0",
}


def forms(operation: Operation) -> list[str]:
    """Write formulas that use the operation at every level where it may stand."""
    name, matrix, layer, net = operation.name, ARGUMENT["matrix"], ARGUMENT["layer"], ARGUMENT["net"]
    match operation.family:
        case "map":
            return [f"sum(sum({name}({matrix})))", f"sum({name}({layer}))", f"{name}({net})"]
        case "normalise":
            return [f"sum(l1({name}({matrix}) * weight[msa]))"]
        case "derive" | "spectrum":
            inner = f"{name}({ARGUMENT['stacked'] if operation.per_sample else matrix})"
            return [f"sum({inner})" if operation.family == "spectrum" else f"sum(l1({inner}))"]
        case "product":
            return [f"sum(l1({name}({matrix}, weight_grad[msa, noise])))"]
        case "reduce":
            return [f"sum({name}({matrix}))", f"{name}({layer})"]
        case "along_depth":
            return [f"l1({name}({layer}))"]
        case "aggregate":
            return [f"{name}({layer})"]
    shapes = [(matrix, "weight_grad[msa, synflow]"), (matrix, "0.75"), ("-1.5", matrix)]
    layers = [(layer, "fan_out[mlp] / 3"), (layer, net), (net, layer), (layer, "-2"), ("0.3", layer)]
    return (
        [f"sum(sum({name}({a}, {b})))" for a, b in shapes]
        + [f"sum({name}({a}, {b}))" for a, b in layers]
        + [f"{name}({net}, {other})" for other in ("depth", "2.5")]
        + [f"{name}(-0.5, {net})"]
    )


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_every_operation_is_the_references(operation: Operation) -> None:
    """To 1e-9 in float64; to 2e-5 on float32 matrices, sums over which cancel some digits."""
    for seed in range(5):
        exact, single = reading(seed, blocks=3), reading(seed, blocks=3, dtype=torch.float32)
        for text in forms(operation):
            formula = parse(text)
            assert evaluate(formula, exact) == pytest.approx(reference(formula, exact), rel=1e-9, abs=1e-9)
            assert evaluate(formula, single) == pytest.approx(reference(formula, single), rel=2e-5, abs=2e-5)


@settings(max_examples=4 * settings.default.max_examples)
@given(formula=formulas(6), seed=st.integers(0, 5))
def test_random_formulas_are_the_references(formula: Formula, seed: int) -> None:
    """To 1e-6, or 1e-12 where the exact value is 0, on float64 matrices."""
    statistics = reading(seed)
    assume(is_well_conditioned(formula, statistics))
    assert evaluate(formula, statistics) == pytest.approx(reference(formula, statistics), rel=1e-6, abs=1e-12)


@settings(max_examples=60)
@given(many=st.lists(formulas(), min_size=2, max_size=12), seed=st.integers(0, 3))
def test_many_formulas_at_once_are_the_same_as_one_by_one(many: list[Formula], seed: int) -> None:
    """Exactly: sharing subexpressions changes no bit."""
    statistics = reading(seed, dtype=torch.float32)
    shared = reduce_layers(reductions(many), statistics)
    for formula in many:
        alone = reduce_layers(reductions([formula]), statistics)
        assert all(shared[part] == values for part, values in alone.items())


@settings(max_examples=60)
@given(formula=formulas())
def test_networks_at_once_are_the_same_as_one_by_one(formula: Formula) -> None:
    """`finish` takes networks together, in the order of their depths."""
    depths = [1, 3, 3, 4]
    networks = [reading(seed, blocks=depth) for seed, depth in enumerate(depths)]
    assume(all(is_well_conditioned(formula, network) for network in networks))
    reduced = [reduce_layers(reductions([formula]), network) for network in networks]

    def layers(node: Formula) -> torch.Tensor:
        found = zip(networks, reduced, strict=True)
        return torch.cat([layer_tensor(node, lambda part: layer_numbers(part, n, r)) for n, r in found])  # noqa: B023

    def net(name: str) -> torch.Tensor:
        return torch.tensor([network.net[name] for network in networks], dtype=torch.float64)[:, None]

    together = finish(formula, layers, net, Layout(depths)).expand(4)
    alone = [evaluate(formula, network) for network in networks]
    np.testing.assert_allclose(together.numpy(), alone, rtol=1e-6, atol=1e-12)


@settings(max_examples=100)
@given(formula=formulas())
def test_evaluation_leaves_the_statistics_alone(formula: Formula) -> None:
    statistics, untouched = reading(7), reading(7)
    evaluate(formula, statistics)
    for key, blocks in statistics.matrices.items():
        assert all(torch.equal(x, y) for x, y in zip(blocks, untouched.matrices[key], strict=True))
    assert (statistics.layers, statistics.net) == (untouched.layers, untouched.net)


def test_each_common_subexpression_is_computed_once_for_each_layer() -> None:
    calls = []

    def counted(x):
        if x.is_floating_point() and x.shape == (9, 3):
            calls.append(x)
        return x.abs()

    larger = OPERATIONS.extended(Operation("counted", "map", counted, r"c\left({0}\right)"))
    texts = ("sum(l1(counted(weight[qkv])))", "sum(fro(counted(weight[msa])) + mean(counted(weight[msa])))",
             "mean(std(counted(weight)))")  # fmt: skip
    statistics = next(r for r in map(reading, range(50)) if r.matrices["weight", "", "qkv"][0].shape == (9, 3))
    calls.clear()
    reduce_layers(reductions([parse(text, larger) for text in texts]), statistics)
    assert len(calls) == 2  # blocks


@given(reduction=random_reductions())
def test_single_slot_parts_are_the_reductions_columns(reduction: Formula) -> None:
    """Roles share what they have in common: the part of a slot is the same whatever role it was taken from."""
    role = next(arg.kind.role for arg in reduction.args if arg.kind.level == "matrix")
    statistics = reading(1)
    parts = [at_slot(reduction, slot) for slot in role_slots(role)]
    assert reductions([reduction]) == tuple(dict.fromkeys(at_slot(n, s) for n in matrix_reductions(reduction)
                                                          for s in role_slots(role)))  # fmt: skip
    for slot, part in zip(role_slots(role), parts, strict=True):
        assert {t.role for t in part.terminals()} == {slot}
        assert [reference_layer(part, statistics, slot, block) for block in range(2)] == [
            reference_layer(reduction, statistics, slot, block) for block in range(2)
        ]


def reference_layer(node: Formula, statistics: Reading, slot: str, block: int) -> float:
    with np.errstate(all="ignore"):
        return float(deep(node, statistics, slot, block))


def test_requirements_are_what_is_read() -> None:
    texts = (
        "sum(l1(weight * weight_grad[noise]))",
        "sum(sum(attn)) + flops",
        "sum(tokens[qkv] * fan_in[qkv])",
        "depth * 2",
    )
    assert requirements([parse(text) for text in texts]) == {
        ("weight", ""), ("weight_grad", "noise"), ("attn", "data"), ("flops", ""), ("tokens", ""), ("fan_in", ""),
        ("depth", ""),
    }  # fmt: skip
    assert requirements([]) == frozenset()


MISSING = {
    "sum(l1(weight[qkv]))": "the formula reads weight[qkv]",
    "sum(l1(weight_grad[qkv, noise]))": "the formula reads weight_grad[qkv, noise],",
    "sum(fan_in[proj])": "the formula reads fan_in[proj]",
    "sum(l1(attn))": "the formula reads attn,",
    "flops": "the formula reads flops,",
}


@pytest.mark.parametrize(("text", "message"), MISSING.items())
def test_missing_statistics_are_one_clear_line(text: str, message: str) -> None:
    with pytest.raises(LayerError) as caught:
        evaluate(parse(text), Reading())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_known_values() -> None:
    """Two blocks of one fc1 layer each, small enough to do by hand."""
    statistics = Reading(
        matrices={
            ("weight", "", "fc1"): [torch.tensor([[1.0, -2.0], [3.0, 0.0]]), torch.tensor([[4.0, 0.0], [0.0, -3.0]])]
        },
        samples={("weight", ""): 1},
        layers={("position", "fc1"): [0.5, 1.0]},
        net={"depth": 2.0},
    )
    values = {
        "sum(l1(weight[fc1]))": 6 + 7,
        "mean(sum(weight[fc1]))": (2 + 1) / 2,
        "sum(fro(weight[fc1]) * position[fc1])": math.sqrt(14) / 2 + 5,
        "sum(nuclear(weight[fc1]))": math.sqrt(14 + 2 * 6) + 7,
        "depth_weighted(max(weight[fc1]))": 3 / 2 + 4,
        "sum(depth_difference(min(weight[fc1])))": -1.0,
        "max(sum(abs(weight[fc1]) - 1)) / depth": 1.5,
        "sum(sum(weight[fc1] * (1 / 4)))": 0.75,
        "sum(sum(pow(2, weight[fc1])))": 2 + 0.25 + 8 + 1 + 16 + 1 + 1 + 0.125,
    }
    for text, value in values.items():
        assert evaluate(parse(text), statistics) == pytest.approx(value, rel=1e-6), text
