"""A full disk, and a folder that cannot be written: told in one line, and the run continues where there is room."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from durable import (
    BENCHMARKS,
    GENERATIONS,
    RESULTS,
    TASKS,
    Forker,
    Whole,
    assert_same,
    choices,
    evolve,
    fresh_process,
    lines,
    mounted,
    one_line,
)

from autoprox.cli.root import FAILED
from autoprox.evolution import JOURNAL, start_evolution
from autoprox.proxy import PROXY_FILE


@contextmanager
def full(monkeypatch: pytest.MonkeyPatch, name: str, sound: int = 0) -> Iterator[list[str]]:
    """Inside, files whose name begins so are cut off as on a full disk, but the first few; what was refused."""
    refused: list[str] = []
    synced: set[str] = set()
    seen = 0
    sync, move = os.fsync, os.replace

    def write(path: str) -> None:
        nonlocal seen
        if Path(path).name.lstrip(".").startswith(name):
            seen += 1
            if seen > sound:
                os.truncate(path, os.stat(path).st_size - 7)
                refused.append(path)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fsync(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        synced.add(path)
        write(path)
        sync(descriptor)

    def replace(source: Path, target: Path) -> None:
        if str(source) not in synced:  # statistics do not wait for the disk
            write(str(source))
        move(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        patched.setattr(os, "replace", replace)
        yield refused


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc here, which tells the file being written")
@pytest.mark.parametrize(
    ("name", "sound"),
    [("act-data.safetensors", 1), (JOURNAL, 1), (PROXY_FILE, 0), ("report.json", 0),
     *(pytest.param(*rarer, marks=pytest.mark.slow) for rarer in [("structure.json", 2), (JOURNAL, 4),
       (PROXY_FILE, GENERATIONS + 1), ("generations.csv", 2), ("report.csv", 0)])],
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


@pytest.mark.slow
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
    code, said = forker.start(resumed, tmp_path / "home").end()
    assert (code, "error: " in said) == (0, False)
    assert_same(out, whole.out)


@pytest.mark.slow
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
