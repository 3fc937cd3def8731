"""Sampling: sums over every eighth row and column are as large as those over the whole matrix."""

import pytest
import torch

from autoprox.primitives import OPERATIONS, parse
from autoprox.primitives.evaluate import evaluate
from autoprox.primitives.probe import Reading
from autoprox.primitives.reduce import Graph
from autoprox.primitives.sampling import on_sample

STRIDE, SAMPLES = 8, 3
REDUCTIONS = [name for name, operation in OPERATIONS.items() if operation.family == "reduce"]
DERIVED = ["{}", "row_norm({})", "column_norm({})", "sample_sum({})", "gram({})", "batch_mean({})", "matmul({}, {})"]
TWICE = ["gram(row_norm({}))", "row_norm(sample_sum({}))", "gram(sample_sum({}))", "sample_sum(row_norm({}))"]


def reading(rows: int, columns: int) -> Reading:
    """A reading of one layer, the activations of three samples, all alike: a part has the mean of the whole."""
    matrix = torch.full((SAMPLES * rows, columns), 1.5)
    return Reading(matrices={("act", "data", "fc1"): [matrix]}, samples={("act", "data"): SAMPLES}, net={"depth": 1.0})


@pytest.mark.parametrize("derived", [*DERIVED, *TWICE])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_part_of_equal_entries_says_what_the_whole_says(reduction: str, derived: str) -> None:
    formula = parse(f"sum({reduction}({derived.format('act[fc1]', 'act[fc1]')}))")
    whole, part = reading(5 * STRIDE, 3 * STRIDE), reading(5, 3)
    graph = Graph([formula.args[0]], part.samples, stride=STRIDE)
    (found,) = graph.values([part.matrices["act", "data", "fc1"][0] for _ in graph.leaves])
    assert float(found) == pytest.approx(evaluate(formula, whole), rel=1e-5, abs=1e-5)


def test_what_adds_nothing_up_and_whole_matrices_are_as_they_are() -> None:
    for text in ("sum(mean(act))", "sum(sum(exp(act)))", "sum(effective_rank(act))"):
        node = parse(text).args[0]
        assert on_sample(node, 1) is OPERATIONS[text[4:].partition("(")[0]].function
    assert on_sample(parse("sum(mean(act))").args[0], STRIDE) is OPERATIONS["mean"].function
    assert on_sample(parse("sum(effective_rank(act))").args[0], STRIDE) is OPERATIONS["effective_rank"].function


def test_a_large_sum_stays_finite() -> None:
    node = parse("sum(sum(act))").args[0]
    found = on_sample(node, STRIDE)(torch.full((2, 2), 1e30))
    assert bool(found.isfinite())
