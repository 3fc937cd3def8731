"""File fields: what a benchmark's file says, read or refused field by field."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from autoprox.bench_cache.runtime.checks import BenchmarkError, check_fields, check_number, quoted
from autoprox.bench_cache.spaces.registry import ArchitectureError


def as_pinned(find: Callable[..., str], *arguments: Any, **settings: Any) -> str:
    """Return the space that a function of the registry finds; its error becomes one of the benchmark."""
    try:
        return find(*arguments, **settings)
    except ArchitectureError as error:
        raise BenchmarkError(str(error)) from error


def object_in(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the object in a field; an absent field has an empty one."""
    value = found.get(name, {})
    return check_fields(value, (), value)


def checked_runs(values: object, task: str, earlier: Sequence[Sequence[float]]) -> list[float]:
    """Return a record's accuracies by seed; refuse a missing one, or more or fewer than the `earlier` records have."""
    if not isinstance(values, list) or not values or (earlier and len(values) != len(earlier[0])):
        raise BenchmarkError(f"seeds of {task} is {quoted(values)}, not one accuracy for each seed")
    if None in values:
        raise BenchmarkError(f"seeds of {task} is {quoted(values)}; none may be missing")
    return [check_number(value, f"seeds of {task}", 0, 100) for value in values]
