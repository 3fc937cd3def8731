"""Which scorer a benchmark's networks take: small ones are scored from memory, large ones one by one."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.benchmarks.task_input import Network
from autoprox.bench_cache.runtime.devices import CPU
from autoprox.bench_cache.runtime.memory import memory_limit
from autoprox.bench_cache.statistics.large import LargeScorer
from autoprox.bench_cache.statistics.networks import NetworkScorer, buildable
from autoprox.bench_cache.statistics.small import SmallScorer

#: Networks of so many parameters or fewer are scored together, stacked in shards (see shards.py).
SMALL = 200_000


def network_scorer(
    benchmark: Benchmark,
    root: Path,
    *,
    network: Network | None = None,
    batch: int = 2,
    seed: int = 0,
    kept: Iterable[int] | None = None,
    sampled: bool = False,
    executor: Executor | None = None,
    device: str = CPU,
) -> NetworkScorer:
    """Return the scorer for the size of a benchmark's networks, with statistics under `root`.

    `kept` are the architectures whose statistics stay on disk if the networks are large, all without it; those of
    small networks always do. With `sampled`, only samples of large ones do. Other arguments are those of
    `NetworkScorer`.

    Raises:
        BenchmarkError: the benchmark is tabular, or the memory limit is no size.
    """
    memory_limit()  # refused here, and not by a worker
    _, spec = buildable(benchmark)
    network = network or benchmark.networks()[0]
    how: dict[str, Any] = {"network": network, "batch": batch, "seed": seed, "executor": executor, "device": device}
    if are_small(benchmark.structure(network.spec or spec)["params"]):
        return SmallScorer(benchmark, root, **how)
    return LargeScorer(benchmark, root, kept=kept, sampled=sampled, **how)


def are_small(params: np.ndarray) -> bool:
    """Return whether networks of these sizes are scored together, stacked in shards."""
    return bool(params.max() <= SMALL)
