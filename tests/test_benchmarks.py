"""The benchmark scripts run, print their tables, and the fast path's scores in them are the plain evaluator's."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

from autoprox.bench_cache.statistics import worker
from autoprox.bench_cache.statistics.scorer import network_scorer
from autoprox.primitives import parse

pytestmark = pytest.mark.slow


def printed(script: str, tmp_path: Path) -> list[list[str]]:
    """The cells of each line that a script prints in a short run, which must leave nothing behind."""
    for name in ("home", "tmp"):
        (tmp_path / name).mkdir()
    environment = os.environ | {
        "AUTOPROX_HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp"), "PYTHONUTF8": "1"
    }  # fmt: skip
    ran = subprocess.run(
        [sys.executable, "-W", "error", ROOT / "benchmarks" / f"{script}.py", "--quick"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=900,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert not list((tmp_path / "home").iterdir())
    assert not list((tmp_path / "tmp").glob("autoprox-bench-*"))
    assert "cores" in ran.stdout
    assert "torch 2." in ran.stdout
    return [re.split(r"\s{2,}", line.strip()) for line in ran.stdout.splitlines() if line.strip()]


@pytest.mark.timeout(300)
def test_new_scorers_compute_what_others_have_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A remembered number would pass as a speed."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    common = importlib.import_module("common")
    computed: list[int] = []
    reduce = worker.reduce_layers
    monkeypatch.setattr(
        worker, "reduce_layers", lambda parts, *more: computed.append(len(parts)) or reduce(parts, *more)
    )
    formula = [parse("sum(fro(weight[msa]))")]
    with common.cold_home():
        benchmark = common.real_size(1)
        for _ in range(3):
            (made,) = common.scorers_of(benchmark)
            made.scores(formula, [0])
            made.scores(formula, [0])  # the same one does remember
        assert computed == [2] * 3
        network_scorer(benchmark, made.root).scores(formula, [0])  # as does the store, unless it is dropped
        assert computed == [2] * 3


def starting(lines: list[list[str]], text: str) -> list[list[str]]:
    return [line for line in lines if line[0].startswith(text)]


@pytest.mark.timeout(1000)
def test_throughput_compares_equal_scores(tmp_path: Path) -> None:
    lines = printed("throughput", tmp_path)
    for way in ("population", "plain, in memory", "plain", "re-running"):
        rows = [line for line in lines if line[0] == way]
        assert len(rows) == 2, way  # small and real-size networks
        for row in rows:
            assert all(float(cell.replace(",", "")) > 0 for cell in row[1:5])
            assert way == "population" or float(row[5]) < 1e-6
    (evolution,) = starting(lines, "an evolution")
    assert float(evolution[-3].replace(",", "")) > 0


@pytest.mark.timeout(1000)
def test_tables_has_a_rate_and_a_tau_and_says_what_it_skipped(tmp_path: Path) -> None:
    lines = printed("tables", tmp_path)
    (now,) = starting(lines, "autoprox")
    assert all(float(cell.replace(",", "")) > 0 for cell in now[1:3])
    assert re.fullmatch(r"(0\.\d+) \(\1 … \1\)", now[-1])
    assert starting(lines, "No earlier build: --earlier FOLDER was not given.")
    for peer in ("gplearn", "pyoperon"):
        assert importlib.util.find_spec(peer) or starting(lines, f"No {peer}: it is not installed;")


@pytest.mark.timeout(1000)
def test_scaling_fits_every_dimension(tmp_path: Path) -> None:
    lines = printed("scaling", tmp_path)
    for networks in ("small", "real-size"):
        for dimension in ("networks", "formulas", "parameters", "workers"):
            (row,) = starting(lines, f"{networks}: {dimension}")
            sizes, costs = row[1 : 1 + len(row[1:-1]) // 2], row[1 + len(row[1:-1]) // 2 : -1]
            assert len(sizes) == len(costs) >= 2
            assert re.fullmatch(r"-?\d+\.\d\d( ± \d+\.\d\d)?", row[-1])


@pytest.mark.timeout(1000)
def test_bandwidth_has_limits_and_fractions(tmp_path: Path) -> None:
    lines = printed("bandwidth", tmp_path)
    assert len(starting(lines, "copy, ")) == len(starting(lines, "triad, ")) == 2
    for formulas in ("one reduction", "SNIP", "a generation"):
        rows = starting(lines, f"{formulas}, ")
        assert len(rows) == 3
        assert all(0 < float(row[-1].rstrip("%")) < 200 for row in rows)


@pytest.mark.timeout(1000)
def test_device_compares_equal_scores(tmp_path: Path) -> None:
    lines = printed("device", tmp_path)
    for networks in ("small", "real-size"):
        for part in ("statistics", "generations", "rank"):
            (row,) = starting(lines, f"{networks}: {part}")
            assert all(float(cell.replace(",", "")) > 0 for cell in row[1:4])
        (row,) = starting(lines, f"{networks}: generations")
        assert float(row[4]) < 1e-3


@pytest.mark.timeout(1000)
def test_footprint_has_cold_and_cached_runs(tmp_path: Path) -> None:
    lines = printed("footprint", tmp_path)
    rows = [*starting(lines, "mini-vit, "), *starting(lines, "autoformer-tiny ")]
    assert [row[0].rpartition(" ")[2] for row in rows] == ["cold", "cached", "cold", "cold"]
    for row in rows:
        started, built, first = map(float, row[2:5])
        assert 0 < started <= built < first
        assert float(row[-2].replace(",", "")) > 0


@pytest.mark.timeout(1000)
def test_latency_says_where_the_target_is_met(tmp_path: Path) -> None:
    lines = printed("latency", tmp_path)
    rows = [line for line in lines if line[-1] in ("met", "missed")]
    assert len(rows) == 10
    assert all((float(row[-4]) <= float(row[-2])) == (row[-1] == "met") or row[-4] == row[-2] for row in rows)
    assert {row[-2] for row in rows} == {"1.15", "1.3"}


@pytest.mark.timeout(1000)
def test_builds_runs_whole_commands(tmp_path: Path) -> None:
    lines = printed("builds", tmp_path)
    commands = ("help", "warm, 2 generations", "embedded, 5 generations, cached", "embedded, 5 generations, cold",
                "large, 1 generations of 8, cached", "sampled, 1 generations of 8, cached",
                "zoo, for each AutoFormer-T")  # fmt: skip
    for command in commands:
        (row,) = starting(lines, command)
        assert float(row[1].replace(",", "")) > 0
        assert command == "help" or float(row[3].replace(",", "")) > 10  # MB; the help is too short to be seen
    (evolution,) = starting(lines, "embedded, 5 generations, cached")
    assert 0 < float(evolution[4]) < 1
    whole, sampled = (starting(lines, f"{group}, statistics on disk")[0] for group in ("large", "sampled"))
    assert 0 < float(sampled[3].replace(",", "")) < float(whole[3].replace(",", "")) / 20
    assert starting(lines, "No earlier build: --earlier FOLDER was not given.")


@pytest.mark.timeout(1000)
def test_growth_fits_every_dimension(tmp_path: Path) -> None:
    lines = printed("growth", tmp_path)
    exponents = [row[-1] for row in lines if re.fullmatch(r"-?\d+\.\d\d( ± \d+\.\d\d)?", row[-1])]
    assert len(exponents) >= 3


def test_make_bench_runs_what_is_tested_here() -> None:
    (scripts,) = re.findall(r"for script in (.*); do", (ROOT / "Makefile").read_text(encoding="utf-8"))
    tested = re.findall(r'printed\("(\w+)"', Path(__file__).read_text(encoding="utf-8"))
    assert sorted(scripts.split()) == sorted(tested)
