"""timm's result table as a benchmark: which models are in it, and which of several recipes and image sizes."""

import json
from pathlib import Path

import numpy as np
import pytest
from public_files import reference, refused, timm_files

from autoprox.bench_cache.benchmarks.readers import read_benchmark
from autoprox.bench_cache.benchmarks.readers.timm_in1k import family_of, on_imagenet_1k_alone
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.spaces.registry import get_space


def test_one_row_a_network_with_the_best_recipe_at_the_smaller_image(tmp_path: Path) -> None:
    benchmark = read_benchmark(timm_files(tmp_path / "made")[0])
    assert (benchmark.name, benchmark.space) == ("timm-in1k", "timm")
    found = {
        arch.name: (arch.img_size, top1)
        for arch, top1 in zip(benchmark.architectures, benchmark.tasks["imagenet"], strict=True)
    }
    assert found == {
        "deit_tiny_patch16_224": (224, 72.19),
        "edgenext_small_rw": (256, 79.596),
        "swin_tiny_patch4_window7_224": (224, 81.388),
        "vit_base_patch16_224": (224, 80.246),
    }
    assert list(found) == [
        "deit_tiny_patch16_224",
        "edgenext_small_rw",
        "swin_tiny_patch4_window7_224",
        "vit_base_patch16_224",
    ]  # the smallest first
    v2 = dict(zip(found, benchmark.tasks["imagenet_v2"], strict=True))
    assert v2["vit_base_patch16_224"] == 80.246 - 12  # of the same weights
    assert np.isnan(v2["deit_tiny_patch16_224"])


def test_sizes_are_those_of_the_tables_and_need_no_network(tmp_path: Path) -> None:
    files = timm_files(tmp_path / "made")
    benchmark = read_benchmark(files[0])
    assert list(benchmark.structure()) == ["params", "flops", "activations"]
    assert benchmark.structure()["params"].tolist() == [5.72e6, 7.83e6, 28.29e6, 86.57e6]
    assert benchmark.columns["flops"][0] == 2.24e9
    assert benchmark.columns["activations"][0] == 4.48e6
    assert Benchmark.from_bytes(benchmark.to_bytes()).to_bytes() == benchmark.to_bytes()


def test_the_table_alone_will_do(tmp_path: Path) -> None:
    path, *others = timm_files(tmp_path / "made")
    for other in others:
        other.unlink()
    benchmark = read_benchmark(path)
    assert list(benchmark.tasks) == ["imagenet"]
    assert list(benchmark.columns) == ["params"]


def test_a_wrong_number_is_named(tmp_path: Path) -> None:
    path = timm_files(tmp_path / "made")[0]
    text = path.read_text()
    path.write_text(text.replace(",28.29,", ",many,"))
    refused(path, r"param_count of swin_tiny_patch4_window7_224.ms_in1k is 'many', not a number")
    path.write_text(text.replace(",80.246,", ",many,"))
    refused(path, r"top1 of vit_base_patch16_224.sam_in1k is 'many', not a number")
    path.write_text("\n".join(text.splitlines()[:3]) + "\n")
    refused(path, "no model in the table is a transformer or token mixer trained on ImageNet-1k alone")


@pytest.mark.parametrize(
    ("model", "alone"),
    [
        ("deit_tiny_patch16_224.fb_in1k", True),
        ("pvt_v2_b0.in1k", True),
        ("swin_tiny_patch4_window7_224.ms_in22k_ft_in1k", False),
        ("hiera_tiny_224.mae_in1k_ft_in1k", False),
        ("xcit_nano_12_p8_224.fb_dist_in1k", False),
        ("volo_d1_224.sail_in1k", False),
        ("caformer_s18.sail_in1k", True),
        ("flexivit_small.300ep_in1k", False),
        ("nextvit_small.bd_ssld_6m_in1k", False),
        ("nextvit_small.bd_in1k", True),
        ("vit_base_patch16_224", False),
    ],
)
def test_the_tag_says_what_a_model_was_trained_on(model: str, alone: bool) -> None:
    assert on_imagenet_1k_alone(model) == alone


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("deit3_small_patch16_224", "deit3"),
        ("deit_small_patch16_224", "deit"),
        ("swin_s3_tiny_224", "swin_s3"),
        ("swinv2_cr_small_224", "swinv2_cr"),
        ("efficientvit_m0", "efficientvit_m"),
        ("efficientvit_b1", "efficientvit"),
        ("vit_relpos_small_patch16_224", "vit_relpos"),
        ("vit_medium_patch16_rope_reg1_gap_256", "vit_rope"),
        ("vit_wee_patch16_reg1_gap_256", "vit_reg"),
        ("vit_small_patch16_224", "vit"),
        ("resnet50", None),
        ("convnext_tiny", None),
        ("test_vit", None),
    ],
)
def test_families(name: str, family: str | None) -> None:
    assert family_of(name) == family


def test_the_reference_data() -> None:
    benchmark = read_benchmark(reference("timm", "results-imagenet.csv"))
    assert len(benchmark) == 219
    for values in (*benchmark.tasks.values(), *benchmark.columns.values()):
        assert not np.isnan(values).any()
    published = reference("timm", "transformers-top1-by-recipe.csv").read_text().splitlines()[1:]
    rows = [line.split(",") for line in published]
    by_name = {arch.name: place for place, arch in enumerate(benchmark.architectures)}
    same = [row for row in rows if row[2] == "in1k" and row[0].partition(".")[0] in by_name]
    assert len(same) > 110
    for row in same:
        place = by_name[row[0].partition(".")[0]]
        assert benchmark.tasks["imagenet"][place] >= float(row[7])  # a better recipe may stand in its place
        if row[5]:  # counted with another version of timm
            assert benchmark.columns["flops"][place] == pytest.approx(float(row[5]) * 1e9, rel=0.02)


def test_architectures_are_names_with_a_size() -> None:
    space = get_space("timm")
    arch = space.from_json({"name": "deit_tiny_patch16_224", "img_size": 224})
    assert json.loads(json.dumps(space.to_json(arch))) == {"name": "deit_tiny_patch16_224", "img_size": 224}
    assert space.key(arch) == "timm:deit_tiny_patch16_224@224"
