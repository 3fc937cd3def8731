"""What is said of a benchmark that was made or read just now."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.evolve.fitness import FEWEST


def too_few(benchmark: Benchmark) -> Iterator[str]:
    """Yield a line for each task and split that has too few different accuracies to evolve on."""
    for task, accuracy in benchmark.tasks.items():
        for split, rows in benchmark.splits().items():
            distinct = len(np.unique(accuracy[rows][~np.isnan(accuracy[rows])]))
            if distinct < FEWEST:
                yield (
                    f"{task}: too few to evolve on: {distinct} different accuracies in the {split} split, and {FEWEST} "
                    f"are needed in each split; there are {len(accuracy)} architectures"
                )
