"""Verdict of a ranking, in words: whether the best proxy ranks better than structure does."""

from __future__ import annotations

import numpy as np

from autoprox.bench_cache.benchmarks.table import STRUCTURE
from autoprox.evolve import MEAN
from autoprox.evolve.report import FITTED, draws, interval, resampled_taus
from autoprox.rank.stats import Row, ScoreTable, scores_on


def verdict(table: ScoreTable, rows: tuple[Row, ...], seed: int = 0) -> str:
    """Return a sentence: the best proxy's mean tau beside that of the strongest structural baseline.

    The interval is of the paired difference: both are ranked in the same resamples. Both were chosen as the best on
    these very architectures, which favours the side that has more to choose from; the sentence gives the numbers.
    Empty where either side has no proxy that scores every architecture.
    """
    means = {row.proxy: row for row in rows if row.task == MEAN and row.unscored == 0 and not np.isnan(row.tau.value)}
    baselines = [name for name in means if name in (*STRUCTURE, FITTED)]
    proxies = [name for name in means if name not in baselines]
    if not baselines or not proxies:
        return ""
    best = max(proxies, key=lambda name: means[name].tau.value)
    strongest = max(baselines, key=lambda name: means[name].tau.value)
    low, high = interval(_difference(table, best, strongest, seed))
    difference = means[best].tau.value - means[strongest].tau.value
    judged = "better than structure" if low > 0 else "no better than structure"
    side = "above" if difference > 0 else "below"
    one_of = f"the best of {len(proxies)} proxies here" if len(proxies) > 1 else "the proxy"
    return (
        f"{best}, {one_of}, is {judged}: its mean τ {means[best].tau.value:.3f} is {abs(difference):.3f} {side} that "
        f"of {strongest}, the strongest of {len(baselines)} baselines (95 % interval of the difference {low:+.3f} to "
        f"{high:+.3f})."
    )


def _difference(table: ScoreTable, proxy: str, baseline: str, seed: int) -> np.ndarray:
    """Return by how much the proxy's mean tau is above the baseline's, in each resample of the architectures."""
    counts = draws(np.random.default_rng(seed), len(next(iter(table.accuracies.values()))))
    differences = []
    for task, y in table.accuracies.items():
        labelled, scores = ~np.isnan(y), scores_on(table, task)
        own, other = (
            resampled_taus(scores[name][labelled], y[labelled], counts[:, labelled]) for name in (proxy, baseline)
        )
        differences.append(own - other)
    return np.mean(differences, axis=0)
