"""Choosing: which of the formulas that an evolution found is its result, by the validation split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoprox.bench_cache.rank_correlation import resampled_taus
from autoprox.evolve.breeder import Breeder, Individual, best_distinct
from autoprox.evolve.fitness import Judge, Judgement
from autoprox.evolve.front import Front, Member
from autoprox.evolve.report import RESAMPLES, draws
from autoprox.evolve.trimming import trimmed
from autoprox.primitives.formula import Formula
from autoprox.primitives.operations import OPERATIONS, Vocabulary
from autoprox.primitives.text import parse

#: How many standard errors on validation a shorter formula may be below the best one.
NOISE = 0.5
#: How many of the last population, by fitness, are compared on the validation split, beside those of the front.
FINALISTS = 10


@dataclass(frozen=True)
class FrontRow:
    """A line of the front: no formula of as few nodes is as fit on evolve. See `Front`.

    `complexity` counts nodes; `evolve` and `validation` are the joint fitness on these splits, None without one.
    """

    complexity: int
    evolve: float
    validation: float | None
    formula: str


@dataclass(frozen=True)
class Choice:
    """The formula that is the result of a run, and the front that it was chosen from, the smallest first.

    `tried` is how many formulas were judged on evolve, and `finalists` how many of these on validation in the end.
    """

    formula: Formula
    front: tuple[FrontRow, ...]
    tried: int
    finalists: int


def choose(breeder: Breeder, population: Sequence[Individual], operations: Vocabulary = OPERATIONS) -> Choice:
    """Trim the fittest formula, and choose from the front and the fittest of the last population by `chosen`.

    With a sampled judge, the finalists are judged exactly here, on evolve too: the front is theirs, and one that has
    no exact fitness is dropped.
    """
    trimmed(population[0].canonical, breeder)  # what it tries may enter the front
    front = [parse(member.text, operations) for member in breeder.front]
    finalists = list(dict.fromkeys([*front, *(each.canonical for each in best_distinct(population, FINALISTS))]))
    members = list(breeder.front)
    if breeder.judge.sampled:
        exact = zip(finalists, breeder.judge.judge_exactly(finalists, "evolve"), strict=True)
        fit = {each: outcome.joint for each, outcome in exact if isinstance(outcome, Judgement)}
        members = list(Front(Member(each.size, joint, each.text) for each, joint in fit.items()))
        finalists = list(fit) or finalists[-1:]
    outcomes = breeder.judge.judge_exactly(finalists, "validation")
    joints = [outcome.joint if isinstance(outcome, Judgement) else None for outcome in outcomes]
    on_validation = {formula.text: joint for formula, joint in zip(finalists, joints, strict=True)}
    rows = [FrontRow(member.size, member.joint, on_validation[member.text], member.text) for member in members]
    known = [(formula, joint) for formula, joint in zip(finalists, joints, strict=True) if joint is not None]
    formula = chosen(breeder.judge, *zip(*known, strict=True)) if known else finalists[-1]
    return Choice(formula, tuple(rows), len(breeder.memo), len(finalists))


def chosen(judge: Judge, formulas: Sequence[Formula], joints: Sequence[float]) -> Formula:
    """Return the smallest formula that is as good on the validation split as the best one, within the noise there.

    `joints` has the joint fitness there. The noise is `NOISE` times the standard error of the difference of the mean
    taus, by a paired bootstrap over the split's architectures. Of equally small ones it is the better one.
    """
    best = max(range(len(formulas)), key=lambda n: joints[n])
    errors = standard_errors(judge, formulas, best)
    good = [n for n in range(len(formulas)) if joints[n] >= joints[best] - NOISE * errors[n]]
    return formulas[min(good, key=lambda n: (formulas[n].size, -joints[n]))]


def standard_errors(judge: Judge, formulas: Sequence[Formula], best: int) -> np.ndarray:
    """Return the standard error of each formula's mean tau on validation minus that of the formula number `best`."""
    scores, rng = judge.scores(formulas, "validation"), np.random.default_rng(0)
    sizes = {
        judge.benchmark(task).name: scores[place].shape[1]
        for place, task in zip(judge.places, judge.tasks, strict=True)
    }
    counts = {name: draws(rng, size) for name, size in sizes.items()}
    means = np.zeros((len(formulas), RESAMPLES))
    for place, task, weight in zip(judge.places, judge.tasks, judge.weights, strict=True):
        accuracies = judge.accuracies(task, "validation")
        there = ~np.isnan(accuracies)
        drawn = counts[judge.benchmark(task).name][:, there]
        means += [weight * resampled_taus(of_one[there], accuracies[there], drawn) for of_one in scores[place]]
    return (means - means[best]).std(axis=1) / sum(judge.weights)
