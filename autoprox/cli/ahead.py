"""Ahead: the server of the workers starts before this process imports torch, so that both import it side by side."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise

#: What the workers of a command import; commands that are not here have none.
IMPORTED = {
    "evolve": "autoprox.bench_cache.statistics.scorer",
    "libra": "autoprox.rank.network",
    "rank": "autoprox.rank.network",
    "search": "autoprox.search.scorer",
    "validate": "autoprox.bench_cache.statistics.scorer",
}
#: Arguments with which a command has no workers on this machine.
WITHOUT = frozenset({"-h", "--help", "--dask"})


def start_ahead(arguments: Sequence[str]) -> None:
    """Start the server of a command's workers, if it will have more than one."""
    alone = (os.cpu_count() or 1) == 1 or "--workers=1" in arguments or ("--workers", "1") in pairwise(arguments)
    without = WITHOUT.intersection(argument.partition("=")[0] for argument in arguments)
    if arguments and arguments[0] in IMPORTED and not alone and not without:
        from autoprox.bench_cache.runtime.fork_server import worker_context  # no other command waits for its imports

        worker_context(["autoprox.bench_cache.runtime.local_pool", IMPORTED[arguments[0]]])
