"""Report: a formula beside the structural baselines, on every split, with the uncertainty of each number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autoprox.bench_cache.benchmarks.chance import groups_of_tasks
from autoprox.bench_cache.benchmarks.fitted_structure import fitted_structure
from autoprox.bench_cache.benchmarks.groups import within_tau
from autoprox.bench_cache.benchmarks.table import SPLITS, STRUCTURE
from autoprox.bench_cache.rank_correlation import kendall, resampled_taus
from autoprox.evolve.fitness import Judge, partial_tau
from autoprox.primitives.formula import Formula

#: What the formula's row is called.
FORMULA = "formula"
#: What the row of the weighted mean over tasks is called.
MEAN = "mean"
#: Baselines beside those of `STRUCTURE`.
DEPTH_WIDTH, FITTED = "depth × width", "fitted structure"
RESAMPLES = 1000


@dataclass(frozen=True)
class Row:
    """One predictor on one task of one split.

    Attributes:
        predictor: the formula, or one of the structural baselines.
        split: the split that was looked at.
        benchmark, task: the task; the row of the weighted mean over all tasks has the task `mean` and no benchmark.
        architectures: how many have an accuracy.
        tau: Kendall's tau-b.
        low, high: its 95 % bootstrap interval over architectures.
        partial: Kendall's partial tau given params; None for params itself, and where params are not known.
        given_fitted: Kendall's partial tau given fitted structure; None for that itself, and where nothing was fitted.
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
    given_fitted: float | None


@dataclass(frozen=True)
class Lead:
    """The formula's lead on a split: its mean tau minus a structural baseline's, with the 95 % paired interval."""

    split: str
    baseline: str
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Within:
    """A predictor's tau within the groups of a benchmark on one split: the weighted mean over the benchmark's tasks.

    `group` is what is grouped, such as `depth`, or `trainable` for the networks above chance; see
    `autoprox.bench_cache.benchmarks.groups.within_tau`.
    """

    split: str
    benchmark: str
    group: str
    predictor: str
    tau: float


@dataclass(frozen=True)
class Report:
    """All rows, the formula's lead over every structural baseline on each split, and taus within groups."""

    rows: tuple[Row, ...]
    leads: tuple[Lead, ...]
    within: tuple[Within, ...] = ()

    def row(self, predictor: str, split: str, task: str = MEAN, benchmark: str = "") -> Row:
        """Return the one row with these names.

        Raises:
            KeyError: there is none.
        """
        for row in self.rows:
            if (row.predictor, row.split, row.task, row.benchmark) == (predictor, split, task, benchmark):
                return row
        raise KeyError((predictor, split, task, benchmark))

    def lead(self, split: str, baseline: str = "params") -> Lead:
        """Return the lead over a baseline on a split.

        Raises:
            KeyError: the split was not reported, or the baseline is not known.
        """
        for lead in self.leads:
            if (lead.split, lead.baseline) == (split, baseline):
                return lead
        raise KeyError((split, baseline))

    def strongest(self, split: str) -> Lead | None:
        """Return the lead over the baseline that is strongest on a split; None where no structure is known.

        The strongest is chosen on the split itself, which favours the baseline.
        """
        return min((lead for lead in self.leads if lead.split == split), key=lambda lead: lead.difference, default=None)


def report(judge: Judge, formula: Formula, splits: Sequence[str] = SPLITS, seed: int = 0) -> Report:
    """Return the report of a formula beside the structural baselines, on the same architectures of each split.

    The baselines are those of `STRUCTURE` and depth × width that are known, and fitted structure, which is fitted to
    each task on the evolve and the validation split.
    """
    rows: list[Row] = []
    leads: list[Lead] = []
    within: list[Within] = []
    baselines = structural_baselines(judge)
    for split in splits:
        scores = judge.scores([formula], split)
        predictors = {FORMULA: [scores[place][0] for place in judge.places]}
        for name, values in baselines.items():
            places = zip(values, judge.places, strict=True)
            predictors[name] = [of_all[judge.architectures(place, split)] for of_all, place in places]
        resampled = _resampled(judge, predictors, split, seed)
        taus = _taus(judge, predictors, split)
        rows += _rows(judge, predictors, taus, resampled, split)
        leads += [_lead(judge, taus, resampled, split, name) for name in baselines]
        within += _within(judge, predictors, split)
    return Report(tuple(rows), tuple(leads), tuple(within))


def structural_baselines(judge: Judge) -> dict[str, list[np.ndarray]]:
    """Return what each structural baseline says of every architecture, for each task in order."""
    found = {name: [judge.scorers[place].structure[name] for place in judge.places] for name in structure_of(judge)}
    if "depth" in found and "width" in found:
        found[DEPTH_WIDTH] = [depth * width for depth, width in zip(found["depth"], found["width"], strict=True)]
    fits = [fitted_structure(judge.benchmark(task), task.name) for task in judge.tasks]
    fitted = [fit.predicted for fit in fits if fit is not None]
    return {**found, FITTED: fitted} if len(fitted) == len(fits) else found


def structure_of(judge: Judge) -> list[str]:
    """Return the facts of `STRUCTURE` that are known of every architecture."""
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
        partials: dict[str, list[float | None]] = {"params": [], FITTED: []}
        for number, task in enumerate(judge.tasks):
            for given, found in partials.items():
                found.append(_partial(judge, predictors, taus, predictor, given, number, split))
            low, high = interval(resampled[predictor][:, number])
            count = int((~np.isnan(judge.accuracies(task, split))).sum())
            name, tau = judge.benchmark(task).name, taus[predictor][number]
            both = partials["params"][-1], partials[FITTED][-1]
            rows.append(Row(predictor, split, name, task.name, count, tau, low, high, *both))
        low, high = interval(_means(judge, resampled[predictor]))
        count = sum(_sizes(judge, split).values())
        tau = float(np.average(taus[predictor], weights=judge.weights))
        means = [_mean_of_known(judge, found) for found in partials.values()]
        rows.append(Row(predictor, split, "", MEAN, count, tau, low, high, *means))
    return rows


def _mean_of_known(judge: Judge, partials: Sequence[float | None]) -> float | None:
    """Return the weighted mean over the tasks, None where they have no partial tau. All tasks have one, or none has."""
    known = [partial for partial in partials if partial is not None]
    return float(np.average(known, weights=judge.weights)) if known else None


def _sizes(judge: Judge, split: str) -> dict[str, int]:
    """Return how many architectures of each benchmark are in the split."""
    return {s.benchmark.name: len(judge.architectures(number, split)) for number, s in enumerate(judge.scorers)}


def _partial(
    judge: Judge,
    predictors: Mapping[str, Sequence[np.ndarray]],
    taus: Mapping[str, Sequence[float]],
    predictor: str,
    given: str,
    number: int,
    split: str,
) -> float | None:
    """Return the predictor's partial tau on a task given a baseline; None for the baseline itself, or without it."""
    if predictor == given or given not in predictors:
        return None
    there = ~np.isnan(judge.accuracies(judge.tasks[number], split))
    between = kendall(predictors[predictor][number][there], predictors[given][number][there])
    return partial_tau(taus[predictor][number], float(np.nan_to_num(between)), taus[given][number])


def _lead(
    judge: Judge, taus: Mapping[str, Sequence[float]], resampled: Mapping[str, np.ndarray], split: str, baseline: str
) -> Lead:
    difference = np.average(np.subtract(taus[FORMULA], taus[baseline]), weights=judge.weights)
    low, high = interval(_means(judge, resampled[FORMULA]) - _means(judge, resampled[baseline]))
    return Lead(split, baseline, float(difference), low, high)


def _taus(judge: Judge, predictors: Mapping[str, Sequence[np.ndarray]], split: str) -> dict[str, list[float]]:
    """Return each predictor's tau on each task; a constant predictor ranks nothing and has 0."""
    return {
        name: [
            float(np.nan_to_num(kendall(of_task, judge.accuracies(task, split))))
            for of_task, task in zip(values, judge.tasks, strict=True)
        ]
        for name, values in predictors.items()
    }


def _within(judge: Judge, predictors: Mapping[str, Sequence[np.ndarray]], split: str) -> Iterator[Within]:
    """Yield each predictor's tau within each grouping of each benchmark; a task without usable groups has none."""
    benchmarks = {judge.benchmark(task).name: judge.benchmark(task) for task in judge.tasks}
    for benchmark in benchmarks.values():
        numbers = [n for n, task in enumerate(judge.tasks) if judge.benchmark(task) is benchmark]
        at = judge.architectures(judge.places[numbers[0]], split)
        accuracies = [judge.accuracies(judge.tasks[n], split) for n in numbers]
        groups = [groups_of_tasks(benchmark)[judge.tasks[n].name] for n in numbers]  # the same names for each task
        for group in groups[0]:
            labels = [of_task[group][at] for of_task in groups]
            for name, values in predictors.items():
                taus = [
                    within_tau(values[n], y, of_task).tau
                    for n, y, of_task in zip(numbers, accuracies, labels, strict=True)
                ]
                known = [not np.isnan(tau) for tau in taus]
                weights = [judge.weights[n] for n in numbers]
                if any(known):
                    tau = np.average(np.compress(known, taus), weights=np.compress(known, weights))
                    yield Within(split, benchmark.name, group, name, float(tau))


def _means(judge: Judge, taus: np.ndarray) -> np.ndarray:
    return np.average(taus, axis=1, weights=judge.weights)


def interval(values: np.ndarray) -> tuple[float, float]:
    """Return the 95 % percentile interval of bootstrap values."""
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def _resampled(
    judge: Judge, predictors: Mapping[str, Sequence[np.ndarray]], split: str, seed: int
) -> dict[str, np.ndarray]:
    """Return bootstrap taus, resamples × tasks, by predictor; all tasks of a benchmark use the same resamples."""
    rng = np.random.default_rng(seed)
    counts = {name: draws(rng, size) for name, size in _sizes(judge, split).items()}
    result = {name: np.zeros((RESAMPLES, len(judge.tasks))) for name in predictors}
    for number, task in enumerate(judge.tasks):
        accuracies = judge.accuracies(task, split)
        there = ~np.isnan(accuracies)
        drawn = counts[judge.benchmark(task).name][:, there]
        for name, values in predictors.items():
            result[name][:, number] = resampled_taus(values[number][there], accuracies[there], drawn)
    return result


def draws(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return how often each of `size` architectures is in each resample: resamples × architectures."""
    return np.array([np.bincount(rng.integers(0, size, size), minlength=size) for _ in range(RESAMPLES)], dtype=float)
