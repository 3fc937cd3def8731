"""Durability of `autoprox evolve`: killed at any moment, a full disk, a folder that cannot be written, damaged
statistics, two at once. Whatever happens, nothing that was finished is lost, and the run ends as if it had not."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import synthetic

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.runtime.files import write_new
from autoprox.bench_cache.statistics import shards, worker
from autoprox.cli.root import FAILED, main
from autoprox.evolution import JOURNAL, EvolutionWatcher, run_evolution, start_evolution
from autoprox.evolve import Journal, JournalError
from autoprox.proxy import PROXY_FILE

#: One whose networks are scored one by one, and one whose networks are scored from memory, in shards.
BENCHMARKS = {"small": synthetic.benchmark(24), "mini": synthetic.mini(24)}
TASKS = {"small": "*_kd", "mini": "*"}
GENERATIONS = 5
RESULTS = (JOURNAL, PROXY_FILE, "generations.csv", "report.json", "report.csv")


@pytest.fixture(autouse=True)
def _in_a_folder_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPROX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def benches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the benchmarks' files."""
    folder = tmp_path_factory.mktemp("benches")
    for name, benchmark in BENCHMARKS.items():
        benchmark.save(folder / f"{name}.json")
    return folder


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


@pytest.fixture(scope="module")
def wholes(benches: Path, tmp_path_factory: pytest.TempPathFactory) -> Wholes:
    """The runs that all tests of this file share."""
    return Wholes(benches, tmp_path_factory.mktemp("wholes"))


@pytest.fixture
def whole(wholes: Wholes) -> Whole:
    """The run whose networks are scored from memory, which takes a second."""
    return wholes["mini"]


def assert_same(out: Path, expected: Path) -> None:
    """Byte for byte, and with nothing beside it that a killed writer left."""
    for name in RESULTS:
        assert (out / name).read_bytes() == (expected / name).read_bytes(), name
    files = [{path.relative_to(folder) for path in folder.rglob("*")} for folder in (out, expected)]
    assert files[0] == files[1]


def lines(out: Path) -> int:
    """The complete lines of the journal; 0 without one."""
    return (out / JOURNAL).read_bytes().count(b"\n") if (out / JOURNAL).exists() else 0


def kept(home: Path) -> int:
    """How many files of statistics there are."""
    return len(list((home / "statistics").glob("*/*/[!.]*")))


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


@pytest.fixture(scope="module")
def forker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forker]:
    """One for all tests of this file."""
    made = Forker(tmp_path_factory.mktemp("forks"))
    yield made
    made.close()


# --- killed ---


@dataclass(frozen=True)
class Pace:
    """What a run in one go left, and how long it took for each generation."""

    out: Path
    statistics: int
    lines: int
    generation: float


def wait_for(process: Started, condition: Callable[[], bool]) -> float:
    """Wait until it holds; the time then. The process must not end before."""
    deadline = time.monotonic() + 180
    while not condition():
        assert process.poll() is None, process.end()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return time.monotonic()


class Victim:
    """A run that is killed again and again, and goes on each time."""

    def __init__(self, bench: Path, folder: Path, *options: str) -> None:
        self.bench, self.options = bench, options
        self.pauses = [0.01, 0.1, 3.0]  # what starts the workers takes about 3 seconds
        self.out, self.home = folder / "run", folder / "home"
        self.killed: list[Started] = []

    def go_on(self, generations: int) -> Started:
        """The same command again while there is no run, and then --resume."""
        arguments = ["--resume"] if lines(self.out) else choices(self.bench, generations)
        return Started([*arguments, *self.options, "--out", str(self.out)], self.home)

    def pace(self, generations: int) -> Pace:
        """Let it run to its end, and see how long it takes."""
        process = self.go_on(generations)
        built = wait_for(process, lambda: lines(self.out) > 1)
        last = wait_for(process, lambda: lines(self.out) > generations + 1)
        assert process.end() == (0, "")
        return Pace(self.out, kept(self.home), lines(self.out), (last - built) / generations)

    def phase(self, pace: Pace) -> str:
        """What the run is at, from what it has left."""
        if not lines(self.out):
            return "start"
        if lines(self.out) == 1 and kept(self.home) < pace.statistics:
            return "building"
        return "evolution" if lines(self.out) < pace.lines else "report"

    def kill(self, pace: Pace, rng: Random, group: bool, building: bool) -> str:
        """Go on, and kill at a random moment of what comes next, or in evolution; the phase that this hit."""
        process = self.go_on(pace.lines - 2)
        if building and self.phase(pace) in ("start", "building"):
            more = kept(self.home) + rng.randint(1, max(1, (pace.statistics - kept(self.home)) // 3))
            wait_for(process, lambda: kept(self.home) >= more)
            time.sleep(rng.choice(self.pauses) * rng.random())
        else:
            more = max(lines(self.out), 1) + rng.randint(1, 2)
            wait_for(process, lambda: lines(self.out) >= min(more, pace.lines))
            time.sleep(rng.random() * pace.generation)
        return self._kill(process, pace, group)

    def _kill(self, process: Started, pace: Pace, group: bool) -> str:
        assert process.poll() is None, process.end()
        if group:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            os.kill(process.pid, signal.SIGKILL)
        while process.poll() is None:
            time.sleep(0.002)
        self.killed.append(process)  # its workers may still be at work when the run goes on
        return self.phase(pace)

    def finish(self, pace: Pace) -> None:
        """Go on to the end, and compare; nothing of the killed processes is left."""
        assert self.go_on(pace.lines - 2).end() == (0, "")
        assert_same(self.out, pace.out)
        assert [process.end()[0] for process in self.killed] == [-signal.SIGKILL] * len(self.killed)


def kills(
    paces: Mapping[Path, Pace], folder: Path, number: int, each: int, rng: Random, *options: str
) -> Counter[tuple[str, bool]]:
    """Kill runs `number` times, `each` run as often or until it is at its report, and compare what comes of each.

    The first half of a run's kills is meant for the time when its statistics are built, the rest for evolution. The
    kills are counted by the phase that they hit, and by whether the whole group was killed, as it is every second time.
    """
    found: Counter[tuple[str, bool]] = Counter()
    for run in range(number):
        bench = list(paces)[run % len(paces)]
        victim, pace = Victim(bench, folder / str(run), *options), paces[bench]
        for kill in range(min(each, number - sum(found.values()))):
            if victim.phase(pace) != "report":
                group = sum(found.values()) % 2 == 0
                found[victim.kill(pace, rng, group, building=kill < each // 2), group] += 1
        victim.finish(pace)
        if sum(found.values()) == number:
            break
    return found


def of_phase(found: Counter[tuple[str, bool]], phase: str) -> int:
    """How many kills hit a phase."""
    return found[phase, True] + found[phase, False]


@pytest.mark.slow
def test_killed_at_fifty_random_moments(benches: Path, tmp_path: Path) -> None:
    """On two workers, which are to notice themselves that only the process was killed that gives them work."""
    options = ("--workers", "2")
    paces = {
        benches / f"{name}.json": Victim(benches / f"{name}.json", tmp_path / name, *options).pace(generations)
        for name, generations in (("small", 40), ("mini", 200))
    }
    found = kills(paces, tmp_path, 50, 10, Random(1), *options)
    print(found)
    assert sum(found.values()) == 50, found
    for phase in ("building", "evolution"):
        assert of_phase(found, phase) >= 10, found
        assert min(found[phase, True], found[phase, False]) >= 3, found


def test_killed_while_the_journal_is_begun(tmp_path: Path, whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed at any call of the system leaves no run or a whole one, never half a first line."""

    class Killed(BaseException):
        pass

    monkeypatch.setenv("AUTOPROX_HOME", str(whole.home))
    for name in ("fsync", "link", "unlink"):

        def die(*arguments: Any, **options: Any) -> None:
            raise Killed

        out = tmp_path / name
        with monkeypatch.context() as patched:
            patched.setattr(os, name, die)
            with pytest.raises(Killed):
                Journal.create(out / JOURNAL, {})
        assert (out / JOURNAL).exists() == (name == "unlink")
        if name != "unlink":
            assert evolve(*choices(whole.bench, 0), "--out", out) == 0


# --- a full disk ---


@contextmanager
def full(monkeypatch: pytest.MonkeyPatch, name: str, sound: int = 0) -> Iterator[list[str]]:
    """Inside, files whose name begins so are cut off as on a full disk, but the first few; what was refused."""
    refused: list[str] = []
    seen = 0
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        nonlocal seen
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if Path(path).name.lstrip(".").startswith(name):
            seen += 1
            if seen > sound:
                os.ftruncate(descriptor, os.fstat(descriptor).st_size - 7)
                refused.append(path)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        yield refused


def one_line(error: str) -> str:
    """The one line that a command ended with."""
    assert error.startswith("error: ")
    assert error.endswith("\n")
    assert error.count("\n") == 1, error
    return error.removeprefix("error: ").removesuffix("\n")


def fresh_process() -> None:
    """Forget what a process remembers of statistics."""
    worker.statistics_cache.cache_clear()
    shards._shard.cache_clear()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc here, which tells the file being written")
@pytest.mark.parametrize(
    ("name", "sound"),
    [("act-data.safetensors", 1), ("structure.json", 2), (JOURNAL, 1), (JOURNAL, 4), (PROXY_FILE, 0),
     (PROXY_FILE, GENERATIONS + 1), ("generations.csv", 2), ("report.json", 0), ("report.csv", 0)],
)  # fmt: skip
def test_a_full_disk_is_told_and_the_run_goes_on(
    tmp_path: Path, whole: Whole, name: str, sound: int,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    statistics = name not in RESULTS
    shutil.copytree(whole.home, tmp_path / "home")
    if statistics:  # some are to be built
        for file in sorted((tmp_path / "home").rglob("act-data.safetensors"))[:20]:
            shutil.rmtree(file.parent)
    out = tmp_path / "run"
    with full(monkeypatch, name, sound) as refused:
        assert evolve(*choices(whole.bench), "--out", out) == FAILED
    assert len(refused) == 1
    error = one_line(capsys.readouterr().err)
    path = Path(refused[0]).parent / name
    kept_there = "; statistics are kept there; make room, or set AUTOPROX_HOME to another folder" if statistics else ""
    assert error == (
        f"{path}: No space left on device{kept_there}; nothing that was finished is lost; "
        f"when this is mended, go on with autoprox evolve --resume --out {out}"
    )
    fresh_process()
    assert evolve("--resume", "--out", out) == 0
    assert_same(out, whole.out)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc here, which tells the file being written")
@pytest.mark.parametrize("name", ["mini.json", JOURNAL])
def test_a_disk_that_is_full_at_the_start_leaves_no_run(
    tmp_path: Path, whole: Whole, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AUTOPROX_HOME", str(whole.home))
    out = tmp_path / "run"
    with full(monkeypatch, name):
        assert evolve(*choices(whole.bench), "--out", out) == FAILED
    path = out / "benchmarks" / name if name != JOURNAL else out / name
    assert one_line(capsys.readouterr().err) == (
        f"{path}: No space left on device; the run needs a folder that can be written and has room; "
        "or choose another --out"
    )
    assert evolve(*choices(whole.bench), "--out", out) == 0
    assert_same(out, whole.out)


def test_a_file_that_may_not_grow(forker: Forker, tmp_path: Path, whole: Whole) -> None:
    """The system itself refuses to write, half-way through a line of the journal, and at the first statistics."""
    size = (whole.out / JOURNAL).stat().st_size
    out = tmp_path / "run"
    resumed = ["--workers", "1", "--resume", "--out", str(out)]
    start_evolution([BENCHMARKS["mini"]], [TASKS["mini"]], out, generations=GENERATIONS, population=5, seed=2)
    code, error = forker.start(resumed, whole.home, limit=size * 2 // 3).end()
    assert (code, one_line(error).split(";")[0]) == (FAILED, f"{out / JOURNAL}: {os.strerror(errno.EFBIG)}")
    assert (out / JOURNAL).stat().st_size == size * 2 // 3
    code, error = forker.start(resumed, tmp_path / "home", limit=2**14).end()
    assert code == FAILED
    assert one_line(error).startswith(f"{tmp_path / 'home' / 'statistics'}")
    assert "AUTOPROX_HOME" in error
    assert forker.start(resumed, tmp_path / "home").end() == (0, "")
    assert_same(out, whole.out)


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


def test_a_disk_that_is_really_full(tmp_path: Path, whole: Whole, capsys: pytest.CaptureFixture[str]) -> None:
    """Room for the statistics of no network, of some, of all; then the same for the run directory."""
    with mounted(tmp_path / "home", "64k") as disk:
        out = tmp_path / "run"
        assert evolve(*choices(whole.bench), "--out", out) == FAILED
        error = one_line(capsys.readouterr().err)
        assert error.startswith(f"{disk.folder / 'statistics'}/")
        assert "No space left on device; statistics are kept there; make room, or set AUTOPROX_HOME" in error
        disk.remount("size=2m")
        assert evolve("--resume", "--out", out) == FAILED
        error = one_line(capsys.readouterr().err)
        assert "the statistics of mini need another" in error
        assert "set AUTOPROX_HOME to a folder on a larger disk" in error
        disk.remount("size=2g")
        assert evolve("--resume", "--out", out) == 0
        assert_same(out, whole.out)


def test_a_run_directory_on_a_disk_that_is_really_full(
    tmp_path: Path, whole: Whole, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AUTOPROX_HOME", str(whole.home))
    with mounted(tmp_path / "disk", "8k") as disk:
        out = disk.folder / "run"
        assert evolve(*choices(whole.bench), "--out", out) == FAILED
        assert "No space left on device; the run needs a folder" in one_line(capsys.readouterr().err)
        for size in range(12, 200, 8):  # every write is one day the first that does not fit
            disk.remount(f"size={size}k")
            arguments = ["--resume"] if lines(out) else choices(whole.bench)
            if evolve(*arguments, "--out", out) == 0:
                break
            assert f"{out}/" in one_line(capsys.readouterr().err)
        assert size > 20
        assert_same(out, whole.out)


# --- a folder that cannot be written ---


def test_a_folder_that_turns_read_only(
    tmp_path: Path, whole: Whole, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AUTOPROX_HOME", str(whole.home))
    with mounted(tmp_path / "disk", "4m") as disk:
        out = disk.folder / "run"
        assert evolve(*choices(whole.bench, 1), "--out", out) == 0
        disk.remount("ro")
        capsys.readouterr()
        assert evolve("--resume", "--generations", str(GENERATIONS), "--out", out) == FAILED
        assert one_line(capsys.readouterr().err).startswith(f"{out / JOURNAL}: Read-only file system; nothing that was")
        assert evolve(*choices(whole.bench, 1), "--out", disk.folder / "other") == FAILED
        assert one_line(capsys.readouterr().err).endswith("or choose another --out")
        disk.remount("rw")
        assert evolve("--resume", "--generations", str(GENERATIONS), "--out", out) == 0
        lines_of, expected = ((folder / JOURNAL).read_bytes().split(b"\n") for folder in (out, whole.out))
    assert lines_of[1:] == expected[1:]  # the settings on the first say 1 generation


def test_statistics_that_cannot_be_written(
    tmp_path: Path, whole: Whole, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Below a file, which stops root too."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AUTOPROX_HOME", str(tmp_path / "file" / "home"))
    out = tmp_path / "run"
    assert evolve(*choices(whole.bench), "--out", out) == FAILED
    error = one_line(capsys.readouterr().err)
    assert error.startswith(f"{tmp_path}/file/")
    assert "Not a directory; statistics are kept there; make room, or set AUTOPROX_HOME to another folder" in error
    monkeypatch.setenv("AUTOPROX_HOME", str(whole.home))
    assert evolve("--resume", "--out", out) == 0
    assert_same(out, whole.out)


def test_complete_statistics_need_not_be_written(tmp_path: Path, whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    with mounted(tmp_path / "disk", "2g") as disk:
        shutil.copytree(whole.home, disk.folder / "home")
        disk.remount("ro")
        monkeypatch.setenv("AUTOPROX_HOME", str(disk.folder / "home"))
        assert evolve(*choices(whole.bench), "--out", tmp_path / "run") == 0
    assert_same(tmp_path / "run", whole.out)


# --- damaged statistics ---


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[-1 - len(data) // 3] ^= 4
    path.write_bytes(data)


def _replaced_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "file").write_text("in the way")


DAMAGES: list[Callable[[Path], Any]] = [
    lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    _flipped,
    lambda path: path.write_bytes(b""),
    _replaced_by_a_folder,
    lambda path: path.unlink(),
]


def damage_all(home: Path, turn: int) -> int:
    """Damage every file of the statistics, each in another way than last time; how many there were."""
    files = sorted(path for path in (home / "statistics").glob("*/*/*") if path.is_file())
    for number, path in enumerate(files):
        DAMAGES[(number + turn) % len(DAMAGES)](path)
    return len(files)


@pytest.mark.parametrize("name", [pytest.param("small", marks=pytest.mark.slow), "mini"])
def test_statistics_damaged_in_the_middle_of_a_run_and_between_two(tmp_path: Path, wholes: Wholes, name: str) -> None:
    """Of networks that are scored one by one, and of shards: what these hold is sound, what they read later is not."""
    out, home = tmp_path / "run", tmp_path / "home"
    shutil.copytree(wholes[name].home, home)
    damaged = []

    def generation(record: Mapping[str, Any]) -> None:
        damaged.append(damage_all(home, len(damaged)))
        if record["generation"] == 3 and len(damaged) == 4:
            raise KeyboardInterrupt

    fresh_process()
    start_evolution([BENCHMARKS[name]], [TASKS[name]], out, generations=GENERATIONS, population=5, seed=2)
    assert not run_evolution(out, watch=EvolutionWatcher(generation=generation)).finished
    fresh_process()
    assert run_evolution(out).finished
    assert len(damaged) == 4
    assert min(damaged) > 20
    assert_same(out, wholes[name].out)


@pytest.mark.slow
def test_statistics_that_workers_cannot_replace_are_told_in_one_line(tmp_path: Path, whole: Whole) -> None:
    """A file where a network's folder belongs: the worker's error arrives, without its traceback."""
    out, home = tmp_path / "run", tmp_path / "home"
    [version] = (whole.home / "statistics").iterdir()
    for folder in version.iterdir():
        (home / "statistics" / version.name).mkdir(parents=True, exist_ok=True)
        (home / "statistics" / version.name / folder.name).write_text("in the way")
    first, *_ = (home / "statistics" / version.name).iterdir()
    first.unlink()
    code, error = Started([*choices(whole.bench), "--workers", "2", "--out", str(out)], home).end()
    assert code == FAILED
    assert one_line(error).startswith(f"{home / 'statistics' / version.name}/")
    shutil.rmtree(home)
    assert Started(["--resume", "--workers", "2", "--out", str(out)], home).end() == (0, "")
    assert_same(out, whole.out)


# --- two at once ---


def test_of_two_that_start_at_the_same_moment_one_runs(forker: Forker, tmp_path: Path, whole: Whole) -> None:
    rng = Random(0)
    for number in range(3):
        out, at = tmp_path / str(number), time.time() + 0.1
        command = [*choices(whole.bench), "--workers", "1", "--out", str(out)]
        pair = [forker.start(command, whole.home, at=at + rng.random() * 0.005) for _ in range(2)]
        (code, silent), (failed, error) = sorted(process.end() for process in pair)
        assert (code, silent, failed) == (0, "", FAILED)
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
    (code, silent), (failed, error) = sorted(process.end() for process in pair)
    assert (code, silent, failed) == (0, "", FAILED)
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
        start_evolution([synthetic.benchmark(24, seed=5)], ["*_kd"], tmp_path / "run")
    assert (tmp_path / "run" / "benchmarks" / "small.json").read_bytes() == before
    assert not (tmp_path / "run" / JOURNAL).exists()
