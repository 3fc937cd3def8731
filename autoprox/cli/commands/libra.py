"""Choose three proxies by LIBRA, merge and judge them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import orjson
from rich.table import Table

from autoprox.api.arguments import next_directory, split_outside_brackets
from autoprox.bench_cache.benchmarks.library import load_benchmarks
from autoprox.bench_cache.benchmarks.table import STRUCTURE, Benchmark
from autoprox.bench_cache.benchmarks.tasks import task_names
from autoprox.bench_cache.runtime.devices import agreed_device
from autoprox.bench_cache.runtime.files import write_atomically, write_csv
from autoprox.cli.options import (
    batch_norm_option,
    device_option,
    given_options,
    operations_option,
    spaces_option,
    tasks_option,
    workers_option,
)
from autoprox.cli.output import Output, output_options, telling_how_to_go_on
from autoprox.display.ranking import collected, result_tables
from autoprox.display.terminal import correlation, make_table, numbers, progress_console
from autoprox.evolve import MEAN
from autoprox.evolve.report import FITTED
from autoprox.pictures import DrawingError, save_figure
from autoprox.primitives import Vocabulary
from autoprox.rank.caption import caption
from autoprox.rank.libra import LIBRA, ROLES, LibraChoice, choose, merged_table
from autoprox.rank.output import flat
from autoprox.rank.plan import RankError, RankPlan, make_plan, proxies_to_rank
from autoprox.rank.plots import correlation_figure
from autoprox.rank.scores import Scores, begin, load
from autoprox.rank.stats import FEWEST, Row, ScoreTable, correlations, rank_rows
from autoprox.vocabulary import vocabulary

CSV, JSON, PICTURE = "libra.csv", "libra.json", "libra-correlations"
#: Candidates that are printed; all are saved.
SHOWN = 8


@click.command("libra")
@click.option("--bench", required=True, metavar="NAME|FILE", help="Benchmark to choose and judge on.")
@tasks_option
@click.option(
    "--proxies",
    multiple=True,
    metavar="all|PROXY,...",
    help="What to choose from, as for rank. Repeatable.  [default: all]",
)
@click.option(
    "--scores",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Take the scores of a finished `autoprox rank`; else they are computed.",
)
@click.option("--sample", type=int, metavar="N", help="Use N architectures, drawn at random.  [default: all]")
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Of the weights, the batch, the sample and the intervals."
)
@click.option("--batch", type=int, default=2, show_default=True, help="Samples that the networks run on.")
@batch_norm_option
@device_option
@operations_option
@spaces_option
@workers_option
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Run directory.  [default: that of --scores, or ranks/NUMBER]",
)
@click.option("--resume", is_flag=True, help="Go on with the same command, whose scores are in --out.")
@click.pass_context
@output_options
def command(context: click.Context, bench: str, spaces: Sequence[str], operations: Sequence[str],
          tasks: str, proxies: Sequence[str], scores: Path | None,
          sample: int | None, seed: int, batch: int, batch_norm: str, device: str, workers: int, out: Path | None,
          resume: bool, output: Output) -> None:  # fmt: skip
    """Choose three proxies by LIBRA-NAS on the evolve and validation splits, and judge their merged ranks on test.

    Params, FLOPs, activations, depth and width are candidates too, unless --proxies leaves them out.
    """
    known = vocabulary(operations)
    benchmark = load_benchmarks([bench], spaces)[0]
    patterns = split_outside_brackets(tasks)
    refs = [ref for text in proxies for ref in split_outside_brackets(text)]
    if scores is not None:
        _check_alone(context)
        plan, found = load(benchmark, scores, known)
        plan = _narrowed(plan, patterns)
        out = out or scores
    else:
        plan = make_plan(
            benchmark,
            tasks=patterns,
            proxies=refs or ["all"],
            sample=sample,
            batch=batch,
            batch_norm=batch_norm,
            seed=seed,
            device=agreed_device(device, workers),
            operations=known,
        )
        out = out or next_directory(Path("ranks"))
    output.notice(f"autoprox libra → {out}")
    if scores is None:
        begin(plan, out, resume=resume)
        with telling_how_to_go_on(context, output, out):
            found = collected(progress_console(silent=output.quiet), plan, out, workers)
    pool = _pool(benchmark, plan, refs, known)
    choosing, judged = _halves(plan)
    on = found.table.of_architectures(choosing).of_proxies(pool)
    choices = {task: choose(on, task) for task in plan.tasks}
    baselines = [name for name in STRUCTURE if name in found.table.proxies]
    rows = rank_rows(merged_table(found.table.of_architectures(judged), choices, baselines), plan.seed)
    seconds = _seconds(found, choices, baselines)
    record = _record(plan, choices, rows, seconds)
    saved = _save(out, record)
    drawn, hints = _picture(on, out, f"{benchmark.name}: what LIBRA chose from")
    saved += drawn
    hints.append(f"Saved in {out}: {', '.join(saved)}")
    output.print(_parts(plan, choices, rows, seconds, len(judged)), lambda: {**record, "out": out}, hints)


def _parts(
    plan: RankPlan,
    choices: Mapping[str, LibraChoice],
    rows: Sequence[Row],
    seconds: Mapping[str, float],
    judged: int,
) -> Iterator[str | Table]:
    """Yield what was chosen on each task, and how good that is on the test split."""
    for choice in choices.values():
        yield _candidate_table(choice)
        yield _chosen(choice)
    yield f"\nOn the test split, {judged} architectures that nothing was chosen on:"
    named = [replace(row, proxy=_name(row, choices)) for row in rows]
    yield from result_tables(named, {_name(row, choices): seconds[row.proxy] for row in rows})
    yield _verdict(rows)
    yield caption(plan)


def _picture(table: ScoreTable, out: Path, title: str) -> tuple[list[str], list[str]]:
    """Draw how the candidates correlate; return the files, and what hindered it."""
    between = correlations(table)
    try:
        figure = correlation_figure(between.proxies, between.spearman, title, "Spearman ρ between scores")
        return save_figure(figure, out / PICTURE), []
    except DrawingError as error:
        return [], [f"No picture: {error}"]


def _check_alone(context: click.Context) -> None:
    """Refuse the options that say how scores are computed, because `--scores` are computed already."""
    given = given_options(context)
    for name in ("sample", "seed", "batch", "batch_norm", "device", "workers"):
        if name in given:
            raise click.UsageError(f"--{name.replace('_', '-')} is for computing scores: leave it out, or --scores")


def _narrowed(plan: RankPlan, patterns: Sequence[str]) -> RankPlan:
    """Return the run's plan, narrowed to the tasks that match the patterns."""
    tasks = tuple(task for task in task_names(plan.benchmark, patterns) if task in plan.tasks)
    if not tasks:
        raise RankError(f"the run has scores for the tasks {', '.join(plan.tasks)} only")
    return replace(plan, tasks=tasks)


def _pool(benchmark: Benchmark, plan: RankPlan, refs: Sequence[str], operations: Vocabulary) -> list[str]:
    """Return the names of the proxies to choose from: those that are named, or all that have scores."""
    scored = [proxy.name for proxy in plan.proxies]
    if not refs or "all" in refs:
        return scored
    structure = {proxy.name for proxy in proxies_to_rank(benchmark, ())}
    named = [p.name for p in proxies_to_rank(benchmark, refs, operations) if p.name not in structure or p.name in refs]
    missing = [name for name in named if name not in scored]
    if missing:
        raise RankError(f"the run has no scores by {missing[0]}; it has {', '.join(scored)}")
    return named


def _halves(plan: RankPlan) -> tuple[np.ndarray, np.ndarray]:
    """Return places in the plan: those to choose on, of evolve and validation, and those to judge on, of test."""
    splits = plan.benchmark.splits()
    test = np.isin(plan.architectures, splits["test"])
    if test.sum() < FEWEST or (~test).sum() < FEWEST:
        raise RankError(
            f"LIBRA chooses on evolve and validation and is judged on test: {(~test).sum()} and {test.sum()} "
            f"architectures are too few; it needs {FEWEST} and {FEWEST}"
        )
    return np.flatnonzero(~test), np.flatnonzero(test)


def _seconds(scores: Scores, choices: Mapping[str, LibraChoice], baselines: Sequence[str]) -> dict[str, float]:
    """Return the seconds an architecture takes, by row, as means over the tasks.

    LIBRA takes as long as its three proxies together.
    """
    of_task = [[scores.seconds[proxy] for proxy in choice.chosen] for choice in choices.values()]
    padded = np.array([row + [float("nan")] * (len(ROLES) - len(row)) for row in of_task])
    by_role = dict(zip(ROLES, map(float, padded.mean(axis=0)), strict=True))
    return {LIBRA: float(np.mean([sum(row) for row in of_task])), **by_role} | {
        name: scores.seconds[name] for name in (*baselines, FITTED)
    }


def _name(row: Row, choices: Mapping[str, LibraChoice]) -> str:
    """Return the name of a row; of a role, with the proxy that has it on the row's task."""
    if row.proxy not in ROLES or row.task not in choices:
        return row.proxy
    chosen = choices[row.task].chosen
    place = ROLES.index(row.proxy)
    return f"{row.proxy} {chosen[place]}" if place < len(chosen) else row.proxy


def _candidate_table(choice: LibraChoice) -> Table:
    title = f"task {choice.task}: chosen on {choice.architectures} architectures of evolve and validation"
    heads = ("chosen as", "ρ", f"IG, bits, {choice.bins} classes", f"|b_val − b_z|, b_val {choice.bias:.3f}")
    table = make_table(title, "candidate", *numbers(*heads), gap=1)
    roles = dict(zip(choice.chosen, ROLES, strict=False))
    shown = [c for place, c in enumerate(choice.candidates) if place < SHOWN or c.proxy in roles]
    for candidate in shown:
        gain = "" if roles.get(candidate.proxy) == ROLES[0] else correlation(candidate.gain)
        gap = correlation(abs(choice.bias - candidate.bias))
        table.add_row(candidate.proxy, roles.get(candidate.proxy, ""), correlation(candidate.rho), gain, gap)
    return table


def _chosen(choice: LibraChoice) -> str:
    hidden = len(choice.candidates) - SHOWN
    parts = [", ".join(f"{role} {proxy}" for role, proxy in zip(ROLES, choice.chosen, strict=False))]
    if hidden > 0:
        parts.append(f"{len(choice.candidates)} candidates in all")
    if choice.left_out:
        parts.append(f"without a score of some, or with one for all: {', '.join(choice.left_out)}")
    return "; ".join(parts)


def _verdict(rows: Sequence[Row]) -> str:
    """Say which proxies do as well alone as the merged ranks."""
    means = {row.proxy: row.tau.value for row in rows if row.task == MEAN}
    own = means.pop(LIBRA)
    better = [f"{name} {correlation(tau)}" for name, tau in means.items() if tau >= own]
    others = f"as well or better alone: {', '.join(better)}" if better else "none of the others does as well alone"
    return f"LIBRA's mean τ on test is {correlation(own)}; {others}."


def _record(
    plan: RankPlan, choices: Mapping[str, LibraChoice], rows: Sequence[Row], seconds: Mapping[str, float]
) -> dict[str, Any]:
    return {
        "settings": plan.record(),
        "merge": "sum of log(rank / n)",
        "choices": [asdict(choice) for choice in choices.values()],
        "test": [flat(row, seconds[row.proxy]) for row in rows],
    }


def _save(out: Path, record: Mapping[str, Any]) -> list[str]:
    data = orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    write_atomically(out / JSON, data)
    write_csv(out / CSV, record["test"])
    return [JSON, CSV]
