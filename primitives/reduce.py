"""Reduce: matrices of layers to one number for each, for many formulas at once.

Large matrices are read layer by layer: what formulas have in common is computed once, while the layer's matrices are in
the processor's cache. Small matrices that are made of them, such as the norms of columns, are stacked: those of all
blocks in which they have one shape are one tensor, and what is made of them is computed on all at once. They may be
kept, and then the large ones are not read again for another formula that is made of them.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from autoprox.primitives.errors import LayerError
from autoprox.primitives.formula import Formula
from autoprox.primitives.operations import Operation
from autoprox.primitives.probe import Reading
from autoprox.primitives.sampling import on_sample
from autoprox.primitives.statistics import COLUMN, STATISTICS, Terminal

#: What operations make small matrices (see `operations.record.DERIVED`): of one row or column, or nearly.
SMALL = frozenset({"rows", "columns", "samples"})


@dataclass(frozen=True)
class Blocks:
    """Matrices of one part, of all blocks: a tensor for each shape, and which blocks it has."""

    groups: tuple[tuple[int, ...], ...]
    tensors: tuple[Tensor, ...]

    @classmethod
    def of(cls, matrices: Sequence[Tensor]) -> Blocks:
        """Stack one matrix for each block."""
        by_shape: dict[torch.Size, list[int]] = {}
        for block, matrix in enumerate(matrices):
            by_shape.setdefault(matrix.shape, []).append(block)
        groups = tuple(map(tuple, by_shape.values()))
        return cls(groups, tuple(torch.stack([matrices[block] for block in group]) for group in groups))

    @property
    def nbytes(self) -> int:
        """The bytes of the tensors."""
        return sum(tensor.nbytes for tensor in self.tensors)

    def numbers(self) -> list[float]:
        """Return the numbers in the order of the blocks, where each matrix is one."""
        found = {
            block: number
            for group, tensor in zip(self.groups, self.tensors, strict=True)
            for block, number in zip(group, tensor.double().tolist(), strict=True)
        }
        return [found[block] for block in range(len(found))]


@dataclass
class SmallMatrices:
    """Small matrices of one network, by the single-slot part that they are.

    `samples` says of each (statistic, probe) that was read for them how many samples it has.
    """

    parts: dict[Formula, Blocks] = field(default_factory=dict)
    samples: dict[tuple[str, str], int] = field(default_factory=dict)


def reduce_layers(
    wanted: Sequence[Formula],
    reading: Reading,
    device: torch.device | None = None,
    small: SmallMatrices | None = None,
) -> dict[Formula, list[float]]:
    """Compute each single-slot reduction's numbers, one for each block.

    Each layer's large matrices are moved to the device; without one, they are read where they are. `small` has small
    matrices of the same network that were computed before, and gets those that it lacks. The numbers are the same
    whatever it has, and whatever is computed beside them. `reading` needs what `read_by(wanted, small.parts)` names.

    Raises:
        LayerError: the reading lacks a statistic.
    """
    small = SmallMatrices() if small is None else small
    small.samples.update(reading.samples)
    known = small.parts
    values: dict[Formula, list[float]] = {reduction: [] for reduction in wanted}
    for slot, group in by_slot(wanted).items():
        if reading.places and not reading.places.get(slot):
            continue  # no block has it; where a role has other slots, these are what is read
        of_large, of_small = _divided(group, known)
        for part, found in _over_large(of_large, slot, reading, device).items():
            if is_small(part):
                known[part] = Blocks.of(found)
            else:
                values[part] = [float(value) for value in found]
        for parts in in_turn(of_small):
            for part, blocks in _over_small(parts, small).items():
                if is_small(part):
                    known[part] = blocks
                else:
                    values[part] = blocks.numbers()
    return values


def read_by(wanted: Iterable[Formula], small: Container[Formula] = ()) -> list[Terminal]:
    """Return the matrices that `reduce_layers` reads, each once, where it has these small matrices already."""
    found: dict[Terminal, None] = {}
    for group in by_slot(wanted).values():
        for part in _divided(group, small)[0]:
            found.update(dict.fromkeys(part.terminals()))
    return list(found)


def is_small(part: Formula) -> bool:
    """Return whether a single-slot part is a small matrix for each block (see SMALL)."""
    return isinstance(part.head, Operation) and part.head.derives in SMALL


def _divided(group: Sequence[Formula], known: Container[Formula]) -> tuple[list[Formula], list[Formula]]:
    """Return what is to be computed of large matrices, and after it, of small ones alone, each after what it reads.

    Both have the wanted reductions, and the small matrices on their way that are not known.
    """
    of_large: list[Formula] = []
    of_small: list[Formula] = []
    small = {part: None for part in nodes_above(group, known) if is_small(part)}  # in order
    for part in dict.fromkeys([*(each for each in small if each not in known), *group]):
        begins = nodes_above(part.args, small)
        reads = any(isinstance(node.head, Terminal) for node in begins)
        (of_large if reads else of_small).append(part)
    return of_large, of_small


def in_turn(parts: Sequence[Formula]) -> Iterator[list[Formula]]:
    """Yield those that read none of the others, then those that read none of the rest, and so on."""
    left = list(parts)
    while left:
        waiting = set(left)
        ready = [part for part in left if waiting.isdisjoint(nodes_above(part.args, waiting))]
        yield ready
        left = [part for part in left if part not in ready]


def _over_large(
    parts: Sequence[Formula], slot: str, reading: Reading, device: torch.device | None
) -> dict[Formula, list[Tensor]]:
    """Compute parts block by block, from the matrices that the reading has."""
    found: dict[Formula, list[Tensor]] = {part: [] for part in parts}
    if parts:
        graph = Graph(parts, reading.samples)
        read = [leaf.head for leaf in graph.leaves if isinstance(leaf.head, Terminal)]
        leaves = [read_from(reading.matrices, (t.statistic.name, t.probe, slot)) for t in read]
        for at_block in zip(*leaves, strict=True):
            there = [matrix.to(evaluated_on(device or matrix.device)) for matrix in at_block]
            for part, value in zip(parts, graph.values(there), strict=True):
                found[part].append(value)
    return found


def _over_small(parts: Sequence[Formula], small: SmallMatrices) -> dict[Formula, Blocks]:
    """Compute parts of small matrices that are known, all blocks of one shape at once."""
    known, found = small.parts, dict[Formula, Blocks]()
    by_groups: dict[tuple[tuple[int, ...], ...], list[Formula]] = {}
    for part in parts:
        leaf = next(node for node in nodes_above(part.args, known) if node in known)
        by_groups.setdefault(known[leaf].groups, []).append(part)  # all it reads are of one kind, so of one shape
    for groups, alike in by_groups.items():
        graph = Graph(alike, small.samples, known)
        leaves = zip(*(known[leaf].tensors for leaf in graph.leaves), strict=True)
        of_groups = [graph.values(at_shape) for at_shape in leaves]
        for part, *tensors in zip(alike, *of_groups, strict=True):
            found[part] = Blocks(groups, tuple(tensors))
    return found


def by_slot(wanted: Iterable[Formula]) -> dict[str, list[Formula]]:
    """Group single-slot reductions by their slot, in order."""
    found: dict[str, list[Formula]] = {}
    for reduction in wanted:
        found.setdefault(role_of(reduction), []).append(reduction)
    return found


def role_of(reduction: Formula) -> str:
    """Return the role, or slot, of the matrices that a reduction reads."""
    return next(arg.kind.role for arg in reduction.args if arg.kind.level == "matrix")


def nodes_above(group: Iterable[Formula], known: Container[Formula]) -> tuple[Formula, ...]:
    """Return every distinct subformula once, arguments before what uses them, none below those that are known."""
    found: dict[Formula, None] = {}

    def walk(node: Formula) -> None:
        if node not in found:
            if node not in known:
                for arg in node.args:
                    walk(arg)
            found[node] = None

    for formula in group:
        walk(formula)
    return tuple(found)


def evaluated_on(device: torch.device) -> torch.device:
    """Return where formulas of what a device has are evaluated: there, or on the CPU for MPS, which has no float64."""
    return torch.device("cpu") if device.type == "mps" else device


class Graph:
    """Reductions of one slot in an order of computation: what they have in common is computed once, and forgotten
    after its last use.

    `leaves` are what they begin with: statistics, and those of the parts that are `known` already. `samples` says of
    each (statistic, probe) how many samples it has, and only every `stride`-th row and column is there
    (see `sampling.on_sample`).
    """

    def __init__(
        self,
        group: Sequence[Formula],
        samples: Mapping[tuple[str, str], int],
        known: Container[Formula] = (),
        stride: int = 1,
    ) -> None:
        nodes = list(nodes_above(group, known))
        place = {node: number for number, node in enumerate(nodes)}
        self.leaves = [node for node in nodes if isinstance(node.head, Terminal) or node in known]
        self._leaves = [place[leaf] for leaf in self.leaves]
        self._constants = {place[node]: node.head for node in nodes if isinstance(node.head, float)}
        self._roots = [place[reduction] for reduction in group]
        steps = [(node, node.head) for node in nodes if isinstance(node.head, Operation) and node not in known]
        last = {place[arg]: place[node] for node, _ in steps for arg in node.args}
        self._steps = [
            _Step(
                place[node],
                on_sample(node, stride),
                tuple(place[arg] for arg in node.args),
                tuple(samples[t.statistic.name, t.probe] for t in node.terminals()[:1] if operation.per_sample),
                tuple({place[arg] for arg in node.args if last[place[arg]] == place[node]}),
            )
            for node, operation in steps
        ]
        self._size = len(nodes)

    def values(self, leaves: Sequence[Tensor]) -> list[Tensor]:
        """Compute each reduction's value on one matrix for each terminal.

        Many matrices may be stacked along leading axes, which the values keep.
        """
        known: list[Any] = [None] * self._size
        for place, value in self._constants.items():  # of a type that gives way to that of what it meets
            known[place] = torch.tensor(value, dtype=torch.float64, device=leaves[0].device)
        for place, matrix in zip(self._leaves, leaves, strict=True):
            known[place] = matrix
        for step in self._steps:
            known[step.place] = step.function(*[known[arg] for arg in step.args], *step.samples)
            for place in step.forget:
                known[place] = None
        return [known[place] for place in self._roots]


@dataclass(frozen=True)
class _Step:
    """One operation on values at places."""

    place: int
    function: Callable[..., Tensor]
    args: tuple[int, ...]
    samples: tuple[int, ...]  # one number for an operation that asks for it
    forget: tuple[int, ...]


def read_from(statistics: Mapping[Any, Any], key: str | tuple[str, ...]) -> Any:
    """Return what a reading has under a name, or a name and its probe or slot; LayerError where it has nothing."""
    if key not in statistics:
        name, *marks = (key,) if isinstance(key, str) else key
        if name.startswith(f"{COLUMN}["):
            raise LayerError(f"the formula reads {name}, which is of a benchmark's table; a model has none")
        unsaid = ("", "data", STATISTICS[name].role)
        shown = [mark for mark in reversed(marks) if mark not in unsaid]
        what = f"{name}[{', '.join(shown)}]" if shown else name
        raise LayerError(f"the formula reads {what}, which this model does not have in every block, or was not read")
    return statistics[key]
