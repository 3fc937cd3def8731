"""Report: what a formula is worth beside the obvious, on every split, with the uncertainty of each number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autoprox.bench_cache.benchmarks.table import SPLITS, STRUCTURE
from autoprox.evolve.fitness import Judge, kendall
from autoprox.primitives.formula import Formula

#: What the formula's row is called.
FORMULA = "formula"
#: What the row of the weighted mean over tasks is called.
MEAN = "mean"
RESAMPLES = 1000


@dataclass(frozen=True)
class Row:
    """One predictor on one task of one split.

    `tau`: Kendall tau-b; `low`, `high`: its 95 % bootstrap interval over architectures; `partial`: Kendall's partial
    tau given params (None for params itself, and where params are not known); `architectures`: how many have an
    accuracy. The task `mean` is the weighted mean over tasks.
    """

    predictor: str
    split: str
    benchmark: str
    task: str
    architectures: int
    tau: float
    low: float
    high: float
    partial: float | None


@dataclass(frozen=True)
class Lead:
    """How far the formula's mean tau on a split is above params', with the 95 % interval of the paired bootstrap."""

    split: str
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Report:
    """All rows, and the formula's lead over params on each split (none where params are not known)."""

    rows: tuple[Row, ...]
    leads: tuple[Lead, ...]

    def row(self, predictor: str, split: str, task: str = MEAN, benchmark: str = "") -> Row:
        """The one row with these names. Raises KeyError if there is none."""
        for row in self.rows:
            if (row.predictor, row.split, row.task, row.benchmark) == (predictor, split, task, benchmark):
                return row
        raise KeyError((predictor, split, task, benchmark))

    def lead(self, split: str) -> Lead:
        """The lead on a split. Raises KeyError if the split was not reported, or params are not known."""
        for lead in self.leads:
            if lead.split == split:
                return lead
        raise KeyError(split)


def partial_tau(xy: float, xz: float, yz: float) -> float:
    """Kendall's partial tau of x and y given z: (τ_xy − τ_xz τ_yz) / √((1 − τ_xz²)(1 − τ_yz²)); 0 if z fixes either."""
    left = (1 - xz * xz) * (1 - yz * yz)
    return float((xy - xz * yz) / np.sqrt(left)) if left > 1e-12 else 0.0


def report(judge: Judge, formula: Formula, splits: Sequence[str] = SPLITS, seed: int = 0) -> Report:
    """Judge a formula and params, FLOPs, depth and width, as far as they are known, on the same architectures of each
    split."""
    rows: list[Row] = []
    leads: list[Lead] = []
    for split in splits:
        scores = judge.scores([formula], split)
        predictors: dict[str, list[np.ndarray]] = {FORMULA: [of_one[0] for of_one in scores]}
        for name in structure_of(judge):
            predictors[name] = [
                scorer.structure[name][judge.architectures(number, split)]
                for number, scorer in enumerate(judge.scorers)
            ]
        resampled = _resampled(judge, predictors, split, seed)
        taus = _taus(judge, predictors, split)
        rows += _rows(judge, predictors, taus, resampled, split)
        if "params" in predictors:
            leads.append(_lead(judge, taus, resampled, split))
    return Report(tuple(rows), tuple(leads))


def structure_of(judge: Judge) -> list[str]:
    """Those of params, FLOPs, depth and width that are known of every architecture; a table need not have them."""
    known = [scorer.structure for scorer in judge.scorers]
    return [name for name in STRUCTURE if all(name in facts and not np.isnan(facts[name]).any() for facts in known)]


def _rows(
    judge: Judge,
    predictors: Mapping[str, Sequence[np.ndarray]],
    taus: Mapping[str, Sequence[float]],
    resampled: Mapping[str, np.ndarray],
    split: str,
) -> list[Row]:
    rows = []
    for predictor in predictors:
        partials = []
        for number, task in enumerate(judge.tasks):
            partials.append(_partial(judge, predictors, predictor, number, split))
            low, high = interval(resampled[predictor][:, number])
            count = int((~np.isnan(judge.accuracies(task, split))).sum())
            name, tau = judge.benchmark(task).name, taus[predictor][number]
            rows.append(Row(predictor, split, name, task.name, count, tau, low, high, partials[-1]))
        low, high = interval(_means(judge, resampled[predictor]))
        count = sum(_sizes(judge, split).values())
        known = [partial for partial in partials if partial is not None]
        mean_partial = float(np.average(known, weights=judge.weights)) if known else None
        tau = float(np.average(taus[predictor], weights=judge.weights))
        rows.append(Row(predictor, split, "", MEAN, count, tau, low, high, mean_partial))
    return rows


def _sizes(judge: Judge, split: str) -> dict[str, int]:
    """How many architectures of each benchmark are in the split."""
    return {s.benchmark.name: len(judge.architectures(number, split)) for number, s in enumerate(judge.scorers)}


def _partial(
    judge: Judge, predictors: Mapping[str, Sequence[np.ndarray]], predictor: str, number: int, split: str
) -> float | None:
    """The predictor's partial tau on a task given params, where there is an accuracy; None for params, or without."""
    if predictor == "params" or "params" not in predictors:
        return None
    y, place = judge.accuracies(judge.tasks[number], split), judge.places[number]
    there = ~np.isnan(y)
    x, y, z = predictors[predictor][place][there], y[there], predictors["params"][place][there]
    return partial_tau(*(float(np.nan_to_num(kendall(*pair))) for pair in ((x, y), (x, z), (z, y))))


def _lead(judge: Judge, taus: Mapping[str, Sequence[float]], resampled: Mapping[str, np.ndarray], split: str) -> Lead:
    difference = np.average(np.subtract(taus[FORMULA], taus["params"]), weights=judge.weights)
    low, high = interval(_means(judge, resampled[FORMULA]) - _means(judge, resampled["params"]))
    return Lead(split, float(difference), low, high)


def _taus(judge: Judge, predictors: Mapping[str, Sequence[np.ndarray]], split: str) -> dict[str, list[float]]:
    """Each predictor's tau on each task; a constant predictor ranks nothing and has 0."""
    return {
        name: [
            float(np.nan_to_num(kendall(values[place], judge.accuracies(task, split))))
            for place, task in zip(judge.places, judge.tasks, strict=True)
        ]
        for name, values in predictors.items()
    }


def _means(judge: Judge, taus: np.ndarray) -> np.ndarray:
    return np.average(taus, axis=1, weights=judge.weights)


def interval(values: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval of bootstrap values."""
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def _resampled(
    judge: Judge, predictors: Mapping[str, Sequence[np.ndarray]], split: str, seed: int
) -> dict[str, np.ndarray]:
    """Bootstrap taus, resamples × tasks for each predictor; one draw of architectures serves a benchmark's tasks."""
    rng = np.random.default_rng(seed)
    counts = {name: draws(rng, size) for name, size in _sizes(judge, split).items()}
    result = {name: np.zeros((RESAMPLES, len(judge.tasks))) for name in predictors}
    for number, task in enumerate(judge.tasks):
        accuracies = judge.accuracies(task, split)
        there = ~np.isnan(accuracies)
        drawn = counts[judge.benchmark(task).name][:, there]
        for name, values in predictors.items():
            result[name][:, number] = resampled_taus(values[judge.places[number]][there], accuracies[there], drawn)
    return result


def draws(rng: np.random.Generator, size: int) -> np.ndarray:
    """How often each of `size` architectures is in each resample, resamples × architectures."""
    return np.array([np.bincount(rng.integers(0, size, size), minlength=size) for _ in range(RESAMPLES)], dtype=float)


def resampled_taus(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Kendall's tau-b of x and y in each resample, given how often each item is in it; 0 where either is constant.

    With A and B the signs of x_i − x_j and y_i − y_j, and c the counts: Σ c_i c_j A_ij B_ij / √(Σ c_i c_j A_ij² ·
    Σ c_i c_j B_ij²).
    """
    a, b = (np.sign(values[:, None] - values[None, :]) for values in (x, y))
    agreement, of_x, of_y = (((counts @ pairs) * counts).sum(1) for pairs in (a * b, a * a, b * b))
    scale = np.sqrt(of_x * of_y)
    return np.divide(agreement, scale, out=np.zeros_like(scale), where=scale > 0)
