"""Shards: many small networks' statistics held in memory, matrices of one shape as one tensor, scored together.

One operation on one small matrix costs microseconds of Python and little arithmetic. A shard, whose networks may
belong to several tasks, stacks their matrices of equal shape. It runs a formula's operations once for each stack, and
the arithmetic on numbers per layer once for all networks of one depth. Its numbers equal those of networks scored one
by one up to float32's rounding (a test compares them, 1e-6 relative).
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from autoprox.bench_cache.runtime.devices import CPU, chosen_device, held_on
from autoprox.bench_cache.runtime.placement import Homed
from autoprox.bench_cache.spaces.registry import get_space
from autoprox.bench_cache.statistics.store import SHAPES, StatisticsCache, slots_of
from autoprox.bench_cache.statistics.subject import Subject
from autoprox.primitives.evaluate import (
    Graph,
    by_slot,
    evaluated_on,
    finish,
    is_readable,
    reductions,
    requirements,
    slot_parts,
)
from autoprox.primitives.formula import Formula
from autoprox.primitives.probe import Reading
from autoprox.primitives.statistics import STATISTICS, Terminal

#: How many networks of one depth a shard has at most, and how many networks of all depths there are to a shard. Both
#: are fixed, so that the number of workers does not decide what is stacked together.
OF_ONE_DEPTH, SIZE = 100, 150
#: How many entries of a stack are worked on at once: few enough that they and their results fit in the processor's
#: cache. A GPU needs more at once to be busy, and has room for so many and what is computed of them.
CHUNK, CHUNK_OF_GPU = 2**17, 2**22
#: How many subformulas' numbers a shard remembers; the oldest are computed again when they are needed.
REMEMBERED = 8_000


@dataclass(frozen=True)
class Stack:
    """The matrices of one slot and one shape, n × rows × columns by (statistic, probe), and whose each one is."""

    networks: np.ndarray
    blocks: np.ndarray
    matrices: dict[tuple[str, str], Tensor]


class Shard:
    """Networks with the statistics that formulas have read so far, and the numbers computed from them.

    Matrices are reduced to numbers on the networks' device. Those that it has no room to hold (see `held_on`) are moved
    there piece by piece each time. All arithmetic on the numbers is on the CPU.

    Raises:
        DeviceError: there is no such device here.
    """

    def __init__(self, root: Path, subjects: Sequence[Subject], stride: int = 1) -> None:
        self.root, self.subjects, self.stride = root, tuple(subjects), stride
        self.device = evaluated_on(chosen_device(subjects[0].device))
        self.readings: list[Reading] = []
        self.stacks: dict[str, list[Stack]] = {}
        self.samples: dict[tuple[str, str], int] = {}
        self.depths: dict[
            tuple[int, bool], np.ndarray
        ] = {}  # places of the networks of each depth, convolutional or not
        self.numbers: dict[Formula, np.ndarray] = {}  # networks × blocks of each single-slot part, NaN beyond a depth
        self.values: dict[tuple[int, bool], dict[Formula, Tensor]] = {}  # what `finish` remembers of these

    def scores(self, formulas: Sequence[Formula]) -> np.ndarray:
        """Return scores, formulas × networks, float64; NaN where one of the networks lacks a formula's layers.

        Raises:
            LayerError: the networks do not have a statistic that a formula reads.
        """
        kinds = {get_space(subject.space).convolutional for subject in self.subjects}
        readable = [row for row, formula in enumerate(formulas) if all(is_readable(formula, kind) for kind in kinds)]
        result = np.full((len(formulas), len(self.subjects)), np.nan)
        if readable:
            result[readable] = self._scores([formulas[row] for row in readable])
        return result

    def _scores(self, formulas: Sequence[Formula]) -> np.ndarray:
        self._load(formulas)
        kinds = {convolutional for _, convolutional in self.depths}
        parts = dict.fromkeys(part for kind in sorted(kinds) for part in reductions(formulas, kind))
        wanted = [part for part in parts if part not in self.numbers]
        for slot, group in by_slot(wanted).items():
            for of_one_size in self._by_size(slot, group):
                self._reduce(slot, of_one_size)
        result = np.empty((len(formulas), len(self.subjects)))
        for kind, at in self.depths.items():
            result[:, at] = self._finish(formulas, kind, at)
            _forget(self.values[kind])
        _forget(self.numbers)
        return result

    @property
    def nbytes(self) -> int:
        """The bytes of the matrices and, to within a few of each network, of the numbers that it holds."""
        matrices = (
            matrix.nbytes for stacks in self.stacks.values() for of in stacks for matrix in of.matrices.values()
        )
        layers = sum(len(self.values[kind]) * len(at) * kind[0] for kind, at in self.depths.items())
        if self.numbers:
            layers += len(self.numbers) * len(self.subjects) * self._deepest
        return sum(matrices) + 8 * layers

    def _finish(self, formulas: Sequence[Formula], kind: tuple[int, bool], at: np.ndarray) -> np.ndarray:
        """Return scores, formulas × networks, of the networks at these places, which have one depth and kind."""
        depth, convolutional = kind

        def layers(node: Formula) -> Tensor:
            parts = slot_parts(node, convolutional)
            return torch.from_numpy(np.stack([self._numbers(part)[at, :depth] for part in parts], axis=-1))

        def net(name: str) -> Tensor:
            values = [self.readings[n].net[name] for n in at]
            return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1)

        return np.stack([finish(formula, layers, net, self.values[kind]).numpy() for formula in formulas])

    @property
    def _deepest(self) -> int:
        return max(depth for depth, _ in self.depths)

    def _load(self, formulas: Sequence[Formula]) -> None:
        """Read the matrices that the formulas need and that are not here, and stack them."""
        needed = {pair for pair in requirements(formulas) if STATISTICS[pair[0]].level == "matrix"} - set(self.samples)
        if self.readings and not needed:
            return
        pairs = sorted(needed)
        cache = StatisticsCache(self.root)
        if self.stride > 1:
            readings = [cache.read_sample(subject, pairs, self.stride) for subject in self.subjects]
        else:
            wanted = [(*pair, slot) for pair in pairs for slot in slots_of(pair[0])]
            readings = [cache.read(subject, wanted, SHAPES) for subject in self.subjects]
        if not self.readings:
            self.readings = [replace(reading, matrices={}) for reading in readings]
            kinds = [(int(reading.net["depth"]), reading.convolutional) for reading in readings]
            self.depths = {
                kind: np.array([n for n, of in enumerate(kinds) if of == kind]) for kind in sorted(set(kinds))
            }
            self.values = {kind: {} for kind in self.depths}
            matrices = [statistic for statistic in STATISTICS.values() if statistic.level == "matrix"]
            sizes = {slot: (each.sized_at or slot, each.sized_by) for each in matrices for slot in each.slots}
            self.stacks = {slot: _places(readings, *size) for slot, size in sizes.items()}
        for pair in pairs:
            for slot in slots_of(pair[0]):
                for stack in self.stacks[slot]:
                    members = zip(stack.networks, stack.blocks, strict=True)
                    found = torch.stack([readings[n].matrices[(*pair, slot)][b] for n, b in members])
                    stack.matrices[pair] = held_on(self.device, found)
            self.samples[pair] = readings[0].samples[pair]

    def _by_size(self, slot: str, group: list[Formula]) -> Iterable[list[Formula]]:
        """Group reductions by the size of the matrices that they read.

        So how many matrices are worked on at once, on which the last bits of some functions depend, follows from the
        formula alone, and not from those beside it.
        """
        sizes: dict[frozenset[tuple[str, str]], tuple[int, ...]] = {}
        found: dict[tuple[int, ...], list[Formula]] = {}
        for formula in group:
            pairs = frozenset((t.statistic.name, t.probe) for t in formula.terminals())
            if pairs not in sizes:
                sizes[pairs] = tuple(
                    max(stack.matrices[pair][0].numel() for pair in pairs) for stack in self.stacks[slot]
                )
            found.setdefault(sizes[pairs], []).append(formula)
        return found.values()

    def _reduce(self, slot: str, group: list[Formula]) -> None:
        """Compute the numbers of single-slot reductions, networks × blocks."""
        graph = Graph(group, self.samples)
        pairs = [(t.statistic.name, t.probe) for t in graph.terminals]
        found = np.full((len(group), len(self.subjects), self._deepest), np.nan)
        chunk = CHUNK if self.device.type == CPU else CHUNK_OF_GPU
        for stack in self.stacks[slot]:
            leaves = [stack.matrices[pair] for pair in pairs]
            step = max(1, chunk // max(leaf[0].numel() for leaf in leaves))
            parts = []
            for start in range(0, len(stack.networks), step):
                part = slice(start, start + step)
                parts.append(torch.stack(graph.values([leaf[part].to(self.device) for leaf in leaves])))
            found[:, stack.networks, stack.blocks] = torch.cat(parts, dim=1).double().cpu().numpy()
        self.numbers.update(zip(group, found, strict=True))

    def _numbers(self, part: Formula) -> np.ndarray:
        """Return a single-slot part's numbers, networks × blocks, computed from matrices or read as they are."""
        if part not in self.numbers:
            assert isinstance(part.head, Terminal)
            key = part.head.statistic.name, part.head.role
            known = np.full((len(self.subjects), self._deepest), np.nan)
            for row, reading in zip(known, self.readings, strict=True):
                numbers = reading.layers.get(key, [])  # none where networks of the shard have no such slot
                row[: len(numbers)] = numbers
            self.numbers[part] = known
        return self.numbers[part]


def _places(readings: Sequence[Reading], sized_at: str, sized_by: Sequence[str]) -> list[Stack]:
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


def _forget(memo: dict) -> None:
    """Drop the oldest entries beyond `REMEMBERED`."""
    while len(memo) > REMEMBERED:
        memo.pop(next(iter(memo)))


@dataclass(frozen=True)
class Members:
    """A shard's networks as they are sent; a worker that holds the shard `name` already does not unpack them."""

    root: str
    name: str
    packed: bytes
    stride: int = 1

    @classmethod
    def of(cls, root: Path, subjects: Sequence[Subject], stride: int) -> Members:
        """Return the subjects under a name that says which they are and how much of them is read."""
        return cls(str(root), shard_name(subjects, stride), pickle.dumps(tuple(subjects)), stride)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Members) and (self.root, self.name) == (other.root, other.name)

    def __hash__(self) -> int:
        return hash((self.root, self.name))


@dataclass(frozen=True)
class ShardTask(Homed):
    """Formulas to score on one shard: they travel, packed once for all shards; the statistics stay with the worker."""

    members: Members
    formulas: bytes | tuple[Formula, ...]  # as they are in one process: packed, a redefined function looks the same
    load: float

    @property
    def home(self) -> str:  # type: ignore[override]
        """The shard's name."""
        return self.members.name


def shards(depths: np.ndarray) -> list[np.ndarray]:
    """Return two or more groups of networks, by place, with about equally many layers in each; the largest first.

    Networks of one depth stay together unless they are too many, because each depth in a group costs time of its own.
    """
    parts: list[np.ndarray] = []
    for depth in np.unique(depths):
        at = np.flatnonzero(depths == depth)
        parts += np.array_split(at, -(-len(at) // OF_ONE_DEPTH))
    groups: list[list[np.ndarray]] = [[] for _ in range(max(2, -(-len(depths) // SIZE)))]
    loads = [0] * len(groups)
    for part in sorted(parts, key=lambda at: -len(at) * depths[at[0]]):
        least = loads.index(min(loads))
        groups[least].append(part)
        loads[least] += len(part) * int(depths[part[0]])
    order = sorted(range(len(groups)), key=lambda n: -loads[n])
    return [np.sort(np.concatenate(groups[n])) for n in order if groups[n]]


def shard_name(subjects: Sequence[Subject], stride: int) -> str:
    """Return the name of the shard that has every stride-th row and column of these networks' matrices."""
    return hashlib.sha256("".join(subject.key for subject in subjects).encode()).hexdigest() + f"/{stride}"


def packed(formulas: Sequence[Formula]) -> bytes:
    """Return the formulas as they are sent."""
    return pickle.dumps(tuple(formulas))


@lru_cache(maxsize=1)
def unpacked(formulas: bytes) -> tuple[Formula, ...]:
    """Return the formulas as they were before `packed`; those that came last are remembered."""
    return pickle.loads(formulas)
