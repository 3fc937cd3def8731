"""Rank: proxies on the architectures of a benchmark, as one function that Python and the command line call."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from autoprox.api.arguments import (
    ArgumentError,
    BenchmarkLike,
    Operations,
    benchmarks,
    check_functions,
    checked_workers,
    known_operations,
    one_by_one,
    run_directory,
    texts,
)
from autoprox.api.results import KeptResult
from autoprox.bench_cache.runtime.devices import CPU, agreed_device
from autoprox.bench_cache.runtime.local_pool import Workers
from autoprox.display.ranking import collected, heading, ranking_parts
from autoprox.display.terminal import progress_console, say
from autoprox.evolve import add_look, looks_so_far
from autoprox.pictures import DrawingError, save_figure
from autoprox.primitives import Vocabulary
from autoprox.primitives.batch_norms import RUNNING
from autoprox.proxy import ProxyLike, any_proxy
from autoprox.rank.caption import caption
from autoprox.rank.output import CSV, JSON, POINTS, TEX, flat, save_table
from autoprox.rank.plan import ALL, RankPlan, make_plan
from autoprox.rank.plots import correlation_figure, tau_figure
from autoprox.rank.scores import SCORES, Scores, begin, stored_benchmark, stored_plan
from autoprox.rank.stats import Correlations, Row, correlations, rank_rows
from autoprox.rank.verdict import verdict
from autoprox.validation.origin import run_of

RANKS = Path("ranks")


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Ranking(KeptResult):
    """What `autoprox.rank` returns.

    Attributes:
        rows: a `Row` for each proxy on each task, and on their mean; on each task the best comes first.
        scores: every proxy's score of every architecture, the seconds, and why networks have no score; see `Scores`.
        correlations: Kendall's tau-b and Spearman's rho between the scores of every two proxies.
        words: what the numbers mean, and whether the best proxy ranks better than structure.
        plan: which architectures were ranked, by which proxies, on which tasks.
        out: the run directory, which has all of this as files, whose names are `saved`.
        problem: why there are no pictures among them; empty where there are.
    """

    plan: RankPlan
    rows: tuple[Row, ...]
    scores: Scores
    correlations: Correlations
    words: tuple[str, ...]
    out: Path
    saved: tuple[str, ...]
    problem: str = ""

    def parts(self) -> Iterator[str | Text | Table]:
        """Yield a table for each task and their mean, why networks have no score, and what it all means."""
        return ranking_parts(self.rows, self.scores, self.words)

    def records(self) -> list[dict[str, Any]]:
        """Return a line for each proxy on each task: its tau and other numbers, None where one is not defined."""
        return [flat(row, self.scores.seconds[row.proxy]) for row in self.rows]

    def record(self) -> dict[str, Any]:
        """Return settings, all rows, why networks have no score, and what it all means, as JSON values."""
        return {
            "settings": self.plan.record(),
            "rows": self.records(),
            "failures": [asdict(failure) for failure in self.scores.failures],
            "words": list(self.words),
            "out": str(self.out),
            "saved": list(self.saved),
        }

    def __repr__(self) -> str:
        return (
            f"Ranking(benchmark={self.plan.benchmark.name!r}, architectures={len(self.plan.architectures)}, "
            f"proxies={len(self.plan.proxies)}, out={str(self.out)!r})"
        )


def rank(
    benchmark: BenchmarkLike | None = None, proxies: ProxyLike | Sequence[ProxyLike] = ALL, *,
    tasks: str | Sequence[str] = (), split: str = ALL, sample: int | None = None, max_params: float | None = None,
    batch: int = 2, batch_norm: str = RUNNING, seed: int = 0, device: str = CPU, vote: bool = False,
    operations: Operations = (),
    space: str | Sequence[str] = (), workers: Workers = 1,
    out: str | os.PathLike[str] | None = None, resume: bool = False, progress: bool = True,
) -> Ranking:  # fmt: skip
    """Rank the architectures of a benchmark by proxies, and the proxies by how well they do it.

    `benchmark` is a benchmark, a name or a file. `proxies` are what PROXY means on the command line, or objects: a
    `Proxy`, a formula, a record of the zoo; "all" are the training-free proxies of the zoo, or a table's columns. What
    structure says is always there. `tasks` are names or patterns (`*_kd`); none means all. `sample` draws so many
    architectures of the `split`, `max_params` leaves larger ones out. The networks run on `batch` samples, with
    `batch_norm` as in `Proxy.score`; `seed` is that of the weights, the batch, the sample and the intervals. They run
    on `device`: auto, cpu, cuda, cuda:N or mps, which all workers share, and whose kind changes the last bits. With
    `vote`, a row `vote` has the mean of the ranks by all the given proxies, as they vote in `search`.
    `operations` and `space` name a user's own (FILE.py:NAME). `workers` are processes of this machine, or an executor;
    a script with several needs `if __name__ == "__main__":`.

    Everything is kept in the run directory `out`, by default the next of ranks/001, ranks/002, ... With `resume`, the
    run there (or the last one) goes on with its own choices, which need not be given again; a benchmark without a name
    must be. `progress` False prints nothing.

    Raises:
        RankError, BenchmarkError, ArgumentError: an argument cannot be, or `out` holds another run.
        DeviceError: there is no such device, or it has no memory left.
        ProxyError, FormulaError: there is no such proxy, or a formula cannot be read.
        OperationError, ArchitectureError: the user's own operations or spaces cannot be loaded.
        JournalError: there is a run in `out` already, or none to resume, or its files are damaged.
    """
    checked_workers(workers)
    known, _ = known_operations(operations)
    folder = run_directory(RANKS, SCORES, out, resume)
    if benchmark is None and not resume:
        raise ArgumentError("rank on what? Name a --bench")
    found = benchmarks(stored_benchmark(folder) if benchmark is None else benchmark, texts(space))[0]
    device = agreed_device(device, workers)
    given = (proxies, texts(tasks), split, sample, max_params, batch, batch_norm, seed, device, vote)
    chosen = given != (ALL, [], ALL, None, None, 2, RUNNING, 0, CPU, False)
    if resume and not chosen:
        plan = stored_plan(found, folder, known)
    else:
        plan = make_plan(found, tasks=texts(tasks), proxies=_references(proxies) or [ALL], split=split, sample=sample,
                         max_params=max_params, batch=batch, batch_norm=batch_norm, seed=seed, device=device,
                         vote=vote, operations=known)  # fmt: skip
    check_functions(plan.proxies, workers)
    done = begin(plan, folder, resume=resume)
    console = progress_console(silent=not progress)
    say(console, heading(plan, folder, done))
    scores = collected(console, plan, folder, workers)
    say(console, "computing intervals and drawing pictures")
    named = _references(proxies) if chosen or not resume else [proxy.name for proxy in plan.proxies]
    return _judged(plan, scores, folder, tuple(_looks(plan, named, folder, known)))


def _looks(plan: RankPlan, proxies: Sequence[ProxyLike], out: Path, operations: Vocabulary) -> Iterator[str]:
    """Yield how often test was looked at for each run among the proxies; a table shown before is no new look."""
    shown = (out / JSON).exists()
    for given in proxies if plan.split in (ALL, "test") else ():
        if (run := run_of(given)) is not None:
            text = any_proxy(given, operations).text
            looks = looks_so_far(run) if shown else add_look(run, "rank", [plan.benchmark.name], text)
            yield f"{given}: {looks}"


def _references(proxies: ProxyLike | Sequence[ProxyLike]) -> list[ProxyLike]:
    """Return the proxies one by one; a text may have several, with commas between them."""
    return [each for ref in one_by_one(proxies) for each in (texts(ref) if isinstance(ref, str) else [ref])]


def _judged(plan: RankPlan, scores: Scores, out: Path, looks: Sequence[str]) -> Ranking:
    """Return what the scores are worth, and save it; `looks` are sentences on the looks at test."""
    rows, between = rank_rows(scores.table, plan.seed), correlations(scores.table)
    words = tuple(line for line in (caption(plan), verdict(scores.table, rows, plan.seed), *looks) if line)
    save_table(out, plan, scores, rows, between, words)
    saved, problem = [CSV, JSON, TEX, POINTS, SCORES], ""
    try:
        saved += _pictures(plan, rows, between, out)
    except DrawingError as error:
        problem = str(error)
    return Ranking(
        plan=plan,
        rows=rows,
        scores=scores,
        correlations=between,
        words=words,
        out=out,
        saved=tuple(saved),
        problem=problem,
    )


def _pictures(plan: RankPlan, rows: Sequence[Row], between: Correlations, out: Path) -> list[str]:
    """Draw the taus, and how the proxies correlate, and return the files' names."""
    name = plan.benchmark.name
    taus = tau_figure(rows, f"{name}: {len(plan.architectures)} architectures")
    figure = correlation_figure(
        between.proxies, between.spearman, f"{name}: proxies among themselves", "Spearman ρ between scores"
    )
    return save_figure(taus, out / "taus") + save_figure(figure, out / "correlations")
