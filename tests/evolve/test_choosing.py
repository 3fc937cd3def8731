"""The front, trimming and the choice of the result: short formulas that are as good."""

import random
from collections.abc import Sequence

import numpy as np
import pytest
from evolve_loop import MADE

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.benchmarks.tabular import TabularArchitecture
from autoprox.bench_cache.statistics.columns import TabularScorer
from autoprox.evolve import Breeder, Judge, Task
from autoprox.evolve.choosing import chosen, standard_errors
from autoprox.evolve.front import Front, Member
from autoprox.evolve.trimming import WORTH, trimmed, without_a_part
from autoprox.primitives import Formula, parse


def judge(count: int = 300) -> Judge:
    """Judge on a table in which `oa` is x and a little y, and z is noise."""
    rng = np.random.default_rng(1)
    columns = {name: rng.normal(size=count) for name in "xyz"}
    rows = tuple(TabularArchitecture((("number", number),)) for number in range(count))
    oa = 50 + 5 * columns["x"] + 1.5 * columns["y"] + 0.5 * rng.normal(size=count)
    benchmark = Benchmark("table", None, None, "made up", rows, {"oa": oa}, columns)
    return Judge([TabularScorer(benchmark, network=benchmark.networks()[0])], [Task(0, "oa")])


def test_the_front_has_the_best_of_each_size_whatever_the_order() -> None:
    members = [Member(1, 0.1, "a"), Member(3, 0.3, "b"), Member(2, 0.3, "c"), Member(5, 0.2, "d"), Member(9, 0.4, "e")]
    for seed in range(20):
        found = Front(random.Random(seed).sample(members, len(members)))
        assert [member.text for member in found] == ["a", "c", "e"]
    assert len(Front([Member(2, 0.5, "first"), Member(2, 0.5, "second")])) == 1


def test_what_buys_nothing_is_dropped_and_what_buys_something_stays() -> None:
    breeder = Breeder(MADE["typed"], judge())
    long = parse("column[x] + 0.3 * column[y] + 0.00001 * sqrt(column[z]) * column[z]")
    short = trimmed(long, breeder)
    assert {terminal.statistic.column for terminal in short.terminals()} == {"x", "y"}
    before, after = (outcome.joint for outcome in breeder.outcomes([long, short]))  # type: ignore[union-attr]
    assert after > before - 5 * WORTH
    assert trimmed(short, breeder) == short
    assert short.text in {member.text for member in breeder.front}


def test_each_part_that_can_go_goes_once() -> None:
    found = {formula.text for formula in without_a_part(parse("sum(l1(abs(weight) * weight_grad)) + params"))}
    assert found == {
        "params", "sum(l1(abs(weight) * weight_grad))", "params + sum(l1(weight * weight_grad))",
        "params + sum(l1(abs(weight)))", "params + sum(l1(weight_grad))",
    }  # fmt: skip
    assert all(formula.is_complete for formula in without_a_part(parse("depth - width * 2")))


def of(*texts: str) -> Sequence[Formula]:
    return [parse(text) for text in texts]


def test_the_shortest_within_the_noise_is_chosen() -> None:
    judging = judge()
    formulas = of("column[x] + column[y] * 0.3 + column[z] * 0.001", "column[x] + column[y] * 0.3", "column[x]")
    joints = [outcome.joint for outcome in judging.judge(formulas, "validation")]  # type: ignore[union-attr]
    errors = standard_errors(judging, formulas, 0)
    assert errors[0] == 0
    assert errors[1] < errors[2]
    assert chosen(judging, formulas, joints) == formulas[1]
    assert chosen(judging, formulas[::2], joints[::2]) == formulas[0]


def test_the_errors_are_those_of_the_difference() -> None:
    judging = judge()
    formulas = of("column[x]", "column[x] * 2", "column[z]")
    assert standard_errors(judging, formulas, 0) == pytest.approx([0, 0, 0.1], abs=0.05)
