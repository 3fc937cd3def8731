"""Sums: weighted sums of two formulas, and a local search of the numbers in a formula."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from deap import gp

from autoprox.evolve.breeder import Breeder, Individual
from autoprox.evolve.grammar import Grammar, is_constant
from autoprox.evolve.pieces import FORMS, Term, spread
from autoprox.primitives.operations import MAX

#: How many terms are tried before the best sum is taken.
TERMS = 24
#: How many sums of a formula are judged.
BEST = 2
#: The weights that are tried. With weight 1 both terms spread alike over the architectures.
WEIGHTS = (0.125, 0.25, 0.5, 1.0, 2.0)
#: What each number of a formula is multiplied with by the local search.
FACTORS = (0.5, 0.8, 1.25, 2.0, -1.0)
#: The nodes of a sum.
ADD, MULTIPLY = "add: Net, Net", "mul: Net, Constant"


def weighted_sums(parent: Individual, breeder: Breeder, rng: random.Random) -> list[Individual]:
    """Return up to `BEST` formulas parent + w · piece, with the pieces and weights that have the highest joint fitness.

    ::

        first ← the parent: x, log |x| or sign(x) √|x|, at random
        terms ← the 24 pieces, each in one of these forms, that go best with what first leaves unexplained
        for each term and each weight: s ← first ± w · σ(first) / σ(term) · term
        return the s with the highest joint fitness, one for each term

    Pieces are all short formulas that were judged before (see `Pieces`). σ is half the distance of the 16th and the
    84th percentile of the scores on evolve. A sum is rated by adding the scores of its terms, so no network is read
    again. Returns fewer where too few sums are allowed and new formulas.
    """
    form = rng.choice(list(FORMS))
    tree = [*_above(form, breeder.grammar), *parent]
    by_scorer = breeder.judge.scores([breeder.grammar.formula(tree)], "evolve")
    ends = np.cumsum([of_one.shape[1] for of_one in by_scorer])[:-1]
    first = np.concatenate(by_scorer, axis=1)[0]
    candidates = [
        (term, float(f"{np.copysign(weight, term.agreement) * spread(first) / scale:.2g}"))
        for term in (breeder.pieces.terms(first, breeder.judge, TERMS) if 0 < spread(first) < np.inf else ())
        if 0 < (scale := spread(term.scores)) < np.inf
        for weight in WEIGHTS
    ]
    candidates = [(term, weight) for term, weight in candidates if 0 < abs(weight) <= MAX]
    if not candidates:
        return []
    sums = np.array([first + weight * term.scores for term, weight in candidates])
    fitness = breeder.judge.joint(np.split(sums, ends, axis=1))
    made: dict[Term, Individual] = {}
    for best in np.argsort(-fitness, kind="stable").tolist():
        term, weight = candidates[best]
        second = breeder.grammar.tree(term.formula)
        if term in made or second is None:
            continue
        found = breeder.individual(_sum(tree, weight, [*_above(term.form, breeder.grammar), *second], breeder.grammar))
        if found is not None and found.canonical.text not in breeder.memo:
            made[term] = found
        if len(made) == BEST:
            break
    return list(made.values())


def _above(form: str, grammar: Grammar) -> list[Any]:
    return [grammar.node(form)] if form else []


def _sum(first: Sequence[Any], weight: float, second: Sequence[Any], grammar: Grammar) -> gp.PrimitiveTree:
    nodes = [grammar.node(ADD), *first, grammar.node(MULTIPLY), *second, grammar.number(weight)]
    return gp.PrimitiveTree(nodes)


def renumbered(individual: Individual, breeder: Breeder) -> Iterator[Individual]:
    """Yield the formula with one of its numbers changed, for each number and each of `FACTORS`."""
    for place, node in enumerate(individual):
        if is_constant(node):
            for factor in FACTORS:
                number = float(f"{float(node.name) * factor:.2g}")
                if abs(number) > MAX:
                    continue
                tree = gp.PrimitiveTree(individual)
                tree[place] = breeder.grammar.number(number)
                found = breeder.individual(tree)
                if found is not None:
                    yield found
