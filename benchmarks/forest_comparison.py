"""A forest on the columns of a benchmark's table: what they tell of the accuracies where no formula is asked for.

It is fitted to the accuracies' ranks over their number, the mean of these where there are several tasks, by
scikit-learn's extremely randomised trees. Its time and the shape of what it finds do not count: it says how far a
formula of these columns can get.
"""

import time
from collections.abc import Sequence

import numpy as np
from gplearn_comparison import POPULATION, Outcome, judge_of, taus_of
from scipy.stats import rankdata

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.statistics.columns import common_statistics

#: Trees, and architectures in a leaf at least.
TREES, LEAF = 300, 3
#: Columns are cut off here: the trees take float32.
MOST = 1e30


def forests(benchmarks: Sequence[Benchmark], seconds: float, seed: int, population: int = POPULATION) -> Outcome:
    """The forest that is fitted to one benchmark's evolve split; it takes the seconds that it takes."""
    from sklearn.ensemble import ExtraTreesRegressor  # here: another side can run without it

    (benchmark,), judge = benchmarks, judge_of(benchmarks)
    table = common_statistics([benchmark])
    inputs = {split: np.clip(judge.scores(table, split)[0].T, -MOST, MOST) for split in ("evolve", "test")}
    ranks = np.mean([rankdata(judge.accuracies(task, "evolve")) for task in judge.tasks], axis=0)
    began = time.process_time()
    made = ExtraTreesRegressor(TREES, min_samples_leaf=LEAF, random_state=seed).fit(
        inputs["evolve"], ranks / len(ranks)
    )
    spent = time.process_time() - began
    return Outcome(f"{TREES} trees", 0, spent, taus_of(judge, "test", [made.predict(inputs["test"])]))
