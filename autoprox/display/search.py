"""What is shown of a search: the progress of a search, what it found, and how good that is on a benchmark."""

from __future__ import annotations

import itertools
import math
import shlex
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
from rich.console import Console
from rich.progress import TaskID
from rich.table import Table
from rich.text import Text

from autoprox.bench_cache.benchmarks.table import STRUCTURE, Benchmark
from autoprox.bench_cache.rank_correlation import kendall
from autoprox.bench_cache.spaces.registry import ArchitectureError, InputSpec, get_space
from autoprox.display.front import front_table, latency
from autoprox.display.terminal import (
    UNDEFINED,
    duration,
    make_table,
    names,
    number,
    numbers,
    on_device,
    progress_bar,
    say,
    size,
)
from autoprox.scoring import AnyProxy, few_step_note
from autoprox.search.batch import Batch
from autoprox.search.candidate import Candidate
from autoprox.search.loop import SearchProgress, SearchResult
from autoprox.search.on_benchmark import Choice, Verdict
from autoprox.search.proxy_input import input_of_proxies
from autoprox.search.region import describe_spec
from autoprox.search.run import SearchOutcome, SearchPlan

PERCENT = ".2f"
#: What networks of the data set digits read.
DIGITS = InputSpec(8, 1, 10, 2)


class Kept(Protocol):
    """The result of a search, as `autoprox.search` returns it."""

    @property
    def plan(self) -> SearchPlan: ...
    @property
    def ranked(self) -> Sequence[Candidate]: ...
    @property
    def finished(self) -> bool: ...
    @property
    def out(self) -> Path | None: ...
    @property
    def saved(self) -> Sequence[str]: ...
    @property
    def problem(self) -> str: ...


class SearchScreen:
    """The progress of a search: a bar on a terminal; elsewhere a line at every tenth of the budget."""

    def __init__(self, console: Console, plan: SearchPlan) -> None:
        self.console = console
        self.bars = progress_bar(console, "scoring", "best")
        self.task: TaskID = self.bars.add_task("", total=plan.settings.budget, best=UNDEFINED)

    def __enter__(self) -> SearchScreen:
        self.bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bars.stop()

    def notice(self, line: str) -> None:
        """Print what the user should know."""
        say(self.console, line)

    def progress(self, progress: SearchProgress) -> None:
        """Show how far the search is."""
        best = UNDEFINED if progress.best is None else _score(progress.best)
        self.bars.update(self.task, completed=progress.done, total=progress.budget, best=best)
        tenth = max(1, progress.budget // 10)
        if not self.console.is_terminal and (progress.done % tenth == 0 or progress.done == progress.budget):
            left = self.bars.tasks[self.task].time_remaining
            remaining = "" if left is None else f", left {duration(left)}"
            say(self.console, f"scored {progress.done} of {progress.budget}, best {best}{remaining}")


def heading(plan: SearchPlan, out: Path | None) -> str:
    """Return where is searched, with what and how."""
    settings, benchmark = plan.settings, plan.benchmark
    if benchmark is not None:
        part = "all" if plan.split == "all" else f"the {plan.split} split"
        where = f"benchmark {benchmark.name}, {part} of its {len(benchmark)} architectures"
    else:
        assert plan.spec is not None
        assert plan.space is not None
        known = input_of_proxies(plan.space, plan.proxies)
        of_proxy = f", as in the proxy's benchmark {known[1]}" if known is not None and known[0] == plan.spec else ""
        where = f"space {get_space(plan.space).name} ({describe_spec(plan.spec)}{of_proxy})"
    proxies = "\n".join(_told(plan, proxy) for proxy in plan.proxies)
    votes = f"\n{len(plan.proxies)} proxies vote: the score is the mean of their ranks, 1 for the best by all"
    return (
        f"autoprox search{f' → {out}' if out else ''}\n"
        f"{proxies}{votes if plan.others else ''}\n"
        f"{where}, {settings.limits}\n"
        f"strategy {settings.strategy}, budget {settings.budget}, seed {settings.seed}{on_device(plan.device)}"
        + (f"\nobjectives {', '.join(settings.objectives)}" if plan.of_several else "")
        + (f"\nlatency is {plan.latency}" if plan.latency else "")
    )


def _told(plan: SearchPlan, proxy: AnyProxy) -> str:
    """Return a proxy's name and text, and what networks run on where it reads images."""
    name = f"{proxy.name}: " if proxy.name not in ("", proxy.text) else ""
    ran_on = f", on {_samples(plan.batch)}" if "data" in proxy.probes else ""
    note = few_step_note(proxy.probes)
    return f"proxy {name}{proxy.text}{ran_on}{f'; it {note}' if note else ''}"


def _samples(batch: Batch) -> str:
    if batch.images is None:
        return f"{batch.samples} Gaussian samples with random classes, because it reads images and has none"
    shape = " × ".join(map(str, batch.images.shape[1:]))
    return f"{batch.samples} {'image' if batch.samples == 1 else 'images'} of {shape} with their classes"


def search_parts(plan: SearchPlan, outcome: SearchOutcome, top: int) -> Iterator[str | Text | Table]:
    """Yield a table of the best or of the front, what to know of it, and on a benchmark the verdict."""
    result = outcome.result
    yield front_table(result, plan.settings.objectives, top) if plan.of_several else _table(result, top)
    yield from _remarks(result)
    if plan.benchmark is not None:
        yield _verdict_table(outcome.verdicts)
        yield from _verdict_remarks(plan, plan.benchmark, outcome.verdicts)
    if not result.finished:
        yield f"Interrupted after {len(result.candidates)} of {plan.settings.budget} architectures."


def next_steps(result: Kept, typed: str, own: str, own_space: str) -> Iterator[str]:
    """Yield what was saved, and the command that comes next: go on, train the best network, or look at the page.

    `typed` is the command of this search. `own` and `own_space` are the options that name a user's operations and
    space, and the space alone (see `as_options`).
    """
    if result.problem:
        yield f"No picture of the front: {result.problem}"
    if result.out is not None:
        yield f"Saved in {result.out}: {', '.join(result.saved)}"
    if not result.finished:
        yield going_on(result.out, own)
    elif result.out is None:
        names = itertools.chain(["found"], (f"found-{number}" for number in itertools.count(2)))
        yield f"Next: {typed} --out {next(name for name in names if not Path(name).exists())}"
    elif _trains_on_digits(result.plan, result.ranked[0]):
        yield f"Next: autoprox train {shlex.quote(str(result.out))} --row 1 --dataset digits{own_space}"
    else:
        yield f"Next: autoprox report {shlex.quote(str(result.out))}"


def going_on(out: Path | None, own: str = "") -> str:
    """Say how to go on with an interrupted search; `own` is what `as_options` returns."""
    if out is None:
        return "A search without --out cannot be resumed."
    return f"Nothing that was scored is lost.\nNext: autoprox search --resume --out {shlex.quote(str(out))}{own}"


def _trains_on_digits(plan: SearchPlan, best: Candidate) -> bool:
    """Return whether the digits are here, and the best network can be built for them."""
    name = plan.space if plan.benchmark is None else plan.benchmark.space
    if name is None or find_spec("sklearn") is None:
        return False
    try:
        get_space(name).structure(best.arch, DIGITS)
    except ArchitectureError:  # of a user's space, or of a list of networks
        return False
    return True


def _table(result: SearchResult, top: int) -> Table:
    scored = len(result.candidates)
    title = f"The best {min(top, scored)} of {scored} architectures"
    timed = ["latency"] if any(entry.latency is not None for entry in result.candidates) else []
    heads = ("rank", "score", "params", "FLOPs", "activations", *timed, "depth", "width")
    table = make_table(title, *numbers(*heads), "architecture")
    for rank, entry in enumerate(result.ranked[:top], 1):
        depth, width = (number(mean, ".4g") for mean in (entry.depth, entry.width))
        genes = Text(entry.key.partition(":")[2].replace("|", " | "))  # lines break at spaces
        sizes = (size(count) for count in (entry.params, entry.flops, entry.activations))
        times = [latency(entry.latency)] if timed else []
        table.add_row(str(rank), _score(entry), *sizes, *times, depth, width, genes)
    return table


def _score(entry: Candidate) -> str:
    return number(entry.score, ".7g")


def _remarks(result: SearchResult) -> Iterable[str]:
    scored = [entry for entry in result.candidates if entry.score is not None]
    without = [entry for entry in result.candidates if entry.score is None]
    if without:
        yield f"{len(without)} of {len(result.candidates)} have no score; the first: {without[0].problem}"
    if result.exhausted:
        yield f"No more than these {len(result.candidates)} architectures were found within the limits."
    tied = sum(entry.score == result.ranked[0].score for entry in scored)
    if tied > 1:
        yield (
            f"{tied} of {len(result.candidates)} share the best score. "
            "They are in the order of scoring: the score does not say which of them is better."
        )
    taus = {fact: _tau(scored, fact) for fact in STRUCTURE} if len(scored) > 2 else {}
    shown = ", ".join(f"{fact} {number(tau, PERCENT)}" for fact, tau in taus.items() if not math.isnan(tau))
    if shown:
        yield f"Kendall's tau-b of the score, over all {len(scored)}, with {shown}."


def _tau(scored: Sequence[Candidate], fact: str) -> float:
    scores = np.array([entry.score for entry in scored], dtype=float)
    return kendall(scores, np.array([getattr(entry, fact) for entry in scored], dtype=float))


def _verdict_table(verdicts: Sequence[Verdict]) -> Table:
    title = "Trained accuracy of what is chosen, its rank among all that were offered, and its regret"
    columns = [*numbers("scored", "best"), *numbers("by proxy", style="bold"), *numbers("rank", "regret")]
    columns += numbers("by params", "rank", "regret", "by chance", "regret")
    table = make_table(title, names("task"), *columns)
    for verdict in verdicts:
        nothing = Choice("", math.nan, math.nan, math.nan)
        found = {choice.by: choice for choice in verdict.choices}
        proxy, params, chance = (found.get(by, nothing) for by in ("proxy", "params", "chance"))
        cells = [verdict.task, f"{verdict.judged}/{verdict.labelled}", number(verdict.best, PERCENT)]
        for choice in (proxy, params):
            cells += [number(choice.accuracy, PERCENT), number(choice.rank, ".4g"), number(choice.regret, PERCENT)]
        table.add_row(*cells, number(chance.accuracy, PERCENT), number(chance.regret, PERCENT))
    return table


def _verdict_remarks(plan: SearchPlan, benchmark: Benchmark, verdicts: Sequence[Verdict]) -> Iterable[str]:
    missing = [verdict.task for verdict in verdicts if verdict.top_missing]
    if missing:
        yield (
            f"The architecture of the highest score has no accuracy on {', '.join(missing)} and cannot be judged "
            "there: the next best that has one stands for it."
        )
    tied = {c.by: c.tied for verdict in verdicts for c in verdict.choices if c.tied > 1}
    for by, count in tied.items():
        yield f"Up to {count} architectures are first alike by {by}: accuracy and rank are their means."
    evolved_on = [name for proxy in plan.proxies for name in _names(proxy.provenance.get("benchmarks"))]
    if benchmark.name in evolved_on and plan.split != "test":
        yield (
            f"This proxy was evolved on {benchmark.name}: only --split test judges it on architectures "
            "that it has not seen."
        )


def _names(value: object) -> list[object]:
    return value if isinstance(value, list) else []
