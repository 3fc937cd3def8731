"""Reader of FlexiBERT's benchmark, `BERT_benchmark.json` (Serianni and Kalita, arXiv 2305.16836): text transformers.

The 500 networks were drawn from FlexiBERT's space (Tuli et al., arXiv 2205.11656) and trained from scratch as ELECTRA;
the figures are CC BY 4.0. The tasks are `glue`, the mean of eight, and those eight. `cola` is a correlation c in
percent, which may be negative, and stands as 50 + c / 2; all others are as published. Nine architectures were drawn and
trained twice: they stand once, with the means of their accuracies and proxies. So there are 491.

Where `BERT_results_activation.csv` lies beside the file, its proxies are the columns, as published: an empty cell is
missing. Networks have 2 or 4 layers, and this alone explains most of the accuracies: the depth is a group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from autoprox.bench_cache.benchmarks.readers.record import (
    Content,
    Reader,
    csv_cells,
    csv_number,
    csv_row,
    read_records,
    slug,
    tasks_of,
)
from autoprox.bench_cache.benchmarks.record import Record
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.runtime.checks import BenchmarkError, check_fields, check_number, parse_json, quoted

#: The file with the proxies, which is read if it lies beside the accuracies.
PROXIES = "BERT_results_activation.csv"
#: Its column of what the other file has too.
_GLUE = "GLUE Score"
_PARAMS = "Number of Parameters"
_LAYER = ("operation_type", "operation_parameter", "num_operation_heads", "feed_forward_dimension", "num_feed_forward")


def _recognises(content: Content) -> bool:
    return content.data.lstrip()[:1] == b"[" and b'"nas_config"' in content.data and b'"glue"' in content.data


def _read(content: Content) -> Benchmark:
    """Return the benchmark in a file of [{"id": .., "scores": {task: percent}, "hparams": {..}}, ..]."""
    rows = parse_json(content.data)
    proxies = _proxies(content.beside(PROXIES))

    def read_row(row: Any) -> Record:
        check_fields(row, ("id", "scores", "hparams"), row)
        arch = _arch(row["hparams"])
        scores = check_fields(row["scores"], (), row["scores"])
        accuracy = {"glue": scores.get("glue")} | {slug(task): score for task, score in scores.items()}
        if accuracy.get("cola") is not None:
            accuracy["cola"] = 50 + check_number(accuracy["cola"], "cola", -100, 100) / 2
        columns = proxies.get(str(row["id"]), {}) if proxies else {}
        if proxies and not columns:
            raise BenchmarkError(f"{PROXIES} has no line with the ID {quoted(row['id'])}")
        return Record(arch, accuracy, columns, groups={"depth": str(arch["layer_num"])})

    records = _distinct(read_records(rows, read_row))
    return Benchmark.from_records(
        name="flexibert",
        space=None,
        spec=None,
        source="FlexiBERT text transformers on GLUE (arXiv 2305.16836, CC BY 4.0), and proxies as published",
        tasks=tasks_of(records),
        records=records,
    )


def _distinct(records: Sequence[Record]) -> list[Record]:
    """Return one record for each architecture, with the means over its records."""
    by_arch: dict[str, list[Record]] = {}
    for record in records:
        by_arch.setdefault(repr(record.arch), []).append(record)
    return [same[0] if len(same) == 1 else _mean(same) for same in by_arch.values()]


def _mean(records: Sequence[Record]) -> Record:
    first = records[0]
    accuracy = {task: _mean_of([record.accuracy.get(task) for record in records]) for task in first.accuracy}
    columns = {name: _mean_of([record.columns.get(name) for record in records]) for name in first.columns}
    return Record(first.arch, accuracy, columns, groups=first.groups)


def _mean_of(values: Sequence[Any]) -> float | None:
    """Return the mean of the numbers that are not missing; refuse what is no number."""
    numbers = [check_number(value, "a value of a network that stands twice") for value in values if value is not None]
    return fmean(numbers) if numbers else None


def _arch(settings: Any) -> dict[str, Any]:
    """Return an architecture's settings: its depth and width, and one value a layer of each other."""
    overrides = check_fields(settings, ("model_hparam_overrides",), settings)["model_hparam_overrides"]
    check_fields(overrides, ("hidden_size", "nas_config"), ())
    layers = check_fields(overrides["nas_config"], ("encoder_layers",), ())["encoder_layers"]
    if not isinstance(layers, list) or not layers:
        raise BenchmarkError(f"encoder_layers is {quoted(layers)}, not a list with an object for each layer")
    for layer in layers:
        check_fields(layer, _LAYER, ())
    of_layers = {name: tuple(layer[name] for layer in layers) for name in _LAYER}
    return {"layer_num": len(layers), "embed_dim": overrides["hidden_size"], **of_layers}


def _proxies(data: bytes | None) -> Mapping[str, Mapping[str, Any]]:
    """Return the columns of each network by its ID; empty without a table."""
    if data is None:
        return {}
    header, rows = csv_cells(data, ("ID", _GLUE, _PARAMS))
    found = {}
    for row in (csv_row(header, cells) for cells in rows):
        columns = {"params": csv_number(row.pop(_PARAMS))}
        name, _ = row.pop("ID"), row.pop(_GLUE)
        found[name] = columns | {slug(proxy): csv_number(cell) for proxy, cell in row.items()}
    return found


READER = Reader("JSON of FlexiBERT, BERT_benchmark.json", _recognises, _read)
