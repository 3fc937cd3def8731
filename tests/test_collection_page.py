"""benchmarks/collection.py: a run becomes a record, a validation its figures, and the records the page."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import synthetic
from places import ROOT

from autoprox.collection.record import read_collection, write_collection
from autoprox.evolution import run_evolution, start_evolution
from autoprox.proxy import Proxy

BENCHMARK = synthetic.benchmark(36)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script with a collection, a benchmark and a page of its own."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    made = importlib.import_module("collection")
    write_collection((), tmp_path / "collection.json")
    BENCHMARK.save(tmp_path / "data" / "small.json")
    bench = made.Bench("small", "data/small.json", "*_kd", split="all")
    for name, value in (("FILE", tmp_path / "collection.json"), ("PAGE", tmp_path / "page.md"), ("BENCHES", (bench,))):
        monkeypatch.setattr(made, name, value)
    made.PAGE.write_text(f"before\n\n{made.BEGIN}\nfrom before\n{made.END}\nafter\n")
    return made


@pytest.mark.slow
def test_a_run_becomes_a_page(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPROX_HOME", str(tmp_path / "home"))
    run = tmp_path / "run"
    start_evolution([BENCHMARK], ["*_kd"], run, generations=1, population=4, seed=1, grammar="auto-prox")
    evolved = run_evolution(run).proxy
    script.add("first", run, "sum(fro(weight))")
    (record,) = read_collection(script.FILE)
    assert record.formula == "sum(fro(weight))"
    assert record.provenance["tasks"] == ["small:size_kd", "small:shape_kd"]
    assert record.provenance["tried"] == evolved.provenance["tried"] >= 4
    assert record.provenance["looks"] == 2
    assert record.provenance["note"] == f"Shortened on the evolve and validation splits from {evolved.text}."

    script.validated(tmp_path, tmp_path / "runs", [])
    (figures,) = read_collection(script.FILE)[0].figures
    assert (figures.benchmark, figures.split, figures.networks, figures.tasks) == ("small", "all", 36, 2)
    assert figures.held_out is False
    assert figures.verdict.startswith("On small first is ")
    assert figures.command == "autoprox validate first --bench DATA/data/small.json --tasks '*_kd' --split all"
    assert [(each.task, each.seen) for each in figures.by_task] == [("size_kd", True), ("shape_kd", True)]
    low, high = figures.of_many
    assert low < figures.tau[1] < figures.tau[0] < figures.tau[2] < high  # it knows how many were tried

    script.page()
    page = script.PAGE.read_text()
    assert page.startswith("before\n\n")
    assert page.endswith("\nafter\n")
    assert "from before" not in page
    for text in ("## first", "    sum(fro(weight))", "pictures/first.svg", figures.verdict, figures.command):
        assert text in page
    assert (tmp_path / "pictures" / "first.svg").read_text().startswith("<?xml")


def test_what_is_too_long_is_refused(script: ModuleType, tmp_path: Path) -> None:
    run = tmp_path / "run"
    long = " + ".join(f"sum(fro(weight * {number}.5))" for number in range(4))
    Proxy.from_formula(long).save(run / "proxy.json")
    with pytest.raises(SystemExit, match="nodes; a shipped formula has at most 15"):
        script.add("long", run)
    assert read_collection(script.FILE) == ()
