"""Words of the language, lists that nest, and a bound on how long reading takes."""

import contextlib
import gc
import time
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from autoprox.primitives import (
    OPERATIONS,
    STATISTICS,
)
from autoprox.primitives.kinds import PROBES, ROLES

QUICK = 1.0


@contextlib.contextmanager
def quickly() -> Iterator[None]:
    """Check the processor's time; without collecting garbage, of which other tests leave a lot."""
    gc.disable()
    try:
        start = time.process_time()
        yield
        assert time.process_time() - start < QUICK
    finally:
        gc.enable()


words = st.sampled_from([*OPERATIONS, *STATISTICS, *ROLES, *PROBES, *"+-*/()[],", "1", "-2.5e3", "nan", "__import__"])


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value
