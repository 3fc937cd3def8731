"""`--dask`: a real scheduler and real workers on this machine give the result of a local run, whoever dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError, Future, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic

from autoprox.bench_cache.runtime import dask_pool
from autoprox.bench_cache.runtime.dask_pool import ClusterError, DaskPool, Homes
from autoprox.bench_cache.runtime.placement import Placed
from autoprox.bench_cache.statistics.large import LargeScorer
from autoprox.bench_cache.statistics.scorer import network_scorer
from autoprox.cli.root import FAILED, main
from autoprox.evolution import JOURNAL, EvolutionWatcher, run_evolution, start_evolution
from autoprox.evolve import Journal
from autoprox.primitives import parse
from autoprox.proxy import PROXY_FILE

pytest.importorskip("distributed", reason="needs the extra autoprox[dask]")

BENCHMARK = synthetic.mini(40)
CHOICES: dict[str, Any] = {"generations": 4, "population": 5, "seed": 2}
FORMULAS = [parse("sum(fro(weight))"), parse("sum(fro(act[noise]))"), parse("params")]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's folder, with the benchmark in it."""
    made = tmp_path_factory.mktemp("home")
    BENCHMARK.save(made / "benchmarks" / "mini.json")
    return made


@pytest.fixture(autouse=True)
def _at_home(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPROX_HOME", str(home))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def whole(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in one go in this process, which the others must equal."""
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AUTOPROX_HOME", str(home))
        run_evolution(begin(out))
    return out


def begin(out: Path) -> Path:
    start_evolution([BENCHMARK], [], out, **CHOICES)
    return out


def assert_same(out: Path, whole: Path) -> None:
    for name in (JOURNAL, PROXY_FILE, "report.json", "report.csv", "generations.csv"):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name


class Cluster:
    """A scheduler and workers as processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "scheduler.json"
        self.processes: list[subprocess.Popen] = []
        self.scheduler = self._run("scheduler", "--port", "0", "--scheduler-file", str(self.file))
        self.address = ""

    def begin(self, workers: int) -> None:
        """Wait for the scheduler's address, then start workers."""
        while not self.address:
            assert self.scheduler.poll() is None, "the scheduler does not start"
            with suppress(FileNotFoundError, json.JSONDecodeError):  # not there yet, or half written
                self.address = json.loads(self.file.read_bytes())["address"]
            time.sleep(0.05)
        for _ in range(workers):
            self.worker()

    def worker(self, *arguments: str, threads: int = 1, path: Path | None = None) -> subprocess.Popen:
        """Start a worker; `path` goes before the other places that it imports from."""
        folder = self.folder / f"worker-{len(self.processes)}"
        settings = ("--no-nanny", "--nthreads", str(threads), "--memory-limit", "0", "--local-directory", str(folder))
        return self._run("worker", "--scheduler-file", str(self.file), *settings, *arguments, path=path)

    def _run(self, what: str, *arguments: str, path: Path | None = None) -> subprocess.Popen:
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *arguments, "--no-dashboard"]
        environment = {**os.environ, **({"PYTHONPATH": str(path)} if path else {})}
        with open(self.folder / f"{what}-{len(self.processes)}.log", "wb") as log:
            made = subprocess.Popen(
                [*command, "--host", "127.0.0.1"], stdout=log, stderr=log, cwd=self.folder, env=environment
            )
        self.processes.append(made)
        return made

    def end(self) -> None:
        """End all that was started."""
        for process in self.processes:
            process.kill()  # also one that is stopped
            process.wait()


@contextmanager
def cluster_in(folder: Path, workers: int = 2) -> Iterator[Cluster]:
    """A cluster that lives as long as the block."""
    made = Cluster(folder)
    try:
        made.begin(workers)
        yield made
    finally:
        made.end()


@contextmanager
def pool_of(cluster: Cluster, workers: int = 2, **settings: Any) -> Iterator[DaskPool]:
    """The executor, once it sees as many workers."""
    with DaskPool(cluster.address, **settings) as made:
        deadline = time.monotonic() + 60
        while len(made._homes._loads) < workers:
            assert time.monotonic() < deadline, "not all workers come"
            time.sleep(0.05)
        yield made


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two workers that no test kills."""
    with cluster_in(tmp_path_factory.mktemp("cluster")) as made:
        yield made


@pytest.fixture(scope="module")
def pool(cluster: Cluster) -> Iterator[DaskPool]:
    """Their executor."""
    with pool_of(cluster) as made:
        yield made


# --- one result ---


@pytest.mark.slow
def test_a_cluster_gives_the_same_files(tmp_path: Path, whole: Path, pool: DaskPool, monkeypatch: Any) -> None:
    monkeypatch.setenv("AUTOPROX_HOME", str(tmp_path / "elsewhere"))  # nothing is built yet
    out = begin(tmp_path / "run")
    run_evolution(out, executor=pool)
    assert_same(out, whole)
    assert len(set(dict(pool._homes._at.values()))) == 2  # both had something to do


def test_large_networks_are_scored_one_by_one_to_the_same_bits(tmp_path: Path, pool: DaskPool) -> None:
    large = synthetic.benchmark(6)
    expected = network_scorer(large, tmp_path / "here").scores(FORMULAS, range(6))
    chosen = network_scorer(large, tmp_path / "there", kept=range(4), executor=pool)
    assert isinstance(chosen, LargeScorer)
    chosen.prepare(FORMULAS, range(6))
    np.testing.assert_array_equal(chosen.scores(FORMULAS, range(6)), expected)


@pytest.mark.slow
def test_a_run_that_was_begun_here_is_gone_on_with_on_a_cluster(tmp_path: Path, whole: Path, cluster: Cluster) -> None:
    out = begin(tmp_path / "run")

    def interrupt(record: Mapping[str, Any]) -> None:
        if record["generation"] == 1:
            raise KeyboardInterrupt

    run_evolution(out, watch=EvolutionWatcher(generation=interrupt))
    assert main(["evolve", "--resume", "--dask", cluster.address, "--out", str(out)]) == 0
    assert_same(out, whole)


# --- who dies ---


@pytest.mark.slow
def test_a_worker_killed_in_mid_generation_changes_nothing_and_the_last_one_is_missed(
    tmp_path: Path, whole: Path
) -> None:
    out = begin(tmp_path / "run")
    with cluster_in(tmp_path) as cluster, pool_of(cluster) as pool:
        victim = cluster.processes[1]
        held = threading.Timer(1.0, victim.kill)

        def stop(record: Mapping[str, Any]) -> None:
            if record["generation"] == 1:  # stopped, it gets work of generation 2 and keeps it until it is killed
                victim.send_signal(signal.SIGSTOP)
                held.start()

        run_evolution(out, executor=pool, watch=EvolutionWatcher(generation=stop))
        held.join()
        assert victim.wait() == -signal.SIGKILL
        assert len(pool._homes._loads) == 1
        assert_same(out, whole)
        pool.patience = 1.0
        waiting = pool.submit(time.sleep, 60)
        cluster.processes[2].kill()
        with pytest.raises(ClusterError, match=r"has had no workers for 1 seconds; nothing that was finished is lost"):
            waiting.result(timeout=30)
        with pytest.raises(ClusterError, match="has had no workers"):
            pool.submit(abs, -1)


@pytest.mark.slow
def test_a_lost_scheduler_is_told_in_one_line_and_the_run_goes_on(tmp_path: Path, whole: Path) -> None:
    out = begin(tmp_path / "run")
    with cluster_in(tmp_path) as cluster:
        command = [sys.executable, "-m", "autoprox", "evolve", "--resume", "--dask", cluster.address, "--out", str(out)]
        started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            while (out / JOURNAL).read_bytes().count(b"\n") < 3:
                assert started.poll() is None, started.communicate()
                time.sleep(0.002)
            cluster.scheduler.kill()
            _, told = started.communicate(timeout=60)
        finally:
            started.kill()
            started.wait()
    assert started.returncode == FAILED
    told = told.splitlines()[-1]
    assert told.startswith(f"error: the scheduler of the Dask cluster at {cluster.address} was lost; nothing that was ")
    assert 2 <= len(Journal.open(out / JOURNAL).records) <= CHOICES["generations"]
    assert main(["evolve", "--resume", "--workers", "1", "--out", str(out)]) == 0
    assert_same(out, whole)


# --- what an executor does ---


@dataclass(frozen=True)
class Job(Placed):
    """Work with a home."""

    home: str
    load: float = 1.0


def test_results_and_errors_are_those_of_the_work(pool: DaskPool) -> None:
    futures = {pool.submit(pow, n, exp=2): n for n in range(5)}
    assert all(isinstance(future, Future) for future in futures)
    assert {futures[future]: future.result() for future in as_completed(futures)} == {n: n * n for n in range(5)}
    assert list(pool.map(abs, [-3, 2, -1])) == [3, 2, 1]
    with pytest.raises(KeyError, match="what is wanted"):
        pool.submit(os.environ.__getitem__, "what is wanted").result()
    assert pool.submit(abs, -1).result() == 1  # and it works on


def test_a_worker_keeps_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Giving memory back after each result took several times as long as the work."""
    kept: list[bool] = []
    monkeypatch.setattr(dask_pool, "_keep_memory", lambda: kept.append(True))
    assert dask_pool._work(dask_pool.version(), lambda: 3) == 3
    assert kept == [True]


def test_what_waits_can_be_cancelled(pool: DaskPool) -> None:
    futures = [pool.submit(time.sleep, 0.2) for _ in range(8)]
    assert futures[-1].cancel()
    assert {future.cancelled() for future in as_completed(futures)} == {True, False}
    with pytest.raises(CancelledError):
        futures[-1].result()


def test_the_end_waits_for_what_is_not_cancelled(cluster: Cluster) -> None:
    made = DaskPool(cluster.address)
    futures = [made.submit(time.sleep, 0.1) for _ in range(3)]
    made.shutdown()
    assert [future.result() for future in futures] == [None] * 3
    with pytest.raises(RuntimeError, match="after shutdown"):
        made.submit(abs, -1)


# --- homes ---


def test_homes_stay_and_work_is_spread() -> None:
    homes = Homes()
    assert homes.of(Job("a")) is None
    homes.settle(["x", "y"])
    at = {name: homes.of(Job(name)) for name in "abcdef"}
    assert sorted(at.values()) == ["x"] * 3 + ["y"] * 3  # type: ignore[type-var]
    homes.settle(["y", "x"])
    assert {name: homes.of(Job(name)) for name in at} == at


def test_only_those_move_that_have_to() -> None:
    homes = Homes()
    homes.settle(["x", "y"])
    at = {name: homes.of(Job(name)) for name in "abcdef"}
    homes.settle(["x", "y", "z"])
    more = {name: homes.of(Job(name)) for name in at}
    assert sorted(more.values()) == ["x", "x", "y", "y", "z", "z"]  # type: ignore[type-var]
    assert sum(at[name] != more[name] for name in at) == 2
    homes.settle(["y", "z"])
    fewer = {name: homes.of(Job(name)) for name in at}
    assert sorted(fewer.values()) == ["y"] * 3 + ["z"] * 3  # type: ignore[type-var]
    assert all(fewer[name] == more[name] for name in at if more[name] != "x")
    homes.settle([])
    assert homes.of(Job("a")) in ("y", "z")  # until there is another
    homes.settle(["w"])
    assert {homes.of(Job(name)) for name in at} == {"w"}


# --- what is refused ---


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on stderr of a command that fails."""
    assert main(["evolve", *arguments]) == FAILED
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    "address",
    [
        "tcp://127.0.0.1:1",
        "nonsense",
        pytest.param("tcp://", marks=pytest.mark.slow),  # which distributed takes ten seconds to find out
        "ftp://127.0.0.1:1",
        "",
    ],
)
def test_no_scheduler(tmp_path: Path, capsys: pytest.CaptureFixture[str], address: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("autoprox.bench_cache.runtime.dask_pool.TIMEOUT", 0.5)
    error = told(capsys, "--bench", "mini", "--dask", address, "--out", "run")
    assert error.startswith(f"error: no Dask scheduler answers at '{address}'")
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--workers", "2"), "error: --dask uses the workers of its cluster; leave out --workers\n"),
        (("--grammar", "tabular"), "error: --grammar tabular runs no networks; leave out --dask\n"),
    ],
)
def test_what_does_not_go_together(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert told(capsys, "--bench", "mini", "--dask", "tcp://127.0.0.1:1", *arguments) == message


def test_without_distributed_the_error_says_how_to_install_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    error = told(capsys, "--bench", "mini", "--dask", "tcp://127.0.0.1:1")
    assert error == "error: --dask needs the package distributed: pip install 'autoprox[dask]'\n"


@pytest.mark.slow
def test_workers_that_will_not_do_are_named(tmp_path: Path) -> None:
    (tmp_path / "lacking").mkdir()
    (tmp_path / "lacking" / "autoprox.py").write_text("")
    other = tmp_path / "other.py"
    other.write_text("import autoprox.bench_cache.runtime.dask_pool as pool\npool.version = lambda: 'another'\n")
    with cluster_in(tmp_path, workers=0) as cluster:
        unfit = [
            (cluster.worker("--name", "1", path=tmp_path / "lacking"), "cannot import this version of autoprox"),
            (cluster.worker("--name", "2", "--preload", str(other)), "would get other numbers"),
            (cluster.worker("--name", "3", threads=2), "start workers with --nthreads 1"),
        ]
        _wait_for_workers(cluster, 3)
        for left, (process, message) in zip((2, 1, 0), unfit, strict=True):
            with pytest.raises(ClusterError, match=rf"^the Dask worker tcp://127\.0\.0\.1:\d+ .*{message}"):
                DaskPool(cluster.address)
            process.kill()
            _wait_for_workers(cluster, left)
        with pytest.raises(ClusterError, match="has no workers: start some with `dask worker`"):
            DaskPool(cluster.address, patience=0.1)


def _wait_for_workers(cluster: Cluster, count: int) -> None:
    from distributed import Client

    with Client(cluster.address, set_as_default=False) as client:
        deadline = time.monotonic() + 60
        while len(client.nthreads()) != count:
            assert time.monotonic() < deadline
            time.sleep(0.05)
