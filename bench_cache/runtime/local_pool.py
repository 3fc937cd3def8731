"""Workers: local processes for long work, on one thread each, and how they start, are interrupted and end."""

from __future__ import annotations

import concurrent.futures
import ctypes
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import forkserver, get_context, parent_process, resource_tracker
from multiprocessing.context import BaseContext
from typing import Any

import numpy as np
import torch

from autoprox.bench_cache.runtime.placement import Homed

#: Parameters of glibc's mallopt: from what size on memory is asked of the system, and given back.
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1


def give_back_memory() -> None:
    """Freed memory back to the system: glibc would keep most of what a network took, and the next would add to it."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
        if trim:
            trim(0)


def keep_memory() -> None:
    """Freed memory stays with the process, for what it computes next: asking the system for each matrix's memory anew,
    as glibc otherwise does, takes as long as most operations on it."""
    if sys.platform == "linux":
        tune = getattr(ctypes.CDLL(None), "mallopt", None)
        if tune:
            tune(_MMAP_THRESHOLD, 2**25)  # the highest that there is
            tune(_TRIM_THRESHOLD, 2**28)


@contextmanager
def one_thread() -> Iterator[None]:
    """torch on one thread inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class LocalPool(Executor):
    """Fresh local processes. Work goes to whichever is free, and `Homed` work then always to the same.

    One process is one ProcessPoolExecutor, which gets its next work when it is done with the last.
    """

    def __init__(self, workers: int) -> None:
        context = _context()
        self._lanes = [ProcessPoolExecutor(1, mp_context=context, initializer=_begin_worker) for _ in range(workers)]
        self._idle = list(range(workers))
        self._homes: dict[str, int] = {}
        self._loads = [0.0] * workers
        self._waiting: deque[_Work] = deque()
        self._lock = threading.RLock()
        self._broken: BaseException | None = None

    @property
    def pids(self) -> list[int]:
        """The numbers of the processes that have begun."""
        return [pid for lane in self._lanes for pid in (lane._processes or {})]

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """As concurrent.futures says. The first argument tells whether it is `Homed`."""
        with self._lock:
            if self._broken:
                raise self._broken
            lane = self._lane_of(args[0]) if args and isinstance(args[0], Homed) else None
            work = _Work(Future(), lane, fn, args, kwargs)
            self._waiting.append(work)
            self._give_out()
        return work.outcome

    def _lane_of(self, task: Homed) -> int:
        """Where the task's home is: for a new one, where there is the least to do."""
        if task.home not in self._homes:
            self._homes[task.home] = int(np.argmin(self._loads))
            self._loads[self._homes[task.home]] += task.load
        return self._homes[task.home]

    def _give_out(self) -> None:
        """Give every idle process the work that has waited longest for it."""
        for lane in tuple(self._idle):
            work = next((w for w in self._waiting if w.lane in (None, lane)), None)
            if work is not None:
                self._waiting.remove(work)
                if work.outcome.set_running_or_notify_cancel():
                    self._idle.remove(lane)
                    self._begin(lane, work)
                else:
                    self._give_out()

    def _begin(self, lane: int, work: _Work) -> None:
        def ended(inner: Future) -> None:
            error = inner.exception()
            with self._lock:
                self._idle.append(lane)
                if isinstance(error, BrokenExecutor):
                    self._broken = error
                    for other in self._waiting:
                        if other.outcome.set_running_or_notify_cancel():
                            other.outcome.set_exception(error)
                    self._waiting.clear()
                else:
                    self._give_out()
            if error is None:
                work.outcome.set_result(inner.result())
            else:
                work.outcome.set_exception(error)

        try:
            self._lanes[lane].submit(work.function, *work.args, **work.kwargs).add_done_callback(ended)
        except (BrokenExecutor, EOFError, OSError) as error:  # it, or the server that starts it, died meanwhile
            failed: Future = Future()
            failed.set_exception(error if isinstance(error, BrokenExecutor) else BrokenProcessPool(repr(error)))
            ended(failed)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As concurrent.futures says: end the processes once their work is done."""
        with self._lock:
            left = [work.outcome for work in self._waiting]
        if cancel_futures:
            for outcome in left:
                outcome.cancel()
        concurrent.futures.wait(left)
        for lane in self._lanes:
            lane.shutdown(wait, cancel_futures=cancel_futures)


@dataclass(eq=False)
class _Work:
    outcome: Future
    lane: int | None
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def _context() -> BaseContext:
    """How a process begins: on Linux as a fork of a server that has imported torch once for all of them, which takes
    milliseconds, not seconds. Elsewhere libraries may not bear a fork, and it begins from nothing.

    The server starts with the first pool, with the environment of that moment, and ends with this process.
    """
    if sys.platform != "linux":
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(["autoprox.bench_cache.statistics.scorer"])
    resource_tracker.ensure_running()  # else the server starts it, which lets interrupts through again
    with interrupts_wait(), _same_modules():
        forkserver.ensure_running()
    return context


@contextmanager
def _same_modules() -> Iterator[None]:
    """A Python that is started inside imports from where this one does, and not from the current folder first."""
    before = {name: os.environ.get(name) for name in ("PYTHONSAFEPATH", "PYTHONPATH")}
    os.environ["PYTHONSAFEPATH"] = "1"
    os.environ["PYTHONPATH"] = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def local_pool(workers: int) -> Executor | None:
    """A pool of fresh processes; None, meaning this process, for one worker."""
    return None if workers == 1 else LocalPool(workers)


def _begin_worker() -> None:
    """Ctrl-C reaches every process of the terminal; the one that gives out the work decides what it means. A killed
    one cannot tell its workers, which would wait for work for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_memory()
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
def opened_pool(workers: int) -> Iterator[Executor | None]:
    """Open a pool of fresh processes, as `local_pool` does, and close it on the way out."""
    pool = local_pool(workers)
    try:
        yield pool
    finally:
        close_pool(pool)


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
