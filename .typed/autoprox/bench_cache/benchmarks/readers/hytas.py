"""Reader of HyTAS (arXiv 2407.16269): a CSV of hyperspectral ViTs, which becomes a tabular benchmark.

The task `oa` is the overall accuracy in percent; the file has it as a fraction. The architecture is the four settings
that the file has of it. Every further column is kept; an empty cell is missing.

`m_size` counts parameters, not bytes: one class more adds width + 1. But it is not the parameter count of the network.
It is 256 · depth · Σ heads · width + 5 · depth · Σ ratios · width + ..., so it counts the attention of each block
`depth` times, and leaves out the matrices of the MLPs. It stands as `params` because HyTAS ranks by it.
"""

from __future__ import annotations

from decimal import Decimal

from autoprox.bench_cache.benchmarks.readers.record import (
    Content,
    Reader,
    check_lengths,
    csv_cells,
    csv_number,
    csv_row,
    read_records,
    slug,
)
from autoprox.bench_cache.benchmarks.record import Record
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.runtime.checks import check_number, check_plain, parse_json

HYTAS_SETTINGS = ("layer_num", "embed_dim", "num_heads", "mlp_ratio")


def _recognises(content: Content) -> bool:
    first_line = content.data.split(b"\n", 1)[0]
    return b"layer_num" in first_line and not content.is_zip and not content.is_json_object


def _read(content: Content) -> Benchmark:
    """Return the benchmark in a HyTAS table, named after the scene, which the file's name begins with."""
    header, rows = csv_cells(content.data, (*HYTAS_SETTINGS, "OA"))

    def read_row(cells: list[str]) -> Record:
        row = csv_row(header, cells)
        arch = check_plain({name: parse_json(row.pop(name).encode()) for name in HYTAS_SETTINGS}, "the architecture")
        check_lengths(arch, "layer_num", ("embed_dim", "num_heads", "mlp_ratio"))
        accuracy = check_number(csv_number(row.pop("OA")), "OA, a fraction,", 0, 1)
        percent = None if accuracy != accuracy else float(Decimal(repr(accuracy)).scaleb(2))
        return Record(arch, {"oa": percent}, {name: csv_number(cell) for name, cell in row.items()})

    return Benchmark.from_records(
        name="hytas-" + (slug(content.stem.split("_")[0]) or "table")[:50],
        space=None,
        spec=None,
        source="HyTAS (arXiv 2407.16269), hyperspectral ViTs: overall accuracy, and proxies as published",
        tasks=("oa",),
        records=read_records(rows, read_row),
    )


READER = Reader("CSV of HyTAS, with a column layer_num", _recognises, _read)
