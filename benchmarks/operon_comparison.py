"""pyoperon's symbolic regression on the columns of a benchmark's table, for the table of `tables.py`.

It maximises R², and has no rank correlation: what it is given to fit are the accuracies' ranks over their number, the
mean of these where there are several tasks. It needs pyoperon (pip install pyoperon).
"""

import time
from collections.abc import Sequence

import numpy as np
from gplearn_comparison import ENDLESS, POPULATION, Outcome, judge_of, taus_of
from scipy.stats import rankdata

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.statistics.columns import common_statistics

#: The functions that gplearn is given too, with the square root and the logarithm as operon has them.
SYMBOLS = "add,sub,mul,div,sqrt,log,abs,fmin,fmax,constant,variable"
#: Nodes at most: as many as autoprox's trees.
NODES = 40
#: Generations between two looks at the clock.
STEP = 5


def operons(benchmarks: Sequence[Benchmark], seconds: float, seed: int, population: int = POPULATION) -> Outcome:
    """The best program by R² on the ranks of one benchmark's accuracies, going on until the time is over.

    It is the best on evolve: there is one, and nothing to choose by validation.
    """
    from pyoperon.sklearn import SymbolicRegressor  # here: another side can run without it

    (benchmark,), judge = benchmarks, judge_of(benchmarks)
    table = common_statistics([benchmark])
    inputs = {split: judge.scores(table, split)[0].T for split in ("evolve", "test")}
    ranks = np.mean([rankdata(judge.accuracies(task, "evolve")) for task in judge.tasks], axis=0)
    made = SymbolicRegressor(
        allowed_symbols=SYMBOLS, max_length=NODES, population_size=population, generations=STEP,
        max_evaluations=ENDLESS, objectives=["r2"], n_threads=1, warm_start=True,
        random_state=np.random.default_rng(seed),
    )  # fmt: skip
    began, judged = time.process_time(), 0
    while time.process_time() - began < seconds:
        made.fit(inputs["evolve"], ranks / len(ranks))
        judged += made.stats_["evaluation_count"]
    spent = time.process_time() - began
    scores = np.nan_to_num(made.predict(inputs["test"]))
    return Outcome(made.get_model_string(made.model_), judged, spent, taus_of(judge, "test", [scores]))
