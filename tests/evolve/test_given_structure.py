"""The joint fitness given structure: a disguised count earns nothing, and evolve is judged by a cross-fitted model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import synthetic
from test_fitness import BENCHMARK, Given

from autoprox.bench_cache.benchmarks.fitted_structure import fitted_structure, held_out_structure
from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.evolution import start_evolution
from autoprox.evolve import Judge, Judgement, Task, kendall
from autoprox.evolve.report import partial_tau
from autoprox.primitives import parse

LARGE = synthetic.benchmark(48)


def joint(scores: np.ndarray, split: str = "evolve") -> float:
    judge = Judge([Given(LARGE, {"params": scores})], [Task(0, "size_kd")], "given-structure")  # type: ignore[list-item]
    outcome = judge.judge([parse("params")], split)[0]
    assert isinstance(outcome, Judgement)
    at = LARGE.splits()[split]
    assert outcome.taus == pytest.approx((kendall(scores[at], LARGE.tasks["size_kd"][at]),))  # taus stay plain
    return outcome.joint


@pytest.mark.parametrize("split", ["evolve", "validation"])
def test_it_is_the_partial_tau_given_a_model_that_has_not_seen_the_split(split: str) -> None:
    at, y = LARGE.splits()[split], LARGE.tasks["size_kd"]
    found = held_out_structure(LARGE, "size_kd", "evolve") if split == "evolve" else None
    fit = fitted_structure(LARGE, "size_kd")
    assert fit is not None
    z = fit.predicted if found is None else found
    scores = np.random.default_rng(3).normal(size=len(LARGE)) + (y - y.mean()) / y.std()
    expected = partial_tau(kendall(scores[at], y[at]), kendall(scores[at], z[at]), kendall(z[at], y[at]))
    assert joint(scores, split) == pytest.approx(expected)


def test_structure_itself_earns_nothing_and_what_it_lacks_does() -> None:
    structure, y = held_out_structure(LARGE, "size_kd", "evolve"), LARGE.tasks["size_kd"]
    assert structure is not None
    there = np.nan_to_num(structure)
    assert joint(there) == 0.0
    left = y - np.polyval(np.polyfit(there, y, 1), there)
    assert joint(there + left) > 0.3


def test_a_task_without_structure_is_refused_before_there_is_a_run(tmp_path: Path) -> None:
    few = replace(BENCHMARK, tasks={"size_kd": BENCHMARK.tasks["size_kd"]})  # 18 accuracies on evolve
    with pytest.raises(BenchmarkError, match=r"^no fitness given structure on task 'size_kd' of small: .* --joint$"):
        start_evolution([few], (), tmp_path / "run", joint="given-structure")
    assert not (tmp_path / "run").exists()
