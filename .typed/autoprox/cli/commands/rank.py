"""Rank the proxies of the literature on a benchmark."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import click

from autoprox.api.arguments import next_directory, split_outside_brackets
from autoprox.bench_cache.benchmarks.library import load_benchmarks
from autoprox.cli.options import (
    Count,
    operations_option,
    spaces_option,
    tasks_option,
    workers_option,
)
from autoprox.display.ranking import collected, failure_tables, result_tables
from autoprox.display.terminal import make_console, say
from autoprox.pictures import DrawingError, save_figure
from autoprox.rank.caption import caption
from autoprox.rank.output import CSV, JSON, POINTS, TEX, save_table
from autoprox.rank.plan import OFFERS, RankPlan, make_plan
from autoprox.rank.plots import correlation_figure, tau_figure
from autoprox.rank.scores import SCORES, begin
from autoprox.rank.stats import correlations, rank_rows
from autoprox.rank.verdict import verdict
from autoprox.vocabulary import vocabulary


@click.command("rank")
@click.option("--bench", required=True, metavar="NAME|FILE", help="Benchmark to rank on.")
@tasks_option
@click.option(
    "--proxies",
    multiple=True,
    metavar="all|PROXY,...",
    help="all: the training-free zoo, or a table's columns. Repeatable.  [default: all]",
)
@click.option("--split", type=click.Choice(OFFERS), default="all", show_default=True, help="Architectures to rank.")
@click.option("--sample", type=int, metavar="N", help="Rank N of them, drawn at random.  [default: all]")
@click.option("--max-params", type=Count(), help="Rank networks of at most so many, such as 90e6 or 90M.")
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Of the weights, the batch, the sample and the intervals."
)
@click.option("--batch", type=int, default=2, show_default=True, help="Samples that the networks run on.")
@operations_option
@spaces_option
@workers_option
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Run directory.  [default: ranks/NUMBER]")
def command(bench: str, spaces: Sequence[str], operations: Sequence[str],
         tasks: str, proxies: Sequence[str], split: str, sample: int | None, max_params: float | None,
         seed: int, batch: int, workers: int, out: Path | None) -> None:  # fmt: skip
    """Rank architectures by proxies, and proxies by how well they do it.

    A PROXY is a name of the zoo, a run directory, a proxy file, or a formula; few-step proxies, which train, are
    ranked only by name. On a table a PROXY is a column, or a formula of columns. Params, FLOPs, activations, depth,
    width and fitted structure are always there. The same command with the same --out goes on with a run that was
    stopped.
    """
    console = make_console()
    plan = make_plan(
        load_benchmarks([bench], spaces)[0],
        tasks=split_outside_brackets(tasks),
        proxies=[ref for text in proxies for ref in split_outside_brackets(text)] or ["all"],
        split=split,
        sample=sample,
        max_params=max_params,
        batch=batch,
        seed=seed,
        operations=vocabulary(operations),
    )
    out = out or next_directory(Path("ranks"))
    done = begin(plan, out)
    say(console, _heading(plan, out, done))
    scores = collected(console, plan, out, workers)
    rows, between = rank_rows(scores.table, seed), correlations(scores.table)
    for table in [*result_tables(rows, scores.seconds), *failure_tables(scores.failures)]:
        console.print(table)
    words = [line for line in (caption(plan), verdict(scores.table, rows, seed)) if line]
    for line in words:
        say(console, line)
    save_table(out, plan, scores, rows, between, words)
    saved = [CSV, JSON, TEX, POINTS, SCORES]
    try:
        name = plan.benchmark.name
        saved += save_figure(tau_figure(rows, f"{name}: {len(plan.architectures)} architectures"), out / "taus")
        figure = correlation_figure(
            between.proxies, between.spearman, f"{name}: proxies among themselves", "Spearman ρ between scores"
        )
        saved += save_figure(figure, out / "correlations")
    except DrawingError as error:
        say(console, f"No pictures: {error}")
    say(console, f"Saved in {out}: {', '.join(saved)}")
    say(console, f"As a page with pictures: autoprox report {shlex.quote(str(out))}")


def _heading(plan: RankPlan, out: Path, done: int) -> str:
    going_on = f", of which {done} are scored already" if done else ""
    return (
        f"autoprox rank → {out}\n"
        f"{plan.benchmark.name}, split {plan.split}: {len(plan.architectures)} architectures{going_on}\n"
        f"tasks {', '.join(plan.tasks)}\n"
        f"{len(plan.proxies)} proxies, batch {plan.batch}, seed {plan.seed}"
    )
