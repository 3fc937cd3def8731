"""Downloads from a server of our own that is slow, breaks off, cannot resume, fails and lies."""

import hashlib
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from public_files import hytas_rows, reference, timm_files, write_csv

from autoprox.bench_cache.benchmarks.catalogue import CATALOGUE, PublicFile, PublicSource
from autoprox.bench_cache.benchmarks.download import DownloadError, Patience, download, fetch, get_source
from autoprox.bench_cache.benchmarks.library import load_benchmark
from autoprox.bench_cache.runtime.checks import BenchmarkError

CONTENT = bytes(range(256)) * 400
PATIENCE = Patience(attempts=3, delay=0.01, timeout=10)
FILE = PublicFile("some", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), ("owner/repo/file.bin",))


class Server(BaseHTTPRequestHandler):
    """Answers by the behaviour of the server it belongs to; keeps what was asked of it."""

    def do_GET(self) -> None:
        self.server.asked.append(self.headers.get("Range"))  # type: ignore[attr-defined]
        self.server.behave(self, self._start())  # type: ignore[attr-defined]

    def _start(self) -> int:
        asked = self.headers.get("Range", "bytes=0-")
        return int(asked.removeprefix("bytes=").removesuffix("-"))

    def answer(self, status: int, body: bytes = b"", length: int | None = None, **headers: str) -> None:
        """Send an answer; `length` is what it claims to be."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def part(self, start: int, stop: int = len(CONTENT), content: bytes = CONTENT) -> None:
        """Send bytes of the content as a good server does, up to `stop`, and claim to send all."""
        rest = len(content) - start
        if start:
            where = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.answer(206, content[start:stop], rest, Content_Range=where)
        else:
            self.answer(200, content[:stop], rest)

    def reset(self) -> None:
        """Break the connection so that the other side gets an error."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


Behaviour = Callable[[Server, int], None]


@dataclass
class Site:
    """A running server: its address, what it was asked, and how to change what it does."""

    base: str
    server: ThreadingHTTPServer
    asked: list[str | None] = field(default_factory=list)

    def behaves(self, behaviour: Behaviour) -> None:
        self.server.behave = behaviour  # type: ignore[attr-defined]


@pytest.fixture
def site() -> Iterator[Site]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that hang up are expected
    site = Site(f"http://127.0.0.1:{server.server_port}", server)
    server.asked = site.asked  # type: ignore[attr-defined]
    site.behaves(lambda request, start: request.part(start))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield site
    server.shutdown()
    server.server_close()
    thread.join()


def get(site: Site, folder: Path, file: PublicFile = FILE, patience: Patience = PATIENCE) -> list[tuple[int, str]]:
    """Fetch the file, check that it is whole and alone, and return what progress said."""
    said: list[tuple[int, str]] = []
    path = fetch(file, folder, site.base, patience, lambda _, here, problem: said.append((here, problem)))
    assert path.read_bytes() == CONTENT
    assert list(folder.iterdir()) == [path]
    return said


def fails(site: Site, folder: Path, message: str) -> None:
    """Fetching fails with this message, in one line, and no file that looks whole is left."""
    with pytest.raises(DownloadError, match=message) as caught:
        fetch(FILE, folder, site.base, PATIENCE, lambda *_: None)
    assert "\n" not in str(caught.value)
    assert site.base in str(caught.value)
    assert not (folder / "file.bin").exists()


def test_a_good_server(site: Site, tmp_path: Path) -> None:
    said = get(site, tmp_path)
    assert said[-1] == (len(CONTENT), "")
    assert [here for here, _ in said] == sorted(here for here, _ in said)
    assert site.asked == [None]
    assert get(site, tmp_path) == [(len(CONTENT), "")]
    assert site.asked == [None], "a whole file is not fetched again"
    (tmp_path / "file.bin").write_bytes(b"damaged")
    get(site, tmp_path)
    assert len(site.asked) == 2


def test_a_slow_server(site: Site, tmp_path: Path) -> None:
    def drip(request: Server, start: int) -> None:
        request.part(start, start)
        for place in range(start, len(CONTENT), 20_000):
            time.sleep(0.05)
            request.wfile.write(CONTENT[place : place + 20_000])
            request.wfile.flush()

    site.behaves(drip)
    said = get(site, tmp_path)
    assert len(said) >= 5, "progress is told as it happens"
    assert site.asked == [None]


def test_a_server_that_falls_silent_is_asked_again_from_there(site: Site, tmp_path: Path) -> None:
    def stall(request: Server, start: int) -> None:
        request.part(start, start + 60_000)
        request.wfile.flush()
        if start + 60_000 < len(CONTENT):
            time.sleep(0.6)

    site.behaves(stall)
    said = get(site, tmp_path, patience=Patience(attempts=9, delay=0.01, timeout=0.3))
    assert "bytes=60000-" in site.asked
    assert (60_000, "timed out") in said


@pytest.mark.parametrize("reset", [False, True])
def test_a_server_that_breaks_off_is_resumed(site: Site, tmp_path: Path, reset: bool) -> None:
    def break_off(request: Server, start: int) -> None:
        request.part(start, start + 30_000)
        if reset and start + 30_000 < len(CONTENT):
            request.wfile.flush()
            time.sleep(0.05)
            request.reset()

    site.behaves(break_off)
    said = get(site, tmp_path)
    assert site.asked[0] is None
    assert sum(bool(problem) for _, problem in said) == len(site.asked) - 1 >= 3
    if not reset:  # after a reset, bytes that have arrived may be lost
        assert site.asked == [None, "bytes=30000-", "bytes=60000-", "bytes=90000-"]


def test_a_server_that_cannot_resume_starts_over(site: Site, tmp_path: Path) -> None:
    def restart(request: Server, start: int) -> None:
        request.part(0, 50_000 if not start else len(CONTENT))

    site.behaves(restart)
    get(site, tmp_path)
    assert site.asked == [None, "bytes=50000-"]


def test_a_server_that_never_gets_further_is_given_up(site: Site, tmp_path: Path) -> None:
    site.behaves(lambda request, start: request.part(0, 50_000))
    fails(site, tmp_path, "given up after 4 attempts with 50000 of 102400 bytes, which are kept")
    assert (tmp_path / "file.bin.part").stat().st_size == 50_000
    site.behaves(lambda request, start: request.part(start))
    site.asked.clear()
    get(site, tmp_path)
    assert site.asked == ["bytes=50000-"], "the next run goes on from there"


def test_a_server_that_resumes_elsewhere_is_not_trusted(site: Site, tmp_path: Path) -> None:
    def elsewhere(request: Server, start: int) -> None:
        if start:
            request.answer(206, CONTENT[start - 1 :], Content_Range=f"bytes {start - 1}-102399/102400")
        else:
            request.part(0, 50_000 if len(site.asked) == 1 else len(CONTENT))

    site.behaves(elsewhere)
    get(site, tmp_path)
    assert site.asked == [None, "bytes=50000-", None]


@pytest.mark.parametrize("status", [404, 403, 410])
def test_what_is_not_there_is_not_asked_for_again(site: Site, tmp_path: Path, status: int) -> None:
    site.behaves(lambda request, start: request.answer(status))
    fails(site, tmp_path, f"file.bin: the server answers {status}")
    assert len(site.asked) == 1


def test_the_next_path_is_tried_when_one_is_absent(site: Site, tmp_path: Path) -> None:
    def moved(request: Server, start: int) -> None:
        request.part(start) if request.path.startswith("/new/") else request.answer(404)

    site.behaves(moved)
    get(site, tmp_path, PublicFile("some", FILE.sha256, FILE.size, ("old/file.bin", "new/file.bin")))


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_in_trouble_is_asked_again_a_few_times(site: Site, tmp_path: Path, status: int) -> None:
    site.behaves(lambda request, start: request.part(start) if len(site.asked) == 3 else request.answer(status))
    said = get(site, tmp_path)
    assert len(site.asked) == 3
    assert f"the server answers {status}" in said[0][1]
    (tmp_path / "file.bin").unlink()
    site.behaves(lambda request, start: request.answer(status))
    fails(site, tmp_path, f"the server answers {status} .*; given up after 3 attempts with 0 of 102400 bytes")


def test_no_server_at_all(site: Site, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        site.base = f"http://127.0.0.1:{unused.getsockname()[1]}"
        fails(site, tmp_path, "refused; given up after 3 attempts")


def test_wrong_content_is_discarded(site: Site, tmp_path: Path) -> None:
    site.behaves(lambda request, start: request.part(start, content=CONTENT[:-1] + b"?"))
    fails(site, tmp_path, f"is not the expected file, and was discarded: SHA-256 .*, not {FILE.sha256}")
    assert list(tmp_path.iterdir()) == []


def test_more_than_the_expected_bytes_are_not_taken(site: Site, tmp_path: Path) -> None:
    sent = []

    def endless(request: Server, start: int) -> None:
        request.answer(200, length=2**40)
        for _ in range(1000):
            request.wfile.write(CONTENT)
            sent.append(1)

    site.behaves(endless)
    fails(site, tmp_path, "discarded: more than 102400 bytes")
    assert list(tmp_path.iterdir()) == []
    assert len(sent) < 1000


@pytest.mark.parametrize("claimed", [10, len(CONTENT) - 1, len(CONTENT) + 1000])
def test_a_wrong_length_is_only_a_break(site: Site, tmp_path: Path, claimed: int) -> None:
    site.behaves(lambda request, start: request.answer(200, CONTENT, claimed) if not start else request.part(start))
    get(site, tmp_path)


def test_an_error_page_in_place_of_the_file(site: Site, tmp_path: Path) -> None:
    site.behaves(lambda request, start: request.answer(200, b"<html>please log in</html>"))
    fails(site, tmp_path, "the connection ended early; given up after")


@pytest.mark.parametrize("old", [b"x" * 1000, b"x" * len(CONTENT), CONTENT + b"x", CONTENT[:-5] + b"wrong", CONTENT])
def test_a_part_that_an_earlier_run_left_is_used_or_replaced(site: Site, tmp_path: Path, old: bytes) -> None:
    (tmp_path / "file.bin.part").write_bytes(old)
    get(site, tmp_path)
    assert len(site.asked) == (0 if old == CONTENT else 1 if len(old) >= len(CONTENT) else 2)


def test_a_refused_range_starts_over(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:1000])
    site.behaves(lambda request, start: request.answer(416) if start else request.part(0))
    get(site, tmp_path)
    assert site.asked == ["bytes=1000-", None]


def test_a_file_that_cannot_be_written_is_no_network_trouble(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        get(site, tmp_path)
    assert len(site.asked) == 1


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for the user's benchmarks."""
    monkeypatch.setenv("AUTOPROX_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_download_becomes_a_benchmark(site: Site, tmp_path: Path, home: Path) -> None:
    content = write_csv(tmp_path / "ksc.csv", hytas_rows()).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    file = PublicFile("my-table", digest, len(content), ("a/ksc.csv",))
    site.behaves(lambda request, start: request.part(start, len(content), content))
    (benchmark,) = download(PublicSource("mine", "", "", (file,)), base=site.base + "/", patience=PATIENCE)
    assert benchmark.name == "my-table"
    assert load_benchmark("my-table").to_bytes() == benchmark.to_bytes()
    assert {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()} == {
        "benchmarks/my-table.json",
        "downloads/mine/ksc.csv",
    }


@pytest.mark.parametrize("base", ["file:///etc", "ftp://x", "raw.githubusercontent.com"])
def test_an_address_must_be_of_the_web(home: Path, base: str) -> None:
    with pytest.raises(DownloadError, match="must start with https"):
        download(get_source("vit-bench-101"), base=base)


def test_the_catalogue_is_pinned_and_unambiguous() -> None:
    files = [file for source in CATALOGUE for file in source.files]
    assert len({file.benchmark for file in files}) == len({file.sha256 for file in files}) == len(files)
    everything = files + [other for file in files for other in file.beside]
    assert len({file.sha256 for file in everything}) == len(everything)
    for file in everything:
        assert len(bytes.fromhex(file.sha256)) == 32
        for path in file.paths:
            commit = path.split("/")[2]
            assert re.fullmatch("[0-9a-f]{40}|aa4b585", commit), "a branch moves, a commit does not"


@pytest.mark.parametrize("source", ["timm-in1k", "flexibert", "nas-bench-suite-zero"])
def test_the_reference_data_downloads(site: Site, home: Path, source: str) -> None:
    """The published files have the digests and sizes that the catalogue says, and become the benchmarks it names."""
    folder = source.removesuffix("-in1k")
    found = get_source(source)
    contents = {
        file.filename: reference(folder, file.filename).read_bytes()
        for main in found.files
        for file in (main, *main.beside)
    }

    def serve(request: Server, start: int) -> None:
        content = contents[request.path.rsplit("/", 1)[-1]]
        request.part(start, len(content), content)

    site.behaves(serve)
    benchmarks = download(found, base=site.base, patience=PATIENCE)
    assert [benchmark.name for benchmark in benchmarks] == [file.benchmark for file in found.files]
    assert all(benchmark.columns for benchmark in benchmarks)


def test_the_files_beside_a_file_are_fetched_first(site: Site, tmp_path: Path, home: Path) -> None:
    """The reader of timm's table finds the accuracies on ImageNet-V2 and the costs beside it."""
    made = timm_files(tmp_path / "made")
    contents = {path.name: path.read_bytes() for path in made}
    main_file, *others = (
        PublicFile("timm-in1k", hashlib.sha256(content).hexdigest(), len(content), (f"a/b/{name}",))
        for name, content in contents.items()
    )

    def serve(request: Server, start: int) -> None:
        content = contents[request.path.rsplit("/", 1)[-1]]
        request.part(start, len(content), content)

    site.behaves(serve)
    source = PublicSource("timm-in1k", "", "", (replace(main_file, beside=tuple(others)),))
    (benchmark,) = download(source, base=site.base, patience=PATIENCE)
    assert list(benchmark.tasks) == ["imagenet", "imagenet_v2"]
    assert list(benchmark.columns) == ["params", "flops", "activations"]
    assert load_benchmark("timm-in1k").to_bytes() == benchmark.to_bytes()


@pytest.mark.parametrize(
    ("name", "close"), [("vit-bench", "vit-bench-101"), ("ood-vit-nas-tiny", "ood-vit-nas"), ("q", "there are vit")]
)
def test_an_unknown_source_is_said_with_the_closest(name: str, close: str) -> None:
    with pytest.raises(BenchmarkError, match=close):
        get_source(name)
