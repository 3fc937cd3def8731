"""Evaluations a second: a population at a time, and a whole evolution, beside the plain evaluator and re-running.

    python benchmarks/throughput.py [--quick] [--bench NAME]...

An evaluation is one formula scored on one network. All ways but the last run on one thread, and all score what one
evolution asked for:

- population: `Judge.judge`, generation by generation from an empty memory, taus included, statistics on disk;
- plain, in memory: `evaluate(formula, reading)` alone, one formula and one network at a time;
- plain: the same, with the statistics that the formula needs read from the cache first;
- re-running: build the network, run forward and backward as far as the formula needs, evaluate;
- an evolution: `autoprox.evolution.run_evolution` with two workers and the statistics on disk, from beginning to end:
  starting the workers, variation, journal, choice on the validation split.

The plain evaluator and re-running are timed on the same random pairs of formula and network.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import click
import numpy as np
import torch
from common import (
    Generations,
    alternating,
    cold_home,
    evolved,
    judge_of,
    median,
    mini,
    number,
    part_of,
    read_for,
    real_size,
    seconds,
    table,
)

from autoprox.bench_cache.benchmarks.library import load_benchmark
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.runtime.local_pool import keep_memory
from autoprox.bench_cache.statistics.store import StatisticsCache
from autoprox.bench_cache.statistics.subject import Subject
from autoprox.evolve import Judge
from autoprox.primitives import Formula, evaluate, requirements


@dataclass(frozen=True)
class Size:
    """How much of a benchmark is run."""

    pairs: int  # timed on the plain evaluator
    reruns: int  # of these, timed with the network run again
    repeats: int
    generations: int = 0  # of a whole evolution; 0 where there are too few networks for one
    population: int = 30


@dataclass(frozen=True)
class Pair:
    """A formula on a network, with its score by the population path."""

    formula: Formula
    subject: Subject
    score: float
    scale: float  # the formula's largest absolute score on the networks of the same task


def pairs_of(judge: Judge, generations: Generations, count: int) -> list[Pair]:
    """Random pairs of the evolve split, and their scores."""
    rng, formulas = Random(0), [formula for generation in generations for formula in generation]
    scores = judge.scores(formulas, "evolve")
    found = []
    for _ in range(count):
        row, task = rng.randrange(len(formulas)), rng.randrange(len(scores))
        column = rng.randrange(scores[task].shape[1])
        subject = judge.scorers[task].subjects[judge.architectures(task, "evolve")[column]]  # type: ignore[union-attr]
        values = scores[task][row]
        found.append(Pair(formulas[row], subject, float(values[column]), float(np.abs(values).max())))
    return found


def difference(pairs: Sequence[Pair], found: Sequence[float]) -> float:
    """The largest difference from the population path's scores, relative to the formula's largest score."""
    return max(abs(pair.score - value) / (pair.scale or 1.0) for pair, value in zip(pairs, found, strict=True))


def measure(benchmark: Benchmark, generations: Generations, size: Size) -> list[list[str]]:
    """The rows of a benchmark."""
    judge = judge_of(benchmark)
    for place, scorer in enumerate(judge.scorers):
        scorer.prepare((f for each in generations for f in each), judge.architectures(place, "evolve"))
    pairs, cache = pairs_of(judge, generations, size.pairs), StatisticsCache(judge.scorers[0].root)  # type: ignore[union-attr]
    networks = sum(len(judge.architectures(place, "evolve")) for place in range(len(judge.scorers)))
    formulas = sum(map(len, generations))
    readings = [read_for(pair.formula, cache, pair.subject) for pair in pairs]
    values: dict[str, list[float]] = {}

    def population() -> None:
        fresh = judge_of(benchmark)
        for generation in generations:
            fresh.judge(generation)

    def in_memory() -> None:
        values["plain, in memory"] = [evaluate(p.formula, r) for p, r in zip(pairs, readings, strict=True)]

    def plain() -> None:
        values["plain"] = [evaluate(p.formula, read_for(p.formula, cache, p.subject)) for p in pairs]

    def again() -> None:
        chosen = pairs[: size.reruns]
        values["re-running"] = [evaluate(p.formula, p.subject.probe(requirements([p.formula]))) for p in chosen]

    ways: dict[str, tuple[Callable[[], None], int]] = {
        "population": (population, formulas * networks),
        "plain, in memory": (in_memory, len(pairs)),
        "plain": (plain, len(pairs)),
        "re-running": (again, min(size.reruns, len(pairs))),
    }
    plain()  # warms up, and checks the files' checksums once
    counts = np.array([count for _, count in ways.values()])
    rates = counts / alternating([function for function, _ in ways.values()], size.repeats)
    heading = f"{benchmark.name}: {formulas:,} formulas × {networks} networks"
    rows = [[heading, "", "", "", "", ""]]
    for place, (name, (_, count)) in enumerate(ways.items()):
        apart = f"{difference(pairs[:count], values[name]):.1e}" if name in values else ""
        rows.append([*rated(f"  {name}", count, rates[:, place], rates[:, 2], rates[:, 3]), apart])
    if size.generations:
        rows.append([*whole(benchmark, size, rates[:, 2], rates[:, 3]), ""])
    return rows


def rated(name: str, count: int, rates: np.ndarray, plain: np.ndarray, again: np.ndarray) -> list[str]:
    """The cells of a way to evaluate, with its rate as a multiple of the plain evaluator's and of re-running."""
    return [name, f"{count:,}", *(number(median(each)) for each in (rates, rates / plain, rates / again))]


def whole(benchmark: Benchmark, size: Size, plain: np.ndarray, again: np.ndarray) -> list[str]:
    """The row of an evolution from beginning to end."""
    judge, asked = judge_of(benchmark), []  # nothing is remembered
    networks = sum(len(judge.architectures(place, "evolve")) for place in range(len(judge.scorers)))
    taken = seconds(lambda: asked.extend(evolved(benchmark, size.generations, size.population, workers=2)))
    count = networks * sum(map(len, asked))
    name = f"  an evolution of {size.generations} generations, 2 workers"
    return rated(name, count, np.array([count / taken]), plain, again)


def first(benchmark: Benchmark, count: int) -> Benchmark:
    """The first architectures of the evolve split."""
    return part_of(benchmark, benchmark.splits()["evolve"][:count])


@click.command()
@click.option("--quick", is_flag=True, help="A short run, for a check that everything works.")
@click.option("--bench", "benches", multiple=True, metavar="NAME", help="A benchmark of yours besides; repeatable.")
def main(quick: bool, benches: Sequence[str]) -> None:
    """Print one table: evaluations a second by each way, and how many times the population path is faster."""
    torch.set_num_threads(1)
    keep_memory()  # as a run's workers do: all ways gain by it
    others = [first(load_benchmark(name), 8) for name in benches]  # before AUTOPROX_HOME is another
    small, large = (Size(60, 15, 1, 3, 12), Size(8, 3, 1)) if quick else (Size(1500, 200, 3, 200), Size(60, 10, 3))
    networks = mini(40, ("digits",)) if quick else mini()
    with cold_home():
        rows = measure(networks, evolved(networks, 2 if quick else 12, small.population), small)
        asked = evolved(mini(40, ("digits",), images=False), 1 if quick else 3, 8 if quick else 20)
        for benchmark in (real_size(2 if quick else 4), *others):
            rows += [[], *measure(benchmark, asked, large)]
    table(
        "Evaluations a second, on one thread where not said otherwise",
        ("", "evaluations", "a second", "× plain", "× re-running", "largest difference"),
        rows,
        (
            "Generations are judged as an evolution asks for them: parts that earlier ones had are remembered, as in a "
            "real run. The plain evaluator and re-running are timed on random pairs of formula and network.",
            "The difference is that of the population path's score, relative to the formula's largest.",
        ),
    )


if __name__ == "__main__":
    main()
