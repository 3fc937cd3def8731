"""Submit: many tasks for one executor, their results as they come, and the error when a worker is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, as_completed
from contextlib import contextmanager
from typing import TypeVar

from autoprox.bench_cache.runtime.fork_server import interrupts_wait

Task = TypeVar("Task")
Result = TypeVar("Result")

#: What a user can do after a worker was lost, in commands with a run directory.
RESUME = "go on with --resume, and with fewer --workers if memory is short"


class WorkerError(ValueError):
    """A worker process that ended before its work was done."""


def results(
    executor: Executor | None, function: Callable[[Task], Result], tasks: Sequence[Task], advice: str = RESUME
) -> Iterator[tuple[int, Result]]:
    """Yield (task number, result) of each task as it ends; without an executor, compute them here in order.

    When the caller stops reading or is interrupted, the tasks that have not begun are cancelled.

    Raises:
        WorkerError: a worker was lost; the message ends with `advice`, which says how to go on.
    """
    if executor is None:
        yield from enumerate(map(function, tasks))
        return
    with _submitted(executor, function, tasks, advice) as futures:
        numbers = {future: number for number, future in enumerate(futures)}
        for future in as_completed(numbers):
            yield numbers[future], future.result()


def results_in_order(
    executor: Executor | None, function: Callable[[Task], Result], tasks: Sequence[Task], advice: str = RESUME
) -> Iterator[Result]:
    """Yield the result of each task, in the order of the tasks; otherwise as `results` does.

    Raises:
        WorkerError: as `results` does.
    """
    if executor is None:
        yield from map(function, tasks)
        return
    with _submitted(executor, function, tasks, advice) as futures:
        for future in futures:
            yield future.result()


@contextmanager
def _submitted(
    executor: Executor, function: Callable[[Task], Result], tasks: Sequence[Task], advice: str
) -> Iterator[list[Future[Result]]]:
    """Give the tasks to the executor; on the way out, cancel the tasks that have not begun."""
    futures: list[Future[Result]] = []
    try:
        with interrupts_wait():
            for task in tasks:  # one by one, so that those submitted before an error are cancelled too
                futures.append(executor.submit(function, task))
        yield futures
    except BrokenExecutor as error:
        raise WorkerError(
            "a worker process died: it was killed, or there was no memory left; nothing that was finished is lost: "
            f"{advice}"
        ) from error
    finally:
        for future in futures:
            future.cancel()
