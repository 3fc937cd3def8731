"""The version of a search space's statistics: a digest of the source that they follow from, for each space alone.

The statistics of a user's space are in a folder OWN-NAME-SOURCE-CODE: SOURCE is the digest of the user's source, and
CODE that of ours. So an edited source never gives old numbers, and old code of ours can be told without the source.
"""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from functools import cache
from types import ModuleType

from autoprox.bench_cache.runtime.source_digest import source_digest, source_file, source_files
from autoprox.bench_cache.spaces import base, own
from autoprox.bench_cache.spaces.registry import SPACES, get_space
from autoprox.bench_cache.statistics import subject
from autoprox.primitives import probe
from autoprox.primitives.find_blocks import choose, named

#: What the names of folders of users' spaces begin with.
OWN = "own-"


@cache
def statistics_version(space: str) -> str:
    """Return the name of the folder that holds the statistics of a space's networks: the space and a digest.

    The digest is of torch's version, the space's own settings, and the source of its module, of the probe, and of
    what these are built from. No other space is in it, so that a new one orphans no statistics.
    """
    chosen = get_space(space)
    if chosen.digest:
        return f"{OWN}{chosen.name}-{chosen.digest}-{_own_code()}"
    settings = repr(sorted(asdict(chosen).items())) if is_dataclass(chosen) else ""
    return f"{space}-{_digest(type(chosen).__module__, settings)}"


def _digest(module: str, settings: str, finder: ModuleType = named) -> str:
    files = [
        *source_files([module], base.__package__ or ""),
        *source_files([probe.__name__, finder.__name__], "autoprox.primitives"),
        source_file(subject.__name__),
        source_file(f"{__package__}.store"),
    ]
    return source_digest(files, settings)


@cache
def _own_code() -> str:
    return _digest(own.__name__, "", choose)


def is_current(folder: str) -> bool:
    """Return whether the current code may read a folder of this name: of a built-in space, or of a user's."""
    if folder.startswith(OWN):
        return folder.endswith(f"-{_own_code()}")
    return folder in {statistics_version(space) for space in SPACES}
