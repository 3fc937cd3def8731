"""The embedded benchmark micro-vit: what ships is whole, licensed and worth ranking, and size says nothing of it."""

from random import Random

import numpy as np
import pytest
from scipy.stats import kendalltau

from autoprox.bench_cache.benchmarks.describe import Description, describe
from autoprox.bench_cache.benchmarks.library import EMBEDDED_DIR, load_benchmark
from autoprox.bench_cache.benchmarks.reliability import reliability
from autoprox.bench_cache.benchmarks.table import STRUCTURE, Benchmark
from autoprox.bench_cache.spaces.registry import get_space
from autoprox.bench_cache.training.built_in import drawn_digits
from autoprox.evolve import EvolutionSettings
from autoprox.evolve.assembly import probe_of

TASKS = ("digits", "fashion", "pines", "photos")


@pytest.fixture(scope="module")
def table() -> Benchmark:
    return load_benchmark("micro-vit")


@pytest.fixture(scope="module")
def description(table: Benchmark) -> Description:
    return describe(table)


def test_it_has_every_accuracy(table: Benchmark) -> None:
    assert (table.name, table.space, tuple(table.tasks)) == ("micro-vit", "micro-vit", TASKS)
    assert len(table) == 300
    for task in TASKS:
        runs = table.seeds[task]
        assert runs.shape[1] == (12 if task == "pines" else 4)
        np.testing.assert_allclose(table.tasks[task], runs.mean(1), rtol=1e-12)


def test_its_file_is_as_it_is_written(table: Benchmark) -> None:
    assert (EMBEDDED_DIR / "micro-vit.json").read_bytes() == table.to_bytes()


def test_architectures_are_those_that_the_card_says(table: Benchmark) -> None:
    space, rng = get_space("micro-vit"), Random(table.card["sample_seed"])
    drawn = dict.fromkeys(space.sample(rng) for _ in range(2 * len(table)))
    assert tuple(drawn)[: len(table)] == table.architectures


def test_every_split_is_large_enough_to_judge(table: Benchmark) -> None:
    assert {split: len(rows) for split, rows in table.splits().items()} == {"evolve": 148, "validation": 57, "test": 95}


def test_sizes_say_nothing(table: Benchmark) -> None:
    for network in table.networks():
        sizes = table.structure(network.spec)
        assert set(sizes) == set(STRUCTURE)
        for values in sizes.values():
            assert len(np.unique(values)) == 1


def test_labels_are_worth_ranking(table: Benchmark, description: Description) -> None:
    for facts in description.tasks:
        assert facts.reliability is not None
        assert facts.reliability.halves >= 0.8
        assert facts.reliability.noise < facts.reliability.spread
        assert facts.warning is None
        learnt = table.tasks[facts.task] >= 1.5 * 100 / table.inputs[facts.task].spec.num_classes
        assert reliability(table.seeds[facts.task][learnt]).halves >= 0.8


def test_half_of_the_seeds_agree_with_the_other_half(table: Benchmark) -> None:
    for runs in table.seeds.values():
        half = runs.shape[1] // 2
        assert kendalltau(runs[:, :half].mean(1), runs[:, half:].mean(1)).statistic >= 0.8


def test_images_come_with_every_task_and_some_are_our_own(table: Benchmark) -> None:
    assert probe_of(EvolutionSettings((), ()), [table]) == "data"
    notices = (EMBEDDED_DIR / "DATA.md").read_text(encoding="utf-8")
    for task in TASKS:
        assert len(table.inputs[task].images) == 16
        assert f"| {task} |" in notices
    shown, (drawn, _classes) = table.inputs["digits"], drawn_digits(16)
    assert np.corrcoef(shown.images.ravel(), drawn.ravel())[0, 1] > 0.9999
    assert table.inputs["photos"].source.endswith("not passed on; the images here are coloured clouds of our own")


def test_the_card_says_how_it_was_made(table: Benchmark) -> None:
    assert {"command", "more_command", "recipe", "datasets", "versions", "core_hours", "limits"} <= set(table.card)
    assert table.card["command"].startswith("autoprox bench train --space micro-vit ")
    assert set(table.card["datasets"]) == set(TASKS)
