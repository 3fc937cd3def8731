"""Explain a proxy part by part, and what carries its ranking."""

from __future__ import annotations

from collections.abc import Sequence

import click

from autoprox.api.arguments import split_outside_brackets
from autoprox.api.explaining import explain
from autoprox.bench_cache.benchmarks.library import DEFAULT_BENCHMARK
from autoprox.cli.options import operations_option, spaces_option, tasks_option, workers_option
from autoprox.cli.output import Output, output_options


@click.command("explain")
@click.argument("proxy")
@click.option(
    "--bench",
    metavar="NAME|FILE",
    help=f"Benchmark to explain it on.  [default: that which it was evolved on, or {DEFAULT_BENCHMARK}]",
)
@tasks_option
@click.option(
    "--arch",
    "architectures",
    type=int,
    multiple=True,
    metavar="NUMBER",
    help="Show values in this architecture of the benchmark, counted from 0; repeatable.  [default: the ones with the "
    "lowest and the highest accuracy]",
)
@click.option("--sample", type=int, metavar="N", help="Use N architectures, drawn at random.  [default: all]")
@click.option("--batch", type=int, default=2, show_default=True, help="Samples that the networks run on.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the weights, the batch and the sample.")
@operations_option
@spaces_option
@workers_option
@output_options
def command(
    proxy: str,
    bench: str | None,
    tasks: str,
    architectures: Sequence[int],
    sample: int | None,
    batch: int,
    seed: int,
    operations: Sequence[str],
    spaces: Sequence[str],
    workers: int,
    output: Output,
) -> None:
    """Explain PROXY: each part in words, its values in two networks, and what carries the ranking.

    PROXY is a run directory, a proxy file, a shipped name (`autoprox proxies`) or the formula itself. Each part is
    correlated with structure and with accuracy on the evolve and validation splits of a benchmark, and left out in
    turn. The test split is not looked at. A proxy of the zoo that is a function has no parts.
    """
    found = explain(
        proxy,
        bench,
        tasks=split_outside_brackets(tasks),
        architectures=architectures,
        sample=sample,
        batch=batch,
        seed=seed,
        operations=operations,
        space=spaces,
        workers=workers,
        progress=output.progress,
    )
    output.result(found)
