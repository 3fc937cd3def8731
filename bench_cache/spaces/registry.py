"""The search spaces by name: those in the tuples `SPACES` of the modules of this folder.

To add a space, write a module here (see `base`). Nothing else names it. A module's tuple `LISTED` has spaces whose
networks can be built and not varied (see `listed`).
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from autoprox.bench_cache import spaces
from autoprox.bench_cache.spaces.base import ArchitectureError, InputSpec, Space, listed, suggestion

__all__ = ["LISTED", "SPACES", "ArchitectureError", "InputSpec", "Space", "get_space"]


def by_name(found: Iterable[Space[Any]]) -> Mapping[str, Space[Any]]:
    """Return a read-only table of spaces by name, in the given order.

    Raises:
        ArchitectureError: two spaces have the same name.
    """
    table: dict[str, Space[Any]] = {}
    for space in found:
        if space.name in table:
            raise ArchitectureError(f"two spaces are called {space.name!r}; rename one in {spaces.__name__}")
        table[space.name] = space
    return MappingProxyType(table)


def _collected(constant: str) -> Mapping[str, Space[Any]]:
    """Return the spaces in the modules' tuples of this name, in the order of the modules' names."""
    return by_name(
        space
        for module in sorted(module.name for module in pkgutil.iter_modules(spaces.__path__))
        if module != "registry"
        for space in getattr(pkgutil.resolve_name(f"{spaces.__name__}.{module}"), constant, ())
    )


#: The spaces that can be searched, in the order of their modules' names, and within a module in that of its `SPACES`.
SPACES: Mapping[str, Space[Any]] = _collected("SPACES")
#: The spaces whose networks can be built and not varied.
LISTED: Mapping[str, Space[Any]] = _collected("LISTED")


def get_space(name: str) -> Space[Any]:
    """Return the space called `name`.

    Raises:
        ArchitectureError: there is none; the message lists the names and the closest one.
    """
    known = {**SPACES, **LISTED}
    if name not in known:
        raise ArchitectureError(f"unknown space {name!r}{suggestion(name, known)}; the spaces are {listed(known)}")
    return known[name]
