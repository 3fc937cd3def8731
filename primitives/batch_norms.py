"""Batch norms: by what they normalise while a network is probed.

Uses torch and the standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

from torch.nn import functional
from torch.overrides import TorchFunctionMode

from autoprox.primitives.errors import LayerError

#: By their running statistics, as a network in evaluation mode; or by the batch, as one in training mode.
RUNNING, BATCH = "running", "batch"
BATCH_NORMS = (RUNNING, BATCH)

_CHOSEN: ContextVar[str] = ContextVar("batch_norms", default=RUNNING)


@contextmanager
def batch_norms_by(which: str | None) -> Iterator[None]:
    """Open a context in which probed networks have their batch norms normalise so; None leaves it as it is.

    Raises:
        LayerError: `which` is none of BATCH_NORMS.
    """
    if which is not None and which not in BATCH_NORMS:
        raise LayerError(f"batch_norm is {which!r:.40}; it must be {' or '.join(BATCH_NORMS)}")
    token = _CHOSEN.set(_CHOSEN.get() if which is None else which)
    try:
        yield
    finally:
        _CHOSEN.reset(token)


def batch_norms() -> AbstractContextManager[Any]:
    """Return the context that a network runs in, so that its batch norms normalise as was chosen."""
    return _ByBatch() if _CHOSEN.get() == BATCH else nullcontext()


class _ByBatch(TorchFunctionMode):
    """Gives batch norms no running statistics, so that they normalise by their input."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is not functional.batch_norm:
            return func(*args, **kwargs)
        given = {**dict(zip(_ARGUMENTS, args, strict=False)), **kwargs}
        return func(**given | {"running_mean": None, "running_var": None, "training": True})


#: The arguments of `batch_norm`, in their order.
_ARGUMENTS = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
