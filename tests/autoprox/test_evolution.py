"""A run: one directory from benchmarks to a proxy with its verdict, the same however often it is broken off."""

import csv
import json
import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import homes
import numpy as np
import pytest
import scipy.stats
import synthetic
from evolution_runs import BENCHMARK, CHOICES, at_generation, begin, interrupt

import autoprox.evolution
from autoprox.bench_cache.benchmarks.table import SPLITS, Benchmark
from autoprox.bench_cache.runtime.local_pool import LocalPool
from autoprox.bench_cache.runtime.submit import WorkerError
from autoprox.bench_cache.statistics import scorer
from autoprox.bench_cache.statistics.scorer import network_scorer
from autoprox.bench_cache.statistics.store import StatisticsCache
from autoprox.bench_cache.statistics.subject import Subject
from autoprox.evolution import (
    JOURNAL,
    SCORES,
    EvolutionResult,
    EvolutionWatcher,
    run_evolution,
)
from autoprox.evolve import (
    FORMULA,
    LOOKS,
    Journal,
    Judge,
    Judgement,
    SettingsError,
    Task,
    assembly,
    fitness,
)
from autoprox.evolve.grammar import terminals
from autoprox.primitives import parse
from autoprox.proxy import PROXY_FILE, Proxy, resolve


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of statistics that the tests of this file share."""
    return homes.made(tmp_path_factory.mktemp("home"))


@pytest.fixture(autouse=True)
def _at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPROX_HOME", str(home))


@pytest.fixture(scope="module")
def whole(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, EvolutionResult]]:
    """A run in one go, which the others must equal."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AUTOPROX_HOME", str(home))
        out = begin(tmp_path_factory.mktemp("whole") / "run")
        yield out, run_evolution(out)


def assert_same(out: Path, result: EvolutionResult, whole: tuple[Path, EvolutionResult]) -> None:
    assert (out / JOURNAL).read_bytes() == (whole[0] / JOURNAL).read_bytes()
    for name in ("report.json", "report.csv", "generations.csv", PROXY_FILE):
        assert (out / name).read_bytes() == (whole[0] / name).read_bytes()
    assert result.report == whole[1].report
    assert result.finished


@pytest.mark.slow
@pytest.mark.parametrize("kept", [0, 4])
def test_room_on_the_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    """How many large networks' statistics the disk has room for is no part of the result."""
    monkeypatch.setattr(scorer, "SMALL", 0)
    monkeypatch.setattr(fitness, "AT_ONCE", 2)
    choices, told = {"generations": 1, "population": 8}, list[str]()
    run_evolution(begin(tmp_path / "plenty", **choices))
    monkeypatch.setenv("AUTOPROX_HOME", str(tmp_path / "home"))
    root = tmp_path / "home" / "statistics"

    def usage(path: Path) -> SimpleNamespace:
        """Tell of room for twice as many networks as the first that was built, half of which is left free."""
        used = sum(file.stat().st_size for file in root.rglob("*.*"))
        return SimpleNamespace(free=(2 * kept - 1) * used if kept else 0)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    run_evolution(begin(tmp_path / "little", **choices), watch=EvolutionWatcher(notice=told.append))
    assert len(told) == 1
    assert (tmp_path / "little" / JOURNAL).read_bytes() == (tmp_path / "plenty" / JOURNAL).read_bytes()


# --- what a run leaves ---


def test_the_directory_stands_alone(whole: tuple[Path, EvolutionResult]) -> None:
    out, result = whole
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert files == {
        JOURNAL,
        LOOKS,
        PROXY_FILE,
        "generations.csv",
        "report.json",
        "report.csv",
        SCORES,
        "benchmarks/small.json",
    }
    assert Benchmark.load(out / "benchmarks" / "small.json").to_bytes() == BENCHMARK.to_bytes()
    assert (result.finished, result.generations) == (True, CHOICES["generations"])
    assert resolve(str(out)).formula == result.proxy.formula


def test_the_rows_are_the_same_everywhere(whole: tuple[Path, EvolutionResult]) -> None:
    out, result = whole
    stored = json.loads((out / "report.json").read_bytes())
    with open(out / "report.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert len(stored["rows"]) == len(table) == len(result.report.rows) == 3 * 8 * 3
    for row, in_json, in_csv in zip(result.report.rows, stored["rows"], table, strict=True):
        assert in_json == vars(row)
        assert in_csv == {name: "" if value is None else str(value) for name, value in vars(row).items()}
    assert stored["formula"] == result.proxy.formula.text
    assert [lead["split"] for lead in stored["leads"] if lead["baseline"] == "params"] == list(SPLITS)


def test_generations_are_those_of_the_journal(whole: tuple[Path, EvolutionResult]) -> None:
    out, _ = whole
    with open(out / "generations.csv", newline="") as file:
        table = list(csv.DictReader(file))
    records = Journal.open(out / JOURNAL).records
    assert len(table) == len(records) == CHOICES["generations"] + 1
    for row, record in zip(table, records, strict=True):
        assert (int(row["generation"]), int(row["unique"])) == (record["generation"], record["unique"])
        assert (row["formula"], float(row["joint"])) == (record["best"]["formula"], record["best"]["joint"])


def test_taus_in_provenance_and_report_are_those_of_the_benchmark(
    whole: tuple[Path, EvolutionResult], home: Path
) -> None:
    out, result = whole
    proxy = Proxy.load(out / PROXY_FILE)
    for split in SPLITS:
        at = BENCHMARK.splits()[split]
        scores = network_scorer(BENCHMARK, home / "statistics", kept=[]).scores([proxy.formula], at)[0]
        for task in ("size_kd", "shape_kd"):
            tau = scipy.stats.kendalltau(scores, BENCHMARK.tasks[task][at]).statistic
            assert result.report.row(FORMULA, split, task, "small").tau == pytest.approx(tau)
            assert proxy.provenance["tau"][split][f"small:{task}"] == pytest.approx(tau, abs=1e-4)
        mean = result.report.row(FORMULA, split).tau
        assert proxy.provenance["tau"][split]["mean"] == pytest.approx(mean, abs=1e-4)
    assert proxy.provenance["seed"] == CHOICES["seed"]
    assert proxy.provenance["benchmarks"] == ["small"]
    assert proxy.provenance["tasks"] == ["small:size_kd", "small:shape_kd"]
    assert proxy.provenance["generations"] == CHOICES["generations"]


def test_the_front_is_of_all_that_was_judged_and_validation_chooses_from_it(
    whole: tuple[Path, EvolutionResult], home: Path
) -> None:
    out, result = whole
    judge = Judge([network_scorer(BENCHMARK, home / "statistics")], [Task(0, "size_kd"), Task(0, "shape_kd")])
    records = Journal.open(out / JOURNAL).records
    outcomes = [
        (parse(text).size, found[0]) for record in records for text, found in record["judged"] if found[0] != ""
    ]
    numbers = [(size, joint) for size, joint in outcomes if not isinstance(joint, str)]
    for row in result.front:
        (outcome,) = judge.judge([parse(row.formula)])
        assert isinstance(outcome, Judgement)
        assert (row.complexity, row.evolve) == (parse(row.formula).size, pytest.approx(outcome.joint))
        assert all(joint <= row.evolve + 1e-9 for size, joint in numbers if size <= row.complexity)
    assert [asdict(row) for row in result.front] == json.loads((out / "report.json").read_bytes())["front"]
    best = max(row.validation for row in result.front if row.validation is not None)
    (found,) = judge.judge([result.proxy.formula], "validation")
    assert isinstance(found, Judgement)
    assert found.joint > best - 0.1


def test_a_run_stopped_in_any_way_leaves_the_best_so_far(tmp_path: Path) -> None:
    seen = []

    def generation(record: Mapping[str, Any]) -> None:
        proxy = Proxy.load(out / PROXY_FILE)
        assert proxy.formula.text == record["best"]["formula"]
        assert proxy.provenance["generations"] == record["generation"]
        assert "has not finished" in proxy.provenance["note"]
        assert "tau" not in proxy.provenance
        seen.append(record["generation"])

    out = begin(tmp_path / "run", generations=1)
    result = run_evolution(out, watch=EvolutionWatcher(generation=generation))
    assert seen == [0, 1]
    assert "note" not in result.proxy.provenance


# --- one result ---


def test_two_workers_give_the_same_files(tmp_path: Path, whole: tuple[Path, EvolutionResult]) -> None:
    out = begin(tmp_path / "run")
    assert_same(out, run_evolution(out, workers=2), whole)


@pytest.mark.slow
def test_statistics_that_are_not_there_or_damaged_do_not_matter(
    tmp_path: Path, whole: tuple[Path, EvolutionResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOPROX_HOME", str(tmp_path / "elsewhere"))

    def damage() -> None:
        for number, path in enumerate(sorted((tmp_path / "elsewhere").rglob("*.safetensors"))):
            data = bytearray(path.read_bytes())
            data[-1 - number % 1000] ^= 255
            path.write_bytes(data[: len(data) // 2] if number % 3 == 0 else data)
            os.utime(path, ns=(number, number))

    out = begin(tmp_path / "run")
    assert_same(out, run_evolution(out, watch=at_generation(1, damage)), whole)


@pytest.mark.parametrize("generation", [0, 2])
def test_an_interrupted_run_reports_without_the_test_split_and_goes_on(
    tmp_path: Path, whole: tuple[Path, EvolutionResult], generation: int
) -> None:
    out = begin(tmp_path / "run")
    result = run_evolution(out, watch=at_generation(generation, interrupt))
    assert (result.finished, result.generations) == (False, generation)
    assert {row.split for row in result.report.rows} == {"evolve", "validation"}
    assert set(result.proxy.provenance["tau"]) == {"evolve", "validation"}
    assert Proxy.load(out / PROXY_FILE).formula == result.proxy.formula
    assert len(Journal.open(out / JOURNAL).records) == generation + 1
    assert_same(out, run_evolution(out), whole)


@pytest.mark.slow
def test_interrupted_before_there_is_a_formula(
    tmp_path: Path, whole: tuple[Path, EvolutionResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOPROX_HOME", str(tmp_path / "elsewhere"))
    out = begin(tmp_path / "run")

    def building(done: int, of: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_evolution(out, watch=EvolutionWatcher(building=building))
    assert not (out / PROXY_FILE).exists()
    assert_same(out, run_evolution(out), whole)


def test_a_dead_worker_is_told_and_the_run_goes_on(
    tmp_path: Path, whole: tuple[Path, EvolutionResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill() -> None:
        for process in pools[0].pids:
            os.kill(process, signal.SIGKILL)

    pools: list[Any] = []
    plain = autoprox.evolution.local_pool
    monkeypatch.setattr(autoprox.evolution, "local_pool", lambda *a, **k: pools.append(plain(*a, **k)) or pools[-1])
    out = begin(tmp_path / "run")
    with pytest.raises(WorkerError, match="nothing that was finished is lost"):
        run_evolution(out, workers=2, watch=at_generation(1, kill))
    assert isinstance(pools[0], LocalPool)
    assert Proxy.load(out / PROXY_FILE).provenance["generations"] == 1
    assert_same(out, run_evolution(out), whole)


@pytest.mark.slow
def test_a_finished_run_can_be_finished_again_and_go_further(
    tmp_path: Path, whole: tuple[Path, EvolutionResult]
) -> None:
    out = begin(tmp_path / "run", generations=2)
    run_evolution(out)
    run_evolution(out)
    result = run_evolution(out, generations=3)
    assert result.generations == 3
    assert result.proxy.formula == whole[1].proxy.formula
    lines, expected = ((path / JOURNAL).read_bytes().split(b"\n") for path in (out, whole[0]))
    assert lines[1:] == expected[1:]
    with pytest.raises(SettingsError, match=r"^generations is 2, but the run in .* has 3 already$"):
        run_evolution(out, generations=2)


def test_no_generation_but_the_first(tmp_path: Path) -> None:
    result = run_evolution(begin(tmp_path / "run", generations=0))
    assert (result.finished, result.generations) == (True, 0)
    assert len(result.report.rows) == 3 * 8 * 3


@pytest.mark.parametrize(
    "choices",
    [{"grammar": "auto-prox", "joint": "min"}, {"strategy": "auto-prox", "joint": "mean-spread", "retries": 0},
     pytest.param({"costly": True, "batch": 3}, marks=pytest.mark.slow)],
    ids=lambda choices: ", ".join(map(str, choices.values())),
)  # fmt: skip
def test_the_settings_are_kept_to(
    tmp_path: Path, home: Path, choices: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = assembly.grammar
    asked: list[tuple[bool, str]] = []
    monkeypatch.setattr(
        assembly,
        "grammar",
        lambda name, operations, *, costly, probe, steps, convolutional: (
            asked.append((costly, probe))
            or plain(name, operations, costly=costly, probe=probe, steps=steps, convolutional=convolutional)
        ),
    )
    out = begin(tmp_path / "run", **{"generations": 0, **choices})
    run_evolution(out)
    assert asked == [(choices.get("costly", False), "noise")]
    arch = BENCHMARK.architectures[BENCHMARK.splits()["evolve"][0]]
    subject = Subject("pit-vb101", arch, synthetic.SPEC, batch=choices.get("batch", 2))
    assert StatisticsCache(home / "statistics").has(subject, terminals("noise"))
    record = Journal.open(out / JOURNAL).records[0]
    combine = {"min": min, "mean-spread": lambda taus: np.mean(taus) - np.std(taus)}
    for _, outcome in record["judged"]:
        if isinstance(outcome, list):
            assert outcome[0] == pytest.approx(combine.get(choices.get("joint", ""), np.mean)(outcome[1:]))
    if "grammar" in choices:
        assert all(names[0] == "mean over layers" for names in record["population"])


@pytest.mark.slow
def test_two_benchmarks(tmp_path: Path) -> None:
    other = synthetic.benchmark(16, "other", seed=3)
    result = run_evolution(begin(tmp_path / "run", BENCHMARK, other, generations=0))
    assert {row.benchmark for row in result.report.rows} == {"small", "other", ""}
    assert len(result.report.rows) == 3 * 8 * 5
    assert result.proxy.provenance["benchmarks"] == ["small", "other"]
