"""Shards: many small networks' statistics held in memory, matrices of one shape as one tensor, scored together.

One operation on one small matrix costs microseconds of Python and little arithmetic. A shard, whose networks may
belong to several tasks, stacks their matrices of equal shape. It runs a formula's operations once for each stack, and
the arithmetic on numbers per layer once for all networks of one depth. Its numbers equal those of networks scored one
by one up to float32's rounding (a test compares them, 1e-6 relative).
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from autoprox.bench_cache.runtime.devices import chosen_device
from autoprox.bench_cache.runtime.placement import Homed
from autoprox.bench_cache.spaces.registry import get_space
from autoprox.bench_cache.statistics.stacks import Stacks, places
from autoprox.bench_cache.statistics.store import SHAPES, StatisticsCache, slots_of
from autoprox.bench_cache.statistics.subject import Subject
from autoprox.primitives.evaluate import Layout, finish, is_readable, reductions, requirements, slot_parts
from autoprox.primitives.formula import Formula
from autoprox.primitives.probe import Reading
from autoprox.primitives.reduce import by_slot, evaluated_on
from autoprox.primitives.statistics import STATISTICS, Terminal

#: How many networks of one depth a shard has at most, and how many networks of all depths there are to a shard. Both
#: are fixed, so that the number of workers does not decide what is stacked together.
OF_ONE_DEPTH, SIZE = 100, 150
#: How many large networks, of which samples are held, there are to a shard. A sample takes megabytes, and a shard that
#: is read anew is in memory beside all that is held.
SIZE_OF_SAMPLED = 24
#: How many subformulas' numbers a shard remembers; the oldest are computed again when they are needed.
REMEMBERED = 8_000


@dataclass(frozen=True)
class _Rows:
    """The layers of all networks of a kind, in the order of the networks' depths: the network and block of each."""

    networks: np.ndarray
    whose: np.ndarray
    blocks: np.ndarray
    layout: Layout

    @classmethod
    def of(cls, readings: Sequence[Reading], convolutional: bool) -> _Rows:
        """Return the layers of the networks that are convolutional, or of the others."""
        depths = np.array([int(each.net["depth"]) if each.convolutional == convolutional else 0 for each in readings])
        networks = np.argsort(depths, kind="stable")[np.count_nonzero(depths == 0) :]
        blocks = np.concatenate([np.arange(depths[n]) for n in networks])
        return cls(networks, np.repeat(networks, depths[networks]), blocks, Layout(depths[networks].tolist()))


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
        self.stacks: Stacks | None = None
        self.kinds: dict[bool, _Rows] = {}  # convolutional or not
        self.numbers: dict[Formula, np.ndarray] = {}  # networks × blocks of each single-slot part, NaN beyond a depth
        self.values: dict[bool, dict[Formula, Tensor]] = {}  # what `finish` remembers of these

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
        stacks = self._load(formulas)
        parts = dict.fromkeys(part for kind in sorted(self.kinds) for part in reductions(formulas, kind))
        wanted = [part for part in parts if part not in self.numbers]
        for slot, group in by_slot(wanted).items():
            shape = len(self.subjects), self._deepest
            self.numbers.update(zip(group, stacks.reduced(slot, group, shape), strict=True))
        result = np.empty((len(formulas), len(self.subjects)))
        for kind, rows in self.kinds.items():
            result[:, rows.networks] = self._finish(formulas, kind, rows)
            _forget(self.values[kind])
        _forget(self.numbers)
        return result

    @property
    def nbytes(self) -> int:
        """The bytes of the matrices and, to within a few of each network, of the numbers that it holds."""
        matrices = self.stacks.nbytes if self.stacks else 0
        layers = sum(len(self.values[kind]) * len(rows.whose) for kind, rows in self.kinds.items())
        if self.numbers:
            layers += len(self.numbers) * len(self.subjects) * self._deepest
        return matrices + 8 * layers

    def _finish(self, formulas: Sequence[Formula], convolutional: bool, rows: _Rows) -> np.ndarray:
        """Return scores, formulas × networks, of the networks of one kind, in the order of `rows`."""

        def layers(node: Formula) -> Tensor:
            parts = slot_parts(node, convolutional)
            return torch.from_numpy(np.stack([self._numbers(part)[rows.whose, rows.blocks] for part in parts], axis=-1))

        def net(name: str) -> Tensor:
            return torch.tensor([self.readings[n].net[name] for n in rows.networks], dtype=torch.float64)[:, None]

        memo = self.values[convolutional]
        return np.stack([finish(formula, layers, net, rows.layout, memo).numpy() for formula in formulas])

    @property
    def _deepest(self) -> int:
        return max(int(rows.blocks.max()) + 1 for rows in self.kinds.values())

    def _load(self, formulas: Sequence[Formula]) -> Stacks:
        """Read the matrices that the formulas need and that are not here, and stack them; return all stacks."""
        needed = {pair for pair in requirements(formulas) if STATISTICS[pair[0]].level == "matrix"}
        if self.stacks and needed <= self.stacks.samples.keys():
            return self.stacks
        pairs = sorted(needed.difference(self.stacks.samples if self.stacks else ()))
        cache = StatisticsCache(self.root)
        if self.stride > 1:
            readings = [cache.read_sample(subject, pairs, self.stride) for subject in self.subjects]
        else:
            wanted = [(*pair, slot) for pair in pairs for slot in slots_of(pair[0])]
            readings = [cache.read(subject, wanted, SHAPES) for subject in self.subjects]
        stacks = self.stacks or self._begun(readings)
        for pair in pairs:
            stacks.add(pair, slots_of(pair[0]), readings)
        return stacks

    def _begun(self, readings: Sequence[Reading]) -> Stacks:
        """Keep what is not a matrix of the first readings, and return empty stacks."""
        self.readings = [replace(reading, matrices={}) for reading in readings]
        self.kinds = {kind: _Rows.of(readings, kind) for kind in sorted({each.convolutional for each in readings})}
        self.values = {kind: {} for kind in self.kinds}
        matrices = [statistic for statistic in STATISTICS.values() if statistic.level == "matrix"]
        sizes = {slot: (each.sized_at or slot, each.sized_by) for each in matrices for slot in each.slots}
        self.stacks = Stacks(self.device, {slot: places(readings, *size) for slot, size in sizes.items()}, self.stride)
        return self.stacks

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


def _forget(memo: dict) -> None:
    """Drop the oldest entries beyond `REMEMBERED`."""
    for oldest in list(islice(memo, max(0, len(memo) - REMEMBERED))):
        del memo[oldest]


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


def shards(depths: np.ndarray, stride: int = 1) -> list[np.ndarray]:
    """Return two or more groups of networks, by place, with about equally many layers in each; the largest first.

    Networks of one depth stay together unless they are too many, because each depth in a group costs time of its own.
    Groups of large networks, which have a `stride` above 1, are smaller, and an even number, as workers mostly are.
    """
    count, of_one_depth = max(2, -(-len(depths) // SIZE)), OF_ONE_DEPTH
    if stride > 1:
        count, of_one_depth = 2 * -(-len(depths) // (2 * SIZE_OF_SAMPLED)), SIZE_OF_SAMPLED
    parts: list[np.ndarray] = []
    for depth in np.unique(depths):
        at = np.flatnonzero(depths == depth)
        parts += np.array_split(at, -(-len(at) // of_one_depth))
    groups: list[list[np.ndarray]] = [[] for _ in range(count)]
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
