"""Reliability: how far a benchmark's accuracies, trained with several seeds, agree between the seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from autoprox.bench_cache.rank_correlation import tau_b

#: How often `noise_ceiling` draws.
DRAWS = 200


@dataclass(frozen=True)
class Reliability:
    """What the seeds of one task say of its labels.

    With one seed only `spread` is known, with one architecture only `noise`; the others are then NaN.

    Attributes:
        seeds: the number of seeds.
        halves: Kendall's tau-b between the mean accuracies of two disjoint halves of the seeds, averaged over all ways
            to choose them.
        single: the same between two single seeds.
        spread: the standard deviation of the mean accuracy over the architectures, in percentage points.
        noise: the standard deviation of one seed around the architecture's mean, in percentage points.
        ceiling_one, ceiling_mean: the noise ceilings against one seed, and against the mean of all (`noise_ceiling`).
    """

    seeds: int
    halves: float
    single: float
    spread: float
    noise: float
    ceiling_one: float
    ceiling_mean: float


def reliability(runs: np.ndarray) -> Reliability:
    """Return the reliability of accuracies: float64, architectures × seeds, none missing."""
    architectures, seeds = runs.shape
    spread = float(runs.mean(1).std(ddof=1)) if architectures > 1 else math.nan
    if seeds < 2:
        return Reliability(seeds, math.nan, math.nan, spread, math.nan, math.nan, math.nan)
    return Reliability(
        seeds=seeds,
        halves=_mean_tau(runs, seeds // 2),
        single=_mean_tau(runs, 1),
        spread=spread,
        noise=float(np.sqrt(runs.var(1, ddof=1).mean())),
        ceiling_one=noise_ceiling(runs, 1),
        ceiling_mean=noise_ceiling(runs, seeds),
    )


def _mean_tau(runs: np.ndarray, size: int) -> float:
    """Return tau-b between the means of two disjoint groups of `size` seeds, averaged over all pairs of groups."""
    taus = []
    for first in combinations(range(runs.shape[1]), size):
        rest = [seed for seed in range(runs.shape[1]) if seed not in first]
        for second in combinations(rest, size):
            if first < second:
                taus.append(tau_b(runs[:, list(first)].mean(1), runs[:, list(second)].mean(1)))
    return float(np.mean(taus))


def noise_ceiling(runs: np.ndarray, of: int) -> float:
    """Return the tau-b that a perfect predictor of the expected accuracy would reach against the mean of `of` seeds.

    The expected accuracy μ_i of architecture i is estimated from its mean x_i over the S seeds. The means vary more
    than the expectations do, so they are shrunk towards the mean m of all, with s² the variance within an architecture:

        μ_i = m + (x_i − m) √(1 − s² / (S var x)).

    A mean of `of` seeds is simulated as μ_i plus the mean of `of` residuals of the architecture. They are drawn with
    replacement, and scaled by √(S / (S − 1)), because they are residuals around an estimated mean. The result is the
    mean tau-b over `DRAWS` such draws, with a fixed seed. It is NaN with one seed or one architecture, and where the
    means vary no more than noise alone would make them.
    """
    architectures, seeds = runs.shape
    if architectures < 2 or seeds < 2:
        return math.nan
    means = runs.mean(1)
    within, between = runs.var(1, ddof=1).mean(), means.var(ddof=1)
    if within >= seeds * between:
        return math.nan
    expected = means.mean() + (means - means.mean()) * np.sqrt(1 - within / (seeds * between))
    residuals = (runs - means[:, None]) * np.sqrt(seeds / (seeds - 1))
    rng = np.random.default_rng(0)
    taus = []
    for _ in range(DRAWS):
        drawn = np.take_along_axis(residuals, rng.integers(0, seeds, (len(runs), of)), axis=1)
        taus.append(tau_b(expected, expected + drawn.mean(1)))
    return float(np.mean(taus))
