"""Sharing: what several proxies want of one network is computed once, and each is charged for it in full."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from torch import Tensor, nn

_Result = TypeVar("_Result")


class Shared:
    """Results by what they are called and what they are of.

    `saved` counts the seconds that results which were there already had taken: a proxy took its own time and that.
    """

    def __init__(self) -> None:
        self.saved = 0.0
        self._results: dict[Hashable, tuple[Any, float, tuple[Any, ...]]] = {}

    def get(self, name: Hashable, subjects: tuple[Any, ...], compute: Callable[[], _Result]) -> _Result:
        """The result of this name of these models, tensors and numbers; computed if there is none yet."""
        key = (name, *map(_identity, subjects))
        if key in self._results:
            self.saved += self._results[key][1]
        else:
            began = time.perf_counter()
            result = compute()
            self.put(name, subjects, result, time.perf_counter() - began)
        return self._results[key][0]

    def put(self, name: Hashable, subjects: tuple[Any, ...], result: Any, seconds: float) -> None:
        """Keep a result that took so many seconds, and its subjects, whose identities must not be used again."""
        self._results[(name, *map(_identity, subjects))] = (result, seconds, subjects)


def _identity(subject: Any) -> Hashable:
    """Equal for the same model, the same part of the same memory, and equal numbers or names."""
    if isinstance(subject, Tensor):
        return subject.data_ptr(), tuple(subject.shape), subject.stride(), subject.dtype
    return id(subject) if isinstance(subject, nn.Module) else subject


_SHARED: ContextVar[Shared | None] = ContextVar("shared", default=None)


@contextmanager
def sharing() -> Iterator[Shared]:
    """Inside, proxies that are called with the same model and batch compute once what they have in common.

    Model and batch must not change meanwhile. Scores are the same as outside, to the last bit.
    """
    found = Shared()
    token = _SHARED.set(found)
    try:
        yield found
    finally:
        _SHARED.reset(token)


def shared(name: Hashable, subjects: tuple[Any, ...], compute: Callable[[], _Result]) -> _Result:
    """`compute()`, or inside `sharing` what it gave before for the same name and subjects; nobody may change it."""
    found = _SHARED.get()
    return compute() if found is None else found.get(name, subjects, compute)
