"""Fitness: Kendall's tau-b as scipy has it, joint over tasks, and nothing for a formula that does not rank."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import synthetic
from hypothesis import given
from hypothesis import strategies as st

from autoprox.bench_cache.benchmarks.table import SPLITS, Benchmark
from autoprox.bench_cache.rank_correlation import tied_fractions
from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.evolve import Invalid, Judge, Judgement, Task, choose_tasks, kendall
from autoprox.evolve.fitness import MAX_TIED, Fitness
from autoprox.evolve.joint import combined
from autoprox.primitives import Formula, parse

BENCHMARK = synthetic.benchmark()


class Given:
    """Stands in for a scorer: every formula scores what the test says, by the formula's text."""

    def __init__(self, benchmark: Benchmark, scores: dict[str, np.ndarray]) -> None:
        self.benchmark, self._scores = benchmark, scores
        self.network, self.structure = benchmark.networks()[0], benchmark.structure()
        self.kept = range(len(benchmark))

    def held(self, indices: np.ndarray) -> None:
        """Say that no networks are held in memory."""

    def scores(self, formulas: Sequence[Formula], indices: np.ndarray) -> np.ndarray:
        return np.array([self._scores[formula.text][indices] for formula in formulas])


def judged(scores: np.ndarray, tasks: Sequence[Task] = (Task(0, "size_kd"),), combination: str = "mean", **others: str):
    """Judge one formula whose scores are given."""
    judge = Judge([Given(BENCHMARK, {"params": scores})], tasks, combination)  # type: ignore[list-item]
    return judge.judge([parse("params")], **others)[0]


NUMBERS = st.integers(-4, 4).map(float)


# --- tau ---


@given(st.lists(st.tuples(NUMBERS, st.one_of(NUMBERS, st.none())), min_size=3, max_size=25))
def test_tau_is_scipys_over_what_is_there(pairs: list[tuple[float, float | None]]) -> None:
    scores = np.array([score for score, _ in pairs])
    accuracies = np.array([np.nan if accuracy is None else accuracy for _, accuracy in pairs])
    there = [i for i, (_, accuracy) in enumerate(pairs) if accuracy is not None]
    x, y = scores[there], accuracies[there]
    if len(there) < 3 or len(set(x)) < 2 or len(set(y)) < 2:
        assert np.isnan(kendall(scores, accuracies))
        return
    concordance = np.sign(np.subtract.outer(x, x)) * np.sign(np.subtract.outer(y, y))
    untied = [(np.subtract.outer(values, values) != 0).sum() for values in (x, y)]
    by_hand = concordance.sum() / np.sqrt(float(untied[0]) * float(untied[1]))
    assert kendall(scores, accuracies) == pytest.approx(by_hand, abs=1e-12)
    assert kendall(scores, accuracies) == scipy.stats.kendalltau(x, y).statistic


def test_tau_by_hand() -> None:
    assert kendall(np.arange(5.0), np.arange(5.0)) == pytest.approx(1)
    assert kendall(np.arange(5.0), -np.arange(5.0)) == pytest.approx(-1)
    assert kendall(np.array([1.0, 2, 3]), np.array([1.0, 3, 2])) == pytest.approx(1 / 3)
    # one pair tied in the accuracies: (C - D) / sqrt(6 * 5)
    assert kendall(np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 2, 3])) == pytest.approx(5 / np.sqrt(30))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_accuracies_have_no_tau(count: int) -> None:
    accuracies = np.full(6, np.nan)
    accuracies[:count] = 5.0
    assert np.isnan(kendall(np.arange(6.0), accuracies))


@given(st.lists(NUMBERS, min_size=2, max_size=30))
def test_the_tied_fraction_counts_pairs(values: list[float]) -> None:
    pairs = [(i, j) for i in range(len(values)) for j in range(i)]
    (found,) = tied_fractions(np.array([values]))
    assert found == pytest.approx(sum(values[i] == values[j] for i, j in pairs) / len(pairs))


# --- what has no fitness ---


def test_a_constant_formula_is_invalid() -> None:
    assert judged(np.ones(len(BENCHMARK))) == Invalid("constant")


def test_few_distinct_scores_are_invalid_however_lucky() -> None:
    lucky = (BENCHMARK.tasks["size_kd"] > np.median(BENCHMARK.tasks["size_kd"])).astype(float)
    outcome = judged(lucky)
    assert isinstance(outcome, Invalid)
    assert "pairs tied on small" in outcome.reason


def test_a_few_ties_are_allowed_up_to_the_limit() -> None:
    evolve = BENCHMARK.splits()["evolve"]
    pairs = len(evolve) * (len(evolve) - 1) / 2
    for count in range(2, len(evolve)):
        scores = np.arange(float(len(BENCHMARK)))
        scores[evolve[:count]] = -1.0
        assert isinstance(judged(scores), Invalid if count * (count - 1) / 2 / pairs > MAX_TIED else Judgement)


def test_ties_in_another_split_do_not_matter_here() -> None:
    scores = np.arange(float(len(BENCHMARK)))
    scores[BENCHMARK.splits()["test"]] = 0.0
    assert isinstance(judged(scores), Judgement)
    assert judged(scores, split="test") == Invalid("constant")


def test_constant_where_a_task_has_accuracies_is_invalid() -> None:
    evolve = BENCHMARK.splits()["evolve"]
    few = np.full(len(BENCHMARK), np.nan)
    few[evolve[:3]] = [1.0, 2.0, 3.0]
    benchmark = replace(BENCHMARK, tasks={**BENCHMARK.tasks, "few": few})
    scores = np.arange(float(len(BENCHMARK)))
    scores[evolve[:3]] = 0.0
    judge = Judge([Given(benchmark, {"params": scores})], [Task(0, "few")])  # type: ignore[list-item]
    assert judge.judge([parse("params")]) == [Invalid("constant where a task has accuracies")]


def test_an_invalid_fitness_loses_against_the_worst() -> None:
    worst, none = Fitness(), Fitness()
    worst.values = (-1.0, 1000.0)
    assert not none.valid
    assert worst > none
    assert not none > worst
    assert not none >= worst


def test_of_two_equal_formulas_the_smaller_is_fitter() -> None:
    small, large = Fitness(), Fitness()
    small.values, large.values = (0.5, 3.0), (0.5, 9.0)
    assert small > large


# --- joint ---


@pytest.mark.parametrize(
    ("combination", "expected"),
    [("mean", (0.2 + 0.5 - 0.1) / 3), ("min", -0.1), ("mean-spread", 0.2 - np.std([0.2, 0.5, -0.1]))],
)
def test_joint_fitness(combination: str, expected: float) -> None:
    assert combined((0.2, 0.5, -0.1), (1.0, 1.0, 1.0), combination) == pytest.approx(expected)


def test_weights_of_tasks() -> None:
    assert combined((0.2, 0.6), (3.0, 1.0), "mean") == pytest.approx(0.3)
    assert combined((0.2, 0.6), (3.0, 1.0), "min") == pytest.approx(0.2)
    assert combined((0.2, 0.6), (3.0, 1.0), "mean-spread") == pytest.approx(0.3 - 0.2)


def test_a_judgement_has_the_taus_of_every_task_on_its_split() -> None:
    tasks = [Task(0, "size_kd"), Task(0, "rare", weight=3.0)]
    scores = np.random.default_rng(0).normal(size=len(BENCHMARK))
    for split in SPLITS:
        outcome = judged(scores, tasks, split=split)
        assert isinstance(outcome, Judgement)
        at = BENCHMARK.splits()[split]
        taus = []
        for name in ("size_kd", "rare"):
            there = at[~np.isnan(BENCHMARK.tasks[name][at])]
            taus.append(scipy.stats.kendalltau(scores[there], BENCHMARK.tasks[name][there]).statistic)
        assert outcome.taus == pytest.approx(taus)
        assert outcome.joint == pytest.approx((taus[0] + 3 * taus[1]) / 4)


def test_several_benchmarks_and_formulas_are_judged_together(tmp_path: Path) -> None:
    other = synthetic.benchmark(30, "other", seed=1)
    judge = synthetic.judge(tmp_path, BENCHMARK, other)
    params, depth = judge.judge([parse("params"), parse("flops")])
    for outcome, name in ((params, "params"), (depth, "flops")):
        assert isinstance(outcome, Judgement)
        for tau, (benchmark, task) in zip(
            outcome.taus, [(b, t) for b in (BENCHMARK, other) for t in ("size_kd", "shape_kd")], strict=True
        ):
            at = benchmark.splits()["evolve"]
            expected = scipy.stats.kendalltau(benchmark.structure()[name][at], benchmark.tasks[task][at]).statistic
            assert tau == pytest.approx(expected)


def test_ties_on_one_benchmark_are_named(tmp_path: Path) -> None:
    other = synthetic.benchmark(30, "other", seed=1)
    scores = [Given(BENCHMARK, {"params": np.arange(40.0)}), Given(other, {"params": np.arange(30.0) // 8})]
    outcome = Judge(scores, [Task(0, "size_kd"), Task(1, "size_kd")]).judge([parse("params")])[0]  # type: ignore[arg-type]
    assert isinstance(outcome, Invalid)
    assert outcome.reason.endswith("of pairs tied on other")


# --- choosing tasks ---


def chosen(*patterns: str, benchmarks: Sequence[Benchmark] = (BENCHMARK,)) -> list[tuple[int, str]]:
    return [(task.benchmark, task.name) for task in choose_tasks(benchmarks, patterns)]


def test_tasks_are_chosen_by_name_or_pattern() -> None:
    assert chosen() == [(0, "size_kd"), (0, "shape_kd"), (0, "rare")]
    assert chosen("*_kd") == [(0, "size_kd"), (0, "shape_kd")]
    assert chosen("rare", "s?ze_kd") == [(0, "size_kd"), (0, "rare")]  # in the benchmark's order, each once
    assert chosen("rare", "r*") == [(0, "rare")]
    two = (BENCHMARK, replace(BENCHMARK, name="two"))
    assert chosen("rare", benchmarks=two) == [(0, "rare"), (1, "rare")]


def test_a_pattern_that_names_nothing_is_refused() -> None:
    with pytest.raises(BenchmarkError, match=r"^no task is called 'siez_kd'; there are size_kd, shape_kd, rare$"):
        chosen("rare", "siez_kd")
    with pytest.raises(BenchmarkError, match="no task is called 'SIZE_KD'"):
        chosen("SIZE_KD")


def test_a_benchmark_without_any_of_the_tasks_is_refused() -> None:
    other = replace(BENCHMARK, name="other", tasks={"else": BENCHMARK.tasks["rare"]})
    with pytest.raises(BenchmarkError, match=r"^benchmark other has none of the tasks; leave it out.*: else$"):
        chosen("*_kd", benchmarks=(BENCHMARK, other))


@pytest.mark.parametrize("split", SPLITS)
def test_a_task_with_too_few_accuracies_in_a_split_is_refused(split: str) -> None:
    rare = np.array(BENCHMARK.tasks["rare"])
    rare[BENCHMARK.splits()[split][2:]] = np.nan
    sparse = replace(BENCHMARK, tasks={**BENCHMARK.tasks, "rare": rare})
    with pytest.raises(BenchmarkError, match=rf"'rare' of small has fewer than 3 .* in its {split} split; leave it"):
        chosen(benchmarks=(sparse,))
    assert chosen("*_kd", benchmarks=(sparse,)) == [(0, "size_kd"), (0, "shape_kd")]


# --- weights ---


def weights(*patterns: str) -> dict[str, float]:
    return {task.name: task.weight for task in choose_tasks((BENCHMARK,), patterns)}


def test_a_pattern_can_end_in_a_weight() -> None:
    assert weights() == {"size_kd": 1, "shape_kd": 1, "rare": 1}
    assert weights("size_kd=2", "rare") == {"size_kd": 2, "rare": 1}
    assert weights("*_kd=.5") == {"size_kd": 0.5, "shape_kd": 0.5}
    for patterns in (("*", "rare=3"), ("rare=3", "*")):
        assert weights(*patterns) == {"size_kd": 1, "shape_kd": 1, "rare": 3}
    assert weights("*=2", "rare=3") == {"size_kd": 2, "shape_kd": 2, "rare": 3}


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf", "", "two"])
def test_a_weight_that_is_not_positive_is_refused(weight: str) -> None:
    with pytest.raises(BenchmarkError, match=rf"^the weight '{weight}' of task 'rare' is not a positive number$"):
        weights(f"rare={weight}")


def test_a_second_equals_sign_is_refused() -> None:
    with pytest.raises(BenchmarkError, match=r"^'rare=1=2' has more than one '='; a task's name has none"):
        weights("rare=1=2")
