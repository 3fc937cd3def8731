"""Convert a file to the format of autoprox."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from autoprox.api.arguments import input_spec
from autoprox.bench_cache.benchmarks.library import install
from autoprox.bench_cache.benchmarks.own_table import TableColumns, clean, read_own_table
from autoprox.bench_cache.benchmarks.readers import read_benchmark
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.spaces.registry import InputSpec, pinned
from autoprox.cli.model_options import patch_size_option
from autoprox.cli.options import given_options
from autoprox.cli.output import Output, output_options
from autoprox.display.benchmark import too_few
from autoprox.display.terminal import summary

_SPEC = InputSpec()
_OF_SPACE = ("image_size", "channels", "classes", "patch_size")
_OF_TABLE = ("space", "genes", "name_column", "leave_out", "unit", *_OF_SPACE)


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--accuracy", metavar="COL,...", multiple=True, help="A table of your own: its accuracies; TASK=COL too.")
@click.option("--space", metavar="S", help="Space that the table's architectures are of.  [default: none, tabular]")
@click.option("--genes", metavar="GENE=COL,...", multiple=True, help="Columns of genes that have other names.")
@click.option("--name-column", default="", metavar="COL", help="Column that names the architectures.")
@click.option("--leave-out", metavar="COL,...", multiple=True, help="Columns not to read.")
@click.option("--unit", type=click.Choice(["percent", "fraction"]), help="Of the accuracies.  [default: percent]")
@click.option("--image-size", type=int, default=_SPEC.image_size, show_default=True, help="Pixels; with --space.")
@click.option("--channels", type=int, default=_SPEC.in_channels, show_default=True, help="Of an image; with --space.")
@click.option("--classes", type=int, default=_SPEC.num_classes, show_default=True, help="Of a network; with --space.")
@patch_size_option("Pixels; with --space.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write here, not to your own benchmarks.")
@click.option("--name", help="Name to give it, in place of the file's own or the public benchmark's.")
@click.pass_context
@output_options
def command(
    context: click.Context, file: Path, out: Path | None, name: str | None, output: Output, **columns: Any
) -> None:
    """Convert FILE to the JSON format of autoprox.

    FILE is a public one (ViT-Bench-101 .pth, OoD-ViT-NAS .json, HyTAS .csv), our JSON, or with --accuracy a table of
    your own: CSV with a header, JSON lines, or Parquet. Without --out it becomes one of your benchmarks, which every
    --bench finds by name.

    With --space FILE.py:NAME, our JSON of a space of your own is of that space as its file is now: every architecture
    must still be in it.
    """
    unused: tuple[str, ...] = ()
    if columns["accuracy"]:
        benchmark, unused = read_own_table(file, _meant(context, **columns), name)
    else:
        wrong = sorted(given_options(context) & set(_OF_TABLE) - {"space"})
        if wrong:
            raise click.UsageError(
                f"--{wrong[0].replace('_', '-')} is for a table of your own: name its --accuracy too"
            )
        own = [columns["space"]] if columns["space"] else []
        benchmark = read_benchmark(file, name, own, changed=True)
        if own and pinned(own[0]) != benchmark.space:
            raise click.UsageError(
                f"{file} is not of --space {own[0]}; for a table of your own name its --accuracy too"
            )
    if out is None:
        out = install(benchmark)
    else:
        benchmark.save(out)
    how = [*_how_read(benchmark, unused)] if columns["accuracy"] else []
    record = {
        "benchmark": benchmark.name,
        "architectures": len(benchmark),
        "tasks": list(benchmark.tasks),
        "columns": list(benchmark.columns),
        "out": out,
        "remarks": how,
    }
    output.print((), lambda: record, [f"{summary(benchmark)}, written to {out}", *how])


def _meant(context: click.Context, *, accuracy: Sequence[str], space: str | None, genes: Sequence[str],
           name_column: str, leave_out: Sequence[str], unit: str | None, **sizes: int) -> TableColumns:  # fmt: skip
    """Return what the options say of the table's columns."""
    wrong = sorted(given_options(context) & set(_OF_SPACE)) if space is None else []
    if wrong:
        raise click.UsageError(f"--{wrong[0].replace('_', '-')} is for networks of a space: name a --space too")
    tasks: dict[str, str] = {}
    for part in _parts(accuracy):
        task, separator, column = part.partition("=")
        task, column = (task, column) if separator else (clean(part), part)
        if tasks.setdefault(task, column) != column:
            raise click.UsageError(f"two columns are the task {task}; name one TASK=COL")
    mapping: dict[str, str] = {}
    for part in _parts(genes):
        gene, separator, column = part.partition("=")
        mapping[gene] = column if separator else gene
    spec = input_spec(*(sizes[name] for name in _OF_SPACE))
    return TableColumns(tasks, mapping, space, spec, name_column, tuple(_parts(leave_out)), unit or "")


def _parts(texts: Sequence[str]) -> list[str]:
    """Return what stands between commas; a name with a comma in it stands in double quotes."""
    return [part.strip() for row in csv.reader(texts, skipinitialspace=True) for part in row if part.strip()]


def _how_read(benchmark: Benchmark, unused: Sequence[str]) -> Iterator[str]:
    """Yield how the table was read, and what it is too small for."""
    if benchmark.columns:
        yield f"columns: {', '.join(benchmark.columns)}"
    if unused:
        yield f"not kept: {', '.join(unused)}"
    for task, accuracy in benchmark.tasks.items():
        missing = int(np.isnan(accuracy).sum())
        if missing:
            yield f"{task}: {missing} of {len(accuracy)} accuracies are missing"
    yield from too_few(benchmark)
