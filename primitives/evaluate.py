"""Evaluate: a formula's value on statistics. One evaluator for fitness, scoring and search.

It works in two steps. First, every reduction of a matrix to one number per layer, the expensive part, for many
formulas at once (`reductions` finds them, `reduce_layers` computes them). Second, the arithmetic on these numbers, in
float64 (`finish`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from autoprox.primitives.errors import LayerError
from autoprox.primitives.formula import Formula, statistic
from autoprox.primitives.kinds import CONV_ROLE, read_slots
from autoprox.primitives.operations import Operation
from autoprox.primitives.probe import Reading
from autoprox.primitives.reduce import read_from, reduce_layers, role_of
from autoprox.primitives.statistics import Terminal


def requirements(formulas: Iterable[Formula]) -> frozenset[tuple[str, str]]:
    """Return the (statistic, probe) pairs that the formulas read."""
    return frozenset((t.statistic.name, t.probe) for formula in formulas for t in formula.terminals())


def is_readable(formula: Formula, convolutional: bool) -> bool:
    """Return whether a network has the layers that the formula's roles name, and the numbers: heads and width.

    Convolutional networks have no roles of transformer blocks, no attention, no heads and no width.
    """
    for terminal in formula.terminals():
        if terminal.role and not read_slots(terminal.role, convolutional):
            return False
        if terminal.role == CONV_ROLE and not convolutional:
            return False
        if convolutional and terminal.statistic.name in ("heads", "width"):
            return False
    return True


def matrix_reductions(formula: Formula) -> tuple[Formula, ...]:
    """Return the subformulas that take matrices to one number per layer."""
    return tuple(
        node
        for node in formula.nodes()
        if node.kind.level == "layer" and any(arg.kind.level == "matrix" for arg in node.args)
    )


@lru_cache(maxsize=2**16)
def at_slot(reduction: Formula, slot: str) -> Formula:
    """Return the same reduction of the layers of one slot only, so that roles share what they have in common."""
    replace = {
        node: statistic(node.head.statistic.name, slot, *([node.head.probe] if node.head.probe else []))
        for node in reduction.nodes()
        if isinstance(node.head, Terminal) and node.head.statistic.takes_role
    }
    return reduction.rebuilt(replace)


def reductions(formulas: Iterable[Formula], convolutional: bool = False) -> tuple[Formula, ...]:
    """Return all single-slot reductions that the formulas need of a network, each once, in order of first use."""
    found: dict[Formula, None] = {}
    for formula in formulas:
        for node in matrix_reductions(formula):
            found.update(dict.fromkeys(slot_parts(node, convolutional)))
    return tuple(found)


class Layout:
    """How numbers per layer of several networks lie in one tensor, layers × slots: the networks one after another.

    `depths` has how many blocks each network has, ascending. Of one network there may be any number of rows.
    """

    def __init__(self, depths: Sequence[int]) -> None:
        every = torch.tensor(depths)
        depth, count = torch.unique_consecutive(every, return_counts=True)
        self._networks, self._rows = count.tolist(), (count * depth).tolist()
        self._whose = torch.repeat_interleave(torch.arange(len(every)), every)
        self._single = len(every) == 1

    def spread(self, numbers: Tensor) -> Tensor:
        """Return networks × 1 as layers × 1; a constant as it is."""
        return numbers if self._single or not numbers.dim() else numbers.index_select(0, self._whose)

    def over_blocks(self, function: Callable[[Tensor], Tensor], layers: Tensor, gives: int) -> Tensor:
        """Apply a function that takes networks × blocks × slots, networks of one depth at a time.

        Its values are returned with `gives` in a row: the slots of each layer, or one number for a network.
        """
        parts = [layers] if len(self._rows) == 1 else layers.split(self._rows)
        split = [part.reshape(n, -1, layers.shape[-1]) for part, n in zip(parts, self._networks, strict=True)]
        return torch.cat([function(of_one_depth).reshape(-1, gives) for of_one_depth in split])


def finish(
    formula: Formula,
    layers: Callable[[Formula], Tensor],
    net: Callable[[str], Tensor],
    layout: Layout,
    memo: dict[Formula, Tensor] | None = None,
) -> Tensor:
    """Compute the formula's value on several networks.

    `layers(node)` gives a matrix reduction or a layer statistic as layers × slots, laid out like `layout`, and
    `net(name)` a net statistic as networks × 1, both float64. The result is one number for each network. `memo` has the
    values of subformulas on the same networks, and gets those that it lacks.
    """
    known = {} if memo is None else memo

    def value(node: Formula) -> Tensor:
        found = known.get(node)
        if found is None:
            found = known[node] = computed(node)
        return found

    def computed(node: Formula) -> Tensor:
        operation, level = node.head, node.kind.level
        if isinstance(operation, Terminal):
            return net(operation.statistic.name) if level == "net" else layers(node)
        if not isinstance(operation, Operation):
            return torch.tensor(operation, dtype=torch.float64)
        if any(arg.kind.level == "matrix" for arg in node.args):
            return layers(node)
        args = [value(arg) for arg in node.args]
        if operation.family == "along_depth":
            return layout.over_blocks(operation.function, args[0], args[0].shape[-1])
        if level == "layer":
            pairs = zip(node.args, args, strict=True)
            return operation.function(*(x if arg.kind.level == "layer" else layout.spread(x) for arg, x in pairs))
        if node.args[0].kind.level == "layer":  # numbers per layer that become one for the network
            return layout.over_blocks(operation.function, args[0], 1)
        return operation.function(*args)

    return value(formula).flatten()


def layer_tensor(node: Formula, value: Callable[[Formula], list[float]], convolutional: bool = False) -> Tensor:
    """Return a reduction's or layer statistic's numbers on one network, blocks × slots, float64."""
    columns = [value(part) for part in slot_parts(node, convolutional)]
    return torch.tensor(columns, dtype=torch.float64).T.contiguous()


@lru_cache(maxsize=2**16)
def slot_parts(node: Formula, convolutional: bool = False) -> tuple[Formula, ...]:
    """Return the single-slot parts of a matrix reduction or of a layer statistic, in forward order.

    Those of a convolutional network are of its layers, and there are none of roles that it does not have.
    """
    role = node.head.role if isinstance(node.head, Terminal) else role_of(node)
    return tuple(at_slot(node, slot) for slot in read_slots(role, convolutional))


def layer_numbers(part: Formula, reading: Reading, reduced: Mapping[Formula, list[float]]) -> list[float]:
    """Return a single-slot part's numbers on one network: a layer statistic as read, or a reduction as computed."""
    if isinstance(part.head, Terminal):
        return read_from(reading.layers, (part.head.statistic.name, part.head.role))
    return reduced[part]


def evaluate(formula: Formula, reading: Reading) -> float:
    """Compute the value of a complete formula on one network's statistics.

    Raises:
        LayerError: the network lacks a statistic that the formula reads.
    """
    return finish_one(formula, reading, reduce_layers(reductions([formula], reading.convolutional), reading))


def finish_one(formula: Formula, reading: Reading, reduced: Mapping[Formula, list[float]]) -> float:
    """Compute the value of a complete formula on one network, whose reductions are known; raise as `evaluate` does."""
    _require_places(formula, reading)
    value = finish(
        formula,
        lambda node: _network_tensor(node, reading, reduced),
        lambda name: torch.tensor(read_from(reading.net, name), dtype=torch.float64).reshape(1, 1),
        Layout([1]),
    )
    return float(value)


def _require_places(formula: Formula, reading: Reading) -> None:
    """Raise LayerError where layers of two roles are combined one by one, and a block has only one of them."""
    if len({tuple(place) for place in reading.places.values()}) < 2:
        return
    for node in formula.nodes():
        roles = {t.role for arg in node.args if arg.kind.level == "layer" for t in arg.terminals() if t.role}
        slots = [read_slots(role, reading.convolutional) for role in roles]
        places = {tuple(tuple(reading.places.get(slot, ())) for slot in of_role) for of_role in slots}
        if node.kind.level == "layer" and len(places) > 1:
            raise LayerError(
                f"the formula combines layers of {' and '.join(sorted(roles))} block by block, and not every block of "
                "this model has both"
            )


def _network_tensor(node: Formula, reading: Reading, reduced: Mapping[Formula, list[float]]) -> Tensor:
    """Return a reduction's or layer statistic's numbers on one network, blocks × slots.

    Where blocks differ in what they have, layers are one column, in the order in which they run.
    """
    slots = read_slots(node.head.role if isinstance(node.head, Terminal) else role_of(node), reading.convolutional)
    places = [reading.places.get(slot, []) for slot in slots]
    if not reading.places or (places and places[0] and all(place == places[0] for place in places)):
        return layer_tensor(node, lambda part: layer_numbers(part, reading, reduced), reading.convolutional)
    numbered = []
    for place, slot, part in zip(places, slots, slot_parts(node, reading.convolutional), strict=True):
        if place:
            values = layer_numbers(part, reading, reduced)
            numbered += [(block, slots.index(slot), value) for block, value in zip(place, values, strict=True)]
    if not numbered:
        raise LayerError(f"the formula reads {node}, which no block of this model has")
    return torch.tensor([value for _, _, value in sorted(numbered)], dtype=torch.float64)[:, None]
