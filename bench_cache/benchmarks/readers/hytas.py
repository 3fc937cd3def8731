"""Reader of HyTAS (arXiv 2407.16269): a CSV of hyperspectral ViTs, which becomes a tabular benchmark.

The task `oa` is the overall accuracy in percent; the file has it as a fraction. The architecture is the four settings
that the file has of it. Every further column is kept; an empty cell is missing.

`m_size` counts parameters, not bytes: one class more adds width + 1. But it is not the parameter count of the network.
It is 256 · depth · Σ heads · width + 5 · depth · Σ ratios · width + ..., so it counts the attention of each block
`depth` times, and leaves out the matrices of the MLPs. It stands as `params` because HyTAS ranks by it.
"""

from __future__ import annotations

import csv
import io
from decimal import Decimal

from autoprox.bench_cache.benchmarks.readers.record import Content, Reader, check_lengths, read_records, slug
from autoprox.bench_cache.benchmarks.table import Benchmark, Record
from autoprox.bench_cache.runtime.checks import BenchmarkError, check_number, check_plain, parse_json

HYTAS_SETTINGS = ("layer_num", "embed_dim", "num_heads", "mlp_ratio")


def _recognises(content: Content) -> bool:
    first_line = content.data.split(b"\n", 1)[0]
    return b"layer_num" in first_line and not content.is_zip and not content.is_json_object


def _read(content: Content) -> Benchmark:
    """Return the benchmark in a HyTAS table, named after the scene, which the file's name begins with."""
    header, rows = _cells(content.data)

    def read_row(cells: list[str]) -> Record:
        if len(cells) != len(header):
            raise BenchmarkError(f"{len(cells)} cells for {len(header)} columns")
        row = dict(zip(header, cells, strict=True))
        arch = check_plain({name: parse_json(row.pop(name).encode()) for name in HYTAS_SETTINGS}, "the architecture")
        check_lengths(arch, "layer_num", ("embed_dim", "num_heads", "mlp_ratio"))
        accuracy = check_number(_number(row.pop("OA")), "OA, a fraction,", 0, 1)
        percent = None if accuracy != accuracy else float(Decimal(repr(accuracy)).scaleb(2))
        return Record(arch, {"oa": percent}, {name: _number(cell) for name, cell in row.items()})

    return Benchmark.from_records(
        name="hytas-" + (slug(content.stem.split("_")[0]) or "table")[:50],
        space=None,
        spec=None,
        source="HyTAS (arXiv 2407.16269), hyperspectral ViTs: overall accuracy, and proxies as published",
        tasks=("oa",),
        records=read_records(rows, read_row),
    )


def _cells(data: bytes) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of the CSV in a file's bytes.

    Raises:
        BenchmarkError: they are no whole CSV table, or the header lacks a column or has one twice.
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
    missing = [name for name in (*HYTAS_SETTINGS, "OA") if name not in header]
    if missing or len(set(header)) < len(header):
        raise BenchmarkError(f"column {missing[0]} is missing" if missing else "two columns have the same name")
    return header, rows


def _number(cell: str) -> float | str | None:
    """Return a cell as a number, None if it is empty, or its text if that is no number."""
    try:
        return float(cell) if cell.strip() else None
    except ValueError:
        return cell


READER = Reader("CSV of HyTAS, with a column layer_num", _recognises, _read)
