"""benchmarks/results.py: its numbers are those of `rank`, and it leaves the other sections of the page alone."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from places import ROOT

from autoprox.api.validating import validate
from autoprox.evolve import MEAN
from autoprox.evolve.report import FITTED
from autoprox.rank.stats import rank_rows


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script, with one measurement that needs no network, and a page of its own."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    script = importlib.import_module("results")
    small = script.Measurement("small", "mini-vit", "mini-vit", proxies=("depth-times-width",), split="test")
    for name, value in (("MEASUREMENTS", (small,)), ("TABULAR", ()), ("PAGE", tmp_path / "results.md")):
        monkeypatch.setattr(script, name, value)
    script.PAGE.write_text(f"# Results\n\nbefore\n\n{script.BEGIN}\nold\n{script.END}\n\n## Another section\n")
    return script


def test_the_page_has_the_numbers_of_rank(results: ModuleType, tmp_path: Path) -> None:
    results.score(tmp_path, tmp_path / "runs", ["small"])
    results.table(tmp_path, tmp_path / "runs")
    page = results.PAGE.read_text()
    assert page.startswith("# Results\n\nbefore\n\n")
    assert page.endswith("\n\n## Another section\n")
    assert "old" not in page
    command = "autoprox rank --bench mini-vit --proxies depth-times-width --split test --batch 2 --out RUNS/small"
    assert f"\n    {command}\n" in page
    (column,) = results.finished(results.MEASUREMENTS[0], tmp_path, tmp_path / "runs")
    rows = [row for row in rank_rows(column.table) if row.task == MEAN]
    for row in rows:
        head = f"| {row.proxy} |" if row.proxy == "depth-times-width" else f"| **{row.proxy}** |"
        (line,) = [line for line in page.splitlines() if line.startswith(head)]
        assert f" {results._number(row.tau.value, 3)} [" in line
        if row.proxy != FITTED:
            assert column.given_fitted[row.proxy].value == pytest.approx(row.given_fitted)
            assert f"<br>{results._number(row.given_fitted, 3)} [" in line
            assert column.given_fitted[row.proxy].low < row.given_fitted < column.given_fitted[row.proxy].high


def test_what_is_not_scored_is_left_out(
    results: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert results.finished(results.MEASUREMENTS[0], tmp_path, tmp_path / "runs") == []
    assert capsys.readouterr().out.startswith("left out: small: ")


@pytest.mark.slow
def test_trainable_networks_have_a_column_of_their_own(results: ModuleType, tmp_path: Path) -> None:
    micro = results.Measurement("micro", "micro-vit", "micro-vit", proxies=("depth-times-width",), split="test")
    results.MEASUREMENTS = (micro,)
    results.score(tmp_path, tmp_path / "runs", ["micro"])
    every, learnt = results.finished(micro, tmp_path, tmp_path / "runs")
    assert learnt.title.startswith("micro-vit, trainable<br>test, n = ")
    for task, accuracies in learnt.table.accuracies.items():
        kept = ~np.isnan(accuracies)
        assert 0 < kept.sum() < len(kept)
        assert (accuracies[kept] >= 15).all()  # of ten classes, or of more
        assert (every.table.accuracies[task][~kept] < 15).all()


@pytest.mark.parametrize(("value", "text"), [(0.5, ".500"), (-0.25, "−.250"), (1.0, "1.000"), (0.0, ".000")])
def test_numbers_are_short(results: ModuleType, value: float, text: str) -> None:
    assert results._number(value, 3) == text


@pytest.mark.parametrize(
    ("bench", "proxy", "column"),
    [pytest.param("mini-vit", "l2-norm", 1, marks=pytest.mark.slow), ("micro-vit", "depth-times-width", 2)],
)
def test_validate_reproduces_the_page(results: ModuleType, tmp_path: Path, bench: str, proxy: str, column: int) -> None:
    """The figures of the page in the repository, of the proxy and of every baseline, come out of `validate` again."""
    lines = (ROOT / "docs" / "results.md").read_text(encoding="utf-8").splitlines()
    cells: dict[str, list[str]] = {}
    for line in lines:
        if line.startswith("| "):  # the first table, of networks; HyTAS's has rows of the same names
            cells.setdefault(line.split(" | ")[0].strip("| *"), line.split(" | "))
    found = validate(proxy, bench, seeds=1, batches=1, out=tmp_path / "run", progress=False).findings
    for offset, judged in enumerate([found.over_all, *([found.trainable] if found.trainable else [])]):
        means = {row.proxy: row for row in judged.rows if row.task == MEAN}
        for name in ("params", "width", FITTED, proxy):
            shown = cells[name][column + offset].rstrip(" |")
            tau, _, given = shown.partition("<br>")
            assert tau == results._estimate(means[name].tau)
            if name == proxy:
                assert given == results._estimate(judged.given)
