"""Runs that cannot be started or gone on with."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import synthetic
from evolution_runs import BENCHMARK, CHOICES, at_generation, begin, interrupt

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.benchmarks.tabular import TabularArchitecture
from autoprox.bench_cache.runtime import files
from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.evolution import (
    JOURNAL,
    read_settings,
    run_evolution,
    start_evolution,
)
from autoprox.evolve import (
    Journal,
    JournalError,
    SettingsError,
)

# --- what is refused ---


def test_a_run_is_never_written_over(tmp_path: Path) -> None:
    out = begin(tmp_path / "run")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(JournalError, match=r"already holds a run; go on with --resume, or choose another --out$"):
        begin(out, synthetic.benchmark(20, "small", seed=3))
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_start_that_was_killed_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Journal, "create", lambda *args: interrupt())
        with pytest.raises(KeyboardInterrupt):
            begin(tmp_path / "run")
    with pytest.raises(JournalError, match="holds no run"):
        run_evolution(tmp_path / "run")
    assert read_settings(begin(tmp_path / "run")).seed == CHOICES["seed"]


@pytest.mark.parametrize(
    ("benchmarks", "tasks", "choices", "message"),
    [
        ([BENCHMARK, BENCHMARK], [], {}, "two benchmarks are called small"),
        ([BENCHMARK], ["speed"], {}, "no task is called 'speed'; there are size_kd, shape_kd, rare"),
        ([BENCHMARK], ["*_kd"], {"population": 1}, "population is 1; it must be a whole number of at least 4"),
        (
            [Benchmark("table", None, None, "made up", (TabularArchitecture((("a", 1),)),), {"task": np.ones(1)})],
            [], {}, "benchmark table is tabular: its networks cannot be built and probed",
        ),
    ],
    ids=["twice", "no such task", "setting", "tabular"],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_is_written(
    tmp_path: Path, benchmarks: list, tasks: list, choices: dict, message: str
) -> None:
    with pytest.raises((SettingsError, BenchmarkError), match=f"^{message}"):
        start_evolution(benchmarks, tasks, tmp_path / "run", **choices)
    assert not (tmp_path / "run").exists()


def test_another_benchmark_in_the_directory_is_refused(tmp_path: Path) -> None:
    out = begin(tmp_path / "run")
    replace(BENCHMARK, source="edited").save(out / "benchmarks" / "small.json")
    with pytest.raises(JournalError, match=r"small.json is not the benchmark that the run was started with"):
        run_evolution(out)
    (out / "benchmarks" / "small.json").unlink()
    with pytest.raises(FileNotFoundError):
        run_evolution(out)


@pytest.mark.parametrize(
    "change",
    [{"population": "many"}, {"colour": "red"}, {"tasks": [1]},
     {"tasks": ["small"]}, {"tasks": ["small:speed"]}, {"tasks": ["large:size_kd"]}, {"grammar": []}],
    ids=str,
)  # fmt: skip
def test_settings_that_cannot_be_read_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    out = begin(tmp_path / "run")
    head = orjson.loads((out / JOURNAL).read_bytes())
    head["settings"].update(change)
    (out / JOURNAL).write_bytes(orjson.dumps(head) + b"\n")
    with pytest.raises((JournalError, SettingsError)) as caught:
        run_evolution(out)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_one_process_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PATIENCE", 0)
    out = begin(tmp_path / "run", generations=0)
    refused: list[str] = []

    def again() -> None:
        with pytest.raises(JournalError, match="another process is going on with the run") as caught:
            run_evolution(out)
        refused.append(str(caught.value))

    run_evolution(out, watch=at_generation(0, again))
    assert len(refused) == 1
