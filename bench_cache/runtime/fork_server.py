"""The fork server: the process that workers are forked from on Linux; it has imported torch once for all of them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver, get_context, resource_tracker
from multiprocessing.context import BaseContext


def worker_context(preload: Sequence[str]) -> BaseContext:
    """Return how workers start: on Linux as forks of a server; elsewhere libraries may not bear a fork.

    The server has imported the modules of `preload` once for all workers, so that one starts in milliseconds, not
    seconds. It starts with the first call, in the environment of that moment, and ends with this process; later calls'
    modules are imported by each worker.
    """
    if sys.platform != "linux":
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([*preload])
    resource_tracker.ensure_running()  # else the server starts it, which lets interrupts through again
    with interrupts_wait(), _same_modules():
        forkserver.ensure_running()
    return context


@contextmanager
def _same_modules() -> Iterator[None]:
    """Let a Python that is started inside import from where this one does, and not from the current folder first."""
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


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Put off Ctrl-C until the end of the block; processes that are started inside never hear it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
