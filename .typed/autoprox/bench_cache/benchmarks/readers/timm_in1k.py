"""Reader of timm's result table, `results-imagenet.csv`: transformers and token mixers trained on ImageNet-1k alone.

timm is pytorch-image-models of Ross Wightman and Hugging Face (Apache-2.0). A model is called `architecture.tag`; the
tag says how its weights were trained. What is read:

- Families: those of `FAMILIES`, whose blocks mix tokens and then widen and narrow each one. Convolutional networks are
  left out, and so are residual networks with a few attention layers.
- Training: tags that end in `in1k` and that name no other data, teacher or self-supervision (`_OTHER_DATA`). Tags that
  do not name their teacher are listed with it (`_TEACHERS`).
- Input: images of at most `LARGEST` px, so that a network stands for itself and not for its resolution. 290 names stand
  in the table twice; the smaller image is that of training.
- One row a network, the smallest network first: of several recipes that remain, the one with the highest top-1.

The tasks are `imagenet` (top-1 in percent) and, where `results-imagenetv2-matched-frequency.csv` lies beside the file,
`imagenet_v2` of the same weights. The groups are families, size bands and recipes (the tags). The columns are params,
and FLOPs (multiply-adds) and activations where timm's benchmark `BENCHMARK` lies beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from autoprox.bench_cache.benchmarks.readers.record import (
    Content,
    Reader,
    csv_cells,
    csv_number,
    csv_row,
    read_records,
)
from autoprox.bench_cache.benchmarks.record import Record
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.runtime.checks import BenchmarkError, check_number
from autoprox.bench_cache.spaces.registry import InputSpec

#: The other files of timm's folder `results` that are read if they lie beside `results-imagenet.csv`.
IMAGENET_V2 = "results-imagenetv2-matched-frequency.csv"
BENCHMARK = "benchmark-infer-amp-nchw-pt291-cu128-4090.csv"
#: The largest image, in pixels.
LARGEST = 256

#: Where size bands end, in millions of parameters.
BANDS = (8, 15, 32, 70)

_HEADER = b"model,img_size,top1,top1_err,top5,top5_err,param_count,crop_pct,interpolation"
_OTHER_DATA = re.compile("21k|22k|12k|clip|mim|dino|mae|ft|dist")
#: Recipes with a teacher that the tag does not name: pattern of the whole name → the teacher.
_TEACHERS: Mapping[str, str] = {
    r"volo_.*\.sail_in1k": "token labels of another network (arXiv 2106.13112)",
    r"flexivit_.*ep_in1k": "a ViT-B/8 trained on ImageNet-21k (arXiv 2212.08013)",
    r".*\.usi_in1k": "knowledge distillation (arXiv 2204.03475)",
    r".*ssld.*": "semi-supervised distillation (arXiv 2103.05959)",
    r".*_distilled_.*": "a distillation token (arXiv 2012.12877)",
}
#: Pattern of the architecture's name → family; the first that fits counts.
FAMILIES: Mapping[str, str] = {
    r"(caformer|convformer|poolformer|poolformerv2|coat|convit|crossvit|davit|deit3|deit|edgenext|fastvit)_.*": r"\1",
    r"(focalnet|gcvit|gmixer|gmlp|mobilevit|mobilevitv2|mvitv2|nest|nextvit|pit|pvt_v2|sequencer2d|shvit)_.*": r"\1",
    r"(swin_s3|swinv2_cr|swinv2|swin|tiny_vit|tnt|twins|visformer|xcit)_.*": r"\1",
    r"(efficientvit_m)\d": r"\1",
    r"(coatnet|coatnext)_.*": "coatnet",
    r"efficientvit_[bl]\d": "efficientvit",
    r"max(x?)vit(v2)?_.*": "maxvit",
    r"vit_s?relpos_.*": "vit_relpos",
    r"vit_.*_rope_.*": "vit_rope",
    r"vit_.*_reg\d_gap_.*": "vit_reg",
    r"vit_(tiny|small|base|large)_.*": "vit",
}


def _recognises(content: Content) -> bool:
    return content.data.split(b"\n", 1)[0].rstrip(b"\r") == _HEADER


def _read(content: Content) -> Benchmark:
    """Return the benchmark `timm-in1k` in timm's result table and the files beside it."""
    header, rows = csv_cells(content.data, ())
    best = _best(csv_row(header, cells) for cells in rows)
    v2 = _by_model(content.beside(IMAGENET_V2), "img_size", "top1")
    costs = _by_model(content.beside(BENCHMARK), "infer_img_size", "infer_gmacs", "infer_macts")
    tasks = ("imagenet", "imagenet_v2") if v2 else ("imagenet",)

    def read_row(row: Mapping[str, str]) -> Record:
        architecture, size = row["model"].partition(".")[0], _size(row)
        accuracy = {"imagenet": csv_number(row["top1"])}
        if v2:
            accuracy["imagenet_v2"] = v2.get((row["model"], size), (None,))[0]
        columns: dict[str, Any] = {"params": _params(row)}
        if costs:
            gmacs, macts = costs.get((architecture, size), (None, None))
            columns |= {"flops": _scaled(gmacs, 1e9, "infer_gmacs"), "activations": _scaled(macts, 1e6, "infer_macts")}
        tag = row["model"].partition(".")[2]
        groups = {"family": family_of(architecture), "size": _band(columns["params"]), "recipe": tag}
        return Record({"name": architecture, "img_size": size}, accuracy, columns, groups=groups)

    return Benchmark.from_records(
        name="timm-in1k",
        space="timm",
        spec=InputSpec(image_size=224, in_channels=3, num_classes=1000),
        source="timm (pytorch-image-models, Apache-2.0), results: transformers and token mixers on ImageNet-1k alone",
        tasks=tasks,
        records=read_records(best, read_row),
    )


def _band(params: float) -> str:
    """Return the size band of a network, such as `8-15M`."""
    below = [0, *(band for band in BANDS if band * 1e6 <= params)][-1]
    above = next((band for band in BANDS if band * 1e6 > params), None)
    return f"{below}-{above}M" if above else f"{below}M-"


def family_of(architecture: str) -> str | None:
    """Return the family of an architecture of timm; None for one that is no transformer and no token mixer."""
    for pattern, family in FAMILIES.items():
        if found := re.fullmatch(pattern, architecture):
            return found.expand(family)
    return None


def on_imagenet_1k_alone(model: str) -> bool:
    """Tell whether a model's weights, by its name `architecture.tag`, come from ImageNet-1k's labels alone."""
    tag = model.partition(".")[2]
    by_name = tag.endswith("in1k") and not _OTHER_DATA.search(tag)
    return by_name and not any(re.fullmatch(pattern, model) for pattern in _TEACHERS)


def _best(rows: Iterator[dict[str, str]]) -> list[dict[str, str]]:
    """Return one row for each network: the smallest image, and of these the recipe with the highest top-1."""
    chosen: dict[str, dict[str, str]] = {}
    for row in rows:
        name = row["model"].partition(".")[0]
        if family_of(name) is None or not on_imagenet_1k_alone(row["model"]) or _size(row) > LARGEST:
            continue
        if name not in chosen or _order(row) < _order(chosen[name]):
            chosen[name] = row
    if not chosen:
        raise BenchmarkError("no model in the table is a transformer or token mixer trained on ImageNet-1k alone")
    return sorted(chosen.values(), key=lambda row: (_params(row), row["model"]))


def _order(row: Mapping[str, str]) -> tuple[int, float]:
    return _size(row), -check_number(csv_number(row["top1"]), f"top1 of {row['model']}", 0, 100)


def _size(row: Mapping[str, str], column: str = "img_size") -> int:
    return int(check_number(csv_number(row[column]), f"{column} of {row['model']}", 1, 4096))


def _by_model(data: bytes | None, size: str, *values: str) -> dict[tuple[str, int], tuple[float | str | None, ...]]:
    """Return the numbers of a table by model and image size, which stands in the column `size`; empty without data."""
    if data is None:
        return {}
    header, rows = csv_cells(data, ("model", size, *values))
    found = {}
    for row in (csv_row(header, cells) for cells in rows):
        found[row["model"], _size(row, size)] = tuple(csv_number(row[value]) for value in values)
    return found


def _params(row: Mapping[str, str]) -> float:
    """Return the number of parameters; the table has millions, with a comma from a thousand on."""
    millions = check_number(csv_number(row["param_count"].replace(",", "")), f"param_count of {row['model']}", 0)
    return float(round(millions * 1e6))


def _scaled(value: float | str | None, factor: float, what: str) -> float | None:
    """Return a number of timm's benchmark in units of one; None where it is missing."""
    return None if value is None else float(round(check_number(value, what, 0) * factor))


READER = Reader("CSV of timm, results-imagenet.csv", _recognises, _read)
