"""Verdict of a ranking, in words: whether the best proxy ranks better than structure does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoprox.bench_cache.benchmarks.table import STRUCTURE
from autoprox.evolve import MEAN
from autoprox.evolve.report import FITTED, interval
from autoprox.rank.resampled import mean_taus
from autoprox.rank.stats import Row, ScoreTable

#: What a proxy is compared with, and no proxy is: sizes, their product as the zoo calls it, and fitted structure.
BASELINES = (*STRUCTURE, "depth-times-width", FITTED)


@dataclass(frozen=True)
class Comparison:
    """A proxy's mean tau beside that of the strongest structural baseline.

    `low` and `high` are the 95 % interval of the paired difference. `baselines` is how many there were to choose from.
    """

    proxy: str
    baseline: str
    tau: float
    baseline_tau: float
    low: float
    high: float
    baselines: int

    @property
    def difference(self) -> float:
        """Return by how much the proxy's tau is above the baseline's."""
        return self.tau - self.baseline_tau

    @property
    def distance(self) -> str:
        """Return words for both taus and their difference."""
        side = "above" if self.difference > 0 else "below"
        return (
            f"its mean τ {self.tau:.3f} is {abs(self.difference):.3f} {side} that of {self.baseline}, the strongest of "
            f"{self.baselines} baselines (95 % interval of the difference {self.low:+.3f} to {self.high:+.3f})"
        )


def verdict(table: ScoreTable, rows: Sequence[Row], seed: int = 0) -> str:
    """Return a sentence: the best proxy's mean tau beside that of the strongest structural baseline.

    Empty where either side has no proxy that scores every architecture.
    """
    means = _complete(rows)
    proxies = [name for name in means if name not in BASELINES]
    if not proxies:
        return ""
    best = max(proxies, key=lambda name: means[name])
    found = beside_structure(table, rows, best, seed)
    if found is None:
        return ""
    judged = "better than structure" if found.low > 0 else "no better than structure"
    one_of = f"the best of {len(proxies)} proxies here" if len(proxies) > 1 else "the proxy"
    return f"{best}, {one_of}, is {judged}: {found.distance}."


def beside_structure(
    table: ScoreTable,
    rows: Sequence[Row],
    proxy: str,
    seed: int = 0,
    baselines: Sequence[str] = BASELINES,
) -> Comparison | None:
    """Return a proxy's mean tau beside that of the strongest baseline; None where one does not score everything.

    The interval is of the paired difference: both are ranked in the same resamples. The baseline was chosen as the best
    on these very architectures, which favours it; so was the proxy, where the caller chose it so.
    """
    means = _complete(rows)
    there = [name for name in baselines if name in means]
    if not there or proxy not in means:
        return None
    strongest = max(there, key=lambda name: means[name])
    low, high = interval(mean_taus(table, proxy, seed) - mean_taus(table, strongest, seed))
    return Comparison(proxy, strongest, means[proxy], means[strongest], low, high, len(there))


def _complete(rows: Sequence[Row]) -> dict[str, float]:
    """Return the mean taus of those that score every architecture."""
    means = (row for row in rows if row.task == MEAN and row.unscored == 0)
    return {row.proxy: row.tau.value for row in means if not np.isnan(row.tau.value)}
