"""Operation: the record of one function of the language."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

#: family → what it takes and gives.
FAMILIES = {
    "map": "entry by entry: matrix, layer or net → the same kind",
    "normalise": "matrix → a matrix of the same shape",
    "derive": "matrix → a matrix of another shape",
    "product": "two matrices of the same kind → a matrix of another shape",
    "reduce": "matrix → one number per layer; layer → one number per network",
    "spectrum": "matrix → one number per layer",
    "along_depth": "layer → layer",
    "aggregate": "layer → net",
    "binary": "two values of one kind → that kind; a net value combines with layers, a constant with anything",
}

#: What the families `derive` and `product` make of a matrix's shape.
DERIVED = {
    "rows": "rows × 1",
    "columns": "1 × columns",
    "gram": "rows × rows",
    "batch": "the rows of one sample",
    "samples": "samples × columns",
}

#: The signs that are written between two arguments, and whose they are.
SIGNS = {"+": "add", "-": "sub", "*": "mul", "/": "div"}


@dataclass(frozen=True)
class Operation:
    """One function of the language: everything that is known of it is in this record.

    `family` gives its typing (see FAMILIES); `function` computes it; `latex` is a template with {0}, {1}; `infix`
    its sign, if it is written between its arguments (see SIGNS); `derives` how the families `derive` and `product`
    change the shape (see DERIVED). Algebra for the canonical form: `commutative`, `idempotent` (f f = f),
    `involution` (f f = identity), `increasing` (strictly, on the real line), `nonnegative` (its value is never
    below 0). `per_sample`: the function also takes how many samples are stacked in the rows. `costly`: cubic in the
    width of the layer instead of linear in its entries. `adds`: it adds up all `entries`, or those of the `rows`
    of each column, or of the `columns` of each row, and grows as their number to the `power`. `words`: a template in
    plain English, with {0}, {1}; without one it reads `NAME of {0}`.
    """

    name: str
    family: str
    function: Callable[..., Tensor]
    latex: str
    infix: str = ""
    derives: str = ""
    commutative: bool = False
    idempotent: bool = False
    involution: bool = False
    increasing: bool = False
    nonnegative: bool = False
    per_sample: bool = False
    costly: bool = False
    adds: str = ""
    power: float = 1.0
    words: str = ""

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def arity(self) -> int:
        """Return how many arguments it takes: 1 or 2."""
        return 2 if self.family in ("binary", "product") else 1

    @property
    def in_words(self) -> str:
        """Return the template of what it computes, in plain English."""
        return self.words or f"{self.name} of {' and '.join(('{0}', '{1}')[: self.arity])}"

    @property
    def about(self) -> str:
        """Return the function's docstring on one line: a formula, mostly."""
        return " ".join((self.function.__doc__ or "").split())


class OperationError(ValueError):
    """An operation that may not enter the vocabulary: a bad record, or one that does not do what it says."""
