"""`autoprox evolve`: evolve a proxy in the terminal, with a live table and a verdict at the end."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from autoprox.bench_cache.benchmarks.library import DEFAULT_BENCHMARK, load_benchmark
from autoprox.bench_cache.runtime.dask_pool import DaskPool
from autoprox.bench_cache.runtime.files import advising
from autoprox.bench_cache.runtime.local_pool import close_pool
from autoprox.cli.root import INTERRUPTED
from autoprox.evolution import (
    FINALISTS,
    JOURNAL,
    EvolutionResult,
    EvolutionWatcher,
    read_settings,
    run_evolution,
    start_evolution,
)
from autoprox.evolve import (
    COMBINATIONS,
    FORMULA,
    GRAMMARS,
    MEAN,
    STRATEGIES,
    TABULAR,
    EvolutionSettings,
    Lead,
    Report,
    Row,
    SettingsError,
)

_DEFAULTS = EvolutionSettings((), ())


@click.command()
@click.option(
    "--bench",
    "benches",
    multiple=True,
    metavar="NAME|FILE",
    help=f"Benchmark to evolve on; repeatable.  [default: {DEFAULT_BENCHMARK}, which is embedded]",
)
@click.option(
    "--tasks",
    default="",
    metavar="A,B=2,...",
    help="Tasks, `*` allowed, such as '*_kd'. `NAME=2` gives a weight in the joint fitness and the report's mean: "
    "'*,pets=2' are all tasks, pets with weight 2.  [default: all, weight 1]",
)
@click.option("--generations", type=int, default=_DEFAULTS.generations, show_default=True)
@click.option("--population", type=int, default=_DEFAULTS.population, show_default=True)
@click.option("--seed", type=int, default=_DEFAULTS.seed, show_default=True, help="Same seed, same result.")
@click.option(
    "--grammar",
    type=click.Choice([*GRAMMARS, TABULAR]),
    default=_DEFAULTS.grammar,
    show_default=True,
    help="typed: the language (see --costly); auto-prox: the genotype of the paper; tabular: over columns of a table.",
)
@click.option("--strategy", type=click.Choice(list(STRATEGIES)), default=_DEFAULTS.strategy, show_default=True)
@click.option(
    "--joint",
    type=click.Choice(list(COMBINATIONS)),
    default=_DEFAULTS.joint,
    show_default=True,
    help="What the tasks' taus become together. "
    + "; ".join(f"{name}: {combination.meaning}" for name, combination in COMBINATIONS.items())
    + ".",
)
@click.option(
    "--retries",
    type=int,
    default=_DEFAULTS.retries,
    show_default=True,
    help="How often a rejected child is varied again.",
)
@click.option("--batch", type=int, default=_DEFAULTS.batch, show_default=True, help="Samples of the probes.")
@click.option("--costly", is_flag=True, help="Also evolve with singular values and Gram matrices: much slower.")
@click.option("--workers", type=int, default=os.cpu_count() or 1, show_default="one a core", help="Processes.")
@click.option("--dask", metavar="ADDRESS", help="A Dask cluster's scheduler, tcp://HOST:PORT, instead of --workers.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Run directory.  [default: runs/NUMBER]")
@click.option("--resume", is_flag=True, help="Go on with the run in --out (the last one in runs/ without it).")
@click.pass_context
def evolve(context: click.Context, benches: Sequence[str], tasks: str, out: Path | None, resume: bool, workers: int,
           dask: str | None, **choices: Any) -> int:  # fmt: skip
    """Evolve a formula that ranks untrained vision transformers as training would.

    Fitness is Kendall's tau-b on the evolve split, over all tasks at once. The validation split chooses among the
    finalists; the test split is looked at once, at the end. Ctrl-C ends early with the best so far.
    """
    console = Console(width=None if Console().is_terminal else 120)
    if workers < 1:
        raise SettingsError(f"workers is {workers}; it must be at least 1")
    if resume:
        out = out or _last_run()
        generations = _agreed(context, out, benches, tasks, choices)
        executor = _cluster(context, dask, read_settings(out).grammar)
    else:
        executor = _cluster(context, dask, choices["grammar"])  # before there is a run
        out = out or _next_run()
        benchmarks = [load_benchmark(ref) for ref in benches or [DEFAULT_BENCHMARK]]
        patterns = [name for part in tasks.split(",") if (name := part.strip())]
        with advising("the run needs a folder that can be written and has room; or choose another --out"):
            start_evolution(benchmarks, patterns, out, **choices)
        generations = None
    settings = read_settings(out)
    console.print("[bold]autoprox evolve[/]", end="")
    _say(console, _heading(settings, out, generations))
    try:
        with (
            advising(f"nothing that was finished is lost; when this is mended, go on with {_command(out)}"),
            _Screen(console, settings.generations if generations is None else generations) as screen,
        ):
            result = run_evolution(
                out, generations=generations, workers=workers, executor=executor, watch=screen.watch()
            )
    except KeyboardInterrupt:
        _say(console, f"Nothing that was finished is lost. {_resuming(out)}")
        raise
    _print_result(console, result, settings, out)
    return 0 if result.finished else INTERRUPTED


def _cluster(context: click.Context, address: str | None, grammar: str) -> Executor | None:
    """The cluster's workers until the command ends; None without an address, meaning local processes."""
    if address is None:
        return None
    if _is_given(context, "workers"):
        raise SettingsError("--dask uses the workers of its cluster; leave out --workers")
    if grammar == TABULAR:
        raise SettingsError("--grammar tabular runs no networks; leave out --dask")
    pool = DaskPool(address)
    context.call_on_close(lambda: close_pool(pool))
    return pool


def _is_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def _agreed(context: click.Context, out: Path, benches: Sequence[str], tasks: str, choices: Mapping[str, Any]) -> int:
    """The generation to resume to. What a run's result depends on cannot change half-way."""
    stored = asdict(read_settings(out))
    given = {name for name in choices if _is_given(context, name)}
    for name in sorted(given - {"generations"}):
        if choices[name] != stored[name]:
            raise SettingsError(f"the run in {out} has --{name} {stored[name]}; resume it without --{name}")
    if benches or tasks:
        raise SettingsError(f"the run in {out} has its benchmarks and tasks; resume it without --bench and --tasks")
    return choices["generations"] if "generations" in given else stored["generations"]


def _runs() -> list[Path]:
    return sorted((p for p in Path("runs").glob("*") if p.name.isdigit()), key=lambda path: int(path.name))


def _next_run() -> Path:
    runs = _runs()
    return Path("runs") / f"{int(runs[-1].name) + 1 if runs else 1:03d}"


def _last_run() -> Path:
    runs = [path for path in _runs() if (path / JOURNAL).exists()]
    if not runs:
        raise SettingsError("there is no run in runs/ to resume; name its directory with --out")
    return runs[-1]


def _heading(settings: EvolutionSettings, out: Path, generations: int | None) -> str:
    return (
        f" → {out}\n"
        f"tasks {', '.join(_weighted_tasks(settings))}\n"
        f"grammar {settings.grammar}, strategy {settings.strategy}, joint {settings.joint}, "
        f"population {settings.population}, "
        f"generations {settings.generations if generations is None else generations}, "
        f"seed {settings.seed}"
    )


def _weighted_tasks(settings: EvolutionSettings) -> list[str]:
    """Return the tasks as `--tasks` takes them, each with its weight unless that is 1."""
    return [
        task if weight == 1 else f"{task}={weight:g}"
        for task, weight in zip(settings.tasks, settings.weights, strict=True)
    ]


class _Screen:
    """The progress bar while statistics are built, then the live table; plain lines where there is no terminal."""

    ROWS = 12

    def __init__(self, console: Console, generations: int) -> None:
        self.console, self.generations = console, generations
        self.records: list[tuple[Mapping[str, Any], float, float]] = []
        self.begun: tuple[float, int, int] | None = None
        self.bar: Progress | None = None
        self.live: Live | None = None

    def __enter__(self) -> _Screen:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop_bar()
        if self.live:
            self.live.stop()

    def watch(self) -> EvolutionWatcher:
        """The callbacks for `run_evolution`."""
        return EvolutionWatcher(self.building, self.generation, self.reporting, lambda text: _say(self.console, text))

    def building(self, done: int, of: int) -> None:
        if self.bar is None:
            columns = (TextColumn("building statistics"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self.bar = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
            self.bar.start()
            self.bar.add_task("", total=of)
            if not self.console.is_terminal:
                self.console.print(f"building statistics of {of} networks")
        self.bar.update(self.bar.task_ids[0], completed=done, total=of)
        if done == of:
            self._stop_bar()

    def _stop_bar(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def generation(self, record: Mapping[str, Any]) -> None:
        now = time.monotonic()
        if self.begun is None:
            self.begun = (now, record["generation"], record["unique"])
        began, first, unique = self.begun
        elapsed = now - began
        rate = (record["unique"] - unique) / elapsed if elapsed else 0.0
        done = record["generation"] - first
        left = elapsed / done * (self.generations - record["generation"]) if done else float("nan")
        self.records.append((record, rate, left))
        if not self.console.is_terminal:
            _say(self.console, _line(*self.records[-1]))
            return
        if self.live is None:
            self.live = Live(console=self.console, refresh_per_second=4)
            self.live.start()
        self.live.update(self._table())

    def reporting(self) -> None:
        if self.live:
            self.live.stop()
        self.console.print("judging the finalists on held-out architectures", style="dim")

    def _table(self) -> Table:
        table = Table(box=None, header_style="dim")
        for name in ("generation", "best joint τ", "validation τ", "unique", "evals/s", "left"):
            table.add_column(name, justify="right")
        table.add_column("best formula", overflow="ellipsis", no_wrap=True)
        for record, rate, left in self.records[-self.ROWS :]:
            best = record["best"]
            table.add_row(
                f"{record['generation']}/{self.generations}", f"{best['joint']:.3f}", _number(best["validation"]),
                f"{record['unique']:,}", f"{rate:.1f}", _duration(left), Text(best["formula"]),
            )  # fmt: skip
        return table


def _line(record: Mapping[str, Any], rate: float, left: float) -> str:
    best = record["best"]
    return (
        f"generation {record['generation']}  joint τ {best['joint']:.3f}  validation τ {_number(best['validation'])}  "
        f"unique {record['unique']}  {rate:.1f} evals/s  left {_duration(left)}  {best['formula']}"
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _duration(seconds: float) -> str:
    if seconds != seconds:
        return "–"
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _why_chosen(result: EvolutionResult) -> list[str]:
    """Return a line that says why the formula is not the last best that was shown; none if it is."""
    if result.proxy.formula.text == result.fittest:
        return []
    return [
        f"It has the highest validation τ of the {FINALISTS} best on the evolve split; the very best there was "
        f"{result.fittest}"
    ]


def _print_result(console: Console, result: EvolutionResult, settings: EvolutionSettings, out: Path) -> None:
    console.print()
    console.print("[bold]formula[/]  ", end="")
    _say(console, result.proxy.formula.text)
    for line in _why_chosen(result):
        _say(console, line)
    for split in dict.fromkeys(row.split for row in result.report.rows):
        console.print(_report_table(result.report, split, settings))
    split = "test" if result.finished else "validation"
    for line in _verdict(result.report, split):
        _say(console, line)
    if not result.finished:
        _say(console, f"Interrupted after generation {result.generations}: the test split was not looked at.")
        _say(console, _resuming(out))
    _say(console, f"Saved in {out}: proxy.json, report.json, report.csv, generations.csv, journal.jsonl")
    if any(terminal.statistic.column for terminal in result.proxy.formula.terminals()):
        _say(console, f"Next: autoprox search --bench {result.report.rows[0].benchmark} --proxy {out}")
    else:
        _say(console, f"Next: autoprox export {out} --to python --out proxy.py")


def _say(console: Console, text: str) -> None:
    """Print text as it is, unbroken, so that a command or a path in it can be copied."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _resuming(out: Path) -> str:
    return f"Go on with: {_command(out)}"


def _command(out: Path) -> str:
    return f"autoprox evolve --resume --out {out}"


def _verdict(report: Report, split: str) -> list[str]:
    """Whether the formula beats the parameter count, and what else would have done better."""
    mean = report.row(FORMULA, split).tau
    lines = [_beside_params(report.lead(split), split)] if report.leads else ["The table has no parameter count."]
    for name in sorted({row.predictor for row in report.rows} - {FORMULA, "params"}):
        other = report.row(name, split).tau
        if other >= mean:
            lines.append(f"On {split} {name} alone does as well or better: mean τ {other:.3f} to {mean:.3f}.")
    return lines


def _beside_params(lead: Lead, split: str) -> str:
    sure = "beats" if lead.low > 0 else "does not beat" if lead.difference <= 0 else "is ahead of, but not surely,"
    verb = "above" if lead.difference > 0 else "below"
    return (
        f"On {split} the formula {sure} the parameter count: mean τ {abs(lead.difference):.3f} {verb} params "
        f"(95 % interval of the difference {lead.low:+.3f} to {lead.high:+.3f})."
    )


def _report_table(report: Report, split: str, settings: EvolutionSettings) -> Table:
    """Tasks by predictors: tau with its interval below, and the formula's partial tau given params."""
    rows = [row for row in report.rows if row.split == split]
    predictors = list(dict.fromkeys(row.predictor for row in rows))
    title = f"Kendall τ-b on the {split} split, with 95 % bootstrap intervals"
    if set(settings.weights) != {1.0}:
        title += f"; the mean weighs {', '.join(_weighted_tasks(settings))}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, title_style="bold", padding=(0, 1, 0, 0))
    table.add_column("task", overflow="fold")  # what gives way in a narrow terminal
    table.add_column("n", justify="right", no_wrap=True)
    for predictor in predictors:
        table.add_column(predictor, justify="right", no_wrap=True, style="bold" if predictor == FORMULA else "")
    table.add_column("formula\ngiven params", justify="right", no_wrap=True)
    for benchmark, tasks in _by_benchmark(rows).items():
        table.add_row(Text(benchmark or "all tasks", style="dim"))
        for task in tasks:
            cells = [report.row(predictor, split, task, benchmark) for predictor in predictors]
            partial = f"{cells[0].partial:.3f}" if cells[0].partial is not None else ""
            table.add_row(f"  {task}", str(cells[0].architectures), *(_cell(row) for row in cells), partial)
    return table


def _by_benchmark(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Tasks by benchmark, in order; the mean over all tasks last, under no benchmark."""
    found: dict[str, list[str]] = {}
    for row in sorted(rows, key=lambda row: row.task == MEAN and not row.benchmark):
        tasks = found.setdefault(row.benchmark, [])
        if row.task not in tasks:
            tasks.append(row.task)
    return found


def _cell(row: Row) -> str:
    return f"{row.tau:.3f}\n{row.low:.2f}..{row.high:.2f}"
