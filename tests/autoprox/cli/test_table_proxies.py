"""Proxies of a table's columns on the command line: evolved, then ranked, merged and searched with."""

import csv
import shlex
from pathlib import Path

import numpy as np
import pytest

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.benchmarks.tabular import TabularArchitecture
from autoprox.cli.root import FAILED, main

EVOLVE = ("evolve", "--grammar", "tabular", "--generations", "2", "--population", "6", "--workers", "1", "--out", "run")


@pytest.fixture(autouse=True)
def _with_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPROX_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    architectures = tuple(TabularArchitecture((("params", float(n)),)) for n in range(60))
    y = 50 + rng.normal(size=60) + np.arange(60) / 20
    columns = {f"p_{k}": y + rng.normal(0, k / 3, 60) for k in (1, 2)}
    Benchmark("mine", None, None, "made up", architectures, {"oa": y}, columns).save("a table.json")


def next_command(out: str) -> list[str]:
    (line,) = [line for line in out.splitlines() if line.startswith("Next: autoprox ")]
    return shlex.split(line)[2:]


def test_the_next_command_of_an_evolution_on_a_file_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*EVOLVE, "--bench", "a table.json"]) == 0
    told = next_command(capsys.readouterr().out)
    assert told[:3] == ["search", "--bench", "run/benchmarks/mine.json"]
    Path("a table.json").unlink()
    assert main([*told, "--budget", "5"]) == 0
    capsys.readouterr()
    assert main(["evolve", "--resume", "--out", "run", "--workers", "1"]) == 0
    assert next_command(capsys.readouterr().out) == told


def test_the_next_command_names_a_benchmark_of_the_library(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "import", "a table.json"]) == 0
    assert main([*EVOLVE, "--bench", "mine"]) == 0
    assert next_command(capsys.readouterr().out) == ["search", "--bench", "mine", "--proxy", "run"]


def test_what_was_evolved_on_a_table_is_ranked_and_merged_on_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*EVOLVE, "--bench", "a table.json"]) == 0
    proxies = ("--proxies", "run,column[p_1],neg(column[p_1])")
    assert main(["rank", "--bench", "a table.json", *proxies, "--workers", "1", "--out", "ranked"]) == 0
    with Path("ranked/rank.csv").open(encoding="utf-8", newline="") as file:
        tau = {row["proxy"]: float(row["tau"]) for row in csv.DictReader(file)}
    assert tau["run"] > 0
    assert tau["neg(column[p_1])"] == -tau["column[p_1]"]
    merged = ("--proxies", "run,p_1,p_2", "--workers", "1")
    assert main(["libra", "--bench", "a table.json", *merged, "--out", "merged"]) == 0
    assert main(["libra", "--bench", "a table.json", "--scores", "ranked"]) == 0
    assert "run" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("proxy", "told"),
    [
        (
            "column[p_9]",
            "'column[p_9]' reads column[p_9], which the table of mine does not have; there are params, column[p_1]",
        ),
        ("column[p_1] + flops", "reads flops, which the table of mine does not have"),
        (
            "sum(l1(weight))",
            "reads weight, which the table of mine does not have; there are params, column[p_1], column[p_2]",
        ),
        ("snip", "mine is tabular: its networks cannot be built, and it has no column 'snip'; there are p_1, p_2"),
        ("p_3", "mine is tabular: its networks cannot be built, and it has no column 'p_3'; there are p_1, p_2"),
        (".", ".: this directory holds no proxy.json; is it one that `autoprox evolve` made?"),
    ],
)
def test_what_a_table_does_not_have_is_refused(proxy: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rank", "--bench", "a table.json", "--proxies", proxy, "--workers", "1", "--out", "no"]) == FAILED
    error = capsys.readouterr().err
    assert told in error
    assert len(error.splitlines()) == 1
