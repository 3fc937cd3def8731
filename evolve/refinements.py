"""Refinements: what is tried on a population after each generation. To add one, add its record here."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from autoprox.evolve.breeder import Breeder, Individual, best_distinct
from autoprox.evolve.sums import renumbered, weighted_sums
from autoprox.evolve.variation import tournament


@dataclass(frozen=True)
class Refinement:
    """One way to refine a population.

    `function` takes the population, best first, its breeder and the generation's random generator. It returns the
    population with what it found, as large, best first and evaluated. `meaning` says in a few words what it does, for
    `--help`. `sums` says that it makes weighted sums: it needs a grammar that has them, and a breeder
    that keeps pieces.
    """

    function: Callable[[list[Individual], Breeder, random.Random], list[Individual]]
    meaning: str
    sums: bool = False


def none(population: list[Individual], breeder: Breeder, rng: random.Random) -> list[Individual]:
    """Return the population as it is."""
    return population


def sums(population: list[Individual], breeder: Breeder, rng: random.Random) -> list[Individual]:
    """Add weighted sums, then search the numbers of the best formula.

    ::

        parents ← the best, and a tenth of the population by tournaments of 3
        children ← the two best weighted sums of each parent and a short formula that was judged before
        population ← the best distinct of population and children
        tried ← the best formula, with each of its numbers changed in turn
        population ← the best distinct of population and tried
    """
    size = len(population)
    parents = [population[0], *tournament(population, size // 10, 3, rng)]
    children = [child for parent in parents for child in weighted_sums(parent, breeder, rng)]
    breeder.evaluate(children)
    population = best_distinct([*population, *children], size)
    tried = list(renumbered(population[0], breeder))
    breeder.evaluate(tried)
    return best_distinct([*population, *tried], size)


#: The refinements by name.
REFINEMENTS: dict[str, Refinement] = {
    "none": Refinement(none, "nothing"),
    "sums": Refinement(
        sums, "weighted sums with short formulas tried before, and a local search of the best one's numbers", sums=True
    ),
}
