"""How cost grows from 100 to 10,000 architectures and with formulas, and 10,000 on a Dask cluster beside the model.

    python benchmarks/growth.py [--most 10000] [--dask] [--quick]

Statistics are synthetic: those of a few networks of the embedded benchmark's space are built, and every other
network's are links to the files of one of as many layers. So each is read, checked and scored as its own, and the disk
holds a few.
Seconds are of the processor, on one thread; formulas are what one evolution judges, a generation's worth at a time.
Each row fits seconds = c · size^exponent. `--dask` scores the most networks on a cluster of two workers on loopback.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

import click
import numpy as np
import torch
from common import Generations, cold_home, evolved, exponent, mini, number, table

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.rank_correlation import FixedRanks
from autoprox.bench_cache.runtime.dask_pool import DaskPool
from autoprox.bench_cache.runtime.home import statistics_home
from autoprox.bench_cache.spaces.registry import get_space
from autoprox.bench_cache.statistics.in_memory import HELD
from autoprox.bench_cache.statistics.networks import NetworkScorer
from autoprox.bench_cache.statistics.scorer import network_scorer
from autoprox.bench_cache.statistics.shards import SIZE
from autoprox.bench_cache.statistics.store import StatisticsCache, is_matrix
from autoprox.bench_cache.statistics.together import scores_together
from autoprox.bench_cache.statistics.version import statistics_version
from autoprox.primitives import Formula, parse, statistic
from autoprox.primitives.evaluate import requirements

#: How many networks are built, how many different architectures there are, and the initial weights of each.
BUILT, DISTINCT, SEEDS = 24, 2000, 5
#: Of docs/scaling.md: CPU seconds of a network and a thousand formulas, and of a task for scheduler and client.
MODEL, OF_A_TASK = 0.022, 0.009


def population() -> Benchmark:
    """Random architectures of the embedded benchmark's space, the input that it has; the accuracies are made up."""
    like = mini(images=False)
    space, rng, found = get_space(str(like.space)), Random(0), {}
    while len(found) < DISTINCT:
        arch = space.sample(rng)
        found[space.key(arch)] = arch
    accuracies = {"made-up": np.random.default_rng(0).uniform(0, 100, DISTINCT)}
    return Benchmark("synthetic", like.space, like.spec, "drawn at random", tuple(found.values()), accuracies)


def linked(benchmark: Benchmark, generations: Generations) -> list[NetworkScorer]:
    """A scorer for each seed, all of whose networks have statistics: a few built, the others' files linked to those."""
    root, cache = statistics_home(), StatisticsCache(statistics_home())
    scorers = [network_scorer(benchmark, root, seed=seed) for seed in range(SEEDS)]
    folder = root / statistics_version(str(benchmark.space))
    pairs = [pair for pair in requirements(f for of_one in generations for f in of_one) if is_matrix(pair[0])]
    by_depth: dict[int, list[Path]] = {}
    for number_, depth in enumerate(scorers[0].depths[:BUILT].tolist()):
        cache.prepare(scorers[0].subjects[number_], pairs, 1)
        by_depth.setdefault(depth, []).append(folder / scorers[0].subjects[number_].key)
    for scorer in scorers:
        for place, (subject, depth) in enumerate(zip(scorer.subjects, scorer.depths.tolist(), strict=True)):
            entry, sources = folder / subject.key, by_depth[depth]
            if not entry.exists():
                entry.mkdir()
                for file in sources[place % len(sources)].iterdir():
                    os.link(file, entry / file.name)
    return scorers


def wanted(count: int) -> list[np.ndarray]:
    """So many networks, by scorer."""
    return [np.arange(max(0, min(DISTINCT, count - DISTINCT * n))) for n in range(SEEDS)]


def cost(work: Callable[[], object]) -> float:
    """Processor seconds of this process."""
    began = time.process_time()
    work()
    return time.process_time() - began


def of_networks(
    scorers: Sequence[NetworkScorer], generations: Generations, counts: Sequence[int]
) -> tuple[list[list[str]], list[np.ndarray]]:
    """The rows of architectures: the first generation, which reads the statistics, and those that follow.

    Beside them, the scores of the last generation on the most architectures.
    """
    first, later, scores = [], [], []
    for count in counts:
        HELD.clear()
        first.append(cost(lambda count=count: scores_together(scorers, generations[0], wanted(count))))
        began = time.process_time()
        for generation in generations[1:]:
            scores = scores_together(scorers, generation, wanted(count))
        later.append((time.process_time() - began) / len(generations[1:]))
    HELD.clear()
    rows = [
        line("networks: first generation", counts, first),
        line("networks: a later one", counts, later),
    ]
    return rows, scores


def reading(generations: Generations) -> list[Formula]:
    """Formulas that read every matrix which the generations read, and little else."""
    pairs = requirements(formula for of_one in generations for formula in of_one)
    return [parse(f"sum(sum({statistic(name, *filter(None, [probe]))}))") for name, probe in pairs if is_matrix(name)]


def of_formulas(scorers: Sequence[NetworkScorer], generations: Generations, count: int) -> list[str]:
    """The row of formulas, on so many networks, whose statistics are in memory."""
    sizes, costs = [], []
    for part in (len(generations) // 4, len(generations) // 2, len(generations)):
        HELD.clear()
        scores_together(scorers, reading(generations), wanted(count))
        costs.append(cost(lambda part=part: [scores_together(scorers, g, wanted(count)) for g in generations[:part]]))
        sizes.append(sum(map(len, generations[:part])))
    return line(f"formulas, {number(count)} networks", sizes, costs)


def of_taus(counts: Sequence[int], formulas: int = 100) -> list[str]:
    """The row of Kendall's taus of so many formulas: made-up scores of which a tenth are ties."""
    rng, costs = np.random.default_rng(0), []
    for count in counts:
        ranks, scores = FixedRanks(rng.uniform(size=count)), rng.integers(0, count * 9 // 10, (formulas, count))
        ranks.taus(scores[:2].astype(float))
        costs.append(cost(lambda ranks=ranks, scores=scores: ranks.taus(scores.astype(float))))
    return line(f"Kendall's τ of {formulas} formulas", counts, costs)


def line(name: str, sizes: Sequence[float], costs: Sequence[float] | np.ndarray) -> list[str]:
    """A line of the table."""
    fit = exponent(list(sizes), [float(each) for each in costs])
    return [name, "  ".join(map(number, sizes)), "  ".join(map(number, costs)), str(fit)]


@contextmanager
def cluster(workers: int = 2) -> Iterator[str]:
    """A scheduler and workers of one thread on loopback; yields the scheduler's address."""
    settings = {**os.environ, "DASK_DISTRIBUTED__SCHEDULER__WORK_STEALING": "False", "OMP_NUM_THREADS": "1"}
    address = "tcp://127.0.0.1:8797"
    scheduler = ["scheduler", "--host", "127.0.0.1", "--port", "8797", "--no-dashboard"]
    worker = ["worker", address, "--nthreads", "1", "--nworkers", str(workers), "--memory-limit", "0", "--no-dashboard"]
    with cold_working_folder():
        started = [
            subprocess.Popen([sys.executable, "-m", "dask", *each], env=settings, stderr=subprocess.DEVNULL)
            for each in (scheduler, worker)
        ]
    try:
        yield address
    finally:
        for each in reversed(started):
            each.terminate()
            each.wait()


@contextmanager
def cold_working_folder() -> Iterator[None]:
    """Dask's workers keep files where they start: let that be the benchmark's folder."""
    before = Path.cwd()
    os.chdir(os.environ["AUTOPROX_HOME"])
    try:
        yield
    finally:
        os.chdir(before)


def on_cluster(
    scorers: Sequence[NetworkScorer], generations: Generations, count: int, expected: Sequence[np.ndarray]
) -> list[list[str]]:
    """The rows of a run on two Dask workers, and what the model says of it; `expected` is the last generation."""
    with cluster() as address:
        pool = DaskPool(address)
        try:
            return _on_pool(pool, scorers, generations, count, expected)
        finally:
            pool.shutdown()


def _on_pool(
    pool: DaskPool,
    scorers: Sequence[NetworkScorer],
    generations: Generations,
    count: int,
    expected: Sequence[np.ndarray],
) -> list[list[str]]:
    there = [network_scorer(each.benchmark, each.root, seed=n, executor=pool) for n, each in enumerate(scorers)]
    formulas, tasks = sum(map(len, generations[1:])), -(-count // SIZE) * len(generations[1:])

    def spent() -> float:
        return sum(pool._client.run(time.process_time).values())

    scores_together(there, generations[0], wanted(count))
    before, began = spent(), time.process_time()
    found = [scores_together(there, each, wanted(count)) for each in generations[1:]]
    workers, client = spent() - before, time.process_time() - began
    same = all(np.array_equal(*pair, equal_nan=True) for pair in zip(found[-1], expected, strict=True))
    what = f"Dask: {number(count)} networks, {formulas} formulas"
    modelled = f"{number(MODEL * count * formulas / 1000)}  {number(OF_A_TASK * tasks)}"
    return [
        [what, "workers  client", f"{number(workers)}  {number(client)}", ""],
        ["its model", f"workers  {tasks} tasks", modelled, ""],
        ["scores are those of one process", "", "yes" if same else "NO", ""],
    ]


@click.command()
@click.option("--most", default=10_000, show_default=True, help="Architectures at most, to 10,000.")
@click.option("--dask", is_flag=True, help="Score the most architectures on a Dask cluster of two workers too.")
@click.option("--quick", is_flag=True, help="A few small sizes, to see that it works.")
def main(most: int, dask: bool, quick: bool) -> None:
    """How cost grows with architectures and formulas."""
    most = 200 if quick else most
    counts = [round(100 * (most / 100) ** (step / 4)) for step in range(5)]
    torch.set_num_threads(1)
    os.environ.setdefault("AUTOPROX_MEMORY", "16GB")
    with cold_home():
        generations = evolved(mini(24, images=False), 4, 10 if quick else 50)
        scorers = linked(population(), generations)
        rows, scores = of_networks(scorers, generations, counts)
        rows += [of_formulas(scorers, generations, counts[2]), of_taus(counts)]
        HELD.clear()
        rows += [[], *on_cluster(scorers, generations, most, scores)] if dask else []
        notes = [f"{sum(map(len, generations))} formulas; each process holds {os.environ['AUTOPROX_MEMORY']} at most."]
    table("Growth: CPU seconds", ["", "sizes", "seconds", "exponent"], rows, notes)


if __name__ == "__main__":
    main()
