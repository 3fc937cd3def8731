"""The journal: what is written stays, what is torn is cut, what is damaged is refused, and one process holds it."""

import os
import platform
import re
import signal
import subprocess
import sys
from pathlib import Path
from threading import Timer
from typing import Any

import orjson
import pytest
import torch

from autoprox.bench_cache.runtime import files
from autoprox.bench_cache.runtime.versions import versions
from autoprox.evolve import Journal, JournalError

SETTINGS = {"seed": 3, "tasks": ["a:b"], "note": "one\ntwo\u2028three\r\x85"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of three generations."""
    made = tmp_path / "run" / "journal.jsonl"
    journal = Journal.create(made, SETTINGS)
    for number in range(3):
        journal.append({"generation": number, "text": f"é\r\u2029 {number}"})
    return made


def edited(path: Path, line: int, text: bytes) -> None:
    lines = path.read_bytes().split(b"\n")
    lines[line - 1] = text
    path.write_bytes(b"\n".join(lines))


def test_what_was_written_is_read(path: Path) -> None:
    journal = Journal.open(path)
    assert journal.settings == SETTINGS
    assert journal.records == [{"generation": n, "text": f"é\r\u2029 {n}"} for n in range(3)]
    assert path.read_bytes().count(b"\n") == 4  # a person can read it line by line


def test_appending_leaves_what_is_there(path: Path) -> None:
    before = path.read_bytes()
    Journal.open(path).append({"generation": 3})
    assert path.read_bytes() == before + b'{"generation":3}\n'
    assert len(Journal.open(path).records) == 4


def test_a_line_is_on_the_disk_before_appending_returns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(path.read_bytes()))
    Journal.open(path).append({"generation": 3})
    assert [data.endswith(b'{"generation":3}\n') for data in synced] == [True]


def test_a_run_is_never_written_over(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(JournalError, match=r"run already holds a run; go on with --resume, or choose another --out$"):
        Journal.create(path, {})
    assert path.read_bytes() == before


def test_of_two_that_start_at_once_one_does(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()
    monkeypatch.setattr(Journal, "check_absent", lambda path: None)  # both have looked, then both write
    with pytest.raises(JournalError, match="already holds a run"):
        Journal.create(path, {})
    assert path.read_bytes() == before


# --- torn ---


def test_a_torn_last_line_is_not_read_and_cut_when_the_run_goes_on(path: Path) -> None:
    whole = path.read_bytes()
    last = whole.rindex(b"\n", 0, len(whole) - 1) + 1
    for length in range(last, len(whole)):
        path.write_bytes(whole[:length])
        assert len(Journal.open(path).records) == 2
        assert path.read_bytes() == whole[:length]  # reading changes nothing
        with Journal.held(path) as journal:
            assert path.read_bytes() == whole[:last]
            assert len(journal.records) == 2
            journal.append({"generation": 2, "text": "é\r\u2029 2"})
        assert path.read_bytes() == whole


def test_holding_a_whole_journal_changes_nothing(path: Path) -> None:
    before = path.read_bytes()
    with Journal.held(path) as journal:
        assert len(journal.records) == 3
    assert path.read_bytes() == before


@pytest.mark.parametrize("data", [b"", b'{"format":"autoprox-jour', b'{"format":"autoprox-journal","version":1}'])
def test_a_torn_first_line_is_no_run(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(JournalError, match=r"line 1 is not the beginning of a journal; start again with"):
        Journal.open(path)


# --- damaged ---


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (3, b'{"generation": 1, "te', "line 3 is damaged"),
        (3, b"", "line 3 is damaged"),
        (3, b"\xff\xfe", "line 3 is damaged"),
        (3, b"[1]", "line 3 is not an object"),
        (3, b"{}", "line 3 is not generation 1"),
        (3, b'{"generation": 2}', "line 3 is not generation 1"),
        (2, b'{"generation": 1}', "line 2 is not generation 0"),
        (4, b'{"generation": "2"}', "line 4 is not generation 2"),
        (4, b"nonsense", "line 4 is damaged"),
        (1, b"{}", "line 1 is not the beginning of a journal"),
        (1, b'{"format": "other", "version": 1}', "line 1 is not the beginning of a journal"),
        (1, b'{"format": "autoprox-journal", "version": 2}', "journal version 2, this autoprox reads 1"),
        (1, b'{"format": "autoprox-journal"}', "journal version None, this autoprox reads 1"),
    ],
)
def test_a_damaged_line_is_refused_by_its_number(path: Path, line: int, text: bytes, message: str) -> None:
    edited(path, line, text)
    before = path.read_bytes()
    for reader in (Journal.open, lambda path: Journal.held(path).__enter__()):
        with pytest.raises(JournalError, match=re.escape(message)) as caught:
            reader(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


def test_every_flipped_byte_is_refused_or_reads_as_written(path: Path) -> None:
    """No checksum tells a changed number; but whatever still reads is the structure of a journal."""
    whole = path.read_bytes()
    for position in range(len(whole) - 1):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        try:
            journal = Journal.open(path)
        except JournalError:
            continue
        assert [record["generation"] for record in journal.records] == [0, 1, 2]


def test_no_journal_at_all(tmp_path: Path) -> None:
    for reader in (Journal.open, lambda path: Journal.held(path).__enter__()):
        with pytest.raises(JournalError, match=r"holds no run \(no journal.jsonl\); start one without --resume$"):
            reader(tmp_path / "journal.jsonl")
    assert not list(tmp_path.iterdir())


# --- held by one ---


def test_a_run_is_held_by_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PATIENCE", 0)
    with (
        Journal.held(path),
        pytest.raises(JournalError, match=r"^another process is going on with the run in .*run; wait for it"),
        Journal.held(path),
    ):
        pass
    with Journal.held(path), open(path, "rb"):
        assert Journal.open(path).records  # reading it is fine
    with pytest.raises(KeyError), Journal.held(path):
        raise KeyError
    with Journal.held(path):
        pass


_HOLDER = """
import sys, time
from pathlib import Path
from autoprox.bench_cache.runtime.journal import Journal
with Journal.held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_a_killed_process_holds_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen([sys.executable, "-c", _HOLDER, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        monkeypatch.setattr(files, "PATIENCE", 0)
        with pytest.raises(JournalError, match="another process"), Journal.held(path):
            pass
        monkeypatch.undo()
        holder.send_signal(signal.SIGKILL)
        with Journal.held(path) as journal:  # without waiting until it is gone
            assert len(journal.records) == 3


def test_a_process_that_is_about_to_end_is_waited_for(path: Path) -> None:
    with open(path, "rb") as file:
        assert files.lock(file)
        Timer(0.3, file.close).start()
        with Journal.held(path):
            assert file.closed


def test_floats_are_read_to_the_last_bit(tmp_path: Path) -> None:
    numbers: list[Any] = [0.1 + 0.2, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0, 1e22]
    Journal.create(tmp_path / "journal", {}).append({"generation": 0, "numbers": numbers})
    found = Journal.open(tmp_path / "journal").records[0]["numbers"]
    assert [number.hex() for number in found] == [number.hex() for number in numbers]
    assert orjson.dumps(found) == orjson.dumps(numbers)


# --- versions ---


def notices(path: Path) -> list[str]:
    """What going on with a journal gives notice of."""
    told: list[str] = []
    with Journal.held(path, told.append) as journal:
        journal.append({"generation": 3})
    return told


def test_a_journal_says_with_which_versions_it_was_begun(path: Path) -> None:
    head = orjson.loads(path.read_bytes().split(b"\n")[0])
    assert head["versions"] == versions() == Journal.open(path).begun_with
    assert set(head["versions"]) == {"autoprox", "torch", "numpy", "processor"}
    assert head["versions"]["processor"] == f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    assert notices(path) == []


def test_going_on_with_other_versions_is_told_in_one_line(path: Path) -> None:
    head = orjson.loads(path.read_bytes().split(b"\n")[0])
    head["versions"] |= {"torch": "2.0.0", "autoprox": "0.0.1"}
    edited(path, 1, orjson.dumps(head))
    (told,) = notices(path)
    assert f"autoprox 0.0.1 (now {versions()['autoprox']}), torch 2.0.0 (now {versions()['torch']})" in told
    assert "results may differ from those of an uninterrupted run" in told
    assert "\n" not in told
    assert len(Journal.open(path).records) == 4


def test_a_journal_from_before_versions_is_gone_on_with(path: Path) -> None:
    edited(path, 1, b'{"format":"autoprox-journal","version":1,"settings":{}}')
    (told,) = notices(path)
    assert "does not say with which versions it was begun" in told
    assert len(Journal.open(path).records) == 4


def test_lines_that_are_synced_together_are_in_the_file_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    monkeypatch.setattr(Journal, "SYNC_EVERY", 60.0)
    with Journal.held(path) as journal:
        for number in (3, 4, 5):
            journal.append({"generation": number})
            assert len(Journal.open(path).records) == number + 1
        assert len(synced) <= 1
    assert synced  # on the way out
