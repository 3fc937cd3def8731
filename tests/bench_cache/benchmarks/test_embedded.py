"""The embedded benchmark: what ships is whole, licensed and worth ranking, and what `autoprox evolve` runs on."""

from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from scipy.stats import kendalltau

from autoprox.bench_cache.benchmarks.describe import Description, describe
from autoprox.bench_cache.benchmarks.library import DEFAULT_BENCHMARK, EMBEDDED_DIR, load_benchmark
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.spaces.registry import get_space
from autoprox.bench_cache.training.built_in import drawn_digits
from autoprox.evolution import run_evolution, start_evolution
from autoprox.evolve import EvolutionSettings
from autoprox.evolve.assembly import probe_of

TASKS = ("digits", "fashion", "pines")


@pytest.fixture(scope="module")
def table() -> Benchmark:
    return load_benchmark(DEFAULT_BENCHMARK)


@pytest.fixture(scope="module")
def description(table: Benchmark) -> Description:
    return describe(table)


def test_it_has_every_accuracy(table: Benchmark) -> None:
    assert (table.name, table.space, tuple(table.tasks)) == ("mini-vit", "mini-vit", TASKS)
    assert len(table) >= 200
    for task in TASKS:
        runs = table.seeds[task]
        assert runs.shape[1] >= 2
        np.testing.assert_allclose(table.tasks[task], runs.mean(1), rtol=1e-12)
        assert len(np.unique(runs)) > len(table)


def test_architectures_are_those_that_the_card_says(table: Benchmark) -> None:
    space, rng = get_space("mini-vit"), Random(table.card["sample_seed"])
    drawn = dict.fromkeys(space.sample(rng) for _ in range(2 * len(table)))
    assert tuple(drawn)[: len(table)] == table.architectures


def test_labels_are_worth_ranking(description: Description) -> None:
    for facts in description.tasks:
        assert facts.reliability is not None
        assert facts.reliability.halves >= 0.7
        assert facts.reliability.noise < facts.reliability.spread
        assert facts.warning is None


def test_half_of_the_seeds_agree_with_the_other_half(table: Benchmark) -> None:
    for runs in table.seeds.values():
        half = runs.shape[1] // 2
        assert kendalltau(runs[:, :half].mean(1), runs[:, half:].mean(1)).statistic >= 0.65


def test_images_come_with_every_task_and_digits_are_our_own(table: Benchmark) -> None:
    assert probe_of(EvolutionSettings((), ()), [table]) == "data"
    notices = (EMBEDDED_DIR / "DATA.md").read_text(encoding="utf-8")
    for task in TASKS:
        assert len(table.inputs[task].images) == 16
        assert f"| {task} |" in notices
    shown, (drawn, classes) = table.inputs["digits"], drawn_digits(16)
    assert shown.targets.tolist() == classes.tolist()
    assert np.corrcoef(shown.images.ravel(), drawn.ravel())[0, 1] > 0.9999


def test_the_card_says_how_it_was_made(table: Benchmark) -> None:
    assert {"command", "recipe", "datasets", "versions", "core_hours", "limits", "seeds"} <= set(table.card)
    assert table.card["command"].startswith("autoprox bench train --space mini-vit ")
    assert set(table.card["datasets"]) == set(TASKS)


@pytest.mark.slow
def test_evolution_on_it_reads_the_images_and_reports_every_task(
    table: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOPROX_HOME", str(tmp_path / "home"))
    at = np.concatenate([indices[:12] for indices in table.splits().values()])  # a part of it, to be quick
    part = replace(
        table,
        architectures=tuple(table.architectures[i] for i in at),
        tasks={task: labels[at] for task, labels in table.tasks.items()},
        seeds={task: runs[at] for task, runs in table.seeds.items()},
    )
    start_evolution([part], [], tmp_path / "run", generations=1, population=6)
    result = run_evolution(tmp_path / "run", workers=2)
    assert result.finished
    rows = [row for row in result.report.rows if (row.split, row.predictor) == ("test", "params")]
    assert [row.task for row in rows] == [*TASKS, "mean"]
    test = part.splits()["test"]
    assert [row.architectures for row in rows] == [len(test)] * 4
    for row in rows[:3]:
        sizes = part.structure(part.inputs[row.task].spec)["params"][test]
        assert row.tau == pytest.approx(kendalltau(sizes, part.tasks[row.task][test]).statistic)
