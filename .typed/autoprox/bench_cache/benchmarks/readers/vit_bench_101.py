"""Reader of ViT-Bench-101 (Auto-Prox, arXiv 2312.09059): a zipped `.pth` with a list of records.

The tasks are the `*_acc` columns, named without `_acc`; None is missing. The networks were trained for 100 classes
(CIFAR-100), 102 (Flowers), 4 (Chaoyang) and 1,000 (ImageNet, with inherited weights). But the benchmark has only one
network for each architecture, which is built and sized for 100 classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoprox.bench_cache.benchmarks.checkpoint import read_plain_checkpoint
from autoprox.bench_cache.benchmarks.readers.record import Content, Reader, check_lengths, read_records, tasks_of
from autoprox.bench_cache.benchmarks.record import Record
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.runtime.checks import BenchmarkError, check_fields, check_plain, quoted
from autoprox.bench_cache.spaces.registry import InputSpec

VIT_BENCH_SPEC = InputSpec(image_size=224, in_channels=3, num_classes=100)


def _recognises(content: Content) -> bool:
    """Return whether a file is a zip archive; no other known format is."""
    return content.is_zip


def _read(content: Content) -> Benchmark:
    """Return the benchmark in a file of [{"arch": {..}, "<task>_acc": percent or None, ..}, ..]."""
    rows = read_plain_checkpoint(content.data)
    if not isinstance(rows, list) or not rows:
        raise BenchmarkError(f"expected a list of records as in ViT-Bench-101, got {quoted(rows)}")
    first = rows[0].get("arch") if isinstance(rows[0], dict) else None
    kind, genes_of = ("pit", _pit) if isinstance(first, dict) and "base_dim" in first else ("autoformer", _autoformer)

    def read_row(row: Any) -> Record:
        columns = [column for column in check_fields(row, ("arch",), row) if column != "arch"]
        for column in columns:
            if not (isinstance(column, str) and column.endswith("_acc")):
                raise BenchmarkError(f"unknown field {quoted(column)}; known are arch and columns that end in _acc")
        accuracy = {column.removesuffix("_acc"): row[column] for column in columns}
        return Record(genes_of(check_plain(row["arch"], "arch")), accuracy)

    records = read_records(rows, read_row)
    return Benchmark.from_records(
        name=f"vit-bench-101-{kind}",
        space=f"{kind}-vb101",
        spec=VIT_BENCH_SPEC,
        source=f"ViT-Bench-101 (Auto-Prox, arXiv 2312.09059), {kind}; imagenet_super is with inherited weights",
        tasks=tasks_of(records),
        records=records,
    )


def _pit(arch: Mapping[str, Any]) -> Mapping[str, Any]:
    return arch  # has the genes of our space, by the same names


def _autoformer(arch: Mapping[str, Any]) -> Mapping[str, Any]:
    check_fields(arch, ("hidden_dim", "depth", "num_heads", "mlp_ratio"), ())
    check_lengths(arch, "depth", ("num_heads", "mlp_ratio"))
    return {"embed_dim": arch["hidden_dim"], "num_heads": arch["num_heads"], "mlp_ratio": arch["mlp_ratio"]}


READER = Reader("zipped .pth of ViT-Bench-101", _recognises, _read)
