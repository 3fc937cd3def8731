"""Taus within a benchmark's groups in the report of an evolution, and the sentence that the verdict makes of them."""

from dataclasses import replace

import numpy as np
import pytest
import synthetic
from scipy.stats import kendalltau

from autoprox.bench_cache.benchmarks.groups import within_tau
from autoprox.bench_cache.statistics.columns import TabularScorer
from autoprox.evolve import FORMULA, Judge, Task, report, verdict
from autoprox.primitives import parse

PLAIN = synthetic.benchmark(50)
DEPTHS = [str(int(depth)) for depth in PLAIN.structure()["depth"] > np.median(PLAIN.structure()["depth"])]
GROUPED = replace(PLAIN, groups={"depth": DEPTHS})
TASKS = (Task(0, "size_kd"), Task(0, "shape_kd", weight=3.0))


def test_the_report_has_every_predictor_within_groups() -> None:
    made = report(Judge([TabularScorer(GROUPED)], TASKS), parse("flops"), ("test",))
    at = GROUPED.splits()["test"]
    found = {within.predictor: within.tau for within in made.within}
    assert {(w.split, w.benchmark, w.group) for w in made.within} == {("test", GROUPED.name, "depth")}
    for predictor, values in ((FORMULA, GROUPED.structure()["flops"]), ("params", GROUPED.structure()["params"])):
        taus = [within_tau(values[at], GROUPED.tasks[task.name][at], GROUPED.groups["depth"][at]).tau for task in TASKS]
        assert found[predictor] == pytest.approx(np.average(taus, weights=[1, 3]))
    assert set(found) == {row.predictor for row in made.rows}
    best = max((name for name in found if name != FORMULA), key=lambda name: found[name])
    assert verdict(made, "test")[-1] == (
        f"Within one depth of {GROUPED.name} its mean τ on test is {found[FORMULA]:.3f}; that of {best}, the strongest "
        f"baseline there, is {found[best]:.3f}."
    )


def test_without_groups_there_is_no_word_of_them() -> None:
    made = report(Judge([TabularScorer(PLAIN)], TASKS), parse("flops"), ("test",))
    assert made.within == ()
    assert not [line for line in verdict(made, "test") if line.startswith("Within")]


def test_groups_that_cannot_be_used_are_left_out() -> None:
    alone = replace(PLAIN, groups={"name": [str(number) for number in range(len(PLAIN))]})
    assert report(Judge([TabularScorer(alone)], TASKS), parse("flops"), ("test",)).within == ()


def test_trainable_networks_have_a_sentence_of_their_own() -> None:
    base = synthetic.mini(60)
    (task,) = list(base.tasks)[:1]
    accuracies = base.tasks[task].copy()
    accuracies[::4] = 10  # chance, of ten classes
    failing = replace(base, tasks={task: accuracies}, inputs={task: base.inputs[task]}, seeds={}, groups={})
    made = report(Judge([TabularScorer(failing)], (Task(0, task),)), parse("params"), ("test",))
    at = failing.splits()["test"]
    kept = at[accuracies[at] > 10]
    params = failing.structure(failing.inputs[task].spec)["params"]
    (found,) = [within for within in made.within if within.predictor == FORMULA]
    assert (found.group, found.benchmark) == ("trainable", failing.name)
    assert found.tau == pytest.approx(kendalltau(params[kept], accuracies[kept]).statistic)
    assert made.row(FORMULA, "test").tau == pytest.approx(kendalltau(params[at], accuracies[at]).statistic)
    assert verdict(made, "test")[-1].startswith(
        f"Over the trainable networks of {failing.name} its mean τ on test is {found.tau:.3f}; that of "
    )
