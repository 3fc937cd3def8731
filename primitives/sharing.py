"""Sharing: what is computed of one model and batch is computed once for all that ask, and forgotten after the last.

A proxy is charged the seconds that its results took when they were computed, so that its time is what it would take
alone.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor, nn

from autoprox.primitives.passes import Need, Pass, Subject, joined
from autoprox.primitives.untouched import untouched

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class _Outcome:
    """What a need was met with, or the error that it raised; and the seconds that it takes alone."""

    value: Any
    error: Exception | None
    seconds: float


class SharedResults:
    """Results of one model and batch, each stored under its name.

    `expect` tells ahead what will be read of passes. All that is expected of a pass is read when it is first asked for,
    so that the pass runs once and is let go; what was read is let go when so many have asked for it as were expected.

    `saved` is the sum of the seconds that results take alone, less those that were spent on them.
    """

    def __init__(self, subject: Subject) -> None:
        self.saved = 0.0
        self.subject = subject
        self.unexpected: list[Need] = []
        self._results: dict[Hashable, tuple[Any, float, tuple[Any, ...]]] = {}
        self._expected: Counter[Need] = Counter()
        self._outcomes: dict[Need, _Outcome] = {}

    def get(self, name: Hashable, subjects: tuple[Any, ...], compute: Callable[[], _Result]) -> _Result:
        """Return the result with this name from these models, tensors and numbers; compute it if there is none yet."""
        key = (name, *map(_identity, subjects))
        if key in self._results:
            self.saved += self._results[key][1]
        else:
            began = time.perf_counter() + self.saved
            result = compute()
            self.put(name, subjects, result, time.perf_counter() + self.saved - began)
        return self._results[key][0]

    def put(self, name: Hashable, subjects: tuple[Any, ...], result: Any, seconds: float) -> None:
        """Store a result that took `seconds` to compute.

        The subjects are stored too: while they live, no other object can have their identity.
        """
        self._results[(name, *map(_identity, subjects))] = (result, seconds, subjects)

    def expect(self, needs: Iterable[Need]) -> None:
        """Take note that each of these will be read once more."""
        for need in needs:
            self._expected[need] += not (need.once and self._expected[need])

    def is_of(self, subject: Subject) -> bool:
        """Return whether this is what is read of the same model, on the same batch."""
        mine = self.subject
        return (
            subject.model is mine.model
            and subject.seed == mine.seed
            and _identity(subject.inputs) == _identity(mine.inputs)
            and (mine.targets is None or _identity(subject.targets) == _identity(mine.targets))
        )

    def read(self, need: Need) -> Any:
        """Return what is read of a pass."""
        began = time.perf_counter()
        if need not in self._outcomes:
            if not self._expected[need]:
                self.unexpected.append(need)
            self._run(need)
        outcome = self._outcomes[need]
        self._expected[need] -= 1
        if self._expected[need] <= 0:
            del self._outcomes[need]
        self.saved += outcome.seconds - (time.perf_counter() - began)
        if outcome.error is not None:
            raise outcome.error
        return outcome.value

    def _run(self, need: Need) -> None:
        """Meet a need, and all that is expected of the same pass.

        Where they cannot have one pass together, the need shares one with those that have the same gradients, or has
        one of its own, and so have the others later.
        """
        others = [
            each
            for each, readers in self._expected.items()
            if readers > 0 and each.where == need.where and each != need and each not in self._outcomes
        ]
        with untouched(self.subject.model):
            alike = [need, *(each for each in others if each.wanted.differentiated == need.wanted.differentiated)]
            for together in ([need, *others], alike, [need]):
                run, forward = self._passed(together)
                if isinstance(run, Pass) and not run.seen.unlike:
                    break
            for each in together:
                found = _Outcome(None, run, forward) if isinstance(run, Exception) else _outcome(each, run, forward)
                self._outcomes[each] = found

    def _passed(self, together: Sequence[Need]) -> tuple[Pass | Exception, float]:
        """Return a pass for all these needs, or the error that it raised, and its seconds."""
        began = time.perf_counter()
        try:
            wanted = joined(each.wanted for each in together)
            differ = any(each.wanted.differentiated != wanted.differentiated for each in together)
            run: Pass | Exception = Pass(self.subject, together[0].where, wanted, compare=differ)
        except Exception as error:
            run = error.with_traceback(None)  # which holds what was computed
        return run, time.perf_counter() - began


def _outcome(need: Need, run: Pass, forward: float) -> _Outcome:
    """Read what is needed of a pass whose forward pass took so many seconds."""
    before, began = sum(run.seconds.values()), time.perf_counter()
    value: Any = None
    error: Exception | None = None
    try:
        value = need.read(run)
    except Exception as raised:
        error = raised.with_traceback(None)  # which holds the pass
    reading = time.perf_counter() - began - (sum(run.seconds.values()) - before)
    losses = {loss for loss, _, _ in need.wanted.slopes}
    return _Outcome(value, error, forward + reading + sum(run.seconds.get(loss, 0.0) for loss in losses))


def _identity(subject: Any) -> Hashable:
    """Return a key that is equal for the same model, for the same part of memory, and for equal numbers or names."""
    if isinstance(subject, Tensor):
        return subject.data_ptr(), tuple(subject.shape), subject.stride(), subject.dtype
    return id(subject) if isinstance(subject, nn.Module) else subject


_SHARED: ContextVar[SharedResults | None] = ContextVar("shared", default=None)


@contextmanager
def sharing_results(subject: Subject) -> Iterator[SharedResults]:
    """Open a context in which proxies that score the same model and batch compute a common part once.

    Model and batch must not change inside. Scores are bit for bit the same as outside.
    """
    found = SharedResults(subject)
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


def known_already(name: Hashable, subjects: tuple[Any, ...], result: Any, seconds: float) -> None:
    """Inside `sharing_results`, let `computed_once` return a result that was computed in another way."""
    found = _SHARED.get()
    if found is not None:
        found.put(name, subjects, result, seconds)


def met(subject: Subject, need: Need) -> Any:
    """Return what is read of a pass: of one that is shared inside `sharing_results`, else of one of its own.

    Readers share it, so none may change it.

    Raises:
        LayerError: the forward or the backward pass raises an error, or what is to be read did not run.
    """
    found = _SHARED.get()
    return found.read(need) if found is not None and found.is_of(subject) else need.met_alone(subject)


def charged_clock() -> float:
    """Return a time in seconds, whose differences are what the work between takes where nothing is shared."""
    found = _SHARED.get()
    return time.perf_counter() + (0.0 if found is None else found.saved)
