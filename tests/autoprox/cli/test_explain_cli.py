"""`autoprox explain`: the numbers of each part, what leaving it out costs, and on what."""

import json
from pathlib import Path
from typing import Any

import homes
import numpy as np
import pytest
import scipy.stats
import synthetic

import autoprox
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.benchmarks.tabular import TabularArchitecture
from autoprox.cli.root import main
from autoprox.explanation.explain import ExplainError

MADE = synthetic.benchmark(16)
FORMULA = "sum(fro(weight[mlp])) / log(depth)"
ON = ("--bench", "small.json", "--tasks", "*_kd", "--workers", "1")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPROX_HOME", str(homes.made(tmp_path / "home")))
    monkeypatch.chdir(tmp_path)
    MADE.save(tmp_path / "small.json")


@pytest.fixture(scope="module")
def explanation() -> dict[str, Any]:
    """The formula explained from Python."""
    found = autoprox.explain(FORMULA, MADE, tasks="*_kd", architectures=[3, 5], progress=False)
    assert "what the ranking is without" in str(found)
    assert [line["part"] for line in found.records()] == [f"#{number}" for number in range(1, 7)]
    return found.record()


def explained(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert main(["explain", *options, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_numbers_are_those_of_the_networks(explanation: dict[str, Any]) -> None:
    found = explanation
    splits = MADE.splits()
    at = {split: splits[split] for split in ("evolve", "validation")}
    assert found["architectures"] == {split: len(indices) for split, indices in at.items()}
    depth = MADE.structure()["depth"]
    assert [example["number"] for example in found["examples"]] == [3, 5]
    parts = {part["text"]: part for part in found["parts"]}
    assert list(parts) == [
        "weight[mlp]", "fro(weight[mlp])", "sum(fro(weight[mlp]))", "depth", "log(depth)", FORMULA
    ]  # fmt: skip
    assert parts["depth"]["values"] == [depth[3], depth[5]]
    together = np.concatenate(list(at.values()))
    tau = scipy.stats.kendalltau(depth[together], MADE.structure()["params"][together]).statistic
    assert parts["depth"]["structure"]["params"] == pytest.approx(tau)
    for split, indices in at.items():
        taus = {
            task: scipy.stats.kendalltau(depth[indices], MADE.tasks[task][indices]).statistic
            for task in ("size_kd", "shape_kd")
        }
        assert parts["depth"]["tasks"][split] == pytest.approx(taus)
        assert parts["depth"]["accuracy"][split] == pytest.approx(np.mean(list(taus.values())))
    assert parts[FORMULA]["accuracy"] == found["score"]["accuracy"]


def test_a_part_that_is_left_out_costs_the_difference(explanation: dict[str, Any]) -> None:
    found = explanation
    without = {row["what"]: row for row in found["without"]}
    assert without["#5"]["formula"] == "sum(fro(weight[mlp]))"
    alone = next(part for part in found["parts"] if part["text"] == without["#5"]["formula"])
    assert without["#5"]["accuracy"] == alone["accuracy"]
    cost = found["score"]["accuracy"]["evolve"] - alone["accuracy"]["evolve"]
    assert without["#5"]["cost"] == pytest.approx(cost)
    costs = [row["cost"] for row in found["without"]]
    assert costs == sorted(costs, reverse=True)


def test_examples_are_the_worst_and_the_best_and_none_is_of_test(capsys: pytest.CaptureFixture[str]) -> None:
    found = explained(capsys, "depth", "--bench", "small.json", "--tasks", "size_kd", "--workers", "1")
    looked_at = np.concatenate([MADE.splits()[split] for split in ("evolve", "validation")])
    y = MADE.tasks["size_kd"][looked_at]
    assert [e["number"] for e in found["examples"]] == [looked_at[y.argmin()], looked_at[y.argmax()]]
    of_test = int(MADE.splits()["test"][0])
    found = explained(capsys, "depth", *ON, "--arch", str(of_test))
    assert found["examples"][0]["accuracies"] == {}


def test_a_function_has_its_formula_and_the_numbers_of_the_whole(capsys: pytest.CaptureFixture[str]) -> None:
    found = explained(capsys, "zico-all", *ON, "--sample", "8")
    assert found["formula"] is None
    assert found["latex"] == autoprox.resolve("zico-all").latex
    assert found["about"].keys() == {"source", "reads", "note"}
    assert found["parts"] == found["without"] == []
    assert found["score"]["structure"].keys() >= {"params", "flops", "depth"}
    assert sum(found["architectures"].values()) == 8


def test_text_says_the_words_the_split_and_what_carries_the_ranking(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "depth + mean(std(weight))", *ON]) == 0
    text = capsys.readouterr().out
    counts = {split: len(indices) for split, indices in MADE.splits().items()}
    assert f"{counts['evolve']} of evolve, {counts['validation']} of validation" in text
    assert "number of transformer blocks" in text
    assert "the standard deviation of #2, in each layer" in text
    assert "carries most: without it" in text


def test_a_run_is_explained_on_its_own_copy_of_its_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    provenance = {"benchmarks": ["small"], "tasks": ["small:size_kd"]}
    MADE.save(Path("run/benchmarks/small.json"))
    autoprox.Proxy.from_formula("depth", "evolved", provenance).save(Path("run/proxy.json"))
    found = explained(capsys, "run", "--workers", "1")
    assert (found["benchmark"], found["tasks"]) == ("small", ["size_kd"])


def test_a_table_explains_formulas_of_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=60)
    architectures = tuple(TabularArchitecture((("layer_num", n), ("m_size", float(n)))) for n in range(60))
    columns = {"good": y + rng.normal(0, 0.1, 60), "bad": rng.normal(size=60)}
    Benchmark("table", None, None, "made up", architectures, {"oa": 50 + y}, columns).save(Path("table.json"))
    found = explained(capsys, "column[good] + column[bad]", "--bench", "table.json", "--workers", "1")
    assert {row["what"]: row["cost"] > 0 for row in found["without"]} == {"#1": True, "#2": False}
    assert main(["explain", "snip", "--bench", "table.json", "--workers", "1"]) == 2
    assert "the table of table does not have weight" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--arch", "16"), "no architecture of small has the number 16; they count from 0 to 15"),
        (("--sample", "2"), "sample is 2; it must be from 6 to"),
    ],
)
def test_refusals_are_one_line(capsys: pytest.CaptureFixture[str], options: tuple[str, ...], reason: str) -> None:
    assert main(["explain", "depth", *ON, *options]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert reason in error


def test_the_command_line_gives_the_same(explanation: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert explained(capsys, FORMULA, *ON, "--arch", "3", "--arch", "5") == explanation


def test_python_names_arguments() -> None:
    with pytest.raises(ExplainError, match="no architecture of small has the number 99"):
        autoprox.explain("depth", MADE, architectures=[99], progress=False)
