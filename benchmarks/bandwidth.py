"""How much of the machine's memory bandwidth reductions of real-size networks use, beside copy and triad in this run.

    python benchmarks/bandwidth.py [--quick]

Copy (a = b) and triad (a = b + s·c) run on arrays larger than the last cache and count 2 and 3 arrays of bytes, as
STREAM does. A row of reductions counts each matrix that the formulas read once for a network, however many operations
work on it: the fraction is what is left when the operations' own work and Python are paid for. One formula with one
operation is near the limit; a generation works many times on what it has read.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor

import click
import torch
from common import alternating, cold_home, evolved, median, mini, number, real_size, scorers_of, seconds, table

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.runtime.local_pool import close_pool, local_pool
from autoprox.bench_cache.statistics.store import StatisticsCache
from autoprox.primitives import Formula, Reading, parse
from autoprox.primitives.evaluate import reductions
from autoprox.primitives.reduce import by_slot, reduce_layers

FEW = {"one reduction": [parse("sum(l1(weight))")], "SNIP": [parse("sum(l1(weight * weight_grad[noise]))")]}


def stream(entries: int, threads: int, repeats: int) -> dict[str, float]:
    """Bytes a second of copy and triad: of the best run, as STREAM reports them."""
    a, b, c = (torch.full((entries,), value) for value in (0.0, 1.0, 2.0))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        functions: list[Callable[[], object]] = [lambda: a.copy_(b), lambda: torch.add(b, c, alpha=3.0, out=a)]
        alternating(functions, 1)
        copy, triad = alternating(functions, repeats).min(axis=0)
    finally:
        torch.set_num_threads(before)
    return {"copy": 2 * b.nbytes / copy, "triad": 3 * b.nbytes / triad}


def bytes_read(wanted: Sequence[Formula], reading: Reading) -> int:
    """The bytes of the matrices that single-slot reductions read of one network, each once."""
    keys = {(t.statistic.name, t.probe, t.role) for part in wanted for t in part.terminals()}
    return sum(matrix.nbytes for key in keys for matrix in reading.matrices[key])


def operations(wanted: Sequence[Formula]) -> int:
    """How many operations on matrices the reductions need for a block, all slots together, each distinct one once."""
    return sum(
        len({node for part in group for node in part.nodes() if any(arg.kind.level == "matrix" for arg in node.args)})
        for group in by_slot(wanted).values()
    )


def readings_of(benchmark: Benchmark, formulas: Sequence[Formula]) -> list[Reading]:
    """The statistics that the formulas read, of every network, in memory."""
    (scorer,) = scorers_of(benchmark)
    scorer.prepare(formulas, range(len(benchmark)))
    keys = {(t.statistic.name, t.probe, t.role) for part in reductions(formulas) for t in part.terminals()}
    cache = StatisticsCache(scorer.root)
    return [cache.read(subject, sorted(keys), ("tokens",)) for subject in scorer.subjects]


def through_the_scorer(benchmark: Benchmark, formulas: Sequence[Formula], workers: int, repeats: int) -> float:
    """Seconds of `LargeScorer.scores` with so many workers, each reading the statistics from disk."""

    def once(pool: Executor | None) -> float:
        (scorer,) = scorers_of(benchmark, pool)
        return seconds(lambda: scorer.scores(formulas, range(len(benchmark))))

    pool = local_pool(workers)
    try:
        once(pool)  # starts the workers, and checks the files once
        return median([once(pool) for _ in range(repeats)])
    finally:
        close_pool(pool)


def rows_of(
    name: str, formulas: Sequence[Formula], networks: Benchmark, limits: dict[int, dict[str, float]], repeats: int
) -> list[list[str]]:
    """The rows of some formulas: reductions alone on statistics in memory, then all of it with one and two workers."""
    wanted, readings = reductions(formulas), readings_of(networks, formulas)
    size = sum(bytes_read(wanted, reading) for reading in readings)

    def reduced() -> None:
        for reading in readings:
            reduce_layers(wanted, reading)

    reduced()
    ways: dict[str, tuple[int, float]] = {"in memory, 1 thread": (1, median(alternating([reduced], repeats)))}
    for workers in (1, 2):
        taken = through_the_scorer(networks, formulas, workers, repeats)
        ways[f"from disk, {workers} worker{'s' * (workers > 1)}"] = (workers, taken)
    return [
        [
            f"{name}, {way}",
            str(operations(wanted)),
            number(size / 1e6),
            number(size / taken / 1e9),
            f"{size / taken / limits[threads]['triad']:.1%}",
        ]
        for way, (threads, taken) in ways.items()
    ]


@click.command()
@click.option("--quick", is_flag=True, help="A short run, for a check that everything works.")
def main(quick: bool) -> None:
    """Print one table: bytes a second of copy and triad, and of reductions, with the fraction of triad."""
    torch.set_num_threads(1)
    repeats, entries = (2, 2**25) if quick else (5, 2**26)  # 128 or 256 MiB an array
    limits = {threads: stream(entries, threads, 3 * repeats) for threads in (1, 2)}
    rows = [
        [f"{name}, {threads} thread{'s' * (threads > 1)}", "", "", number(value / 1e9), ""]
        for threads, found in limits.items()
        for name, value in found.items()
    ]
    with cold_home():
        asked = evolved(mini(40, ("digits",), images=False), 1, 8 if quick else 30)
        networks = real_size(2 if quick else 4)
        for name, formulas in {**FEW, "a generation": asked[-1]}.items():
            rows += [[], *rows_of(name, formulas, networks, limits, repeats)]
    table(
        f"Bytes a second, of {len(networks)} networks at 224 px",
        ("", "operations a block", "MB read", "GB/s", "of triad"),
        rows,
        (
            "A matrix counts once for a network, however many operations work on it; the fraction is of triad on as "
            "many threads. From disk: the files are in the system's page cache.",
            f"a generation: {len(asked[-1])} formulas.",
        ),
    )


if __name__ == "__main__":
    main()
