"""Tasks and benchmarks that an evolution holds out whole, and the count of looks at its test split."""

import json
from pathlib import Path

import homes
import numpy as np
import pytest
import scipy.stats
import synthetic
from evolution_runs import BENCHMARK, CHOICES, at_generation, interrupt

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.bench_cache.statistics.scorer import network_scorer
from autoprox.evolution import JOURNAL, run_evolution, start_evolution
from autoprox.evolve import FORMULA, JournalError, SettingsError, count_looks
from autoprox.evolve.looks import LOOKS

OTHER = synthetic.benchmark(16, "other", seed=3)


@pytest.fixture(autouse=True)
def _at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPROX_HOME", str(homes.made(tmp_path / "home")))


def test_what_is_held_out_is_judged_at_the_end_and_changes_nothing(tmp_path: Path) -> None:
    plain, held = tmp_path / "plain", tmp_path / "held"
    start_evolution([BENCHMARK], ["size_kd"], plain, **CHOICES)
    settings = start_evolution(
        [BENCHMARK], ["*_kd"], held, leave_out_tasks=["shape*"], leave_out_benchmarks=[OTHER], **CHOICES
    )
    assert settings.tasks == ("small:size_kd",)
    assert settings.held_out == ("small:shape_kd", "other:size_kd", "other:shape_kd", "other:rare")
    expected, result = run_evolution(plain), run_evolution(held)
    lines, others = ((out / JOURNAL).read_bytes().split(b"\n")[1:] for out in (plain, held))
    assert lines == others
    assert result.report == expected.report
    assert result.proxy.provenance["benchmarks"] == ["small"]
    assert result.proxy.provenance["held_out"] == list(settings.held_out)
    assert (expected.held_out, expected.looks) == (None, result.looks)
    assert result.held_out is not None
    for benchmark, task in ((BENCHMARK, "shape_kd"), (OTHER, "rare")):
        at = benchmark.splits()["test"]
        scores = network_scorer(benchmark, tmp_path / "own", kept=[]).scores([result.proxy.formula], at)[0]
        there = ~np.isnan(benchmark.tasks[task][at])
        tau = scipy.stats.kendalltau(scores[there], benchmark.tasks[task][at][there]).statistic
        assert result.held_out.row(FORMULA, "test", task, benchmark.name).tau == pytest.approx(np.nan_to_num(tau))
    stored = json.loads((held / "report.json").read_bytes())["held_out"]["rows"]
    assert {(row["benchmark"], row["task"], row["split"]) for row in stored} == {
        *((*name.split(":"), "test") for name in settings.held_out), ("", "mean", "test"),
    }  # fmt: skip


@pytest.mark.slow
def test_an_interrupted_run_does_not_look(tmp_path: Path) -> None:
    start_evolution([BENCHMARK], ["*_kd"], tmp_path / "run", leave_out_tasks=["shape_kd"], **CHOICES)
    result = run_evolution(tmp_path / "run", watch=at_generation(1, interrupt))
    assert result.held_out is None
    assert "test was looked at 0 times" in result.looks
    assert "test was looked at 1 time (evolve 1)" in run_evolution(tmp_path / "run").looks
    assert run_evolution(tmp_path / "run").held_out is not None
    assert count_looks(tmp_path / "run") == 2


def test_a_damaged_count_is_told_before_the_work(tmp_path: Path) -> None:
    start_evolution([BENCHMARK], ["*_kd"], tmp_path / "run", **CHOICES)
    (tmp_path / "run" / LOOKS).write_bytes(b"x\n")
    with pytest.raises(JournalError, match="line 1 is damaged"):
        run_evolution(tmp_path / "run", watch=at_generation(0, lambda: pytest.fail("it has begun")))


@pytest.mark.parametrize(
    ("tasks", "benchmarks", "message"),
    [
        (["*"], (), "no task of benchmark small is left to evolve on; leave out fewer tasks"),
        (["speed"], (), "no task is called 'speed'"),
        ([], (BENCHMARK,), "two benchmarks are called small"),
    ],
)
def test_what_cannot_be_held_out(
    tmp_path: Path, tasks: list[str], benchmarks: tuple[Benchmark, ...], message: str
) -> None:
    with pytest.raises((BenchmarkError, SettingsError), match=message):
        start_evolution(
            [BENCHMARK], ["*_kd"], tmp_path, leave_out_tasks=tasks, leave_out_benchmarks=benchmarks, **CHOICES
        )
    assert not (tmp_path / JOURNAL).exists()
