"""Record: what a reader of benchmark files is, and the steps that several readers share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from autoprox.bench_cache.benchmarks.table import Benchmark, Record
from autoprox.bench_cache.runtime.checks import BenchmarkError, parse_json, quoted
from autoprox.bench_cache.spaces.registry import ArchitectureError


@dataclass(frozen=True)
class Content:
    """A file to read: its bytes, and its name without folder and suffix."""

    data: bytes
    stem: str

    @property
    def is_zip(self) -> bool:
        """Whether the file begins like a zip archive."""
        return self.data[:2] == b"PK"

    @property
    def is_json_object(self) -> bool:
        """Whether the file begins like a JSON object."""
        return self.data.lstrip()[:1] == b"{"

    @cached_property
    def json(self) -> Mapping[str, Any]:
        """The JSON object in the file; empty if there is none. Then `parse_json` says why."""
        try:
            value = parse_json(self.data)
        except BenchmarkError:
            return {}
        return value if isinstance(value, dict) else {}


@dataclass(frozen=True)
class Reader:
    """A reader of one format.

    Attributes:
        name: the format, as errors list it, such as `CSV of HyTAS, with a column layer_num`.
        recognises: returns whether a file has this format, by its content; never raises.
        read: returns the benchmark in such a file, or raises a BenchmarkError that says which record, and why.
    """

    name: str
    recognises: Callable[[Content], bool]
    read: Callable[[Content], Benchmark]


def read_records(rows: Iterable[Any], read: Callable[[Any], Record]) -> list[Record]:
    """Return the record that `read` makes of each row.

    Raises:
        BenchmarkError: `read` refuses a row; the message begins with the row's number, counted from 0.
    """
    records = []
    for number, row in enumerate(rows):
        try:
            records.append(read(row))
        except (BenchmarkError, ArchitectureError) as error:
            raise BenchmarkError(f"record {number}: {error}") from error
    return records


def tasks_of(records: Iterable[Record]) -> tuple[str, ...]:
    """Return every task that a record has, in order of first appearance."""
    return tuple({task: None for record in records for task in record.accuracy})


def check_lengths(arch: Mapping[str, Any], depth: str, genes: tuple[str, ...]) -> None:
    """Refuse an architecture in which a gene does not have one value for each layer; the gene `depth` is their number.

    Raises:
        BenchmarkError: there is such a gene; the message names the first.
    """
    for gene in genes:
        if not isinstance(arch[gene], tuple) or len(arch[gene]) != arch[depth]:
            raise BenchmarkError(
                f"{gene} is {quoted(arch[gene])}, not one value for each layer of {depth} {quoted(arch[depth])}"
            )


def slug(text: str) -> str:
    """Return a text in lower case, with one `_` for each run of other characters than letters and digits."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
