"""Entries that are damaged, half-written, or written by two processes."""

import contextlib
import errno
import json
import os
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from random import Random

import orjson
import pytest
import safetensors.torch
import torch
from stored_statistics import MATRICES, PIT, assert_same, direct, entry, read

from autoprox.bench_cache.statistics import store as cache
from autoprox.bench_cache.statistics.store import StatisticsCache
from autoprox.evolve.grammar import terminals
from autoprox.primitives import Reading

# --- damage ---


def _file(root: Path, name: str = "act-noise") -> Path:
    return entry(root) / f"{name}.safetensors"


def _header_length(data: bytes) -> int:
    return 8 + int.from_bytes(data[:8], "little")


def _rewrite(path: Path, change: Callable[[bytearray], bytes | bytearray]) -> None:
    path.write_bytes(change(bytearray(path.read_bytes())))


def _flip(position: int, mask: int = 1) -> Callable[[bytearray], bytearray]:
    def flipped(data: bytearray) -> bytearray:
        data[position] ^= mask
        return data

    return flipped


def _resaved(change: Callable[[dict, dict], object]) -> Callable[[bytearray], bytes]:
    """A sound safetensors file with other tensors or metadata."""

    def saved(data: bytearray) -> bytes:
        header = json.loads(data[8 : _header_length(data)])
        tensors, facts = safetensors.torch.load(bytes(data)), header["__metadata__"]
        change(tensors, facts)
        return safetensors.torch.save(tensors, facts)

    return saved


def _viewed(dtype: torch.dtype | None, *shape: int) -> Callable[[dict, dict], None]:
    def change(tensors: dict, facts: dict) -> None:
        first = tensors["qkv/0"]
        tensors["qkv/0"] = first.view(dtype) if dtype else first.reshape(*shape)

    return change


def _zeroed(tensors: dict, facts: dict) -> None:
    tensors["fc2/3"] = torch.zeros_like(tensors["fc2/3"])


HEADER = [f"header {number}" for number in range(24)]
DATA = {
    "nothing": lambda data: b"",
    "one byte": lambda data: data[:1],
    "half a header": lambda data: data[: _header_length(data) // 2],
    "no data": lambda data: data[: _header_length(data)],
    "last byte cut": lambda data: data[:-1],
    "one byte more": lambda data: data + b"\0",
    "first value": lambda data: _flip(_header_length(data))(data),
    "last value": lambda data: _flip(len(data) - 1, 128)(data),
    "zeroed page": lambda data: data[: len(data) - 4096] + bytes(4096),
    "zeros only": lambda data: bytes(len(data)),
    "huge header": lambda data: (2**62).to_bytes(8, "little") + data[8:],
    "another tensor": _resaved(_zeroed),
    "another type": _resaved(_viewed(torch.int32)),
    "another shape": _resaved(_viewed(None, 1, -1)),
    "a tensor less": _resaved(lambda tensors, facts: tensors.pop("proj/1")),
    "a tensor more": _resaved(lambda tensors, facts: tensors.update(more=torch.zeros(2))),
    "other samples": _resaved(lambda tensors, facts: facts.update(samples="1")),
    "no checksums": _resaved(lambda tensors, facts: facts.pop("checksums")),
    "no tensors": _resaved(lambda tensors, facts: (tensors.clear(), facts.update(checksums="{}"))),
    "no metadata": lambda data: safetensors.torch.save(safetensors.torch.load(bytes(data))),
}


@pytest.mark.parametrize("damage", [*DATA, *HEADER])
def test_a_damaged_file_is_built_again(probed: list, damage: str, sound: tuple[Path, Reading]) -> None:
    root, expected = sound
    path = _file(root)
    before = path.read_bytes()
    if damage in DATA:
        _rewrite(path, DATA[damage])
    else:
        rng = Random(damage)
        _rewrite(path, _flip(rng.randrange(_header_length(before)), rng.randrange(1, 256)))
    damaged = path.read_bytes()
    assert damaged != before
    try:
        assert_same(read(root), expected)
    except BaseException:
        path.write_bytes(before)
        raise
    if path.read_bytes() == damaged:  # still there: then the change says nothing, like a space that became a tab
        assert damage in HEADER
        assert not probed
    else:
        assert_same(read(root), expected)
        assert [set(terminals("noise")) & wanted for wanted in probed] == [{("act", "noise")}]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Reading]:
    """A cache with one sound entry, and what it holds."""
    root = tmp_path_factory.mktemp("sound")
    return root, read(root)


STRUCTURE = {
    "nothing": b"",
    "no JSON": b"{",
    "not UTF-8": b"\xff\xfe",
    "null": b"null",
    "an array": b"[1, 2]",
    "a text": b'"payload"',
    "no checksum": b'{"payload": "{}"}',
    "payload a number": b'{"payload": 3, "checksum": "x"}',
    "wrong checksum": b'{"payload": "{}", "checksum": "x"}',
    "another payload": orjson.dumps({"payload": "[]", "checksum": cache.xxhash.xxh3_128_hexdigest(b"[]")}),
    "empty payload": orjson.dumps({"payload": "{}", "checksum": cache.xxhash.xxh3_128_hexdigest(b"{}")}),
}


@pytest.mark.parametrize("damage", STRUCTURE)
@pytest.mark.parametrize("numbers", [("flops",), ()], ids=["with shapes", "without"])
def test_a_damaged_structure_is_built_again(
    probed: list, damage: str, numbers: tuple[str, ...], sound: tuple[Path, Reading]
) -> None:
    root, expected = sound
    (entry(root) / "structure.json").write_bytes(STRUCTURE[damage])
    found = StatisticsCache(root).read(PIT, MATRICES[:2], numbers)
    assert found.net["params"] == expected.net["params"]
    assert found.layers["fan_in", "qkv"] == expected.layers["fan_in", "qkv"]
    StatisticsCache(root).read(PIT, MATRICES[:2], numbers)
    assert len(probed) == 1
    assert_same(read(root), expected)  # puts back what the test needs next


def test_a_changed_number_in_the_structure_is_noticed(probed: list, sound: tuple[Path, Reading]) -> None:
    root, expected = sound
    path = entry(root) / "structure.json"
    text = path.read_text()
    changed = text.replace(str(int(expected.net["params"])), "123456")
    assert changed != text
    path.write_text(changed)
    assert_same(read(root), expected)
    assert len(probed) == 1


def test_damage_after_the_first_read_is_noticed_by_the_same_process(tmp_path: Path, probed: list) -> None:
    store = StatisticsCache(tmp_path)
    expected = store.read(PIT, MATRICES, ("flops",))
    store.read(PIT, MATRICES, ("flops",))
    _rewrite(_file(tmp_path), lambda data: _flip(len(data) - 1)(data))
    os.utime(_file(tmp_path), ns=(1, 1))
    assert_same(store.read(PIT, MATRICES, ("flops",)), expected)
    assert len(probed) == 2


def test_a_pickle_in_place_of_an_entry_is_not_run(tmp_path: Path, probed: list, sound: tuple[Path, Reading]) -> None:
    class Hostile:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "ran",)

    root, expected = sound
    for name in ("act-noise.safetensors", "structure.json"):
        (entry(root) / name).write_bytes(pickle.dumps(Hostile()))
    assert_same(read(root), expected)
    assert not (tmp_path / "ran").exists()


# --- atomic, and shared ---


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched, contextlib.suppress(OSError):
        patched.setattr(os, "replace", full)
        read(tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert_same(read(tmp_path), direct(PIT))


def test_what_a_killed_writer_leaves_behind_is_harmless(tmp_path: Path, probed: list) -> None:
    entry(tmp_path).mkdir(parents=True)
    (entry(tmp_path) / ".act-noise.safetensors.00ff.draft").write_bytes(b"half a fi")
    assert not StatisticsCache(tmp_path).has(PIT, terminals("noise"))
    assert_same(read(tmp_path), direct(PIT))
    assert StatisticsCache(tmp_path).has(PIT, terminals("noise"))
    assert_same(read(tmp_path), direct(PIT))
    assert len(probed) == 1


def _digest(root: Path) -> str:
    """Read everything in a worker, and say what it was."""
    torch.set_num_threads(1)
    found = read(root)
    there = [key for key in MATRICES if key in found.matrices]  # a network has slots of blocks, or of convolutions
    return repr([[float(m.double().sum()) for m in found.matrices[key]] for key in there]) + repr(found.net)


@pytest.mark.slow
def test_two_processes_build_the_same_entry_at_once(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        digests = list(pool.map(_digest, [tmp_path] * 6))
    assert set(digests) == {_digest(tmp_path)}
    assert {path.suffix for path in entry(tmp_path).iterdir()} == {".safetensors", ".json"}  # and no draft
    assert_same(read(tmp_path), direct(PIT))
