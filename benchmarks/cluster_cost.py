"""What docs/scaling.md extrapolates from: CPU seconds and bytes of a run's formulas on the embedded benchmark.

    python benchmarks/cluster_cost.py RUN     # a directory of `autoprox evolve` on mini-vit, its statistics built

Formulas come as in evolution, a generation's worth at a time, once from shards in memory and once network by network.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from autoprox.bench_cache.benchmarks.library import load_benchmark
from autoprox.bench_cache.runtime.home import data_home
from autoprox.bench_cache.statistics.large import LargeScorer
from autoprox.bench_cache.statistics.networks import NetworkScorer
from autoprox.bench_cache.statistics.scorer import network_scorer
from autoprox.bench_cache.statistics.shards import SIZE, Members, packed
from autoprox.bench_cache.statistics.store import StatisticsCache
from autoprox.evolve import Journal
from autoprox.primitives import Formula, parse

GENERATION, FORMULAS = 50, 500


def main(run: Path) -> None:
    """Print one line for each quantity."""
    benchmark, root = load_benchmark("mini-vit"), data_home() / "statistics"
    at = benchmark.splits()["evolve"]
    judged = [text for record in Journal.open(run / "journal.jsonl").records for text, _ in record["judged"]]
    formulas = [parse(text) for text in judged[:FORMULAS]]
    made = network_scorer(benchmark, root)
    cache = StatisticsCache(root)
    subjects = [made.subjects[i] for i in at]
    sizes, params = [cache.size(subject) for subject in subjects], made.structure["params"][at]
    print(f"statistics       {np.mean(sizes):,.0f} bytes a network, {np.sum(sizes) / params.sum():.1f} a parameter")
    print(f"a formula        {len(packed(formulas)) / len(formulas):,.0f} bytes, packed")
    print(f"a shard's genes  {len(Members.of(root, made.subjects[:SIZE], 1).packed):,} bytes")
    print(f"in memory        {per_thousand(made, formulas, at):.3f} CPU seconds a network and thousand formulas")
    alone = LargeScorer(benchmark, root)  # as if there were too many networks for the memory
    print(f"one by one       {per_thousand(alone, formulas, at[:20]):.3f} CPU seconds a network and thousand formulas")


def per_thousand(made: NetworkScorer, formulas: list[Formula], at: np.ndarray) -> float:
    """CPU seconds of this process, for one network and a thousand formulas; reading the statistics is not in them."""
    made.scores(formulas[:GENERATION], at)
    began = time.process_time()
    for start in range(GENERATION, len(formulas), GENERATION):
        made.scores(formulas[start : start + GENERATION], at)
    return (time.process_time() - began) / len(at) / (len(formulas) - GENERATION) * 1000


if __name__ == "__main__":
    main(Path(sys.argv[1]))
