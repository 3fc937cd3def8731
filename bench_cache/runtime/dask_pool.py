"""Dask pool: an executor whose workers are those of a Dask cluster, on one machine or on many.

No result depends on the cluster. Which worker does what, and how often work is done again, changes only the time.

The package distributed is optional, so it is imported only when a pool is made.
"""

from __future__ import annotations

import concurrent.futures
import logging
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Executor, Future, InvalidStateError
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

from autoprox.bench_cache.runtime.local_pool import keep_memory
from autoprox.bench_cache.runtime.placement import Placed
from autoprox.bench_cache.runtime.source_digest import source_digest
from autoprox.bench_cache.runtime.submit import WorkerError
from autoprox.primitives import formula

#: How often work that failed is tried again. Dask counts workers that died over it separately, and allows three.
RETRIES = 1
#: Seconds to wait for an answer of the scheduler.
TIMEOUT = 10.0
#: Seconds between two looks at which workers there are.
PACE = 0.5

_ALONE = threading.Lock()
#: Done once in a process: Dask works in a thread, where giving memory back takes several times as long as the work.
_keep_memory = cache(keep_memory)


class ClusterError(WorkerError):
    """A Dask cluster that cannot be used, or was lost."""


class DaskPool(Executor):
    """An executor: the workers of the cluster whose scheduler is at `address`, such as tcp://10.0.0.1:8786.

    `Placed` work goes to the worker that has its home. When workers come or go, only the homes that must move do. If a
    worker is lost, another one does its work. Without any worker, the pool waits `patience` seconds for one.

    Raises:
        ClusterError: the package distributed is missing; there is no scheduler, or no worker; a worker cannot import
            autoprox, has another version of it, or does more than one thing at a time. Futures raise it too: when the
            scheduler or all workers are lost, or when several workers die over the same work.
    """

    def __init__(self, address: str, *, patience: float = 60.0) -> None:
        self.address, self.patience = address, patience
        self._client = _client(address)
        self._homes = Homes()
        self._lock = threading.RLock()
        self._waiting: set[Future] = set()
        self._broken: Exception | None = None
        self._ended = threading.Event()
        try:
            self._homes.settle(self._fit_workers())
        except BaseException:
            self._client.close()
            raise
        threading.Thread(target=self._watch, daemon=True).start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Submit work as concurrent.futures says; its first argument tells whether it is `Placed`."""
        outcome: Future = Future()
        with self._lock:
            if self._broken:
                raise self._broken
            home = self._homes.of(args[0]) if args and isinstance(args[0], Placed) and args[0].home else None
            self._waiting.add(outcome)
        where: dict[str, Any] = {"workers": [home], "allow_other_workers": True} if home else {}
        call = partial(fn, *args, **kwargs)
        try:
            sent = self._client.submit(_work, version(), call, pure=False, retries=RETRIES, **where)
        except Exception as error:  # a closed client raises errors of Dask's own
            raise self._lost(self._no_scheduler(error)) from error
        outcome.add_done_callback(partial(self._forget, sent))
        sent.add_done_callback(partial(self._pass_on, outcome))
        return outcome

    def _forget(self, sent: Any, outcome: Future) -> None:
        """Stop waiting for work that has ended; cancel it at Dask if it was cancelled here."""
        with self._lock:
            self._waiting.discard(outcome)
        if outcome.cancelled():
            outcome.set_running_or_notify_cancel()  # wakes who waits for it
            with suppress(Exception):  # without a scheduler there is nothing to cancel
                sent.cancel()

    def _pass_on(self, outcome: Future, sent: Any) -> None:
        """Pass on the result or error of the work; an error of the cluster itself ends all work that waits."""
        if outcome.done():
            return
        try:
            result = sent.result()
        except BaseException as error:  # what a cancelled future of Dask raises is no Exception
            if sent.status != "error":
                self._lost(self._no_scheduler(error))
            elif type(error).__name__ == "KilledWorker":
                self._lost(self._said("several workers of {} died over the same work, perhaps for lack of memory"))
            else:
                with suppress(InvalidStateError):
                    outcome.set_exception(error)
            return
        with suppress(InvalidStateError):  # cancelled meanwhile
            outcome.set_result(result)

    def _watch(self) -> None:
        """Tell the homes which workers there are, and notice when no worker or no scheduler is left."""
        seen = time.monotonic()
        while not self._ended.wait(PACE):
            try:
                present = self._client.nthreads()
            except Exception as error:  # OSError, or what a closed client raises: errors of Dask's own
                self._lost(self._no_scheduler(error))
                return
            if present:
                seen = time.monotonic()
                with self._lock:
                    self._homes.settle(present)
            elif time.monotonic() - seen > self.patience:
                self._lost(self._said(f"{{}} has had no workers for {self.patience:g} seconds"))
                return

    def _no_scheduler(self, error: BaseException) -> ClusterError:
        made = self._said("the scheduler of {} was lost")
        made.__cause__ = error
        return made

    def _said(self, what: str) -> ClusterError:
        return ClusterError(
            f"{what.format(f'the Dask cluster at {self.address}')}; nothing that was finished is lost: go on with "
            "--resume, and --dask for a cluster that runs or --workers for this machine"
        )

    def _lost(self, error: ClusterError) -> Exception:
        """End all work that waits with the error or, if there was one before, with that; return which."""
        with self._lock:
            if self._broken is None and not self._ended.is_set():
                self._broken = error
            waiting = tuple(self._waiting)
        for outcome in waiting:
            with suppress(InvalidStateError):
                outcome.set_exception(self._broken or error)
        return self._broken or error

    def _fit_workers(self) -> Collection[str]:
        """Return the addresses of the workers.

        Raises:
            ClusterError: there are none, or one of them cannot be used.
        """
        with suppress(TimeoutError):
            self._client.wait_for_workers(1, timeout=self.patience)
        threads = self._client.nthreads()
        if not threads:
            raise ClusterError(f"the Dask cluster at {self.address} has no workers: start some with `dask worker`")
        found = self._client.run(version, on_error="return")
        if failed := [name for name, answer in found.items() if isinstance(answer, Exception)]:
            raise ClusterError(
                f"{_names(failed)} cannot import this version of autoprox: install what is installed here, where the "
                f"workers run ({found[failed[0]]})"
            )
        if other := [name for name, answer in found.items() if answer != version()]:
            raise ClusterError(f"{_names(other)} would get other numbers: autoprox or torch is not the same as here")
        if busy := [name for name, count in threads.items() if count != 1]:
            raise ClusterError(
                f"{_names(busy)} would do several things at a time, on one core: start workers with --nthreads 1, "
                "and more of them with --nworkers"
            )
        return list(threads)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster, which goes on running, when all submitted work is done, as concurrent.futures says."""
        with self._lock:
            self._broken = self._broken or RuntimeError("cannot schedule new futures after shutdown")
            left = tuple(self._waiting)
        if cancel_futures:
            for outcome in left:
                outcome.cancel()
        concurrent.futures.wait(left)
        self._ended.set()
        self._client.close()


class Homes:
    """The worker of each home, such that all workers have about equally much work, with as few moves as that takes."""

    def __init__(self) -> None:
        self._at: dict[str, tuple[str, float]] = {}
        self._loads: dict[str, float] = {}

    def of(self, task: Placed) -> str | None:
        """Return the worker of the task's home; give a new home to the worker with the smallest load.

        It is None for a new home while there are no workers.
        """
        if task.home not in self._at and self._loads:
            self._move_in(task.home, task.load)
        return self._at[task.home][0] if task.home in self._at else None

    def settle(self, workers: Collection[str]) -> None:
        """Spread the homes over the workers that there are now.

        A home stays with its worker if that is still there and has no more than its share of the load.
        """
        if set(workers) == set(self._loads):
            return
        self._loads = dict.fromkeys(sorted(workers), 0.0)
        share = sum(load for _, load in self._at.values()) / max(len(workers), 1)
        moving = []
        for home, (worker, load) in self._at.items():
            if self._loads.get(worker, share) + load <= share * (1 + 1e-9):
                self._loads[worker] += load
            else:
                moving.append((home, load))
        for home, load in moving if self._loads else ():
            self._move_in(home, load)

    def _move_in(self, home: str, load: float) -> None:
        worker = min(self._loads, key=lambda name: self._loads[name])
        self._loads[worker] += load
        self._at[home] = worker, load


@cache
def version() -> str:
    """Return a digest of torch's version and of the source that decides what score a formula has."""
    folders = Path(__file__).parents[1], Path(formula.__file__).parent
    return source_digest([file for folder in folders for file in sorted(folder.rglob("*.py"))])


def _work(wanted: str, call: Callable[[], Any]) -> Any:
    """Do the work, on a worker.

    The version is checked each time, because workers may join at any time. Calls run one at a time, because probing a
    network needs the process's random numbers and threads for itself.
    """
    if wanted != version():
        raise ClusterError("a worker that joined has another autoprox or torch; end it, and go on with --resume")
    with _ALONE:
        _keep_memory()
        return call()


def _client(address: str) -> Any:
    try:
        from distributed import Client
    except ImportError:
        raise ClusterError("--dask needs the package distributed: pip install 'autoprox[dask]'") from None
    # It logs tracebacks when the scheduler is lost. The error says the same in one line.
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    if address.endswith("://"):  # distributed would look for that host for ten seconds
        raise ClusterError(f"no Dask scheduler answers at '{address}' (it names no host)")
    try:
        return Client(address, timeout=TIMEOUT, set_as_default=False)
    except (OSError, ValueError, AssertionError) as error:
        # ValueError: it is no address. AssertionError: on a busy machine, distributed's own thread starts too late.
        raise ClusterError(f"no Dask scheduler answers at '{address}' ({error or type(error).__name__})") from None


def _names(workers: Collection[str]) -> str:
    """Return words for the workers: up to three by name, and how many more there are."""
    first = ", ".join(sorted(workers)[:3])
    more = f" and {len(workers) - 3} more" if len(workers) > 3 else ""
    return f"the Dask worker{'s' if len(workers) > 1 else ''} {first}{more}"
