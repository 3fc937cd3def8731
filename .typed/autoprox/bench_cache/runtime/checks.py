"""Checks of untrusted files: bounded reading, plain values only, short quotes in errors."""

import math
import os
import re
from collections.abc import Collection, Mapping
from reprlib import Repr
from typing import Any

import orjson

MAX_BYTES = 32 * 2**20  # forty times the largest public benchmark; more is a mistake or an attack
MAX_LAYERS = 1000  # values in one list of an architecture
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NAME_RULE = "a letter or digit, then letters, digits, '.', '_' and '-', 64 at most"
_quoting = Repr()
_quoting.maxstring = _quoting.maxother = _quoting.maxlong = 60
_quoting.maxlist = _quoting.maxtuple = 6
_quoting.maxdict = _quoting.maxlevel = 2
Scalar = bool | int | float | str


class BenchmarkError(ValueError):
    """A benchmark, or a file of one, that cannot be used; the message says which record, and why."""


def quoted(value: object) -> str:
    """Return a value as errors quote it: short, whatever its size."""
    return _quoting.repr(value)


def read_bounded(path: str | os.PathLike[str], limit: int = MAX_BYTES) -> bytes:
    """Return a file's bytes.

    Raises:
        BenchmarkError: the file has more than `limit` bytes, or none.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise BenchmarkError(f"more than {limit // 2**20} MiB; no benchmark is that large")
    if not data:
        raise BenchmarkError("the file is empty")
    return data


def parse_json(data: bytes) -> Any:
    """Return the value that JSON bytes stand for.

    Raises:
        BenchmarkError: the bytes are no JSON (cut off, nested 1,024 levels deep, not UTF-8, NaN, ...); the message has
            line and column.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BenchmarkError(f"not JSON, or cut off: {error}") from error


def check_name(name: object, what: str) -> str:
    """Return `name` if it can name a benchmark, task or column, and so also a file.

    Raises:
        BenchmarkError: it cannot; the message says what a name may have.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BenchmarkError(f"{quoted(name)} cannot be the name of a {what}: {_NAME_RULE}")
    return name


def check_fields(record: object, required: Collection[str], allowed: Collection[str]) -> Mapping[str, Any]:
    """Return `record` if it is an object with all `required` fields, and no others than these and `allowed`.

    Raises:
        BenchmarkError: it is no object, or a field is missing or unknown.
    """
    if not isinstance(record, Mapping):
        raise BenchmarkError(f"expected an object with {', '.join(required)}, got {quoted(record)}")
    missing = [name for name in required if name not in record]
    if missing:
        raise BenchmarkError(f"field {missing[0]} is missing")
    unknown = [name for name in record if name not in required and name not in allowed]
    if unknown:
        raise BenchmarkError(f"unknown field {quoted(unknown[0])}; known are {', '.join([*required, *allowed])}")
    return record


def check_number(value: Any, what: str, lowest: float = -math.inf, highest: float = math.inf) -> float:
    """Return a finite number in [lowest, highest] as a float; return NaN for None, which stands for missing in a file.

    Raises:
        BenchmarkError: the value is anything else, such as NaN, an infinity, a text or a truth value.
    """
    if value is None:
        return math.nan
    if not is_number(value):
        raise BenchmarkError(f"{what} is {quoted(value)}, not a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise BenchmarkError(f"{what} is {value}, not a finite number; leave out what is missing")
    if not lowest <= value <= highest:
        raise BenchmarkError(f"{what} is {quoted(value)}, not in [{lowest:g}, {highest:g}]")
    try:
        return float(value)
    except OverflowError:
        raise BenchmarkError(f"{what} is {quoted(value)}, too large for a float") from None


def check_plain(record: object, what: str) -> dict[str, Scalar | tuple[Scalar, ...]]:
    """Return an object whose values are scalars or flat lists of scalars, with its lists as tuples.

    Raises:
        BenchmarkError: a value is nested deeper, or a list has more than `MAX_LAYERS` values.
    """
    if not isinstance(record, Mapping) or not all(isinstance(name, str) for name in record):
        raise BenchmarkError(f"{what} is {quoted(record)}, not an object of named values")
    plain: dict[str, Scalar | tuple[Scalar, ...]] = {}
    for name, value in record.items():
        values = value if isinstance(value, list | tuple) else [value]
        if len(values) > MAX_LAYERS or not all(isinstance(entry, Scalar) for entry in values):
            raise BenchmarkError(f"{name} of {what} is {quoted(value)}, not a value or a flat list of them")
        plain[name] = tuple(value) if isinstance(value, list | tuple) else value
    return plain


def is_int(value: object) -> bool:
    """Return whether a value is an integer; a truth value is not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Return whether a value is an integer or a float; a truth value is neither."""
    return isinstance(value, int | float) and not isinstance(value, bool)
