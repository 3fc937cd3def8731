"""Shared results: proxies that are scored together compute a common part once, and each is charged its full time."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from torch import Tensor, nn

_Result = TypeVar("_Result")


class SharedResults:
    """Results, each stored under its name and the models, tensors and numbers from which it was computed.

    `saved` is the sum of the seconds that reused results took when they were computed. A proxy that reuses a result is
    charged these seconds, so that its time is what it would take alone.
    """

    def __init__(self) -> None:
        self.saved = 0.0
        self._results: dict[Hashable, tuple[Any, float, tuple[Any, ...]]] = {}

    def get(self, name: Hashable, subjects: tuple[Any, ...], compute: Callable[[], _Result]) -> _Result:
        """Return the result with this name from these models, tensors and numbers; compute it if there is none yet."""
        key = (name, *map(_identity, subjects))
        if key in self._results:
            self.saved += self._results[key][1]
        else:
            began = time.perf_counter()
            result = compute()
            self.put(name, subjects, result, time.perf_counter() - began)
        return self._results[key][0]

    def put(self, name: Hashable, subjects: tuple[Any, ...], result: Any, seconds: float) -> None:
        """Store a result that took `seconds` to compute.

        The subjects are stored too: while they live, no other object can have their identity.
        """
        self._results[(name, *map(_identity, subjects))] = (result, seconds, subjects)


def _identity(subject: Any) -> Hashable:
    """Return a key that is equal for the same model, for the same part of memory, and for equal numbers or names."""
    if isinstance(subject, Tensor):
        return subject.data_ptr(), tuple(subject.shape), subject.stride(), subject.dtype
    return id(subject) if isinstance(subject, nn.Module) else subject


_SHARED: ContextVar[SharedResults | None] = ContextVar("shared", default=None)


@contextmanager
def sharing_results() -> Iterator[SharedResults]:
    """Open a context in which proxies that score the same model and batch compute a common part once.

    Model and batch must not change inside. Scores are bit for bit the same as outside.
    """
    found = SharedResults()
    token = _SHARED.set(found)
    try:
        yield found
    finally:
        _SHARED.reset(token)


def computed_once(name: Hashable, subjects: tuple[Any, ...], compute: Callable[[], _Result]) -> _Result:
    """Return `compute()`; inside `sharing_results`, return what it gave before for the same name and subjects.

    Callers share the result, so none may change it.
    """
    found = _SHARED.get()
    return compute() if found is None else found.get(name, subjects, compute)
