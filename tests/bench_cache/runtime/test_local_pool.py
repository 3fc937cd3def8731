"""LocalPool: an executor whose homed work stays with one process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, CancelledError, as_completed
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path

import pytest

from autoprox.bench_cache.runtime.local_pool import LocalPool
from autoprox.bench_cache.runtime.placement import Homed

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each process starts from nothing")


@pytest.fixture(scope="module")
def pool() -> Iterator[LocalPool]:
    """Two processes."""
    with LocalPool(2) as made:
        yield made


@dataclass(frozen=True)
class Job(Homed):
    """Work with a home; `function` gets it."""

    home: str
    load: float = 1.0


def pid(job: Homed | None = None) -> int:
    """Whoever does it."""
    return os.getpid()


def refuse(job: Homed) -> None:
    """An error of the work."""
    raise KeyError("what is wanted")


def test_homed_work_always_goes_to_the_same_process(pool: LocalPool) -> None:
    homes = {}
    for _ in range(3):
        futures = {pool.submit(pid, Job(home)): home for home in "abcd"}
        for future in as_completed(futures):
            assert homes.setdefault(futures[future], future.result()) == future.result()
    assert set(homes.values()) == set(pool.pids)


def test_a_new_home_is_where_there_is_the_least_to_do() -> None:
    with LocalPool(2) as pool:
        pids = [pool.submit(pid, Job(f"{load}", load)).result() for load in (6.0, 4.0, 3.0, 2.0, 1.0)]
    assert pids[0] == pids[3]
    assert pids[1] == pids[2] == pids[4]
    assert pids[0] != pids[1]


def test_other_work_goes_to_whoever_is_free(pool: LocalPool) -> None:
    for future in [pool.submit(time.sleep, 0.1) for _ in range(2)]:
        future.result()  # the processes have begun
    began = time.monotonic()
    futures = [pool.submit(time.sleep, 1.0) for _ in range(2)]
    assert {future.result() for future in futures} == {None}
    assert time.monotonic() - began < 1.9
    assert pool.submit(pid).result() in pool.pids


def test_results_and_errors_are_those_of_the_work(pool: LocalPool) -> None:
    with pytest.raises(KeyError, match="what is wanted"):
        pool.submit(refuse, Job("a")).result()
    assert list(pool.map(abs, [-3, 2, -1])) == [3, 2, 1]


def test_what_waits_can_be_cancelled(pool: LocalPool) -> None:
    busy = [pool.submit(time.sleep, 0.3) for _ in range(2)]
    waiting = [pool.submit(pid) for _ in range(3)]
    assert all(future.cancel() for future in waiting[:2])
    assert waiting[2].result() in pool.pids
    assert not any(future.cancel() for future in busy)
    with pytest.raises(CancelledError):
        waiting[0].result()


@pytest.mark.parametrize("cancel", [True, False])
def test_the_end_waits_for_what_is_not_cancelled(cancel: bool) -> None:
    pool = LocalPool(2)
    futures = [pool.submit(time.sleep, 0.1) for _ in range(6)]
    pool.shutdown(cancel_futures=cancel)
    assert all(future.done() for future in futures)
    assert any(future.cancelled() for future in futures) == cancel
    with pytest.raises(RuntimeError):
        pool.submit(pid)


@pytest.mark.parametrize("busy", [True, False])
def test_a_killed_process_breaks_the_pool_and_nothing_waits_for_ever(busy: bool) -> None:
    with LocalPool(2) as pool:
        first = pool.submit(pid).result()
        futures = [pool.submit(time.sleep, 0.2) for _ in range(8)] if busy else []
        os.kill(first, signal.SIGKILL)
        if busy:
            assert any(isinstance(future.exception(timeout=20), BrokenExecutor) for future in futures)
        with pytest.raises(BrokenExecutor):  # at once when its death is known, else when it gets work
            list(pool.map(time.sleep, [0.1] * 8, timeout=20))
        with pytest.raises(BrokenExecutor):
            pool.submit(pid)


# --- how they start ---

_PRELOADED = """
from autoprox.bench_cache.runtime.local_pool import LocalPool
if __name__ == "__main__":
    with LocalPool(1, preload=["wave"]) as pool:
        assert pool.submit(eval, "'wave' in __import__('sys').modules").result()
"""


@pytest.mark.slow
@on_linux
def test_workers_find_the_preloaded_modules_imported() -> None:
    done = subprocess.run([sys.executable, "-c", _PRELOADED], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")


_WHERE = """
import autoprox
from importlib.util import find_spec
from multiprocessing import forkserver
from autoprox.bench_cache.runtime.local_pool import LocalPool
if __name__ == "__main__":
    with LocalPool(1) as pool:
        assert pool.submit(find_spec, "autoprox").result().origin == autoprox.__file__
        with open(f"/proc/{forkserver._forkserver._forkserver_pid}/status") as status:
            masked = next(int(line.split()[1], 16) for line in status if line.startswith("SigBlk"))
        assert masked & 2, "an interrupt would end the server"
"""


@on_linux
@pytest.mark.slow
def test_workers_have_the_modules_of_this_process_whatever_the_folder(tmp_path: Path) -> None:
    other = tmp_path / "autoprox" / "bench_cache"  # as in the folder above a clone
    other.mkdir(parents=True)
    (other / "__init__.py").touch()
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "where.py").write_text(_WHERE)
    command = [sys.executable, str(tmp_path / "scripts" / "where.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@on_linux
def test_without_a_server_the_pool_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(descriptors: object) -> None:
        raise EOFError("unexpected EOF")

    with LocalPool(2) as pool:
        monkeypatch.setattr(forkserver, "connect_to_new_process", gone)
        first = pool.submit(pid)
        with pytest.raises(BrokenExecutor, match="EOF"):
            first.result(timeout=20)
        with pytest.raises(BrokenExecutor):
            pool.submit(pid)
