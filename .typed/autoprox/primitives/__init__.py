"""The language of zero-cost proxies: statistics, operations, formulas and their evaluation.

`parse` reads a formula, `canonical` settles its algebra, `evaluate` gives its value on the statistics that
`read_statistics` reads from a model. To add an operation see `operations.OPERATIONS`; a statistic,
`statistics.STATISTICS`; a way of naming layers, `layers`.
"""

from autoprox.primitives.canonical import canonical
from autoprox.primitives.errors import LayerError
from autoprox.primitives.evaluate import evaluate, requirements
from autoprox.primitives.find_blocks.named import Block, find_blocks
from autoprox.primitives.formula import Formula, apply, constant, from_json, statistic
from autoprox.primitives.kinds import PROBES, ROLES, FormulaError, Kind
from autoprox.primitives.operations import OPERATIONS, Operation, OperationError, Vocabulary
from autoprox.primitives.probe import Reading, read_statistics
from autoprox.primitives.statistics import STATISTICS, Statistic, Terminal
from autoprox.primitives.text import parse

__all__ = [
    "OPERATIONS",
    "PROBES",
    "ROLES",
    "STATISTICS",
    "Block",
    "Formula",
    "FormulaError",
    "Kind",
    "LayerError",
    "Operation",
    "OperationError",
    "Reading",
    "Statistic",
    "Terminal",
    "Vocabulary",
    "apply",
    "canonical",
    "constant",
    "evaluate",
    "find_blocks",
    "from_json",
    "parse",
    "read_statistics",
    "requirements",
    "statistic",
]
