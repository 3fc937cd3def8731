"""Shards: many small networks' statistics held in memory, matrices of one shape as one tensor, scored together.

One operation on one small matrix costs microseconds of Python and little arithmetic. A shard stacks the matrices of
equal shape of all its networks and runs a formula's operations once for each stack. The numbers are those of the
network-by-network path up to float32's rounding (tested against it, 1e-6 relative).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autoprox.bench_cache.cache import SHAPES, StatisticsCache, Subject, slots_of
from autoprox.bench_cache.workers import one_thread
from autoprox.primitives.evaluate import (
    by_slot,
    finish,
    matrix_terminals,
    reduce_matrices,
    reductions,
    requirements,
    slot_parts,
)
from autoprox.primitives.formula import Formula
from autoprox.primitives.probe import Reading
from autoprox.primitives.statistics import STATISTICS, Terminal

#: Networks in a shard. Fixed, so that what is stacked together does not depend on the number of workers.
SIZE = 50
#: Entries of a stack that are worked on at once: a chunk and what is computed from it stay in cache.
CHUNK = 2**17
#: Subformulas whose numbers a shard remembers; the oldest are computed again when they are needed.
REMEMBERED = 8_000


@dataclass(frozen=True)
class Stack:
    """The matrices of one slot and one shape: by (statistic, probe), n × rows × columns, and whose each one is."""

    networks: np.ndarray
    blocks: np.ndarray
    matrices: dict[tuple[str, str], Tensor]


class Shard:
    """Some networks with the statistics that formulas have read so far, and the numbers made of them."""

    def __init__(self, root: Path, subjects: Sequence[Subject]) -> None:
        self.root, self.subjects = root, tuple(subjects)
        self.readings: list[Reading] = []
        self.stacks: dict[str, list[Stack]] = {}
        self.samples: dict[tuple[str, str], int] = {}
        self.numbers: dict[Formula, np.ndarray] = {}
        self.finished: dict[int, dict[Formula, Tensor]] = {}  # by depth: subformulas' values on its networks

    def scores(self, formulas: Sequence[Formula]) -> np.ndarray:
        """Scores, formulas × networks, float64. Raises LayerError for a statistic that the networks do not have."""
        self._load(formulas)
        wanted = [part for part in reductions(formulas) if part not in self.numbers]
        for slot, group in by_slot(wanted).items():
            self._reduce(slot, group)
        depths = np.array([int(reading.net["depth"]) for reading in self.readings])
        result = np.empty((len(formulas), len(self.subjects)))
        for depth in np.unique(depths):
            at = np.flatnonzero(depths == depth)
            memo = self.finished.setdefault(int(depth), {})
            for row, formula in enumerate(formulas):
                result[row, at] = self._finish(formula, at, int(depth), memo)
            _forget(memo)
        _forget(self.numbers)
        return result

    def _load(self, formulas: Sequence[Formula]) -> None:
        """Read the matrices that the formulas need and that are not here, and stack them."""
        needed = {pair for pair in requirements(formulas) if STATISTICS[pair[0]].level == "matrix"} - set(self.samples)
        if self.readings and not needed:
            return
        pairs = sorted(needed)
        cache = StatisticsCache(self.root)
        wanted = [(*pair, slot) for pair in pairs for slot in slots_of(pair[0])]
        readings = [cache.read(subject, wanted, SHAPES) for subject in self.subjects]
        if not self.readings:
            self.readings = [replace(reading, matrices={}) for reading in readings]
            slots = (*slots_of("weight"), *slots_of("attn"))
            self.stacks = {slot: _places(readings, slot) for slot in slots}
        for pair in pairs:
            for slot in slots_of(pair[0]):
                for stack in self.stacks[slot]:
                    members = zip(stack.networks, stack.blocks, strict=True)
                    stack.matrices[pair] = torch.stack([readings[n].matrices[(*pair, slot)][b] for n, b in members])
            self.samples[pair] = readings[0].samples[pair]

    def _reduce(self, slot: str, group: list[Formula]) -> None:
        """Compute the numbers of single-slot reductions, networks × blocks, NaN beyond a network's last block."""
        deepest = max(int(reading.net["depth"]) for reading in self.readings)
        terminals = matrix_terminals(group)
        samples = {t: self.samples[t.statistic.name, t.probe] for t in terminals}
        found = np.full((len(group), len(self.subjects), deepest), np.nan)
        for stack in self.stacks[slot]:
            size = max(t.shape[1] * t.shape[2] for t in _leaves(stack, terminals, slice(None)).values())
            step = max(1, CHUNK // size)
            for start in range(0, len(stack.networks), step):
                part = slice(start, start + step)
                values = reduce_matrices(group, _leaves(stack, terminals, part), samples)
                for row, value in enumerate(values):
                    found[row, stack.networks[part], stack.blocks[part]] = value.double().numpy()
        self.numbers.update(zip(group, found, strict=True))

    def _finish(self, formula: Formula, at: np.ndarray, depth: int, memo: dict[Formula, Tensor]) -> np.ndarray:
        def layers(node: Formula) -> Tensor:
            columns = [self._numbers(part)[at, :depth] for part in slot_parts(node)]
            return torch.from_numpy(np.stack(columns, axis=-1))

        def net(name: str) -> Tensor:
            return torch.tensor([self.readings[i].net[name] for i in at], dtype=torch.float64).reshape(-1, 1, 1)

        return finish(formula, layers, net, memo).numpy()

    def _numbers(self, part: Formula) -> np.ndarray:
        """A single-slot part's numbers, networks × blocks: a reduction as computed, or a layer statistic as read."""
        if part not in self.numbers:
            assert isinstance(part.head, Terminal)
            deepest = max(int(reading.net["depth"]) for reading in self.readings)
            numbers = np.full((len(self.subjects), deepest), np.nan)
            for row, reading in enumerate(self.readings):
                values = reading.layers[part.head.statistic.name, part.head.role]
                numbers[row, : len(values)] = values
            self.numbers[part] = numbers
        return self.numbers[part]


def _leaves(stack: Stack, terminals: Iterable[Terminal], part: slice) -> dict[Terminal, Tensor]:
    return {t: stack.matrices[t.statistic.name, t.probe][part] for t in terminals}


def _places(readings: Sequence[Reading], slot: str) -> list[Stack]:
    """Empty stacks for the matrices of a slot: whose have the same shapes, by what these follow from."""
    of, facts = ("qkv", ("heads", "tokens")) if slot == "attn" else (slot, ("fan_out", "fan_in", "tokens"))
    groups: dict[tuple[float, ...], list[tuple[int, int]]] = {}
    for network, reading in enumerate(readings):
        for block in range(int(reading.net["depth"])):
            shape = tuple(reading.layers[name, of][block] for name in facts)
            groups.setdefault(shape, []).append((network, block))
    return [
        Stack(np.array([network for network, _ in group]), np.array([block for _, block in group]), {})
        for group in groups.values()
    ]


def _forget(memo: dict[Formula, Any]) -> None:
    """Drop the oldest entries beyond `REMEMBERED`."""
    while len(memo) > REMEMBERED:
        memo.pop(next(iter(memo)))


@dataclass(frozen=True)
class ShardTask:
    """What one worker does for one shard: formulas travel, statistics stay."""

    root: str
    subjects: tuple[Subject, ...]
    formulas: tuple[Formula, ...]


def shards(indices: np.ndarray, depths: np.ndarray) -> list[np.ndarray]:
    """The indices in groups of `SIZE` at most, about equally large, the same whatever their order.

    Networks are dealt out by depth, so that all groups take about equally long.
    """
    ordered = np.unique(indices)
    ordered = ordered[np.argsort(-depths[ordered], kind="stable")]
    groups = -(-len(ordered) // SIZE)
    return [ordered[start::groups] for start in range(groups)]


def score_shard(task: ShardTask) -> np.ndarray:
    """Scores, formulas × networks of the shard. Runs on one thread, so that workers do not contend for cores."""
    shard = _shard(task.root, tuple(subject.key for subject in task.subjects), _Held(task.subjects))
    with one_thread():
        return shard.scores(task.formulas)


class _Held:
    """Subjects that ride along to `_shard` without being part of its key."""

    def __init__(self, subjects: tuple[Subject, ...]) -> None:
        self.subjects = subjects

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held)

    def __hash__(self) -> int:
        return 0


@lru_cache(maxsize=64)
def _shard(root: str, keys: tuple[str, ...], held: _Held) -> Shard:
    """One for each process, root and group of networks."""
    return Shard(Path(root), held.subjects)
