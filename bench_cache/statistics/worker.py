"""What a worker does for one network: build its statistics, and reduce them to numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from autoprox.bench_cache.runtime.devices import chosen_device, computing
from autoprox.bench_cache.runtime.local_pool import give_back_memory
from autoprox.bench_cache.runtime.placement import Placed
from autoprox.bench_cache.statistics.held_small import HELD_SMALL
from autoprox.bench_cache.statistics.store import StatisticsCache
from autoprox.bench_cache.statistics.subject import Subject
from autoprox.primitives.evaluate import layer_numbers
from autoprox.primitives.formula import Formula
from autoprox.primitives.probe import Reading
from autoprox.primitives.reduce import read_by, reduce_layers
from autoprox.primitives.statistics import Terminal


@dataclass(frozen=True)
class NetworkTask(Placed):
    """A network and what is wanted of it: small to send, and complete in itself."""

    root: str
    subject: Subject
    parts: tuple[Formula, ...]  # single-slot reductions and layer statistics
    numbers: tuple[str, ...]  # net statistics
    keep: bool
    stride: int = 1
    home: str = ""
    load: float = 1.0


def reduce_network(task: NetworkTask) -> tuple[list[list[float]], dict[str, float]]:
    """Return the parts' numbers, one for each block, and the network's numbers.

    Runs on one thread, so that sums are added in one order whatever the number of workers.
    """
    wanted = [part for part in task.parts if part.args]
    network = task.root, task.subject.key
    small = HELD_SMALL.of(network, wanted)
    matrices = [(t.statistic.name, t.probe, t.role) for t in read_by(wanted, small.parts)]
    names = {part.head.statistic.name for part in task.parts if isinstance(part.head, Terminal)} | set(task.numbers)
    with computing():
        cache = statistics_cache(task.root)
        reading = cache.read(task.subject, matrices, names, keep=task.keep) if matrices or names else Reading()
        reduced = reduce_layers(wanted, reading, chosen_device(task.subject.device), small)
    HELD_SMALL.make_room(network)
    rows = [layer_numbers(part, reading, reduced) for part in task.parts]
    net = {name: reading.net[name] for name in task.numbers}
    if not task.keep:
        del reading
        give_back_memory()
    return rows, net


def is_built(task: NetworkTask) -> bool:
    """Return whether the statistics that the parts read are kept, and their samples if these are wanted."""
    return statistics_cache(task.root).prepared(task.subject, _pairs(task), task.stride, keep=task.keep)


def build(task: NetworkTask) -> None:
    """Build and keep the statistics that the parts read, if they are not there."""
    with computing():
        statistics_cache(task.root).prepare(task.subject, sorted(_pairs(task)), task.stride, keep=task.keep)
    give_back_memory()


def _pairs(task: NetworkTask) -> set[tuple[str, str]]:
    return {(t.statistic.name, t.probe) for part in task.parts for t in part.terminals()}


@cache
def statistics_cache(root: str) -> StatisticsCache:
    """Return the cache in a directory: one for each process, so that a file's checksum is verified once."""
    return StatisticsCache(root)
