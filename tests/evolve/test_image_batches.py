"""Fitness over several batches of the tasks' images: the mean minus the standard deviation, on evolve."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import synthetic

from autoprox.bench_cache.statistics.scorer import network_scorer
from autoprox.evolve import EvolutionSettings, Invalid, Judge, Judgement, SettingsError, Task
from autoprox.evolve.assembly import assembled_judge
from autoprox.primitives import parse

BENCHMARK = synthetic.mini(20)
TASKS = tuple(BENCHMARK.inputs)
FORMULAS = [
    parse(text) for text in ("sum(mean(abs(act_grad[data])))", "params", "sum(mean(act[data]))", "sub(params, params)")
]
SETTINGS = EvolutionSettings(
    ((BENCHMARK.name, ""),), tuple(f"{BENCHMARK.name}:{task}" for task in TASKS), batch=1, image_batches=3
)


@pytest.fixture(autouse=True)
def statistics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUTOPROX_HOME", str(tmp_path))
    return tmp_path / "statistics"


def of_batch(root: Path, turn: int, split: str) -> list[Judgement | Invalid]:
    """Judge the formulas plainly, with a benchmark that has the images of that batch alone."""
    images = slice(turn, turn + 1)
    inputs = {
        task: replace(found, images=found.images[images], targets=found.targets[images])
        for task, found in BENCHMARK.inputs.items()
    }
    benchmark = replace(BENCHMARK, inputs=inputs)
    scorers = [network_scorer(benchmark, root, network=network, batch=1) for network in benchmark.networks()]
    return Judge(scorers, [Task(0, task) for task in TASKS]).judge(FORMULAS, split)


def test_fitness_on_evolve_is_the_mean_over_the_batches_minus_their_standard_deviation(statistics: Path) -> None:
    found = assembled_judge(SETTINGS, [BENCHMARK], None).judge(FORMULAS)
    each = [of_batch(statistics, turn, "evolve") for turn in range(3)]
    assert isinstance(found[3], Invalid)
    spreads = []
    for outcome, *of_batches in list(zip(found, *each, strict=True))[:3]:
        assert isinstance(outcome, Judgement)
        joints = [one.joint for one in of_batches if isinstance(one, Judgement)]
        assert outcome.joint == pytest.approx(np.mean(joints) - np.std(joints), abs=1e-12)
        assert outcome == replace(of_batches[0], joint=outcome.joint)
        spreads.append(np.std(joints))
    assert spreads[0] > 0  # the batches differ where images are read
    assert spreads[1] == 0


def test_validation_is_of_the_first_batch_alone(statistics: Path) -> None:
    found = assembled_judge(SETTINGS, [BENCHMARK], None).judge(FORMULAS, "validation")
    assert found == of_batch(statistics, 0, "validation")


def test_one_batch_is_the_judge_as_it_was() -> None:
    assert type(assembled_judge(replace(SETTINGS, image_batches=1), [BENCHMARK], None)) is Judge


def test_a_formula_without_fitness_with_one_batch_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = assembled_judge(SETTINGS, [BENCHMARK], None)
    monkeypatch.setattr(judge.others[1], "judge", lambda formulas, split: [Invalid("of batch 2")] * len(formulas))  # type: ignore[attr-defined]
    assert judge.judge(FORMULAS[:1]) == [Invalid("of batch 2")]


def test_too_few_images_for_the_batches_are_named() -> None:
    with pytest.raises(SettingsError, match="images"):
        assembled_judge(replace(SETTINGS, image_batches=100), [BENCHMARK], None)
