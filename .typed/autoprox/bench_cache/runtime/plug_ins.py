"""Plug-ins: what installed packages offer in the entry points `autoprox.spaces`, `.operations` and `.proxies`.

Only the names are read until one of them is asked for, so that a package that fails cannot do harm before. They are in
the order of their names, so that the order of installation changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

from autoprox.bench_cache.runtime.user_code import UserCodeError, UserObject, load_object, reference_digest

SPACES, OPERATIONS, PROXIES = "autoprox.spaces", "autoprox.operations", "autoprox.proxies"


class PlugInError(ValueError):
    """A plug-in that cannot be used; one line says which package it is of, and why."""


@cache
def _found(group: str) -> Mapping[str, tuple[EntryPoint, ...]]:
    found: dict[str, dict[str, EntryPoint]] = {}
    for point in entry_points(group=group):  # an installation that is seen twice is one
        found.setdefault(point.name, {})[f"{_package(point)} {point.value}"] = point
    return MappingProxyType({name: tuple(found[name][key] for key in sorted(found[name])) for name in sorted(found)})


def plug_in_names(group: str) -> tuple[str, ...]:
    """Return the names that installed packages offer in a group, sorted."""
    return tuple(_found(group))


def check_no_clash(group: str, name: str, built_in: Collection[str]) -> None:
    """Check that a package does not offer something under a name that is built in.

    Raises:
        PlugInError: it does; the message names the package.
    """
    if name in built_in and name in _found(group):
        packages = ", ".join(_package(point) for point in _found(group)[name])
        raise PlugInError(
            f"the package {packages} offers '{name}' in {group}, and that name is built in; uninstall the package, "
            "or have it use another name"
        )


def load_plug_in(group: str, name: str) -> UserObject:
    """Return what a package offers under a name.

    Raises:
        PlugInError: no package offers it, two packages do, or its code fails.
    """
    points = _found(group).get(name, ())
    if len(points) != 1:
        packages = ", ".join(_package(point) for point in points)
        raise PlugInError(
            f"several packages offer '{name}' in {group} ({packages}); uninstall all but one"
            if points
            else f"no installed package offers '{name}' in {group}"
        )
    try:
        return load_object(_reference(points[0]))
    except UserCodeError as error:
        raise PlugInError(f"'{name}' of the package {_package(points[0])} cannot be loaded: {error}") from error


def plug_in_digest(group: str, name: str) -> str:
    """Return the digest of the source of a plug-in: of its module, and of what that imports from its package."""
    load_plug_in(group, name)  # says what is wrong
    return reference_digest(_reference(_found(group)[name][0]))


def plug_in_package(group: str, name: str) -> str:
    """Return the name of the package that offers a plug-in."""
    return _package(_found(group)[name][0])


def _reference(point: EntryPoint) -> str:
    return point.value.partition("[")[0].replace(" ", "")


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value
