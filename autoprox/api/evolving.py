"""Evolve: a formula from benchmarks, as one function that Python and the command line call."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autoprox.api.arguments import (
    BenchmarkLike,
    Operations,
    benchmarks,
    checked_workers,
    known_operations,
    run_directory,
    spaces_of,
    texts,
)
from autoprox.api.results import KeptResult
from autoprox.bench_cache.benchmarks.library import DEFAULT_BENCHMARK
from autoprox.bench_cache.runtime.devices import agreed_device
from autoprox.bench_cache.runtime.files import advising
from autoprox.display.evolution import EvolutionScreen, heading, networks_read, result_parts, resume_command
from autoprox.display.terminal import progress_console, say
from autoprox.evolution import (
    JOURNAL,
    EvolutionResult,
    read_settings,
    run_evolution,
    start_evolution,
    stored_benchmarks,
)
from autoprox.evolve import EvolutionSettings, SettingsError
from autoprox.primitives import Vocabulary
from autoprox.vocabulary import as_options

RUNS = Path("runs")


@dataclass(frozen=True, repr=False, kw_only=True)
class Evolution(EvolutionResult, KeptResult):
    """What `autoprox.evolve` returns.

    Attributes:
        proxy: the formula that was found, which scores models; see `Proxy`.
        report: its Kendall's tau on every task and split, beside the structural baselines; see `Report`.
        finished: False where the run was interrupted: then `report` has no test split.
        generations: the number of the last generation.
        history: for each generation its number, how many formulas were tried until then (`unique`), and the best
            `formula` with its `joint` fitness on the evolve and its `validation` tau on the validation split.
        fittest: the best formula on the evolve split.
        looks: how often the test split was looked at over the life of the run, in words.
        held_out: the report on what was held out whole; None where nothing was.
        settings: all that the result depends on; see `EvolutionSettings`.
        out: the run directory, with which `autoprox.evolve(out=..., resume=True)` goes on.
    """

    settings: EvolutionSettings
    out: Path

    @property
    def formula(self) -> str:
        """The text of the formula."""
        return self.proxy.formula.text

    def parts(self) -> Iterator[str | Text | Table]:
        """Yield the formula, its report and the verdict."""
        return result_parts(self, self.settings)

    def records(self) -> list[dict[str, Any]]:
        """Return a line for each predictor on each task and split: its tau, the interval and the partial taus."""
        return [asdict(row) for row in self.report.rows]

    def record(self) -> dict[str, Any]:
        """Return formula, provenance, report and how the run ended, as JSON values."""
        held_out = None if self.held_out is None else [asdict(row) for row in self.held_out.rows]
        return {
            "formula": self.formula,
            "finished": self.finished,
            "generations": self.generations,
            "out": str(self.out),
            "provenance": dict(self.proxy.provenance),
            "report": self.records(),
            "leads": [asdict(lead) for lead in self.report.leads],
            "held_out": held_out,
            "looks": self.looks,
        }

    def __repr__(self) -> str:
        state = "" if self.finished else ", finished=False"
        return f"Evolution(formula={self.formula!r}, generations={self.generations}, out={str(self.out)!r}{state})"


def evolve(
    benchmark: BenchmarkLike | Sequence[BenchmarkLike] | None = None, *,
    tasks: str | Sequence[str] = (), leave_out_tasks: str | Sequence[str] = (),
    leave_out_benchmarks: BenchmarkLike | Sequence[BenchmarkLike] = (),
    generations: int | None = None, population: int | None = None, seed: int | None = None,
    grammar: str | None = None, strategy: str | None = None, refine: str | None = None, joint: str | None = None,
    max_nodes: int | None = None, founders: int | None = None, retries: int | None = None,
    batch: int | None = None, costly: bool | None = None, steps: int | None = None, device: str | None = None,
    fitness: str | None = None, operations: Operations = (), space: str | Sequence[str] = (),
    workers: int = 1, executor: Executor | None = None,
    out: str | os.PathLike[str] | None = None, resume: bool = False, progress: bool = True,
) -> Evolution:  # fmt: skip
    """Evolve a formula that ranks untrained vision transformers as training would.

    `benchmark` is a benchmark, a name or a file, or several; none is the embedded mini-vit. `tasks` are names or
    patterns (`*_kd`), with a weight if it is not 1 (`pets=2`); none means all. What is left out is held out whole, and
    the report judges the formula on it. The choices from `generations` to `steps`, and `fitness`, are those of
    `EvolutionSettings`, which has the defaults; `device` is as in `rank`. `operations` and `space` name a user's own
    (FILE.py:NAME). The work is done by `workers` processes or by an `executor`; a script with several needs
    `if __name__ == "__main__":`.

    Everything is kept in the run directory `out`, by default the next of runs/001, runs/002, ... With `resume`, the run
    there (or the last one) goes on, up to `generations` if these are given. KeyboardInterrupt ends early with the best
    so far. `progress` False prints nothing.

    Raises:
        SettingsError, BenchmarkError, ArgumentError: an argument cannot be.
        DeviceError: there is no such device, or it has no memory left.
        JournalError: there is a run in `out` already, or none to resume, or its files are damaged.
        OperationError, ArchitectureError: the user's own operations or spaces cannot be loaded.
    """
    given = {"generations": generations, "population": population, "seed": seed, "grammar": grammar,
             "strategy": strategy, "refine": refine, "joint": joint, "max_nodes": max_nodes,
             "founders": founders, "retries": retries,
             "batch": batch, "costly": costly, "steps": steps, "fitness": fitness}  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    checked_workers(workers)
    if device is not None:
        given["device"] = agreed_device(device, executor or workers)
    known, references = known_operations(operations)
    folder, spaces = run_directory(RUNS, JOURNAL, out, resume), texts(space)
    console = progress_console(silent=not progress)
    judged_on = [benchmark, tasks, leave_out_tasks, leave_out_benchmarks]
    if resume:
        check_resumed(folder, given, judged_on)
    else:
        spaces = _start(folder, judged_on, spaces, known, given)
    work = _Work(folder, spaces, known, references, workers, executor)
    return _carried_on(work, generations, console)


def check_resumed(out: Path, given: Mapping[str, Any], judged_on: Sequence[object]) -> None:
    """Refuse what would change a run's result half-way; `judged_on` are the choices of benchmarks and tasks.

    Raises:
        SettingsError: a choice is not the run's.
        JournalError: there is no run.
    """
    stored = asdict(read_settings(out))
    for name in sorted(given.keys() - {"generations"}):
        if given[name] != stored[name]:
            raise SettingsError(f"the run in {out} has --{name} {stored[name]}; resume it without --{name}")
    if any(judged_on):
        raise SettingsError(
            f"the run in {out} has its benchmarks and tasks; resume it without --bench and --tasks, and without "
            "--leave-out-task and --leave-out-bench"
        )


def _start(out: Path, judged_on: Sequence[Any], spaces: Sequence[str], operations: Vocabulary,
           given: Mapping[str, Any]) -> list[str]:  # fmt: skip
    """Make the run directory, and return the users' spaces of its benchmarks."""
    benchmark, tasks, leave_out_tasks, leave_out_benchmarks = judged_on
    evolved = [benchmark] if isinstance(benchmark, BenchmarkLike) else list(benchmark or [DEFAULT_BENCHMARK])
    held = leave_out_benchmarks
    found = benchmarks([*evolved, *([held] if isinstance(held, BenchmarkLike) else held)], spaces)
    evolve_on, held_out = found[: len(evolved)], found[len(evolved) :]
    with advising("the run needs a folder that can be written and has room; or choose another --out"):
        start_evolution(evolve_on, texts(tasks), out, operations, texts(leave_out_tasks), held_out, **given)
    return spaces_of(found, spaces)


@dataclass(frozen=True)
class _Work:
    """A run in its directory, with the user's own code that it needs, and who does the work."""

    out: Path
    spaces: Sequence[str]
    operations: Vocabulary
    references: Sequence[str]
    workers: int
    executor: Executor | None


def _carried_on(work: _Work, generations: int | None, console: Console) -> Evolution:
    """Show the run's heading and its progress, and return its result."""
    out, settings = work.out, read_settings(work.out)
    until = settings.generations if generations is None else generations
    say(console, heading(settings, out, until))
    for line in networks_read(settings, stored_benchmarks(out, settings, work.spaces)):
        say(console, line)
    go_on = resume_command(out, as_options(work.spaces, work.references))
    with (
        advising(f"nothing that was finished is lost; when this is mended, go on with {go_on}"),
        EvolutionScreen(console, until) as screen,
    ):
        result = run_evolution(
            out,
            operations=work.operations,
            spaces=work.spaces,
            generations=generations,
            workers=work.workers,
            executor=work.executor,
            watch=screen.watch(),
        )
    return Evolution(**vars(result), settings=settings, out=out)
