"""Own table: a user's table of architectures and accuracies as a benchmark, with a space or tabular."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from autoprox.bench_cache.benchmarks.rows import INDEX, Rows, read_rows
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.benchmarks.tabular import TabularArchitecture
from autoprox.bench_cache.runtime.checks import BenchmarkError, check_name, quoted, read_bounded
from autoprox.bench_cache.spaces.base import suggestion
from autoprox.bench_cache.spaces.registry import ArchitectureError, InputSpec, get_space

#: Heads, in small letters, of a column that names the architectures; the first of these that the table has counts.
NAME_COLUMNS = ("name", "model", "model_name", "architecture", "arch", "network", "id", "uid", "arch_id", INDEX)


@dataclass(frozen=True)
class TableColumns:
    """What the columns of a table mean.

    Attributes:
        accuracy: the column of each task's accuracies.
        genes: the column of each gene, where it has another name than the gene.
        space: the space that the architectures are of, or None: tabular.
        spec: the input and classes that networks are built for; only with a space.
        name: the column that names the architectures; "" looks for one of `NAME_COLUMNS`.
        left_out: columns that are not read.
        unit: `percent`, `fraction`, or "" where the numbers tell.
    """

    accuracy: Mapping[str, str]
    genes: Mapping[str, str] = field(default_factory=dict)
    space: str | None = None
    spec: InputSpec = field(default_factory=InputSpec)
    name: str = ""
    left_out: tuple[str, ...] = ()
    unit: str = ""


def read_own_table(path: Path, meant: TableColumns, name: str | None = None) -> tuple[Benchmark, tuple[str, ...]]:
    """Return the benchmark in a CSV, JSON lines or Parquet table, and the columns that have no place in it.

    Without a space, an architecture is its name, its genes, and its columns of text and lists. Every other column of
    numbers becomes a column of the benchmark, with a space too.

    Raises:
        BenchmarkError: the table cannot be used; the message has the file, the line, the column, and what to do.
        OSError: the file cannot be read.
    """
    try:
        data = read_bounded(path)
        rows = read_rows(data, [*meant.accuracy.values(), *meant.left_out, *([meant.name] if meant.name else [])])
        return _benchmark(rows, meant, check_name(clean(path.stem) if name is None else name, "benchmark"), path, data)
    except (BenchmarkError, ArchitectureError) as error:
        raise BenchmarkError(f"{path}: {error}") from error


def clean(name: str) -> str:
    """Return a column's head as a name that formulas can read: other characters than letters, digits, `._-` are `_`."""
    kept = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("_").lstrip("._-")[:64]
    if not kept:
        raise BenchmarkError(
            f"column {quoted(name)} has no letter or digit from A to Z or 0 to 9 in its name; rename it"
        )
    return kept


def _benchmark(
    rows: Rows, meant: TableColumns, name: str, path: Path, data: bytes
) -> tuple[Benchmark, tuple[str, ...]]:
    tasks = {task: _accuracies(rows, column, meant.unit) for task, column in meant.accuracy.items()}
    named = _name_column(rows, meant)
    if meant.space is None:
        genes, used = _table_genes(rows, meant.genes)
    else:
        genes, used = _space_genes(rows, meant.space, meant.genes)
    taken = {*meant.accuracy.values(), *used, *meant.left_out, named}
    numeric, others = {}, []
    for column in (column for column in rows.columns if column not in taken):
        values = _numbers(rows, column)
        if values is None or column == INDEX:
            others.append(column)
        else:
            numeric[column] = values
    columns = _by_clean_name(numeric)
    if meant.space is None:
        settings = [*([named] if named else []), *(column for column in others if column != INDEX)]
        architectures = _tabular(rows, genes, settings, tuple(numeric))
        _check_different(rows, [str(row[named]) for row in rows.cells] if named else [a.key() for a in architectures])
        unused = tuple(column for column in others if column not in settings)
    else:
        architectures = _of_space(rows, meant, genes)
        unused = (*([named] if named else []), *others)
    card = {"file": path.name, "sha256": hashlib.sha256(data).hexdigest(), "rows": len(rows.cells)}
    benchmark = Benchmark(
        name=name,
        space=meant.space,
        spec=None if meant.space is None else meant.spec,
        source=f"imported from {path.name}" if path.name.isprintable() else "imported",
        architectures=tuple(architectures),
        tasks=tasks,
        columns=columns,
        card={"imported": {**card, "not kept": [*unused, *meant.left_out]}},
    )
    return benchmark, unused


def _accuracies(rows: Rows, column: str, unit: str) -> np.ndarray:
    """Return a column in percent, NaN where missing."""
    values: list[float] = []
    highest = 1 if unit == "fraction" else 100
    for place, row in zip(rows.places, rows.cells, strict=True):
        cell, number = row[column], rows.number(row[column])
        where = f"{place}, column {column}: {quoted(cell)}"
        if cell is not None and number is None:
            hint = "; leave out the %" if str(cell).endswith("%") else ""
            raise BenchmarkError(f"{where} is not a number{hint}; a missing accuracy is an empty cell")
        if number is not None and not 0 <= number <= highest:
            raise BenchmarkError(f"{where} is not an accuracy from 0 to {highest}; correct it, or give another --unit")
        values.append(math.nan if number is None else number)
    there = [value for value in values if not math.isnan(value)]
    if not there:
        raise BenchmarkError(f"column {column}: every accuracy is missing")
    if not unit and max(there) <= 1:
        raise BenchmarkError(
            f"column {column}: no accuracy is above 1; say what they are with --unit fraction or --unit percent"
        )
    if unit == "fraction":
        values = [value if math.isnan(value) else float(Decimal(repr(value)).scaleb(2)) for value in values]
    return np.array(values, dtype=np.float64)


def _name_column(rows: Rows, meant: TableColumns) -> str:
    """Return the column that names the architectures, or "" if there is none."""
    free = {
        column.casefold(): column
        for column in rows.columns
        if column not in (*meant.accuracy.values(), *meant.genes.values(), *meant.left_out)
    }
    found = meant.name or next((free[name] for name in NAME_COLUMNS if name in free), "")
    if found and meant.space is None:
        for place, row in zip(rows.places, rows.cells, strict=True):
            if row[found] is None:
                raise BenchmarkError(
                    f"{place}, column {found}: the architecture has no name; name it, or leave the column out"
                )
    return found


def _numbers(rows: Rows, column: str) -> np.ndarray | None:
    """Return a column of numbers; None if it has none; refuse one that has numbers and other things."""
    numbers = [rows.number(row[column]) for row in rows.cells]
    known = [row[column] is not None for row in rows.cells]
    if not any(number is not None for number in numbers):
        return None if any(known) else np.full(len(numbers), math.nan)
    for place, row, number, there in zip(rows.places, rows.cells, numbers, known, strict=True):
        if there and (number is None or not abs(number) < math.inf):
            raise BenchmarkError(
                f"{place}, column {column}: {quoted(row[column])} is no finite number, as others of the column are; "
                "correct it, or leave the column out with --leave-out"
            )
    try:
        return np.array([math.nan if number is None else number for number in numbers], dtype=np.float64)
    except OverflowError:
        raise BenchmarkError(f"column {column}: a number is too large for a float; leave the column out") from None


def _by_clean_name(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    heads: dict[str, str] = {}
    for head, values in columns.items():
        first = heads.setdefault(clean(head), head)
        if first != head:
            raise BenchmarkError(
                f"the columns {quoted(first)} and {quoted(head)} are both read as {clean(head)}; rename one"
            )
        found[clean(head)] = values
    return found


# --- genes ---


def _value(rows: Rows, place: str, column: str, cell: Any) -> Any:
    """Return a cell as a gene: a number, whole where it is, a text, or a tuple of these."""
    if isinstance(cell, str) and cell.startswith("["):
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            raise BenchmarkError(f"{place}, column {column}: {quoted(cell)} is no JSON list such as [3, 4]") from None
    if isinstance(cell, list | tuple):
        if not all(isinstance(entry, bool | int | float | str) for entry in cell):
            raise BenchmarkError(f"{place}, column {column}: {quoted(cell)} is no flat list of numbers or texts")
        return tuple(_whole(entry) for entry in cell)
    number = rows.number(cell)
    return cell if number is None else _whole(number)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _gene_columns(rows: Rows, gene: str, column: str) -> list[str]:
    """Return the column of a gene, or its numbered columns: `heads_0`, `heads_1`, and so on, from 0 or 1."""
    if column in rows.columns:
        return [column]
    start = 0 if f"{column}_0" in rows.columns else 1
    numbered: list[str] = []
    while (following := f"{column}_{start + len(numbered)}") in rows.columns:
        numbered.append(following)
    if not numbered:
        raise BenchmarkError(
            f"gene {gene}: there is no column {quoted(column)}{suggestion(column, rows.columns)}, nor {column}_0; map "
            f"it with --genes {gene}=COLUMN; the columns are {', '.join(rows.columns)}"
        )
    return numbered


def _gene(rows: Rows, row: int, columns: Sequence[str]) -> Any:
    """Return a gene of a row; of numbered columns, those at the end may be empty."""
    place, cells = rows.places[row], rows.cells[row]
    if len(columns) == 1:
        return None if cells[columns[0]] is None else _value(rows, place, columns[0], cells[columns[0]])
    there = [cells[column] is not None for column in columns]
    length = sum(there)
    if not all(there[:length]):
        raise BenchmarkError(
            f"{place}, column {columns[there.index(False)]}: empty, and a later one of the list is not"
        )
    return tuple(_value(rows, place, column, cells[column]) for column in columns[:length])


def _read_genes(rows: Rows, mapping: Mapping[str, str]) -> tuple[list[dict[str, Any]], set[str]]:
    columns = {gene: _gene_columns(rows, gene, column) for gene, column in mapping.items()}
    genes = [{gene: _gene(rows, row, found) for gene, found in columns.items()} for row in range(len(rows.cells))]
    return genes, {column for found in columns.values() for column in found}


def _table_genes(rows: Rows, mapping: Mapping[str, str]) -> tuple[list[dict[str, Any]], set[str]]:
    genes, used = _read_genes(rows, mapping)
    return [{gene: value for gene, value in row.items() if value is not None} for row in genes], used


def _space_genes(rows: Rows, space: str, mapping: Mapping[str, str]) -> tuple[list[dict[str, Any]], set[str]]:
    """Return the genes of a space in every row, from columns of the same names unless the mapping has others."""
    found = get_space(space)
    known = tuple(found.to_json(found.sample(Random(0))))
    for gene in mapping:
        if gene not in known:
            raise BenchmarkError(
                f"space {space} has no gene {quoted(gene)}{suggestion(gene, known)}; its genes are {', '.join(known)}"
            )
    genes, used = _read_genes(rows, {gene: mapping.get(gene, gene) for gene in known})
    for place, row in zip(rows.places, genes, strict=True):
        for gene, value in row.items():
            if value is None:
                raise BenchmarkError(f"{place}, gene {gene}: empty; an architecture of {space} has all its genes")
    return genes, used


# --- architectures ---


def _of_space(rows: Rows, meant: TableColumns, genes: Sequence[Mapping[str, Any]]) -> list[Any]:
    space = get_space(meant.space or "")
    architectures = []
    for place, record in zip(rows.places, genes, strict=True):
        listed = {gene: list(value) if isinstance(value, tuple) else value for gene, value in record.items()}
        try:
            architectures.append(space.from_json(listed))
        except ArchitectureError as error:
            raise BenchmarkError(f"{place}: {error}") from error
    _check_different(rows, [space.key(arch) for arch in architectures])
    return architectures


def _tabular(
    rows: Rows, genes: Sequence[Mapping[str, Any]], settings: Sequence[str], numeric: Sequence[str]
) -> list[TabularArchitecture]:
    """Return architectures of their settings and genes; where there are neither, of all numbers of the row."""
    described = settings if settings or any(genes) else numeric
    found = []
    for place, row, record in zip(rows.places, rows.cells, genes, strict=True):
        pairs = {
            column: str(row[column]) if column in settings[:1] else _value(rows, place, column, row[column])
            for column in described
            if row[column] is not None
        }
        found.append(TabularArchitecture(tuple({**pairs, **record}.items())))
    return found


def _check_different(rows: Rows, keys: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for place, key in zip(rows.places, keys, strict=True):
        first = seen.setdefault(key, place)
        if first != place:
            raise BenchmarkError(
                f"{first} and {place} are the same architecture, {quoted(key)}; keep one, or put the mean of their "
                "accuracies in one (a column `name` tells architectures apart that have the same numbers)"
            )
