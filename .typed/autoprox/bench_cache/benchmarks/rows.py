"""Rows: a user's table as columns and cells, read from CSV (any delimiter), JSON lines or Parquet."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from autoprox.bench_cache.runtime.checks import BenchmarkError, quoted
from autoprox.bench_cache.spaces.base import suggestion

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
#: What stands for a missing value in a cell of text, in any case; "none" may be the value of a gene.
MISSING = frozenset({"", "na", "n/a", "nan", "null", "-", "?"})
#: The name of a first column whose head is empty, as pandas writes the row numbers.
INDEX = "index"
MAX_CELLS = 2**22

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_COMMA_NUMBER = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")
_AMBIGUOUS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
_POINT_NUMBER = re.compile(r"[+-]?\d*\.\d+([eE][+-]?\d+)?")
_THOUSANDS = re.compile(
    r"[+-]?\d{1,3}((,\d{3})+\.\d+|(,\d{3}){2,}|(\.\d{3})+,\d+|(\.\d{3}){2,}|([ '_\u00a0\u202f]\d{3})+([.,]\d+)?)"
)


@dataclass(frozen=True)
class Rows:
    """A table: its columns, and for each row its place in the file, such as `line 7`, and its cells by column.

    A missing value is None. The cells of a CSV file are text; those of other files have types already. `comma` tells
    that the decimal mark is a comma.
    """

    columns: tuple[str, ...]
    places: tuple[str, ...]
    cells: tuple[Mapping[str, Any], ...]
    comma: bool = False

    def number(self, value: Any) -> int | float | None:
        """Return a cell as a number, or None if it is none."""
        if isinstance(value, bool) or value is None:
            return None
        if isinstance(value, int | float):
            return value
        text = str(value).replace(",", ".") if self.comma and _COMMA_NUMBER.fullmatch(str(value)) else str(value)
        if not isinstance(value, str) or not _NUMBER.fullmatch(text):
            return None
        return int(text) if re.fullmatch(r"[+-]?\d{1,18}", text) else float(text)


def read_rows(data: bytes, required: Collection[str]) -> Rows:
    """Return the rows of a table with the `required` columns; the content tells the format.

    Raises:
        BenchmarkError: the bytes are no such table; the message has the line, and what to do.
    """
    if data[:4] == b"PAR1":
        rows = _parquet(data)
    elif data.lstrip(b"\xef\xbb\xbf \r\n\t")[:1] in (b"{", b"["):
        rows = _json_lines(data)
    else:
        rows = _csv(_text(data), required)
    if not rows.cells:
        raise BenchmarkError("the table has a header and no rows")
    check_columns(rows.columns, required)
    return rows


def check_columns(columns: Collection[str], wanted: Iterable[str]) -> None:
    """Refuse a column that the table does not have.

    Raises:
        BenchmarkError: there is none of this name; the message lists the columns.
    """
    for column in wanted:
        if column not in columns:
            raise BenchmarkError(
                f"there is no column {quoted(column)}{suggestion(column, columns)}; "
                f"the columns are {', '.join(columns)}"
            )


def _text(data: bytes) -> str:
    coding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(coding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BenchmarkError(f"line {line}: not UTF-8 text; save the table as UTF-8") from error


# --- CSV ---


def _csv(text: str, required: Collection[str]) -> Rows:
    """Return the rows under the delimiter whose header has the required columns and whose rows fit the header best."""
    tables, problem = [], None
    for delimiter in DELIMITERS:
        try:
            tables.append((delimiter, _split(text, delimiter)))
        except csv.Error as error:
            problem = error
    if not tables:
        raise BenchmarkError(f"not a CSV table: {problem}")

    def misfit(table: tuple[str, list[tuple[int, list[str]]]]) -> tuple[bool, int, int]:
        (_, header), *rows = table[1]
        return not set(required) <= set(header), sum(len(row) != len(header) for _, row in rows), -len(header)

    if not tables[0][1]:
        raise BenchmarkError("there is nothing in the file but blank lines")
    delimiter, ((first, header), *rows) = min(tables, key=misfit)
    columns = _header(header, rows, first)
    for line, row in rows:
        if len(row) != len(columns):
            raise BenchmarkError(
                f"line {line}: {len(row)} cells for {len(columns)} columns, delimiter {DELIMITERS[delimiter]}; "
                "put a cell that has the delimiter in it in double quotes"
            )
    cells = tuple(
        {name: None if is_missing(cell) else cell for name, cell in zip(columns, row, strict=True)} for _, row in rows
    )
    places = tuple(f"line {line}" for line, _ in rows)
    return Rows(columns, places, cells, _decimal_comma(places, cells))


def _split(text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    """Return the line number and the cells of each line that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    found, last = [], 0
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                found.append((last + 1, cells))
            last = reader.line_num
    except csv.Error as error:
        raise csv.Error(f"line {last + 1}: {error}") from error
    return found


def _header(header: list[str], rows: list[tuple[int, list[str]]], line: int) -> tuple[str, ...]:
    """Return the names of the columns; the first may be empty, and so may a last one without any cell."""
    if header and not header[-1] and all(len(row) == len(header) and not row[-1] for _, row in rows):
        for _, row in rows:
            row.pop()
        header = header[:-1]
    header = [INDEX if place == 0 and not name and INDEX not in header else name for place, name in enumerate(header)]
    if all(_NUMBER.fullmatch(name) for name in header):
        raise BenchmarkError(f"line {line}: only numbers; the first line must be a header with the columns' names")
    for place, name in enumerate(header):
        if not name:
            raise BenchmarkError(f"line {line}: column {place + 1} has no name; give it one")
        if header.index(name) != place:
            raise BenchmarkError(
                f"line {line}: columns {header.index(name) + 1} and {place + 1} are both {quoted(name)}; rename one"
            )
    return tuple(header)


def is_missing(cell: Any) -> bool:
    """Return whether a cell stands for a missing value."""
    if isinstance(cell, str):
        return cell.strip() == "None" or cell.strip().casefold() in MISSING
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def _decimal_comma(places: Iterable[str], cells: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether the decimal mark is a comma; refuse thousands separators, and what can be read in two ways."""
    comma = point = unclear = ""
    for place, row in zip(places, cells, strict=True):
        for column, cell in row.items():
            if cell is None:
                continue
            where = f"{place}, column {column}: {quoted(cell)}"
            if _THOUSANDS.fullmatch(cell):
                raise BenchmarkError(
                    f"{where} seems to have thousands separators; leave these out, and write a list as [3, 4]"
                )
            if _AMBIGUOUS.fullmatch(cell):
                unclear = unclear or where
            elif _COMMA_NUMBER.fullmatch(cell):
                comma = comma or where
            elif _POINT_NUMBER.fullmatch(cell):
                point = point or where
    if comma and point:
        raise BenchmarkError(f"{comma} has a decimal comma, but {point} has a point; use one of them in the whole file")
    if unclear and not comma:
        raise BenchmarkError(
            f"{unclear} has a decimal comma or a thousands separator; write it with a point or without"
        )
    return bool(comma)


# --- JSON lines and Parquet ---


def _json_lines(data: bytes) -> Rows:
    text = _text(data)
    if text.lstrip()[:1] == "[":
        raise BenchmarkError("a JSON array; write one object on each line (`jq -c '.[]' FILE` does)")
    places, rows = [], []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:  # Python's reader, because others refuse NaN, and take the last of two equal names without a word
            row = json.loads(line, object_pairs_hook=_once, parse_constant=_constant)
        except (ValueError, RecursionError) as error:
            raise BenchmarkError(f"line {number}: not a JSON object on one line ({error})") from error
        places.append(f"line {number}")
        rows.append(row)
    return _typed(places, rows)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{max(names, key=names.count)} is there twice")
    return found


def _constant(text: str) -> None:
    if text != "NaN":
        raise ValueError(f"{text} is not a finite number")


def _parquet(data: bytes) -> Rows:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise BenchmarkError("a Parquet file needs pyarrow: pip install 'autoprox[parquet]'") from error
    try:
        with ParquetFile(io.BytesIO(data)) as file:
            if file.metadata.num_rows * file.metadata.num_columns > MAX_CELLS:
                raise BenchmarkError(f"more than {MAX_CELLS:,} cells; no benchmark is that large")
            rows = file.read().to_pylist()
    except (ArrowException, OSError, ValueError) as error:
        if isinstance(error, BenchmarkError):
            raise
        raise BenchmarkError(f"not a whole Parquet file ({str(error).splitlines()[0]})") from error
    return _typed([f"row {number}" for number in range(1, len(rows) + 1)], rows)


def _typed(places: list[str], rows: list[Any]) -> Rows:
    """Return rows whose cells have types; a list is a tuple, a missing value None, and other things are refused."""
    columns: dict[str, None] = {}
    cells = []
    for place, row in zip(places, rows, strict=True):
        if not isinstance(row, Mapping):
            raise BenchmarkError(f"{place}: {quoted(row)} is not an object with a value for each column")
        columns |= dict.fromkeys(row)
        cells.append({name: _cell(place, name, value) for name, value in row.items()})
    full = tuple({name: row.get(name) for name in columns} for row in cells)
    return Rows(tuple(columns), tuple(places), full)


def _cell(place: str, column: str, value: Any) -> Any:
    if is_missing(value):
        return None
    if isinstance(value, list):
        value = tuple(value)
    if not all(
        isinstance(entry, bool | int | float | str) for entry in (value if isinstance(value, tuple) else [value])
    ):
        raise BenchmarkError(
            f"{place}, column {column}: {quoted(value)} is no number, text or flat list of them; give each a column"
        )
    return value
