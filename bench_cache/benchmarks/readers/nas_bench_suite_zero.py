"""Reader of NAS-Bench-Suite-Zero's `zc_nasbench201.json` (Krishnakumar et al., arXiv 2210.03230): convolutional cells.

The 725 cells are of the space `nas-bench-201`; the figures are Apache-2.0. The tasks are the three image sets, in
percent of the validation images. The networks differ between the sets in the classifier alone, and in the side of the
image, which is 16 in ImageNet16-120. The benchmark has one network for each cell, that of CIFAR-10. Params are those of
the space, as they are in the file, and so left out; `published_flops` are the file's on CIFAR-10. Every other proxy is
a column for each image set, such as `synflow_cifar10`, as published. One that is absent or not finite is missing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from autoprox.bench_cache.benchmarks.readers.record import Content, Reader, read_records, slug
from autoprox.bench_cache.benchmarks.record import Record
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.runtime.checks import BenchmarkError, check_fields, check_number, quoted
from autoprox.bench_cache.spaces.nas_bench_201 import EDGES, OPERATIONS
from autoprox.bench_cache.spaces.registry import InputSpec

CIFAR_10 = InputSpec(image_size=32, in_channels=3, num_classes=10)


def _recognises(content: Content) -> bool:
    return content.is_json_object and b'"val_accuracy"' in content.data and b'"arch"' in content.data


def _parsed(data: bytes) -> Mapping[str, Any]:
    """Return the object in a JSON file that Python wrote, whose infinities and NaN are no JSON: they become None."""
    try:
        value = json.loads(data, parse_constant=lambda constant: None)
    except (ValueError, RecursionError) as error:
        raise BenchmarkError(f"not JSON, or cut off: {error}") from error
    return check_fields(value, (), value)


def _read(content: Content) -> Benchmark:
    """Return the benchmark in a file of {image set: {cell: {"val_accuracy": .., proxy: {"score": ..}, ..}, ..}, ..}."""
    sets = {slug(name): check_fields(cells, (), cells) for name, cells in _parsed(content.data).items()}
    cells = list(dict.fromkeys(cell for of_set in sets.values() for cell in of_set))
    records = read_records(cells, lambda cell: _record(cell, sets))
    columns = dict.fromkeys(name for record in records for name in record.columns)
    complete = [Record(r.arch, r.accuracy, {name: r.columns.get(name) for name in columns}) for r in records]
    return Benchmark.from_records(
        name="nas-bench-201",
        space="nas-bench-201",
        spec=CIFAR_10,
        source="NAS-Bench-Suite-Zero (arXiv 2210.03230, Apache-2.0): cells of NAS-Bench-201, and proxies as published",
        tasks=tuple(sets),
        records=complete,
    )


def _record(cell: str, sets: Mapping[str, Mapping[str, Any]]) -> Record:
    """Return the record of a cell that some of the image sets have."""
    accuracy: dict[str, Any] = {}
    columns: dict[str, Any] = {}
    for number, (name, cells) in enumerate(sets.items()):
        if cell not in cells:
            continue
        found = check_fields(cells[cell], ("val_accuracy", "arch"), cells[cell])
        accuracy[name] = found["val_accuracy"]
        scores = {proxy: entry for proxy, entry in found.items() if isinstance(entry, Mapping)}
        for proxy, entry in scores.items():
            value = check_fields(entry, ("score",), ("time",))["score"]
            if proxy == "flops" and number == 0:
                known = None if value is None else float(round(check_number(value, proxy, 0) * 1e6))
                columns["published_flops"] = known
            elif proxy not in ("params", "flops"):
                columns[f"{slug(proxy)}_{name}"] = value
    return Record({"operations": _operations(cell)}, accuracy, columns)


def _operations(cell: str) -> tuple[str, ...]:
    """Return the operations of a cell such as "(0, 2, 3, 2, 3, 1)"."""
    numbers = [part.strip() for part in cell.strip("()").split(",")]
    if len(numbers) != len(EDGES) or not all(n.isdecimal() and int(n) < len(OPERATIONS) for n in numbers):
        raise BenchmarkError(
            f"the cell {quoted(cell)} is not six numbers of operations from 0 to {len(OPERATIONS) - 1}"
        )
    return tuple(OPERATIONS[int(n)] for n in numbers)


READER = Reader("JSON of NAS-Bench-Suite-Zero, zc_nasbench201.json", _recognises, _read)
