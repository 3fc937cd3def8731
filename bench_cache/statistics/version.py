"""The version of a search space's statistics: a digest of the source that they follow from, for each space alone."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from functools import cache

from autoprox.bench_cache.runtime.source_digest import source_digest, source_file, source_files
from autoprox.bench_cache.spaces import base
from autoprox.bench_cache.spaces.registry import SPACES, get_space
from autoprox.bench_cache.statistics import subject
from autoprox.primitives import probe
from autoprox.primitives.find_blocks import named


@cache
def statistics_version(space: str) -> str:
    """Return the name of the folder that holds the statistics of a space's networks: the space and a digest.

    The digest is of torch's version, the space's own settings, and the source of its module, of the probe, and of
    what these are built from. No other space is in it, so that a new one orphans no statistics.
    """
    chosen = get_space(space)
    settings = repr(sorted(asdict(chosen).items())) if is_dataclass(chosen) else ""
    files = [
        *source_files([type(chosen).__module__], base.__package__ or ""),
        *source_files([probe.__name__, named.__name__], "autoprox.primitives"),
        source_file(subject.__name__),
        source_file(f"{__package__}.store"),
    ]
    return f"{space}-{source_digest(files, settings)}"


def current_versions() -> set[str]:
    """Return the names of the folders that the current code reads, of all spaces."""
    return {statistics_version(space) for space in SPACES}
