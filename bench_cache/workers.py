"""Workers: local processes for long work, on one thread each, and how they start, are interrupted and end."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process

import torch


class WorkerError(ValueError):
    """A worker process that ended before its work was done."""


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
