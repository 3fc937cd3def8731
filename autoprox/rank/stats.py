"""Rank statistics: how well proxies rank architectures, by task and over all tasks; docs/ranking.md defines them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import kendalltau, rankdata, spearmanr

from autoprox.evolve import MEAN, kendall
from autoprox.evolve.report import draws, interval, partial_tau, resampled_taus

#: The regret is told for training so many of a proxy's best.
TOPS = (1, 5, 10)
#: Parameter-count bins, of about equally many architectures.
BINS = 3
#: With fewer architectures there is no correlation.
FEWEST = 3


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % bootstrap interval over architectures; NaN where it is not defined."""

    value: float
    low: float
    high: float


UNDEFINED = Estimate(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True, eq=False)
class Contest:
    """What is ranked by what: the accuracies and scores of the same architectures.

    `accuracies[task]`: float64 of shape (architectures,), NaN where missing; `scores[task]`: proxies × architectures,
    higher for better, NaN where a proxy has no score; `params`: the parameter counts, None where a table has none.
    """

    proxies: tuple[str, ...]
    accuracies: Mapping[str, np.ndarray]
    scores: Mapping[str, np.ndarray]
    params: np.ndarray | None

    def at(self, places: np.ndarray) -> Contest:
        """The same contest among some of the architectures."""
        accuracies = {task: values[places] for task, values in self.accuracies.items()}
        picked = {id(values): values[:, places] for values in self.scores.values()}
        scores = {task: picked[id(values)] for task, values in self.scores.items()}
        return Contest(self.proxies, accuracies, scores, None if self.params is None else self.params[places])

    def only(self, proxies: Sequence[str]) -> Contest:
        """The same contest among some of the proxies."""
        rows = [self.proxies.index(proxy) for proxy in proxies]
        picked = {id(values): values[rows] for values in self.scores.values()}
        scores = {task: picked[id(values)] for task, values in self.scores.items()}
        return Contest(tuple(proxies), self.accuracies, scores, self.params)


@dataclass(frozen=True)
class Row:
    """One proxy on one task, or, as the task `mean`, its means over the tasks.

    `n` architectures have an accuracy and a score, `unscored` an accuracy only. `tau`, `spearman`, `pearson`:
    correlation with accuracy; `partial`: Kendall's partial tau given params; `binned`: tau within parameter-count
    bins, of which `bins` could be used; `rank`: the proxy's place by tau, 1 for the best; `regret`: points of accuracy
    lost by training only its best 1, 5 and 10. NaN where a number is not defined.
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


@dataclass(frozen=True, eq=False)
class Correlations:
    """Kendall's tau-b and Spearman's rho between proxies' scores, proxies × proxies; NaN where not defined.

    Where the tasks' networks differ, they are means over the tasks.
    """

    proxies: tuple[str, ...]
    kendall: np.ndarray
    spearman: np.ndarray


def rank_rows(contest: Contest, seed: int = 0) -> tuple[Row, ...]:
    """Every proxy on every task, and on their mean; in each the best by tau first.

    One draw of resamples serves all proxies and tasks, so their intervals belong together.
    """
    counts = draws(np.random.default_rng(seed), len(next(iter(contest.accuracies.values()))))
    rows: list[Row] = []
    resampled: dict[str, list[np.ndarray]] = {proxy: [] for proxy in contest.proxies}
    for task, y in contest.accuracies.items():
        found = []
        for proxy, x in zip(contest.proxies, contest.scores[task], strict=True):
            row, samples = _row(contest, task, proxy, x, y, counts)
            found.append(row)
            resampled[proxy].append(samples)
        rows += _ranked(found)
    return (*rows, *_means(contest, rows, resampled))


def _row(
    contest: Contest, task: str, proxy: str, x: np.ndarray, y: np.ndarray, counts: np.ndarray
) -> tuple[Row, np.ndarray]:
    """The row, and the resamples of its three correlations, 3 × resamples."""
    labelled = ~np.isnan(y)
    there = labelled & ~np.isnan(x)
    n, params = int(there.sum()), contest.params
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
            partial = partial_tau(*(_tau(*pair) for pair in _pairs(a[known], b[known], params[there][known])))
        binned, bins = binned_tau(a[known], b[known], params_bins(params, labelled)[there][known])
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
    )
    return row, samples


def _pairs(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    return (x, y), (x, z), (z, y)


def _estimate(value: float, samples: np.ndarray) -> Estimate:
    return UNDEFINED if np.isnan(value) else Estimate(value, *interval(samples))


def _tau(x: np.ndarray, y: np.ndarray) -> float:
    """Kendall's tau-b; 0 where either is constant, since it ranks nothing."""
    return float(np.nan_to_num(kendall(x, y)))


def _ranked(rows: Sequence[Row]) -> list[Row]:
    """The rows of one task with their ranks, best first; where tau is not defined, last."""
    taus = np.array([row.tau.value for row in rows])
    ranks = rankdata(-np.where(np.isnan(taus), -np.inf, taus))
    ranked = [replace(row, rank=float(rank)) for row, rank in zip(rows, ranks, strict=True)]
    return sorted(ranked, key=lambda row: row.rank)


def _means(contest: Contest, rows: Sequence[Row], resampled: Mapping[str, Sequence[np.ndarray]]) -> list[Row]:
    """The means over tasks, the best mean rank first; not defined where one of the tasks' numbers is not."""
    means = []
    for proxy in contest.proxies:
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
            )
        )
    return sorted(means, key=lambda row: row.rank)


def _mean(values) -> float:
    return float(np.mean(list(values)))


# --- resampled correlations ---


def resampled_spearmans(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Spearman's rho of x and y in each resample, given how often each item is in it; 0 where either is constant.

    It is Pearson's r of the ranks within the resample, equal values having their mean rank.
    """
    return _weighted_pearson(_resampled_ranks(x, counts), _resampled_ranks(y, counts), counts)


def resampled_pearsons(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Pearson's r of x and y in each resample, given how often each item is in it; 0 where either is constant."""
    return _weighted_pearson(np.broadcast_to(x, counts.shape), np.broadcast_to(y, counts.shape), counts)


def _resampled_ranks(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mean rank of each item's value within each resample, resamples × items: what is below it, and half its equals."""
    _, group = np.unique(values, return_inverse=True)
    groups = int(group.max(initial=-1)) + 1
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(groups))
    sizes = np.add.reduceat(counts[:, order], starts, axis=1) if groups else counts
    ranks = np.cumsum(sizes, axis=1) - (sizes - 1) / 2
    return ranks[:, group]


def _weighted_pearson(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Pearson's r of each row of x and y under each row of weights; 0 where either is constant where it counts."""
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
    """The bin of each architecture by params: 0, 1 or 2, cut at the terciles of those `among` the judged ones.

    Equal params are in one bin, so bins need not be equally large, and one may be empty.
    """
    known = params[among & ~np.isnan(params)]
    cuts = np.quantile(known, np.arange(1, BINS) / BINS) if len(known) else np.zeros(BINS - 1)
    return np.searchsorted(cuts, params, side="left")


def binned_tau(x: np.ndarray, y: np.ndarray, bins: np.ndarray) -> tuple[float, int]:
    """Kendall's tau-b within bins, averaged with the bins' sizes as weights, and how many bins that are.

    Bins of fewer than 3 architectures, or of one accuracy, cannot be used; in the others a constant score counts 0.
    NaN without any bin.
    """
    taus, sizes = [], []
    for each in np.unique(bins):
        inside = bins == each
        if inside.sum() >= FEWEST and len(np.unique(y[inside])) > 1:
            taus.append(_tau(x[inside], y[inside]))
            sizes.append(int(inside.sum()))
    return (float(np.average(taus, weights=sizes)), len(taus)) if taus else (float("nan"), 0)


def regret(x: np.ndarray, y: np.ndarray, top: int) -> float:
    """Points of accuracy lost by training only the `top` architectures with the highest scores.

    The best accuracy of all, minus the best among those that are trained. What has no accuracy cannot be trained;
    where equal scores leave open which are trained, it is the expectation over choices at random. NaN without scores.
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
    for number, accuracy in enumerate(tied):  # the best of those chosen is this one, and none before it
        chosen = min(free / (len(tied) - number), 1.0)
        expected += none_yet * chosen * max(certain, accuracy)
        none_yet *= 1 - chosen
    return float(np.nanmax(y) - expected)


# --- proxies among themselves ---


def correlations(contest: Contest) -> Correlations:
    """How the proxies' scores go together, over the architectures that both score."""
    kinds = list({id(scores): scores for scores in contest.scores.values()}.values())
    matrices = [[_between(scores, function) for scores in kinds] for function in (_kendall, _spearman)]
    return Correlations(contest.proxies, *(np.mean(of_kind, axis=0) for of_kind in matrices))


def _between(scores: np.ndarray, function: Callable[[np.ndarray, np.ndarray], float]) -> np.ndarray:
    matrix = np.full((len(scores), len(scores)), np.nan)
    for i, x in enumerate(scores):
        for j, y in enumerate(scores[: i + 1]):
            there = ~np.isnan(x) & ~np.isnan(y)
            a, b = x[there], y[there]
            if len(a) >= FEWEST and len(np.unique(a)) > 1 and len(np.unique(b)) > 1:
                matrix[i, j] = matrix[j, i] = function(a, b)
    return matrix


def _kendall(x: np.ndarray, y: np.ndarray) -> float:
    return float(kendalltau(x, y, method="asymptotic").statistic)


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    return float(spearmanr(x, y).statistic)
