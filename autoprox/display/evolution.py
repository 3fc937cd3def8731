"""What is shown of an evolution: the progress of a run, and what came out of it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from autoprox.bench_cache.benchmarks.library import file_of
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.spaces.registry import pinned
from autoprox.display.terminal import Counting, duration, make_table, number, numbers, on_device, redraws, say
from autoprox.evolution import EvolutionResult, EvolutionWatcher, benchmark_copy, stored_benchmarks
from autoprox.evolve import DEPTH_WIDTH, FITTED, FORMULA, MEAN, TABULAR, EvolutionSettings, Report, Row, verdict
from autoprox.evolve.assembly import probe_of
from autoprox.rank.caption import data_inputs, made_inputs
from autoprox.scoring import few_step_note
from autoprox.vocabulary import as_options

#: The seed of the networks' weights and of made-up samples, which an evolution never changes.
NETWORK_SEED = 0


def weighted_tasks(settings: EvolutionSettings) -> list[str]:
    """Return the tasks as `--tasks` takes them, each with its weight unless that is 1."""
    return [
        task if weight == 1 else f"{task}={weight:g}"
        for task, weight in zip(settings.tasks, settings.weights, strict=True)
    ]


def networks_read(settings: EvolutionSettings, benchmarks: Sequence[Benchmark]) -> Iterator[str]:
    """Yield what the networks of an evolution run on: a line for each kind of batch; none where no network runs."""
    if settings.grammar == TABULAR:
        return
    of_benchmark = {
        benchmark: [task for task in benchmark.tasks if f"{benchmark.name}:{task}" in settings.tasks]
        for benchmark in benchmarks
    }
    if settings.steps:
        yield from made_inputs({f"steps{settings.steps}"}, NETWORK_SEED)
    if probe_of(settings, benchmarks) == "data":
        for benchmark, tasks in of_benchmark.items():
            yield from data_inputs(benchmark, tasks, settings.batch, NETWORK_SEED)
        return
    yield from made_inputs({"noise"}, NETWORK_SEED)
    unread = [task for benchmark, tasks in of_benchmark.items() for task in tasks if task in benchmark.inputs]
    if unread:
        yield (
            f"The images of {', '.join(unread)} are not read, because other tasks have none: evolve on the tasks with "
            "images alone (--tasks), or give the others images with `autoprox bench images`."
        )


class EvolutionScreen:
    """The progress of a run: a bar while statistics are built, then a live table; plain lines without a terminal."""

    ROWS = 12

    def __init__(self, console: Console, generations: int) -> None:
        self.console, self.generations = console, generations
        self.records: list[tuple[Mapping[str, Any], float, float]] = []
        self.begun: tuple[float, int, int] | None = None
        self.bar: Counting | None = None
        self.live: Live | None = None

    def __enter__(self) -> EvolutionScreen:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop_bar()
        if self.live:
            self.live.stop()

    def watch(self) -> EvolutionWatcher:
        """Return the callbacks for `run_evolution`."""
        return EvolutionWatcher(
            self.building,
            self.generation,
            self.reporting,
            lambda text: say(self.console, text),
            self.judging,
            self.reading,
        )

    def building(self, done: int, of: int) -> None:
        """Show how many networks have their statistics."""
        if self.bar is None and not redraws(self.console):
            say(self.console, f"building statistics of {of} networks")
        self._count("building statistics", done, of)

    def reading(self, done: int, of: int) -> None:
        """Show how many large networks were read for the finalists."""
        self._count("reading networks", done, of)

    def _count(self, what: str, done: int, of: int) -> None:
        if self.bar is None:
            self.bar = Counting(self.console, what).__enter__()
        self.bar(done, of)
        if done == of:
            self._stop_bar()

    def _stop_bar(self) -> None:
        if self.bar is not None:
            self.bar.__exit__()
            self.bar = None

    def judging(self, done: int) -> None:
        """Say that formulas are judged from here on: the first ones take seconds, as statistics are read."""
        if done <= self.generations:
            say(self.console, f"going on after generation {done - 1}" if done else "judging the first formulas", "dim")

    def generation(self, record: Mapping[str, Any]) -> None:
        """Show a generation, whose record is the journal's."""
        now = time.monotonic()
        if self.begun is None:
            self.begun = (now, record["generation"], record["unique"])
        began, first, unique = self.begun
        elapsed = now - began
        rate = (record["unique"] - unique) / elapsed if elapsed else 0.0
        done = record["generation"] - first
        left = elapsed / done * (self.generations - record["generation"]) if done else float("nan")
        self.records.append((record, rate, left))
        if not redraws(self.console):
            say(self.console, _line(*self.records[-1]))
            return
        if self.live is None:
            self.live = Live(console=self.console, refresh_per_second=4)
            self.live.start()
        self.live.update(self._table())

    def reporting(self) -> None:
        """Say that the evolution has ended and the report is being made."""
        self._stop_bar()
        if self.live:
            self.live.stop()
        say(self.console, "judging the finalists on held-out architectures", "dim")

    def _table(self) -> Table:
        heads = ("generation", "best joint τ", "validation τ", "unique", "evals/s", "left")
        formula = Column("best formula", overflow="ellipsis", no_wrap=True)
        table = make_table("", *numbers(*heads), formula, ruled=False)
        for record, rate, left in self.records[-self.ROWS :]:
            best = record["best"]
            table.add_row(
                f"{record['generation']}/{self.generations}", number(best["joint"]), number(best["validation"]),
                f"{record['unique']:,}", f"{rate:.1f}", duration(left), Text(best["formula"]),
            )  # fmt: skip
        return table


def _line(record: Mapping[str, Any], rate: float, left: float) -> str:
    best = record["best"]
    taus = f"joint τ {number(best['joint'])}  validation τ {number(best['validation'])}"
    return (
        f"generation {record['generation']}  {taus}  "
        f"unique {record['unique']}  {rate:.1f} evals/s  left {duration(left)}  {best['formula']}"
    )


def why_chosen(result: EvolutionResult, settings: EvolutionSettings) -> list[str]:
    """Return a line that says why the formula is not the last best that was shown; none if it is."""
    sampled = ", by a sample of each matrix," if settings.sampled else ""
    if result.proxy.formula.text == result.fittest:
        return []
    return [
        "On validation it is the shortest that is as good as the best, within the noise; the very best on the evolve "
        f"split{sampled} was {result.fittest}"
    ]


def heading(settings: EvolutionSettings, out: Path, generations: int) -> Text:
    """Return what a run evolves on and how, up to which generation."""
    held_out = f"held out whole: {', '.join(settings.held_out)}\n" if settings.held_out else ""
    refine = "" if settings.refine == "none" else f"refine {settings.refine}, "
    fitness = f"fitness {settings.fitness}, " if settings.sampled else ""
    return Text.assemble(
        ("autoprox evolve", "bold"),
        f" → {out}\n"
        f"tasks {', '.join(weighted_tasks(settings))}\n"
        f"{held_out}"
        f"grammar {settings.grammar}, strategy {settings.strategy}, joint {settings.joint}, "
        f"{fitness}{refine}population {settings.population}, generations {generations}, seed {settings.seed}"
        f"{on_device(settings.device)}",
    )


def result_parts(result: EvolutionResult, settings: EvolutionSettings) -> Iterator[str | Text | Table]:
    """Yield the formula, why it was chosen, the front, the report and the verdict, as texts and tables."""
    yield Text.assemble("\n", ("formula", "bold"), f"  {result.proxy.formula.text}")
    note = few_step_note(result.proxy.probes)
    if note:
        yield f"It {note}."
    yield from why_chosen(result, settings)
    if result.front:
        yield _front_table(result)
    for split in dict.fromkeys(row.split for row in result.report.rows):
        yield _report_table(result.report, split, _title(split, settings))
    yield from verdict(result.report, "test" if result.finished else "validation")
    if result.held_out is not None:
        title = "Kendall τ-b on the test split of the tasks that were held out whole"
        yield _report_table(result.held_out, "test", title)
        yield f"Held out whole: {' '.join(verdict(result.held_out, 'test'))}"
        yield f"There {FITTED} was fitted to the evolve split of the very task, which evolution never saw."
    yield result.looks
    if not result.finished:
        yield f"Interrupted after generation {result.generations}: the test split was not looked at."


def _front_table(result: EvolutionResult) -> Table:
    """Return the table of the front, the chosen formula in bold."""
    title = "The best formula of each complexity (nodes) that no simpler one equals, by joint τ"
    table = make_table(title, *numbers("complexity", "evolve", "validation"), "formula")
    for row in result.front:
        validation = "–" if row.validation is None else number(row.validation)
        style = "bold" if row.formula == result.proxy.formula.text else ""
        table.add_row(str(row.complexity), number(row.evolve), validation, Text(row.formula), style=style)
    return table


def next_steps(
    result: EvolutionResult,
    settings: EvolutionSettings,
    out: Path,
    spaces: Sequence[str] = (),
    operations: Sequence[str] = (),
) -> Iterator[str]:
    """Yield how to go on with an interrupted run, what was saved, and a command that uses the formula.

    `spaces` and `operations` are the user's own, which commands have to name again.
    """
    if not result.finished:
        yield f"Go on with: {resume_command(out, as_options(spaces, operations))}"
    yield f"Saved in {out}: proxy.json, report.json, report.csv, scores.csv, generations.csv, journal.jsonl"
    yield f"As a page with pictures: autoprox report {shlex.quote(str(out))}"
    yield f"Next: {_next_command(result, settings, out, spaces, operations)}"


def _next_command(
    result: EvolutionResult,
    settings: EvolutionSettings,
    out: Path,
    spaces: Sequence[str],
    operations: Sequence[str],
) -> str:
    """Return a command that uses the formula: search on a table for one of a table's columns, else export."""
    run = shlex.quote(str(out))
    if not result.proxy.training_free:  # which no exported file can score
        return f"autoprox export {run} --to latex --out formula.tex{as_options((), operations)}"
    if not any(terminal.statistic.column for terminal in result.proxy.formula.terminals()):
        return f"autoprox export {run} --to python --out proxy.py{as_options((), operations)}"
    benchmark = stored_benchmarks(out, settings, spaces)[0]
    copy, installed = benchmark_copy(out, benchmark.name), file_of(benchmark.name)
    named = installed is not None and installed.read_bytes() == copy.read_bytes()
    own = as_options([space for space in spaces if pinned(space) == benchmark.space], operations)
    return f"autoprox search --bench {benchmark.name if named else shlex.quote(str(copy))} --proxy {run}{own}"


def resume_command(out: Path, own: str = "") -> str:
    """Return the command that goes on with the run in a folder; `own` is what `as_options` returns."""
    return f"autoprox evolve --resume --out {out}{own}"


def _title(split: str, settings: EvolutionSettings) -> str:
    weighted = f"; the mean weighs {', '.join(weighted_tasks(settings))}" if set(settings.weights) != {1.0} else ""
    return f"Kendall τ-b on the {split} split, with 95 % bootstrap intervals{weighted}"


def _report_table(report: Report, split: str, title: str) -> Table:
    """Return the table of tasks by predictors: tau, and what is left of the formula's given fitted structure.

    The intervals of the formula and of fitted structure stand below; those of the others are in report.csv.
    """
    rows = [row for row in report.rows if row.split == split]
    predictors = list(dict.fromkeys(row.predictor for row in rows))
    others = [_TWO_LINES.get(predictor, predictor) for predictor in predictors if predictor != FORMULA]
    columns = [*numbers("n"), *numbers(FORMULA, style="bold"), *numbers(*others, "formula\ngiven fitted")]
    table = make_table(title, "task", *columns)
    for benchmark, tasks in _by_benchmark(rows).items():
        table.add_row(Text(benchmark or "all tasks", style="dim"))
        for task in tasks:
            cells = [report.row(predictor, split, task, benchmark) for predictor in predictors]
            left = "" if cells[0].given_fitted is None else number(cells[0].given_fitted)
            table.add_row(f"  {task}", str(cells[0].architectures), *(_cell(row) for row in cells), left)
    return table


def _by_benchmark(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Return the tasks by benchmark, in order; the mean over all tasks comes last, under no benchmark."""
    found: dict[str, list[str]] = {}
    for row in sorted(rows, key=lambda row: row.task == MEAN and not row.benchmark):
        tasks = found.setdefault(row.benchmark, [])
        if row.task not in tasks:
            tasks.append(row.task)
    return found


#: Names of predictors as the table's head has them.
_TWO_LINES = {DEPTH_WIDTH: DEPTH_WIDTH.replace("× ", "×\n"), FITTED: FITTED.replace(" ", "\n")}


def _cell(row: Row) -> str:
    tau = number(row.tau)
    return f"{tau}\n{row.low:.2f}..{row.high:.2f}" if row.predictor in (FORMULA, FITTED) else tau
