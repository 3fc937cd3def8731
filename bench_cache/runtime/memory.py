"""Memory limit: how many bytes of statistics a process holds, which each machine may set for itself."""

import os
import re

from autoprox.bench_cache.runtime.checks import BenchmarkError, quoted

#: The environment variable that sets the limit, and what holds without it.
VARIABLE, DEFAULT = "AUTOPROX_MEMORY", "1GB"

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,15})?)\s*([KMGT]?)B?", re.IGNORECASE)


def memory_limit() -> int:
    """Return how many bytes of statistics each process holds: $AUTOPROX_MEMORY, such as 500MB or 4GB, or 1 GB.

    Results do not depend on it: what is not held is read from disk again.

    Raises:
        BenchmarkError: the variable is no size.
    """
    text = os.environ.get(VARIABLE, "").strip() or DEFAULT
    found = _SIZE.fullmatch(text)
    if not found:
        raise BenchmarkError(f"{VARIABLE} is {quoted(text)}; it must be a size, such as 500MB or 4GB")
    return int(float(found[1]) * _UNITS[found[2].upper()])
