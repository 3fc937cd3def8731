"""Chance: a proxy's tau on labels that mean nothing, and intervals that know how many formulas were tried.

Whoever tries m formulas and keeps the one with the highest tau has chosen on noise too: the tau of the best is too
high, and an interval for a formula that was fixed beforehand is too narrow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from autoprox.bench_cache.rank_correlation import FEWEST, kendall, kendalls
from autoprox.rank.stats import ScoreTable, scores_on

#: How often the labels are shuffled.
SHUFFLES = 999
_LEVEL = 0.95
#: Taus of resamples are kept this far from ±1, where Fisher's z is infinite.
_LARGEST = 1 - 1e-6


@dataclass(frozen=True)
class Shuffled:
    """A proxy's mean tau on shuffled labels.

    Attributes:
        mean, spread: mean and standard deviation over the shuffles.
        low, high: the 95 % interval.
        p: the share of shuffles, the true labels counted as one, whose tau is at least that with the true labels.
    """

    mean: float
    spread: float
    low: float
    high: float
    p: float


def shuffled_labels(table: ScoreTable, proxy: str, seed: int = 0, shuffles: int = SHUFFLES) -> Shuffled | None:
    """Return a proxy's mean tau over the tasks on shuffled labels; None where it has no tau on a task.

    The scores are permuted among the architectures, in the same way on each task, so that tasks stay as similar as they
    are. With b of the B shuffles at least as high as the true tau, p = (b + 1) / (B + 1) (Phipson and Smyth, 2010).
    """
    scores = {task: scores_on(table, task)[proxy] for task in table.accuracies}
    size = len(next(iter(table.accuracies.values())))
    (true,) = _mean_taus(table, scores, np.arange(size)[None])
    if np.isnan(true):
        return None
    rng = np.random.default_rng(seed)
    taus = _mean_taus(table, scores, np.array([rng.permutation(size) for _ in range(shuffles)]))
    low, high = np.quantile(taus, (0.025, 0.975))
    p = (1 + np.sum(taus >= true)) / (shuffles + 1)
    return Shuffled(float(np.mean(taus)), float(np.std(taus, ddof=1)), float(low), float(high), float(p))


def _mean_taus(table: ScoreTable, scores: dict[str, np.ndarray], orders: np.ndarray) -> np.ndarray:
    """Return the mean over the tasks of tau-b in each order of the scores; NaN where a task has fewer than 3 scores."""
    return np.mean([_taus(scores[task][orders], y) for task, y in table.accuracies.items()], axis=0)


def _taus(scores: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the tau-b of each row over what has a score and an accuracy; NaN for fewer than 3, 0 for equal ones."""
    if not np.isnan(scores).any():
        return np.nan_to_num(kendalls(scores, y)) if (~np.isnan(y)).sum() >= FEWEST else np.full(len(scores), np.nan)
    there = ~np.isnan(scores) & ~np.isnan(y)
    taus = [np.nan_to_num(kendall(row[at], y[at])) for row, at in zip(scores, there, strict=True)]
    return np.where(there.sum(1) >= FEWEST, taus, np.nan)


@dataclass(frozen=True)
class OfMany:
    """What is left to say of a tau after so many formulas were tried.

    Attributes:
        tried: how many formulas the labels chose among.
        low, high: the 95 % interval that covers all of them at once (`widened`).
        by_chance: what the best of so many formulas that mean nothing stays below in 95 % of cases (`best_by_chance`).
    """

    tried: int
    low: float
    high: float
    by_chance: float


def widened(tau: float, resampled: np.ndarray, tried: int) -> tuple[float, float]:
    """Return the interval of a tau that was chosen among `tried` formulas: simultaneous, after Šidák.

    With m formulas, each interval has the level 1 − γ with γ = 1 − 0.95^(1/m), so that all m together cover with 95 %
    (exactly where they are independent, and more often where their estimates are jointly normal: Šidák, 1967). So the
    interval of whichever was chosen covers too, however it was chosen (Berk et al., Valid post-selection inference,
    2013). Quantiles so far out are beyond a bootstrap, so it is normal on Fisher's scale: with s the standard
    deviation of artanh of the resampled taus,

        tanh(artanh τ ± Φ⁻¹(1 − γ/2) s).

    Formulas of an evolution resemble each other, so that this is on the safe side.
    """
    fisher = np.arctanh(np.clip(resampled, -_LARGEST, _LARGEST))
    level = _LEVEL ** (1 / tried)
    reach = ndtri((1 + level) / 2) * float(np.std(fisher, ddof=1))
    middle = np.arctanh(np.clip(tau, -_LARGEST, _LARGEST))
    return float(np.tanh(middle - reach)), float(np.tanh(middle + reach))


def best_by_chance(spread: float, tried: int) -> float:
    """Return what the highest tau of `tried` formulas that mean nothing stays below in 95 % of cases.

    With s the standard deviation of tau on shuffled labels, it is s Φ⁻¹(0.95^(1/m)), for m independent formulas; for
    formulas that resemble each other it is lower.
    """
    return spread * float(ndtri(_LEVEL ** (1 / tried)))
