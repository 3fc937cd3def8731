"""What scoring costs as there are more architectures, formulas, parameters and workers, with the fitted exponents.

    python benchmarks/scaling.py [--quick]

The formulas are what one evolution judges, generation by generation; the statistics are on disk. Small networks (the
embedded benchmark's) are scored from memory, after each statistic was read once; real-size ones (224 px) network by
network. Each row fits seconds = c · size^exponent; an exponent below 1 says that what is larger is cheaper for each.
"""

from collections.abc import Callable, Sequence
from random import Random

import click
import numpy as np
import torch
from common import (
    Generations,
    alternating,
    cold_home,
    evolved,
    exponent,
    mini,
    number,
    real_size,
    scorers_of,
    seconds,
    table,
)

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.runtime.local_pool import close_pool, local_pool
from autoprox.bench_cache.statistics.together import scores_together
from autoprox.primitives import Formula, parse

#: Each (statistic, probe) of evolution, so that reading it from disk is no part of what is timed.
READ = ("weight", "weight_grad[{}]", "weight_grad[synflow]", "act[{}]", "act_grad[{}]", "attn[{}]")


def first_reads(probe: str) -> list[Formula]:
    """Formulas that read every statistic once."""
    return [parse(f"sum(sum({text.format(probe)})) + sum(tokens)") for text in READ]


def small_run(
    benchmark: Benchmark, generations: Generations, chosen: np.ndarray | None = None
) -> Callable[[], Callable[[], None]]:
    """Ready to score small networks, the chosen of each task or all: statistics in memory, nothing else."""

    def ready() -> Callable[[], None]:
        scorers = scorers_of(benchmark)
        wanted = [np.arange(len(benchmark)) if chosen is None else chosen for _ in scorers]
        scores_together(scorers, first_reads("data"), wanted)

        def run() -> None:
            for generation in generations:
                scores_together(scorers, generation, wanted)

        return run

    return ready


def large_run(
    benchmark: Benchmark, generations: Generations, count: int | None = None
) -> Callable[[], Callable[[], None]]:
    """Ready to score real-size networks, which nobody has scored before."""

    def ready() -> Callable[[], None]:
        (scorer,) = scorers_of(benchmark)
        wanted = np.arange(len(benchmark) if count is None else count)

        def run() -> None:
            for generation in generations:
                scorer.scores(generation, wanted)

        return run

    return ready


def timed(runs: Sequence[Callable[[], Callable[[], None]]], repeats: int) -> np.ndarray:
    """Median seconds of each run, getting ready not counted; the runs take turns, after the first has warmed up."""
    runs[0]()()
    taken = [alternating([ready() for ready in [each]], 1)[0, 0] for _ in range(repeats) for each in runs]
    return np.median(np.reshape(taken, (repeats, len(runs))), axis=0)


def row(name: str, sizes: Sequence[float], costs: Sequence[float], unit: str = "") -> list[str]:
    """A line of the table."""
    return [
        name,
        "  ".join(f"{number(size)}{unit}" for size in sizes),
        "  ".join(number(cost) for cost in costs),
        str(exponent(sizes, costs)),
    ]


def of_small(networks: Benchmark, generations: Generations, repeats: int) -> list[list[str]]:
    """The rows of small networks."""
    tasks, whole = len(networks.tasks), len(networks)
    counts = [whole // 8, whole // 4, whole // 2, whole]
    halved = [len(generations) // part or 1 for part in (8, 4, 2, 1)]
    formulas = [sum(map(len, generations[:part])) for part in halved]
    order = np.argsort(networks.structure()["params"], kind="stable")
    quarters = np.array_split(order, 4)
    params = [float(networks.structure()["params"][quarter].mean()) for quarter in quarters]
    runs = [
        *(small_run(networks, generations, np.arange(count)) for count in counts),
        *(small_run(networks, generations[:part]) for part in halved),
        *(small_run(networks, generations, quarter) for quarter in quarters),
    ]
    by_count, by_formula, by_size = np.split(timed(runs, repeats), 3)
    return [
        row("small: networks", [tasks * count for count in counts], by_count),
        row("small: formulas", formulas, by_formula),
        row("small: parameters", params, by_size),
    ]


def of_large(generations: Generations, counts: Sequence[int], spaces: Sequence[str], repeats: int) -> list[list[str]]:
    """The rows of real-size networks."""
    flat = [formula for generation in generations for formula in generation]
    mixed = Random(0).sample(flat, len(flat))  # so that a few of them are as costly as the others
    several = real_size(max(counts))
    halved = [len(flat) // part for part in (8, 4, 2, 1)]
    singles = [real_size(1, space) for space in spaces]
    for benchmark in (several, *singles):
        scorers_of(benchmark)[0].prepare(flat, range(len(benchmark)))
        scorers_of(benchmark)[0].scores(first_reads("noise"), range(len(benchmark)))  # checks the files once
    params = [float(single.structure()["params"][0]) / 1e6 for single in singles]
    runs = [
        *(large_run(several, generations, count) for count in counts),
        *(large_run(several, [mixed[:part]], counts[0]) for part in halved),
        *(large_run(single, generations) for single in singles),
    ]
    costs = timed(runs, repeats)
    by_count, by_formula, by_size = np.split(costs, [len(counts), len(counts) + len(halved)])
    return [
        row("real-size: networks", counts, by_count),
        row("real-size: formulas", halved, by_formula),
        row("real-size: parameters", params, by_size, " M"),
    ]


def with_workers(benchmark: Benchmark, generations: Generations, probe: str, workers: int) -> float:
    """Seconds to score all but the first of the generations, which warms up."""
    pool = local_pool(workers)  # new, because workers remember what they have computed
    try:
        scorers = scorers_of(benchmark, pool)
        wanted = [np.arange(len(benchmark)) for _ in scorers]

        def score(several: Generations) -> None:
            for formulas in several:
                scores_together(scorers, formulas, wanted)

        score([first_reads(probe), generations[0]])
        return seconds(lambda: score(generations[1:]))
    finally:
        close_pool(pool)


def of_workers(networks: Benchmark, large: Benchmark, asked: Sequence[Generations], repeats: int) -> list[list[str]]:
    """The rows of one and two worker processes, which are started, and have read the statistics, beforehand."""
    rows = []
    for name, benchmark, generations, probe in (
        ("small: workers", networks, asked[0], "data"),
        ("real-size: workers", large, asked[1], "noise"),
    ):
        costs = [
            float(np.median([with_workers(benchmark, generations, probe, workers) for _ in range(repeats)]))
            for workers in (1, 2)
        ]
        rows.append(row(name, (1, 2), costs))
    return rows


@click.command()
@click.option("--quick", is_flag=True, help="A short run, for a check that everything works.")
def main(quick: bool) -> None:
    """Print one table: seconds at several sizes, and the exponent of each dimension."""
    torch.set_num_threads(1)
    repeats, counts, sizes = (1, (1, 2), 2) if quick else (3, (1, 2, 4), 3)
    networks = mini(40 if quick else None, ("digits",))
    spaces = ("autoformer-tiny", "autoformer-small", "autoformer-base")[:sizes]
    with cold_home():
        generations = evolved(networks, 7, 6 if quick else 30)
        asked = evolved(mini(40, ("digits",), images=False), 2, 8 if quick else 15)
        for scorer in scorers_of(networks):
            scorer.prepare(first_reads("data"), range(len(networks)))
        rows = of_small(networks, generations, repeats)
        rows += [[], *of_large(asked, counts, spaces, repeats)]
        rows += [[], *of_workers(networks, real_size(max(counts)), (generations, asked), repeats)]
    table(
        "Cost against size, on one thread, or one for each worker",
        ("", "sizes", "seconds", "exponent ± standard error"),
        rows,
        (
            "Formulas: the first generations of an evolution, so parts that earlier ones had are remembered as in a "
            "real run. Small networks: parameters are the means of the quarters of the benchmark by size.",
            "Workers: -1 would be twice as fast with two, 0 no faster; two points have no standard error.",
        ),
    )


if __name__ == "__main__":
    main()
