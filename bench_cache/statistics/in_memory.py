"""Shards in memory: those that this process holds, within the memory limit; the others are read from disk each time."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from autoprox.bench_cache.runtime.devices import computing
from autoprox.bench_cache.runtime.memory import memory_limit
from autoprox.bench_cache.statistics.held_small import HELD_SMALL
from autoprox.bench_cache.statistics.shards import Members, Shard, ShardTask, unpacked


class HeldShards:
    """The shards that a process holds, in the order of their last use.

    A generation asks for every shard in turn. Were the one let go that was used longest ago, none would be there when
    its turn comes; so the newest goes where there is no room, and those that fit stay. A shard that was not asked for
    since the one at work was asked for last is of an earlier benchmark, and goes first.
    """

    def __init__(self) -> None:
        self._held: dict[Members, Shard] = {}
        self._uses: dict[tuple[str, str], int] = {}  # when each shard was used last, held or not, by root and name
        self._now = 0

    def scores(self, task: ShardTask) -> np.ndarray:
        """Return scores, formulas × networks of the shard; see `Shard.scores`."""
        members = task.members
        shard = self._held.pop(members, None) or Shard(Path(members.root), pickle.loads(members.packed), members.stride)
        self._held[members] = shard
        try:
            formulas = unpacked(task.formulas) if isinstance(task.formulas, bytes) else task.formulas
            return shard.scores(formulas)
        finally:
            self._make_room(members)

    def _make_room(self, used: Members) -> None:
        """Let shards go until the rest fits; `used` is the one that was used just now."""
        key = used.root, used.name
        self._now, before = self._now + 1, self._uses.get(key, 0)
        self._uses[key] = self._now
        limit, size = memory_limit() - HELD_SMALL.nbytes, sum(shard.nbytes for shard in self._held.values())
        while self._held and size > limit:
            oldest, newest = next(iter(self._held)), next(reversed(self._held))
            gone = oldest if self._uses[oldest.root, oldest.name] < before else newest
            size -= self._held.pop(gone).nbytes

    def __iter__(self) -> Iterator[Shard]:
        return iter(self._held.values())

    def __len__(self) -> int:
        return len(self._held)

    def clear(self) -> None:
        """Let all shards go."""
        self._held.clear()


#: The shards that this process holds.
HELD = HeldShards()


def score_shard(task: ShardTask) -> np.ndarray:
    """Return scores, formulas × networks of the shard.

    Runs on one thread, so that workers do not contend for cores.
    """
    with computing():
        return HELD.scores(task)
