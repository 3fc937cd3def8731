"""Rank statistics: how well proxies rank architectures, on each task and over all; docs/ranking.md defines them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations_with_replacement

import numpy as np

from autoprox.bench_cache.benchmarks.chance import TRAINABLE
from autoprox.bench_cache.benchmarks.groups import within_tau
from autoprox.bench_cache.rank_correlation import kendall, kendalls, mean_ranks, resampled_taus
from autoprox.evolve import MEAN
from autoprox.evolve.report import FITTED, draws, interval, partial_tau

#: Regret is told for training so many of the architectures that a proxy scores highest.
TOPS = (1, 5, 10)
#: How many bins the parameter counts are cut into, with about equally many architectures in each.
BINS = 3
#: The fewest architectures for which a correlation is computed.
FEWEST = 3


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % bootstrap interval over architectures; all NaN where the number is not defined."""

    value: float
    low: float
    high: float


UNDEFINED = Estimate(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """The accuracies of some architectures, and every proxy's scores of them.

    `accuracies[task]` is float64 of shape (architectures,), NaN where missing. `scores[task]` is proxies ×
    architectures, higher for better, NaN where a proxy has no score. `params` are the parameter counts, None where
    they are not known. `groups[task]` are those of `groups_of_tasks`. `fitted[task]` is what fitted structure says of
    the architectures (`held_out_structure`); it is empty where structure cannot be fitted to every task.
    """

    proxies: tuple[str, ...]
    accuracies: Mapping[str, np.ndarray]
    scores: Mapping[str, np.ndarray]
    params: np.ndarray | None
    groups: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    fitted: Mapping[str, np.ndarray] = field(default_factory=dict)

    def of_architectures(self, places: np.ndarray) -> ScoreTable:
        """Return the table of some of the architectures."""
        accuracies = {task: values[places] for task, values in self.accuracies.items()}
        picked = {id(values): values[:, places] for values in self.scores.values()}
        scores = {task: picked[id(values)] for task, values in self.scores.items()}
        groups = {
            task: {name: labels[places] for name, labels in of_task.items()} for task, of_task in self.groups.items()
        }
        params = None if self.params is None else self.params[places]
        fitted = {task: values[places] for task, values in self.fitted.items()}
        return ScoreTable(self.proxies, accuracies, scores, params, groups, fitted)

    def of_proxies(self, proxies: Sequence[str]) -> ScoreTable:
        """Return the table of some of the proxies."""
        rows = [self.proxies.index(proxy) for proxy in proxies]
        picked = {id(values): values[rows] for values in self.scores.values()}
        scores = {task: picked[id(values)] for task, values in self.scores.items()}
        return replace(self, proxies=tuple(proxies), scores=scores)

    def of_trainable(self) -> ScoreTable | None:
        """Return the table without the accuracies of networks at chance; None where no task tells which these are."""
        if not self.groups or not all(TRAINABLE in of_task for of_task in self.groups.values()):
            return None
        kept = {
            task: np.where(self.groups[task][TRAINABLE] == TRAINABLE, accuracies, np.nan)
            for task, accuracies in self.accuracies.items()
        }
        return replace(self, accuracies=kept)


@dataclass(frozen=True)
class Row:
    """One proxy's numbers on one task, or, where the task is `mean`, their means over the tasks.

    `n` architectures have an accuracy and a score, `unscored` have an accuracy only. `tau`, `spearman` and `pearson`
    are correlations with accuracy. `partial` is Kendall's partial tau given params, `given_fitted` given fitted
    structure. `binned` is tau within parameter-count bins, of which `bins` could be used. `within` has the tau within
    each of the task's groupings. `rank` is the proxy's place by tau, 1 for the best. `regret` is the points of
    accuracy lost by training only its best 1, 5 and 10. NaN where a number is not defined.
    """

    task: str
    proxy: str
    n: int
    unscored: int
    tau: Estimate
    spearman: Estimate
    pearson: Estimate
    partial: float
    binned: float
    bins: int
    rank: float
    regret: tuple[float, ...]
    within: Mapping[str, float] = field(default_factory=dict)
    given_fitted: float = float("nan")


@dataclass(frozen=True, eq=False)
class Correlations:
    """Kendall's tau-b and Spearman's rho between the scores of every two proxies: proxies × proxies.

    NaN where not defined. Where tasks have networks of their own, each number is the mean over these networks.
    """

    proxies: tuple[str, ...]
    kendall: np.ndarray
    spearman: np.ndarray


def rank_rows(table: ScoreTable, seed: int = 0) -> tuple[Row, ...]:
    """Return a row for every proxy on every task, and on their mean; on each task the best by tau comes first.

    Fitted structure has a row like a proxy where the table has it.

    The same resamples serve all proxies and tasks, so that intervals can be compared.
    """
    counts = draws(np.random.default_rng(seed), len(next(iter(table.accuracies.values()))))
    rows: list[Row] = []
    resampled: dict[str, list[np.ndarray]] = {name: [] for name in predictors(table)}
    for task, y in table.accuracies.items():
        found = []
        for proxy, x in scores_on(table, task).items():
            row, samples = _row(table, task, proxy, x, y, counts)
            found.append(row)
            resampled[proxy].append(samples)
        rows += _ranked(found)
    return (*rows, *_means(table, rows, resampled))


def predictors(table: ScoreTable) -> tuple[str, ...]:
    """Return what has a row: the proxies, and fitted structure where the table has it."""
    return (*table.proxies, FITTED) if table.fitted else table.proxies


def scores_on(table: ScoreTable, task: str) -> dict[str, np.ndarray]:
    """Return the scores on a task of all that has a row, in the order of `predictors`."""
    scores = dict(zip(table.proxies, table.scores[task], strict=True))
    return {**scores, FITTED: table.fitted[task]} if table.fitted else scores


def _row(
    table: ScoreTable, task: str, proxy: str, x: np.ndarray, y: np.ndarray, counts: np.ndarray
) -> tuple[Row, np.ndarray]:
    """Return the row, and its three correlations in each resample, 3 × resamples."""
    labelled = ~np.isnan(y)
    there = labelled & ~np.isnan(x)
    n, params = int(there.sum()), table.params
    a, b, drawn = x[there], y[there], counts[:, there]
    functions: tuple[Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray], ...]
    functions = (resampled_taus, resampled_spearmans, resampled_pearsons)
    values, samples = [float("nan")] * 3, np.full((3, len(counts)), np.nan)
    partial = binned = float("nan")
    bins = 0
    if n >= FEWEST:
        values = [float(function(a, b, np.ones((1, n)))[0]) for function in functions]
        samples = np.array([function(a, b, drawn) for function in functions])
    if n >= FEWEST and params is not None:
        known = ~np.isnan(params[there])
        if proxy != "params":
            partial = _given(a[known], b[known], params[there][known])
        binned, bins = binned_tau(a[known], b[known], params_bins(params, labelled)[there][known])
    given = (
        _given(a, b, table.fitted[task][there]) if table.fitted and proxy != FITTED and n >= FEWEST else float("nan")
    )
    row = Row(
        task=task,
        proxy=proxy,
        n=n,
        unscored=int(labelled.sum()) - n,
        tau=_estimate(values[0], samples[0]),
        spearman=_estimate(values[1], samples[1]),
        pearson=_estimate(values[2], samples[2]),
        partial=partial,
        binned=binned,
        bins=bins,
        rank=float("nan"),
        regret=tuple(regret(x, y, top) for top in TOPS),
        within={name: within_tau(x, y, labels).tau for name, labels in table.groups.get(task, {}).items()},
        given_fitted=given,
    )
    return row, samples


def _given(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> float:
    """Return the partial tau of x and y given z."""
    return partial_tau(_tau(x, y), _tau(x, z), _tau(z, y))


def _estimate(value: float, samples: np.ndarray) -> Estimate:
    return UNDEFINED if np.isnan(value) else Estimate(value, *interval(samples))


def _tau(x: np.ndarray, y: np.ndarray) -> float:
    """Return Kendall's tau-b; 0 where either side is constant, because it ranks nothing."""
    return float(np.nan_to_num(kendall(x, y)))


def _ranked(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of one task with their ranks, best first; those without a tau come last."""
    taus = np.array([row.tau.value for row in rows])
    ranks = mean_ranks(-np.where(np.isnan(taus), -np.inf, taus))
    ranked = [replace(row, rank=float(rank)) for row, rank in zip(rows, ranks, strict=True)]
    return sorted(ranked, key=lambda row: row.rank)


def _means(table: ScoreTable, rows: Sequence[Row], resampled: Mapping[str, Sequence[np.ndarray]]) -> list[Row]:
    """Return the means over tasks, the best mean rank first; a mean is NaN where the number of any task is."""
    means = []
    for proxy in predictors(table):
        own = [row for row in rows if row.proxy == proxy]
        samples = np.mean(resampled[proxy], axis=0)
        means.append(
            Row(
                task=MEAN,
                proxy=proxy,
                n=min(row.n for row in own),
                unscored=max(row.unscored for row in own),
                tau=_estimate(_mean(row.tau.value for row in own), samples[0]),
                spearman=_estimate(_mean(row.spearman.value for row in own), samples[1]),
                pearson=_estimate(_mean(row.pearson.value for row in own), samples[2]),
                partial=_mean(row.partial for row in own),
                binned=_mean(row.binned for row in own),
                bins=min(row.bins for row in own),
                rank=_mean(row.rank for row in own),
                regret=tuple(_mean(row.regret[k] for row in own) for k in range(len(TOPS))),
                within={name: _mean(row.within[name] for row in own) for name in own[0].within},
                given_fitted=_mean(row.given_fitted for row in own),
            )
        )
    return sorted(means, key=lambda row: row.rank)


def _mean(values) -> float:
    return float(np.mean(list(values)))


# --- resampled correlations ---


def resampled_spearmans(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return Spearman's rho of x and y in each resample; 0 where either is constant.

    `counts` says how often each item is in each resample: resamples × items. Rho is Pearson's r of the ranks within
    the resample, where equal values share their mean rank.
    """
    return _weighted_pearson(_resampled_ranks(x, counts), _resampled_ranks(y, counts), counts)


def resampled_pearsons(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return Pearson's r of x and y in each resample (see `resampled_spearmans`); 0 where either is constant."""
    return _weighted_pearson(np.broadcast_to(x, counts.shape), np.broadcast_to(y, counts.shape), counts)


def _resampled_ranks(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return each item's mean rank in each resample, resamples × items: all below it, and half of its equals."""
    _, group = np.unique(values, return_inverse=True)
    groups = int(group.max(initial=-1)) + 1
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(groups))
    sizes = np.add.reduceat(counts[:, order], starts, axis=1) if groups else counts
    ranks = np.cumsum(sizes, axis=1) - (sizes - 1) / 2
    return ranks[:, group]


def _weighted_pearson(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return Pearson's r of each row of x and y under each row of weights.

    It is 0 where the values of positive weight in either row are all equal.
    """
    total = weights.sum(1, keepdims=True)
    centred, varies = [], np.ones(len(weights), dtype=bool)
    for values in (x, y):
        scale = np.abs(values).max(initial=0.0) or 1.0
        high = np.where(weights > 0, values, -np.inf).max(1, initial=-np.inf)
        low = np.where(weights > 0, values, np.inf).min(1, initial=np.inf)
        varies &= high > low
        scaled = values / scale
        centred.append(scaled - (weights * scaled).sum(1, keepdims=True) / np.where(total, total, 1))
    a, b = centred
    of_x, of_y, both = ((weights * first * second).sum(1) for first, second in ((a, a), (b, b), (a, b)))
    spread = np.sqrt(of_x) * np.sqrt(of_y)
    return np.clip(np.divide(both, spread, out=np.zeros_like(spread), where=varies & (spread > 0)), -1, 1)


# --- bins and regret ---


def params_bins(params: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Return the bin of each architecture by params, 0, 1 or 2, cut at the terciles of the architectures in `among`.

    `among` is a mask. Equal params share a bin, so that bins can be of unequal size, and one can be empty.
    """
    known = params[among & ~np.isnan(params)]
    cuts = np.quantile(known, np.arange(1, BINS) / BINS) if len(known) else np.zeros(BINS - 1)
    return np.searchsorted(cuts, params, side="left")


def binned_tau(x: np.ndarray, y: np.ndarray, bins: np.ndarray) -> tuple[float, int]:
    """Return Kendall's tau-b within bins, averaged with the bins' sizes as weights, and the number of bins used.

    A bin cannot be used if it has fewer than 3 architectures, or if all its accuracies are equal. In a bin that is
    used, a constant score counts as tau 0. Without any usable bin the average is NaN.
    """
    taus, sizes = [], []
    for each in np.unique(bins):
        inside = bins == each
        if inside.sum() >= FEWEST and len(np.unique(y[inside])) > 1:
            taus.append(_tau(x[inside], y[inside]))
            sizes.append(int(inside.sum()))
    return (float(np.average(taus, weights=sizes)), len(taus)) if taus else (float("nan"), 0)


def regret(x: np.ndarray, y: np.ndarray, top: int) -> float:
    """Return the points of accuracy lost by training only the `top` architectures with the highest scores.

    It is the best accuracy of all, minus the best among the trained ones. An architecture without an accuracy cannot
    be trained. Where equal scores leave open which architectures are trained, it is the expectation over a random
    choice among them. NaN without scores.
    """
    scored = ~np.isnan(x) & ~np.isnan(y)
    scores, accuracies = x[scored], y[scored]
    if not len(scores):
        return float("nan")
    cut = np.sort(scores)[::-1][min(top, len(scores)) - 1]
    certain = accuracies[scores > cut].max(initial=-np.inf)
    tied = np.sort(accuracies[scores == cut])[::-1]
    free = min(top, len(scores)) - int((scores > cut).sum())
    expected, none_yet = 0.0, 1.0
    for number, accuracy in enumerate(tied):  # the best of the chosen ones is this one, if none before it was chosen
        chosen = min(free / (len(tied) - number), 1.0)
        expected += none_yet * chosen * max(certain, accuracy)
        none_yet *= 1 - chosen
    return float(np.nanmax(y) - expected)


# --- proxies among themselves ---


def correlations(table: ScoreTable) -> Correlations:
    """Return the correlations between every two proxies, over the architectures that both score."""
    kinds = list({id(scores): scores for scores in table.scores.values()}.values())
    matrices = [[_between(scores, function) for scores in kinds] for function in (_kendalls, _spearmans)]
    return Correlations(table.proxies, *(np.mean(of_kind, axis=0) for of_kind in matrices))


def _between(scores: np.ndarray, function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the correlation of every two rows, NaN where not defined.

    `function` takes two matrices of rows without NaN, and returns the correlation of each row of the first with each of
    the second. Rows that miss the same numbers go there together.
    """
    matrix = np.full((len(scores), len(scores)), np.nan)
    patterns, pattern = np.unique(~np.isnan(scores), axis=0, return_inverse=True)
    rows = [np.flatnonzero(pattern == number) for number in range(len(patterns))]
    for first, second in combinations_with_replacement(range(len(patterns)), 2):
        there = patterns[first] & patterns[second]
        if there.sum() >= FEWEST:
            a, b = rows[first], rows[second]
            found = function(scores[np.ix_(a, there)], scores[np.ix_(b, there)])
            matrix[np.ix_(a, b)], matrix[np.ix_(b, a)] = found, found.T
    return np.where(np.tri(len(matrix)), matrix, matrix.T)  # the last digits of two orders can differ


def _kendalls(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.array([kendalls(x, row) for row in y]).T


def _spearmans(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return Pearson's r of the ranks; NaN where a row is constant."""
    directions = []
    for rows in (x, y):
        ranks = np.array([mean_ranks(row) for row in rows])
        centred = ranks - (ranks.shape[1] + 1) / 2
        length = np.sqrt((centred**2).sum(1, keepdims=True))
        directions.append(np.divide(centred, length, out=np.full_like(centred, np.nan), where=length > 0))
    return np.clip(directions[0] @ directions[1].T, -1, 1)
