"""Sums: weighted sums of two formulas, and a local search of the numbers in a formula."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from deap import gp

from autoprox.evolve.breeder import Breeder, Individual
from autoprox.evolve.grammar import Grammar

#: How many others a formula is added to before the best sum is taken.
MATES = 8
#: The weights that are tried, each in both signs. With weight 1 both terms spread alike over the architectures.
WEIGHTS = (0.125, 0.25, 0.5, 1.0, 2.0)
#: What each number of a formula is multiplied with by the local search.
FACTORS = (0.5, 0.8, 1.25, 2.0, -1.0)
#: The nodes of a sum, without their kinds.
ADD, MULTIPLY, COMPRESSIONS = "add: Net, Net", "mul: Net, Constant", ("", "abslog: Net", "sqrt: Net")


def weighted_sum(
    parent: Individual, population: Sequence[Individual], breeder: Breeder, rng: random.Random
) -> Individual | None:
    """Return parent + w · mate, with the mate, the weight w and the forms of both that have the highest joint fitness.

    ::

        terms ← each of parent and 8 random mates: x, log |x| or sign(x) √|x|, at random
        for each mate and each weight: s ← term(parent) + w · σ(parent) / σ(mate) · term(mate)
        return the s with the highest joint fitness

    σ is half the distance of the 16th and the 84th percentile of the scores on evolve. A sum is rated by adding the
    scores of its terms, so no network is read again. Returns None where no sum is an allowed and new formula.
    """
    mates = rng.sample(list(population), min(MATES, len(population)))
    trees = [_compressed(individual, breeder.grammar, rng) for individual in (parent, *mates)]
    scores = breeder.judge.scores([breeder.grammar.formula(tree) for tree in trees], "evolve")
    spread = np.array([_spread(np.concatenate([of_one[row] for of_one in scores])) for row in range(len(trees))])
    candidates = [
        (number, float(f"{sign * weight * spread[0] / spread[number]:.2g}"))
        for number in range(1, len(trees))
        if 0 < spread[number] < np.inf and 0 < spread[0] < np.inf
        for weight in WEIGHTS
        for sign in (1, -1)
    ]
    if not candidates:
        return None
    at, weights = np.array([number for number, _ in candidates]), np.array([weight for _, weight in candidates])
    fitness = breeder.judge.joint([of_one[0] + weights[:, None] * of_one[at] for of_one in scores])
    for best in np.argsort(-fitness, kind="stable")[:MATES]:
        number, weight = candidates[best]
        found = breeder.individual(_sum(trees[0], weight, trees[number], breeder.grammar))
        if found is not None:
            return found
    return None


def _compressed(individual: Individual, grammar: Grammar, rng: random.Random) -> list[Any]:
    compression = rng.choice(COMPRESSIONS)
    return [*([grammar.node(compression)] if compression else []), *individual]


def _sum(first: Sequence[Any], weight: float, second: Sequence[Any], grammar: Grammar) -> gp.PrimitiveTree:
    nodes = [grammar.node(ADD), *first, grammar.node(MULTIPLY), *second, grammar.number(weight)]
    return gp.PrimitiveTree(nodes)


def _spread(scores: np.ndarray) -> float:
    """Return half the distance of the 16th and the 84th percentile: σ for normal scores, whatever their tails do."""
    if not np.isfinite(scores).all():
        return float("inf")
    low, high = np.quantile(scores, (0.16, 0.84))
    return float(high - low) / 2


def renumbered(individual: Individual, breeder: Breeder) -> Iterator[Individual]:
    """Yield the formula with one of its numbers changed, for each number and each of `FACTORS`."""
    for place, node in enumerate(individual):
        if node.arity == 0 and node.ret.__name__ == "Constant":
            for factor in FACTORS:
                tree = gp.PrimitiveTree(individual)
                tree[place] = breeder.grammar.number(float(f"{float(node.name) * factor:.2g}"))
                found = breeder.individual(tree)
                if found is not None:
                    yield found
