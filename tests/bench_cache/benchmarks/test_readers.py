"""Readers of public files: exact where the file is good; where it is not, a reason and a record number."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from public_files import (
    HEADER,
    hytas_rows,
    ood_table,
    reference,
    refused,
    vit_bench_rows,
    write_csv,
    write_json,
    write_pth,
)

from autoprox.bench_cache.benchmarks.readers import read_benchmark
from autoprox.bench_cache.benchmarks.readers.hytas import HYTAS_SETTINGS
from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.bench_cache.spaces.registry import get_space


@pytest.mark.parametrize("kind", ["autoformer", "pit"])
def test_vit_bench_101(tmp_path: Path, kind: str) -> None:
    benchmark = read_benchmark(write_pth(tmp_path / "any.bin", vit_bench_rows(kind)))
    assert (benchmark.name, benchmark.space) == (f"vit-bench-101-{kind}", f"{kind}-vb101")
    assert benchmark.spec is not None
    assert (benchmark.spec.image_size, benchmark.spec.num_classes) == (224, 100)
    assert benchmark.tasks["c100_kd"].tolist() == [70.1 + n for n in range(5)]
    assert np.isnan(benchmark.tasks["flower_base"]).tolist() == [False, False, True, False, False]
    assert np.nanmin(benchmark.tasks["flower_base"]) == 50


@pytest.mark.parametrize("size", ["tiny", "small", "base"])
def test_ood_vit_nas(tmp_path: Path, size: str) -> None:
    benchmark = read_benchmark(write_json(tmp_path / "any.txt", ood_table(size)))
    assert (benchmark.name, benchmark.space) == (f"ood-vit-nas-{size}", f"autoformer-{size}")
    assert list(benchmark.tasks) == ["imagenet", "imagenet_c_gaussian_noise_1"]
    assert benchmark.tasks["imagenet"].tolist() == [75.0 + n / 7 for n in range(5)]
    assert np.isnan(benchmark.tasks["imagenet_c_gaussian_noise_1"]).tolist() == [True, False, True, True, True]
    assert benchmark.tasks["imagenet_c_gaussian_noise_1"][1] == 65.5


def test_hytas(tmp_path: Path) -> None:
    benchmark = read_benchmark(write_csv(tmp_path / "indian_2000_new_all.csv", hytas_rows()))
    assert (benchmark.name, benchmark.space, benchmark.spec) == ("hytas-indian", None, None)
    assert benchmark.tasks["oa"].tolist() == [80.27, 80.37, 80.47, 80.57, 80.67]  # exact, where 100 × .8057 is not
    assert list(benchmark.columns) == ["snip", "flops", "m_size"]
    assert benchmark.columns["snip"].tolist() == [n / 3 for n in range(2, 7)]
    assert dict(benchmark.architectures[1]) == {
        "layer_num": 3,
        "embed_dim": (48, 48, 48),
        "num_heads": (3, 3, 3),
        "mlp_ratio": (1, 1, 2),
    }
    structure = {fact: values.tolist() for fact, values in benchmark.structure().items()}
    assert structure["params"] == [200, 300, 400, 500, 600]
    assert structure["depth"] == [2, 3, 4, 5, 6]
    assert structure["width"] == [48] * 5


def test_hytas_with_heads_that_do_not_divide_the_width(tmp_path: Path) -> None:
    """As in 87 % of its rows: the table is read, and nothing is built."""
    rows = hytas_rows()
    odd = [[row[0], row[1], str([5] * int(row[0])), *row[3:]] for row in rows]
    read = [read_benchmark(write_csv(tmp_path / f"{name}.csv", each)) for name, each in (("a", rows), ("b", odd))]
    assert np.array_equal(read[0].tasks["oa"], read[1].tasks["oa"])
    assert read[1].space is None


def test_an_empty_cell_is_missing_and_a_byte_order_mark_is_no_matter(tmp_path: Path) -> None:
    rows = hytas_rows()
    rows[1][HEADER.index("OA")] = rows[2][HEADER.index("snip")] = ""
    path = write_csv(tmp_path / "x.csv", rows)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    benchmark = read_benchmark(path)
    assert np.isnan(benchmark.tasks["oa"]).tolist() == [False, True, False, False, False]
    assert np.isnan(benchmark.columns["snip"]).tolist() == [False, False, True, False, False]


def test_a_name_can_be_given_and_our_own_format_is_read(tmp_path: Path) -> None:
    benchmark = read_benchmark(write_csv(tmp_path / "x.csv", hytas_rows()), name="mine")
    benchmark.save(tmp_path / "mine.pth")
    again = read_benchmark(tmp_path / "mine.pth")
    assert again.name == "mine"
    assert again.to_bytes() == benchmark.to_bytes()
    with pytest.raises(BenchmarkError, match="cannot be the name"):
        read_benchmark(tmp_path / "mine.pth", name="../mine")


@pytest.mark.parametrize("name", ["autoformer", "pit"])
def test_public_vit_bench_101_keeps_every_accuracy(name: str) -> None:
    path = reference("vit-bench-101", f"gt_{name}.pth")
    rows, benchmark = torch.load(path, weights_only=True), read_benchmark(path)
    assert {f"{task}_acc" for task in benchmark.tasks} == set(rows[0]) - {"arch"}
    for task, values in benchmark.tasks.items():
        assert values.tolist() == [row[f"{task}_acc"] for row in rows]
    genes = [get_space(str(benchmark.space)).to_json(arch) for arch in benchmark.architectures]
    assert [gene["num_heads"] for gene in genes] == [row["arch"]["num_heads"] for row in rows]
    assert [gene["mlp_ratio"] for gene in genes] == [row["arch"]["mlp_ratio"] for row in rows]


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_public_ood_vit_nas_keeps_every_accuracy_and_size(size: str) -> None:
    path = reference("ood-vit-nas", f"{size}.json")
    rows, benchmark = list(json.loads(path.read_text()).values()), read_benchmark(path)
    assert benchmark.space == f"autoformer-{size}"
    assert benchmark.tasks["imagenet"].tolist() == [row["performance"]["Imagenet"]["clean"] for row in rows]
    assert (benchmark.structure()["params"] / 1e6).tolist() == [row["params"] for row in rows]


@pytest.mark.parametrize("scene", ["indian", "houston", "ksc"])
def test_public_hytas_keeps_every_number(scene: str) -> None:
    path = reference("hytas", f"{scene}.csv")
    benchmark = read_benchmark(path)
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    assert benchmark.name == f"hytas-{scene}"
    assert benchmark.tasks["oa"].tolist() == pytest.approx([100 * float(row["OA"]) for row in rows], rel=1e-15)
    assert set(benchmark.columns) == set(rows[0]) - {*HYTAS_SETTINGS, "OA"}
    for column, values in benchmark.columns.items():
        assert values.tolist() == [float(row[column]) for row in rows]
    counted = [_m_size(arch) for arch in benchmark.architectures]
    fixed = np.unique(benchmark.columns["m_size"] - counted - 1541 * benchmark.structure()["width"])
    assert len(fixed) <= 12, "what the docstring of hytas says of m_size: the rest depends on width and classes alone"


def _m_size(arch: dict) -> float:
    depth, width = arch["layer_num"], arch["embed_dim"][0]
    heads, ratios = sum(arch["num_heads"]), sum(arch["mlp_ratio"])
    return depth * (256 * width * heads + 192 * heads + 5 * width * ratios + 10 * width + 7680)


# Bad files. Each entry changes one good value, and the error must name the record and the reason.


def change(rows: list | dict, record: int | str, *path: str | int, to: object) -> object:
    """Set a value deep in a record."""
    place = rows[record]
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return rows


BAD_VIT_BENCH: dict[str, tuple[Callable[[list], object], str]] = {
    "nan": (lambda r: change(r, 3, "c100_kd_acc", to=float("nan")), "record 3: c100_kd is nan, not a finite"),
    "inf": (lambda r: change(r, 3, "c100_kd_acc", to=float("inf")), "record 3: c100_kd is inf, not a finite"),
    "above": (lambda r: change(r, 1, "c100_kd_acc", to=7010), "record 1: c100_kd is 7010, not in"),
    "huge": (lambda r: change(r, 1, "c100_kd_acc", to=10**400), "record 1: c100_kd is 1000"),
    "words": (lambda r: change(r, 1, "c100_kd_acc", to="70"), "record 1: c100_kd is '70', not a number"),
    "true": (lambda r: change(r, 1, "c100_kd_acc", to=True), "record 1: c100_kd is True, not a number"),
    "list": (lambda r: change(r, 1, "c100_kd_acc", to=[[[[70]]]]), "record 1: c100_kd is"),
    "width": (lambda r: change(r, 4, "arch", "hidden_dim", to=200), "record 4: autoformer-vb101: embed_dim 200 is not"),
    "heads": (lambda r: change(r, 4, "arch", "num_heads", 2, to=5), r"record 4: autoformer-vb101: num_heads\[2\] 5 is"),
    "depth": (lambda r: change(r, 4, "arch", "depth", to=11), "record 4: num_heads is .* not one value for each layer"),
    "nested": (lambda r: change(r, 4, "arch", "num_heads", to=[[[]]]), "record 4: num_heads of arch is"),
    "gene": (lambda r: change(r, 4, "arch", "dropout", to=0.1), "record 4: unknown field 'dropout'"),
    "field": (lambda r: change(r, 4, "c100_kd", to=0.1), "record 4: unknown field 'c100_kd'"),
    "key": (lambda r: change(r, 4, 7, to=0.1), "record 4: unknown field 7"),
    "no arch": (lambda r: [*r[:2], {"c100_kd_acc": 70.0}], "record 2: field arch is missing"),
    "no dict": (lambda r: [*r[:2], ["arch"]], "record 2: expected an object"),
    "twice": (lambda r: [*r, r[1]], "record 5: the same architecture as record 1"),
    "pit among": (lambda r: [*r, *vit_bench_rows("pit", 1)], "record 5: field hidden_dim is missing"),
    "empty": (lambda r: [], "expected a list of records"),
    "dict": (lambda r: dict(enumerate(r)), "expected a list of records"),
    "number": (lambda r: 3, "expected a list of records"),
}


@pytest.mark.parametrize(("spoil", "message"), BAD_VIT_BENCH.values(), ids=BAD_VIT_BENCH)
def test_a_bad_vit_bench_file_is_refused(tmp_path: Path, spoil: Callable[[list], object], message: str) -> None:
    refused(write_pth(tmp_path / "x.pth", spoil(vit_bench_rows())), message)


CLEAN = ("performance", "Imagenet", "clean")
BAD_OOD: dict[str, tuple[Callable[[dict], object], str]] = {
    "nan": (lambda t: change(t, "3", *CLEAN, to=float("nan")), "not JSON"),
    "above": (lambda t: change(t, "3", *CLEAN, to=101), "record 3: imagenet is 101, not in"),
    "words": (lambda t: change(t, "3", *CLEAN, to="75"), "record 3: imagenet is '75', not a number"),
    "no clean": (lambda t: change(t, "3", "performance", "Imagenet", to={}), "record 3: field clean is missing"),
    "no object": (lambda t: change(t, "3", "performance", "Imagenet", to=[]), "record 3: expected an object"),
    "corruption": (lambda t: change(t, "1", *CLEAN[:2], "corruption", to=[3]), "record 1: expected an object"),
    "params": (lambda t: change(t, "2", "params", to=6.5), "record 2: params is 6.5 million, but the architecture has"),
    "other layers": (
        lambda t: change(t, "2", "net_setting", "num_heads", 0, to=7 - t["2"]["net_setting"]["num_heads"][0]),
        "record 2: params is",
    ),
    "outside": (lambda t: change(t, "2", "net_setting", "mlp_ratio", 0, to=5), r"record 2: autoformer-tiny: mlp_ratio"),
    "widths": (
        lambda t: change(t, "2", "net_setting", "embed_dim", 0, to=192.5),
        "record 2: embed_dim .* not the same",
    ),
    "depth": (lambda t: change(t, "2", "net_setting", "layer_num", to=3), "record 2: embed_dim is .* not one value"),
    "no setting": (lambda t: change(t, "0", "net_setting", to=None), "record 0: net_setting is None"),
    "other space": (lambda t: t | {"5": ood_table("small")["0"]}, "record 5: autoformer-tiny: embed_dim"),
    "twice": (lambda t: t | {"5": t["1"]}, "record 5: the same architecture as record 1"),
    "gap": (lambda t: t | {"7": ood_table(count=6)["5"]}, "record 5: its key is '7', not 5"),
    "field": (lambda t: change(t, "4", "latency", to=3), "record 4: unknown field 'latency'"),
    "other json": (lambda t: {"0": {"performance": 3}}, "JSON of no known benchmark"),
    "empty": (lambda t: {}, "JSON of no known benchmark"),
}


@pytest.mark.parametrize(("spoil", "message"), BAD_OOD.values(), ids=BAD_OOD)
def test_a_bad_ood_vit_nas_file_is_refused(tmp_path: Path, spoil: Callable[[dict], object], message: str) -> None:
    refused(write_json(tmp_path / "x.json", spoil(ood_table())), message)


def cell(record: int, column: str, to: str) -> Callable[[list[list[str]]], list[list[str]]]:
    return lambda rows: change(rows, record, HEADER.index(column), to=to)  # type: ignore[return-value]


BAD_HYTAS: dict[str, tuple[Callable[[list[list[str]]], list[list[str]]], str]] = {
    "percent": (cell(2, "OA", "80.5"), r"record 2: OA, a fraction, is 80.5, not in \[0, 1\]"),
    "nan": (cell(2, "OA", "nan"), "record 2: OA, a fraction, is nan"),
    "words": (cell(2, "OA", "good"), "record 2: OA, a fraction, is 'good', not a number"),
    "column": (cell(3, "snip", "-inf"), "record 3: snip is -inf, not a finite number"),
    "column words": (cell(3, "snip", "1,5"), "record 3: snip is '1,5', not a number"),
    "code": (cell(1, "num_heads", "__import__('os').abort()"), "record 1: not JSON"),
    "lengths": (cell(1, "num_heads", "[3, 3]"), "record 1: num_heads is .* not one value for each layer"),
    "no list": (cell(1, "num_heads", "3"), "record 1: num_heads is 3, not one value"),
    "nested": (cell(1, "num_heads", "[[3], 3, 3]"), "record 1: num_heads of the architecture"),
    "deep": (cell(1, "num_heads", "[" * 5000), "record 1: not JSON"),
    "twice": (lambda rows: [*rows, rows[0]], "record 5: the same architecture as record 0"),
    "short row": (lambda rows: [*rows[:3], rows[3][:-1]], "record 3: 7 cells for 8 columns"),
    "long row": (lambda rows: [*rows[:3], [*rows[3], "1"]], "record 3: 9 cells for 8 columns"),
    "no rows": (lambda rows: [], "at least one record"),
}


@pytest.mark.parametrize(("spoil", "message"), BAD_HYTAS.values(), ids=BAD_HYTAS)
def test_a_bad_hytas_file_is_refused(tmp_path: Path, spoil: Callable, message: str) -> None:
    refused(write_csv(tmp_path / "x.csv", spoil(hytas_rows())), message)


def test_a_hytas_header_must_be_complete_and_the_text_be_text(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    refused(write_csv(path, [], ["layer_num", "OA"]), "column embed_dim is missing")
    refused(write_csv(path, [], [*HEADER, "snip"]), "two columns have the same name")
    path.write_bytes(b"layer_num\xff\n")
    refused(path, "not UTF-8")
    path.write_bytes(b'layer_num,"OA\n')
    refused(path, "not a CSV table")
