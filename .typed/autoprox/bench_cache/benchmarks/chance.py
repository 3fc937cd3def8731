"""Chance: the accuracy of a guess on a task, and which architectures do better because training taught them."""

from __future__ import annotations

import numpy as np

from autoprox.bench_cache.benchmarks.table import Benchmark

#: A network is trainable where its accuracy is at least so many times chance.
TIMES_CHANCE = 1.5
#: What the group of the trainable networks of a task is called.
TRAINABLE = "trainable"


def chance_level(benchmark: Benchmark, task: str) -> float | None:
    """Return the accuracy of a guess on a task in percent: 100 / classes.

    None where the classes are not known. They are where the task comes with images and their classes. The networks of
    other tasks may have more classes than the task, as where one network stands for several tasks.
    """
    found = benchmark.inputs.get(task)
    return None if found is None or found.random_targets else 100 / found.spec.num_classes


def trainable(benchmark: Benchmark, task: str) -> np.ndarray | None:
    """Return whether each architecture is trainable on a task: an accuracy of at least `TIMES_CHANCE` times chance.

    Bool, one for each architecture, False without an accuracy; None where chance is not known.
    """
    chance = chance_level(benchmark, task)
    return None if chance is None else benchmark.tasks[task] >= TIMES_CHANCE * chance


def groups_of_tasks(benchmark: Benchmark) -> dict[str, dict[str, np.ndarray]]:
    """Return by task the groups that taus are reported within; labels as in `Benchmark.groups`.

    They are the benchmark's own and, where some network of some task is at chance, `TRAINABLE`, with the networks above
    chance as its one group: a tau over all may come from telling these from those at chance. On a task whose chance is
    not known, no network is in that group.
    """
    masks = {task: trainable(benchmark, task) for task in benchmark.tasks}
    if not any(_some_at_chance(benchmark.tasks[task], mask) for task, mask in masks.items()):
        return {task: dict(benchmark.groups) for task in masks}
    nobody = np.zeros(len(benchmark), dtype=bool)
    return {
        task: {**benchmark.groups, TRAINABLE: np.where(nobody if mask is None else mask, TRAINABLE, "")}
        for task, mask in masks.items()
    }


def _some_at_chance(accuracies: np.ndarray, mask: np.ndarray | None) -> bool:
    return mask is not None and bool(np.any(~mask & ~np.isnan(accuracies)))
