"""Fitness: how well the scores of a formula rank architectures on all tasks, and which formulas have no fitness."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np
from deap import base

from autoprox.bench_cache.benchmarks.fitted_structure import fitted_structure, held_out_structure
from autoprox.bench_cache.benchmarks.table import SPLITS, Benchmark
from autoprox.bench_cache.benchmarks.tasks import matching_tasks
from autoprox.bench_cache.rank_correlation import FixedRanks, kendall, kendalls, tied_fractions
from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.bench_cache.statistics.protocol import Scorer
from autoprox.bench_cache.statistics.together import estimates, sampled_scores, scores_together
from autoprox.evolve.joint import COMBINATIONS, combined
from autoprox.primitives.formula import Formula

#: A formula that leaves more than this fraction of pairs of architectures tied has no fitness, because it would be
#: judged by the few pairs that it tells apart.
MAX_TIED = 0.1
#: The different accuracies that each split of a task must have.
FEWEST = 3

#: A formula is dropped unjudged where its estimate is further than this below the fitness that enters the population.
#: On ViT-Bench-101 this loses one in fifty of the formulas that would have entered; .01 would lose as many.
MARGIN = 0.005

#: How many formulas are judged at once. After each time, the fitness that enters the population is found again.
AT_ONCE = 10


@dataclass(frozen=True)
class Invalid:
    """The reason why a formula has no fitness."""

    reason: str


@dataclass(frozen=True)
class Judgement:
    """A formula's Kendall tau-b on every task of one split, and its joint fitness there.

    `scores` are those that the taus are of, by each scorer; None where they were not kept.
    """

    taus: tuple[float, ...]
    joint: float
    scores: tuple[np.ndarray, ...] | None = field(default=None, compare=False, repr=False)


Outcome = Judgement | Invalid


class Fitness(base.Fitness):
    """DEAP's fitness of a formula: the joint tau; at equal tau, the smaller formula. It is invalid without values."""

    weights = (1.0, -1.0)


@dataclass(frozen=True)
class Task:
    """A task: one column of accuracies of one benchmark, which is named by its number among the benchmarks."""

    benchmark: int
    name: str
    weight: float = 1.0


def partial_tau(xy: float, xz: float, yz: float) -> float:
    """Return Kendall's partial tau of x and y given z, 0 where z determines x or y.

    It is (τ_xy − τ_xz τ_yz) / √((1 − τ_xz²)(1 − τ_yz²)).
    """
    left = (1 - xz * xz) * (1 - yz * yz)
    return float((xy - xz * yz) / np.sqrt(left)) if left > 1e-12 else 0.0


def fitted_to(benchmark: Benchmark, task: str, split: str) -> np.ndarray:
    """Return what fitted structure says of the architectures of a split, NaN where one has no accuracy.

    On evolve it is cross-fitted, because a fit knows the accuracies that it was fitted to. For the other splits it is
    the model that was fitted on evolve.

    Raises:
        BenchmarkError: no structure varies, or there are too few accuracies to fit a model.
    """
    if split == "evolve":
        predicted = held_out_structure(benchmark, task, split)
    else:
        fit = fitted_structure(benchmark, task)
        predicted = None if fit is None else np.where(np.isnan(benchmark.tasks[task]), np.nan, fit.predicted)
    if predicted is None:
        raise BenchmarkError(
            f"no fitness given structure on task '{task}' of {benchmark.name}: no structure of its architectures "
            "varies, or accuracies are too few to fit one; use another --joint"
        )
    return predicted


class Judge:
    """A judge of formulas on the tasks of one or more benchmarks, split by split.

    `scorers` has a scorer for each network of a benchmark that the tasks need; `places` has the number of the scorer
    for each task. With `sampled`, `judge` takes a sample of each matrix of large networks.
    """

    def __init__(
        self, scorers: Sequence[Scorer], tasks: Sequence[Task], combination: str = "mean", sampled: bool = False
    ) -> None:
        self.sampled = sampled
        self.scorers, self.tasks, self.combination = list(scorers), list(tasks), combination
        self.weights = [task.weight for task in tasks]
        self._structure: dict[tuple[Task, str], np.ndarray] = {}
        self._ranks: dict[tuple[Task, str], FixedRanks] = {}
        self._splits = [scorer.benchmark.splits() for scorer in scorers]
        names = list(dict.fromkeys(scorer.benchmark.name for scorer in scorers))
        self.places = [
            next(
                number
                for number, scorer in enumerate(scorers)
                if scorer.benchmark.name == names[task.benchmark] and task.name in scorer.network.tasks
            )
            for task in tasks
        ]

    def benchmark(self, task: Task) -> Benchmark:
        """Return the benchmark that a task belongs to."""
        return self.scorers[self.places[self.tasks.index(task)]].benchmark

    def architectures(self, number: int, split: str) -> np.ndarray:
        """Return the indices of the split's architectures in the benchmark of a scorer."""
        return self._splits[number][split]

    def accuracies(self, task: Task, split: str) -> np.ndarray:
        """Return the task's accuracies on the split, NaN where one is missing."""
        place = self.places[self.tasks.index(task)]
        return self.benchmark(task).tasks[task.name][self.architectures(place, split)]

    def ranks(self, task: Task, split: str) -> FixedRanks:
        """Return the task's accuracies on the split as they are ranked, once for all formulas."""
        if (task, split) not in self._ranks:
            self._ranks[task, split] = FixedRanks(self.accuracies(task, split))
        return self._ranks[task, split]

    def scores(self, formulas: Sequence[Formula], split: str) -> list[np.ndarray]:
        """Return the scores by each scorer: formulas × architectures of the split."""
        return scores_together(self.scorers, formulas, self._wanted(split))

    def _wanted(self, split: str) -> list[np.ndarray]:
        """Return the split's architectures in the benchmark of each scorer."""
        return [self.architectures(number, split) for number in range(len(self.scorers))]

    def judge(
        self, formulas: Sequence[Formula], split: str = "evolve", rivals: Sequence[Judgement] = ()
    ) -> list[Outcome]:
        """Return each formula's judgement on the split, or why it has none.

        `rivals` are the population. A formula that beats the worst of them takes its place; formulas with the same taus
        count once. Where networks are large, all formulas are estimated first (see `estimates`). Then the most
        promising are judged, `AT_ONCE` at a time, until the best of the others is estimated more than `MARGIN` below
        the worst rival. These others are not judged. Every judgement is exact, unless the judge is a sampled one.
        """
        if self.sampled:
            return self._outcomes(sampled_scores(self.scorers, formulas, self._wanted(split)), split)
        guesses = self._estimated(formulas, split) if rivals else None
        if guesses is None:
            return self.judge_exactly(formulas, split)
        outcomes: list[Outcome | None] = [None] * len(formulas)
        best = {rival.taus: rival.joint for rival in rivals}
        places, bar, order = len(best), min(best.values()), np.argsort(-guesses, kind="stable")
        hopeful = np.flatnonzero(guesses >= bar - MARGIN)
        ahead = {} if self._kept(split) else self._judged_ahead(formulas, split, hopeful)
        for first in range(0, len(order), AT_ONCE):
            bar = sorted(best.values())[-places]
            going = [n for n in order[first : first + AT_ONCE] if guesses[n] >= bar - MARGIN]
            if not going:
                break
            found = [ahead[n] for n in going] if ahead else self.judge_exactly([formulas[n] for n in going], split)
            for number, outcome in zip(going, found, strict=True):
                outcomes[number] = outcome
                if isinstance(outcome, Judgement):
                    best[outcome.taus] = outcome.joint
        hopeless = Invalid(f"estimated too far below the {bar:.3f} that it takes to enter the population")
        return [outcome or hopeless for outcome in outcomes]

    def _judged_ahead(self, formulas: Sequence[Formula], split: str, numbers: np.ndarray) -> dict[int, Outcome]:
        """Judge all formulas with these numbers at once.

        A network that is not kept runs again for each call of `judge_exactly`, so one call for all formulas costs less
        than one for each `AT_ONCE`. No other formula is looked up, because the bar only rises. `judge` then uses only
        those that it would have judged where everything is kept, so that no outcome depends on what is kept.
        """
        return dict(zip(numbers.tolist(), self.judge_exactly([formulas[n] for n in numbers], split), strict=True))

    def _kept(self, split: str) -> bool:
        """Return whether the statistics of all the split's architectures stay on disk."""
        return all(
            set(scorer.kept).issuperset(self.architectures(number, split).tolist())
            for number, scorer in enumerate(self.scorers)
        )

    def judge_exactly(self, formulas: Sequence[Formula], split: str) -> list[Outcome]:
        """Return what `judge` does, of all formulas and of whole matrices."""
        return self._outcomes(self.scores(formulas, split), split)

    def _outcomes(self, scores: Sequence[np.ndarray], split: str) -> list[Outcome]:
        """Return the outcomes of scores as `scores` returns them, for each formula."""
        taus = self._taus(scores, split)
        joint, flaws = self._joint(scores, taus, split).tolist(), self._flaws(scores, taus)
        return [
            flaws.get(n) or Judgement(tuple(of_one), joint[n], tuple(of_all[n] for of_all in scores))
            for n, of_one in enumerate(taus.T.tolist())
        ]

    def _estimated(self, formulas: Sequence[Formula], split: str) -> np.ndarray | None:
        """Return the joint fitness by estimated scores, −2 for none; None where exact scores take no longer."""
        scores = estimates(self.scorers, formulas, self._wanted(split)) if formulas else None
        if scores is None:
            return None
        return self.joint(scores, split)

    def joint(self, scores: Sequence[np.ndarray], split: str = "evolve") -> np.ndarray:
        """Return the joint fitness of scores as `scores` returns them, for each formula; −2 for none."""
        return np.nan_to_num(self._joint(scores, self._taus(scores, split), split), nan=-2.0)

    def _taus(self, scores: Sequence[np.ndarray], split: str) -> np.ndarray:
        """Return the taus: tasks × formulas."""
        return np.array(
            [self.ranks(task, split).taus(scores[place]) for place, task in zip(self.places, self.tasks, strict=True)]
        )

    def _joint(self, scores: Sequence[np.ndarray], taus: np.ndarray, split: str) -> np.ndarray:
        """Return the joint fitness of each formula, whose taus are a column."""
        if COMBINATIONS[self.combination].given_structure:
            taus = self._partial(scores, taus, split)
        return np.array([combined(column, self.weights, self.combination) for column in taus.T.tolist()])

    def _partial(self, scores: Sequence[np.ndarray], taus: np.ndarray, split: str) -> np.ndarray:
        """Return Kendall's partial taus given fitted structure, tasks × formulas; NaN where the tau is."""
        partial = np.full(taus.shape, np.nan)
        for number, (place, task) in enumerate(zip(self.places, self.tasks, strict=True)):
            structure = self.structure(task, split)
            of_structure = float(np.nan_to_num(kendall(structure, self.accuracies(task, split))))
            between = np.nan_to_num(kendalls(scores[place], structure))
            for row in np.flatnonzero(~np.isnan(taus[number])):
                partial[number, row] = partial_tau(taus[number, row], between[row], of_structure)
        return partial

    def structure(self, task: Task, split: str) -> np.ndarray:
        """Return what fitted structure says of the split's architectures: see `fitted_to`."""
        if (task, split) not in self._structure:
            at = self.architectures(self.places[self.tasks.index(task)], split)
            self._structure[task, split] = fitted_to(self.benchmark(task), task.name, split)[at]
        return self._structure[task, split]

    def _flaws(self, scores: Sequence[np.ndarray], taus: np.ndarray) -> dict[int, Invalid]:
        """Return why formulas have no fitness, by their numbers; those that have one are not there."""
        flaws: dict[int, Invalid] = {}
        for scorer, of_all in zip(self.scorers, scores, strict=True):
            name, missing, tied = scorer.benchmark.name, np.isnan(of_all).sum(axis=1), tied_fractions(of_all)
            for n in np.flatnonzero((missing > 0) | (tied > MAX_TIED)).tolist():
                if missing[n]:
                    why = f"no score for {missing[n]} of {of_all.shape[1]} architectures of {name}"
                else:
                    why = "constant" if tied[n] == 1.0 else f"{tied[n]:.0%} of pairs tied on {name}"
                flaws.setdefault(n, Invalid(why))
        for n in np.flatnonzero(np.isnan(taus).any(axis=0)).tolist():
            flaws.setdefault(n, Invalid("constant where a task has accuracies"))
        return flaws


def choose_tasks(benchmarks: Sequence[Benchmark], patterns: Sequence[str]) -> list[Task]:
    """Return the tasks that any pattern names, benchmark by benchmark; all without patterns.

    A pattern has `*` and `?` as in file names, and may end in a weight: `NAME=2`. A task has the weight of the last
    pattern with a weight that names it, and 1 without one: `*,NAME=2` are all tasks, one of them with weight 2.

    Raises:
        BenchmarkError: a pattern names nothing or its weight is not a positive number; no pattern names a task of some
            benchmark; or a task has too few accuracies to split.
    """
    parsed = [_weighted(pattern) for pattern in patterns]
    tasks = [
        Task(number, name, next((w for p, w in reversed(parsed) if w is not None and fnmatchcase(name, p)), 1.0))
        for number, name in matching_tasks(benchmarks, [pattern for pattern, _ in parsed])
    ]
    for number, benchmark in enumerate(benchmarks):
        if not any(task.benchmark == number for task in tasks):
            known = ", ".join(benchmark.tasks)
            raise BenchmarkError(f"benchmark {benchmark.name} has none of the tasks; leave it out, or add one: {known}")
    for task in tasks:
        _check_enough(benchmarks[task.benchmark], task.name)
    return tasks


def leave_out(
    benchmarks: Sequence[Benchmark], tasks: Sequence[Task], patterns: Sequence[str]
) -> tuple[list[Task], list[Task]]:
    """Return the tasks that no pattern names, and all tasks of the benchmarks that a pattern names.

    Raises:
        BenchmarkError: a pattern names nothing, no task of some benchmark is left, or a task that is left out has too
            few accuracies to split.
    """
    held = [Task(*found) for found in matching_tasks(benchmarks, patterns)] if patterns else []
    names = {(task.benchmark, task.name) for task in held}
    kept = [task for task in tasks if (task.benchmark, task.name) not in names]
    for number, benchmark in enumerate(benchmarks):
        if not any(task.benchmark == number for task in kept):
            raise BenchmarkError(
                f"no task of benchmark {benchmark.name} is left to evolve on; leave out fewer tasks, or the whole "
                "benchmark with --leave-out-bench"
            )
    for task in held:
        _check_enough(benchmarks[task.benchmark], task.name)
    return kept, held


def _weighted(text: str) -> tuple[str, float | None]:
    """Return the pattern and the weight of `NAME=2`; no weight where there is none."""
    pattern, equals, number = text.rpartition("=")
    if not equals:
        return text, None
    if "=" in pattern:
        raise BenchmarkError(f"'{text:.40}' has more than one '='; a task's name has none, so write NAME=WEIGHT")
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not (weight > 0 and math.isfinite(weight)):
        raise BenchmarkError(f"the weight '{number:.40}' of task '{pattern:.40}' is not a positive number")
    return pattern.strip(), weight


def _check_enough(benchmark: Benchmark, name: str) -> None:
    splits: Mapping[str, np.ndarray] = benchmark.splits()
    for split in SPLITS:
        accuracies = benchmark.tasks[name][splits[split]]
        distinct = len(np.unique(accuracies[~np.isnan(accuracies)]))
        if distinct < FEWEST:
            raise BenchmarkError(
                f"task '{name}' of {benchmark.name} has fewer than {FEWEST} distinct accuracies in its {split} split; "
                f"leave it out with --tasks, or add architectures: it has {distinct} of them, and of architectures "
                f"the benchmark has {len(benchmark)}, about 50, 20 and 30 % for evolve, validation and test"
            )
