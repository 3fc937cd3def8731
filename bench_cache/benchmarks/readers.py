"""Readers of benchmark files, told by their content: our JSON, ViT-Bench-101, OoD-ViT-NAS and HyTAS.

What they make of a public file, where the file leaves room:

- ViT-Bench-101 (`.pth`): the tasks are its `*_acc` columns, named without `_acc`; None is missing. The networks were
  trained for 100 classes (CIFAR-100), 102 (Flowers), 4 (Chaoyang) and 1,000 (ImageNet, with inherited weights); the
  benchmark has one network for each architecture, so it is built and sized for 100 classes.
- OoD-ViT-NAS (`.json`): the task `imagenet` is the clean top-1; an entry of ImageNet-C becomes a task of its own, such
  as `imagenet_c_gaussian_noise_1` for severity 1, missing in the records that lack it. The space is the AutoFormer
  supernet that most of the widths belong to. `params` must be that of the architecture; `flops` is not used.
- HyTAS (`.csv`): a tabular benchmark. The task `oa` is the overall accuracy in percent, where the file has a fraction;
  the architecture is what the file says of it; every further column is kept, an empty cell as missing. `m_size` is in
  parameters, not bytes: a class more adds width + 1. It is the file's own count, and not that of the network: it is
  256 · depth · Σ heads · width + 5 · depth · Σ ratios · width + ..., so it takes each block's attention as often as
  there are blocks, and leaves out the matrices of the MLPs. It stands as `params` because HyTAS ranks by it.

No file is trusted: none runs code, and one bad record refuses the file.
"""

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from autoprox.bench_cache.benchmarks.checkpoint import read_plain_checkpoint
from autoprox.bench_cache.benchmarks.table import FORMAT, Benchmark, Record
from autoprox.bench_cache.runtime.checks import (
    BenchmarkError,
    check_fields,
    check_number,
    check_plain,
    parse_json,
    quoted,
    read_bounded,
)
from autoprox.bench_cache.spaces.registry import ArchitectureError, AutoFormerSpace, InputSpec, get_space

VIT_BENCH_SPEC = InputSpec(image_size=224, in_channels=3, num_classes=100)
IMAGENET_SPEC = InputSpec(image_size=224, in_channels=3, num_classes=1000)
HYTAS_SETTINGS = ("layer_num", "embed_dim", "num_heads", "mlp_ratio")


def read_benchmark(path: str | os.PathLike[str], name: str | None = None) -> Benchmark:
    """Return the benchmark in a file: our own JSON, or any of the public formats, told by what is inside.

    `name` replaces the default, which is the file's own (our JSON) or that of the public benchmark:
    vit-bench-101-autoformer, vit-bench-101-pit, ood-vit-nas-tiny (-small, -base), and `hytas-` with the first word of
    the file's name, such as hytas-indian, since a HyTAS file does not say which scene it is of.

    Raises:
        BenchmarkError: naming the file: no known format, or the first record that cannot be used, and why.
        OSError: the file cannot be read.
    """
    try:
        data = read_bounded(path)
        if data[:2] == b"PK":
            benchmark = _vit_bench(read_plain_checkpoint(data))
        elif data.lstrip()[:1] == b"{":
            benchmark = _from_json(data)
        elif b"layer_num" in data.split(b"\n", 1)[0]:
            benchmark = _hytas(data, Path(path).stem)
        else:
            raise BenchmarkError(
                "no known benchmark format: not JSON of autoprox or OoD-ViT-NAS, "
                "not a zipped .pth of ViT-Bench-101, not a CSV of HyTAS"
            )
        return benchmark if name is None else replace(benchmark, name=name)
    except BenchmarkError as error:
        raise BenchmarkError(f"{path}: {error}") from error


def _from_json(data: bytes) -> Benchmark:
    """Return the benchmark in a JSON file: ours, or one of OoD-ViT-NAS."""
    table = parse_json(data)
    if isinstance(table, dict) and table.get("format") == FORMAT:
        return Benchmark.from_bytes(data)
    if isinstance(table, dict) and any(isinstance(row, dict) and "net_setting" in row for row in table.values()):
        return _ood_vit_nas(table)
    raise BenchmarkError(f'JSON of no known benchmark: no "format": "{FORMAT}", and no "net_setting" of OoD-ViT-NAS')


def _records(rows: Iterable[Any], read: Callable[[Any], Record]) -> list[Record]:
    """Return what `read` makes of each row; its error gets the record's number."""
    records = []
    for number, row in enumerate(rows):
        try:
            records.append(read(row))
        except (BenchmarkError, ArchitectureError) as error:
            raise BenchmarkError(f"record {number}: {error}") from error
    return records


def _tasks(records: Iterable[Record]) -> tuple[str, ...]:
    """Return every task that a record has, in order of first appearance."""
    return tuple({task: None for record in records for task in record.accuracy})


def _vit_bench(rows: Any) -> Benchmark:
    """Return the benchmark in a loaded ViT-Bench-101 file: [{"arch": {..}, "<task>_acc": percent or None, ..}, ..]."""
    if not isinstance(rows, list) or not rows:
        raise BenchmarkError(f"expected a list of records as in ViT-Bench-101, got {quoted(rows)}")
    first = rows[0].get("arch") if isinstance(rows[0], dict) else None
    kind, read_arch = ("pit", _pit) if isinstance(first, dict) and "base_dim" in first else ("autoformer", _autoformer)

    def read(row: Any) -> Record:
        columns = [column for column in check_fields(row, ("arch",), row) if column != "arch"]
        for column in columns:
            if not (isinstance(column, str) and column.endswith("_acc")):
                raise BenchmarkError(f"unknown field {quoted(column)}; known are arch and columns that end in _acc")
        accuracy = {column.removesuffix("_acc"): row[column] for column in columns}
        return Record(read_arch(check_plain(row["arch"], "arch")), accuracy)

    records = _records(rows, read)
    return Benchmark.from_records(
        name=f"vit-bench-101-{kind}",
        space=f"{kind}-vb101",
        spec=VIT_BENCH_SPEC,
        source=f"ViT-Bench-101 (Auto-Prox, arXiv 2312.09059), {kind}; imagenet_super is with inherited weights",
        tasks=_tasks(records),
        records=records,
    )


def _pit(arch: Mapping[str, Any]) -> Mapping[str, Any]:
    return arch  # has the genes of our space, by the same names


def _autoformer(arch: Mapping[str, Any]) -> Mapping[str, Any]:
    check_fields(arch, ("hidden_dim", "depth", "num_heads", "mlp_ratio"), ())
    _check_lengths(arch, "depth", ("num_heads", "mlp_ratio"))
    return {"embed_dim": arch["hidden_dim"], "num_heads": arch["num_heads"], "mlp_ratio": arch["mlp_ratio"]}


def _check_lengths(arch: Mapping[str, Any], depth: str, genes: tuple[str, ...]) -> None:
    """Refuse an architecture in which a gene does not have one value for each layer."""
    for gene in genes:
        if not isinstance(arch[gene], tuple) or len(arch[gene]) != arch[depth]:
            raise BenchmarkError(
                f"{gene} is {quoted(arch[gene])}, not one value for each layer of {depth} {quoted(arch[depth])}"
            )


def _ood_vit_nas(table: Mapping[str, Any]) -> Benchmark:
    """Return the benchmark in an OoD-ViT-NAS file: {"0": {"net_setting": .., "performance": .., "params": ..}, ..}."""
    space = _supernet(table.values())

    def read(entry: tuple[int, tuple[str, Any]]) -> Record:
        number, (key, row) = entry
        if key != str(number):
            raise BenchmarkError(f"its key is {quoted(key)}, not {number}: records are missing, or not in order")
        check_fields(row, ("net_setting", "performance"), ("params", "flops"))
        arch = _net_setting(check_plain(row["net_setting"], "net_setting"))
        params = check_number(row.get("params"), "params") * 1e6
        expected = space.params(space.from_json(arch), IMAGENET_SPEC)
        if abs(params - expected) >= 1:  # False where params is missing, hence NaN
            raise BenchmarkError(f"params is {row['params']} million, but the architecture has {expected / 1e6:.6f}")
        return Record(arch, dict(_performance(row["performance"])))

    records = _records(enumerate(table.items()), read)
    size = space.name.removeprefix("autoformer-")
    return Benchmark.from_records(
        name=f"ood-vit-nas-{size}",
        space=space.name,
        spec=IMAGENET_SPEC,
        source=f"OoD-ViT-NAS (arXiv 2501.03782), AutoFormer {size}, with inherited supernet weights",
        tasks=_tasks(records),
        records=records,
    )


def _supernet(rows: Iterable[Any]) -> AutoFormerSpace:
    """Return the supernet to whose choices most widths belong; the smallest in a tie."""
    supernets = (get_space(f"autoformer-{size}") for size in ("tiny", "small", "base"))
    spaces = [space for space in supernets if isinstance(space, AutoFormerSpace)]
    votes: Counter[str] = Counter()
    for row in rows:
        setting = row.get("net_setting") if isinstance(row, dict) else None
        widths = setting.get("embed_dim") if isinstance(setting, dict) else None
        if isinstance(widths, list) and widths:
            votes.update(space.name for space in spaces if widths[0] in space.embed_dims)
    return max(spaces, key=lambda space: votes[space.name])


def _net_setting(arch: Mapping[str, Any]) -> Mapping[str, Any]:
    check_fields(arch, ("layer_num", "embed_dim", "num_heads", "mlp_ratio"), ())
    _check_lengths(arch, "layer_num", ("embed_dim", "num_heads", "mlp_ratio"))
    if len(set(arch["embed_dim"])) != 1:
        raise BenchmarkError(f"embed_dim {quoted(arch['embed_dim'])} is not the same in every layer")
    return {"embed_dim": arch["embed_dim"][0], "num_heads": arch["num_heads"], "mlp_ratio": arch["mlp_ratio"]}


def _performance(performance: Any) -> Iterator[tuple[str, Any]]:
    """Yield the tasks of {dataset: {"clean": percent, "corruption": {kind: {severity: percent}}}}."""
    for dataset, found in check_fields(performance, (), performance).items():
        check_fields(found, ("clean",), ("corruption",))
        yield _slug(dataset), found["clean"]
        corruption = found.get("corruption", {})
        for kind, severities in check_fields(corruption, (), corruption).items():
            for severity, accuracy in check_fields(severities, (), severities).items():
                yield _slug(f"{dataset} c {kind} {severity}"), accuracy


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def _hytas(data: bytes, stem: str) -> Benchmark:
    """Return the benchmark in a HyTAS table; `stem`, the file's name, says of which scene."""
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

    def read(cells: list[str]) -> Record:
        if len(cells) != len(header):
            raise BenchmarkError(f"{len(cells)} cells for {len(header)} columns")
        row = dict(zip(header, cells, strict=True))
        arch = check_plain({name: parse_json(row.pop(name).encode()) for name in HYTAS_SETTINGS}, "the architecture")
        _check_lengths(arch, "layer_num", ("embed_dim", "num_heads", "mlp_ratio"))
        accuracy = check_number(_number(row.pop("OA")), "OA, a fraction,", 0, 1)
        percent = None if accuracy != accuracy else float(Decimal(repr(accuracy)).scaleb(2))
        return Record(arch, {"oa": percent}, {name: _number(cell) for name, cell in row.items()})

    return Benchmark.from_records(
        name="hytas-" + (_slug(stem.split("_")[0]) or "table")[:50],
        space=None,
        spec=None,
        source="HyTAS (arXiv 2407.16269), hyperspectral ViTs: overall accuracy, and proxies as published",
        tasks=("oa",),
        records=_records(rows, read),
    )


def _number(cell: str) -> float | str | None:
    """Return a cell as a number, as None when empty, and as it is when it is neither."""
    try:
        return float(cell) if cell.strip() else None
    except ValueError:
        return cell
