"""Leave-outs: the formulas that are left when one part of a formula, or one step of it, is taken out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from autoprox.primitives import OPERATIONS, Formula, FormulaError, Operation, apply
from autoprox.primitives.words import Part

#: Operation → what it becomes of its second argument without its first: 0 − b and 1 / b. Others become the argument.
_WITHOUT_FIRST = {"sub": "neg", "div": "invert"}
#: Operation → what it becomes of its first argument without its second: |a|¹.
_WITHOUT_SECOND = {"pow": "abs"}
#: Families whose operations can be taken out alone, because they give what they take.
_STEPS = ("map", "normalise", "along_depth")


@dataclass(frozen=True)
class LeftOut:
    """What is taken out of a formula, by the names of its parts, and the formula that is left."""

    what: str
    formula: Formula


def leave_outs(parts: Sequence[Part]) -> tuple[LeftOut, ...]:
    """Return what can be taken out of a formula, which is the last of the parts.

    A part is taken out with everything that it alone feeds, up to the operation that combines it with another part:
    `a + b` becomes `b`, `a - b` becomes `-b`, `a / b` becomes `1 / b`. A step is an operation on one argument that
    keeps the kind of its argument, and that can be taken out alone: `fro(sqrt(a))` becomes `fro(a)`. Where several of
    them leave the same formula, it stands once, under the largest part. What leaves nothing, or nothing that is a
    formula, is not there.
    """
    whole = parts[-1].formula
    found: dict[Formula, str] = {}
    for part in reversed(parts):
        for what, left in _attempts(whole, part):
            if left is not None and left.is_complete and left != whole:
                found.setdefault(left, what)
    return tuple(LeftOut(what, formula) for formula, what in found.items())


def _attempts(whole: Formula, part: Part) -> Iterator[tuple[str, Formula | None]]:
    yield part.name, without_part(whole, part.formula)
    head = part.formula.head
    if isinstance(head, Operation) and head.family in _STEPS:
        yield f"the step {head.name} of {part.name}", _or_none(whole, part.formula)


def _or_none(whole: Formula, step: Formula) -> Formula | None:
    try:
        return whole.rebuilt({step: step.args[0]})
    except FormulaError:
        return None


def without_part(whole: Formula, part: Formula) -> Formula | None:
    """Return the formula without a part, see `leave_outs`; None where nothing is left, or it is no formula."""
    try:
        return _without(whole, part, {})
    except FormulaError:  # the kinds of what is left do not fit
        return None


def _without(node: Formula, part: Formula, known: dict[Formula, Formula | None]) -> Formula | None:
    if node == part:
        return None
    if node not in known:
        known[node] = _rest(node, [_without(argument, part, known) for argument in node.args])
    return known[node]


def _rest(node: Formula, left: Sequence[Formula | None]) -> Formula | None:
    """Return what is left of a node whose arguments are left as given; a number alone is nothing."""
    operation = node.head
    there = [argument for argument in left if argument is not None]
    if not isinstance(operation, Operation) or tuple(left) == node.args:
        return node
    if len(there) == len(left):
        return apply(operation, *there)
    if not there or there[0].is_closed:
        return None
    becomes = (_WITHOUT_FIRST if left[0] is None else _WITHOUT_SECOND).get(operation.name)
    return apply(OPERATIONS[becomes], there[0]) if becomes and OPERATIONS.has(operation) else there[0]
