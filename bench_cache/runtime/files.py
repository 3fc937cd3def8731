"""Files: written whole or not at all, locked, and named in the errors of the system."""

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

PATIENCE = 3.0  # seconds to wait for a lock, since a killed process keeps its own for a moment


def write_atomically(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write `data` to `path`, so that a reader sees the old file or the new one, even after a crash.

    Missing folders are made. Without `durable` it does not wait for the disk, which takes milliseconds: a crash of the
    machine, not of the process, may leave a damaged file. That is for what has a checksum and can be made again.
    """
    with _drafted(path, data, durable) as draft:
        os.replace(draft, path)


def write_new(path: Path, data: bytes) -> bool:
    """Write a file that is not there yet, as `write_atomically` does, and return True; return False if there is one.

    Of several processes that write the same file at once, one succeeds.
    """
    with _drafted(path, data) as draft:
        try:
            os.link(draft, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links; here two processes could both succeed
            if path.exists():
                return False
            os.rename(draft, path)
    return True


@contextmanager
def _drafted(path: Path, data: bytes, durable: bool = True) -> Iterator[Path]:
    """Write the data to a draft, which is a file beside `path`; remove the draft on the way out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}.draft")
    with naming(path):
        try:
            with open(draft, "xb") as file:
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            yield draft
        finally:
            draft.unlink(missing_ok=True)


def discard_drafts(folder: Path, but_of: str) -> None:
    """Remove the drafts that killed writers left in a folder, but not those of `but_of`, which may be being written."""
    for draft in folder.glob(".*.draft"):
        if not draft.name.startswith(f".{but_of}."):
            draft.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name this file in an OSError that is raised inside.

    Otherwise the error of a full disk names no file, and that of a draft has a name that says little.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def advising(advice: str) -> Iterator[None]:
    """Add advice to an OSError that is raised inside, as a note, which the command line prints."""
    try:
        yield
    except OSError as error:
        error.add_note(advice)
        raise


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write one row or more, all with the same fields, atomically, under a header line with the fields' names."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())


def lock(file: BinaryIO) -> bool:
    """Lock an open file until it is closed, and return True; return False if another process keeps it locked.

    The lock ends with the process, however that ends. But the system takes a moment to release the locks of a killed
    process, so this waits up to `PATIENCE` seconds. On Windows nobody else can read the first byte of a locked file.
    """
    deadline = time.monotonic() + PATIENCE
    while not lock_descriptor(file.fileno(), blocking=False):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
