"""Chance: known where images come with their classes; the trainable networks are a group of their own."""

from dataclasses import replace

import numpy as np
import pytest
import synthetic

from autoprox.bench_cache.benchmarks.chance import TRAINABLE, chance_level, groups_of_tasks, trainable
from autoprox.bench_cache.benchmarks.describe import describe
from autoprox.bench_cache.benchmarks.library import load_benchmark
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.benchmarks.task_input import TaskInput
from autoprox.bench_cache.spaces.registry import InputSpec

PLAIN = synthetic.mini(30)
SPEC = InputSpec(image_size=8, in_channels=1, num_classes=4, patch_size=2)
FAILING = (3, 7, 20)


def with_images(*, random: bool = False) -> Benchmark:
    """Return a benchmark whose first task has images of four classes, and three networks at chance."""
    task = next(iter(PLAIN.tasks))
    accuracies = np.linspace(50, 90, len(PLAIN))
    accuracies[list(FAILING)] = 25, 30, 37.4
    accuracies[1] = np.nan
    images = TaskInput(SPEC, np.zeros((4, 1, 8, 8)), np.arange(4), random_targets=random)
    return replace(PLAIN, tasks={**PLAIN.tasks, task: accuracies}, inputs={task: images}, seeds={})


BENCHMARK = with_images()
WITH, *WITHOUT = BENCHMARK.tasks


def test_chance_is_known_where_images_come_with_their_classes() -> None:
    assert chance_level(BENCHMARK, WITH) == 25
    assert [chance_level(BENCHMARK, task) for task in WITHOUT] == [None] * len(WITHOUT)
    assert chance_level(with_images(random=True), WITH) is None


def test_a_network_is_trainable_from_one_and_a_half_times_chance() -> None:
    mask = trainable(BENCHMARK, WITH)
    assert mask is not None
    assert np.flatnonzero(~mask).tolist() == sorted((1, *FAILING))  # the second has no accuracy
    assert trainable(BENCHMARK, WITHOUT[0]) is None


def test_trainable_networks_are_a_group_of_every_task() -> None:
    groups = groups_of_tasks(BENCHMARK)
    assert all(set(of_task) == {*BENCHMARK.groups, TRAINABLE} for of_task in groups.values())
    mask = trainable(BENCHMARK, WITH)
    assert mask is not None
    assert groups[WITH][TRAINABLE].tolist() == [TRAINABLE if learnt else "" for learnt in mask]
    assert set(groups[WITHOUT[0]][TRAINABLE].tolist()) == {""}


def test_where_all_do_better_there_is_no_such_group() -> None:
    table = load_benchmark("mini-vit")
    assert all(np.all(trainable(table, task)) for task in table.tasks)
    assert all(TRAINABLE not in of_task for of_task in groups_of_tasks(table).values())


def test_a_description_counts_them() -> None:
    facts = {facts.task: facts.trainable for facts in describe(BENCHMARK).tasks}
    found = facts[WITH]
    assert found is not None
    assert (found.chance, found.untrainable) == (25, len(FAILING))
    assert sum(found.splits.values()) == len(BENCHMARK) - len(FAILING) - 1
    assert np.isnan(found.halves)
    assert facts[WITHOUT[0]] is None


@pytest.mark.parametrize(("task", "count"), [("digits", 38), ("fashion", 19), ("pines", 13), ("photos", 31)])
def test_micro_vit_has_networks_that_cannot_be_trained(task: str, count: int) -> None:
    mask = trainable(load_benchmark("micro-vit"), task)
    assert mask is not None
    assert np.count_nonzero(~mask) == count
