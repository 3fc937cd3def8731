"""Give a benchmark's task images of your own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from autoprox.bench_cache.benchmarks.library import install, load_benchmarks
from autoprox.bench_cache.benchmarks.tasks import task_names
from autoprox.bench_cache.training.benchmark_images import with_images
from autoprox.bench_cache.training.run import PROBE_IMAGES
from autoprox.cli.options import spaces_option
from autoprox.cli.output import Output, output_options


@click.command("images")
@click.argument("benchmark")
@click.argument("images", metavar="FOLDER|FILE.npz")
@click.option(
    "--task",
    "tasks",
    multiple=True,
    metavar="TASK",
    help="Task that the images are of, `*` allowed; repeatable.  [default: the only one]",
)
@click.option("--count", type=int, default=PROBE_IMAGES, show_default=True, help="Images to keep, classes in turn.")
@click.option("--classes", type=int, help="Classes of the task's networks.  [default: as the benchmark says]")
@spaces_option
@click.option("--name", help="Name of the benchmark with the images.  [default: the same, which is replaced]")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write here, not to your own benchmarks.")
@output_options
def command(
    benchmark: str,
    images: str,
    tasks: Sequence[str],
    count: int,
    classes: int | None,
    spaces: Sequence[str],
    name: str | None,
    out: Path | None,
    output: Output,
) -> None:
    """Give tasks of BENCHMARK, a file or a name, images that the probe `data` reads.

    FOLDER has image files, or a folder of them for each class; they are scaled, cut to their middle and normalised by
    ImageNet's mean and deviation. FILE.npz has `images` (or `x`), floats as the networks read them or uint8, and it may
    have `targets` (or `y`). Images without classes get random ones. The images become a part of the benchmark.
    """
    found = with_images(load_benchmarks([benchmark], spaces)[0], tasks, images, count=count, classes=classes)
    chosen = task_names(found, tasks)
    given = found.inputs[chosen[0]]
    if name is not None:
        found = replace(found, name=name)
    if out is None:
        out = install(found)
    else:
        found.save(out)
    shape = " × ".join(map(str, given.images.shape[1:]))
    lines = [
        f"{found.name}: {len(given.images)} images of {shape} for {', '.join(chosen)} (SHA-256 {given.digest})",
        f"from {given.source}; written to {out}",
    ]
    output.print((), lambda: {"benchmark": found.name, "tasks": chosen, "sha256": given.digest, "out": out}, lines)
