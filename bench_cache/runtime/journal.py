"""Journal: the append-only record of a run, one JSON line for its settings and one for each step.

A line is complete when it ends in a newline. A killed run can leave a torn last line, which is not read, and is cut off
before the run goes on. A journal has nothing that differs between two equal runs, such as times, paths or workers,
unless its subclass says so.

This is our own because no library does all of it: append, refuse a damaged line by its number, and keep a second
process out.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import orjson

from autoprox.bench_cache.runtime.files import lock, naming, write_new
from autoprox.bench_cache.runtime.versions import differences, versions


class JournalError(ValueError):
    """A journal that cannot be read or continued; the message says where, and what to do."""


class Journal:
    """The journal of one run: what it had when it was opened, and a way to add to it.

    Each kind of run has a subclass. Its FORMAT names the kind in the first line, its RUN and TITLE in messages. A line
    that was appended survives the death of the process at once, and a loss of power after SYNC_EVERY seconds.

    Attributes:
        settings: those of the first line.
        begun_with: the versions in the first line (see `versions`); empty in a journal from before they were recorded.
        records: the further lines. Each has its number, from 0, in the field COUNTER, unless COUNTER is empty.
    """

    FORMAT: ClassVar[str] = "autoprox-journal"
    VERSION: ClassVar[int] = 1
    COUNTER: ClassVar[str] = "generation"
    SETTINGS: ClassVar[str] = "settings"
    RUN: ClassVar[str] = "run"
    TITLE: ClassVar[str] = "a journal"
    SYNC_EVERY: ClassVar[float] = 0.0

    def __init__(
        self,
        path: Path,
        settings: Mapping[str, Any],
        records: list[dict[str, Any]],
        begun_with: Mapping[str, str] | None = None,
    ) -> None:
        self.path, self.settings, self.records, self.begun_with = path, settings, records, begun_with or {}
        self._synced, self._unsynced = 0.0, False

    @classmethod
    def create(cls, path: Path, settings: Mapping[str, Any]) -> Self:
        """Start a journal.

        If the process is killed meanwhile, or the disk is full, there is no journal, and starting can be tried again.

        Raises:
            JournalError: there is a journal; a run is never written over.
        """
        begun_with = versions()
        head = {"format": cls.FORMAT, "version": cls.VERSION, "versions": begun_with, cls.SETTINGS: dict(settings)}
        if not write_new(path, _line(head)):
            raise cls.present(path)
        return cls(path, dict(settings), [], begun_with)

    @classmethod
    def check_absent(cls, path: Path) -> None:
        """Refuse a path where there is a journal.

        Raises:
            JournalError: there is one.
        """
        if path.exists():
            raise cls.present(path)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Return the journal at `path`, which stays as it is.

        Raises:
            JournalError: it is absent or damaged.
        """
        try:
            return cls._read(path, path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            raise JournalError(
                f"{path.parent} holds no {cls.RUN} (no {path.name}); start one without --resume"
            ) from None

    @classmethod
    @contextmanager
    def held(cls, path: Path, notice: Callable[[str], None] = lambda line: None) -> Iterator[Self]:
        """Open a journal to continue its run: cut off a torn last line, and keep other processes out until the end.

        If the run was begun with other versions, its results may differ, and `notice` gets one line that says so.

        Raises:
            JournalError: it is absent or damaged, or another process is continuing the run.
        """
        cls.open(path)
        with open(path, "r+b") as file:
            if not lock(file):
                raise JournalError(
                    f"another process is going on with the {cls.RUN} in {path.parent}; "
                    "wait for it, or choose another --out"
                )
            data = file.read()
            journal = cls._read(path, data)
            file.truncate(data.rfind(b"\n") + 1)
            if line := journal.version_notice():
                notice(line)
            try:
                yield journal
            finally:
                if journal._unsynced:
                    with naming(path):
                        os.fsync(file.fileno())

    def version_notice(self) -> str:
        """Return one line that says with which other versions the run was begun; "" if they are the same."""
        if not self.begun_with:
            return f"{self.path} does not say with which versions it was begun: with others, results may differ"
        changed = differences(self.begun_with, versions())
        return changed and (
            f"the {self.RUN} in {self.path.parent} was begun with {changed}: "
            "results may differ from those of an uninterrupted run"
        )

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a record; it is safe on the disk after SYNC_EVERY seconds, and at the latest when the run ends."""
        with naming(self.path), open(self.path, "ab") as file:
            file.write(_line(record))
            file.flush()
            self._unsynced = time.monotonic() - self._synced < self.SYNC_EVERY
            if not self._unsynced:
                os.fsync(file.fileno())
                self._synced = time.monotonic()

    @classmethod
    def _read(cls, path: Path, data: bytes) -> Self:
        records = [_parsed(path, number, line) for number, line in enumerate(data.split(b"\n")[:-1], 1)]
        head = records[0] if records else {}
        if head.get("format") != cls.FORMAT:
            raise JournalError(f"{path}: line 1 is not the beginning of {cls.TITLE}; start again with another --out")
        if head.get("version") != cls.VERSION:
            raise JournalError(
                f"{path}: journal version {head.get('version')!r:.20}, this autoprox reads {cls.VERSION}"
            )
        for number, record in enumerate(records[1:]):
            if cls.COUNTER and record.get(cls.COUNTER) != number:
                raise JournalError(f"{path}: line {number + 2} is not {cls.COUNTER} {number}")
        begun_with = head.get("versions", {})
        if not isinstance(begun_with, dict):
            raise JournalError(f"{path}: the versions on line 1 are not an object; start again with another --out")
        return cls(path, head.get(cls.SETTINGS, {}), records[1:], begun_with)

    @classmethod
    def present(cls, path: Path) -> JournalError:
        """Return the error of a run that would start where one is already."""
        return JournalError(f"{path.parent} already holds a {cls.RUN}; go on with --resume, or choose another --out")


def _line(record: Mapping[str, Any]) -> bytes:
    return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)


def _parsed(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise JournalError(f"{path}: line {number} is damaged ({error}); start again with another --out") from None
    if not isinstance(record, dict):
        raise JournalError(f"{path}: line {number} is not an object; start again with another --out")
    return record
