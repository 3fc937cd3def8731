"""Local pool: worker processes on this machine, how they start and end, and what Ctrl-C does meanwhile."""

from __future__ import annotations

import concurrent.futures
import ctypes
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import parent_process
from typing import Any

import numpy as np
import torch

from autoprox.bench_cache.runtime.fork_server import worker_context
from autoprox.bench_cache.runtime.placement import Homed

#: Two parameters of glibc's mallopt: the size from which on memory is asked of the system, and that from which on
#: free memory is given back to it.
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1

#: Who does the work: so many processes of this machine, or an executor, such as the workers of a Dask cluster.
Workers = int | Executor


def give_back_memory() -> None:
    """Give freed memory back to the system, and to a GPU that other processes share.

    Otherwise glibc keeps most of what a network took, and the next network adds to it.
    """
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
        if trim:
            trim(0)


def keep_memory() -> None:
    """Let the process keep freed memory for what it computes next.

    Otherwise glibc asks the system anew for the memory of each matrix, which takes as long as most operations on it.
    """
    if sys.platform == "linux":
        tune = getattr(ctypes.CDLL(None), "mallopt", None)
        if tune:
            tune(_MMAP_THRESHOLD, 2**25)  # the highest that there is
            tune(_TRIM_THRESHOLD, 2**28)


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class LocalPool(Executor):
    """An executor of fresh local processes.

    Work goes to whichever process is free. `Homed` work goes to the process that has its home; a new home is given to
    the process with the smallest load. Each process is a ProcessPoolExecutor of one worker, and gets its next work when
    it has done the last.

    `preload` names the modules that all processes need. On Linux they are imported once for all pools of this process,
    when the first pool is made; later pools' are imported by each worker.
    """

    def __init__(self, workers: int, *, preload: Sequence[str] = ()) -> None:
        context = worker_context([__name__, *preload])
        self._lanes = [ProcessPoolExecutor(1, mp_context=context, initializer=_begin_worker) for _ in range(workers)]
        self._idle = list(range(workers))
        self._homes: dict[str, int] = {}
        self._loads = [0.0] * workers
        self._waiting: deque[_Work] = deque()
        self._lock = threading.RLock()
        self._broken: BaseException | None = None

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that have started."""
        return [pid for lane in self._lanes for pid in (lane._processes or {})]

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Submit work as concurrent.futures says; its first argument tells whether it is `Homed`."""
        with self._lock:
            if self._broken:
                raise self._broken
            lane = self._lane_of(args[0]) if args and isinstance(args[0], Homed) else None
            work = _Work(Future(), lane, fn, args, kwargs)
            self._waiting.append(work)
            self._give_out()
        return work.outcome

    def _lane_of(self, task: Homed) -> int:
        """Return the process that has the task's home; give a new home to the process with the smallest load."""
        if task.home not in self._homes:
            self._homes[task.home] = int(np.argmin(self._loads))
            self._loads[self._homes[task.home]] += task.load
        return self._homes[task.home]

    def _give_out(self) -> None:
        """Give every idle process the work that has waited longest and may run there."""
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
        except (BrokenExecutor, EOFError, OSError) as error:  # the process, or the server that starts it, died
            failed: Future = Future()
            failed.set_exception(error if isinstance(error, BrokenExecutor) else BrokenProcessPool(repr(error)))
            ended(failed)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes once their work is done, as concurrent.futures says."""
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
    """Work that waits, for the process `lane` or, if that is None, for any."""

    outcome: Future
    lane: int | None
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def local_pool(workers: int, *, preload: Sequence[str] = ()) -> Executor | None:
    """Return a pool of fresh processes or, for one worker, None, which stands for this process; see `LocalPool`."""
    return None if workers == 1 else LocalPool(workers, preload=preload)


def _begin_worker() -> None:
    """Prepare a fresh worker process.

    It ignores Ctrl-C, which reaches every process of the terminal: the process that gives out the work decides what it
    means. It ends with that process, which cannot tell its workers when it is killed; they would wait for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_memory()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def close_pool(pool: Executor | None) -> None:
    """End a pool's processes.

    Ctrl-C is ignored meanwhile, because it would leave the processes waiting for work for ever.
    """
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
def opened_pool(workers: Workers, *, preload: Sequence[str] = ()) -> Iterator[Executor | None]:
    """Open a pool of fresh processes, as `local_pool` does, and close it on the way out; an executor stays open."""
    if isinstance(workers, Executor):
        yield workers
        return
    pool = local_pool(workers, preload=preload)
    try:
        yield pool
    finally:
        close_pool(pool)
