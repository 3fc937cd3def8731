"""The scorer: the numbers of one evaluation after another, whoever computes them and wherever they are kept."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import synthetic

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.benchmarks.tabular import TabularArchitecture
from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.bench_cache.runtime.fork_server import interrupts_wait
from autoprox.bench_cache.runtime.local_pool import LocalPool, local_pool
from autoprox.bench_cache.runtime.submit import WorkerError
from autoprox.bench_cache.spaces.autoformer import AutoFormerArch
from autoprox.bench_cache.spaces.registry import InputSpec, get_space
from autoprox.bench_cache.statistics import large, scorer
from autoprox.bench_cache.statistics.large import STRIDE
from autoprox.bench_cache.statistics.number_store import NumberStore
from autoprox.bench_cache.statistics.protocol import rounded
from autoprox.bench_cache.statistics.scorer import network_scorer
from autoprox.bench_cache.statistics.store import StatisticsCache
from autoprox.bench_cache.statistics.subject import Subject
from autoprox.bench_cache.statistics.together import estimates
from autoprox.bench_cache.statistics.worker import NetworkTask
from autoprox.evolve import grammar
from autoprox.evolve.variation import generator, grow
from autoprox.primitives import Formula, evaluate, parse, requirements

COUNT = 6


def benchmark(space: str = "pit-vb101") -> Benchmark:
    """Make a benchmark of a few networks of several depths."""
    if space == "pit-vb101":
        return synthetic.benchmark(COUNT)
    rng, spec = random.Random(1), InputSpec(32, 3, 10, 16)
    chosen = tuple(get_space(space).sample(rng) for _ in range(2))
    return Benchmark(space, space, spec, "made up", chosen, {"task": np.arange(2.0)})


def random_formulas(name: str, count: int, *, costly: bool = False) -> list[Formula]:
    """Draw formulas of a grammar."""
    written = grammar(name, costly=costly)
    rng = generator(name, count)
    return [written.formula(grow(written, written.pset.ret, 2, 6, rng)) for _ in range(count)]


FORMULAS = [
    *random_formulas("typed", 40),
    *random_formulas("auto-prox", 15),
    *random_formulas("typed", 8, costly=True),
    parse("sum(fan_in[qkv] / tokens[fc1]) * flops"),
    parse("depth_weighted(depth_difference(heads[msa])) + width"),
    parse("params"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all tests of this file keep statistics."""
    return tmp_path_factory.mktemp("statistics")


@pytest.fixture(scope="module")
def expected(root: Path) -> np.ndarray:
    """The scores as computed by this process at once."""
    return network_scorer(benchmark(), root).scores(FORMULAS, range(COUNT))


@pytest.fixture(scope="module")
def pool() -> Iterator[Executor]:
    """Two worker processes."""
    made = local_pool(2)
    assert made is not None
    with made:
        yield made


# --- the numbers ---


@pytest.mark.parametrize("space", ["pit-vb101", pytest.param("autoformer-vb101", marks=pytest.mark.slow)])
def test_scores_are_those_of_one_evaluation_after_another(space: str, root: Path) -> None:
    chosen = benchmark(space)
    found = network_scorer(chosen, root).scores(FORMULAS, range(len(chosen)))
    wanted = requirements(FORMULAS)
    for column, arch in enumerate(chosen.architectures):
        assert chosen.space is not None
        assert chosen.spec is not None
        reading = Subject(chosen.space, arch, chosen.spec).probe(wanted)
        alone = [evaluate(formula, reading) for formula in FORMULAS]
        np.testing.assert_allclose(found[:, column], alone, rtol=1e-9, atol=0)


def test_only_the_networks_asked_for_in_the_order_asked(root: Path, expected: np.ndarray) -> None:
    chosen = network_scorer(benchmark(), root)
    np.testing.assert_array_equal(chosen.scores(FORMULAS[:9], [4, 1, 3]), expected[:9, [4, 1, 3]])
    np.testing.assert_array_equal(chosen.scores(FORMULAS[5:20], np.array([5, 1])), expected[5:20][:, [5, 1]])
    assert chosen.scores([], [0, 1]).shape == (0, 2)
    assert chosen.scores(FORMULAS[:3], []).shape == (3, 0)


@pytest.mark.slow
def test_kept_or_not_the_numbers_are_the_same(tmp_path: Path, expected: np.ndarray) -> None:
    found = network_scorer(benchmark(), tmp_path, kept=[0, 1, 2]).scores(FORMULAS, range(COUNT))
    np.testing.assert_array_equal(found, expected)
    assert len(list(tmp_path.glob("*/*/"))) == 3


def test_one_formula_at_a_time_gives_the_same_bits(root: Path, expected: np.ndarray) -> None:
    chosen = network_scorer(benchmark(), root)
    for row in range(0, len(FORMULAS), 4):
        np.testing.assert_array_equal(chosen.scores([FORMULAS[row]], range(COUNT)), expected[[row]])


def test_two_processes_give_the_same_bits(root: Path, expected: np.ndarray, pool: Executor) -> None:
    found = network_scorer(benchmark(), root, executor=pool).scores(FORMULAS, range(COUNT))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_any_executor_will_do(tmp_path: Path, expected: np.ndarray) -> None:
    with ThreadPoolExecutor(3) as threads:
        chosen = network_scorer(benchmark(), tmp_path, kept=range(3), executor=threads)
        np.testing.assert_array_equal(chosen.scores(FORMULAS, range(COUNT)), expected)


def test_weights_and_batch_are_the_scorers(root: Path, expected: np.ndarray) -> None:
    rows = [FORMULAS.index(parse("params")), 0, 1, 2, 3]
    formulas = [FORMULAS[row] for row in rows]
    for other in (network_scorer(benchmark(), root, seed=3), network_scorer(benchmark(), root, batch=4)):
        found = other.scores(formulas, range(COUNT))
        np.testing.assert_array_equal(found[0], expected[rows[0]])
        assert (found[1:] != expected[rows[1:]]).any()


def test_networks_that_are_equal_to_a_formula_tie_wherever_they_stand(root: Path) -> None:
    one = AutoFormerArch(192, (3,) * 12, (3.5,) * 12)
    twins = tuple(replace(one, num_heads=(3,) * (12 - n) + (4,) * n) for n in range(11))
    made = Benchmark("twins", "autoformer-vb101", InputSpec(32, 3, 10, 16), "made up", twins, {"task": np.arange(11.0)})
    formulas = [
        parse(f"sum(pow({part}, {power}))")
        for part in ("sigmoid(fan_in[qkv] / 150)", "position[all] * fan_out[all]", "log(fan_in[msa])")
        for power in (0.37, 1.7, -2.3)
    ]
    scores = network_scorer(made, root).scores(formulas, range(len(twins)))
    np.testing.assert_array_equal(scores, np.repeat(scores[:, :1], len(twins), axis=1))


def test_rounding_keeps_twelve_digits_of_any_number() -> None:
    values = np.array([0.0, 1.0, -1.0, np.pi, -1e-30, 1e30, 5e6 + 1e-5, 1e-300, -123456789.0123])
    np.testing.assert_allclose(rounded(values), values, rtol=1e-12, atol=0)
    np.testing.assert_array_equal(rounded(np.nextafter(values, 2.0)[1:]), rounded(values)[1:])
    assert rounded(values)[6] != 5e6


# --- each number once ---


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> list[NetworkTask]:
    """The tasks that are worked on, in order; what earlier scorers stored is not found."""
    seen: list[NetworkTask] = []
    plain = large.reduce_network

    def recorded(task: NetworkTask) -> object:
        seen.append(task)
        return plain(task)

    monkeypatch.setattr(large, "reduce_network", recorded)
    monkeypatch.setattr(NumberStore, "read", lambda *_: {})
    return seen


def test_each_part_is_computed_once_for_each_network(root: Path, tasks: list[NetworkTask]) -> None:
    chosen = network_scorer(benchmark(), root)
    for formulas in (FORMULAS[:20], FORMULAS[10:40], FORMULAS):
        for indices in ([0, 1, 2], range(COUNT)):
            chosen.scores(formulas, indices)
    parts = [(task.subject.key, part) for task in tasks for part in task.parts]
    numbers = [(task.subject.key, name) for task in tasks for name in task.numbers]
    assert len(parts) == len(set(parts))
    assert len(numbers) == len(set(numbers))
    done = len(tasks)
    chosen.scores(FORMULAS[::-1], range(COUNT))
    assert len(tasks) == done


def test_roles_share_their_layers(root: Path, tasks: list[NetworkTask]) -> None:
    chosen = network_scorer(benchmark(), root)
    chosen.scores([parse("sum(fro(weight))")], [0])
    chosen.scores([parse("sum(fro(weight[mlp]))"), parse("max(fro(weight[qkv]))")], [0])
    assert len(tasks) == 1
    chosen.scores([parse("sum(fro(weight[mlp] + weight[mlp]))")], [0])
    assert [part.text for part in tasks[1].parts] == [
        "fro(weight[fc1] + weight[fc1])",
        "fro(weight[fc2] + weight[fc2])",
    ]


def test_what_is_remembered_is_bounded(
    root: Path, expected: np.ndarray, tasks: list[NetworkTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large, "REMEMBERED", 20_000)
    chosen, often = network_scorer(benchmark(), root), parse("sum(fro(weight[qkv]))")
    for row in range(25):
        np.testing.assert_array_equal(chosen.scores([FORMULAS[row]], range(COUNT)), expected[[row]])
        chosen.scores([often], range(COUNT))
        assert sum(numbers.nbytes for numbers in chosen._parts.values()) <= 20_000
    parts = [part.text for task in tasks for part in task.parts]
    assert max(parts.count(part) for part in parts) > COUNT  # some were forgotten
    assert parts.count("fro(weight[qkv])") == COUNT  # but not what was used all the time


# --- building ahead ---


def test_preparing_builds_what_is_kept_once(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    chosen = network_scorer(benchmark(), tmp_path, kept=[0, 1, 2, 3])
    formulas = [parse("sum(fro(weight[qkv]))"), parse("sum(fro(act[noise]))")]
    for _ in range(2):
        chosen.prepare(formulas, [1, 2, 3, 5], lambda done, of: seen.append((done, of)))
    assert [done for done, of in seen] == sorted(done for done, of in seen)
    assert {of for _, of in seen} <= {3}
    store = StatisticsCache(tmp_path)
    there = [store.has(subject, [("weight", ""), ("act", "noise")]) for subject in chosen.subjects]
    assert there == [False, True, True, True, False, False]


def test_no_room_on_the_disk_is_said_before_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(BenchmarkError, match=r"mini need another 0\.0 GB .* set AUTOPROX_HOME to a folder on a larger"):
        network_scorer(synthetic.mini(6), tmp_path).prepare([parse("sum(fro(weight))")], range(6))


def test_large_networks_for_which_there_is_no_room_are_read_again_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scorer, "SMALL", 0)
    formulas, root, indices = (
        [parse("sum(fro(weight[qkv])) + mean(std(act[noise]))")],
        tmp_path / "little",
        range(COUNT),
    )
    plenty = network_scorer(benchmark(), tmp_path / "much")
    plenty.prepare(formulas, indices)
    one = StatisticsCache(plenty.root).size(plenty.subjects[0])

    def usage(path: Path) -> SimpleNamespace:
        return SimpleNamespace(free=6 * one - sum(file.stat().st_size for file in root.rglob("*.*")))

    monkeypatch.setattr(shutil, "disk_usage", usage)
    little = network_scorer(benchmark(), root)
    little.prepare(formulas, indices)
    assert little.kept == {0, 1, 2}
    little = network_scorer(benchmark(), root)  # as when a run goes on; the others being smaller, another may fit
    little.prepare(formulas, indices)
    assert {0, 1, 2} <= little.kept < set(indices)
    np.testing.assert_array_equal(little.scores(formulas, indices), plenty.scores(formulas, indices))
    (found,), (expected,) = (estimates([each], formulas, [np.arange(COUNT)]) for each in (little, plenty))
    np.testing.assert_array_equal(found, expected)
    cache, pairs = StatisticsCache(root), [("weight", ""), ("act", "noise")]
    assert [cache.has(subject, pairs) for subject in little.subjects] == [i in little.kept for i in indices]
    assert all(cache.has(subject, pairs, STRIDE) for subject in little.subjects)


# --- what cannot be ---


def test_a_tabular_benchmark_has_no_networks(tmp_path: Path) -> None:
    table = Benchmark("table", None, None, "made up", (TabularArchitecture((("a", 1),)),), {"task": np.ones(1)})
    with pytest.raises(BenchmarkError, match=r"^benchmark table is tabular: its networks cannot be built and probed$"):
        network_scorer(table, tmp_path)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_probe_that_needs_images_is_one_clear_error(root: Path, pool: Executor, workers: int) -> None:
    chosen = network_scorer(benchmark(), root, executor=pool if workers == 2 else None)
    with pytest.raises(BenchmarkError, match=r"no images for the probe 'data'; use the probe 'noise'"):
        chosen.scores([parse("sum(fro(weight_grad))")], range(COUNT))
    assert np.isfinite(chosen.scores(FORMULAS[:2], range(COUNT))).all()  # and it works on


def test_a_dead_worker_is_one_clear_error(root: Path) -> None:
    pool = local_pool(2)
    assert isinstance(pool, LocalPool)
    with pool:
        chosen = network_scorer(benchmark(), root, executor=pool)
        chosen.scores(FORMULAS[:2], range(2))
        for process in pool.pids:
            os.kill(process, signal.SIGKILL)
        with pytest.raises(WorkerError, match=r"^a worker process died.* nothing that was finished is lost.*--resume"):
            chosen.scores(FORMULAS, range(COUNT))


# --- processes and signals ---

_KILLED = """
import os, signal, sys
from autoprox.bench_cache.runtime.local_pool import local_pool
if __name__ == "__main__":
    pool = local_pool(2)
    futures = [pool.submit(os.getpid) for _ in range(2)]
    print(*{future.result() for future in futures}, *pool.pids, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_workers_end_with_a_killed_run(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(_KILLED)
    ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == -signal.SIGKILL
    workers = {int(word) for word in ran.stdout.split()}
    assert workers
    deadline = time.monotonic() + 30
    while any(_runs(worker) for worker in workers):
        assert time.monotonic() < deadline, "the workers of a killed run wait for ever"
        time.sleep(0.05)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_an_interrupt_waits_for_the_end_of_the_block() -> None:
    reached = False
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012, SIM117
        with interrupts_wait():
            signal.raise_signal(signal.SIGINT)
            reached = True
    assert reached
