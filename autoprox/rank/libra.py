"""LIBRA: three proxies chosen by correlation, information and bias, and their ranks merged (arXiv 2505.07300, Alg. 1).

The labels of some architectures are needed to choose; the merged ranking then judges others without any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from autoprox.rank.plan import RankError
from autoprox.rank.stats import FEWEST, Contest, resampled_spearmans
from autoprox.zoo.az_nas import log_rank_sum

#: How far below the base proxy's ρ the others may be.
WITHIN = 0.1
#: Architectures that a cell of the joint table of accuracy, base and one proxy has at least, on average.
PER_CELL = 5
#: What the merged ranking is called in tables, and the three that it is made of.
LIBRA, ROLES = "libra", ("z1", "z2", "z3")


@dataclass(frozen=True)
class Candidate:
    """A proxy that could be chosen on a task, with what decides.

    `rho`: Spearman's correlation with accuracy; `gain`: IG(z) = H(y | z1) − H(y | z1, z), in bits; `bias`: b_z, the
    correlation of its ranks with the ranks by parameters.
    """

    proxy: str
    rho: float
    gain: float
    bias: float


@dataclass(frozen=True)
class Choice:
    """What was chosen on one task: `chosen` are z1, z2 and z3, fewer where nothing else was within reach.

    `candidates` have ρ within 0.1 of z1's, z1 first, then by ρ; `bias` is b_val, that of the accuracies; `bins` is
    the number of classes of each quantity in the information gain; `left_out` proxies have no score of some of the
    `architectures` that were chosen on, or one score for all.
    """

    task: str
    chosen: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    bias: float
    bins: int
    architectures: int
    left_out: tuple[str, ...]


def choose(contest: Contest, task: str) -> Choice:
    """Choose three proxies on the architectures of a contest that have an accuracy on the task.

    z1 has the highest ρ. Among those with ρ > ρ(z1) − 0.1, z2 has the least information gain, and then z3 the least
    |b_val − b_z|. A proxy that ranks exactly as one that is chosen already cannot be: a twin of z1 would always have
    the least gain, none, and merged it would only count z1 twice. Equal ones are decided by ρ, then by their order.

    Raises RankError without params, with fewer than 3 architectures, or without any proxy that scores all of them.
    """
    labelled = ~np.isnan(contest.accuracies[task])
    y, params = contest.accuracies[task][labelled], contest.params
    if params is None or np.isnan(params[labelled]).any():
        raise RankError("LIBRA needs the number of parameters of every architecture, which this table lacks")
    if len(y) < FEWEST:
        raise RankError(f"task {task} has {len(y)} accuracies to choose proxies by; LIBRA needs {FEWEST}")
    sizes = params[labelled]
    scores = dict(zip(contest.proxies, contest.scores[task][:, labelled], strict=True))
    usable = {name: x for name, x in scores.items() if not np.isnan(x).any() and len(np.unique(x)) > 1}
    if not usable:
        raise RankError(f"no proxy has scores of all {len(y)} architectures of task {task} that LIBRA chooses by")
    rhos = {name: _rho(x, y) for name, x in usable.items()}
    base = max(usable, key=lambda name: rhos[name])
    bins = classes(len(y))
    reachable = [
        Candidate(name, rhos[name], information_gain(y, usable[base], x, bins), _rho(x, sizes))
        for name, x in usable.items()
        if rhos[name] > rhos[base] - WITHIN
    ]
    reachable.sort(key=lambda candidate: (candidate.proxy != base, -candidate.rho))
    bias = _rho(y, sizes)
    chosen = [reachable[0]]
    for measure in (lambda c: c.gain, lambda c: abs(bias - c.bias)):
        ranked = [rankdata(usable[candidate.proxy]) for candidate in chosen]
        others = [c for c in reachable if not any(np.array_equal(rankdata(usable[c.proxy]), r) for r in ranked)]
        if others:
            chosen.append(min(others, key=measure))
    left_out = tuple(name for name in scores if name not in usable)
    return Choice(task, tuple(c.proxy for c in chosen), tuple(reachable), bias, bins, len(y), left_out)


def _rho(x: np.ndarray, y: np.ndarray) -> float:
    return float(resampled_spearmans(x, y, np.ones((1, len(x))))[0])


# --- information ---


def classes(architectures: int) -> int:
    """How many classes the information gain tells apart: the most, from 2, with PER_CELL architectures in a cell of
    their joint table on average: ⌊(n / 5)^⅓⌋."""
    bins = 2
    while PER_CELL * (bins + 1) ** 3 <= architectures:
        bins += 1
    return bins


def discretised(values: np.ndarray, bins: int) -> np.ndarray:
    """Classes 0 to bins − 1 with about equally many values each; equal values are in one class."""
    return np.floor((rankdata(values) - 0.5) / len(values) * bins).astype(int)


def information_gain(y: np.ndarray, base: np.ndarray, z: np.ndarray, bins: int) -> float:
    """IG(z) = H(y | base) − H(y | base, z) in bits, from the frequencies of classes (`discretised`); at least 0."""
    y, base, z = (discretised(values, bins) for values in (y, base, z))
    given_base = _entropy(y, base) - _entropy(base)
    given_both = _entropy(y, base, z) - _entropy(base, z)
    return max(given_base - given_both, 0.0)


def _entropy(*columns: np.ndarray) -> float:
    """The joint entropy of classes, in bits."""
    _, counts = np.unique(np.stack(columns), axis=1, return_counts=True)
    p = counts / counts.sum()
    return float(-(p * np.log2(p)).sum())


# --- merging ---


def libra_contest(contest: Contest, choices: Mapping[str, Choice], baselines: Sequence[str]) -> Contest:
    """The merged ranking, the three proxies that it is made of on each task, and the baselines, to be judged.

    The paper does not say how ranks are merged. Ours is the rule of AZ-NAS, Σ log(rank / n) (`log_rank_sum`): unlike
    the sum of ranks it punishes an architecture that one of the proxies ranks low more than it rewards one that is
    ranked high, so the best are those that none of the three finds bad.
    """
    scores = {}
    for task, choice in choices.items():
        known = dict(zip(contest.proxies, contest.scores[task], strict=True))
        nothing = np.full(len(contest.accuracies[task]), np.nan)
        three = [known[proxy] for proxy in choice.chosen]
        padded = three + [nothing] * (len(ROLES) - len(three))
        scores[task] = np.array([log_rank_sum(three), *padded, *(known[name] for name in baselines)])
    accuracies = {task: contest.accuracies[task] for task in choices}
    return Contest((LIBRA, *ROLES, *baselines), accuracies, scores, contest.params)
