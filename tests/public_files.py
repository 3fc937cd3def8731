"""Files as the public benchmarks have them, made here, and those of the reference data."""

import csv
import json
from pathlib import Path
from random import Random

import pytest
import torch
from places import DATA

from autoprox.bench_cache.benchmarks.readers import read_benchmark
from autoprox.bench_cache.benchmarks.readers.ood_vit_nas import IMAGENET_SPEC
from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.bench_cache.spaces.registry import get_space


def reference(*parts: str) -> Path:
    """A file of the reference data, or a skip."""
    path = DATA.joinpath(*parts)
    if not path.is_file():
        pytest.skip(f"no reference data at {path}")
    return path


def vit_bench_rows(kind: str = "autoformer", count: int = 5) -> list[dict]:
    """Records as ViT-Bench-101 has them."""
    space, rng, rows = get_space(f"{kind}-vb101"), Random(3), []
    for number in range(count):
        genes = space.to_json(space.sample(rng))
        if kind == "autoformer":
            genes = {"hidden_dim": genes.pop("embed_dim"), "depth": len(genes["num_heads"]), **genes}
        rows.append({"arch": genes, "c100_kd_acc": 70.1 + number, "flower_base_acc": None if number == 2 else 50})
    return rows


def ood_table(size: str = "tiny", count: int = 5) -> dict[str, dict]:
    """Records as OoD-ViT-NAS has them."""
    space, rng, table = get_space(f"autoformer-{size}"), Random(3), {}
    for number in range(count):
        arch = space.sample(rng)
        genes = space.to_json(arch)
        depth = len(genes["num_heads"])
        setting = {"layer_num": depth, **genes, "embed_dim": [genes["embed_dim"]] * depth}
        clean = {"clean": 75.0 + number / 7}
        if number == 1:
            clean["corruption"] = {"Gaussian Noise": {"1": 65.5}}
        params = space.params(arch, IMAGENET_SPEC) / 1e6
        table[str(number)] = {
            "net_setting": setting,
            "performance": {"Imagenet": clean},
            "params": params,
            "flops": 1500.0,
        }
    return table


HEADER = ["layer_num", "embed_dim", "num_heads", "mlp_ratio", "snip", "OA", "flops", "m_size"]


def hytas_rows(count: int = 5) -> list[list[str]]:
    """Rows as HyTAS has them, below `HEADER`."""
    return [
        [str(n), str([48] * n), str([3] * n), str([1] * (n - 1) + [2]), f"{n / 3}", f"0.80{n}7", f"{n}000", f"{n}00"]
        for n in range(2, count + 2)
    ]


def write_pth(path: Path, rows: object) -> Path:
    torch.save(rows, path)
    return path


def write_json(path: Path, table: object) -> Path:
    path.write_text(json.dumps(table), encoding="utf-8")
    return path


def write_csv(path: Path, rows: list[list[str]], header: list[str] = HEADER) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
    return path


def refused(path: Path, message: str) -> None:
    """The file is refused in one short line that names it."""
    with pytest.raises(BenchmarkError, match=message) as caught:
        read_benchmark(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 400
