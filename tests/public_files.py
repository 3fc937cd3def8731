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


#: Models as timm's table has them: name, image size, top-1, params in millions.
TIMM_MODELS = [
    ("eva02_large_patch14_448.mim_m38m_ft_in22k_in1k", 448, 90.056, "305.08"),
    ("vit_giant_patch14_224.augreg_in1k", 224, 85.0, "1,012.65"),
    ("swin_tiny_patch4_window7_224.ms_in22k_ft_in1k", 224, 80.966, "28.29"),
    ("swin_tiny_patch4_window7_224.ms_in1k", 224, 81.388, "28.29"),
    ("vit_base_patch16_224.augreg_in1k", 224, 79.154, "86.57"),
    ("vit_base_patch16_224.sam_in1k", 224, 80.246, "86.57"),
    ("edgenext_small_rw.sw_in1k", 320, 80.452, "7.83"),
    ("edgenext_small_rw.sw_in1k", 256, 79.596, "7.83"),
    ("edgenext_small.usi_in1k", 256, 81.068, "5.59"),
    ("deit_tiny_distilled_patch16_224.fb_in1k", 224, 74.538, "5.91"),
    ("deit_tiny_patch16_224.fb_in1k", 224, 72.19, "5.72"),
    ("resnet50.a1_in1k", 224, 80.376, "25.56"),
    ("deit3_base_patch16_384.fb_in1k", 384, 85.088, "86.88"),
]


def timm_files(folder: Path) -> list[Path]:
    """timm's table, its ImageNet-V2 table and its benchmark, in a new folder; the first is the one to read."""
    folder.mkdir()
    head = ["model", "img_size", "top1", "top1_err", "top5", "top5_err", "param_count", "crop_pct", "interpolation"]
    rows = [
        [n, str(size), str(top1), "0", "90", "10", params, "0.9", "bicubic"] for n, size, top1, params in TIMM_MODELS
    ]
    v2 = [[*row[:2], str(float(row[2]) - 12), *row[3:], "1", "1", "+1"] for row in rows if "deit_tiny" not in row[0]]
    costs = [
        [n.partition(".")[0], str(size), f"{size / 100}", f"{size / 50}"]
        for n, size, _, _ in {name.partition(".")[0]: model for model in TIMM_MODELS for name in model[:1]}.values()
    ]
    return [
        write_csv(folder / "results-imagenet.csv", rows, head),
        write_csv(
            folder / "results-imagenetv2-matched-frequency.csv", v2, [*head, "top1_diff", "top5_diff", "rank_diff"]
        ),
        write_csv(
            folder / "benchmark-infer-amp-nchw-pt291-cu128-4090.csv",
            costs,
            ["model", "infer_img_size", "infer_gmacs", "infer_macts"],
        ),
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
