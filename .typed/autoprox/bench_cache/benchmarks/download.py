"""Download: fetches public benchmarks, resumes after a break, checks the SHA-256, then converts and keeps them.

This is our own, because pooch (as of 1.9.0) deletes a partial file and begins again after every break.
"""

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from autoprox.bench_cache.benchmarks.catalogue import CATALOGUE, RAW_GITHUB, PublicFile, PublicSource
from autoprox.bench_cache.benchmarks.library import install
from autoprox.bench_cache.benchmarks.readers import read_benchmark
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.bench_cache.runtime.home import data_home

_CHUNK = 2**16
_MOST_ATTEMPTS = 200  # an end even with a server that sends a few bytes each time


class DownloadError(BenchmarkError):
    """A file that could not be fetched, or is not the expected one; the message names its address."""


@dataclass(frozen=True)
class Patience:
    """How long to try.

    Attributes:
        attempts: how many may bring nothing new, one after the other.
        delay: seconds before the second attempt; they double with each further one.
        timeout: seconds of silence that end an attempt.
    """

    attempts: int = 5
    delay: float = 1.0
    timeout: float = 30.0


#: Called with the file, how many of its bytes are here, and what went wrong just now ("" if nothing did).
DownloadProgress = Callable[[PublicFile, int, str], None]


def get_source(name: str) -> PublicSource:
    """Return the downloadable source called `name`.

    Raises:
        DownloadError: there is none; the message lists the names of all.
    """
    names = [source.name for source in CATALOGUE]
    if name in names:
        return CATALOGUE[names.index(name)]
    owners = [source.name for source in CATALOGUE if any(file.benchmark == name for file in source.files)]
    close = owners or get_close_matches(name, names, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise DownloadError(f"nothing to download is called {name!r}{hint}; there are {', '.join(names)}")


def download(
    source: PublicSource,
    progress: DownloadProgress = lambda file, here, problem: None,
    base: str = RAW_GITHUB,
    patience: Patience | None = None,
) -> tuple[Benchmark, ...]:
    """Fetch the files of a source into the user's folder, convert them, and return the installed benchmarks.

    A file that is already there, and whole, is not fetched again. The files' paths are below the address `base`.

    Raises:
        DownloadError: a file cannot be fetched, or its bytes are not those that the catalogue says.
        OSError: a file cannot be written.
    """
    if not base.startswith(("https://", "http://")):
        raise DownloadError(f"{base} is no address to download from: it must start with https:// or http://")
    folder = data_home() / "downloads" / source.name
    benchmarks = []
    for file in source.files:
        for other in file.beside:
            fetch(other, folder, base, patience or Patience(), progress)
        path = fetch(file, folder, base, patience or Patience(), progress)
        benchmarks.append(read_benchmark(path, name=file.benchmark))
        install(benchmarks[-1])
    return tuple(benchmarks)


def fetch(file: PublicFile, folder: Path, base: str, patience: Patience, progress: DownloadProgress) -> Path:
    """Return the path of the file in `folder`; fetch it unless it is there.

    Until it is whole, it is called `<name>.part`. After a break the part is kept, and the next call continues it. A
    part whose SHA-256 is wrong is deleted.

    Raises:
        DownloadError: as `download` does.
    """
    target = folder / file.filename
    part = target.with_name(f"{target.name}.part")
    if _digest(target) == file.sha256:
        progress(file, file.size, "")
        return target
    folder.mkdir(parents=True, exist_ok=True)
    old_part = part.is_file()
    url = _complete(file, part, base, patience, progress)
    if old_part and _digest(part) != file.sha256:  # the bytes of an earlier run may be wrong
        part.unlink()
        url = _complete(file, part, base, patience, progress)
    digest = _digest(part)
    if digest != file.sha256:
        part.unlink()
        raise DownloadError(f"{url} is not the expected file, and was discarded: SHA-256 {digest}, not {file.sha256}")
    os.replace(part, target)
    return target


class _Absent(Exception):
    """The server says that there is no such file, or that we may not have it."""


class _Interrupted(Exception):
    """A failure that may be gone at the next attempt."""


def _complete(file: PublicFile, part: Path, base: str, patience: Patience, progress: DownloadProgress) -> str:
    """Fill `part` from the first of the file's paths that exists, and return the address."""
    refusals = []
    for path in file.paths:
        url = f"{base.rstrip('/')}/{path}"
        try:
            _pull(url, file, part, patience, progress)
        except _Absent as refusal:
            refusals.append(f"{url}: {refusal}")
        else:
            return url
    raise DownloadError("; ".join(refusals))


def _pull(url: str, file: PublicFile, part: Path, patience: Patience, progress: DownloadProgress) -> None:
    """Fill `part` to the file's size, with as many attempts as `patience` allows."""
    most, idle = _size(part), 0
    for attempts in range(1, _MOST_ATTEMPTS + 1):
        try:
            _attempt(url, file, part, patience.timeout, progress)
            problem = "the connection ended early"
        except _Interrupted as interruption:
            problem = str(interruption)
        here = _size(part)
        if here == file.size:
            return
        most, idle = max(most, here), 0 if here > most else idle + 1
        progress(file, here, problem)
        if idle >= patience.attempts or attempts == _MOST_ATTEMPTS:
            break
        time.sleep(min(patience.delay * 2**idle, patience.timeout))
    raise DownloadError(
        f"{url}: {problem}; given up after {attempts} attempts with {_size(part)} of {file.size} bytes, "
        f"which are kept: running the command again goes on from there"
    )


def _attempt(url: str, file: PublicFile, part: Path, timeout: float, progress: DownloadProgress) -> None:
    """Append to `part` what one request brings; if the server does not resume, start over."""
    here = _size(part)
    if here == file.size:
        return
    if here > file.size:
        part.unlink()
        here = 0
    with _open(url, here, timeout) as response:
        if here and response.status != 206:  # the server sends all of it instead
            here = 0
        elif here and not response.headers.get("Content-Range", "").startswith(f"bytes {here}-"):
            part.unlink()
            raise _Interrupted("the server goes on from another place than asked")
        with open(part, "ab" if here else "wb") as out:
            while chunk := _read(response):
                here += len(chunk)
                if here > file.size:
                    break
                out.write(chunk)
                progress(file, here, "")
    if here > file.size:
        part.unlink()
        raise DownloadError(f"{url} is not the expected file, and was discarded: more than {file.size} bytes")


def _open(url: str, start: int, timeout: float) -> HTTPResponse:
    headers = {"User-Agent": "autoprox", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        return urlopen(Request(url, headers=headers), timeout=timeout)
    except HTTPError as error:
        error.close()
        if error.code in (408, 425, 429) or error.code >= 500:
            raise _Interrupted(f"the server answers {error.code} {error.reason}") from error
        if error.code == 416 and start:
            return _open(url, 0, timeout)
        raise _Absent(f"the server answers {error.code} {error.reason}") from error
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise _Interrupted(f"{reason}" or type(error).__name__) from error


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read1(_CHUNK)  # what is there, so that a break loses nothing
    except (OSError, HTTPException) as error:
        raise _Interrupted(f"{error}" or type(error).__name__) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _digest(path: Path) -> str | None:
    if not path.is_file():
        return None
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
