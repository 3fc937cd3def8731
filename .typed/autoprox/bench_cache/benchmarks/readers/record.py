"""Record: what a reader of benchmark files is, and the steps that several readers share."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from autoprox.bench_cache.benchmarks.record import Record
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.runtime.checks import BenchmarkError, parse_json, quoted, read_bounded
from autoprox.bench_cache.spaces.registry import ArchitectureError


@dataclass(frozen=True)
class Content:
    """A file to read: its bytes, its name without folder and suffix, and the folder that it lies in.

    `spaces` are the users' spaces that may be loaded for it. With `changed`, the source of its space may be another
    than when the file was written.
    """

    data: bytes
    stem: str
    folder: Path = Path()
    spaces: Sequence[str] = ()
    changed: bool = False

    def beside(self, filename: str) -> bytes | None:
        """Return the bytes of another file in the same folder; None where there is none.

        Raises:
            BenchmarkError: the file is empty or too large.
        """
        path = self.folder / filename
        return read_bounded(path) if path.is_file() else None

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


def csv_cells(data: bytes, required: Iterable[str]) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of the CSV in a file's bytes.

    Raises:
        BenchmarkError: they are no whole CSV table, or the header lacks a required column or has one twice.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BenchmarkError(f"not UTF-8 text: {error}") from error
    if not text.endswith("\n"):
        raise BenchmarkError("cut off: the last line does not end (if it is complete, end it with a line break)")
    try:
        header, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    except csv.Error as error:
        raise BenchmarkError(f"not a CSV table: {error}") from error
    missing = [name for name in required if name not in header]
    if missing or len(set(header)) < len(header):
        raise BenchmarkError(f"column {missing[0]} is missing" if missing else "two columns have the same name")
    return header, rows


def csv_row(header: list[str], cells: list[str]) -> dict[str, str]:
    """Return the cells of a row by column.

    Raises:
        BenchmarkError: there are more or fewer cells than columns.
    """
    if len(cells) != len(header):
        raise BenchmarkError(f"{len(cells)} cells for {len(header)} columns")
    return dict(zip(header, cells, strict=True))


def csv_number(cell: str) -> float | str | None:
    """Return a cell as a number, None if it is empty, or its text if that is no number."""
    try:
        return float(cell) if cell.strip() else None
    except ValueError:
        return cell


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
