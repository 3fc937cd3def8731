"""LIBRA: three proxies chosen by correlation, information and bias, and their ranks merged (arXiv 2505.07300, Alg. 1).

Choosing needs the accuracies of some architectures. The merged ranking then ranks other architectures without any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autoprox.bench_cache.rank_correlation import mean_ranks
from autoprox.rank.plan import RankError
from autoprox.rank.stats import FEWEST, ScoreTable, resampled_spearmans
from autoprox.zoo.az_nas import log_rank_sum

#: How far below the ρ of z1 the other proxies may be.
WITHIN = 0.1
#: The least mean number of architectures in a cell of the joint table of accuracy, z1 and one more proxy.
PER_CELL = 5
#: What tables call the merged ranking, and the three proxies of which it is made.
LIBRA, ROLES = "libra", ("z1", "z2", "z3")


@dataclass(frozen=True)
class ProxyCandidate:
    """A proxy that could be chosen on a task, with the three numbers that decide.

    `rho` is Spearman's correlation with accuracy. `gain` is IG(z) = H(y | z1) − H(y | z1, z), in bits. `bias` is b_z,
    the correlation of its ranks with the ranks by parameters.
    """

    proxy: str
    rho: float
    gain: float
    bias: float


@dataclass(frozen=True)
class LibraChoice:
    """What was chosen on one task: `chosen` are z1, z2 and z3, or fewer where there were too few candidates.

    The `candidates` have ρ within 0.1 of that of z1; z1 comes first, then they are in the order of ρ. `bias` is b_val,
    the correlation of the accuracies with the parameters. `bins` is the number of classes of each quantity in the
    information gain. `architectures` is the number of those chosen on. The `left_out` proxies lack a score of some of
    these, or give all of them one score.
    """

    task: str
    chosen: tuple[str, ...]
    candidates: tuple[ProxyCandidate, ...]
    bias: float
    bins: int
    architectures: int
    left_out: tuple[str, ...]


def choose(table: ScoreTable, task: str) -> LibraChoice:
    """Choose three proxies on the architectures of a table that have an accuracy on the task.

    z1 has the highest ρ. Among the proxies with ρ > ρ(z1) − 0.1, z2 has the least information gain, and then z3 has
    the least |b_val − b_z|. Ties are decided by ρ, then by the order of the table. A proxy that ranks exactly like one
    already chosen is passed over: a twin of z1 has the least gain there is, 0, and merging it would count z1 twice.

    Raises:
        RankError: params are not known, fewer than 3 architectures have an accuracy, or no proxy scores all of them.
    """
    labelled = ~np.isnan(table.accuracies[task])
    y, params = table.accuracies[task][labelled], table.params
    if params is None or np.isnan(params[labelled]).any():
        raise RankError("LIBRA needs the number of parameters of every architecture, which this table lacks")
    if len(y) < FEWEST:
        raise RankError(f"task {task} has {len(y)} accuracies to choose proxies by; LIBRA needs {FEWEST}")
    sizes = params[labelled]
    scores = dict(zip(table.proxies, table.scores[task][:, labelled], strict=True))
    usable = {name: x for name, x in scores.items() if not np.isnan(x).any() and len(np.unique(x)) > 1}
    if not usable:
        raise RankError(f"no proxy has scores of all {len(y)} architectures of task {task} that LIBRA chooses by")
    rhos = {name: _rho(x, y) for name, x in usable.items()}
    base = max(usable, key=lambda name: rhos[name])
    bins = classes(len(y))
    reachable = [
        ProxyCandidate(name, rhos[name], information_gain(y, usable[base], x, bins), _rho(x, sizes))
        for name, x in usable.items()
        if rhos[name] > rhos[base] - WITHIN
    ]
    reachable.sort(key=lambda candidate: (candidate.proxy != base, -candidate.rho))
    bias = _rho(y, sizes)
    chosen = [reachable[0]]
    for measure in (lambda c: c.gain, lambda c: abs(bias - c.bias)):
        ranked = [mean_ranks(usable[candidate.proxy]) for candidate in chosen]
        others = [c for c in reachable if not any(np.array_equal(mean_ranks(usable[c.proxy]), r) for r in ranked)]
        if others:
            chosen.append(min(others, key=measure))
    left_out = tuple(name for name in scores if name not in usable)
    return LibraChoice(task, tuple(c.proxy for c in chosen), tuple(reachable), bias, bins, len(y), left_out)


def _rho(x: np.ndarray, y: np.ndarray) -> float:
    return float(resampled_spearmans(x, y, np.ones((1, len(x))))[0])


# --- information ---


def classes(architectures: int) -> int:
    """Return how many classes the information gain tells apart: ⌊(n / 5)^⅓⌋, but at least 2.

    It is the largest number for which a cell of the joint table has PER_CELL architectures on average.
    """
    bins = 2
    while PER_CELL * (bins + 1) ** 3 <= architectures:
        bins += 1
    return bins


def discretised(values: np.ndarray, bins: int) -> np.ndarray:
    """Return the class of each value, 0 to bins − 1, about equally many in each; equal values share a class."""
    return np.floor((mean_ranks(values) - 0.5) / len(values) * bins).astype(int)


def information_gain(y: np.ndarray, base: np.ndarray, z: np.ndarray, bins: int) -> float:
    """Return IG(z) = H(y | base) − H(y | base, z), in bits, from the frequencies of classes; at least 0."""
    y, base, z = (discretised(values, bins) for values in (y, base, z))
    given_base = _entropy(y, base) - _entropy(base)
    given_both = _entropy(y, base, z) - _entropy(base, z)
    return max(given_base - given_both, 0.0)


def _entropy(*columns: np.ndarray) -> float:
    """Return the joint entropy of columns of classes, in bits."""
    _, counts = np.unique(np.stack(columns), axis=1, return_counts=True)
    p = counts / counts.sum()
    return float(-(p * np.log2(p)).sum())


# --- merging ---


def merged_table(table: ScoreTable, choices: Mapping[str, LibraChoice], baselines: Sequence[str]) -> ScoreTable:
    """Return the scores of the merged ranking, of the three proxies chosen on each task, and of the baselines.

    The paper does not say how ranks are merged. We use the rule of AZ-NAS, Σ log(rank / n) (`log_rank_sum`). Unlike
    the sum of ranks, it costs an architecture more to be ranked low by one proxy than it gains by being ranked high
    by another. So the best architectures are those that none of the three finds bad.
    """
    scores = {}
    for task, choice in choices.items():
        known = dict(zip(table.proxies, table.scores[task], strict=True))
        nothing = np.full(len(table.accuracies[task]), np.nan)
        three = [known[proxy] for proxy in choice.chosen]
        padded = three + [nothing] * (len(ROLES) - len(three))
        scores[task] = np.array([log_rank_sum(three), *padded, *(known[name] for name in baselines)])
    accuracies = {task: table.accuracies[task] for task in choices}
    return ScoreTable((LIBRA, *ROLES, *baselines), accuracies, scores, table.params, table.groups, table.fitted)
