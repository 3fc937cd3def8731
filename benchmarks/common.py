"""What the benchmark scripts share: networks, formulas that an evolution asked for, clocks, and the table's frame."""

import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table
from scipy.stats import linregress

from autoprox.bench_cache.benchmarks.library import DEFAULT_BENCHMARK, load_benchmark
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.runtime.home import data_home
from autoprox.bench_cache.spaces.registry import InputSpec, get_space
from autoprox.bench_cache.statistics import held_small, in_memory
from autoprox.bench_cache.statistics.networks import NetworkScorer
from autoprox.bench_cache.statistics.number_store import NumberStore
from autoprox.bench_cache.statistics.scorer import network_scorer
from autoprox.bench_cache.statistics.store import StatisticsCache, is_matrix
from autoprox.bench_cache.statistics.subject import Subject
from autoprox.bench_cache.statistics.version import statistics_version
from autoprox.evolution import EvolutionWatcher, run_evolution, start_evolution
from autoprox.evolve import Judge, Task
from autoprox.primitives import Formula, Reading, parse
from autoprox.primitives.evaluate import reductions

Generations = list[list[Formula]]

#: Real-size networks: ImageNet's input, so 196 patches and a class token.
REAL_SIZE = InputSpec()


@contextmanager
def cold_home() -> Iterator[Path]:
    """A folder of its own as AUTOPROX_HOME, empty at first and gone afterwards; child processes see it too."""
    before = os.environ.get("AUTOPROX_HOME")
    with tempfile.TemporaryDirectory(prefix="autoprox-bench-") as folder:
        os.environ["AUTOPROX_HOME"] = folder
        try:
            yield Path(folder)
        finally:
            os.environ.pop("AUTOPROX_HOME")
            if before is not None:
                os.environ["AUTOPROX_HOME"] = before


# --- what is measured ---


def mini(count: int | None = None, tasks: Sequence[str] = (), *, images: bool = True) -> Benchmark:
    """The embedded benchmark: `count` of its architectures, or all, and the tasks of these names, or all.

    Without images, evolution reads the probe `noise`, as on benchmarks that come without any.
    """
    whole = load_benchmark(DEFAULT_BENCHMARK)
    names = tasks or tuple(whole.tasks)
    chosen = part_of(whole, np.arange(len(whole))[:count])
    return replace(
        chosen,
        tasks={task: chosen.tasks[task] for task in names},
        inputs={task: whole.inputs[task] for task in names if images},
    )


def part_of(benchmark: Benchmark, indices: np.ndarray) -> Benchmark:
    """Some architectures of a benchmark."""
    return replace(
        benchmark,
        architectures=tuple(benchmark.architectures[i] for i in indices),
        tasks={task: values[indices] for task, values in benchmark.tasks.items()},
        columns={column: values[indices] for column, values in benchmark.columns.items()},
        seeds={},
    )


def real_size(evolve: int, space: str = "autoformer-tiny", *, others: int = 0) -> Benchmark:
    """Random networks of a space at 224 px: so many of the evolve split, and of each other. The accuracies are made up.

    The first ones are the same whatever the numbers.
    """
    of, rng, count = get_space(space), Random(0), 4 * evolve + 10 * others + 10
    distinct = {of.key(arch): arch for arch in (of.sample(rng) for _ in range(count))}
    accuracies = np.random.default_rng(0).uniform(0, 100, len(distinct))
    whole = Benchmark(
        f"{space}-224px", space, REAL_SIZE, "drawn at random", tuple(distinct.values()), {"made-up": accuracies}
    )
    chosen = [indices[: evolve if split == "evolve" else others] for split, indices in whole.splits().items()]
    return part_of(whole, np.concatenate(chosen))


def evolved(benchmark: Benchmark, generations: int, population: int, workers: int = 1) -> Generations:
    """The formulas that an evolution judges, generation by generation, as its journal has them.

    Afterwards the statistics that it read are in the cache. It is interrupted after the last generation, so that the
    test split's networks need not be built.
    """
    found: Generations = []

    def until(record) -> None:
        found.append([parse(text) for text, _ in record["judged"]])
        if record["generation"] == generations:
            raise KeyboardInterrupt

    with tempfile.TemporaryDirectory() as folder:
        start_evolution([benchmark], (), Path(folder) / "run", generations=generations + 1, population=population)
        run_evolution(Path(folder) / "run", workers=workers, watch=EvolutionWatcher(generation=until))
    return found


def scorers_of(benchmark: Benchmark, executor: Executor | None = None) -> list[NetworkScorer]:
    """A scorer for each of the benchmark's networks that has seen nothing yet: what is remembered of formulas, in this
    process and on disk, is dropped. What the executor's processes remember is theirs: take new ones."""
    in_memory.HELD.clear()
    held_small.HELD_SMALL.clear()
    root = data_home() / "statistics"
    if benchmark.space:
        NumberStore(root / statistics_version(benchmark.space)).path.unlink(missing_ok=True)
    return [network_scorer(benchmark, root, network=each, executor=executor) for each in benchmark.networks()]


def judge_of(benchmark: Benchmark) -> Judge:
    """A judge of all tasks, in this process, that has seen nothing yet."""
    return Judge(scorers_of(benchmark), [Task(0, name) for name in benchmark.tasks])


def read_for(formula: Formula, cache: StatisticsCache, subject: Subject) -> Reading:
    """The cached statistics that one formula reads of one network, and no others."""
    terminals = [terminal for part in reductions([formula]) for terminal in part.terminals()]
    matrices = [(t.statistic.name, t.probe, t.role) for t in terminals if is_matrix(t.statistic.name)]
    return cache.read(subject, matrices, {t.statistic.name for t in formula.terminals()})


# --- clocks and fits ---


def seconds(function: Callable[[], object]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def alternating(functions: Sequence[Callable[[], object]], repeats: int) -> np.ndarray:
    """Seconds, repeats × functions. They take turns, so that what else the machine does falls on all alike."""
    return np.array([[seconds(function) for function in functions] for _ in range(repeats)])


@dataclass(frozen=True)
class Exponent:
    """The slope of log(cost) over log(size), with its standard error (NaN for two points)."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.2f}" + ("" if np.isnan(self.error) else f" ± {self.error:.2f}")


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> Exponent:
    """Fit cost = c · size^exponent by least squares of the logarithms."""
    fit = linregress(np.log(sizes), np.log(costs))
    return Exponent(float(fit.slope), float(fit.stderr) if len(sizes) > 2 else float("nan"))


# --- the table ---


def machine() -> str:
    """What the numbers depend on besides the code."""
    return (
        f"{_processor()}, {os.cpu_count()} cores; {platform.system()}, Python {platform.python_version()}, "
        f"torch {torch.__version__} ({torch.get_num_threads()} threads where not said otherwise)"
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> None:
    """Print the one table of a script; the first column is text, an empty row a rule. Notes go below."""
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for number, name in enumerate(columns):
        made.add_column(name, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        if row:
            made.add_row(*(cell.replace("[", r"\[") for cell in row))
        else:
            made.add_section()
    console = Console(width=140)
    console.print(made)
    for note in (*notes, machine()):
        console.print(note, markup=False, highlight=False)


def median(values: Sequence[float] | np.ndarray) -> float:
    """The median of several runs."""
    return float(np.median(values))


def number(value: float) -> str:
    """Three digits, thousands apart."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
