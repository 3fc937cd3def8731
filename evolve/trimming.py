"""Trimming: the parts of a formula that buy next to nothing are dropped, one after another."""

from __future__ import annotations

from autoprox.evolve.breeder import Breeder
from autoprox.evolve.fitness import Judgement
from autoprox.primitives.canonical import canonical
from autoprox.primitives.formula import Formula, apply
from autoprox.primitives.kinds import FormulaError
from autoprox.primitives.operations import Operation

#: A part whose removal costs less of the joint fitness on evolve is dropped.
WORTH = 0.002


def trimmed(formula: Formula, breeder: Breeder) -> Formula:
    """Return the formula without the parts that are not worth `WORTH`; all that is tried may enter the front.

    ::

        repeat: of all formulas with one part less, take the fittest, if it lost less than WORTH
    """
    while True:
        shorter = without_a_part(formula)
        (before, *outcomes) = breeder.outcomes([formula, *shorter])
        joints = [outcome.joint if isinstance(outcome, Judgement) else -2.0 for outcome in outcomes]
        best = max(range(len(joints)), key=lambda n: (round(joints[n], 9), -shorter[n].size), default=None)
        if best is None or not isinstance(before, Judgement) or joints[best] <= before.joint - WORTH:
            return formula
        formula = shorter[best]


def without_a_part(formula: Formula) -> list[Formula]:
    """Return the smaller canonical forms in which one operation has given way to an argument of its own kind."""
    found: dict[Formula, None] = {}
    for node in formula.nodes():
        for arg in node.args:
            if arg.kind != node.kind:
                continue
            try:
                shorter = canonical(_replaced(formula, node, arg))
            except FormulaError:  # constants that fold to something out of range
                continue
            if shorter.is_complete and shorter.size < formula.size:
                found[shorter] = None
    return list(found)


def _replaced(formula: Formula, old: Formula, new: Formula) -> Formula:
    """Return the formula with another node in the place of one, wherever it stands."""
    done = {old: new}
    for node in formula.nodes():  # arguments first
        if node not in done:
            head = node.head
            done[node] = apply(head, *(done[arg] for arg in node.args)) if isinstance(head, Operation) else node
    return done[formula]
