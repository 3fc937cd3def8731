"""Tables with published proxies: FlexiBERT's text transformers and NAS-Bench-Suite-Zero's convolutional cells."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from public_files import reference, refused, write_csv, write_json
from scipy.stats import kendalltau

from autoprox.bench_cache.benchmarks.groups import within_tau
from autoprox.bench_cache.benchmarks.readers import read_benchmark


def layer(heads: int = 4) -> dict[str, Any]:
    return {
        "operation_type": "SA",
        "operation_parameter": "WMA",
        "num_operation_heads": heads,
        "feed_forward_dimension": 512,
        "num_feed_forward": 1,
    }


def network(number: int, depth: int, heads: int, cola: float = 10.0) -> dict[str, Any]:
    """A record as FlexiBERT has it."""
    overrides = {"hidden_size": 128, "nas_config": {"encoder_layers": [layer(heads)] * depth}}
    scores = {"cola": cola, "mnli": 60.0 + number, "glue": 62.0 + number}
    return {"id": number, "completed": True, "scores": scores, "hparams": {"model_hparam_overrides": overrides}}


NETWORKS = [network(0, 2, 2), network(1, 4, 2, cola=-2.0), network(2, 4, 4), network(3, 4, 4)]
HEAD = ["ID", "GLUE Score", "Head Confidence", "Number of Parameters"]
PROXIES = [[str(n), "0", f"0.{n + 1}" if n != 1 else "", f"{n}000"] for n in range(4)]


def flexibert(folder: Path) -> Path:
    write_csv(folder / "BERT_results_activation.csv", PROXIES, HEAD)
    return write_json(folder / "BERT_benchmark.json", NETWORKS)


def test_flexibert(tmp_path: Path) -> None:
    benchmark = read_benchmark(flexibert(tmp_path))
    assert (benchmark.name, benchmark.space) == ("flexibert", None)
    assert list(benchmark.tasks) == ["glue", "cola", "mnli"]
    assert benchmark.tasks["glue"].tolist() == [62, 63, 64.5]  # the last two are one architecture
    assert benchmark.tasks["cola"].tolist() == [55, 49, 55]
    assert benchmark.columns["params"].tolist() == [0, 1000, 2500]
    np.testing.assert_allclose(benchmark.columns["head_confidence"], [0.1, np.nan, 0.35])
    assert benchmark.groups["depth"].tolist() == ["2", "4", "4"]
    assert {name: values.tolist() for name, values in benchmark.structure().items()} == {
        "params": [0, 1000, 2500],
        "depth": [2, 4, 4],
        "width": [128, 128, 128],
    }
    assert benchmark.architectures[1]["num_operation_heads"] == (2, 2, 2, 2)


def test_flexibert_without_proxies_and_with_too_few(tmp_path: Path) -> None:
    path = flexibert(tmp_path)
    write_csv(tmp_path / "BERT_results_activation.csv", PROXIES[:2], HEAD)
    refused(path, "record 2: BERT_results_activation.csv has no line with the ID 2")
    (tmp_path / "BERT_results_activation.csv").unlink()
    assert not read_benchmark(path).columns


@pytest.mark.parametrize(
    ("path_to", "value", "message"),
    [
        (("scores", "cola"), -101, "record 1: cola is -101, not in"),
        (("scores", "glue"), "high", "record 1: glue is 'high', not a number"),
        (("hparams", "model_hparam_overrides", "nas_config", "encoder_layers"), [], "record 1: encoder_layers is"),
        (("hparams", "model_hparam_overrides"), {}, "record 1: field hidden_size is missing"),
    ],
)
def test_a_wrong_record_of_flexibert_is_named(tmp_path: Path, path_to: tuple, value: object, message: str) -> None:
    networks = json.loads(json.dumps(NETWORKS))
    inner = networks[1]
    for name in path_to[:-1]:
        inner = inner[name]
    inner[path_to[-1]] = value
    refused(write_json(tmp_path / "any.json", networks), message)


def test_flexibert_as_published() -> None:
    """Depth alone ranks the networks; within one depth the published proxies fall to about nothing."""
    benchmark = read_benchmark(reference("flexibert", "BERT_benchmark.json"))
    assert (len(benchmark), len(benchmark.tasks), len(benchmark.columns)) == (491, 9, 15)
    glue, depth = benchmark.tasks["glue"], benchmark.structure()["depth"]
    assert kendalltau(depth, glue).statistic == pytest.approx(0.68, abs=0.01)
    within = {name: within_tau(of, glue, benchmark.groups["depth"]).tau for name, of in benchmark.columns.items()}
    overall = {name: kendalltau(of, glue).statistic for name, of in benchmark.columns.items()}
    assert max(abs(within[name]) for name in within if name != "params") < 0.35
    assert max(overall.values()) > 0.45


def cell(accuracy: float, score: Any, cells: str = "(0, 2, 3, 2, 3, 1)") -> dict[str, Any]:
    return {
        "idx": "5",
        "arch": cells,
        "val_accuracy": accuracy,
        "params": {"score": 0.615386, "time": 0.5},
        "flops": {"score": 88.307392, "time": 0.5},
        "synflow": {"score": score, "time": 0.5},
    }


ONE, TWO = "(0, 2, 3, 2, 3, 1)", "(4, 0, 4, 1, 2, 0)"
CELLS = {
    "cifar10": {ONE: cell(86.1, 41.9), TWO: cell(83.6, float("-inf"), TWO)},
    "ImageNet16-120": {ONE: cell(30.5, 7.0)},
}


def test_nas_bench_suite_zero(tmp_path: Path) -> None:
    """Python writes -Infinity into the file, which is no JSON; a cell may be absent from an image set."""
    benchmark = read_benchmark(write_json(tmp_path / "any.json", CELLS))
    assert (benchmark.name, benchmark.space) == ("nas-bench-201", "nas-bench-201")
    assert benchmark.tasks["cifar10"].tolist() == [86.1, 83.6]
    assert np.isnan(benchmark.tasks["imagenet16_120"]).tolist() == [False, True]
    assert np.isnan(benchmark.columns["synflow_cifar10"]).tolist() == [False, True]
    assert np.isnan(benchmark.columns["synflow_imagenet16_120"]).tolist() == [False, True]
    assert benchmark.structure()["params"].tolist() == [615_386, 316_346]
    assert benchmark.columns["published_flops"].tolist() == [88_307_392, 88_307_392]
    assert benchmark.architectures[0].operations == ("skip", "conv3x3", "conv1x1", "conv3x3", "conv1x1", "none")


@pytest.mark.parametrize("wrong", ["(0, 2, 3)", "(0, 2, 3, 2, 3, 5)", "(0, 2, 3, 2, 3, x)"])
def test_a_wrong_cell_is_named(tmp_path: Path, wrong: str) -> None:
    table = {"cifar10": {ONE: cell(86.1, 41.9), wrong: cell(83.6, 1.0, wrong)}}
    refused(
        write_json(tmp_path / "any.json", table), "record 1: the cell .* is not six numbers of operations from 0 to 4"
    )


def test_a_cut_off_table_of_cells_is_refused(tmp_path: Path) -> None:
    path = write_json(tmp_path / "any.json", CELLS)
    path.write_text(path.read_text()[:-20])
    refused(path, "not JSON, or cut off")


def test_nas_bench_suite_zero_as_published() -> None:
    benchmark = read_benchmark(reference("nas-bench-suite-zero", "zc_nasbench201.json"))
    assert (len(benchmark), len(benchmark.tasks), len(benchmark.columns)) == (725, 3, 31)
    missing = {name: int(np.isnan(values).sum()) for name, values in benchmark.columns.items()}
    assert missing["nwot_cifar10"] == missing["synflow_cifar10"] == 1
    assert sum(missing.values()) == 14
