"""`autoprox rank`: every proxy of the literature, and your own, beside each other on a benchmark."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from autoprox.bench_cache.benchmarks.library import load_benchmark
from autoprox.bench_cache.benchmarks.table import STRUCTURE
from autoprox.evolve import MEAN
from autoprox.pictures import DrawingError
from autoprox.rank.caption import caption
from autoprox.rank.output import CSV, JSON, TEX, save_table
from autoprox.rank.plan import OFFERS, RankPlan, make_plan
from autoprox.rank.plots import correlation_figure, save_figure, tau_figure
from autoprox.rank.scores import SCORES, Failure, Scores, begin, collect
from autoprox.rank.stats import TOPS, Estimate, Row, correlations, rank_rows

#: The width of what is printed where there is no terminal.
WIDTH = 120


@click.command("rank")
@click.option("--bench", required=True, metavar="NAME|FILE", help="Benchmark to rank on.")
@click.option("--tasks", default="", metavar="A,B,...", help="Tasks, `*` allowed, such as '*_kd'.  [default: all]")
@click.option(
    "--proxies",
    multiple=True,
    metavar="all|PROXY,...",
    help="all: the training-free zoo, or a table's columns. Repeatable.  [default: all]",
)
@click.option("--split", type=click.Choice(OFFERS), default="all", show_default=True, help="Architectures to rank.")
@click.option("--sample", type=int, metavar="N", help="Rank N of them, drawn at random.  [default: all]")
@click.option("--seed", type=int, default=0, show_default=True, help="Of weights, batch, sample and intervals.")
@click.option("--batch", type=int, default=2, show_default=True, help="Samples that the networks run on.")
@click.option(
    "--workers", type=click.IntRange(1), default=os.cpu_count() or 1, show_default="one a core", help="Processes."
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Run directory.  [default: ranks/NUMBER]")
def rank(bench: str, tasks: str, proxies: Sequence[str], split: str, sample: int | None, seed: int, batch: int,
         workers: int, out: Path | None) -> None:  # fmt: skip
    """Rank architectures by proxies, and proxies by how well they do it.

    A PROXY is a name of the zoo, a run directory, a proxy file, or a formula; few-step proxies, which train, are
    ranked only by name. Params, FLOPs, depth and width are always there. The same command with the same --out goes on
    with a run that was stopped.
    """
    console = plain_console()
    plan = make_plan(
        load_benchmark(bench),
        tasks=split_outside_brackets(tasks),
        proxies=[ref for text in proxies for ref in split_outside_brackets(text)] or ["all"],
        split=split,
        sample=sample,
        batch=batch,
        seed=seed,
    )
    out = out or next_directory(Path("ranks"))
    done = begin(plan, out)
    console.print(_heading(plan, out, done), soft_wrap=True)
    scores = collected(console, plan, out, workers)
    rows, between = rank_rows(scores.table, seed), correlations(scores.table)
    for table in tables(rows, scores.seconds):
        console.print(table)
    for failures in failure_tables(scores.failures):
        console.print(failures)
    console.print(caption(plan), soft_wrap=True)
    save_table(out, plan, scores, rows, between)
    saved = [CSV, JSON, TEX, SCORES]
    try:
        name = plan.benchmark.name
        saved += save_figure(tau_figure(rows, f"{name}: {len(plan.architectures)} architectures"), out / "taus")
        figure = correlation_figure(
            between.proxies, between.spearman, f"{name}: proxies among themselves", "Spearman ρ between scores"
        )
        saved += save_figure(figure, out / "correlations")
    except DrawingError as error:
        console.print(f"No pictures: {error}", soft_wrap=True)
    console.print(f"Saved in {out}: {', '.join(saved)}", soft_wrap=True)


def plain_console() -> Console:
    """Return a console for names and paths as they are; 120 columns where there is no terminal."""
    width = None if Console().is_terminal else WIDTH
    return Console(width=width, markup=False, highlight=False, emoji=False)


def split_outside_brackets(text: str) -> list[str]:
    """The parts between commas, but not between those inside brackets, which are a formula's."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([") - (character in ")]")
        if character == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def next_directory(under: Path) -> Path:
    """The directory with the next free number."""
    numbers = [int(path.name) for path in under.glob("*") if path.name.isdigit()]
    return under / f"{max(numbers, default=0) + 1:03d}"


def collected(console: Console, plan: RankPlan, out: Path, workers: int) -> Scores:
    """The scores, with a progress bar on a terminal; stopped by Ctrl-C, it says how to go on."""
    columns = (TextColumn("scoring networks"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bars:
        bar = bars.add_task("", total=None)
        try:
            return collect(
                plan,
                out,
                workers=workers,
                on_progress=lambda done, of: bars.update(bar, completed=done, total=of),
                on_notice=lambda line: console.print(line, soft_wrap=True),
            )
        except KeyboardInterrupt:
            bars.stop()
            console.print(
                f"Nothing that was scored is lost: the same command with --out {out} goes on.", soft_wrap=True
            )
            raise


def _heading(plan: RankPlan, out: Path, done: int) -> str:
    going_on = f", of which {done} are scored already" if done else ""
    return (
        f"autoprox rank → {out}\n"
        f"{plan.benchmark.name}, split {plan.split}: {len(plan.architectures)} architectures{going_on}\n"
        f"tasks {', '.join(plan.tasks)}\n"
        f"{len(plan.proxies)} proxies, batch {plan.batch}, seed {plan.seed}"
    )


# --- tables ---


def plain_table(title: str) -> Table:
    """A table without lines but one below the heads."""
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=0,  # the box has a space between columns
        pad_edge=False,
    )


def tables(rows: Sequence[Row], seconds: Mapping[str, float]) -> list[Table]:
    """A table for each task and, where there are several, one of their means."""
    tasks = list(dict.fromkeys(row.task for row in rows))
    if len(tasks) == 2:
        tasks.remove(MEAN)
    return [_table([row for row in rows if row.task == task], seconds, mean=task == MEAN) for task in tasks]


def _table(rows: Sequence[Row], seconds: Mapping[str, float], *, mean: bool) -> Table:
    title = "mean over the tasks" if mean else f"task {rows[0].task}"
    table = plain_table(title)
    table.add_column("proxy", overflow="fold", max_width=24)  # what gives way in a narrow terminal
    for name in ("mean\nrank" if mean else "rank", "n", "τ", "ρ", "r", "τ|par-\nams", "τ in\nbins"):
        table.add_column(name, justify="right", no_wrap=True)
    for top in TOPS:
        table.add_column(f"lost\n@{top}", justify="right", no_wrap=True)
    table.add_column("s", justify="right", no_wrap=True)
    for row in rows:
        estimates = (_estimate(estimate) for estimate in (row.tau, row.spearman, row.pearson))
        numbers = (number(row.partial), number(row.binned), *(_amount(value) for value in row.regret))
        spent = seconds[row.proxy]
        table.add_row(
            Text(row.proxy, style="yellow" if row.proxy in STRUCTURE else ""),
            f"{round(row.rank, 1):g}",
            str(row.n),
            *estimates,
            *numbers,
            _amount(spent) if spent else "0",
        )
    return table


def _estimate(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return "–"
    low, high = (number(value, 2) for value in (estimate.low, estimate.high))
    return f"{number(estimate.value)} {f'[{low},{high}]':>9}"


def number(value: float, digits: int = 3) -> str:
    """A correlation without its leading zero, as in .548; a dash where it is not defined."""
    if math.isnan(value):
        return "–"
    return f"{value:.{digits}f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.{digits}f}"


def _amount(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}" if value < 9.995 else f"{value:.1f}"


def failure_tables(failures: Sequence[Failure]) -> list[Table]:
    """Why proxies have no score; none where all have."""
    if not failures:
        return []
    title = "networks without a score, which n does not count"
    table = plain_table(title)
    table.add_column("proxy", overflow="fold", max_width=24)
    table.add_column("networks", justify="right", no_wrap=True)
    table.add_column("reason", overflow="fold")
    for failure in failures:
        table.add_row(failure.proxy, str(failure.count), failure.reason)
    return [table]
