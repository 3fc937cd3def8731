"""Evaluate: a formula's value on statistics. One evaluator for fitness, scoring and search.

It works in two steps. First, every reduction of a matrix to one number per layer, the expensive part, for many
formulas at once with common subexpressions computed once for each layer (`reductions`, `reduce_layers`). Second,
the arithmetic on these numbers, in float64 (`finish`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from autoprox.primitives.formula import Formula, statistic
from autoprox.primitives.kinds import role_slots
from autoprox.primitives.layers import LayerError
from autoprox.primitives.operations import Operation
from autoprox.primitives.probe import Reading
from autoprox.primitives.statistics import COLUMN, Terminal


def requirements(formulas: Iterable[Formula]) -> frozenset[tuple[str, str]]:
    """The (statistic, probe) pairs that the formulas read."""
    return frozenset((t.statistic.name, t.probe) for formula in formulas for t in formula.terminals())


def matrix_reductions(formula: Formula) -> tuple[Formula, ...]:
    """The subformulas that take matrices to one number per layer."""
    return tuple(
        node
        for node in formula.nodes()
        if node.kind.level == "layer" and any(arg.kind.level == "matrix" for arg in node.args)
    )


@lru_cache(maxsize=2**16)
def at_slot(reduction: Formula, slot: str) -> Formula:
    """The same reduction of the layers of one slot only, so that roles share what they have in common."""
    replace = {
        node: statistic(node.head.statistic.name, slot, *([node.head.probe] if node.head.probe else []))
        for node in reduction.nodes()
        if isinstance(node.head, Terminal) and node.head.statistic.name != "attn"
    }
    return reduction.rebuilt(replace)


def reductions(formulas: Iterable[Formula]) -> tuple[Formula, ...]:
    """All single-slot reductions that the formulas need, each once, in order of first use."""
    found: dict[Formula, None] = {}
    for formula in formulas:
        for node in matrix_reductions(formula):
            found.update(dict.fromkeys(at_slot(node, slot) for slot in role_slots(_role(node))))
    return tuple(found)


def _role(reduction: Formula) -> str:
    return next(arg.kind.role for arg in reduction.args if arg.kind.level == "matrix")


def reduce_layers(wanted: Sequence[Formula], reading: Reading) -> dict[Formula, list[float]]:
    """Each single-slot reduction's numbers, one for each block.

    The wanted formulas are one graph: a common subexpression is computed once, layer by layer while the layer's
    matrices are in cache, and forgotten after its last use. Raises LayerError for a statistic that the reading does
    not have.
    """
    values: dict[Formula, list[float]] = {reduction: [] for reduction in wanted}
    for slot, group in by_slot(wanted).items():
        terminals = matrix_terminals(group)
        leaves = {t: _read(reading.matrices, (t.statistic.name, t.probe, slot)) for t in terminals}
        samples = {t: reading.samples[t.statistic.name, t.probe] for t in terminals}
        for block in range(len(next(iter(leaves.values())))):
            at_block = {terminal: matrices[block] for terminal, matrices in leaves.items()}
            for reduction, value in zip(group, reduce_matrices(group, at_block, samples), strict=True):
                values[reduction].append(float(value))
    return values


def by_slot(wanted: Iterable[Formula]) -> dict[str, list[Formula]]:
    """Single-slot reductions by their slot, in order."""
    found: dict[str, list[Formula]] = {}
    for reduction in wanted:
        found.setdefault(_role(reduction), []).append(reduction)
    return found


def matrix_terminals(group: Iterable[Formula]) -> list[Terminal]:
    """The statistics that reductions read, each once."""
    return list(dict.fromkeys(t for reduction in group for t in reduction.terminals()))


def reduce_matrices(
    group: Sequence[Formula], leaves: Mapping[Terminal, Tensor], samples: Mapping[Terminal, int]
) -> list[Tensor]:
    """The values of reductions of one slot on given matrices, as one graph.

    `leaves` has rows × columns for each terminal, or many such stacked along leading axes, which the values keep.
    """
    left = Counter(arg for node in dict.fromkeys(n for r in group for n in r.nodes()) for arg in node.args)
    memo: dict[Formula, Tensor] = {}
    return [_matrix_value(reduction, leaves, samples, memo, left) for reduction in group]


def _read(statistics: Mapping[Any, Any], key: str | tuple[str, ...]) -> Any:
    if key not in statistics:
        name, *marks = (key,) if isinstance(key, str) else key
        if name.startswith(f"{COLUMN}["):
            raise LayerError(f"the formula reads {name}, which is of a benchmark's table; a model has none")
        shown = [mark for mark in reversed(marks) if mark not in ("", "data", "attn")]
        what = f"{name}[{', '.join(shown)}]" if shown else name
        raise LayerError(f"the formula reads {what}, which this model does not have in every block, or was not read")
    return statistics[key]


def _matrix_value(
    node: Formula,
    leaves: Mapping[Terminal, Tensor],
    samples: Mapping[Terminal, int],
    memo: dict[Formula, Tensor],
    left: Counter[Formula],
) -> Tensor:
    """The node's value. `left` counts how often each value will still be asked for."""
    if node in memo:
        return memo[node]
    if isinstance(node.head, Terminal):
        value = leaves[node.head]
    elif isinstance(node.head, Operation):
        args = [_matrix_value(arg, leaves, samples, memo, left) for arg in node.args]
        if node.head.per_sample:
            value = node.head.function(*args, samples[node.terminals()[0]])
        else:
            value = node.head.function(*args)
        for arg in node.args:
            left[arg] -= 1
            if not left[arg]:
                memo.pop(arg, None)
    else:
        device = next(iter(leaves.values())).device
        value = torch.tensor(node.head, dtype=torch.float64, device=device)  # takes the type of what it meets
    memo[node] = value
    return value


def finish(
    formula: Formula,
    layers: Callable[[Formula], Tensor],
    net: Callable[[str], Tensor],
    memo: dict[Formula, Tensor] | None = None,
) -> Tensor:
    """The formula's value on several networks of equal depth.

    `layers(node)` gives a matrix reduction or a layer statistic as networks × blocks × slots, `net(name)` a net
    statistic as networks × 1 × 1, both float64. The result is one number for each network. `memo` has the values of
    subformulas on the same networks, and gets those that it lacks.
    """
    known = {} if memo is None else memo

    def value(node: Formula) -> Tensor:
        found = known.get(node)
        if found is None:
            found = known[node] = computed(node)
        return found

    def computed(node: Formula) -> Tensor:
        if isinstance(node.head, Terminal):
            return net(node.head.statistic.name) if node.kind.level == "net" else layers(node)
        if not isinstance(node.head, Operation):
            return torch.tensor(node.head, dtype=torch.float64)
        if any(arg.kind.level == "matrix" for arg in node.args):
            return layers(node)
        result = node.head.function(*map(value, node.args))
        collapsed = node.kind.level == "net" and node.args[0].kind.level == "layer" and node.head.arity == 1
        return result[..., None, None] if collapsed else result

    return value(formula).flatten()


def layer_tensor(node: Formula, value: Callable[[Formula], list[float]]) -> Tensor:
    """A reduction's or layer statistic's numbers on one network, blocks × slots, float64."""
    columns = [value(part) for part in slot_parts(node)]
    return torch.tensor(columns, dtype=torch.float64).T.contiguous()


@lru_cache(maxsize=2**16)
def slot_parts(node: Formula) -> tuple[Formula, ...]:
    """The single-slot parts of a matrix reduction or of a layer statistic, in forward order."""
    role = node.head.role if isinstance(node.head, Terminal) else _role(node)
    return tuple(at_slot(node, slot) for slot in role_slots(role))


def layer_numbers(part: Formula, reading: Reading, reduced: Mapping[Formula, list[float]]) -> list[float]:
    """A single-slot part's numbers on one network: a layer statistic as read, or a reduction as computed."""
    if isinstance(part.head, Terminal):
        return _read(reading.layers, (part.head.statistic.name, part.head.role))
    return reduced[part]


def evaluate(formula: Formula, reading: Reading) -> float:
    """The value of a complete formula on one network's statistics. Raises LayerError where it lacks one."""
    return finish_one(formula, reading, reduce_layers(reductions([formula]), reading))


def finish_one(formula: Formula, reading: Reading, reduced: Mapping[Formula, list[float]]) -> float:
    """The value of a complete formula on one network, whose reductions are computed. Raises as `evaluate` does."""
    value = finish(
        formula,
        lambda node: layer_tensor(node, lambda part: layer_numbers(part, reading, reduced))[None],
        lambda name: torch.tensor(_read(reading.net, name), dtype=torch.float64).reshape(1, 1, 1),
    )
    return float(value)
