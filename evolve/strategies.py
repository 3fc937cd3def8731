"""Strategies: how one generation becomes the next. To add one, write its function here and add its record."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
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


#: How parents are drawn: from the population, so many, by the generation's random generator.
Selection = Callable[[list[Individual], int, random.Random], list[Individual]]


def by_tournaments(population: list[Individual], count: int, rng: random.Random) -> list[Individual]:
    """Return `count` parents, each the fittest of 3 random ones."""
    return tournament(population, count, 3, rng)


def by_lexicase(population: list[Individual], count: int, rng: random.Random) -> list[Individual]:
    """Return `count` parents by epsilon-lexicase selection over tasks (La Cava et al., GECCO 2016).

    ::

        for each parent: pool ← the population
            for each task, in random order: pool ← those of it with tau ≥ the pool's highest − ε(task)
            parent ← a random one of the pool

    ε is the median absolute deviation of the population's taus on the task.
    """
    taus = np.array([individual.outcome.taus for individual in population])  # type: ignore[union-attr]
    epsilons = np.median(np.abs(taus - np.median(taus, axis=0)), axis=0)
    parents = []
    for _ in range(count):
        pool = np.arange(len(population))
        for task in rng.sample(range(taus.shape[1]), taus.shape[1]):
            pool = pool[taus[pool, task] >= taus[pool, task].max() - epsilons[task]]
        parents.append(population[rng.choice(pool.tolist())])
    return parents


def by_rare_sizes(population: list[Individual], count: int, rng: random.Random) -> list[Individual]:
    """Return `count` parents, each of 3 random ones the one with the lowest (1 − joint) · exp(f).

    f is the fraction of the population that has as many nodes (the idea of SymbolicRegression.jl, arXiv 2305.01582).
    """
    sizes = Counter(individual.canonical.size for individual in population)

    def loss(individual: Individual) -> float:
        return (1 - joint(individual)) * math.exp(sizes[individual.canonical.size] / len(population))

    return [min((rng.choice(population) for _ in range(3)), key=loss) for _ in range(count)]


def elitist(
    population: list[Individual],
    breeder: Breeder,
    retries: int,
    rng: random.Random,
    select: Selection = by_tournaments,
) -> list[Individual]:
    """Make a generation that keeps the best, whoever they are.

    ::

        parents ← as many as the population, by `select`: tournaments of 3
        repeat 1 + retries times:
            children ← a variation of each parent;  evaluate them together
            admit each child that beats the worst of the population
            parents ← the parents of the others
        population ← the best distinct of population and admitted

    Where networks are large, a child that is estimated far below the best of population and admitted is not admitted.
    """
    size, worst = len(population), population[-1]
    admitted: list[Individual] = []
    parents = select(population, size, rng)
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


#: The islands of `islands`, and how many generations pass between two migrations.
ISLANDS, MIGRATION = 3, 2


def islands(population: list[Individual], breeder: Breeder, retries: int, rng: random.Random) -> list[Individual]:
    """Make a generation on 3 islands, each with a third of the population, where parents and mates are drawn.

    ::

        deal what no island has had to the islands in turn
        each island ← elitist(island)
        every 2 generations: the best of each island joins the next island
        population ← the best distinct of all islands; where these are too few, the best of before too

    A resumed run deals its population to the islands anew.
    """
    size, state = len(population), breeder.islands
    if not state.members:
        state.members = [population[start::ISLANDS] for start in range(ISLANDS)]
        state.sizes = [len(island) for island in state.members]
        state.dealt = {individual.canonical.text for individual in population}
    newcomers = [individual for individual in population if individual.canonical.text not in state.dealt]
    live = [
        elitist(best_distinct([*each, *newcomers[n::ISLANDS]], state.sizes[n]), breeder, retries, rng)
        for n, each in enumerate(state.members)
    ]
    state.turns += 1
    if state.turns % MIGRATION == 0:
        live = [best_distinct([*each, live[n - 1][0]], state.sizes[n]) for n, each in enumerate(live)]
    state.members, everyone = live, [individual for island in live for individual in island]
    state.dealt |= {individual.canonical.text for individual in [*newcomers, *everyone]}
    found = best_distinct(everyone, size)
    missing = best_distinct([*found, *population], 2 * size)
    return best_distinct([*found, *[each for each in missing if each not in found][: size - len(found)]], size)


#: The strategies by name.
STRATEGIES: dict[str, Strategy] = {
    "elitist": Strategy(elitist, "keep the best of the population and its children"),
    "auto-prox": Strategy(auto_prox, "let one mutant at a time replace the worst formula, as in Auto-Prox"),
    "niches": Strategy(niches, "as elitist, but the best of each family, by the statistics read, are kept too"),
    "lexicase": Strategy(partial(elitist, select=by_lexicase), "as elitist, parents by epsilon-lexicase over tasks"),
    "rare-sizes": Strategy(partial(elitist, select=by_rare_sizes), "as elitist, with parents whose size is rare"),
    "islands": Strategy(islands, "as elitist on three islands, each with a third of the population"),
}
