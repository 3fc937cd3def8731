"""The loop: founders, then generations by one of two strategies, each written in its journal."""

from __future__ import annotations

import random
import random as globally  # `seeded` puts another generator in the place of `random`
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from deap import base, gp, tools
from deap.tools import selection

from autoprox.bench_cache.runtime.journal import Journal, JournalError
from autoprox.evolve.fitness import Fitness, Invalid, Judge, Judgement, Outcome
from autoprox.evolve.grammar import GRAMMARS, MAX_HEIGHT, MAX_NODES, REMEMBERED, TABULAR, Grammar, crossover, other_role
from autoprox.evolve.joint import COMBINATIONS
from autoprox.primitives.canonical import canonical
from autoprox.primitives.formula import Formula
from autoprox.primitives.kinds import FormulaError


class SettingsError(ValueError):
    """A setting of a run that cannot be; the message names it and what is allowed."""


@dataclass(frozen=True)
class Settings:
    """What a run's result depends on, and nothing else.

    `benchmarks` name the benchmarks with a digest of their contents, `tasks` are `benchmark:task`. `retries`: how
    often a rejected child is varied again. `batch`: samples of the probes. `costly`: whether operations cubic in
    the width (singular values, Gram matrices) are in the grammar.
    """

    benchmarks: tuple[tuple[str, str], ...]
    tasks: tuple[str, ...]
    generations: int = 200
    population: int = 30
    seed: int = 0
    grammar: str = "typed"
    strategy: str = "elitist"
    joint: str = "mean"
    retries: int = 1
    batch: int = 2
    costly: bool = False

    def __post_init__(self) -> None:
        for name, lowest in (("generations", 0), ("population", 4), ("seed", 0), ("retries", 0), ("batch", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < lowest:
                raise SettingsError(f"{name} is {value!r}; it must be a whole number of at least {lowest}")
        for name, known in (
            ("grammar", (*GRAMMARS, TABULAR)),
            ("strategy", tuple(STRATEGIES)),
            ("joint", tuple(COMBINATIONS)),
        ):
            if getattr(self, name) not in known:
                raise SettingsError(f"{name} is '{getattr(self, name)}'; it must be one of {', '.join(known)}")


class Individual(gp.PrimitiveTree):
    """A tree with its formula, canonical form and fitness (invalid until evaluated, and if it has none)."""

    def __init__(self, tree: Sequence[Any], formula: Formula, known: dict[Formula, Formula] | None = None) -> None:
        super().__init__(tree)
        self.formula = formula
        self.canonical = canonical(formula, known)
        self.fitness = Fitness()
        self.outcome: Outcome = Invalid("not evaluated")


class Breeder:
    """Makes, varies and evaluates individuals. Each canonical form is judged once in a run."""

    def __init__(self, grammar: Grammar, judge: Judge) -> None:
        self.grammar, self.judge = grammar, judge
        self.memo: dict[str, Outcome] = {}
        self.validated: dict[str, float | None] = {}
        self._canonical: dict[Formula, Formula] = {}  # of subformulas: most of a child's are its parent's
        self.judged: list[str] = []  # canonical forms judged since the journal was last written
        self.toolbox = base.Toolbox()
        self.toolbox.register("grow", grammar.grow, low=0, high=3)
        self.toolbox.register("expr", lambda pset, type_: self.toolbox.grow(type_))
        self.toolbox.register("subtree", gp.mutUniform, expr=self.toolbox.expr, pset=grammar.pset)
        self.toolbox.register("replace", gp.mutNodeReplacement, pset=grammar.pset)
        self.toolbox.register("insert", gp.mutInsert, pset=grammar.pset)
        self.toolbox.register("shrink", gp.mutShrink)
        self.toolbox.register("other_role", lambda tree: (other_role(tree, grammar.pset),))
        self.toolbox.register("mate", crossover)
        self.toolbox.register("select", tools.selTournament, tournsize=3)

    def founder(self) -> Individual:
        """A random individual."""
        while True:
            found = self._individual(self.grammar.grow(self.grammar.pset.ret, 2, 6))
            if found is not None:
                return found

    def mutant(self, parent: Individual) -> Individual:
        """The parent with one random change: a new subtree, another node, one more or fewer, another role.

        Where ten tries give nothing new (about one mutant in ten of the typed grammar), a random individual.
        """
        change = random.choice(self.grammar.changes)
        return self._varied(lambda: getattr(self.toolbox, change)(gp.PrimitiveTree(parent))[0])

    def child(self, parent: Individual, population: Sequence[Individual]) -> Individual:
        """A variation of the parent, not yet judged: a mutant, or with odds .35 a cross with another individual."""
        if random.random() < 0.35:
            mate = random.choice(population)
            return self._varied(lambda: self.toolbox.mate(parent, mate)) if mate is not parent else self.mutant(parent)
        return self.mutant(parent)

    def _varied(self, vary: Callable[[], Sequence[Any]]) -> Individual:
        """The first variation of a few that is allowed and new; else a founder, which keeps a stuck run moving."""
        for _ in range(10):
            found = self._individual(vary())
            if found is not None and found.canonical.text not in self.memo:
                return found
        return self.founder()

    def _individual(self, tree: Sequence[Any]) -> Individual | None:
        if len(tree) > MAX_NODES or gp.PrimitiveTree(tree).height > MAX_HEIGHT:
            return None
        if len(self._canonical) > REMEMBERED:
            self._canonical.clear()
        try:
            found = Individual(tree, self.grammar.formula(tree), self._canonical)
        except FormulaError:  # constants that fold to something out of range
            return None
        return found if found.canonical.is_complete else None

    def evaluate(self, individuals: Iterable[Individual], rivals: Iterable[Individual] = ()) -> None:
        """Judge all that are new, together, and give every individual its fitness.

        One that is estimated far below all `rivals` may be left without: see `Judge.judge`.
        """
        individuals = list(individuals)
        new = list({i.canonical: None for i in individuals if i.canonical.text not in self.memo})
        known = [rival.outcome for rival in rivals if isinstance(rival.outcome, Judgement)]
        for formula, outcome in zip(new, self.judge.judge(new, rivals=known) if new else [], strict=True):
            self.memo[formula.text] = outcome
            self.judged.append(formula.text)
        for individual in individuals:
            self.assign(individual)

    def on_validation(self, individual: Individual) -> float | None:
        """The joint fitness on the validation split; None without one. A best individual often stays the best."""
        text = individual.canonical.text
        if text not in self.validated:
            (outcome,) = self.judge.judge([individual.canonical], "validation")
            self.validated[text] = outcome.joint if isinstance(outcome, Judgement) else None
        return self.validated[text]

    def assign(self, individual: Individual) -> None:
        """Give an individual the fitness of its canonical form, which has been judged."""
        individual.outcome = self.memo[individual.canonical.text]
        if isinstance(individual.outcome, Judgement):
            individual.fitness.values = (round(individual.outcome.joint, 9), float(individual.canonical.size))


def best_distinct(individuals: Iterable[Individual], count: int) -> list[Individual]:
    """The best `count` valid individuals, best first; of those that rank every task alike, the smallest only."""
    kept: dict[tuple[float, ...], Individual] = {}
    ordered = sorted(individuals, key=lambda i: i.canonical.text)
    for individual in sorted(ordered, key=lambda i: i.fitness.wvalues, reverse=True):
        if isinstance(individual.outcome, Judgement):
            kept.setdefault(individual.outcome.taus, individual)
    return list(kept.values())[:count]


def elitist(population: list[Individual], breeder: Breeder, settings: Settings) -> list[Individual]:
    """One generation that keeps the best, whoever they are.

    ::

        parents ← as many as the population, by tournaments of 3
        repeat 1 + retries times:
            children ← a variation of each parent;  evaluate them together
            admit each child that beats the worst of the population
            parents ← the parents of the others
        population ← the best distinct of population and admitted

    Of large networks, a child that is estimated far below the best of population and admitted is one of the others.
    """
    worst = population[-1]
    admitted: list[Individual] = []
    parents = breeder.toolbox.select(population, settings.population)
    for _ in range(1 + settings.retries):
        children = [breeder.child(parent, population) for parent in parents]
        breeder.evaluate(children, rivals=best_distinct([*population, *admitted], settings.population))
        admitted += [child for child in children if child.fitness > worst.fitness]
        parents = [p for p, child in zip(parents, children, strict=True) if not child.fitness > worst.fitness]
        if not parents:
            break
    return best_distinct([*population, *admitted], settings.population)


def auto_prox(population: list[Individual], breeder: Breeder, settings: Settings) -> list[Individual]:
    """One generation of Auto-Prox's loop (arXiv 2312.09059, Algorithm 1): as many steps as the population is large.

    ::

        pool ← a random half of the population
        parent ← a random one of the 5 best of the pool
        child ← mutate(parent), again up to `retries` times until JCM(child) ≥ JCM(parent)
        if it passed: append the child, drop the lowest of the population

    Pool ratio, k and margin (0) are not published; these are ours. So is that the population has no two that rank
    every task alike.
    """
    population = list(population)
    for _ in range(settings.population):
        pool = random.sample(population, max(2, len(population) // 2))
        parent = random.choice(tools.selBest(pool, 5))
        for _ in range(1 + settings.retries):
            child = breeder.mutant(parent)
            breeder.evaluate([child])
            if _joint(child) >= _joint(parent):
                population = best_distinct([*population, child], settings.population)
                break
    return population


def _joint(individual: Individual) -> float:
    return individual.outcome.joint if isinstance(individual.outcome, Judgement) else -2.0


STRATEGIES = {"elitist": elitist, "auto-prox": auto_prox}


@contextmanager
def seeded(*what: object) -> Iterator[None]:
    """Inside, DEAP and evolution draw from a generator of their own; the global one is seeded too, for whoever else
    draws, and afterwards as it was.

    The global one alone would not do: the threads of an executor draw from it whenever they please (those of Dask do).
    """
    seed = "/".join(map(str, what))  # a string is hashed by SHA-512: the same on every machine
    drawing = [gp, selection, sys.modules[Grammar.__module__], sys.modules[__name__]]
    before, state = [module.random for module in drawing], globally.getstate()
    globally.seed(seed)
    own = globally.Random(seed)
    for module in drawing:
        module.random = own
    try:
        yield
    finally:
        for module, generator in zip(drawing, before, strict=True):
            module.random = generator
        globally.setstate(state)


def found(breeder: Breeder, settings: Settings) -> list[Individual]:
    """The first population: random individuals, as many valid and distinct ones as asked for."""
    population: list[Individual] = []
    for _ in range(50):
        newcomers = [breeder.founder() for _ in range(settings.population)]
        breeder.evaluate(newcomers)
        population = best_distinct([*population, *newcomers], settings.population)
        if len(population) == settings.population:
            return population
    raise SettingsError(
        f"found only {len(population)} distinct valid formulas of {settings.population}; use a smaller population"
    )


def evolve(
    breeder: Breeder, settings: Settings, journal: Journal, on_generation: Callable[[dict[str, Any]], None]
) -> list[Individual]:
    """Evolve up to generation `settings.generations`, going on where the journal ends. The last population, best first.

    ::

        population ← random founders                                (generation 0)
        for each generation: population ← strategy(population);  write the journal

    Every generation draws from a generator of its own, seeded by run seed and generation number, so a resumed run
    is the uninterrupted one.
    """
    population = restore(breeder, journal.records)
    for generation in range(len(journal.records), settings.generations + 1):
        with seeded(settings.seed, generation):
            if generation == 0:
                population = found(breeder, settings)
            else:
                population = STRATEGIES[settings.strategy](population, breeder, settings)
        record = _record(generation, population, breeder)
        journal.append(record)
        on_generation(record)
    return population


def _record(generation: int, population: Sequence[Individual], breeder: Breeder) -> dict[str, Any]:
    """The journal's line of a generation; takes the list of what was judged since the last one."""
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
        "population": [[node.name for node in individual] for individual in population],
        "judged": [[text, o.reason if isinstance(o, Invalid) else [o.joint, *o.taus]] for text, o in outcomes],
    }


def restore(breeder: Breeder, generations: Sequence[Mapping[str, Any]]) -> list[Individual]:
    """The population and memo as they were when the last of the journal's generations was written.

    Raises JournalError or FormulaError for a journal that this version could not have written.
    """
    for generation in generations:
        for text, outcome in generation["judged"]:
            valid = isinstance(outcome, list)
            breeder.memo[text] = Judgement(tuple(outcome[1:]), outcome[0]) if valid else Invalid(outcome)
    if not generations:
        return []
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
    """Raise JournalError, with the line, unless every generation has what the loop goes on from."""
    for number, record in enumerate(journal.records):
        if not _is_generation(record):
            raise JournalError(f"{journal.path}: line {number + 2} is damaged; start again with another --out")


def _is_generation(record: Mapping[str, Any]) -> bool:
    """Whether a line has what the loop goes on from: trees by the names of their nodes, outcomes by formula."""
    population, judged, best = record.get("population"), record.get("judged"), record.get("best")
    return (
        isinstance(best, dict)
        and {"formula", "joint", "validation"} <= best.keys()
        and type(record.get("unique")) is int
        and isinstance(population, list)
        and bool(population)
        and all(isinstance(tree, list) and all(isinstance(name, str) for name in tree) for tree in population)
        and isinstance(judged, list)
        and all(isinstance(entry, list) and len(entry) == 2 and _is_outcome(*entry) for entry in judged)
    )


def _is_outcome(text: object, outcome: object) -> bool:
    numbers = isinstance(outcome, list) and len(outcome) > 1 and all(isinstance(tau, int | float) for tau in outcome)
    return isinstance(text, str) and (isinstance(outcome, str) or numbers)
