"""Journal: the append-only record of a run, one JSON line for the settings and one for each generation.

A line is complete when it ends in a newline; a torn last line, as a killed run leaves it, is not read, and cut off
before the run goes on. Nothing that differs between two equal runs (times, paths, workers) is in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from autoprox.bench_cache.files import lock

FORMAT = "autoprox-journal"
VERSION = 1


class JournalError(ValueError):
    """A journal that cannot be read or gone on with; the message says where and what to do."""


class Journal:
    """The journal of one run. `settings` and `generations` hold what it had when it was opened."""

    def __init__(self, path: Path, settings: Mapping[str, Any], generations: list[dict[str, Any]]) -> None:
        self.path, self.settings, self.generations = path, settings, generations

    @classmethod
    def create(cls, path: Path, settings: Mapping[str, Any]) -> Journal:
        """Start a journal. Raises JournalError if there is one: a run is never written over."""
        path.parent.mkdir(parents=True, exist_ok=True)
        cls.check_absent(path)
        journal = cls(path, dict(settings), [])
        journal._write({"format": FORMAT, "version": VERSION, "settings": dict(settings)}, "xb")
        return journal

    @classmethod
    def check_absent(cls, path: Path) -> None:
        """Raise JournalError if there is a journal."""
        if path.exists():
            raise JournalError(f"{path.parent} already holds a run; go on with --resume, or choose another --out")

    @classmethod
    def open(cls, path: Path) -> Journal:
        """Read a journal, and change nothing. Raises JournalError if it is absent or damaged."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise JournalError(f"{path.parent} holds no run (no {path.name}); start one without --resume") from None
        records = [_parsed(path, number, line) for number, line in enumerate(data.split(b"\n")[:-1], 1)]
        if not records or records[0].get("format") != FORMAT:
            raise JournalError(f"{path}: line 1 is not the beginning of a journal; start again with another --out")
        if records[0].get("version") != VERSION:
            raise JournalError(f"{path}: journal version {records[0].get('version')!r}, this autoprox reads {VERSION}")
        generations = records[1:]
        for number, record in enumerate(generations):
            if record.get("generation") != number:
                raise JournalError(f"{path}: line {number + 2} is not generation {number}")
        return cls(path, records[0].get("settings", {}), generations)

    @classmethod
    @contextmanager
    def held(cls, path: Path) -> Iterator[Journal]:
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

    def append(self, generation: Mapping[str, Any]) -> None:
        """Add a generation and see it onto the disk."""
        self._write(generation, "ab")

    def _write(self, record: Mapping[str, Any], mode: str) -> None:
        with open(self.path, mode) as file:
            file.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
            file.flush()
            os.fsync(file.fileno())


def _parsed(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise JournalError(f"{path}: line {number} is damaged ({error}); start again with another --out") from None
    if not isinstance(record, dict):
        raise JournalError(f"{path}: line {number} is not an object; start again with another --out")
    return record
