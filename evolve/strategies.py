"""Strategies: how one generation becomes the next. To add one, write its function here and add its record."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from deap import tools

from autoprox.evolve.breeder import Breeder, Individual, best_distinct, joint
from autoprox.evolve.variation import tournament


@dataclass(frozen=True)
class Strategy:
    """One way to make the next generation.

    `function` takes the population, best first, its breeder, how often a rejected child is varied again, and the
    generation's random generator. It returns the next population: as large, best first, and evaluated. `meaning` says
    in a few words what the strategy does, for `--help`.
    """

    function: Callable[[list[Individual], Breeder, int, random.Random], list[Individual]]
    meaning: str


def elitist(population: list[Individual], breeder: Breeder, retries: int, rng: random.Random) -> list[Individual]:
    """Make a generation that keeps the best, whoever they are.

    ::

        parents ← as many as the population, by tournaments of 3
        repeat 1 + retries times:
            children ← a variation of each parent;  evaluate them together
            admit each child that beats the worst of the population
            parents ← the parents of the others
        population ← the best distinct of population and admitted

    Where networks are large, a child that is estimated far below the best of population and admitted is not admitted.
    """
    size, worst = len(population), population[-1]
    admitted: list[Individual] = []
    parents = tournament(population, size, 3, rng)
    for _ in range(1 + retries):
        children = [breeder.child(parent, population, rng) for parent in parents]
        breeder.evaluate(children, rivals=best_distinct([*population, *admitted], size))
        admitted += [child for child in children if child.fitness > worst.fitness]
        parents = [p for p, child in zip(parents, children, strict=True) if not child.fitness > worst.fitness]
        if not parents:
            break
    return best_distinct([*population, *admitted], size)


def auto_prox(population: list[Individual], breeder: Breeder, retries: int, rng: random.Random) -> list[Individual]:
    """Make a generation by Auto-Prox's loop (arXiv 2312.09059, Algorithm 1): a step for each of the population.

    ::

        pool ← a random half of the population
        parent ← a random one of the 5 best of the pool
        child ← mutate(parent), again up to `retries` times until JCM(child) ≥ JCM(parent)
        if it passed: append the child, drop the lowest of the population

    The paper does not give the ratio of the pool, k and the margin (0): these are ours. It is ours, too, that no two of
    the population have the same taus.
    """
    size, population = len(population), list(population)
    for _ in range(size):
        pool = rng.sample(population, max(2, len(population) // 2))
        parent = rng.choice(tools.selBest(pool, 5))
        for _ in range(1 + retries):
            child = breeder.mutant(parent, rng)
            breeder.evaluate([child])
            if joint(child) >= joint(parent):
                population = best_distinct([*population, child], size)
                break
    return population


#: How many of each family `niches` keeps, as long as these are no more than half of the population.
KEPT_OF_A_FAMILY = 2


def family(individual: Individual) -> frozenset[str]:
    """Return the names of the matrices that a formula reads; none for a formula of sizes alone."""
    terminals = individual.canonical.terminals()
    return frozenset(terminal.statistic.name for terminal in terminals if terminal.statistic.level == "matrix")


def niches(population: list[Individual], breeder: Breeder, retries: int, rng: random.Random) -> list[Individual]:
    """Make a generation in which families of formulas, by the statistics that they read, do not die out at once.

    ::

        parents ← as many as the population, each by a tournament of 3 within a random family
        repeat 1 + retries times:
            children ← a variation of each parent;  evaluate them together
            parents ← the parents of those that would not survive
        population ← the survivors of population and children

    Survivors are the best 2 of each family, best families first, up to half of the population, and the best others.
    """
    size, found = len(population), list(population)
    families: dict[frozenset[str], list[Individual]] = {}
    for individual in population:
        families.setdefault(family(individual), []).append(individual)
    parents = [tournament(rng.choice(list(families.values())), 1, 3, rng)[0] for _ in range(size)]
    for _ in range(1 + retries):
        children = [breeder.child(parent, population, rng) for parent in parents]
        breeder.evaluate(children)
        found = survivors([*found, *children], size)
        parents = [p for p, child in zip(parents, children, strict=True) if not any(child is each for each in found)]
        if not parents:
            break
    return found


def survivors(individuals: list[Individual], size: int) -> list[Individual]:
    """Return the `size` individuals that `niches` keeps, best first."""
    ordered, kept = best_distinct(individuals, len(individuals)), []
    families: dict[frozenset[str], list[Individual]] = {}
    for individual in ordered:
        families.setdefault(family(individual), []).append(individual)
    for of_family in families.values():  # the families with the best formulas come first
        kept += of_family[:KEPT_OF_A_FAMILY]
    kept = kept[: size // 2]
    kept += [each for each in ordered if not any(each is other for other in kept)][: size - len(kept)]
    return best_distinct(kept, size)


#: The strategies by name.
STRATEGIES: dict[str, Strategy] = {
    "elitist": Strategy(elitist, "keep the best of the population and its children"),
    "auto-prox": Strategy(auto_prox, "let one mutant at a time replace the worst formula, as in Auto-Prox"),
    "niches": Strategy(niches, "as elitist, but the best of each family, by the statistics read, are kept too"),
}
