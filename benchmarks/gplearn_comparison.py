"""`autoprox evolve --grammar tabular` beside gplearn's symbolic regression, on the same table and in the same time.

    python benchmarks/gplearn_comparison.py [--bench NAME]... [--seconds S] [--seeds N]

It needs gplearn (pip install gplearn) and the benchmarks (autoprox bench import FILE); without --bench these are
hytas-indian and hytas-houston. Both sides read the same statistics of the same architectures, maximise the same mean
Kendall tau on the evolve split for so many seconds of the processor, in one process, and choose among their ten best by
the validation split. gplearn runs with its default penalty on length, and without one. A run ends with the generation
in which its time is over, so each is a little longer; the table says how long. The test split is looked at once for
each of the results printed.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import kendalltau

from autoprox.bench_cache.benchmarks.library import load_benchmark
from autoprox.bench_cache.benchmarks.table import STRUCTURE, Benchmark
from autoprox.bench_cache.statistics.columns import TabularScorer, common_statistics
from autoprox.evolution import EvolutionWatcher, run_evolution, start_evolution
from autoprox.evolve import TABULAR, Judge, choose_tasks, kendall
from autoprox.evolve.choosing import FINALISTS
from autoprox.primitives import Formula

POPULATION, PARSIMONY = 1000, 0.001  # gplearn's defaults; both sides have the population
#: All of gplearn's functions that are not periodic: those of the language, as far as gplearn has them.
FUNCTIONS = ("add", "sub", "mul", "div", "sqrt", "log", "abs", "neg", "inv", "max", "min")
ENDLESS = 10**9  # generations; time ends a run

Taus = list[float]
Tau = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class Outcome:
    """What a run found, how many formulas it judged in how many seconds (none for what needs no run), and the taus of
    what it found on test."""

    text: str
    judged: int
    seconds: float
    taus: Taus


def judge_of(benchmarks: Sequence[Benchmark]) -> Judge:
    """The judge of all tasks, as `--grammar tabular` has it."""
    return Judge([TabularScorer(benchmark) for benchmark in benchmarks], choose_tasks(benchmarks, ()))


def taus_of(judge: Judge, split: str, scores: Sequence[np.ndarray], tau: Tau = kendall) -> Taus:
    """Kendall's tau on each task, given scores for each benchmark; 0 where a score ranks nothing."""
    pairs = zip(judge.places, judge.tasks, strict=True)
    return [float(np.nan_to_num(tau(scores[place], judge.accuracies(task, split)))) for place, task in pairs]


def scipys(scores: np.ndarray, accuracies: np.ndarray) -> float:
    """Kendall's tau by scipy: what one gives gplearn, which has no tau of its own."""
    return float(kendalltau(scores, accuracies, method="asymptotic").statistic)


def formula_taus(judge: Judge, split: str, formula: Formula) -> Taus:
    """Kendall's tau of a formula on each task."""
    return taus_of(judge, split, [scores[0] for scores in judge.scores([formula], split)])


def ours(benchmarks: Sequence[Benchmark], seconds: float, seed: int, population: int = POPULATION) -> Outcome:
    """The formula that autoprox evolves."""
    began, judged, spent = time.process_time(), 0, 0.0

    def until(record) -> None:
        nonlocal judged, spent
        judged, spent = record["unique"], time.process_time() - began
        if spent > seconds:
            raise KeyboardInterrupt  # as Ctrl-C does: the best so far, chosen on validation

    with tempfile.TemporaryDirectory() as folder:
        start_evolution(
            benchmarks, (), Path(folder) / "run", grammar=TABULAR, generations=ENDLESS, population=population, seed=seed
        )
        result = run_evolution(Path(folder) / "run", watch=EvolutionWatcher(generation=until))
    formula = result.proxy.formula
    return Outcome(formula.text, judged, spent, formula_taus(judge_of(benchmarks), "test", formula))


def gplearns(
    benchmarks: Sequence[Benchmark],
    seconds: float,
    seed: int,
    parsimony: float,
    population: int = POPULATION,
    tau: Tau = scipys,
) -> Outcome:
    """The program that gplearn's SymbolicRegressor evolves, going on by generations until the time is over."""
    from gplearn.fitness import make_fitness  # here: another side can run without gplearn
    from gplearn.genetic import SymbolicRegressor

    judge, table = judge_of(benchmarks), common_statistics(benchmarks)
    inputs = {split: [scores.T for scores in judge.scores(table, split)] for split in ("evolve", "validation", "test")}
    together = np.concatenate(inputs["evolve"])

    def fitness(y: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> float:
        if len(predicted) != len(together) or not np.isfinite(predicted).all():
            return -1.0  # gplearn first tries a metric on two numbers
        return statistics.fmean(taus_of(judge, "evolve", parted(predicted, inputs["evolve"]), tau))

    made = SymbolicRegressor(
        population_size=population,
        generations=1,
        function_set=FUNCTIONS,
        const_range=(-1.0, 3.0),
        metric=make_fitness(function=fitness, greater_is_better=True, wrap=False),
        parsimony_coefficient=parsimony,
        warm_start=True,
        random_state=seed,
    )
    began, done = time.process_time(), 0
    with np.errstate(all="ignore"):
        while time.process_time() - began < seconds:
            done += 1
            made.set_params(generations=done)
            made.fit(together, np.zeros(len(together)))
        spent = time.process_time() - began
        programs = sorted(made._programs[-1], key=lambda program: program.fitness_, reverse=True)

        def taus(program, split: str) -> Taus:
            return taus_of(judge, split, [np.nan_to_num(program.execute(x)) for x in inputs[split]])

        distinct = list({str(program): program for program in programs}.values())[:FINALISTS]
        best = max(distinct, key=lambda program: statistics.fmean(taus(program, "validation")))
        return Outcome(named(str(best), table), done * population, spent, taus(best, "test"))


def parted(values: np.ndarray, parts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The values of each benchmark's architectures."""
    return np.split(values, np.cumsum([len(part) for part in parts])[:-1])


def named(program: str, table: Sequence[Formula]) -> str:
    """A program with our names in place of X0, X1, ..."""
    for number in reversed(range(len(table))):
        program = program.replace(f"X{number}", str(table[number]))
    return program


def best_single(benchmarks: Sequence[Benchmark]) -> Outcome:
    """The one statistic, or its negative, with the highest mean tau on evolve, and its taus on test."""
    judge, table = judge_of(benchmarks), common_statistics(benchmarks)
    on_evolve = {formula: statistics.fmean(formula_taus(judge, "evolve", formula)) for formula in table}
    best = max(table, key=lambda formula: abs(on_evolve[formula]))
    sign = 1.0 if on_evolve[best] > 0 else -1.0
    taus = [sign * tau for tau in formula_taus(judge, "test", best)]
    return Outcome(str(best) if sign > 0 else f"-{best}", 0, 0.0, taus)


def row(name: str, results: Sequence[Outcome]) -> list[str]:
    """A line of the table: taus as mean over the seeds, with their range where there are several."""
    columns = [*zip(*(result.taus for result in results), strict=True)]
    means = [statistics.fmean(result.taus) for result in results]
    judged, seconds = (round(statistics.fmean(getattr(r, name) for r in results)) for name in ("judged", "seconds"))
    return [name, f"{judged:,}" if judged else "", str(seconds or ""), *map(shown, [*columns, means])]


def shown(taus: Sequence[float]) -> str:
    """The mean, and the range."""
    mean = f"{statistics.fmean(taus):.3f}"
    return mean if len(taus) == 1 else f"{mean} ({min(taus):.3f}..{max(taus):.3f})"


@click.command()
@click.option("--bench", "benches", multiple=True, default=("hytas-indian", "hytas-houston"), show_default=True)
@click.option("--seconds", default=60.0, show_default=True, help="Processor time for each run of either side.")
@click.option("--seeds", default=1, show_default=True, help="Runs of either side.")
def main(benches: Sequence[str], seconds: float, seeds: int) -> None:
    """Print one table: test Kendall tau of both sides, and of what needs no evolution."""
    console, benchmarks = Console(width=160), [load_benchmark(ref) for ref in benches]
    judge = judge_of(benchmarks)
    sides: dict[str, Callable[[Sequence[Benchmark], float, int], Outcome]] = {
        "autoprox --grammar tabular": ours,
        f"gplearn, parsimony {PARSIMONY}": partial(gplearns, parsimony=PARSIMONY),
        "gplearn, parsimony 0": partial(gplearns, parsimony=0.0),
    }
    found: dict[str, list[Outcome]] = {name: [] for name in sides}
    for seed in range(seeds):
        for name, side in sides.items():
            found[name].append(side(benchmarks, seconds, seed))
            console.print(f"{name}, seed {seed}: {found[name][-1].text}", markup=False, soft_wrap=True)
    table = Table(title=f"Kendall tau on test, {seconds:g} s a run, mean (range) of {seeds} seeds")
    for heading in ("", "judged", "seconds", *(f"{judge.benchmark(t).name}:{t.name}" for t in judge.tasks), "mean"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, results in found.items():
        table.add_row(*row(name, results))
    single = best_single(benchmarks)
    table.add_row(*row(f"best single on evolve: {single.text}".replace("[", r"\["), [single]))
    for formula in common_statistics(benchmarks):
        if formula.text in STRUCTURE:
            table.add_row(*row(formula.text, [Outcome(formula.text, 0, 0.0, formula_taus(judge, "test", formula))]))
    console.print(table)


if __name__ == "__main__":
    main()
