"""A device beside two cores: building statistics, evaluating generations, and ranking.

    python benchmarks/device.py [--device cuda] [--workers 2] [--quick]

The formulas are those of a short evolution. Both sides have new processes for each kind of network, and an empty folder
for statistics; the time that a process or CUDA takes to start is not counted.
"""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import click
import numpy as np
import torch
from common import Generations, cold_home, evolved, mini, number, part_of, real_size, seconds, table

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.runtime.devices import DEVICES, chosen_device
from autoprox.bench_cache.runtime.home import data_home
from autoprox.bench_cache.runtime.local_pool import close_pool, local_pool
from autoprox.bench_cache.statistics.scorer import network_scorer
from autoprox.bench_cache.statistics.together import scores_together
from autoprox.rank.plan import make_plan
from autoprox.rank.scores import compute

#: Processes of the CPU's side: two cores.
CORES = 2


@dataclass(frozen=True)
class Taken:
    """Seconds of each part, and the scores of the last generation."""

    built: float
    evaluated: float
    ranked: float
    scores: np.ndarray


def taken(
    benchmark: Benchmark, generations: Generations, proxies: Sequence[str], device: str, pool: Executor | None
) -> Taken:
    """Build, evaluate and rank on a device, by the processes of the pool."""
    with cold_home():
        root, everything = data_home() / "statistics", np.arange(len(benchmark))
        scorers = [
            network_scorer(benchmark, root, network=each, executor=pool, device=device) for each in benchmark.networks()
        ]
        wanted, formulas = [everything for _ in scorers], [each for of in generations for each in of]

        def build() -> None:
            for scorer in scorers:
                scorer.prepare(formulas, everything)

        def evaluate() -> None:
            for generation in generations[1:]:
                scores_together(scorers, generation, wanted)

        built = seconds(build)
        scores_together(scorers, generations[0], wanted)  # reads the statistics, or what fits, onto the device
        evaluated = seconds(evaluate)
        plan = make_plan(benchmark, proxies=proxies, device=device)
        ranked = seconds(lambda: compute(plan, workers=pool or 1))
        return Taken(built, evaluated, ranked, scores_together(scorers, generations[-1], wanted)[0])


def warmed(benchmark: Benchmark, generations: Generations, device: str, workers: int, proxies: Sequence[str]) -> Taken:
    """What it takes processes that have done all of it on three networks before."""
    pool = local_pool(workers)
    try:
        taken(part_of(benchmark, np.arange(3)), generations, proxies, device, pool)
        return taken(benchmark, generations, proxies, device, pool)
    finally:
        close_pool(pool)


def rows_of(name: str, cpu: Taken, there: Taken) -> list[list[str]]:
    """The rows of a benchmark, with how far the scores are apart in the first."""
    parts = ((f"{name}: statistics", "built"), (f"{name}: generations", "evaluated"), (f"{name}: rank", "ranked"))
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = np.abs(there.scores / cpu.scores - 1)
    found = []
    for place, (part, of) in enumerate(parts):
        left, right = getattr(cpu, of), getattr(there, of)
        differs = f"{np.nanmedian(apart[np.isfinite(apart)]):.0e}" if place == 1 else ""
        found.append([part, number(left), number(right), f"{left / right:.2f}", differs])
    return found


@click.command()
@click.option("--device", default="auto", show_default=True, help=f"{DEVICES}.")
@click.option("--workers", default=CORES, show_default=True, help="Processes that share the device.")
@click.option("--quick", is_flag=True, help="A short run, for a check that everything works.")
def main(device: str, workers: int, quick: bool) -> None:
    """Print one table: seconds of two cores and of the device, and their ratio."""
    torch.set_num_threads(1)
    device = str(chosen_device(device))
    with cold_home():
        small = mini(40 if quick else None, ("digits",))
        asked = evolved(small, 2 if quick else 7, 6 if quick else 30)
        noise = evolved(mini(40, ("digits",), images=False), 2, 6 if quick else 15)
    proxies = ["snip", "nwot"] if quick else ["snip", "nwot", "zico", "synflow"]
    rows: list[list[str]] = []
    for name, benchmark, generations in (
        ("small", small, asked),
        ("real-size", real_size(2 if quick else 8, others=1 if quick else 2), noise),
    ):
        cpu = warmed(benchmark, generations, "cpu", CORES, proxies)
        rows += [[], *rows_of(name, cpu, warmed(benchmark, generations, device, workers, proxies))]
    table(
        f"{device} beside two cores",
        ("", "two cores, s", f"{device}, s", "ratio", "scores apart"),
        rows[1:],
        (
            f"{workers} processes share {device}. A ratio above 1 says that it is faster. Scores apart: the median of "
            "|score there / score here − 1| over the last generation's formulas and networks.",
        ),
    )


if __name__ == "__main__":
    main()
