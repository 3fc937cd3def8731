"""The search spaces by name, and what a user means by a space: a name, FILE.py:NAME, or MODULE:NAME.

The built-in spaces are those in the tuples `SPACES` of the modules of this folder. The tuples `LISTED` have those whose
networks can be built and not varied (see `listed`). To add one, write a module here (see `base`). Nothing else names
it. Installed packages offer others by name (entry points `autoprox.spaces`), and users write their own in files (see
`own`). Code of a user runs only where a command or a script names it: a file of data records the name and the digest of
its space, and `recorded_space` compares them with what is named.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any

from autoprox.bench_cache import spaces
from autoprox.bench_cache.runtime import plug_ins
from autoprox.bench_cache.runtime.checks import BenchmarkError, check_name
from autoprox.bench_cache.runtime.plug_ins import PlugInError
from autoprox.bench_cache.runtime.user_code import (
    UserCodeError,
    UserObject,
    called,
    load_object,
    on_path,
    reference_digest,
    shown,
)
from autoprox.bench_cache.spaces.base import ArchitectureError, InputSpec, Space, listed, suggestion
from autoprox.bench_cache.spaces.own import OwnSpace

__all__ = ["LISTED", "SPACES", "ArchitectureError", "InputSpec", "Space", "get_space"]

#: How a space of one's own is named, for messages.
OWN_FORM = "FILE.py:NAME"
_PINNED = re.compile(r"(.+)@([0-9a-f]{16})")


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


def built_in() -> Mapping[str, Space[Any]]:
    """Return all built-in spaces by name."""
    return {**SPACES, **LISTED}


def get_space(name: str) -> Space[Any]:
    """Return the space of a name, of FILE.py:NAME or MODULE:NAME, or of what `pinned` made of these.

    Raises:
        ArchitectureError: there is none, and the message lists the names and the closest one; or a user's cannot be
            loaded, or is not the one that was pinned.
    """
    try:
        if name in built_in():
            plug_ins.check_no_clash(plug_ins.SPACES, name, built_in())
            return built_in()[name]
        return _loaded(pinned(name))
    except PlugInError as error:
        raise ArchitectureError(str(error)) from error


def pinned(name: str) -> str:
    """Return the text by which every process finds the same space: of a user's, with its full path and its digest.

    Raises:
        ArchitectureError: there is no such space.
    """
    if name in built_in() or _PINNED.fullmatch(name):
        return name
    try:
        if name in plug_ins.plug_in_names(plug_ins.SPACES):
            return f"{name}@{plug_ins.plug_in_digest(plug_ins.SPACES, name)}"
        if ":" in name:
            return f"{load_object(name).reference}@{reference_digest(name)}"
    except (PlugInError, UserCodeError) as error:
        raise ArchitectureError(f"space {name}: {error}") from error
    known = [*built_in(), *plug_ins.plug_in_names(plug_ins.SPACES)]
    raise ArchitectureError(
        f"unknown space {name!r}{suggestion(name, known)}; the spaces are {listed(known)}; "
        f"one of your own is {OWN_FORM}"
    )


@cache
def _loaded(reference: str) -> Space[Any]:
    """Return the space of a pinned reference; workers call it too, with the reference that they were sent."""
    match = _PINNED.fullmatch(reference)
    assert match is not None
    name, digest = match[1], match[2]
    try:
        if ":" in name:
            found, now, own_name = load_object(name), reference_digest(name), name.rpartition(":")[2]
        else:
            found = plug_ins.load_plug_in(plug_ins.SPACES, name)
            now, own_name = plug_ins.plug_in_digest(plug_ins.SPACES, name), name
    except UserCodeError as error:
        raise ArchitectureError(f"space {name}: {error}") from error
    if now != digest:
        raise ArchitectureError(f"space {shown(name)} has changed since it was loaded; start again")
    space = _as_space(found, own_name, digest, reference)
    try:
        check_name(space.name, "space")
    except BenchmarkError as error:
        raise ArchitectureError(f"space {name}: {error}") from error
    if ":" not in name:
        object.__setattr__(space, "name", name)
    if space.name in built_in():
        raise ArchitectureError(f"space {name}: {space.name!r} is the name of a built-in space; give it another name")
    return space


def _as_space(found: UserObject, name: str, digest: str, reference: str) -> Space[Any]:
    """Return a user's object as a space; one that is a `Space` already only gets its digest."""
    value = found.value
    if isinstance(value, type) and issubclass(value, Space):
        with on_path(found.folder):
            try:
                value = called(f"{name}()", value)
            except UserCodeError as error:
                raise ArchitectureError(str(error)) from error
    if isinstance(value, Space):
        object.__setattr__(value, "digest", digest)  # a frozen dataclass is as good as another
        return value
    return OwnSpace(value, name, digest, found.folder, (_loaded, (reference,)))


# --- in files of data ---


def space_record(space: str) -> str | dict[str, str]:
    """Return how a file of data records a pinned space: a built-in one by name, others with name, place and digest."""
    if space in built_in():
        return space
    found, name = get_space(space), space.rpartition("@")[0]
    place = {"file": shown(name)} if ":" in name else {"package": plug_ins.plug_in_package(plug_ins.SPACES, name)}
    return {"name": found.name, **place, "digest": found.digest}


def recorded_space(record: object, named: Sequence[str] = (), *, changed: bool = False) -> str:
    """Return the pinned space that a file of data records; one of a user's must be among those `named`.

    A name alone stands for whatever space is named so. With `changed`, the source may have another digest by now.

    Raises:
        ArchitectureError: there is no such space, it is not named, or it has changed; the message says what to do.
    """
    name = record.get("name") if isinstance(record, Mapping) else record
    if not isinstance(name, str):
        raise ArchitectureError(f"the space is {record!r:.80}, which is neither a name nor a record of one")
    if name in built_in():
        return name
    candidates = [pinned(each) for each in named]
    if name in plug_ins.plug_in_names(plug_ins.SPACES):
        candidates.append(pinned(name))
    found = next((each for each in candidates if get_space(each).name == name), None)
    place = record.get("file", "") if isinstance(record, Mapping) else ""
    if found is None:
        raise ArchitectureError(_missing(name, record, candidates))
    digest = record.get("digest") if isinstance(record, Mapping) else None
    if digest not in (None, get_space(found).digest) and not changed:
        raise ArchitectureError(
            f"the space {name} ({place or 'of a package'}) has changed: its source had the digest {digest}, and has "
            f"{get_space(found).digest} now; take the old source, or, if the networks are still the same, "
            "`autoprox bench import` the benchmark again with --space"
        )
    return found


def _missing(name: str, record: object, named: Sequence[str]) -> str:
    """Return why a space that is not built in is not there, and what to do."""
    fields = record if isinstance(record, Mapping) else {}
    if named:
        others = ", ".join(get_space(each).name for each in named)
        return f"it is of the space {name!r:.80}, and not of {others}"
    if "package" in fields:
        return f"the space {name!r:.80} is of the package {fields['package']!s:.80}, which is not installed"
    if "file" in fields:
        return f"the space {name!r:.80} is in a user's file: add --space {fields['file']!s:.80}, with the path of it"
    known = [*built_in(), *plug_ins.plug_in_names(plug_ins.SPACES)]
    return (
        f"unknown space {name!r:.80}{suggestion(name, known)}; the spaces are {listed(known)}; if it is one of your "
        f"own, add --space {OWN_FORM}"
    )
