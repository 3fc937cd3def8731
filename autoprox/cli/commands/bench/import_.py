"""Convert a file to the format of autoprox."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from autoprox.bench_cache.benchmarks.library import install
from autoprox.bench_cache.benchmarks.readers import read_benchmark
from autoprox.cli.options import spaces_option
from autoprox.cli.terminal import make_console, say, summary


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write here, not to your own benchmarks.")
@click.option("--name", help="Name to give it, in place of the file's own or the public benchmark's.")
@spaces_option
def command(file: Path, out: Path | None, name: str | None, spaces: Sequence[str]) -> None:
    """Convert FILE to the JSON format of autoprox.

    It is our JSON, or a public file: ViT-Bench-101 .pth, OoD-ViT-NAS .json, HyTAS .csv, results-imagenet.csv of timm.

    With --space, the benchmark is of the space as its file is now: every architecture must still be in it.

    Without --out it becomes one of your benchmarks, which every --bench finds by name.
    """
    benchmark = read_benchmark(file, name, spaces, changed=True)
    if out is None:
        out = install(benchmark)
    else:
        benchmark.save(out)
    say(make_console(), f"{summary(benchmark)}, written to {out}")
