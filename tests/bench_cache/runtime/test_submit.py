"""Submitting: results as they end or in order, and what is left of the tasks when reading stops or a worker dies."""

from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import Any

import pytest

from autoprox.bench_cache.runtime.submit import WorkerError, results, results_in_order


class Reversed(Executor):
    """Does the work when the last of `count` tasks comes, the last first; from task `broken` on it is broken."""

    def __init__(self, count: int, broken: int = 10**9) -> None:
        self.count, self.broken = count, broken
        self.given: list[tuple[Future, Callable[..., Any], Any]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        if len(self.given) >= self.broken:
            raise BrokenExecutor
        self.given.append((Future(), fn, args[0]))
        if len(self.given) == self.count:
            for future, function, task in reversed(self.given):
                future.set_result(function(task))
        return self.given[-1][0]


def test_results_come_with_their_numbers_and_in_order_where_that_is_wanted() -> None:
    expected = [(0, "3"), (1, "1"), (2, "2")]
    assert list(results(None, str, [3, 1, 2])) == expected
    assert sorted(results(Reversed(3), str, [3, 1, 2])) == expected
    assert list(results_in_order(None, str, [3, 1, 2])) == ["3", "1", "2"]
    assert list(results_in_order(Reversed(3), str, [3, 1, 2])) == ["3", "1", "2"]


def test_without_an_executor_a_task_is_done_when_its_result_is_asked_for() -> None:
    asked: list[int] = []
    found = results(None, asked.append, [1, 2])
    next(found)
    assert asked == [1]


@pytest.mark.parametrize("read", [results, results_in_order])
def test_a_lost_worker_is_one_line_with_advice_and_the_rest_is_cancelled(read: Callable[..., Any]) -> None:
    executor = Reversed(4, broken=2)
    with pytest.raises(WorkerError, match=r"^a worker process died.*nothing that was finished is lost: try again$"):
        list(read(executor, str, [1, 2, 3, 4], "try again"))
    assert [future.cancelled() for future, _, _ in executor.given] == [True, True]


class FirstOnly(Executor):
    """Does the first task; the others wait for ever."""

    def __init__(self) -> None:
        self.given: list[Future] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        self.given.append(Future())
        if len(self.given) == 1:
            self.given[0].set_result(fn(*args))
        return self.given[-1]


@pytest.mark.parametrize("read", [results, results_in_order])
def test_what_has_not_begun_is_cancelled_when_reading_stops(read: Callable[..., Any]) -> None:
    executor = FirstOnly()
    found = read(executor, str, [1, 2, 3])
    next(found)
    found.close()
    assert [future.cancelled() for future in executor.given] == [False, True, True]
