"""Of two processes that start or continue the same run at the same moment, one does, and the other says so."""

import errno
import os
import time
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import synthetic
from durable import (
    BENCHMARKS,
    GENERATIONS,
    TASKS,
    Forker,
    Whole,
    assert_same,
    choices,
    evolve,
    one_line,
)

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.runtime.files import write_new
from autoprox.cli.root import FAILED
from autoprox.evolution import JOURNAL, start_evolution
from autoprox.evolve import JournalError


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_of_two_that_start_at_the_same_moment_one_runs(forker: Forker, tmp_path: Path, whole: Whole, seed: int) -> None:
    rng, out, at = Random(seed), tmp_path / "run", time.time() + 0.1
    command = [*choices(whole.bench), "--workers", "1", "--out", str(out)]
    pair = [forker.start(command, whole.home, at=at + rng.random() * 0.005) for _ in range(2)]
    (code, said), (failed, error) = sorted(process.end() for process in pair)
    assert (code, "error: " in said, failed) == (0, False, FAILED)
    assert one_line(error) == f"{out} already holds a run; go on with --resume, or choose another --out"
    assert_same(out, whole.out)


@pytest.mark.slow
def test_of_two_that_start_with_other_benchmarks_one_runs_on_its_own(
    forker: Forker, tmp_path: Path, whole: Whole
) -> None:
    other = tmp_path / "mini.json"
    replace(BENCHMARKS["mini"], source="another").save(other)
    for number in range(3):
        out, at = tmp_path / str(number), time.time() + 0.1
        commands = [[*choices(bench, 0), "--workers", "1", "--out", str(out)] for bench in (whole.bench, other)]
        pair = [forker.start(command, whole.home, at=at) for command in commands]
        ends = [process.end() for process in pair]
        assert sorted(code for code, _ in ends) == [0, FAILED]
        winner = next(bench for bench, end in zip((whole.bench, other), ends, strict=True) if end[0] == 0)
        assert "choose another --out" in one_line(next(error for code, error in ends if code == FAILED))
        assert (out / "benchmarks" / "mini.json").read_bytes() == winner.read_bytes()
        assert evolve("--resume", "--out", out) == 0


def test_of_two_that_resume_at_the_same_moment_one_does(forker: Forker, tmp_path: Path, whole: Whole) -> None:
    out, at = tmp_path / "run", time.time() + 0.1
    start_evolution([Benchmark.load(whole.bench)], [TASKS["mini"]], out, generations=GENERATIONS, population=5, seed=2)
    pair = [forker.start(["--workers", "1", "--resume", "--out", str(out)], whole.home, at=at) for _ in range(2)]
    (code, said), (failed, error) = sorted(process.end() for process in pair)
    assert (code, "error: " in said, failed) == (0, False, FAILED)
    expected = f"another process is going on with the run in {out}; wait for it, or choose another --out"
    assert one_line(error) == expected
    assert_same(out, whole.out)


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_a_new_file_is_written_once(tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), str(source), None, str(target))

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "folder" / "file"
    assert write_new(path, b"first")
    assert not write_new(path, b"second")
    assert path.read_bytes() == b"first"
    assert os.listdir(path.parent) == ["file"]


def test_a_benchmark_is_not_put_in_place_of_another(tmp_path: Path) -> None:
    """It may be of a run that starts at the same moment, whose journal comes after it."""
    BENCHMARKS["small"].save(tmp_path / "run" / "benchmarks" / "small.json")
    before = (tmp_path / "run" / "benchmarks" / "small.json").read_bytes()
    with pytest.raises(JournalError, match=r"small\.json is another benchmark; remove it, or choose another --out$"):
        start_evolution([synthetic.benchmark(16, seed=5)], ["*_kd"], tmp_path / "run")
    assert (tmp_path / "run" / "benchmarks" / "small.json").read_bytes() == before
    assert not (tmp_path / "run" / JOURNAL).exists()
