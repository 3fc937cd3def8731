"""`autoprox search --pareto`: the front as table, file and picture; options as they are typed; and resuming."""

import csv
import json
from pathlib import Path

import pytest
from printed import everything

from autoprox.cli.root import main
from autoprox.display.front import evenly
from autoprox.search.latency import machine_name
from autoprox.search.run import JOURNAL

SPACE = ("search", "--space", "pit-vb101", "--image-size", "24", "--classes", "10", "--patch-size", "8")
FRONT = (*SPACE, "--workers", "1", "--proxy", "flops / params", "--pareto", "--population", "8")


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("AUTOPROX_HOME", str(tmp_path / "home"))


def run(*arguments: object, code: int = 0) -> None:
    assert main([str(argument) for argument in arguments]) == code


def results(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in ("architectures.json", "architectures.csv", JOURNAL, "front.svg")]


@pytest.mark.usefixtures("pictures")
def test_the_front_is_printed_saved_and_drawn(tmp_path: Path, capsys) -> None:
    out = tmp_path / "found"
    run(*FRONT, "--budget", 60, "--top", 3, "--out", out)
    shown = everything(capsys)
    assert "strategy nsga2, budget 60, seed 0\nobjectives score, params\n" in shown
    assert "architectures that no other one beats in score and params" in shown
    assert (
        f"Saved in {out}: architectures.json, architectures.csv, networks/, journal.jsonl, front.png, front.svg"
        in shown
    )
    saved = json.loads((out / "architectures.json").read_text())
    front = saved["architectures"]
    assert f"The front: {len(front)} of 60" in shown
    assert [row["rank"] for row in front] == list(range(1, len(front) + 1))
    assert sorted((row["score"] for row in front), reverse=True) == [row["score"] for row in front]
    assert sorted((row["params"] for row in front), reverse=True) == [row["params"] for row in front]
    with open(out / "architectures.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["front"] for row in rows] == ["True"] * len(front) + ["False"] * (60 - len(front))
    for row in rows[len(front) :]:
        assert any(each["score"] >= float(row["score"]) and each["params"] <= float(row["params"]) for each in front)
    assert (out / "front.svg").read_text().startswith("<?xml")


def test_the_same_seed_is_the_same_front_and_a_search_goes_on(tmp_path: Path) -> None:
    run(*FRONT, "--budget", 40, "--out", tmp_path / "whole")
    run(*FRONT, "--budget", 40, "--out", tmp_path / "again", "--workers", 2)
    assert results(tmp_path / "again") == results(tmp_path / "whole")
    run(*FRONT, "--budget", 23, "--out", tmp_path / "steps")
    run("search", "--resume", "--budget", 40, "--out", tmp_path / "steps")
    assert results(tmp_path / "steps")[:2] == results(tmp_path / "whole")[:2]


@pytest.mark.slow
def test_latency_is_told_and_kept(tmp_path: Path, capsys) -> None:
    out = tmp_path / "found"
    run(*FRONT, "--objectives", "score,params,latency", "--budget", 10, "--max-latency", "10s", "--latency-batch", 2,
        "--out", out)  # fmt: skip
    shown = everything(capsys)
    name = machine_name("cpu")
    assert f"latency is the median of up to 20 warm forward passes on cpu ({name}), batch 2, 1 thread" in shown
    assert "latency ≤ 1e+04 ms" in shown
    saved = json.loads((out / "architectures.json").read_text())
    assert saved["latency"] == {"device": "cpu", "batch": 2, "threads": 1, "machine": name}
    assert all(row["latency"] > 0 for row in saved["architectures"])
    before = results(out)
    run("search", "--resume", "--out", out)
    assert results(out) == before
    run("search", "--resume", "--out", out, "--latency-batch", 1, code=2)
    assert "was started with another --latency-batch" in capsys.readouterr().err
    run("search", "--resume", "--out", out, "--objectives", "score,params", code=2)
    assert "was started with another --objectives" in capsys.readouterr().err


def test_a_front_on_a_benchmark(tmp_path: Path, capsys) -> None:
    run("search", "--bench", "mini-vit", "--tasks", "digits", "--proxy", "depth", "--pareto", "--budget", 50)
    shown = everything(capsys)
    assert "strategy random, budget 50" in shown
    assert "of 50 architectures that no other one beats in score and params" in shown
    assert "by proxy" in shown


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--pareto --objectives score", "--pareto needs at least two --objectives"),
        ("--objectives score,parms", "objective 'parms' (did you mean params?)"),
        ("--pareto --max-latency 12", "'12' is no time such as 12ms"),
        ("--pareto --max-latency 0ms", "--max-latency is 0.0; it must be a positive number"),
        ("--max-latency 1us --budget 4", "is above --max-latency 0.001 ms"),
        ("--pareto --latency-batch 0", "--latency-batch is 0"),
        ("--pareto --latency-device gpu", "'gpu' is no device"),
        ("--pareto --population 0", "population is 0"),
    ],
)
def test_what_cannot_be_is_one_error(options: str, told: str, capsys) -> None:
    run(*SPACE, "--proxy", "params", "--workers", "1", *options.split(), code=2)
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert told in error


def test_a_part_of_a_front_is_spread_evenly() -> None:
    assert evenly(3, 5) == [0, 1, 2]
    assert evenly(9, 3) == [0, 4, 8]
    assert evenly(9, 1) == [0]
    assert evenly(0, 5) == []
