"""Record: one row of a benchmark's file, before what it says is checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from autoprox.bench_cache.benchmarks.file_fields import object_in
from autoprox.bench_cache.runtime.checks import BenchmarkError, check_fields


@dataclass(frozen=True)
class Record:
    """One row of a file, before any check.

    Attributes:
        arch: the architecture, as the JSON of the space.
        accuracy: percent by task.
        columns: further numbers by name.
        seeds: by task, the accuracies of single trainings.
        groups: names of the groups it belongs to, by what they group.
    """

    arch: Any
    accuracy: Any
    columns: Any = field(default_factory=dict)
    seeds: Any = field(default_factory=dict)
    groups: Any = field(default_factory=dict)


def read_record(number: int, record: object) -> Record:
    """Return the parts of a record of our format, unchecked.

    Raises:
        BenchmarkError: it is no object, or has an unknown field or lacks one; the message has its number.
    """
    try:
        found = check_fields(record, ("arch", "accuracy"), ("columns", "seeds", "groups"))
        parts = [object_in(found, name) for name in ("columns", "seeds", "groups")]
    except BenchmarkError as error:
        raise BenchmarkError(f"record {number}: {error}") from error
    return Record(found["arch"], found["accuracy"], *parts)
