"""Pieces: short formulas that were judged before, of which sums are made, whatever their own fitness was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoprox.bench_cache.rank_correlation import mean_ranks
from autoprox.evolve.fitness import Judge
from autoprox.primitives.formula import Formula
from autoprox.primitives.operations.total import TINY

#: A piece has no more nodes.
LONGEST = 8
#: Standardised numbers are cut off here, so that no architecture alone says what a piece is worth.
CUT = 3.0


def raw(scores: np.ndarray) -> np.ndarray:
    """x"""
    return scores


def logarithm(scores: np.ndarray) -> np.ndarray:
    """log |x|"""
    return np.log(np.maximum(np.abs(scores), TINY))


def root(scores: np.ndarray) -> np.ndarray:
    """sign(x) √|x|"""
    return np.sign(scores) * np.sqrt(np.abs(scores))


#: What a piece may be in a sum, by the node that stands above it.
FORMS = {"": raw, "abslog: Net": logarithm, "sqrt: Net": root}


@dataclass(frozen=True, eq=False)
class Term:
    """A piece in one of its `FORMS`, with its scores on evolve, and how it goes with what a sum lacks so far."""

    formula: Formula
    form: str
    scores: np.ndarray
    agreement: float


class Pieces:
    """The short formulas, in the order in which they were judged, with their scores once these were asked for."""

    def __init__(self) -> None:
        self.formulas: list[Formula] = []
        self._known: dict[Formula, np.ndarray] = {}  # scores that came with a formula
        self._scores = np.empty((0, 0))
        self._forms = np.empty((0, 0), dtype=np.float32)  # each piece in each form, standardised and cut off

    def add(self, formula: Formula, scores: Sequence[np.ndarray] | None = None) -> None:
        """Add a formula that has a fitness, if it is short; `scores` are those on evolve, where they are at hand."""
        if formula.size <= LONGEST:
            self.formulas.append(formula)
            if scores is not None:
                self._known[formula] = np.concatenate(scores)

    def terms(self, scores: np.ndarray, judge: Judge, count: int) -> list[Term]:
        """Return the terms that go best with what a formula of these scores leaves of the accuracies unexplained.

        `scores` has all architectures of evolve, scorer by scorer. Agreement is the partial correlation of a term and
        the ranks of the accuracies, given the ranks of the scores; the weighted mean over the tasks.
        """
        if not self.formulas:
            return []
        self._score(judge)
        agreements = np.average(
            [self._agreement(scores, judge, n) for n in range(len(judge.tasks))], axis=0, weights=judge.weights
        )
        best = np.argsort(-np.abs(agreements), kind="stable")[:count]
        return [self._term(n, float(agreements[n])) for n in best.tolist()]

    def _term(self, number: int, agreement: float) -> Term:
        piece, form = divmod(number, len(FORMS))
        name, function = list(FORMS.items())[form]
        return Term(self.formulas[piece], name, function(self._scores[piece]), agreement)

    def _score(self, judge: Judge) -> None:
        """Score the formulas that were added since the last time."""
        new = self.formulas[len(self._scores) :]
        if not new:
            return
        unknown = [formula for formula in new if formula not in self._known]
        if unknown:
            self._known |= zip(unknown, np.concatenate(judge.scores(unknown, "evolve"), axis=1), strict=True)
        scores = np.array([self._known.pop(formula) for formula in new])
        forms = [standardised(function(of_one)) for of_one in scores for function in FORMS.values()]
        if len(self._scores):
            scores, forms = np.concatenate([self._scores, scores]), [*self._forms, *forms]
        self._scores, self._forms = scores, np.array(forms, dtype=np.float32)

    def _agreement(self, scores: np.ndarray, judge: Judge, number: int) -> np.ndarray:
        """Return the partial correlations of all terms with the accuracies of a task."""
        task, place = judge.tasks[number], judge.places[number]
        accuracies = judge.accuracies(task, "evolve")
        there = ~np.isnan(accuracies)
        start = sum(len(judge.architectures(n, "evolve")) for n in range(place))
        at = start + np.flatnonzero(there)
        known, wanted = _unit(mean_ranks(scores[at])), _unit(mean_ranks(accuracies[there]))
        terms = self._forms[:, at] - self._forms[:, at].mean(axis=1, keepdims=True)
        terms = terms - (terms @ known)[:, None] * known
        left = wanted - (wanted @ known) * known
        length = np.linalg.norm(terms, axis=1) * np.linalg.norm(left)
        return np.divide(terms @ left, length, out=np.zeros(len(terms)), where=length > 1e-9)


def spread(scores: np.ndarray) -> float:
    """Return half the distance of the 16th and the 84th percentile: σ for normal scores, whatever their tails do."""
    if not np.isfinite(scores).all():
        return float("inf")
    low, high = np.quantile(scores, (0.16, 0.84))
    return float(high - low) / 2


def standardised(scores: np.ndarray) -> np.ndarray:
    """Return (x − median) / spread, cut off at ± `CUT`; 0 for scores that do not spread."""
    scale = spread(scores)
    if not 0 < scale < np.inf:
        return np.zeros(len(scores))
    return np.clip((scores - np.median(scores)) / scale, -CUT, CUT)


def _unit(values: np.ndarray) -> np.ndarray:
    centred = values - values.mean()
    length = float(np.linalg.norm(centred))
    return centred / length if length > 0 else centred
