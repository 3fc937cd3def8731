"""Vectors: many formulas of a table's columns are one graph, whose nodes are vectors over the architectures.

A common subformula is computed once. Nodes of one operation and one depth are computed in one call, on their arguments
stacked: a call takes longer to begin than to work on 1,000 numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

import numpy as np
import torch

from autoprox.bench_cache.statistics.protocol import rounded
from autoprox.primitives.formula import Formula
from autoprox.primitives.operations import Operation

#: So many formulas are put into the graph at once.
AT_ONCE = 512
#: So many bytes of vectors are kept for formulas to come, which have parts of those before.
KEPT = 2**26


class Vectors:
    """The graph of the formulas of one table, on `size` architectures. It keeps what it has computed, within `KEPT`.

    `column` gives the numbers of a statistic.
    """

    def __init__(self, column: Callable[[Formula], np.ndarray], size: int) -> None:
        self._column, self._size = column, size
        self._rows = KEPT // (8 * max(size, 1))
        self._values = torch.empty((0, size, 1, 1), dtype=torch.float64)  # the last two axes are those of a matrix
        self._places: dict[str | Formula, int] = {}

    def of(self, formulas: Sequence[Formula]) -> np.ndarray:
        """Return the values of formulas: formulas × architectures, float64, to 40 bits (see `rounded`).

        Raises:
            KeyError: `column` raises it, because there is no such statistic.
        """
        found = np.empty((len(formulas), self._size))
        for first in range(0, len(formulas), AT_ONCE):
            part = formulas[first : first + AT_ONCE]
            self._compute(part)
            places = torch.tensor([self._places[key_of(formula)] for formula in part])
            found[first : first + len(part)] = rounded(self._values.index_select(0, places)[..., 0, 0].numpy())
        return found

    def _compute(self, formulas: Sequence[Formula]) -> None:
        """Compute what is new of the formulas."""
        new = distinct_nodes(formulas, self._places)
        if len(self._places) + len(new) > len(self._values):
            self._places.clear()
            new = distinct_nodes(formulas, self._places)
            if len(new) > len(self._values):
                self._values = torch.empty((max(self._rows, len(new)), *self._values.shape[1:]), dtype=torch.float64)
        groups: dict[tuple[int, Operation], list[Formula]] = {}
        for key, node in new.items():
            if isinstance(node.head, Operation):
                groups.setdefault((node.depth, node.head), []).append(node)
            else:
                row = node.head if isinstance(node.head, float) else torch.from_numpy(self._column(node))
                self._values[len(self._places), :, 0, 0] = row
                self._places[key] = len(self._places)
        for depth, operation in sorted(groups, key=lambda group: group[0]):  # arguments are less deep
            self._apply(operation, groups[depth, operation])

    def _apply(self, operation: Operation, nodes: Sequence[Formula]) -> None:
        """Compute nodes of one operation, whose arguments are known."""
        first, known = len(self._places), self._places
        args = [torch.tensor([known[key_of(node.args[n])] for node in nodes]) for n in range(operation.arity)]
        computed = operation.function(*(self._values.index_select(0, each) for each in args))
        self._values[first : first + len(nodes)] = computed
        known.update((key_of(node), first + number) for number, node in enumerate(nodes))


def key_of(node: Formula) -> str | Formula:
    """Return what a node is known by: its text, but for operations that another vocabulary may have by that name."""
    return node.text if node.built_in else node


def distinct_nodes(formulas: Sequence[Formula], known: Container[str | Formula] = ()) -> dict[str | Formula, Formula]:
    """Return every distinct subformula that is not known, by what it is known by."""
    found: dict[str | Formula, Formula] = {}
    waiting = list(formulas)
    while waiting:
        node = waiting.pop()
        key = node.text if node.built_in else node  # `key_of`, without a call
        if key not in found and key not in known:
            found[key] = node
            waiting += node.args
    return found
