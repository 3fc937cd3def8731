"""Images for a benchmark: the user's own images become what the probe `data` reads on its tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.benchmarks.task_input import TaskInput
from autoprox.bench_cache.benchmarks.tasks import task_names
from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.bench_cache.spaces.registry import ArchitectureError, InputSpec
from autoprox.bench_cache.training.images import ImageBatch, read_images


def with_images(
    benchmark: Benchmark, patterns: Sequence[str], ref: str | Path, *, count: int, classes: int | None = None
) -> Benchmark:
    """Return the benchmark with the first `count` images of a folder or .npz file on the tasks that a pattern matches.

    `read_images` says how images are chosen and prepared, and in which order. The networks of these tasks are built for
    `classes` classes; without it, for as many as before. Where the images have no classes, these are drawn at random,
    always the same. Images that the tasks had before are replaced. A benchmark of one task needs no pattern.

    Raises:
        BenchmarkError: the benchmark is tabular, no task or too many are meant, the images cannot be read, or the
            networks cannot read the images.
    """
    if benchmark.space is None:
        raise BenchmarkError(
            f"benchmark {benchmark.name} is tabular: its networks cannot be built, so none can read images"
        )
    if not patterns and len(benchmark.tasks) > 1:
        raise BenchmarkError(
            f"benchmark {benchmark.name} has several tasks; name those that the images are of with --task, such as "
            f"--task {next(iter(benchmark.tasks))}; there are {', '.join(benchmark.tasks)}"
        )
    tasks = task_names(benchmark, patterns)
    specs = {_spec(benchmark, task, classes): task for task in reversed(tasks)}
    if len(specs) > 1:
        raise BenchmarkError(
            f"the tasks {', '.join(reversed(specs.values()))} of {benchmark.name} read images of different shapes or "
            "have different classes; name one at a time"
        )
    spec = next(iter(specs))
    found = _input(benchmark, spec, ref, count)
    kept = {task: benchmark.inputs[task] for task in benchmark.inputs if task not in tasks}
    inputs = {task: kept.get(task, found) for task in benchmark.tasks if task in kept or task in tasks}
    return replace(benchmark, inputs=inputs)


def _spec(benchmark: Benchmark, task: str, classes: int | None) -> InputSpec:
    """Return what the networks of a task read and predict."""
    network = next(network for network in benchmark.networks() if task in network.tasks)
    assert network.spec is not None  # only a tabular benchmark has none
    try:
        return network.spec if classes is None else replace(network.spec, num_classes=classes)
    except ArchitectureError as error:
        raise BenchmarkError(f"classes: {error}") from error


def _input(benchmark: Benchmark, spec: InputSpec, ref: str | Path, count: int) -> TaskInput:
    batch = read_images(ref, size=spec.image_size, count=count)
    where = Path(ref).expanduser()
    _check_fit(f"{where}: ", batch, spec, benchmark)
    source = f"{where.resolve().name}: {batch.prepared}; "
    if batch.targets is None:
        targets = np.random.default_rng(0).integers(spec.num_classes, size=len(batch.images))
        return TaskInput(spec, batch.images, targets, f"{source}classes drawn at random", random_targets=True)
    return TaskInput(spec, batch.images, batch.targets, f"{source}with their classes")


def _check_fit(where: str, batch: ImageBatch, spec: InputSpec, benchmark: Benchmark) -> None:
    wanted, found = (spec.in_channels, spec.image_size, spec.image_size), batch.images.shape[1:]
    if found != wanted:
        raise BenchmarkError(
            f"{where}images are {_shape(found)}, and the networks of {benchmark.name} read {_shape(wanted)}; save "
            "images of this shape as float32, as the networks read them, in an .npz file"
        )
    if batch.targets is not None and batch.targets.max() >= spec.num_classes:
        needed = int(batch.targets.max()) + 1
        raise BenchmarkError(
            f"{where}an image is of class {needed - 1}, and the networks of {benchmark.name} have the classes 0 to "
            f"{spec.num_classes - 1}; give --classes with at least {needed}"
        )


def _shape(sizes: Sequence[int]) -> str:
    return " × ".join(map(str, sizes))
