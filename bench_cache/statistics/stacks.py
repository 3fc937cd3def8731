"""Stacks: many small networks' matrices of one slot and shape as one tensor, reduced to numbers for many formulas.

Small matrices that formulas derive from large ones, such as the norms of columns, are kept: what is made of them later
does not read the large ones again, and is computed on many more networks at once, because these fit in the processor's
cache together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from autoprox.bench_cache.runtime.devices import CPU, held_on
from autoprox.primitives.formula import Formula
from autoprox.primitives.operations import Operation
from autoprox.primitives.probe import Reading
from autoprox.primitives.reduce import Graph, in_turn, is_small, nodes_above
from autoprox.primitives.statistics import Terminal

#: How many entries of a stack are worked on at once: few enough that they and their results fit in the processor's
#: cache. A GPU needs more at once to be busy, and has room for so many and what is computed of them.
CHUNK, CHUNK_OF_GPU = 2**17, 2**22
#: How many bytes of derived matrices are kept, for each byte of statistics.
KEPT_PART = 1 / 8
#: For how many reductions derived matrices are computed before any are forgotten.
TOGETHER = 64


@dataclass(frozen=True)
class Stack:
    """The matrices of one slot and one shape, n × rows × columns by (statistic, probe), and whose each one is."""

    networks: np.ndarray
    blocks: np.ndarray
    matrices: dict[tuple[str, str], Tensor]


#: Which stacks of a slot are one tensor: each once, in groups. Column norms, say, are of one shape wherever the columns
#: are as many.
Groups = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Stacked:
    """What was computed for all matrices of a slot: a tensor for each group of stacks, the matrices first."""

    groups: Groups
    tensors: tuple[Tensor, ...]

    @property
    def nbytes(self) -> int:
        """The bytes of the tensors."""
        return sum(tensor.nbytes for tensor in self.tensors)

    def of_one_shape(self) -> Stacked:
        """Return the same with groups of one shape as one group."""
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for number, tensor in enumerate(self.tensors):
            by_shape.setdefault(tuple(tensor.shape[1:]), []).append(number)
        groups = tuple(tuple(stack for n in numbers for stack in self.groups[n]) for numbers in by_shape.values())
        return Stacked(groups, tuple(torch.cat([self.tensors[n] for n in numbers]) for numbers in by_shape.values()))


class Stacks:
    """All matrices of a shard's networks by slot, with the small matrices that were derived of them.

    Matrices are reduced on `device`. Those that it has no room to hold (see `held_on`) are moved there piece by piece
    each time. `samples` says of each (statistic, probe) that is here how many samples it has; only every `stride`-th
    row and column is there.
    """

    def __init__(self, device: torch.device, places: Mapping[str, list[Stack]], stride: int = 1) -> None:
        self.device, self._stacks, self._stride = device, dict(places), stride
        self.samples: dict[tuple[str, str], int] = {}
        self._derived: dict[Formula, Stacked] = {}  # by single-slot part, in the order of their last use
        self._read_bytes = self._derived_bytes = 0

    @property
    def nbytes(self) -> int:
        """The bytes of all matrices, and of what is kept of those derived of them."""
        return self._read_bytes + self._derived_bytes

    def add(self, pair: tuple[str, str], slots: Iterable[str], readings: Sequence[Reading]) -> None:
        """Stack the matrices of a statistic and probe, which the networks' readings have."""
        for slot in slots:
            for stack in self._stacks[slot]:
                members = zip(stack.networks, stack.blocks, strict=True)
                found = torch.stack([readings[n].matrices[(*pair, slot)][b] for n, b in members])
                stack.matrices[pair] = held_on(self.device, found)
                self._read_bytes += found.nbytes
        self.samples[pair] = readings[0].samples[pair]

    def reduced(self, slot: str, wanted: Sequence[Formula], shape: tuple[int, int]) -> Iterator[np.ndarray]:
        """Yield each reduction's numbers, networks × blocks of this shape, NaN where a network has no such block."""
        waiting = iter(wanted)
        while some := list(islice(waiting, TOGETHER)):
            self._derive(slot, some)
            found = self._computed(slot, some)
            self._forget()
            for part in some:
                numbers, of = np.full(shape, np.nan), found[part]
                for group, values in zip(of.groups, of.tensors, strict=True):
                    numbers[self._places(slot, group)] = values.double().cpu().numpy()
                yield numbers

    def _places(self, slot: str, group: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Return whose the matrices of a group of stacks are: networks and blocks."""
        stacks = [self._stacks[slot][number] for number in group]
        return np.concatenate([each.networks for each in stacks]), np.concatenate([each.blocks for each in stacks])

    def _derive(self, slot: str, wanted: Sequence[Formula]) -> None:
        """Compute the matrices to keep that these formulas read, if they are not here."""
        parts = nodes_above(wanted, self._derived)
        for part in parts:
            if part in self._derived:  # the last to be forgotten
                self._derived[part] = self._derived.pop(part)
        for ready in in_turn([part for part in parts if is_small(part) and part not in self._derived]):
            for part, found in self._computed(slot, ready).items():
                self._derived[part] = found.of_one_shape()
                self._derived_bytes += found.nbytes

    def _forget(self) -> None:
        """Let those derived matrices go that were read longest ago, beyond what is kept."""
        while self._derived_bytes > KEPT_PART * self._read_bytes:
            self._derived_bytes -= self._derived.pop(next(iter(self._derived))).nbytes

    def _computed(self, slot: str, wanted: Sequence[Formula]) -> dict[Formula, Stacked]:
        """Compute parts of one slot."""
        found: dict[Formula, Stacked] = {}
        for (groups, sizes), parts in self._alike(slot, wanted).items():
            graph = Graph(parts, self.samples, self._derived, self._stride)
            leaves = [self._leaf(leaf, slot).tensors for leaf in graph.leaves]
            of_groups = [
                self._in_pieces(graph, at, size) for at, size in zip(zip(*leaves, strict=True), sizes, strict=True)
            ]
            for part, *tensors in zip(parts, *of_groups, strict=True):
                found[part] = Stacked(groups, tuple(tensors))
        return found

    def _in_pieces(self, graph: Graph, leaves: Sequence[Tensor], size: int) -> list[Tensor]:
        """Compute a graph, of as many matrices at once as have a chunk's entries if each has `size`."""
        step = max(1, (CHUNK if self.device.type == CPU else CHUNK_OF_GPU) // size)
        pieces = [
            graph.values([leaf[start : start + step].to(self.device) for leaf in leaves])
            for start in range(0, len(leaves[0]), step)
        ]
        return [torch.cat(of_part) for of_part in zip(*pieces, strict=True)]

    def _alike(self, slot: str, wanted: Sequence[Formula]) -> dict[tuple[Groups, tuple[int, ...]], list[Formula]]:
        """Group parts by the groups of stacks that they are computed on, and the entries of the largest matrix in each
        that they begin with or make.

        So how many matrices are worked on at once, on which the last bits of some functions depend, follows from the
        formula alone, and not from those beside it.
        """
        known: dict[tuple[frozenset[Formula], bool], tuple[Groups, tuple[int, ...]]] = {}
        found: dict[tuple[Groups, tuple[int, ...]], list[Formula]] = {}
        for part in wanted:
            nodes = nodes_above([part], self._derived)
            leaves = frozenset(node for node in nodes if isinstance(node.head, Terminal) or node in self._derived)
            squared = any(isinstance(node.head, Operation) and node.head.derives == "gram" for node in nodes)
            if (leaves, squared) not in known:
                read = [self._leaf(leaf, slot) for leaf in leaves]
                (groups,) = {each.groups for each in read}  # of one kind, so of one shape together
                every = zip(*(each.tensors for each in read), strict=True)
                known[leaves, squared] = groups, tuple(max(_size(each[0], squared) for each in at) for at in every)
            found.setdefault(known[leaves, squared], []).append(part)
        return found

    def _leaf(self, leaf: Formula, slot: str) -> Stacked:
        """Return the matrices that a graph begins with."""
        if not isinstance(leaf.head, Terminal):
            return self._derived[leaf]
        pair, stacks = (leaf.head.statistic.name, leaf.head.probe), self._stacks[slot]
        return Stacked(tuple((number,) for number in range(len(stacks))), tuple(each.matrices[pair] for each in stacks))


def _size(matrix: Tensor, squared: bool) -> int:
    """Return how many entries a matrix has, or the products of its rows if these are more."""
    return max(matrix.numel(), matrix.shape[-2] ** 2) if squared else matrix.numel()


def places(readings: Sequence[Reading], sized_at: str, sized_by: Sequence[str]) -> list[Stack]:
    """Return empty stacks for the matrices of a slot, one for each size, which follows from statistics of a layer."""
    groups: dict[tuple[float, ...], list[tuple[int, int]]] = {}
    for network, reading in enumerate(readings):
        if not all((name, sized_at) in reading.layers for name in sized_by):
            continue  # it has no such slot
        for block in range(int(reading.net["depth"])):
            shape = tuple(reading.layers[name, sized_at][block] for name in sized_by)
            groups.setdefault(shape, []).append((network, block))
    return [
        Stack(np.array([network for network, _ in group]), np.array([block for _, block in group]), {})
        for group in groups.values()
    ]
