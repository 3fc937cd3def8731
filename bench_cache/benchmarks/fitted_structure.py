"""Fitted structure: a small model of an architecture's sizes and genes, the opponent that a proxy has to beat.

A proxy sees the untrained network; this sees only what the architecture is called, and was fitted to the same labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.rank_correlation import FixedRanks, mean_ranks
from autoprox.bench_cache.runtime.checks import is_number

#: Strengths of the ridge that validation chooses from, strongest first: of equal ones, the simplest model stays.
STRENGTHS = tuple(float(10**power) for power in np.arange(3, -3.5, -0.5))
#: Architectures that are cross-fitted are dealt into so many folds.
FOLDS = 10
#: The sizes that are read. Activations are not: they follow from the others and the genes, and the fits stay comparable
#: with those of earlier reports.
SIZES = ("params", "flops", "depth", "width")
#: A list with a value for each layer is read at so many depths, and as its mean and its sum.
PLACES = 4
#: A list of at most so many values, as many in every architecture, is read value by value.
_STAGES = 4
#: Numbers of which some are 0 or below, and of which there are at most so many different ones, are read as choices too.
_OPTIONS = 8


@dataclass(frozen=True)
class FittedStructure:
    """A fitted model's word on every architecture of a benchmark.

    Attributes:
        predicted: float64, one for each architecture, higher is better; only the order has a meaning.
        strength: the strength of the ridge that validation chose.
        features: how many features vary, and so how many coefficients were fitted.
    """

    predicted: np.ndarray
    strength: float
    features: int


def fitted_structure(benchmark: Benchmark, task: str) -> FittedStructure | None:
    """Fit a ridge regression of the ranks of a task's accuracies on structural features.

    With z the features (see `ridge_features`), standardised on the evolve split, and r the ranks of the evolve
    split's accuracies, centred and divided by their number:

        β = argmin ‖r − z β‖² + λ ‖β‖²,  predicted = z β

    λ is that of `STRENGTHS` with the highest tau on the validation split. The test split is not looked at.

    Returns None where no feature varies, or either split has fewer than 3 accuracies.
    """
    splits, accuracies = benchmark.splits(), benchmark.tasks[task]
    evolve, validation = (split[~np.isnan(accuracies[split])] for split in (splits["evolve"], splits["validation"]))
    if min(len(evolve), len(validation)) < 3:
        return None
    features = ridge_features(benchmark, task)
    z = _standardised(features, evolve)
    if not z.shape[1]:
        return None
    ridge = _Ridge(z[evolve], accuracies[evolve])
    predicted = np.array([z[validation] @ ridge.coefficients(strength) for strength in STRENGTHS])
    taus = np.nan_to_num(FixedRanks(accuracies[validation]).taus(predicted))
    strength = STRENGTHS[int(np.argmax(taus))]
    return FittedStructure(z @ ridge.coefficients(strength), strength, z.shape[1])


def held_out_structure(benchmark: Benchmark, task: str, split: str | None = None) -> np.ndarray | None:
    """Return what fitted structure says of the architectures of a split, none of which it was fitted to.

    float64, one for each architecture of the benchmark; NaN outside the split, and without an accuracy. On the test
    split, this is `fitted_structure`. On another split, or on all architectures where `split` is None, it is
    cross-fitted: the architectures with an accuracy are dealt into `FOLDS` folds at random, the same each time, and
    each fold is predicted by the ridge that was fitted to the others, with the λ of the least squared error when each
    of these others is left out in turn. Predictions of different folds are compared, which costs a little tau.

    Returns None where no feature varies, or there are too few accuracies.
    """
    accuracies = benchmark.tasks[task]
    among = np.arange(len(benchmark)) if split is None else benchmark.splits()[split]
    labelled = among[~np.isnan(accuracies[among])]
    predicted = np.full(len(benchmark), np.nan)
    if split == "test":
        fit = fitted_structure(benchmark, task)
        if fit is None:
            return None
        predicted[labelled] = fit.predicted[labelled]
        return predicted
    if len(labelled) < 2 * FOLDS:
        return None
    features = ridge_features(benchmark, task)
    if not _standardised(features, labelled).shape[1]:
        return None
    dealt = np.random.default_rng(len(labelled)).permutation(labelled)
    for fold in np.array_split(dealt, FOLDS):
        others = np.setdiff1d(labelled, fold)
        z = _standardised(features, others)
        ridge = _Ridge(z[others], accuracies[others])
        predicted[fold] = z[fold] @ ridge.coefficients(min(STRENGTHS, key=ridge.error_left_out))
    return predicted


def fitted_to_other_tasks(benchmark: Benchmark, task: str) -> np.ndarray | None:
    """Return what structure says of the architectures when this task is held out whole: no label of it is read.

    The ridge of `fitted_structure` is fitted on the evolve split to the other tasks: to each architecture's mean over
    them of rank / number of accuracies. Its strength has the least squared error when each architecture is left out in
    turn. Returns float64, one for each architecture; None where there is no other task, or too little to fit to.
    """
    others = [name for name in benchmark.tasks if name != task]
    evolve = benchmark.splits()["evolve"]
    target = _mean_ranks(benchmark, others, evolve)
    fitted = evolve[~np.isnan(target)]
    return _predicted(ridge_features(benchmark, task), fitted, target[~np.isnan(target)])


def fitted_to_other_benchmarks(benchmark: Benchmark, others: Sequence[Benchmark]) -> np.ndarray | None:
    """Return what structure says of the architectures when this benchmark is held out whole: no label of it is read.

    Spaces have genes of their own, so the ridge reads the `SIZES` only: log x and (log x − median)². It is fitted to
    the evolve splits of all the other benchmarks together, to each architecture's mean over the tasks of rank / number
    of accuracies. Returns float64, one for each architecture; None where a benchmark does not know all sizes, or there
    is too little to fit to.
    """
    together = [*others, benchmark]
    facts = [each.structure() for each in together]
    if not others or any(size not in known for known in facts for size in SIZES):
        return None
    columns = [_of_numbers(np.concatenate([known[size] for known in facts])) for size in SIZES]
    features = np.stack([column for pair in columns for column in pair], axis=1)
    starts = np.cumsum([0, *(len(each) for each in together)])
    evolve = [each.splits()["evolve"] for each in others]
    targets = [_mean_ranks(each, list(each.tasks), at) for each, at in zip(others, evolve, strict=True)]
    places = np.concatenate([start + at for start, at in zip(starts, evolve, strict=False)])
    target = np.concatenate(targets)
    known_there = ~np.isnan(target) & np.isfinite(features[places]).all(1)
    predicted = _predicted(features, places[known_there], target[known_there])
    return None if predicted is None else predicted[starts[-2] :]


def _mean_ranks(benchmark: Benchmark, tasks: Sequence[str], among: np.ndarray) -> np.ndarray:
    """Return each architecture's mean over the tasks of rank / number of accuracies; NaN without an accuracy."""
    ranks = np.full((len(tasks), len(among)), np.nan)
    for row, task in zip(ranks, tasks, strict=True):
        there = ~np.isnan(benchmark.tasks[task][among])
        row[there] = mean_ranks(benchmark.tasks[task][among][there]) / max(there.sum(), 1)
    counts = (~np.isnan(ranks)).sum(0)
    return np.where(counts > 0, np.nansum(ranks, axis=0) / np.maximum(counts, 1), np.nan)


def _predicted(features: np.ndarray, fitted: np.ndarray, target: np.ndarray) -> np.ndarray | None:
    """Return the ridge's word on all rows of the features, fitted to the target at the rows `fitted`."""
    if len(fitted) < 2 * FOLDS:
        return None
    z = _standardised(features, fitted)
    if not z.shape[1]:
        return None
    ridge = _Ridge(z[fitted], target)
    return z @ ridge.coefficients(min(STRENGTHS, key=ridge.error_left_out))


class _Ridge:
    """The regression of `fitted_structure` on standardised features, at any strength."""

    def __init__(self, z: np.ndarray, accuracies: np.ndarray) -> None:
        ranks = mean_ranks(accuracies)
        self._target = (ranks - ranks.mean()) / len(ranks)
        self._left, self._sizes, self._right = np.linalg.svd(z, full_matrices=False)

    def coefficients(self, strength: float) -> np.ndarray:
        return self._right.T @ (self._sizes / (self._sizes**2 + strength) * (self._left.T @ self._target))

    def error_left_out(self, strength: float) -> float:
        """Return the mean squared error at each point when that point is left out, in closed form (PRESS).

        With H the matrix that takes the target to the fit, intercept included, it is the mean of ((r − Hr) / (1 − h))².
        """
        weights = self._sizes**2 / (self._sizes**2 + strength)
        fit = self._left @ (weights * (self._left.T @ self._target))
        leverage = (self._left**2) @ weights + 1 / len(self._target)
        return float(np.mean(((self._target - fit) / np.maximum(1 - leverage, 1e-6)) ** 2))


def ridge_features(benchmark: Benchmark, task: str) -> np.ndarray:
    """Return what can be read off an architecture without building it, float64 of architectures × features.

    That is `SIZES`, and every gene:

    - a positive number x: log x and (log x − median)², so that a best size in the middle can be fitted;
    - a list with a number for each layer: the same of its mean and its sum, and log x at `PLACES` depths, evenly
      spaced from the first layer to the last;
    - a choice, which is text, or numbers that are not all positive, such as a skip connection of weight 0, ½ or 1: for
      each option that two architectures have, 1 or 0, or for a list, in how many layers it stands, and whether it does
      at each of the `PLACES` depths.

    A feature with a missing value anywhere is left out.
    """
    spec = benchmark.inputs[task].spec if task in benchmark.inputs else benchmark.spec
    structure = benchmark.structure(spec)
    columns = [each for fact in SIZES if fact in structure for each in _of_numbers(structure[fact])]
    genes = [benchmark.genes(arch) for arch in benchmark.architectures]
    for gene in dict.fromkeys(name for arch in genes for name in arch):
        columns += _of_gene([arch.get(gene) for arch in genes])
    complete = [column for column in columns if np.isfinite(column).all()]
    return np.stack(complete, axis=1) if complete else np.zeros((len(genes), 0))


def _of_gene(values: Sequence[object]) -> Iterable[np.ndarray]:
    """Yield the features of one gene, given its value in every architecture."""
    lists: list[list[Any]] = [list(value) if isinstance(value, list | tuple) else [value] for value in values]
    lengths = {len(each) for each in lists}
    if 0 in lengths:
        return
    if all(is_number(entry) for each in lists for entry in each):
        yield from _of_number_lists(lists)
        options = {entry for each in lists for entry in each}
        if min(options) > 0 or len(options) > _OPTIONS:
            return
    yield from _of_choices(lists)


def _of_number_lists(lists: Sequence[Sequence[Any]]) -> Iterable[np.ndarray]:
    if {len(each) for each in lists} == {1}:
        yield from _of_numbers(np.array(lists, dtype=np.float64)[:, 0])
        return
    yield from _of_numbers(np.array([np.mean(each) for each in lists]))
    yield from _of_numbers(np.array([np.sum(each) for each in lists], dtype=np.float64))
    for place in _at_depths(lists):
        yield _log(np.array(place, dtype=np.float64))


def _of_choices(lists: Sequence[Sequence[object]]) -> Iterable[np.ndarray]:
    lengths = {len(each) for each in lists}
    having = Counter(option for each in lists for option in {str(entry) for entry in each})
    for option in sorted(option for option, count in having.items() if count > 1):
        yield np.array([[str(entry) for entry in each].count(option) for each in lists], dtype=np.float64)
        for place in _at_depths(lists) if lengths != {1} else ():
            yield np.array([str(entry) == option for entry in place], dtype=np.float64)


def _at_depths(lists: Sequence[Sequence[object]]) -> list[list[object]]:
    """Return the entries at evenly spaced depths; short lists of one length are read whole."""
    lengths = {len(each) for each in lists}
    count = lengths.pop() if len(lengths) == 1 and max(lengths) <= _STAGES else PLACES
    return [[each[round(place * (len(each) - 1) / max(count - 1, 1))] for each in lists] for place in range(count)]


def _of_numbers(values: np.ndarray) -> list[np.ndarray]:
    logs = _log(values)
    return [logs, (logs - np.median(logs)) ** 2]


def _log(values: np.ndarray) -> np.ndarray:
    """Return log x where all x are positive, else x: a zero or a negative number is a choice, not a size."""
    return np.log(values) if (values > 0).all() else values


def _standardised(features: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    """Return the features with mean 0 and variance 1 over the fitted architectures, without those that do not vary."""
    mean, std = features[fitted].mean(0), features[fitted].std(0)
    varies = std > 1e-9 * np.maximum(1.0, np.abs(mean))
    return (features[:, varies] - mean[varies]) / std[varies]
