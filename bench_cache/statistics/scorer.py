"""Scorer: formulas' values on a benchmark's architectures, from cached statistics, by one or more processes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from autoprox.bench_cache.benchmarks.table import Benchmark, Network
from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.bench_cache.runtime.local_pool import LocalPool, give_back_memory, one_thread
from autoprox.bench_cache.runtime.placement import Placed
from autoprox.bench_cache.runtime.submit import results
from autoprox.bench_cache.spaces.registry import InputSpec
from autoprox.bench_cache.statistics.number_store import NumberStore, scope
from autoprox.bench_cache.statistics.shards import Members, ShardTask, packed, score_shard, shard_name, shards
from autoprox.bench_cache.statistics.store import StatisticsCache, is_matrix
from autoprox.bench_cache.statistics.subject import Subject
from autoprox.bench_cache.statistics.version import statistics_version
from autoprox.primitives.evaluate import finish, layer_numbers, reduce_layers, reductions, requirements, slot_parts
from autoprox.primitives.formula import Formula

Progress = Callable[[int, int], None]

#: Networks of so many parameters or fewer are scored together from memory (see shards.py), if their statistics, which
#: take about 40 bytes a parameter, fit in so many bytes.
SMALL, RESIDENT = 200_000, 2**30
#: Of larger networks, every so many rows and columns are held in memory, to tell early which formulas are hopeless.
STRIDE = 8
#: Bytes of parts' numbers that a scorer remembers; what was used longest ago is computed again when needed.
REMEMBERED = 2**28


@dataclass(frozen=True)
class Task(Placed):
    """What one worker does for one network: small to send, and complete in itself."""

    root: str
    subject: Subject
    parts: tuple[Formula, ...]  # single-slot reductions and layer statistics
    numbers: tuple[str, ...]  # net statistics
    keep: bool
    stride: int = 1
    home: str = ""
    load: float = 1.0


def work(task: Task) -> tuple[list[list[float]], dict[str, float]]:
    """The parts' numbers, one for each block, and the network's numbers. Runs on one thread, so that sums are
    added in one order whatever the number of workers."""
    terminals = [terminal for part in task.parts for terminal in part.terminals()]
    matrices = [(t.statistic.name, t.probe, t.role) for t in terminals if is_matrix(t.statistic.name)]
    names = {t.statistic.name for t in terminals} | set(task.numbers)
    with one_thread():
        reading = _cache(task.root).read(task.subject, matrices, names, keep=task.keep)
        reduced = reduce_layers([part for part in task.parts if part.args], reading)
    rows = [layer_numbers(part, reading, reduced) for part in task.parts]
    net = {name: reading.net[name] for name in task.numbers}
    if not task.keep:
        del reading
        give_back_memory()
    return rows, net


def prepared(task: Task) -> bool:
    """Whether the statistics that the parts read are kept, and their samples if these are wanted."""
    return _cache(task.root).prepared(task.subject, _pairs(task), task.stride, keep=task.keep)


def prepare(task: Task) -> None:
    """Build and keep the statistics that the parts read, if they are not there."""
    with one_thread():
        _cache(task.root).prepare(task.subject, sorted(_pairs(task)), task.stride, keep=task.keep)
    give_back_memory()


def _pairs(task: Task) -> set[tuple[str, str]]:
    return {(t.statistic.name, t.probe) for part in task.parts for t in part.terminals()}


@cache
def _cache(root: str) -> StatisticsCache:
    """One for each process and directory, so that a file's checksum is verified once."""
    return StatisticsCache(root)


class Scoring(Protocol):
    """What scores formulas on the architectures of a benchmark: `Scorer`, or another in its place."""

    def scores(self, formulas: Sequence[Formula], indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Scores, formulas × indices."""
        ...


class Scorer:
    """Formulas' scores on the architectures of one benchmark, built for one of its inputs.

    Every single-slot reduction is computed once for each architecture, whatever formulas, roles or generations it
    appears in. Statistics of the architectures in `kept` stay on disk; the others' are read from the network when
    they are needed, which gives the same numbers. `network` is one of `Benchmark.networks`, the first if it is not
    given; `structure` has what is known of its architectures without building them. `executor` is any
    concurrent.futures.Executor; None computes here.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        root: Path,
        *,
        network: Network | None = None,
        batch: int = 2,
        seed: int = 0,
        kept: Iterable[int] | None = None,
        executor: Executor | None = None,
    ) -> None:
        space, spec = buildable(benchmark)
        self.benchmark = benchmark
        self.network = network or benchmark.networks()[0]
        self.root = root
        self.executor = executor
        spec, given = self.network.spec or spec, self.network.input
        self.subjects = [Subject(space, arch, spec, batch, seed, given) for arch in benchmark.architectures]
        self.kept = set(range(len(benchmark)) if kept is None else (int(i) for i in kept))
        self.structure = benchmark.structure(spec)
        self.depths = self.structure["depth"].astype(int)
        self.small = are_small(self.structure["params"])
        self.store = NumberStore(root / statistics_version(space))
        self.homes: dict[str, str] = {}  # of subjects, by their keys: see `prepare`
        self._parts: dict[Formula, np.ndarray] = {}  # part → architectures × blocks, NaN where not computed
        self._net: dict[str, np.ndarray] = {}

    def prepare(
        self,
        formulas: Iterable[Formula],
        indices: Iterable[int],
        progress: Progress | None = None,
        homes: Mapping[str, str] | None = None,
    ) -> None:
        """Build the cached statistics that the formulas read, for the architectures that are kept on disk.

        Workers of any other executor than ours may have disks of their own: each builds what its disk lacks, under
        the same path, and `homes` (see `shard_homes`) say which networks it will be asked for. The first network
        shows how large the rest will be; a worker's own disk is not asked. Of large networks, those for which there
        is no room (see `_fitting`) are no longer `kept`, but for their samples. Raises BenchmarkError if there is none
        for small ones.
        """
        self.homes = dict(homes or {})
        parts, stride = tuple(reductions(formulas)), 1 if self.small else STRIDE
        kept = [self.subjects[i] for i in indices if int(i) in self.kept]
        tasks = [Task(str(self.root), each, parts, (), True, stride, self._home(each)) for each in kept]
        missing = [task for task in tasks if not prepared(task)]
        here = self.executor is None or isinstance(self.executor, LocalPool)
        first = missing[0] if missing else None if here or not tasks else tasks[0]
        if first:
            for _ in results(None if here else self.executor, prepare, [first]):
                pass
            one_disk = prepared(first)  # a worker built it, and it is seen here
            missing = [task for task in (missing if missing and one_disk else tasks) if task is not first]
            if missing and one_disk:
                missing = self._fitting(first.subject, kept, missing)
        done = len(tasks) - len(missing)
        for now_done, _ in enumerate(results(self.executor, prepare, missing), done + 1):
            if progress:
                progress(now_done, len(tasks))

    def _home(self, subject: Subject) -> str:
        return self.homes.get(subject.key, subject.key)

    def _fitting(self, like: Subject, kept: Sequence[Subject], missing: list[Task]) -> list[Task]:
        """The tasks of what is missing, if each takes as much as `like`. Statistics of large networks take half of the
        disk's room at most: of those beyond, only samples are kept, and the rest is read from the network each time.
        """
        store = _cache(str(self.root))
        size, free = store.size(like), shutil.disk_usage(self.root).free
        if self.small:
            if size * len(missing) > free:
                raise BenchmarkError(
                    f"the statistics of {self.benchmark.name} need another {size * len(missing) / 1e9:.1f} GB in "
                    f"{self.root}, where {free / 1e9:.1f} GB are free; set AUTOPROX_HOME to a folder on a larger disk"
                )
            return missing
        used = sum(map(store.size, kept))
        fitting = max(0, ((free + used) // 2 - used) // size)
        beyond = [replace(task, keep=False) for task in missing[fitting:]]
        places = {subject.key: i for i, subject in enumerate(self.subjects)}
        self.kept -= {places[task.subject.key] for task in beyond}
        return [*missing[:fitting], *(task for task in beyond if not prepared(task))]

    def scores(self, formulas: Sequence[Formula], indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Scores, formulas × indices, float64, to 40 bits (see `rounded`)."""
        for terminal in (t for formula in formulas for t in formula.terminals() if t.statistic.column):
            raise BenchmarkError(f"{terminal} is of a table; the networks of {self.benchmark.name} have none")
        indices = np.asarray(indices, dtype=int)
        if formulas and self.from_memory(indices):
            return _from_memory([self], formulas, [indices])[0]
        parts = list(dict.fromkeys(part for formula in formulas for part in _parts(formula)))
        numbers = sorted({name for name, _ in requirements(formulas) if _is_net(formulas, name)})
        self._compute(parts, numbers, indices)
        result = np.empty((len(formulas), len(indices)))
        for depth in np.unique(self.depths[indices]):
            at = np.flatnonzero(self.depths[indices] == depth)
            for row, formula in enumerate(formulas):
                result[row, at] = self._finish(formula, indices[at], int(depth))
        self._forget()
        return rounded(result)

    def from_memory(self, indices: np.ndarray) -> bool:
        """Whether these architectures are scored together, from statistics that are held in memory."""
        return self.small and len(indices) > 0 and self.kept.issuperset(indices.tolist())

    def members(self, indices: np.ndarray) -> list[tuple[Subject, int]]:
        """The architectures' subjects with their depths."""
        return [(self.subjects[i], int(self.depths[i])) for i in indices]

    def _forget(self) -> None:
        """Drop the parts that were used longest ago, beyond what is remembered."""
        size = sum(numbers.nbytes for numbers in self._parts.values())
        while size > REMEMBERED:
            size -= self._parts.pop(next(iter(self._parts))).nbytes

    def _finish(self, formula: Formula, indices: np.ndarray, depth: int) -> np.ndarray:
        def layers(node: Formula) -> Tensor:
            columns = [self._parts[part][indices, :depth] for part in slot_parts(node)]
            return torch.from_numpy(np.stack(columns, axis=-1))

        def net(name: str) -> Tensor:
            return torch.from_numpy(self._net[name][indices].reshape(-1, 1, 1))

        return finish(formula, layers, net).numpy()

    def _compute(self, parts: Sequence[Formula], numbers: Sequence[str], indices: np.ndarray) -> None:
        """Fill in what is missing of the parts and numbers at the indices."""
        self._recall(parts)
        for name in numbers:
            self._net.setdefault(name, np.full(len(self.subjects), np.nan))
        tasks, places = [], []
        for i in indices:
            lacking = tuple(part for part in parts if np.isnan(self._parts[part][i, 0]))
            absent = tuple(name for name in numbers if np.isnan(self._net[name][i]))
            if lacking or absent:
                subject, keep = self.subjects[i], int(i) in self.kept
                home = self._home(subject) if keep else ""
                tasks.append(Task(str(self.root), subject, lacking, absent, keep, home=home))
                places.append(i)
        for number, (rows, net) in results(self.executor, work, tasks):
            i = places[number]
            for part, row in zip(tasks[number].parts, rows, strict=True):
                self._parts[part][i, : len(row)] = row
            for name, value in net.items():
                self._net[name][i] = value
        fresh = dict.fromkeys(part for task in tasks for part in task.parts if part.args and part.built_in)
        self.store.write(self._scope, {part.text: self._parts[part] for part in fresh})

    def _recall(self, parts: Sequence[Formula]) -> None:
        """Put the parts last in the order of use, with what earlier runs have stored of new ones."""
        shape = (len(self.subjects), int(self.depths.max()))
        new = [part.text for part in parts if part.args and part.built_in and part not in self._parts]
        stored = self.store.read(self._scope, new, shape) if new else {}
        for part in parts:
            known = self._parts.pop(part, None)
            if known is None and part.built_in:  # of others the store does not know what they compute
                known = stored.get(part.text)
            self._parts[part] = np.full(shape, np.nan) if known is None else known

    @cached_property
    def _scope(self) -> str:
        return scope(subject.key for subject in self.subjects)


def scores_together(
    scorers: Sequence[Scoring],
    formulas: Sequence[Formula],
    wanted: Sequence[np.ndarray],
) -> list[np.ndarray]:
    """What each scorer's `scores` gives of its wanted indices; those that are scored from memory all at once."""
    small = {n: s for n, s in enumerate(scorers) if isinstance(s, Scorer) and s.from_memory(wanted[n])}
    found: dict[int, np.ndarray] = {}
    if small and formulas:
        together = _from_memory([*small.values()], formulas, [wanted[n] for n in small])
        found = dict(zip(small, together, strict=True))
    return [found[n] if n in found else scorer.scores(formulas, wanted[n]) for n, scorer in enumerate(scorers)]


def estimates(scorers: Sequence[Scorer], formulas: Sequence[Formula], wanted: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Scores from every `STRIDE`-th row and column of each matrix: what ranks networks about alike, and much sooner."""
    return _from_memory(scorers, formulas, wanted, STRIDE)


def _from_memory(
    scorers: Sequence[Scorer],
    formulas: Sequence[Formula],
    wanted: Sequence[np.ndarray],
    stride: int = 1,
) -> list[np.ndarray]:
    """Scores of one or more scorers, for each of these formulas × indices, shard by shard."""
    distinct = [np.unique(indices) for indices in wanted]  # in an order of their own, whatever is asked for
    members, groups = _grouped(scorers, distinct)
    sent = packed(formulas) if scorers[0].executor else tuple(formulas)
    tasks = [
        ShardTask(
            Members.of(scorers[0].root, [members[i][0] for i in group], stride),
            sent,
            load=sum(members[i][1] for i in group),
        )
        for group in groups
    ]
    flat = np.empty((len(formulas), len(members)))
    for number, scores in results(scorers[0].executor, score_shard, tasks):
        flat[:, groups[number]] = scores
    parts = np.split(rounded(flat), np.cumsum([len(indices) for indices in distinct])[:-1], axis=1)
    places = zip(parts, distinct, wanted, strict=True)
    return [part[:, np.searchsorted(indices, asked)] for part, indices, asked in places]


def shard_homes(scorers: Sequence[Scoring], wanted: Sequence[np.ndarray]) -> dict[str, str]:
    """The shards in which these networks, or samples of them, are held in memory, by their subjects' keys."""
    homes = {}
    for stride in (1, STRIDE):
        chosen = {
            n: s
            for n, s in enumerate(scorers)
            if isinstance(s, Scorer) and len(wanted[n]) and s.from_memory(wanted[n]) == (stride == 1)
        }
        if chosen:
            members, groups = _grouped([*chosen.values()], [np.unique(wanted[n]) for n in chosen])
            for group in groups:
                name = shard_name([members[i][0] for i in group], stride)
                homes.update({members[i][0].key: name for i in group})
    return homes


def _grouped(
    scorers: Sequence[Scorer], distinct: Sequence[np.ndarray]
) -> tuple[list[tuple[Subject, int]], list[np.ndarray]]:
    """All the scorers' members, and which of them are a shard."""
    members = [member for s, indices in zip(scorers, distinct, strict=True) for member in s.members(indices)]
    return members, shards(np.array([depth for _, depth in members]))


def are_small(params: np.ndarray) -> bool:
    """Whether networks of these sizes are scored together from memory."""
    return bool(params.max() <= SMALL and 40 * params.sum() <= RESIDENT)


def buildable(benchmark: Benchmark) -> tuple[str, InputSpec]:
    """The space and input of a benchmark's networks. Raises BenchmarkError for a tabular benchmark, which has none."""
    if benchmark.space is None or benchmark.spec is None:
        raise BenchmarkError(f"benchmark {benchmark.name} is tabular: its networks cannot be built and probed")
    return benchmark.space, benchmark.spec


def rounded(scores: np.ndarray) -> np.ndarray:
    """Scores to 40 of their 53 bits, about 12 digits.

    The last bits of a function such as pow depend on the place of a number in its vector. They must not tell apart
    two networks that are equal to a formula: where it cannot rank, it has a tie.
    """
    mantissa, exponent = np.frexp(scores)
    return np.ldexp(np.rint(mantissa * 2.0**40), exponent - 40)


def _parts(formula: Formula) -> Iterator[Formula]:
    """The single-slot reductions and layer statistics of a formula."""
    for node in formula.nodes():
        if node.kind.level == "layer" and (not node.args or any(arg.kind.level == "matrix" for arg in node.args)):
            yield from slot_parts(node)


def _is_net(formulas: Iterable[Formula], name: str) -> bool:
    return any(t.statistic.name == name and t.kind.level == "net" for f in formulas for t in f.terminals())
