"""`autoprox search`: search architectures with a proxy, in a space or among those of a benchmark."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from autoprox.bench_cache.benchmarks.library import load_benchmark
from autoprox.bench_cache.benchmarks.table import STRUCTURE, Benchmark
from autoprox.bench_cache.spaces.registry import SPACES, InputSpec
from autoprox.cli.root import INTERRUPTED
from autoprox.evolve import kendall
from autoprox.proxy import resolve
from autoprox.search.candidate import Candidate, SearchError
from autoprox.search.limits import Limits
from autoprox.search.loop import SearchProgress, SearchResult
from autoprox.search.on_benchmark import OFFERS, Choice, Verdict
from autoprox.search.region import describe_spec
from autoprox.search.run import SearchOutcome, SearchPlan, read_plan, run_search, start_search
from autoprox.search.strategies import STRATEGIES, SearchSettings

_DEFAULTS, _SPEC = SearchSettings(), InputSpec()
_SUFFIXES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9}
_SIZES = ("max_params", "min_params", "max_flops", "min_flops")
_GENES = ("budget", "seed", "population", "tournament")


class Count(click.ParamType):
    """A large number: 6000000, 6e6, 6M; K, M and G (or B) are 10³, 10⁶ and 10⁹."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number, whole."""
        match = re.fullmatch(r"(\d[\d_]*\.?\d*(?:e\+?\d{1,2})?)([KMGB]?)", str(value).strip(), re.IGNORECASE)
        if match is None:
            self.fail(f"'{value!s:.40}' is no number such as 6000000, 6e6, 6M or 1.4G", param, ctx)
        return round(float(match[1]) * _SUFFIXES[match[2].upper()])


@click.command("search")
@click.option("--space", metavar="NAME", help=f"Space to search: {', '.join(SPACES)}.")
@click.option("--bench", metavar="NAME|FILE", help="Search among the architectures of a benchmark, and judge it.")
@click.option("--proxy", metavar="PROXY", help="Run directory, proxy file, shipped name, or formula.")
@click.option("--max-params", type=Count(), help="Such as 6e6 or 6M.")
@click.option("--min-params", type=Count())
@click.option("--max-flops", type=Count(), help="Multiply-adds of one image, such as 1.4G.")
@click.option("--min-flops", type=Count())
@click.option("--budget", type=int, default=_DEFAULTS.budget, show_default=True, help="Architectures to score.")
@click.option("--seed", type=int, default=_DEFAULTS.seed, show_default=True, help="Same seed, same result.")
@click.option(
    "--strategy",
    type=click.Choice(list(STRATEGIES)),
    show_default="evolution; random on a benchmark",
    help="evolution: regularised, by age.",
)
@click.option("--population", type=int, default=_DEFAULTS.population, show_default=True, help="Of evolution.")
@click.option("--tournament", type=int, default=_DEFAULTS.tournament, show_default=True, help="Of evolution.")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Architectures to print and save.")
@click.option("--tasks", default="", metavar="A,B,...", help="Of a benchmark; `*` allowed.  [default: all]")
@click.option("--split", type=click.Choice(OFFERS), default="all", show_default=True, help="Of a benchmark.")
@click.option("--batch", type=int, default=2, show_default=True, help="Samples of the probes.")
@click.option(
    "--batch-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE.npz",
    help="Images (float32, N×C×H×W) and targets (N integers) for the probe data.",
)
@click.option("--image-size", type=int, default=_SPEC.image_size, show_default=True)
@click.option("--classes", type=int, default=_SPEC.num_classes, show_default=True)
@click.option("--channels", type=int, default=_SPEC.in_channels, show_default=True)
@click.option("--patch-size", type=int, default=_SPEC.patch_size, show_default=True)
@click.option(
    "--workers", type=click.IntRange(1), default=os.cpu_count() or 1, show_default="one a core", help="Processes."
)
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Keep journal and results here.")
@click.option("--resume", is_flag=True, help="Go on with the search in --out; a larger --budget goes further.")
@click.pass_context
def search(context: click.Context, out: Path | None, resume: bool, top: int, workers: int, **choices: Any) -> int:
    """Search the architectures that a proxy scores highest, under limits on parameters and FLOPs, training nothing.

    On a space: regularised evolution (Real et al., 2019) or random search. On a benchmark: random search among its
    architectures, with the trained accuracy of what the proxy chooses, its rank and its regret.
    """
    console = Console(width=None if Console().is_terminal else 120, markup=False, highlight=False, emoji=False)
    given = {n for n in choices if context.get_parameter_source(n) is click.core.ParameterSource.COMMANDLINE}
    if resume:
        if out is None:
            raise click.UsageError("--resume goes on with the search in --out DIR; name it")
        plan = _resumed(out, given, choices)
    else:
        plan = _plan(given, choices)
        if out is not None:
            start_search(plan, out)
    console.print(_heading(plan, out), soft_wrap=True)
    try:
        with _Screen(console, plan) as screen:
            outcome = run_search(
                plan, out, top=top, workers=workers, on_progress=screen.progress, on_notice=screen.notice
            )
    except KeyboardInterrupt:
        console.print(_going_on(out), soft_wrap=True)
        raise
    _print_outcome(console, plan, outcome, out, top)
    return 0 if outcome.result.finished else INTERRUPTED


def _plan(given: set[str], choices: Mapping[str, Any]) -> SearchPlan:
    """The plan that the options describe."""
    if choices["proxy"] is None:
        raise click.UsageError("search with what? Name a --proxy: `autoprox proxies` lists the shipped ones")
    if (choices["space"] is None) == (choices["bench"] is None):
        raise click.UsageError(f"search where? Name either a --space ({', '.join(SPACES)}) or a --bench")
    if {"batch", "batch_file"} <= given:
        raise click.UsageError("--batch is for probes without images: leave it out, or --batch-file")
    of_spec = {"image_size", "classes", "channels", "patch_size"}
    spec = InputSpec(choices["image_size"], choices["channels"], choices["classes"], choices["patch_size"])
    return SearchPlan(
        proxy=resolve(choices["proxy"]),
        settings=SearchSettings(
            strategy=choices["strategy"] or ("evolution" if choices["bench"] is None else "random"),
            limits=Limits(**{name: choices[name] for name in _SIZES}),
            **{name: choices[name] for name in _GENES},
        ),
        space=choices["space"],
        spec=spec if choices["bench"] is None or given & of_spec else None,
        benchmark=None if choices["bench"] is None else load_benchmark(choices["bench"]),
        tasks=_names(choices["tasks"]),
        split=choices["split"],
        samples=choices["batch"],
        batch_data=None if choices["batch_file"] is None else choices["batch_file"].read_bytes(),
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def _resumed(out: Path, given: set[str], choices: Mapping[str, Any]) -> SearchPlan:
    """The plan in the directory, with the given budget. What a search's result depends on cannot change half-way."""
    plan = read_plan(out)
    stored = _stored_choices(plan)
    for name in sorted(given - {"budget"}):
        if _comparable(name, choices[name]) != stored[name]:
            option = "--" + name.replace("_", "-")
            raise SearchError(f"the search in {out} was started with another {option}; resume it without {option}")
    if "budget" not in given:
        return plan
    return plan.with_budget(choices["budget"])


def _stored_choices(plan: SearchPlan) -> dict[str, Any]:
    """The options of a plan, by their names."""
    record, spec = plan.record(), plan.spec
    shape = (spec.image_size, spec.in_channels, spec.num_classes, spec.patch_size) if spec else (None,) * 4
    return {
        **record["settings"],
        **record["settings"]["limits"],
        **dict(zip(("image_size", "channels", "classes", "patch_size"), shape, strict=True)),
        "space": plan.space,
        "bench": record["benchmark"],
        "proxy": record["proxy"],
        "tasks": plan.tasks,
        "split": plan.split,
        "batch": plan.samples,
        "batch_file": record["batch"],
    }


def _comparable(name: str, choice: Any) -> Any:
    """An option's value as `_stored_choices` has it."""
    if name == "proxy":
        return resolve(choice).text
    if name == "bench":
        benchmark = load_benchmark(choice)
        return [benchmark.name, hashlib.sha256(benchmark.to_bytes()).hexdigest()]
    if name == "batch_file":
        return hashlib.sha256(choice.read_bytes()).hexdigest()
    return _names(choice) if name == "tasks" else choice


def _heading(plan: SearchPlan, out: Path | None) -> str:
    settings, benchmark = plan.settings, plan.benchmark
    if benchmark is not None:
        part = "all" if plan.split == "all" else f"the {plan.split} split"
        where = f"benchmark {benchmark.name}, {part} of its {len(benchmark)} architectures"
    else:
        assert plan.spec is not None
        where = f"space {plan.space} ({describe_spec(plan.spec)})"
    named = plan.proxy.name not in ("", plan.proxy.text)
    name = f"{plan.proxy.name}: " if named else ""
    gaussian = plan.proxy.as_formula is None and "data" in plan.proxy.probes and plan.batch.images is None
    ran_on = f", on {plan.samples} Gaussian samples with random classes" if gaussian else ""
    return (
        f"autoprox search{f' → {out}' if out else ''}\n"
        f"proxy {name}{plan.proxy.text}{ran_on}\n"
        f"{where}, {settings.limits}\n"
        f"strategy {settings.strategy}, budget {settings.budget}, seed {settings.seed}"
    )


class _Screen:
    """The progress bar; where there is no terminal, a line at every tenth of the budget."""

    def __init__(self, console: Console, plan: SearchPlan) -> None:
        self.console = console
        columns = (TextColumn("scoring"), BarColumn(), MofNCompleteColumn(), TextColumn("best {task.fields[best]}"))
        times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
        self.bars = Progress(*columns, *times, console=console, disable=not console.is_terminal)
        self.task: TaskID = self.bars.add_task("", total=plan.settings.budget, best="–")

    def __enter__(self) -> _Screen:
        self.bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bars.stop()

    def notice(self, line: str) -> None:
        """Print what the user should know."""
        self.console.print(line, soft_wrap=True)

    def progress(self, progress: SearchProgress) -> None:
        """Show how far the search is."""
        best = "–" if progress.best is None else _score(progress.best)
        self.bars.update(self.task, completed=progress.done, total=progress.budget, best=best)
        tenth = max(1, progress.budget // 10)
        if not self.console.is_terminal and (progress.done % tenth == 0 or progress.done == progress.budget):
            left = self.bars.tasks[self.task].time_remaining
            self.console.print(
                f"scored {progress.done} of {progress.budget}, best {best}"
                + (f", left {int(left) // 60}:{int(left) % 60:02d}" if left is not None else "")
            )


def _print_outcome(console: Console, plan: SearchPlan, outcome: SearchOutcome, out: Path | None, top: int) -> None:
    result = outcome.result
    console.print(_table(result, top))
    for line in _remarks(result):
        console.print(line, soft_wrap=True)
    if plan.benchmark is not None:
        console.print(_verdict_table(outcome.verdicts))
        for line in _verdict_remarks(plan, plan.benchmark, outcome.verdicts):
            console.print(line, soft_wrap=True)
    if not result.finished:
        done = f"Interrupted after {len(result.candidates)} of {plan.settings.budget} architectures."
        console.print(f"{done} {_going_on(out)}", soft_wrap=True)
    if out is not None:
        console.print(f"Saved in {out}: architectures.json, architectures.csv, journal.jsonl", soft_wrap=True)


def _going_on(out: Path | None) -> str:
    if out is None:
        return "Without --out a search cannot be gone on with."
    return f"Nothing that was scored is lost. Go on with: autoprox search --resume --out {out}"


def _table(result: SearchResult, top: int) -> Table:
    scored = len(result.candidates)
    title = f"The best {min(top, scored)} of {scored} architectures"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for name in ("rank", "score", "params", "FLOPs", "depth", "width"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("architecture", overflow="fold")
    for rank, entry in enumerate(result.ranked[:top], 1):
        depth, width = (f"{number:.4g}" for number in (entry.depth, entry.width))
        genes = Text(entry.key.partition(":")[2].replace("|", " | "))  # lines break at spaces
        table.add_row(str(rank), _score(entry), _size(entry.params), _size(entry.flops), depth, width, genes)
    return table


def _score(entry: Candidate) -> str:
    return "–" if entry.score is None else f"{entry.score:.7g}"


def _size(number: float) -> str:
    """`5.99 M`: three digits and the suffix of thousands."""
    if math.isnan(number):
        return "–"
    for suffix, scale in (("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if number >= scale:
            return f"{number / scale:.3f} {suffix}"
    return f"{number:.4g}"


def _remarks(result: SearchResult) -> Iterable[str]:
    scored = [entry for entry in result.candidates if entry.score is not None]
    without = [entry for entry in result.candidates if entry.score is None]
    if without:
        yield f"{len(without)} of {len(result.candidates)} have no score; the first: {without[0].problem}"
    if result.exhausted:
        yield f"No more than these {len(result.candidates)} architectures were found within the limits."
    taus = {fact: _tau(scored, fact) for fact in STRUCTURE} if len(scored) > 2 else {}
    shown = ", ".join(f"{fact} {tau:.2f}" for fact, tau in taus.items() if not math.isnan(tau))
    if shown:
        yield f"Kendall's tau-b of the score, over all {len(scored)}, with {shown}."


def _tau(scored: Sequence[Candidate], fact: str) -> float:
    scores = np.array([entry.score for entry in scored], dtype=float)
    return kendall(scores, np.array([getattr(entry, fact) for entry in scored], dtype=float))


def _verdict_table(verdicts: Sequence[Verdict]) -> Table:
    title = "Trained accuracy of what is chosen, its rank among all that were offered, and its regret"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("task", no_wrap=True)
    for name in ("scored", "best", "by proxy", "rank", "regret", "by params", "rank", "regret", "by chance", "regret"):
        table.add_column(name, justify="right", style="bold" if name == "by proxy" else "")
    for verdict in verdicts:
        nothing = Choice("", math.nan, math.nan, math.nan)
        found = {choice.by: choice for choice in verdict.choices}
        proxy, params, chance = (found.get(by, nothing) for by in ("proxy", "params", "chance"))
        cells = [verdict.task, f"{verdict.judged}/{verdict.labelled}", _decimal(verdict.best)]
        for choice in (proxy, params):
            rank = "–" if math.isnan(choice.rank) else f"{choice.rank:.4g}"
            cells += [_decimal(choice.accuracy), rank, _decimal(choice.regret)]
        table.add_row(*map(Text, [*cells, _decimal(chance.accuracy), _decimal(chance.regret)]))
    return table


def _decimal(number: float) -> str:
    return "–" if math.isnan(number) else f"{number:.2f}"


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
    evolved_on = plan.proxy.provenance.get("benchmarks")
    if isinstance(evolved_on, list) and benchmark.name in evolved_on and plan.split != "test":
        yield (
            f"This proxy was evolved on {benchmark.name}: only --split test judges it on architectures "
            "that it has not seen."
        )
