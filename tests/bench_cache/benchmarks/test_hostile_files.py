"""Files that are cut off, damaged or hostile: refused in one line, and nothing in them is run."""

import io
import os
import pickle
import zipfile
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
import torch
from public_files import hytas_rows, ood_table, refused, vit_bench_rows, write_csv, write_json, write_pth

from autoprox.bench_cache.benchmarks import checkpoint
from autoprox.bench_cache.benchmarks.readers import read_benchmark
from autoprox.bench_cache.runtime.checks import BenchmarkError


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_truncated_files_are_refused(tmp_path: Path, share: float) -> None:
    for path in (
        write_pth(tmp_path / "a.pth", vit_bench_rows()),
        write_json(tmp_path / "b.json", ood_table()),
        write_csv(tmp_path / "c.csv", hytas_rows()),
    ):
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(BenchmarkError, match=r"cut off|no known benchmark"):
            read_benchmark(path)


class Attack:
    """Pickles to a call that makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def zipped(pickled: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    """The bytes of a checkpoint with the given pickle, laid out as torch.save does."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", b"3\n")
    return buffer.getvalue()


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path, protocol: int) -> None:
    loot, path = tmp_path / "loot", tmp_path / "x.pth"
    rows = vit_bench_rows()
    rows[2]["c100_kd_acc"] = Attack(loot)
    torch.save(rows, path, pickle_protocol=max(protocol, 2))
    refused(path, "refused: it is not plain data; reading it would import or call '.*mkdir'")
    path.write_bytes(zipped(pickle.dumps(rows, protocol=protocol)))
    refused(path, "refused: it is not plain data")
    path.write_bytes(pickle.dumps(rows, protocol=protocol))
    refused(path, "no known benchmark format")
    assert not loot.exists()
    pickle.loads(pickle.dumps(rows)).clear()  # the attack does work on those who unpickle
    assert loot.exists()


def test_the_readers_own_check_and_torch_both_refuse_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loot = tmp_path / "loot"
    path = write_pth(tmp_path / "x.pth", [Attack(loot)])
    monkeypatch.setattr(checkpoint, "_refuse_code", lambda pickled: None)
    refused(path, "damaged or cut off: UnpicklingError")
    assert not loot.exists()


def test_tensors_and_classes_are_refused(tmp_path: Path) -> None:
    for value in (torch.zeros(3), {1, 2}, 1j, Path("x"), b"bytes"):
        refused(write_pth(tmp_path / "x.pth", [{"arch": {}, "a_acc": value}]), "refused: it is not plain data")


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(zipped(b"]" * 10_000_000, zipfile.ZIP_DEFLATED))
    refused(path, "refused: its contents are compressed")
    path.write_bytes(zipped(b"\x80\x02" + b"]" * 2_100_000 + b"."))
    refused(path, "refused: more than 2,000,000 values")
    path.write_bytes(zipped(b"\x80\x02" + b"](" * 50_000 + b"e" * 50_000 + b"."))
    refused(path, "record 0: expected an object with arch")
    laughs: list = []
    for _ in range(60):
        laughs = [laughs, laughs]
    refused(write_pth(path, [{"arch": {"hidden_dim": laughs}, "a_acc": 1.0}]), "record 0: hidden_dim of arch")
    monkeypatch.setattr(checkpoint, "MAX_BYTES", 1000)
    refused(write_pth(path, vit_bench_rows()), "refused: it unpacks to more than")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 100,
        b"PK\x03\x04",
        b"PK\x05\x06" + bytes(18),
        b"\x80\x02}q\0.",
        b"{" * 100_000,
        b'{"a":' * 100_000,
        b"<html>404</html>",
        zipped(b""),
        zipped(b"\x80\x02."),
        zipped(b"\x80\x02h\x07."),
        zipped(b"\x80\x02X\xff\xff\xff\xff."),
        zipped(b"not a pickle"),
    ],
    ids=lambda data: data[:4].hex(),  # further on, a zip file has the time at which it was made
)
def test_rubbish_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "rubbish"
    path.write_bytes(data)
    refused(path, ".")


def test_damage_anywhere_in_a_checkpoint_is_refused_or_harmless(tmp_path: Path) -> None:
    path = write_pth(tmp_path / "x.pth", vit_bench_rows())
    data, rng = path.read_bytes(), Random(0)
    for _ in range(150):
        damaged = bytearray(data)
        for _ in range(rng.choice((1, 3, 30))):
            damaged[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(damaged)
        with suppress(BenchmarkError):  # and nothing else: no other error, no warning
            read_benchmark(path)
