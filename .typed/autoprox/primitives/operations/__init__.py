"""Operations: every function of the language, one record each, proved total when a vocabulary is made.

To add an operation, write its function and its record in the file of its family: `maps`, `derived`, `reductions`,
`spectra`, `depth` or `binary`. Its function takes values whose last two axes are the matrix (rows × columns) or, for
numbers per layer, blocks × layers of a block; leading axes are a batch. It is total: finite in, finite out (see
`total`). These files use torch and each other only, because an exported proxy carries their functions with it.
"""

from __future__ import annotations

from autoprox.primitives.operations.binary import BINARY
from autoprox.primitives.operations.depth import ALONG_DEPTH
from autoprox.primitives.operations.derived import DERIVED_MATRICES
from autoprox.primitives.operations.maps import MAPS
from autoprox.primitives.operations.record import DERIVED, FAMILIES, SIGNS, Operation, OperationError
from autoprox.primitives.operations.reductions import REDUCTIONS
from autoprox.primitives.operations.spectra import SPECTRA
from autoprox.primitives.operations.total import MAX, TINY
from autoprox.primitives.operations.vocabulary import Vocabulary

__all__ = [
    "AUTO_PROX_BINARIES",
    "AUTO_PROX_UNARIES",
    "DERIVED",
    "FAMILIES",
    "MAX",
    "OPERATIONS",
    "SIGNS",
    "TINY",
    "Operation",
    "OperationError",
    "Vocabulary",
]

#: The vocabulary of the language. The order is that in which a grammar draws from it: a new family stands last.
OPERATIONS = Vocabulary(
    *MAPS,
    *DERIVED_MATRICES,
    *REDUCTIONS,
    *SPECTRA,
    *ALONG_DEPTH,
    *BINARY,
    proven=True,  # by tests/primitives/test_operations.py: at every start it would take a second
)

#: Auto-Prox's unary operations by their published number (arXiv 2312.09059, code). Numbers 9 (sum / entries) and
#: 17 (mean) are the same function, and so are one operation here.
AUTO_PROX_UNARIES = (
    "log", "abslog", "abs", "square", "exp", "zscore", "relu", "invert", "fro", "mean", "l1_mean", "softmax",
    "sigmoid", "logsoftmax", "sqrt", "neg", "minmax", "mean", "std", "identity",
)  # fmt: skip

#: Auto-Prox's binary operations by number. Its `matmul` (3) multiplies two scalars, which is `mul`; the matrix
#: product of the language is `matmul`.
AUTO_PROX_BINARIES = ("add", "sub", "mul", "mul")
