"""Resampled: mean taus over the tasks in each bootstrap resample, for intervals of what is derived from them.

The resamples are those of `rank_rows` with the same seed, so that all intervals belong together.
"""

from __future__ import annotations

import numpy as np

from autoprox.bench_cache.rank_correlation import resampled_taus
from autoprox.evolve.report import FITTED, draws, interval, partial_tau
from autoprox.rank.stats import FEWEST, UNDEFINED, Estimate, ScoreTable, scores_on


def mean_taus(table: ScoreTable, proxy: str, seed: int = 0) -> np.ndarray:
    """Return the mean over the tasks of a predictor's tau-b in each resample; architectures without a score are out."""
    counts = _counts(table, seed)
    taus = []
    for task, y in table.accuracies.items():
        x = scores_on(table, task)[proxy]
        there = ~np.isnan(x) & ~np.isnan(y)
        taus.append(resampled_taus(x[there], y[there], counts[:, there]))
    return np.mean(taus, axis=0)


def given_fitted(table: ScoreTable, proxy: str, seed: int = 0) -> Estimate:
    """Return the mean over the tasks of a predictor's partial tau given fitted structure, with its 95 % interval.

    Not defined for fitted structure itself, where it is not known, and where a task has fewer than 3 scores.
    """
    if not table.fitted or proxy == FITTED:
        return UNDEFINED
    counts = _counts(table, seed)
    partials = []
    for task, y in table.accuracies.items():
        x, z = scores_on(table, task)[proxy], table.fitted[task]
        there = ~np.isnan(x) & ~np.isnan(y)
        if there.sum() < FEWEST:
            return UNDEFINED
        weights = np.vstack([np.ones((1, int(there.sum()))), counts[:, there]])
        pairs = [resampled_taus(a[there], b[there], weights) for a, b in ((x, y), (x, z), (z, y))]
        partials.append([partial_tau(*each) for each in zip(*pairs, strict=True)])
    means = np.mean(partials, axis=0)
    return Estimate(float(means[0]), *interval(means[1:]))


def _counts(table: ScoreTable, seed: int) -> np.ndarray:
    return draws(np.random.default_rng(seed), len(next(iter(table.accuracies.values()))))
