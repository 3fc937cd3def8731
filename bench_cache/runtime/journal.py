"""Journal: the append-only record of a run, one JSON line for the settings and one for each step.

A line is complete when it ends in a newline; a torn last line, as a killed run leaves it, is not read, and cut off
before the run goes on. Nothing that differs between two equal runs (times, paths, workers) is in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import orjson

from autoprox.bench_cache.runtime.files import lock, naming, write_new


class JournalError(ValueError):
    """A journal that cannot be read or gone on with; the message says where and what to do."""


class Journal:
    """The journal of one run. `settings` and `records`, one for each generation, are what it had when it was opened.

    Each record has its number, from 0, in the field COUNTER.
    """

    FORMAT: ClassVar[str] = "autoprox-journal"
    VERSION: ClassVar[int] = 1
    COUNTER: ClassVar[str] = "generation"

    def __init__(self, path: Path, settings: Mapping[str, Any], records: list[dict[str, Any]]) -> None:
        self.path, self.settings, self.records = path, settings, records

    @classmethod
    def create(cls, path: Path, settings: Mapping[str, Any]) -> Self:
        """Start a journal. Raises JournalError if there is one: a run is never written over.

        Killed meanwhile, or on a full disk, it leaves none, so that the run can be started again.
        """
        head = {"format": cls.FORMAT, "version": cls.VERSION, "settings": dict(settings)}
        if not write_new(path, _line(head)):
            raise _present(path)
        return cls(path, dict(settings), [])

    @classmethod
    def check_absent(cls, path: Path) -> None:
        """Raise JournalError if there is a journal."""
        if path.exists():
            raise _present(path)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read a journal, and change nothing. Raises JournalError if it is absent or damaged."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise JournalError(f"{path.parent} holds no run (no {path.name}); start one without --resume") from None
        records = [_parsed(path, number, line) for number, line in enumerate(data.split(b"\n")[:-1], 1)]
        if not records or records[0].get("format") != cls.FORMAT:
            raise JournalError(f"{path}: line 1 is not the beginning of a journal; start again with another --out")
        if records[0].get("version") != cls.VERSION:
            found = records[0].get("version")
            raise JournalError(f"{path}: journal version {found!r}, this autoprox reads {cls.VERSION}")
        for number, record in enumerate(records[1:]):
            if record.get(cls.COUNTER) != number:
                raise JournalError(f"{path}: line {number + 2} is not {cls.COUNTER} {number}")
        return cls(path, records[0].get("settings", {}), records[1:])

    @classmethod
    @contextmanager
    def held(cls, path: Path) -> Iterator[Self]:
        """Read a journal to go on with it: inside, a torn last line is cut off and no other process can hold it.

        Raises JournalError as `open` does, and while another process goes on with the run.
        """
        cls.open(path)
        with open(path, "r+b") as file:
            if not lock(file):
                raise JournalError(
                    f"another process is going on with the run in {path.parent}; wait for it, or choose another --out"
                )
            journal = cls.open(path)
            file.truncate(file.read().rfind(b"\n") + 1)
            yield journal

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a record and see it onto the disk."""
        with naming(self.path), open(self.path, "ab") as file:
            file.write(_line(record))
            file.flush()
            os.fsync(file.fileno())


def _line(record: Mapping[str, Any]) -> bytes:
    return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)


def _present(path: Path) -> JournalError:
    return JournalError(f"{path.parent} already holds a run; go on with --resume, or choose another --out")


def _parsed(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise JournalError(f"{path}: line {number} is damaged ({error}); start again with another --out") from None
    if not isinstance(record, dict):
        raise JournalError(f"{path}: line {number} is not an object; start again with another --out")
    return record
