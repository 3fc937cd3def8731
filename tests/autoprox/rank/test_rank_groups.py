"""Taus within a benchmark's groups in the tables of `rank`, `libra` and `bench show`."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
from scipy.stats import kendalltau

from autoprox.bench_cache.benchmarks.groups import within_tau
from autoprox.bench_cache.benchmarks.library import load_benchmark
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.benchmarks.tabular import TabularArchitecture
from autoprox.cli import main
from autoprox.rank.plan import make_plan
from autoprox.rank.scores import collect
from autoprox.rank.stats import rank_rows, scores_on


def grouped(count: int = 60) -> Benchmark:
    rng = np.random.default_rng(0)
    architectures = tuple(TabularArchitecture((("layer_num", 2 + 2 * (n % 2)), ("seed", n))) for n in range(count))
    columns = {name: rng.normal(size=count) for name in ("snip", "synflow", "params", "nwot")}
    accuracies = {"a": 50 + rng.normal(size=count), "b": 40 + rng.normal(size=count)}
    depths = ["4" if n % 2 else "2" for n in range(count)]
    sizes = ["" if n < 5 else "small" if n < 30 else "large" for n in range(count)]
    groups = {"depth": depths, "size": sizes}
    return Benchmark("grouped", None, None, "made up", architectures, accuracies, columns, groups=groups)


BENCHMARK = grouped()


def test_rows_have_the_tau_within_each_grouping(tmp_path: Path) -> None:
    scores = collect(make_plan(BENCHMARK, sample=50), tmp_path / "run")
    for row in rank_rows(scores.table):
        if row.task == "mean":
            own = [other for other in rank_rows(scores.table) if other.proxy == row.proxy and other.task != "mean"]
            expected = {name: np.mean([other.within[name] for other in own]) for name in ("depth", "size")}
        else:
            x = scores_on(scores.table, row.task)[row.proxy]
            y = scores.table.accuracies[row.task]
            groups = scores.table.groups[row.task]
            expected = {name: within_tau(x, y, labels).tau for name, labels in groups.items()}
            assert all(len(labels) == 50 for labels in groups.values())
        assert row.within == pytest.approx(expected)


@pytest.mark.slow
def test_commands_show_and_save_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "grouped.json"
    BENCHMARK.save(path)
    assert main(["rank", "--bench", str(path), "--out", str(tmp_path / "run"), "--workers", "1"]) == 0
    assert "τ in" in capsys.readouterr().out
    (first, *_) = csv.DictReader((tmp_path / "run" / "rank.csv").read_text().splitlines())
    assert -1 <= float(first["within_depth"]) <= 1
    assert r"$\tau_b$ in depth" in (tmp_path / "run" / "rank.tex").read_text()
    assert main(["libra", "--bench", str(path), "--scores", str(tmp_path / "run"), "--out", str(tmp_path / "l")]) == 0
    assert "within_size" in orjson.loads((tmp_path / "l" / "libra.json").read_bytes())["test"][0]
    capsys.readouterr()
    assert main(["bench", "show", str(path)]) == 0
    assert "within groups, the mean weighted by pairs" in capsys.readouterr().out


def test_without_groups_the_files_have_no_such_column(tmp_path: Path) -> None:
    replace(BENCHMARK, groups={}).save(tmp_path / "plain.json")
    assert main(["rank", "--bench", str(tmp_path / "plain.json"), "--out", str(tmp_path / "run")]) == 0
    assert "within" not in (tmp_path / "run" / "rank.csv").read_text()


def test_rows_have_the_tau_over_trainable_networks(tmp_path: Path) -> None:
    """On micro-vit some networks of each task are at chance."""
    plan = make_plan(load_benchmark("micro-vit"), sample=30, proxies=["sum(l1(weight))"])
    scores = collect(plan, tmp_path / "run", workers=1)
    rows = [row for row in rank_rows(scores.table) if row.proxy == "sum(l1(weight))"]
    assert [row.task for row in rows] == ["digits", "fashion", "pines", "photos", "mean"]
    for row in rows[:4]:
        x, y = scores_on(scores.table, row.task)[row.proxy], scores.table.accuracies[row.task]
        above = y >= 1.5 * 100 / plan.benchmark.inputs[row.task].spec.num_classes
        assert 0 < np.count_nonzero(~above) < 15
        assert row.within == {"trainable": pytest.approx(kendalltau(x[above], y[above]).statistic)}
    assert rows[4].within["trainable"] == pytest.approx(np.mean([row.within["trainable"] for row in rows[:4]]))
