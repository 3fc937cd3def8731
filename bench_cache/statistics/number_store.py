"""NumberStore: the numbers that formulas' parts have on architectures, kept for later runs.

A part's numbers cost a pass over every architecture's matrices, and fit in a few kilobytes. They are kept by the
part's text in one SQLite file, each with a checksum, up to a size; what was used longest ago goes first. A part with an
operation that is not built in is never stored, because its text does not say what it computes.
The store is a convenience: what it lacks or cannot read is computed, and what it cannot write is computed again.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import xxhash

from autoprox.bench_cache.runtime.source_digest import source_digest, source_files
from autoprox.primitives.operations import OPERATIONS, Vocabulary
from autoprox.primitives.reduce import Graph

#: Bytes of numbers that are kept.
LIMIT = 2**29
#: Of these, the fraction that is left when room is made.
LEFT = 0.8
#: Seconds to wait for another run that is writing.
PATIENCE = 5.0

_SCHEMA = """
create table if not exists numbers (
    scope text, part text, sum blob, used integer, data blob, primary key (scope, part)
);
create index if not exists by_use on numbers (used);
"""

Found = TypeVar("Found")


def scope(keys: Iterable[str]) -> str:
    """Return a name for numbers on the subjects with these keys, in their order, as this version of the code computes
    them."""
    operations = dict.fromkeys(operation.function.__module__ for operation in OPERATIONS.values())
    files = source_files([*operations, Graph.__module__], Vocabulary.__module__.rpartition(".")[0])
    return source_digest(files, *keys)


class NumberStore:
    """Arrays by scope and part, in the folder of the statistics that they were computed from."""

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self.path, self.limit = folder / "numbers.sqlite3", limit

    def read(self, scope: str, parts: Sequence[str], shape: tuple[int, ...]) -> dict[str, np.ndarray]:
        """Return the arrays of this shape that are there and sound."""

        def work(database: sqlite3.Connection) -> dict[str, np.ndarray]:
            found: dict[str, np.ndarray] = {}
            for part in parts:
                query = "select sum, data from numbers where scope = ? and part = ?"
                for checksum, data in database.execute(query, (scope, part)):
                    if checksum == _checksum(scope, part, data) and len(data) == 8 * np.prod(shape):
                        found[part] = np.frombuffer(data).reshape(shape).copy()
            uses = [(_next_use(database), scope, part) for part in found]
            database.executemany("update numbers set used = ? where scope = ? and part = ?", uses)
            return found

        return self._transaction(work, {}) if self.path.exists() else {}

    def write(self, scope: str, numbers: Mapping[str, np.ndarray]) -> None:
        """Keep the arrays, float64, in place of what is there."""

        def work(database: sqlite3.Connection) -> None:
            use = _next_use(database)
            for part, values in numbers.items():
                data = np.ascontiguousarray(values, dtype=float).tobytes()
                row = (scope, part, _checksum(scope, part, data), use, data)
                database.execute("insert or replace into numbers values (?, ?, ?, ?, ?)", row)
            self._make_room(database)

        if numbers:
            self._transaction(work, None)

    def _make_room(self, database: sqlite3.Connection) -> None:
        size = _size(database)
        if size > self.limit:
            for use, freed in database.execute("select used, sum(length(data)) from numbers group by used").fetchall():
                database.execute("delete from numbers where used = ?", (use,))
                size -= freed
                if size <= LEFT * self.limit:
                    break

    def _transaction(self, work: Callable[[sqlite3.Connection], Found], otherwise: Found) -> Found:
        """Return what the work gives, or `otherwise` where the file cannot be used. One that is damaged is removed."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(sqlite3.connect(self.path, timeout=PATIENCE)) as database:
                # A lost transaction costs time and a torn one is found by its checksum: no need to wait for the disk.
                database.execute("pragma synchronous = off")
                database.executescript(_SCHEMA)
                with database:
                    return work(database)
        except sqlite3.OperationalError:  # another run is writing for long, the disk is full, or it is read-only
            return otherwise
        except sqlite3.DatabaseError:
            self.path.unlink(missing_ok=True)
            return otherwise
        except OSError:
            return otherwise


def _next_use(database: sqlite3.Connection) -> int:
    return database.execute("select coalesce(max(used), 0) + 1 from numbers").fetchone()[0]


def _size(database: sqlite3.Connection) -> int:
    pages, free, size = (
        database.execute(f"pragma {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def _checksum(scope: str, part: str, data: bytes) -> bytes:
    return xxhash.xxh3_128_digest(f"{scope} {part} ".encode() + data)
