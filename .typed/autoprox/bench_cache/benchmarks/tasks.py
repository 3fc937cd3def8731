"""Tasks: the choice of a benchmark's tasks by names and patterns."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.runtime.checks import BenchmarkError


def matching_tasks(benchmarks: Sequence[Benchmark], patterns: Sequence[str]) -> list[tuple[int, str]]:
    """Return (number of the benchmark, task) for each task that a pattern matches; without patterns, for all tasks.

    Patterns have `*` and `?` as in file names. The order is that of the benchmarks, and of the tasks in each.

    Raises:
        BenchmarkError: a pattern matches no task.
    """
    names = list(dict.fromkeys(name for benchmark in benchmarks for name in benchmark.tasks))
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise BenchmarkError(f"no task is called '{pattern:.40}'; there are {', '.join(names)}")
    return [
        (place, name)
        for place, benchmark in enumerate(benchmarks)
        for name in benchmark.tasks
        if not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)
    ]


def task_names(benchmark: Benchmark, patterns: Sequence[str]) -> tuple[str, ...]:
    """Return the tasks of one benchmark that a pattern matches, in the benchmark's order; see `matching_tasks`."""
    return tuple(name for _, name in matching_tasks([benchmark], patterns))
