"""Words: a formula part by part, each in plain English, from the records of its statistics and operations."""

from __future__ import annotations

from dataclasses import dataclass

from autoprox.primitives.formula import Formula
from autoprox.primitives.kinds import LEVELS, ROLE_WORDS, probe_words
from autoprox.primitives.operations import Operation
from autoprox.primitives.statistics import Terminal


@dataclass(frozen=True)
class Part:
    """One subformula of a formula, once, however often it is used.

    Attributes:
        number: its number, from 1; arguments have smaller numbers than what uses them, and the last part is the whole.
        formula: the subformula.
        short: its operation on the numbers of its arguments, as in `fro(#1)`; a statistic as it stands.
        words: the same in plain English, as in `the Euclidean (Frobenius) norm of #1, in each layer`.
    """

    number: int
    formula: Formula
    short: str
    words: str

    @property
    def kind(self) -> str:
        """What the part is: a matrix for each layer, a number for each layer, or a number for the network."""
        return LEVELS[self.formula.kind.level]

    @property
    def name(self) -> str:
        """How other parts call it."""
        return f"#{self.number}"


def parts_of(formula: Formula) -> tuple[Part, ...]:
    """Return the parts of a formula, arguments before what uses them; numbers that stand in it are no parts."""
    names: dict[Formula, str] = {}
    found: list[Part] = []
    for node in formula.nodes():
        if node.is_constant:
            names[node] = node.text
            continue
        part = Part(len(found) + 1, node, _short(node, names), _words(node, names))
        names[node] = part.name
        found.append(part)
    return tuple(found)


def _short(node: Formula, names: dict[Formula, str]) -> str:
    if not isinstance(node.head, Operation):
        return node.text
    arguments = [names[argument] for argument in node.args]
    if node.head.infix:
        return f"{arguments[0]} {node.head.infix} {arguments[1]}"
    return f"{node.head.name}({', '.join(arguments)})"


def _words(node: Formula, names: dict[Formula, str]) -> str:
    if isinstance(node.head, Terminal):
        return terminal_words(node.head)
    assert isinstance(node.head, Operation)
    return node.head.in_words.format(*(names[argument] for argument in node.args)) + _over(node)


def _over(node: Formula) -> str:
    """Return where an operation that reduces works: in each layer, or over all layers."""
    before, after = node.args[0].kind.level, node.kind.level
    if before == after or node.args[0].is_closed:
        return ""
    return {"matrix": ", in each layer", "layer": ", over all layers"}.get(before, "")


def terminal_words(terminal: Terminal) -> str:
    """Return a statistic in words, with the layers it is of and the probe it is read under."""
    words = [terminal.statistic.about]
    if terminal.role in ROLE_WORDS:
        words.append(f"of {ROLE_WORDS[terminal.role]}")
    if terminal.probe:
        words.append(f"read on {probe_words(terminal.probe)}")
    return "; ".join(words)
