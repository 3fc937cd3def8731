"""Runs of `autoprox evolve` for the tests of durability: in one go, in processes that can be killed, on small disks."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import synthetic

from autoprox.bench_cache.statistics import held_small, in_memory, worker
from autoprox.cli.root import main
from autoprox.evolution import JOURNAL
from autoprox.proxy import PROXY_FILE

#: One whose networks are scored one by one, and one whose networks are scored from memory, in shards.
BENCHMARKS = {"small": synthetic.benchmark(16), "mini": synthetic.mini(24)}
TASKS = {"small": "*_kd", "mini": "*"}
GENERATIONS = 5
RESULTS = (JOURNAL, PROXY_FILE, "generations.csv", "report.json", "report.csv")


def choices(bench: Path, generations: int = GENERATIONS) -> list[str]:
    """The arguments of a run on a benchmark's file."""
    return ["--bench", str(bench), "--tasks", TASKS[bench.stem], "--generations", str(generations),
            "--population", "5", "--seed", "2"]  # fmt: skip


def evolve(*arguments: str | Path) -> int:
    """Run the command here, on one worker."""
    return main(["evolve", "--workers", "1", *map(str, arguments)])


@dataclass(frozen=True)
class Whole:
    """A run in one go, which the others must equal, with the statistics that it left."""

    out: Path
    home: Path
    bench: Path


class Wholes:
    """A run in one go on each benchmark, made when it is asked for."""

    def __init__(self, benches: Path, folder: Path) -> None:
        self.benches, self.folder = benches, folder
        self.made: dict[str, Whole] = {}

    def __getitem__(self, name: str) -> Whole:
        if name not in self.made:
            whole = Whole(self.folder / name / "run", self.folder / name / "home", self.benches / f"{name}.json")
            with pytest.MonkeyPatch.context() as patched:
                patched.setenv("AUTOPROX_HOME", str(whole.home))
                assert evolve(*choices(whole.bench), "--out", whole.out) == 0
            self.made[name] = whole
        return self.made[name]


def assert_same(out: Path, expected: Path) -> None:
    """Byte for byte, and with nothing beside it that a killed writer left."""
    for name in RESULTS:
        assert (out / name).read_bytes() == (expected / name).read_bytes(), name
    files = [{path.relative_to(folder) for path in folder.rglob("*")} for folder in (out, expected)]
    assert files[0] == files[1]


def lines(out: Path) -> int:
    """The complete lines of the journal; 0 without one."""
    return (out / JOURNAL).read_bytes().count(b"\n") if (out / JOURNAL).exists() else 0


def one_line(error: str) -> str:
    """The one line that a command ended with, after what it said of its progress."""
    assert error.endswith("\n")
    assert "Traceback" not in error
    last = error.splitlines()[-1]
    assert last.startswith("error: "), error
    return last.removeprefix("error: ")


def fresh_process() -> None:
    """Forget what a process remembers of statistics."""
    worker.statistics_cache.cache_clear()
    in_memory.HELD.clear()
    held_small.HELD_SMALL.clear()


class Mounted:
    """A small file system of its own."""

    def __init__(self, folder: Path, size: str) -> None:
        self.folder = folder
        folder.mkdir()
        self._mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))

    def remount(self, options: str) -> None:
        """Change its size, or whether it can be written."""
        self._mount("-o", f"remount,{options}", str(self.folder))

    def _mount(self, *arguments: str) -> None:
        if shutil.which("mount") is None:
            pytest.skip("there is no mount command")
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[Mounted]:
    """A small file system inside; skips the test where none can be made."""
    made = Mounted(folder, size)
    try:
        yield made
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


# --- how commands are run: each in a process group of its own, so that all of it can be killed ---


@dataclass
class Started:
    """`python -m autoprox evolve`, as from a terminal."""

    arguments: list[str]
    home: Path
    process: subprocess.Popen = field(init=False)

    def __post_init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "autoprox", "evolve", *self.arguments],
            env={**os.environ, "AUTOPROX_HOME": str(self.home)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self.pid = self.process.pid

    def poll(self) -> int | None:
        return self.process.poll()

    def end(self) -> tuple[int, str]:
        """Wait until the last process that has its stdout is gone."""
        _, errors = self.process.communicate(timeout=300)
        return self.process.returncode, errors


_FORKER = """
import json, os, resource, select, sys, time
import torch
import autoprox.cli.commands.evolve
from autoprox.bench_cache.runtime import files
from autoprox.cli.root import main

def run(order):
    os.setsid()
    for number, file in enumerate([os.devnull, order["name"] + ".out", order["name"] + ".err"]):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT, 0o600), number)
    os.environ["AUTOPROX_HOME"] = order["home"]
    if order["limit"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["limit"], resource.RLIM_INFINITY))
    if order["at"]:
        files.PATIENCE = 0  # the first of two would end within it
    while time.time() < order["at"]:
        pass
    code = main(["evolve", *order["arguments"]])
    sys.stderr.flush()
    os._exit(code)

torch.set_num_threads(1)
print("ready", flush=True)
running = {}
while True:
    if select.select([sys.stdin], [], [], 0.005)[0]:
        line = sys.stdin.readline()
        if not line:
            break
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            run(order)
        running[child] = order["name"]
        print(child, flush=True)
    while running and (ended := os.waitpid(-1, os.WNOHANG))[0]:
        name = running.pop(ended[0])
        with open(name + ".draft", "w") as file:
            file.write(str(os.waitstatus_to_exitcode(ended[1])))
        os.rename(name + ".draft", name + ".code")
"""


class Forker:
    """A process that has imported everything, and runs commands in forks of itself: that saves seconds for each."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _FORKER],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._answer() == "ready\n"

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def start(self, arguments: list[str], home: Path, *, limit: int = 0, at: float = 0) -> "Forked":
        """Run a command; files of more bytes than `limit` cannot be written; wait for the time `at` first."""
        self.number += 1
        name = str(self.folder / str(self.number))
        order = {"name": name, "arguments": arguments, "home": str(home), "limit": limit, "at": at}
        assert self.process.stdin is not None
        print(json.dumps(order), file=self.process.stdin, flush=True)
        return Forked(int(self._answer()), Path(name))

    def close(self) -> None:
        """End it."""
        self.process.communicate(timeout=60)


@dataclass
class Forked:
    """A command in a fork of the Forker."""

    pid: int
    name: Path

    def poll(self) -> int | None:
        code = self.name.with_suffix(".code")
        return int(code.read_text()) if code.exists() else None

    def end(self) -> tuple[int, str]:
        deadline = time.monotonic() + 120
        while self.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        code = self.poll()
        assert code is not None
        return code, self.name.with_suffix(".err").read_text()
