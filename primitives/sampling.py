"""Sampling: formulas on every so many rows and columns of a matrix, with sums about as large as those of the whole."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from autoprox.primitives.formula import Formula
from autoprox.primitives.kinds import Kind
from autoprox.primitives.operations import Operation
from autoprox.primitives.operations.total import saturate


def on_sample(node: Formula, stride: int) -> Callable[..., Tensor]:
    """Return the function of an operation's node, for matrices of which every `stride`-th row and column is there.

    What adds up entries is multiplied by how many times as many the whole matrix has: Σ x by stride², √Σ x² by stride.
    So a constant or another statistic beside it weighs about as much as it does on whole matrices. It is off where rows
    or columns are few, because a sample has one at least. Other operations, spectra among them, and all with a stride
    of 1, are as they are.
    """
    assert isinstance(node.head, Operation)
    function, times = node.head.function, _times_as_many(node, stride)
    if times == 1:
        return function
    return lambda *values: saturate(function(*values).mul_(times))


def _times_as_many(node: Formula, stride: int) -> float:
    assert isinstance(node.head, Operation)
    if stride == 1 or not node.head.adds:
        return 1
    rows, columns = _thinned(node.args[0].kind)
    axes = {"entries": rows + columns, "rows": int(rows), "columns": int(columns)}[node.head.adds]
    return float(stride ** (axes * node.head.power))


def _thinned(kind: Kind) -> tuple[bool, bool]:
    """Return whether a matrix of a sample has fewer rows, and fewer columns, than that of the whole."""
    rows = columns = True
    for change in kind.shape.split(".")[1:]:
        if change == "rows":
            columns = False
        elif change in ("columns", "samples"):
            rows = False
        elif change == "gram":
            columns = rows
    return rows, columns
