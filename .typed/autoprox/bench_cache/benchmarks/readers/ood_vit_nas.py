"""Reader of OoD-ViT-NAS (arXiv 2501.03782): JSON with one numbered object for each architecture.

The task `imagenet` is the clean top-1 accuracy. Each entry of ImageNet-C becomes a task of its own, such as
`imagenet_c_gaussian_noise_1` for severity 1; it is missing in records that lack it. The space is the AutoFormer
supernet that most of the widths belong to. `params` must be that of the architecture. `flops` is not used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from autoprox.bench_cache.benchmarks.readers.record import (
    Content,
    Reader,
    check_lengths,
    read_records,
    slug,
    tasks_of,
)
from autoprox.bench_cache.benchmarks.record import Record
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.runtime.checks import BenchmarkError, check_fields, check_number, check_plain, quoted
from autoprox.bench_cache.spaces.autoformer import AutoFormerSpace
from autoprox.bench_cache.spaces.registry import InputSpec, get_space

IMAGENET_SPEC = InputSpec(image_size=224, in_channels=3, num_classes=1000)


def _recognises(content: Content) -> bool:
    return any(isinstance(row, dict) and "net_setting" in row for row in content.json.values())


def _read(content: Content) -> Benchmark:
    """Return the benchmark in a file of {"0": {"net_setting": .., "performance": .., "params": ..}, ..}."""
    space = _supernet(content.json.values())

    def read_entry(entry: tuple[int, tuple[str, Any]]) -> Record:
        number, (key, row) = entry
        if key != str(number):
            raise BenchmarkError(f"its key is {quoted(key)}, not {number}: records are missing, or not in order")
        check_fields(row, ("net_setting", "performance"), ("params", "flops"))
        arch = _genes(check_plain(row["net_setting"], "net_setting"))
        params = check_number(row.get("params"), "params") * 1e6
        expected = space.params(space.from_json(arch), IMAGENET_SPEC)
        if abs(params - expected) >= 1:  # False where params is missing, hence NaN
            raise BenchmarkError(f"params is {row['params']} million, but the architecture has {expected / 1e6:.6f}")
        return Record(arch, dict(_accuracies(row["performance"])))

    records = read_records(enumerate(content.json.items()), read_entry)
    size = space.name.removeprefix("autoformer-")
    return Benchmark.from_records(
        name=f"ood-vit-nas-{size}",
        space=space.name,
        spec=IMAGENET_SPEC,
        source=f"OoD-ViT-NAS (arXiv 2501.03782), AutoFormer {size}, with inherited supernet weights",
        tasks=tasks_of(records),
        records=records,
    )


def _supernet(rows: Iterable[Any]) -> AutoFormerSpace:
    """Return the supernet that most widths belong to; in a tie, the smallest."""
    supernets = (get_space(f"autoformer-{size}") for size in ("tiny", "small", "base"))
    spaces = [space for space in supernets if isinstance(space, AutoFormerSpace)]
    votes: Counter[str] = Counter()
    for row in rows:
        setting = row.get("net_setting") if isinstance(row, dict) else None
        widths = setting.get("embed_dim") if isinstance(setting, dict) else None
        if isinstance(widths, list) and widths:
            votes.update(space.name for space in spaces if widths[0] in space.embed_dims)
    return max(spaces, key=lambda space: votes[space.name])


def _genes(setting: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the genes of our space that a `net_setting` stands for."""
    check_fields(setting, ("layer_num", "embed_dim", "num_heads", "mlp_ratio"), ())
    check_lengths(setting, "layer_num", ("embed_dim", "num_heads", "mlp_ratio"))
    if len(set(setting["embed_dim"])) != 1:
        raise BenchmarkError(f"embed_dim {quoted(setting['embed_dim'])} is not the same in every layer")
    return {"embed_dim": setting["embed_dim"][0], "num_heads": setting["num_heads"], "mlp_ratio": setting["mlp_ratio"]}


def _accuracies(performance: Any) -> Iterator[tuple[str, Any]]:
    """Yield (task, percent) from {dataset: {"clean": percent, "corruption": {kind: {severity: percent}}}}."""
    for dataset, found in check_fields(performance, (), performance).items():
        check_fields(found, ("clean",), ("corruption",))
        yield slug(dataset), found["clean"]
        corruption = found.get("corruption", {})
        for kind, severities in check_fields(corruption, (), corruption).items():
            for severity, accuracy in check_fields(severities, (), severities).items():
                yield slug(f"{dataset} c {kind} {severity}"), accuracy


READER = Reader('JSON of OoD-ViT-NAS, with "net_setting"', _recognises, _read)
