"""Breeder: individuals (trees with their formula and fitness), made, varied and evaluated."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from deap import gp

from autoprox.evolve.fitness import Fitness, Invalid, Judge, Judgement, Outcome
from autoprox.evolve.front import Front, Member
from autoprox.evolve.grammar import MAX_HEIGHT, MAX_NODES, Grammar, height
from autoprox.evolve.pieces import Pieces
from autoprox.evolve.variation import MUTATIONS, crossover, grow
from autoprox.primitives.canonical import canonical
from autoprox.primitives.formula import Formula
from autoprox.primitives.kinds import FormulaError

#: Odds that a child is a cross of two individuals, not a mutant of one.
CROSSED = 0.35

#: The lowest and highest random individual, and those of many from which the first population is chosen.
HEIGHTS, LOW = (2, 6), (1, 3)

#: Tries to vary an individual into something new.
TRIES = 10


class Individual(gp.PrimitiveTree):
    """A tree with its formula, canonical form and fitness.

    The fitness is invalid until the tree is judged, and stays invalid where the formula has none.
    """

    def __init__(self, tree: Sequence[Any], formula: Formula) -> None:
        super().__init__(tree)
        self.formula = formula
        self.canonical = canonical(formula)
        self.fitness = Fitness()
        self.outcome: Outcome = Invalid("not evaluated")


class Breeder:
    """A breeder, which makes, varies and evaluates individuals. Each canonical form is judged once in an evolution.

    With `keeps_pieces`, short formulas that were judged stay in `pieces`, with their scores: sums are made of them.
    """

    def __init__(self, grammar: Grammar, judge: Judge, max_nodes: int = MAX_NODES, keeps_pieces: bool = False) -> None:
        self.grammar, self.judge, self.max_nodes, self.keeps_pieces = grammar, judge, max_nodes, keeps_pieces
        self.memo: dict[str, Outcome] = {}
        self.validated: dict[str, float | None] = {}
        self.front, self.pieces = Front(), Pieces()
        self.judged: list[str] = []  # canonical forms judged since the journal was last written

    def founder(self, rng: random.Random, heights: tuple[int, int] = HEIGHTS) -> Individual:
        """Return a random individual."""
        while True:
            found = self.individual(grow(self.grammar, self.grammar.pset.ret, *heights, rng))
            if found is not None:
                return found

    def mutant(self, parent: Individual, rng: random.Random) -> Individual:
        """Return the parent with one random change: a new subtree, another node, one more or fewer, other layers
        or another number.

        Where ten tries give nothing new, it is a random individual (one mutant in ten of the typed grammar).
        """
        change = MUTATIONS[rng.choice(self.grammar.changes)]
        return self._varied(lambda: change(parent, self.grammar, rng), rng)

    def child(self, parent: Individual, population: Sequence[Individual], rng: random.Random) -> Individual:
        """Return a variation of the parent, not yet judged: a mutant, or a cross with another individual."""
        if rng.random() < CROSSED:
            mate = rng.choice(population)
            if mate is not parent:
                return self._varied(lambda: crossover(parent, mate, rng), rng)
        return self.mutant(parent, rng)

    def _varied(self, vary: Callable[[], Sequence[Any]], rng: random.Random) -> Individual:
        """Return the first of ten variations that is allowed and new; else a founder, so that no run is stuck."""
        for _ in range(TRIES):
            found = self.individual(vary())
            if found is not None and found.canonical.text not in self.memo:
                return found
        return self.founder(rng)

    def individual(self, tree: Sequence[Any]) -> Individual | None:
        """Return the tree as an individual; None where it is too large, or no complete formula."""
        if len(tree) > self.max_nodes or height(tree) > MAX_HEIGHT:
            return None
        try:
            found = Individual(tree, self.grammar.formula(tree))
        except FormulaError:  # constants that fold to something out of range
            return None
        return found if found.canonical.is_complete else None

    def evaluate(self, individuals: Iterable[Individual], rivals: Iterable[Individual] = ()) -> None:
        """Judge all new formulas together, and give every individual its fitness.

        A formula that is estimated far below all `rivals` may get none: see `Judge.judge`.
        """
        individuals = list(individuals)
        self.outcomes([i.canonical for i in individuals], [rival.outcome for rival in rivals])
        for individual in individuals:
            self.assign(individual)

    def outcomes(self, formulas: Sequence[Formula], rivals: Iterable[Outcome] = ()) -> list[Outcome]:
        """Return the outcomes of canonical forms on evolve; those that are new are judged together."""
        new = list({formula: None for formula in formulas if formula.text not in self.memo})
        known = [rival for rival in rivals if isinstance(rival, Judgement)]
        for formula, outcome in zip(new, self.judge.judge(new, rivals=known) if new else [], strict=True):
            if isinstance(outcome, Judgement):
                if self.keeps_pieces:
                    self.pieces.add(formula, outcome.scores)
                self.front.add(Member(formula.size, round(outcome.joint, 9), formula.text))
                outcome = Judgement(outcome.taus, outcome.joint)
            self.memo[formula.text] = outcome
            self.judged.append(formula.text)
        return [self.memo[formula.text] for formula in formulas]

    def on_validation(self, individual: Individual) -> float | None:
        """Return the joint fitness on the validation split, None without one; each canonical form is judged once."""
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


def joint(individual: Individual) -> float:
    """Return the joint fitness; −2, below every tau, without one."""
    return individual.outcome.joint if isinstance(individual.outcome, Judgement) else -2.0


def best_distinct(individuals: Iterable[Individual], count: int) -> list[Individual]:
    """Return the best `count` valid individuals, best first; of those with the same taus only the smallest."""
    kept: dict[tuple[float, ...], Individual] = {}
    ordered = sorted(individuals, key=lambda i: i.canonical.text)
    for individual in sorted(ordered, key=lambda i: i.fitness.wvalues, reverse=True):
        if isinstance(individual.outcome, Judgement):
            kept.setdefault(individual.outcome.taus, individual)
    return list(kept.values())[:count]
