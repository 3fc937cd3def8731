"""The loop: founders, then generations by a strategy, each written into the journal."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from autoprox.bench_cache.runtime.journal import Journal, JournalError
from autoprox.evolve.breeder import HEIGHTS, LOW, Breeder, Individual, best_distinct
from autoprox.evolve.fitness import Invalid, Judgement
from autoprox.evolve.front import Front, Member
from autoprox.evolve.refinements import REFINEMENTS
from autoprox.evolve.settings import EvolutionSettings, SettingsError
from autoprox.evolve.strategies import STRATEGIES
from autoprox.evolve.variation import generator
from autoprox.primitives.text import parse


def found(breeder: Breeder, size: int, rng: random.Random, founders: int = 1) -> list[Individual]:
    """Return the first population: the `size` best, valid and distinct, of `founders` times as many random individuals.

    Where these have too few, as many are drawn again, up to fifty times. If `founders` is more than 1, individuals are
    low, so that what each statistic says by itself is known before it is combined.

    Raises:
        SettingsError: all of them have too few.
    """
    population: list[Individual] = []
    for _ in range(50):
        newcomers = [breeder.founder(rng, LOW if founders > 1 else HEIGHTS) for _ in range(founders * size)]
        breeder.evaluate(newcomers)
        population = best_distinct([*population, *newcomers], size)
        if len(population) == size:
            return population
    raise SettingsError(f"found only {len(population)} distinct valid formulas of {size}; use a smaller population")


def evolve(
    breeder: Breeder, settings: EvolutionSettings, journal: Journal, on_generation: Callable[[dict[str, Any]], None]
) -> list[Individual]:
    """Evolve up to generation `settings.generations`, from where the journal ends; return the last population.

    ::

        population ← random founders                                (generation 0)
        for each generation: population ← refine(strategy(population));  write the journal

    Every generation draws from a random generator of its own, which is seeded by the run's seed and the generation's
    number. So a resumed run gives what an uninterrupted one gives.
    """
    population = restore(breeder, journal.records)
    with rare_collection():
        return _generations(population, breeder, settings, journal, on_generation)


def _generations(
    population: list[Individual],
    breeder: Breeder,
    settings: EvolutionSettings,
    journal: Journal,
    on_generation: Callable[[dict[str, Any]], None],
) -> list[Individual]:
    strategy, refine = STRATEGIES[settings.strategy].function, REFINEMENTS[settings.refine].function
    for generation in range(len(journal.records), settings.generations + 1):
        rng = generator(settings.seed, generation)
        if generation == 0:
            population = found(breeder, settings.population, rng, settings.founders)
        else:
            population = refine(strategy(population, breeder, settings.retries, rng), breeder, rng)
        record = _record(generation, population, breeder)
        journal.append(record)
        on_generation(record)
    return population


@contextmanager
def rare_collection() -> Iterator[None]:
    """Look for circles of forgotten objects rarely inside: formulas are many, stay, and form none."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _record(generation: int, population: Sequence[Individual], breeder: Breeder) -> dict[str, Any]:
    """Return the journal's line of a generation, and clear the list of what was judged since the last one."""
    best = population[0]
    assert isinstance(best.outcome, Judgement)
    judged, breeder.judged = breeder.judged, []
    outcomes = [(text, breeder.memo[text]) for text in judged]
    return {
        "generation": generation,
        "best": {
            "formula": best.canonical.text,
            "joint": best.outcome.joint,
            "validation": breeder.on_validation(best),
        },
        "unique": len(breeder.memo),
        "front": [[member.size, member.joint, member.text] for member in breeder.front],
        "population": [[node.name for node in individual] for individual in population],
        "judged": [[text, o.reason if isinstance(o, Invalid) else [o.joint, *o.taus]] for text, o in outcomes],
    }


def restore(breeder: Breeder, generations: Sequence[Mapping[str, Any]]) -> list[Individual]:
    """Return the population of the journal's last generation, and fill the breeder's memo and front as they were then.

    Raises:
        JournalError: the journal lacks a fitness that this version would have written.
        FormulaError: a tree has nodes that the grammar does not have.
    """
    for generation in generations:
        for text, outcome in generation["judged"]:
            valid = isinstance(outcome, list)
            breeder.memo[text] = Judgement(tuple(outcome[1:]), outcome[0]) if valid else Invalid(outcome)
            if valid and breeder.keeps_pieces:
                breeder.pieces.add(parse(text, breeder.grammar.operations))
    if not generations:
        return []
    breeder.front = Front(Member(*member) for member in generations[-1]["front"])
    trees = [breeder.grammar.read(names) for names in generations[-1]["population"]]
    population = [Individual(tree, breeder.grammar.formula(tree)) for tree in trees]
    for individual in population:
        if individual.canonical.text not in breeder.memo:
            raise JournalError(
                f"the journal has no fitness of '{individual.canonical.text:.80}': it was written by another version "
                "of autoprox; go on with that one, or start again with another --out"
            )
        breeder.assign(individual)
    return population


def check_generations(journal: Journal) -> None:
    """Check that every generation has what the loop goes on from.

    Raises:
        JournalError: one has not; the message names its line.
    """
    for number, record in enumerate(journal.records):
        if not _is_generation(record):
            raise JournalError(f"{journal.path}: line {number + 2} is damaged; start again with another --out")


def _is_generation(record: Mapping[str, Any]) -> bool:
    """Return whether a line has what the loop goes on from: trees by the names of their nodes, outcomes by formula."""
    population, judged, best, front = (record.get(name) for name in ("population", "judged", "best", "front"))
    return (
        isinstance(best, dict)
        and {"formula", "joint", "validation"} <= best.keys()
        and type(record.get("unique")) is int
        and isinstance(population, list)
        and bool(population)
        and all(isinstance(tree, list) and all(isinstance(name, str) for name in tree) for tree in population)
        and isinstance(front, list)
        and all(isinstance(member, list) and [*map(type, member)] == [int, float, str] for member in front)
        and isinstance(judged, list)
        and all(isinstance(entry, list) and len(entry) == 2 and _is_outcome(*entry) for entry in judged)
    )


def _is_outcome(text: object, outcome: object) -> bool:
    """Return whether this is a formula with its reason for no fitness, or with its joint fitness and taus."""
    numbers = isinstance(outcome, list) and len(outcome) > 1 and all(isinstance(tau, int | float) for tau in outcome)
    return isinstance(text, str) and (isinstance(outcome, str) or numbers)
