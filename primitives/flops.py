"""FLOPs: what is computed while a network runs, by torch's own formulas for its operations."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

Result = TypeVar("Result")


def count_flops(run: Callable[[], Result]) -> tuple[Result, int]:
    """Return what `run` returns, and the FLOPs of what it computes: two for each multiply-add.

    They are those of torch's `FlopCounterMode`, whose first use imports torch's compiler and sympy: up to 8 seconds and
    90 MB in each process (torch 2.13). So it is used only where the compiler is there anyway: what that compiles, or
    traces as torch.cond does, it may hide from another counter. It also counts operations that take functions, which
    are not implemented here. `run` runs again where it turns out to be such.
    """
    if not _compiler_is_there():
        try:
            with FlopCounter() as fast:
                result = run()
        except Exception as error:
            if not isinstance(error, NotImplementedError) and not _compiler_is_there():
                raise
        else:
            if not _compiler_is_there():
                return result, fast.total
    with FlopCounterMode(display=False) as counter:
        result = run()
    return result, counter.get_total_flops()


def _compiler_is_there() -> bool:
    return "torch._dynamo" in sys.modules


class FlopCounter(TorchDispatchMode):
    """Counts the FLOPs of all operations inside, in `total`."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Tell torch not to import the compiler for telling it to skip this."""
        return False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation, or the operations that it consists of, and count."""
        kwargs = kwargs or {}
        formula = flop_registry.get(func._overloadpacket)
        if formula is None:
            with self:
                result = func.decompose(*args, **kwargs)
            return func(*args, **kwargs) if result is NotImplemented else result
        result = func(*args, **kwargs)
        self.total += formula(*args, **kwargs, out_val=result)
        return result
