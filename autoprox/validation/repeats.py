"""Repeats: how much a proxy's ranking changes with the initial weights, and with the images that the networks read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from autoprox.bench_cache.rank_correlation import kendall, mean_ranks
from autoprox.rank.stats import FEWEST, ScoreTable, scores_on


@dataclass(frozen=True)
class Repeats:
    """What several rankings of the same architectures say of a proxy; each number is the mean over the tasks.

    Attributes:
        batch: the samples that the networks ran on.
        taus: Kendall's tau-b with accuracy, one for each ranking.
        agreement: Kendall's tau-b between the scores of two rankings, averaged over all pairs of rankings.
        noise: the share of the variance of the ranks that the repeats cause, from 0 to 1 (`noise_share`).
        averaged: tau-b with accuracy of the mean of an architecture's ranks over all rankings.
    """

    batch: int
    taus: tuple[float, ...]
    agreement: float
    noise: float
    averaged: float

    @property
    def mean(self) -> float:
        """Return the mean of the taus."""
        return float(np.mean(self.taus))

    @property
    def spread(self) -> float:
        """Return the standard deviation of the taus between the rankings."""
        return float(np.std(self.taus, ddof=1))


def compared(tables: Sequence[ScoreTable], proxy: str, batch: int) -> Repeats | None:
    """Return what the tables of several rankings say of a proxy; None where a task has fewer than 3 scores.

    On each task it compares the architectures that every ranking scored and that have an accuracy. A constant score
    counts as tau 0.
    """
    by_task = []
    for task, y in tables[0].accuracies.items():
        scores = np.array([scores_on(table, task)[proxy] for table in tables])
        there = ~np.isnan(y) & ~np.isnan(scores).any(0)
        if there.sum() < FEWEST:
            return None
        by_task.append(_on_task(scores[:, there], y[there]))
    taus, agreement, noise, averaged = (np.mean(each, axis=0) for each in zip(*by_task, strict=True))
    return Repeats(batch, tuple(map(float, taus)), float(agreement), float(noise), float(averaged))


def _on_task(scores: np.ndarray, y: np.ndarray) -> tuple[list[float], float, float, float]:
    ranks = np.array([mean_ranks(row) for row in scores])
    agreement = float(np.mean([_tau(a, b) for a, b in combinations(scores, 2)]))
    return [_tau(x, y) for x in scores], agreement, noise_share(ranks), _tau(ranks.mean(0), y)


def noise_share(ranks: np.ndarray) -> float:
    """Return the share of the variance of ranks, repeats × architectures, that lies within architectures.

    It is 1 − ICC(1), the intraclass correlation of Shrout and Fleiss (1979): with W the variance of an architecture's
    ranks over the k repeats, averaged over the architectures, and B the variance of the architectures' mean ranks,

        B' = max(B − W / k, 0),  share = W / (W + B').

    0 where the repeats give equal ranks.
    """
    within = float(ranks.var(0, ddof=1).mean())
    between = max(float(ranks.mean(0).var(ddof=1)) - within / len(ranks), 0.0)
    return within / (within + between) if within else 0.0


def _tau(x: np.ndarray, y: np.ndarray) -> float:
    """Return Kendall's tau-b; 0 where either side is constant."""
    return float(np.nan_to_num(kendall(x, y)))
