"""What is shown of a ranking: the progress of the scoring, and the tables of results."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from autoprox.bench_cache.benchmarks.table import STRUCTURE
from autoprox.bench_cache.runtime.local_pool import Workers
from autoprox.display.terminal import UNDEFINED, Counting, correlation, make_table, number, numbers, on_device, say
from autoprox.evolve import MEAN
from autoprox.evolve.report import FITTED
from autoprox.rank.plan import RankPlan
from autoprox.rank.scores import Failure, Scores, collect
from autoprox.rank.stats import TOPS, Estimate, Row


def collected(console: Console, plan: RankPlan, out: Path, workers: Workers) -> Scores:
    """Compute the scores, and show how far that is."""
    with Counting(console, "scoring networks") as count:
        return collect(plan, out, workers=workers, on_progress=count, on_notice=lambda line: say(console, line))


def heading(plan: RankPlan, out: Path, done: int) -> str:
    """Return what is ranked and where it is kept; `done` architectures are scored already."""
    going_on = f", of which {done} are scored already" if done else ""
    return (
        f"autoprox rank → {out}\n"
        f"{plan.benchmark.name}, split {plan.split}: {len(plan.architectures)} architectures{going_on}\n"
        f"tasks {', '.join(plan.tasks)}\n"
        f"{len(plan.proxies)} proxies, batch {plan.batch}, seed {plan.seed}{on_device(plan.device)}"
    )


def ranking_parts(rows: Sequence[Row], scores: Scores, words: Sequence[str]) -> Iterator[str | Text | Table]:
    """Yield the tables of results, why networks have no score, and what the numbers mean."""
    yield from result_tables(rows, scores.seconds)
    yield from failure_tables(scores.failures)
    yield from words


def resume_command(out: Path, own: str = "") -> str:
    """Return the command that goes on with the run in a folder; `own` is what `as_options` returns."""
    return f"autoprox rank --resume --out {shlex.quote(str(out))}{own}"


def next_steps(out: Path, saved: Sequence[str], problem: str) -> Iterator[str]:
    """Yield why there are no pictures, what was saved, and how to look at it."""
    if problem:
        yield f"No pictures: {problem}"
    yield f"Saved in {out}: {', '.join(saved)}"
    yield f"Next: autoprox report {shlex.quote(str(out))}"


# --- tables ---


def result_tables(rows: Sequence[Row], seconds: Mapping[str, float]) -> list[Table]:
    """Return a table for each task and, where there are several, one of their means."""
    tasks = list(dict.fromkeys(row.task for row in rows))
    if len(tasks) == 2:
        tasks.remove(MEAN)
    return [_result_table([row for row in rows if row.task == task], seconds, mean=task == MEAN) for task in tasks]


def _result_table(rows: Sequence[Row], seconds: Mapping[str, float], *, mean: bool) -> Table:
    heads = ["mean\nrank" if mean else "rank", "n", "τ", "ρ", "r", "τ|par-\nams", "τ|fit-\nted", "τ in\nbins"]
    heads += [f"τ in\n{name}" for name in rows[0].within]
    heads += [f"lost\n@{top}" for top in TOPS]
    table = make_table(
        "mean over the tasks" if mean else f"task {rows[0].task}", _proxy_column(), *numbers(*heads, "s"), gap=1
    )
    for row in rows:
        spent = seconds[row.proxy]
        table.add_row(
            Text(row.proxy, style="yellow" if row.proxy in (*STRUCTURE, FITTED) else ""),
            f"{round(row.rank, 1):g}",
            str(row.n),
            *(_estimate(estimate) for estimate in (row.tau, row.spearman, row.pearson)),
            *(correlation(tau) for tau in (row.partial, row.given_fitted, row.binned, *row.within.values())),
            *(_amount(points) for points in row.regret),
            _amount(spent) if spent else "0",
        )
    return table


def _proxy_column() -> Column:
    return Column("proxy", overflow="fold", max_width=24)  # in a narrow terminal this column gives way


def _estimate(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return UNDEFINED
    low, high = (correlation(value, 2) for value in (estimate.low, estimate.high))
    return f"{correlation(estimate.value)} {f'[{low},{high}]':>9}"


def _amount(value: float) -> str:
    """Return a number of four characters or few more: 0.37, 9.99, 10.0, 120.5."""
    return number(value, ".2f" if value < 9.995 else ".1f")


def failure_tables(failures: Sequence[Failure]) -> list[Table]:
    """Return a table of why networks have no score; none where all have one."""
    if not failures:
        return []
    columns: list[Column | str] = [_proxy_column(), *numbers("networks"), "reason"]
    table = make_table("networks without a score, which n does not count", *columns, gap=1)
    for failure in failures:
        table.add_row(failure.proxy, str(failure.count), failure.reason)
    return [table]
