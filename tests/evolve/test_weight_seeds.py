"""Fitness over several seeds of the networks' initial weights: the mean minus the standard deviation, on evolve."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import synthetic

from autoprox.bench_cache.statistics.scorer import network_scorer
from autoprox.evolve import EvolutionSettings, Invalid, Judge, Judgement, Task
from autoprox.evolve.assembly import assembled_judge
from autoprox.primitives import parse

BENCHMARK = synthetic.benchmark(20)
TASKS = ("size_kd", "shape_kd")
SETTINGS = EvolutionSettings((("small", ""),), tuple(f"small:{task}" for task in TASKS), weight_seeds=3)
FORMULAS = [
    parse(text) for text in ("sum(mean(row_norm(weight)))", "params", "sum(mean(act[noise]))", "sub(params, params)")
]


@pytest.fixture(autouse=True)
def statistics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUTOPROX_HOME", str(tmp_path))
    return tmp_path / "statistics"


def plain(root: Path, seed: int, split: str) -> list[Judgement | Invalid]:
    tasks = [Task(0, task) for task in TASKS]
    return Judge([network_scorer(BENCHMARK, root, seed=seed)], tasks).judge(FORMULAS, split)


def test_fitness_on_evolve_is_the_mean_over_the_seeds_minus_their_standard_deviation(statistics: Path) -> None:
    found = assembled_judge(SETTINGS, [BENCHMARK], None).judge(FORMULAS)
    each = [plain(statistics, seed, "evolve") for seed in range(3)]
    assert isinstance(found[3], Invalid)
    spreads = []
    for outcome, *of_seeds in list(zip(found, *each, strict=True))[:3]:
        assert isinstance(outcome, Judgement)
        joints = [one.joint for one in of_seeds if isinstance(one, Judgement)]
        assert outcome.joint == pytest.approx(np.mean(joints) - np.std(joints), abs=1e-12)
        assert outcome == replace(of_seeds[0], joint=outcome.joint)
        spreads.append(np.std(joints))
    assert min(spreads[0], spreads[2]) > 0  # the seeds differ where weights are read
    assert spreads[1] == 0


def test_validation_is_of_the_first_seed_alone(statistics: Path) -> None:
    found = assembled_judge(SETTINGS, [BENCHMARK], None).judge(FORMULAS, "validation")
    assert found == plain(statistics, 0, "validation")


def test_one_seed_is_the_judge_as_it_was() -> None:
    assert type(assembled_judge(replace(SETTINGS, weight_seeds=1), [BENCHMARK], None)) is Judge


def test_a_formula_without_fitness_with_one_seed_has_none(statistics: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = assembled_judge(SETTINGS, [BENCHMARK], None)
    monkeypatch.setattr(judge.others[1], "judge", lambda formulas, split: [Invalid("of seed 2")] * len(formulas))  # type: ignore[attr-defined]
    assert judge.judge(FORMULAS[:1]) == [Invalid("of seed 2")]
