"""Training runs: whatever breaks one off, the same command ends with the benchmark of an unbroken run."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.bench_cache.runtime.journal import JournalError
from autoprox.bench_cache.training.by_reference import load_dataset
from autoprox.bench_cache.training.run import TrainingPlan, begin, carry_out, make_benchmark
from autoprox.bench_cache.training.trainer import Recipe


def npz(path: Path, count: int = 48, classes: int = 3) -> Path:
    rng = np.random.default_rng(0)
    labels = np.arange(count) % classes
    images = rng.normal(size=(classes, 8, 8))[labels] + 0.5 * rng.normal(size=(count, 8, 8))
    np.savez(path, images=images.astype(np.float32), labels=labels)
    return path


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> TrainingPlan:
    data = load_dataset(str(npz(tmp_path_factory.mktemp("data") / "toy.npz")))
    return TrainingPlan("mini-vit", (data,), archs=4, seeds=2, recipe=Recipe(1, 16))


@pytest.fixture(scope="module")
def unbroken(plan: TrainingPlan, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, dict[str, np.ndarray]]:
    path = tmp_path_factory.mktemp("run") / "x.journal"
    begin(path, plan)
    found = carry_out(path, plan, 1)
    return path.read_bytes(), found.accuracies


@pytest.mark.parametrize("cut", [1, 3, 4])
def test_a_run_that_was_broken_off_ends_like_an_unbroken_one(
    plan: TrainingPlan, unbroken: tuple[bytes, dict[str, np.ndarray]], tmp_path: Path, cut: int
) -> None:
    whole, accuracies = unbroken
    lines = whole.splitlines(keepends=True)
    path = tmp_path / "x.journal"
    path.write_bytes(b"".join(lines[:cut]) + lines[cut][: len(lines[cut]) // 2])  # the last line is torn
    assert begin(path, plan) == cut - 1
    seen: list[tuple[int, int]] = []
    found = carry_out(path, plan, 1, lambda done, of: seen.append((done, of)))
    assert seen == [(done, 4) for done in range(cut, 5)]
    np.testing.assert_array_equal(found.accuracies["toy"], accuracies["toy"])


@pytest.mark.slow
def test_two_workers_find_the_same(
    plan: TrainingPlan, unbroken: tuple[bytes, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    begin(tmp_path / "x.journal", plan)
    found = carry_out(tmp_path / "x.journal", plan, 2)
    np.testing.assert_array_equal(found.accuracies["toy"], unbroken[1]["toy"])


def test_a_journal_of_another_plan_is_refused(plan: TrainingPlan, unbroken: tuple[bytes, dict], tmp_path: Path) -> None:
    (tmp_path / "x.journal").write_bytes(unbroken[0])
    other = TrainingPlan(plan.space, plan.datasets, plan.archs, plan.seeds, Recipe(2, 16))
    with pytest.raises(JournalError, match="begun with another recipe"):
        begin(tmp_path / "x.journal", other)
    fewer = TrainingPlan(plan.space, (plan.datasets[0].limited(20, None),), plan.archs, plan.seeds, plan.recipe)
    with pytest.raises(JournalError, match="begun with another datasets"):
        begin(tmp_path / "x.journal", fewer)


def test_seeds_may_begin_where_those_of_another_run_end(
    plan: TrainingPlan, unbroken: tuple[bytes, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    second = replace(plan, seeds=1, first_seed=1)
    begin(tmp_path / "second.journal", second)
    found = carry_out(tmp_path / "second.journal", second, 1)
    np.testing.assert_array_equal(found.accuracies["toy"][:, 0], unbroken[1]["toy"][:, 1])
    with pytest.raises(JournalError, match="begun with another first_seed"):
        begin(tmp_path / "second.journal", replace(second, first_seed=0))


def test_a_journal_from_before_there_was_a_first_seed_began_at_0(
    plan: TrainingPlan, unbroken: tuple[bytes, dict], tmp_path: Path
) -> None:
    before = unbroken[0].replace(b'"first_seed":0,', b"")
    assert before != unbroken[0]
    (tmp_path / "x.journal").write_bytes(before)
    assert begin(tmp_path / "x.journal", plan) == plan.archs
    with pytest.raises(JournalError, match="begun with another first_seed"):
        begin(tmp_path / "x.journal", replace(plan, first_seed=1))


def test_fewer_architectures_are_the_first_of_more(plan: TrainingPlan) -> None:
    more = TrainingPlan(plan.space, plan.datasets, 9, 1, plan.recipe)
    assert more.architectures()[:4] == plan.architectures()
    assert len(set(more.architectures())) == 9


def test_the_benchmark_has_every_seed_images_and_a_card(plan: TrainingPlan, tmp_path: Path) -> None:
    begin(tmp_path / "x.journal", plan)
    made = make_benchmark(carry_out(tmp_path / "x.journal", plan, 1), "toys", "the command")
    made.save(tmp_path / "toys.json")
    found = Benchmark.load(tmp_path / "toys.json")
    assert found.seeds["toy"].shape == (4, 2)
    np.testing.assert_array_equal(found.tasks["toy"], found.seeds["toy"].mean(1))
    assert found.inputs["toy"].spec == plan.datasets[0].spec
    assert found.inputs["toy"].targets.tolist() == [n % 3 for n in range(16)]
    assert found.card["command"] == "the command"
    assert found.card["datasets"]["toy"]["sha256"] == plan.datasets[0].digest
    assert (found.card["recipe"]["epochs"], found.card["seeds"], found.card["archs"]) == (1, 2, 4)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"archs": 0}, "archs is 0"),
        ({"seeds": 0}, "seeds is 0"),
        ({"sample_seed": -1}, "sample_seed is -1"),
        ({"first_seed": -1}, "first_seed is -1"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(plan: TrainingPlan, choice: dict, message: str) -> None:
    facts = {"space": plan.space, "datasets": plan.datasets, "archs": 1, "seeds": 1, "recipe": plan.recipe}
    with pytest.raises(BenchmarkError, match=message):
        TrainingPlan(**{**facts, **choice})
    with pytest.raises(BenchmarkError, match="two data sets are called toy"):
        TrainingPlan(**{**facts, "datasets": plan.datasets * 2})


@pytest.mark.slow
def test_a_killed_command_goes_on(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "autoprox", "bench", "train", "--dataset", str(npz(tmp_path / "toy.npz", 240)),
        "--archs", "5", "--epochs", "3", "--seeds", "2", "--batch", "16", "--workers", "1",
    ]  # fmt: skip
    out, journal = tmp_path / "out.json", tmp_path / "out.json.journal"
    first = subprocess.Popen([*command, "--out", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 100
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= 3) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert not out.exists()
    done = journal.read_bytes().count(b"\n") - 1
    again = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, timeout=200, check=True)
    assert f"{done} done" in again.stdout
    assert "Next: autoprox bench show" in again.stdout
    plan = TrainingPlan("mini-vit", (load_dataset(str(tmp_path / "toy.npz")),), 5, 2, Recipe(3, 16))
    begin(tmp_path / "unbroken.journal", plan)
    found = Benchmark.load(out)
    assert found.architectures == plan.architectures()
    np.testing.assert_array_equal(
        found.seeds["toy"], carry_out(tmp_path / "unbroken.journal", plan, 1).accuracies["toy"]
    )
