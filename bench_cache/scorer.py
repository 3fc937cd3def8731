"""Scorer: formulas' values on a benchmark's architectures, from cached statistics, by one or more processes."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context, parent_process
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from autoprox.bench_cache.benchmark import Benchmark, Network
from autoprox.bench_cache.cache import StatisticsCache, Subject, is_matrix, slots_of
from autoprox.bench_cache.files import BenchmarkError
from autoprox.bench_cache.shards import SIZE, ShardTask, score_shard
from autoprox.bench_cache.spaces import InputSpec
from autoprox.primitives.evaluate import finish, layer_numbers, reduce_layers, reductions, requirements, slot_parts
from autoprox.primitives.formula import Formula

Progress = Callable[[int, int], None]

#: Bytes on disk up to which the kept statistics of a benchmark's networks are scored from memory (see shards.py).
RESIDENT = 2**30
#: Bytes of parts' numbers that a scorer remembers; what was used longest ago is computed again when needed.
REMEMBERED = 2**28


class WorkerError(ValueError):
    """A worker process that ended before its work was done."""


@dataclass(frozen=True)
class Task:
    """What one worker does for one network: small to send, and complete in itself."""

    root: str
    subject: Subject
    parts: tuple[Formula, ...]  # single-slot reductions and layer statistics
    numbers: tuple[str, ...]  # net statistics
    keep: bool


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
    """Whether the statistics that the parts read are kept."""
    return _cache(task.root).has(task.subject, _pairs(task))


def prepare(task: Task) -> None:
    """Build and keep the statistics that the parts read."""
    with one_thread():
        matrices = [(*pair, slot) for pair in sorted(_pairs(task)) for slot in slots_of(pair[0])]
        _cache(task.root).read(task.subject, matrices, ("flops",))
    give_back_memory()


def _pairs(task: Task) -> set[tuple[str, str]]:
    return {(t.statistic.name, t.probe) for part in task.parts for t in part.terminals()}


@cache
def _cache(root: str) -> StatisticsCache:
    """One for each process and directory, so that a file's checksum is verified once."""
    return StatisticsCache(root)


def give_back_memory() -> None:
    """Freed memory back to the system: glibc would keep most of what a network took, and the next would add to it."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
        if trim:
            trim(0)


@contextmanager
def one_thread() -> Iterator[None]:
    """torch on one thread inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def local_pool(workers: int) -> Executor | None:
    """A pool of fresh processes; None, meaning this process, for one worker."""
    if workers == 1:
        return None
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin_worker)


def _begin_worker() -> None:
    """Ctrl-C reaches every process of the terminal; the one that gives out the work decides what it means. A killed
    one cannot tell its workers, which would wait for work for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def close_pool(pool: Executor | None) -> None:
    """End a pool's processes; Ctrl-C meanwhile is ignored, since it would leave them waiting for work for ever."""
    if pool is None:
        return
    heard = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if heard else None
    try:
        pool.shutdown(cancel_futures=True)
    finally:
        if heard:
            signal.signal(signal.SIGINT, before)


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Ctrl-C inside is answered afterwards, and not at all by processes started inside."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
        self._shards: list[np.ndarray] = []  # indices of the networks scored from memory, once they are prepared
        self._parts: dict[Formula, np.ndarray] = {}  # part → architectures × blocks, NaN where not computed
        self._net: dict[str, np.ndarray] = {}

    def prepare(self, formulas: Iterable[Formula], indices: Iterable[int], progress: Progress | None = None) -> None:
        """Build the cached statistics that the formulas read, for the architectures that are kept on disk.

        The first network shows how large the rest will be. Raises BenchmarkError if the disk has no room for that.
        Where all are small, they are scored from memory from now on.
        """
        indices = np.asarray(list(indices), dtype=int)
        parts = tuple(reductions(formulas))
        tasks = [Task(str(self.root), self.subjects[i], parts, (), True) for i in indices if int(i) in self.kept]
        missing = [task for task in tasks if not prepared(task)]
        if missing:
            prepare(missing[0])
            self._check_room(missing[0].subject, len(missing) - 1)
        done = len(tasks) - max(len(missing) - 1, 0)
        for _ in self._run(prepare, missing[1:], progress and (lambda n, of: progress(done + n, len(tasks)))):
            pass
        kept = np.array(sorted(self.kept))
        if len(kept) and np.array_equal(np.sort(indices), kept):
            largest = self.subjects[max(kept, key=lambda i: self.structure["params"][i])]
            if _cache(str(self.root)).size(largest) * len(kept) <= RESIDENT:
                self._shards = [kept[start :: -(-len(kept) // SIZE)] for start in range(-(-len(kept) // SIZE))]

    def _check_room(self, subject: Subject, more: int) -> None:
        needed, free = _cache(str(self.root)).size(subject) * more, shutil.disk_usage(self.root).free
        if needed > free:
            raise BenchmarkError(
                f"the statistics of {self.benchmark.name} need another {needed / 1e9:.1f} GB in {self.root}, where "
                f"{free / 1e9:.1f} GB are free; set AUTOPROX_HOME to a folder on a larger disk"
            )

    def scores(
        self, formulas: Sequence[Formula], indices: Sequence[int] | np.ndarray, progress: Progress | None = None
    ) -> np.ndarray:
        """Scores, formulas × indices, float64, to 40 bits (see `rounded`)."""
        indices = np.asarray(indices, dtype=int)
        if self._shards and formulas and np.array_equal(np.sort(indices), np.array(sorted(self.kept))):
            return rounded(self._from_memory(formulas, indices, progress))
        parts = list(dict.fromkeys(part for formula in formulas for part in _parts(formula)))
        numbers = sorted({name for name, _ in requirements(formulas) if _is_net(formulas, name)})
        self._compute(parts, numbers, indices, progress)
        result = np.empty((len(formulas), len(indices)))
        for depth in np.unique(self.depths[indices]):
            at = np.flatnonzero(self.depths[indices] == depth)
            for row, formula in enumerate(formulas):
                result[row, at] = self._finish(formula, indices[at], int(depth))
        self._forget()
        return rounded(result)

    def _from_memory(self, formulas: Sequence[Formula], indices: np.ndarray, progress: Progress | None) -> np.ndarray:
        """Scores of all kept networks, formulas × indices, shard by shard."""
        tasks = [
            ShardTask(str(self.root), tuple(self.subjects[i] for i in shard), tuple(formulas)) for shard in self._shards
        ]
        by_network = np.empty((len(formulas), len(self.subjects)))
        for number, scores in self._run(score_shard, tasks, progress):
            by_network[:, self._shards[number]] = scores
        return by_network[:, indices]

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

    def _compute(
        self, parts: Sequence[Formula], numbers: Sequence[str], indices: np.ndarray, progress: Progress | None
    ) -> None:
        """Fill in what is missing of the parts and numbers at the indices."""
        shape = (len(self.subjects), int(self.depths.max()))
        for part in parts:
            self._parts[part] = self._parts.pop(part) if part in self._parts else np.full(shape, np.nan)
        for name in numbers:
            self._net.setdefault(name, np.full(len(self.subjects), np.nan))
        tasks, places = [], []
        for i in indices:
            lacking = tuple(part for part in parts if np.isnan(self._parts[part][i, 0]))
            absent = tuple(name for name in numbers if np.isnan(self._net[name][i]))
            if lacking or absent:
                tasks.append(Task(str(self.root), self.subjects[i], lacking, absent, int(i) in self.kept))
                places.append(i)
        for number, (rows, net) in self._run(work, tasks, progress):
            i = places[number]
            for part, row in zip(tasks[number].parts, rows, strict=True):
                self._parts[part][i, : len(row)] = row
            for name, value in net.items():
                self._net[name][i] = value

    def _run(self, function: Callable, tasks: Sequence[Task], progress: Progress | None) -> Iterator[tuple]:
        """(task number, result) of every task, as they finish."""
        if self.executor is None:
            for number, task in enumerate(tasks):
                yield number, function(task)
                if progress:
                    progress(number + 1, len(tasks))
            return
        futures: dict[Future, int] = {}
        try:
            with interrupts_wait():
                futures.update((self.executor.submit(function, task), n) for n, task in enumerate(tasks))
            for done, future in enumerate(as_completed(futures), 1):
                yield futures[future], future.result()
                if progress:
                    progress(done, len(tasks))
        except BrokenExecutor as error:
            raise WorkerError(
                "a worker process died: it was killed, or there was no memory left; nothing that was finished is lost: "
                "go on with --resume, and with fewer --workers if memory is short"
            ) from error
        finally:
            for future in futures:
                future.cancel()


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
