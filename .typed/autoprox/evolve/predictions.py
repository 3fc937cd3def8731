"""Predictions: what a formula and the structural baselines say of each architecture, beside its accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from autoprox.evolve.fitness import Judge
from autoprox.evolve.report import FORMULA, structural_baselines
from autoprox.primitives.formula import Formula


def predictions(judge: Judge, formula: Formula, splits: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield a row for each task and each architecture of the splits that has an accuracy there.

    `architecture` is its number in the benchmark. Beside the accuracy stand the score of the formula and what each
    structural baseline says; a baseline's values are those that the report's taus are of.
    """
    baselines = structural_baselines(judge)
    for split in splits:
        scores = judge.scores([formula], split)
        for number, (place, task) in enumerate(zip(judge.places, judge.tasks, strict=True)):
            at, accuracies = judge.architectures(place, split), judge.accuracies(task, split)
            for row, (architecture, accuracy) in enumerate(zip(at, accuracies, strict=True)):
                if not np.isnan(accuracy):
                    yield {
                        "benchmark": judge.benchmark(task).name,
                        "split": split,
                        "task": task.name,
                        "architecture": int(architecture),
                        "accuracy": float(accuracy),
                        FORMULA: float(scores[place][0][row]),
                        **{name: float(values[number][architecture]) for name, values in baselines.items()},
                    }
