"""Files: written whole or not at all, locked, and named in what the system says of them."""

import csv
import io
import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from filelock import lock_descriptor

PATIENCE = 3.0  # seconds for a killed process's locks


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that readers, and a crash, see the old file or the new one and nothing between.

    Missing folders are made.
    """
    with _drafted(path, data) as draft:
        os.replace(draft, path)


def write_new(path: Path, data: bytes) -> bool:
    """As `write_atomically`, of several processes by one only; False, and nothing is changed, if there is a file."""
    with _drafted(path, data) as draft:
        try:
            os.link(draft, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links, where two at once cannot be told apart
            if path.exists():
                return False
            os.rename(draft, path)
    return True


@contextmanager
def _drafted(path: Path, data: bytes) -> Iterator[Path]:
    """The data in a file beside `path`, which is gone afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}.draft")
    with naming(path):
        try:
            with open(draft, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield draft
        finally:
            draft.unlink(missing_ok=True)


def discard_drafts(folder: Path, but_of: str) -> None:
    """Remove what killed writers left in a folder, where others may be writing the file `but_of` and no other."""
    for draft in folder.glob(".*.draft"):
        if not draft.name.startswith(f".{but_of}."):
            draft.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """What the system refuses inside is told of this file: a full disk names none, a draft's name says little."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def advising(advice: str) -> Iterator[None]:
    """Say what to do about what the system refuses inside: a note of the OSError, which the command line prints."""
    try:
        yield
    except OSError as error:
        error.add_note(advice)
        raise


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with the same fields atomically, under a line of their names. There is at least one row."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())


def lock(file: BinaryIO) -> bool:
    """Lock an open file until it is closed, however the process ends; return False if another process keeps it.

    The system releases a killed process's locks only when it has cleared the process away, so this waits `PATIENCE`
    seconds. Windows lets nobody else read the file's first byte meanwhile.
    """
    deadline = time.monotonic() + PATIENCE
    while not lock_descriptor(file.fileno(), blocking=False):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
