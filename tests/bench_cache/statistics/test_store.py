"""Cached statistics: built once, exactly what the network shows, and never trusted once damaged."""

import contextlib
import errno
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from random import Random
from types import ModuleType

import numpy as np
import orjson
import pytest
import safetensors.torch
import torch
from synthetic import SPEC, architectures

from autoprox.bench_cache.benchmarks.task_input import TaskInput
from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.bench_cache.spaces import autoformer, base, blocks, pit, registry
from autoprox.bench_cache.spaces.registry import InputSpec, get_space
from autoprox.bench_cache.statistics import store as cache
from autoprox.bench_cache.statistics.store import StatisticsCache, clear, slots_of
from autoprox.bench_cache.statistics.subject import Subject
from autoprox.bench_cache.statistics.version import statistics_version
from autoprox.evolve.grammar import terminals
from autoprox.primitives import Reading, find_blocks, read_statistics
from autoprox.primitives import probe as probing
from autoprox.primitives.find_blocks import named

MATRICES = [(name, probe, slot) for name, probe in terminals("noise") for slot in slots_of(name)]
PIT = Subject("pit-vb101", architectures(1)[0], SPEC)
AUTOFORMER = Subject("autoformer-vb101", get_space("autoformer-vb101").sample(Random(0)), InputSpec(32, 3, 10, 16))


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> list[set[tuple[str, str]]]:
    """What networks were built for, in order."""
    calls: list[set[tuple[str, str]]] = []
    plain = Subject.probe

    def counted(subject: Subject, wanted: set[tuple[str, str]]) -> Reading:
        calls.append(set(wanted))
        return plain(subject, wanted)

    monkeypatch.setattr(Subject, "probe", counted)
    return calls


def read(root: Path, subject: Subject = PIT, matrices: list[tuple[str, str, str]] = MATRICES) -> Reading:
    """Read as a new process would, which trusts no file yet."""
    return StatisticsCache(root).read(subject, matrices, ("flops",))


def direct(subject: Subject) -> Reading:
    """Read the same from a network built here."""
    model = get_space(subject.space).build(subject.arch, subject.spec, subject.seed)
    size, channels = subject.spec.image_size, subject.spec.in_channels
    inputs = torch.zeros(subject.batch, channels, size, size)
    wanted = {*terminals("noise"), ("flops", ""), ("tokens", "")}
    return read_statistics(model, find_blocks(model), wanted, inputs, seed=subject.seed)


def assert_same(found: Reading, expected: Reading) -> None:
    assert set(found.matrices) == set(expected.matrices)
    for key, matrices in expected.matrices.items():
        assert len(found.matrices[key]) == len(matrices)
        for one, other in zip(found.matrices[key], matrices, strict=True):
            assert one.dtype == other.dtype
            assert torch.equal(one, other), key
    assert {key: found.samples[key] for key in terminals("noise")} == {
        key: expected.samples[key] for key in terminals("noise")
    }
    assert (found.layers, found.net) == (expected.layers, expected.net)


def entry(root: Path, subject: Subject = PIT) -> Path:
    return root / statistics_version(subject.space) / subject.key


# --- built once, and exactly what the network shows ---


@pytest.mark.parametrize("subject", [PIT, replace(PIT, batch=3, seed=7), AUTOFORMER], ids=["pit", "pit-3-7", "vb101"])
def test_what_is_kept_is_bit_for_bit_what_the_network_shows(tmp_path: Path, subject: Subject, probed: list) -> None:
    expected = direct(subject)
    assert_same(read(tmp_path, subject), expected)
    assert_same(read(tmp_path, subject), expected)
    assert len(probed) == 1


def test_without_keeping_nothing_is_written(tmp_path: Path, probed: list) -> None:
    found = StatisticsCache(tmp_path).read(PIT, MATRICES, ("flops",), keep=False)
    assert_same(found, direct(PIT))
    assert not list(tmp_path.iterdir())


def test_a_build_that_was_killed_goes_on_with_what_is_missing(
    tmp_path: Path, probed: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0
    plain = cache.write_atomically

    def killed(path: Path, data: bytes) -> None:
        nonlocal written
        written += 1
        if written > 3:
            raise KeyboardInterrupt
        plain(path, data)

    monkeypatch.setattr(cache, "write_atomically", killed)
    with pytest.raises(KeyboardInterrupt):
        read(tmp_path)
    monkeypatch.setattr(cache, "write_atomically", plain)
    kept = {path.stem for path in entry(tmp_path).glob("*.safetensors")}
    assert len(kept) == 3
    assert_same(read(tmp_path), direct(PIT))
    assert {f"{name}-{probe or 'any'}" for name, probe in probed[1] if (name, probe) in terminals("noise")} == {
        f"{name}-{probe or 'any'}" for name, probe in terminals("noise")
    } - kept
    read(tmp_path)
    assert len(probed) == 2


def test_reading_some_slots_later_needs_no_network(tmp_path: Path, probed: list) -> None:
    read(tmp_path)
    found = read(tmp_path, matrices=[("weight", "", "fc1"), ("attn", "noise", "attn")])
    assert set(found.matrices) == {("weight", "", "fc1"), ("attn", "noise", "attn")}
    assert len(probed) == 1


def test_shapes_that_were_not_needed_before_are_added(tmp_path: Path, probed: list) -> None:
    weights = [("weight", "", "qkv")]
    found = StatisticsCache(tmp_path).read(PIT, weights)
    assert "flops" not in found.net
    assert StatisticsCache(tmp_path).read(PIT, weights, ("flops",)).net == direct(PIT).net
    assert StatisticsCache(tmp_path).read(PIT, weights, ("tokens",)).layers == direct(PIT).layers
    assert len(probed) == 2
    assert probed[1] == {("flops", "")}


def test_a_benchmark_has_no_images(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"no images for the probe 'data'; use the probe 'noise'"):
        read(tmp_path, matrices=[("weight_grad", "data", "qkv")])


# --- images ---

ON_DATA = [("weight_grad", "data", "qkv"), ("act", "data", "fc1"), ("attn", "data", "attn")]


def with_images(images: np.ndarray | None = None, targets: tuple[int, ...] = (3, 1, 9, 0)) -> Subject:
    """The PiT with four images, or these."""
    if images is None:
        size = (4, PIT.spec.in_channels, PIT.spec.image_size, PIT.spec.image_size)
        images = np.random.default_rng(0).normal(size=size)
    return replace(PIT, input=TaskInput(PIT.spec, images, np.array(targets)))


def test_the_probe_data_reads_the_images_and_targets(tmp_path: Path, probed: list) -> None:
    subject = with_images()
    assert subject.input is not None
    model = get_space(PIT.space).build(PIT.arch, PIT.spec, 0)
    images, targets = torch.tensor(subject.input.images[:2]), torch.tensor([3, 1])
    expected = read_statistics(model, find_blocks(model), {key[:2] for key in ON_DATA}, images, targets, seed=0)
    for _ in range(2):  # from the network, then from the cache
        found = read(tmp_path, subject, ON_DATA)
        for key in ON_DATA:
            assert len(found.matrices[key]) == len(expected.matrices[key]) > 0
            assert all(map(torch.equal, found.matrices[key], expected.matrices[key])), key
    assert len(probed) == 1


def test_the_images_change_what_data_reads_but_not_noise(tmp_path: Path) -> None:
    first = with_images()
    assert first.input is not None
    other = with_images(first.input.images[::-1])
    kinds = [(name, probe, "qkv") for name in ("act", "weight_grad") for probe in ("data", "noise")]
    one, two = (read(tmp_path, subject, kinds).matrices for subject in (first, other))
    same = [all(map(torch.equal, one[key], two[key])) for key in kinds]
    assert same == [False, True, False, True]


def test_the_probe_data_needs_as_many_images_as_the_batch(tmp_path: Path) -> None:
    few = replace(with_images(), batch=5)
    with pytest.raises(BenchmarkError, match=r"^a batch of 5 images, but .* comes with 4; use a smaller --batch$"):
        read(tmp_path, few, ON_DATA)
    assert not list(tmp_path.iterdir())
    assert_same(read(tmp_path, few), direct(few))  # without it they are not needed
    assert read(tmp_path, replace(few, batch=4), ON_DATA).matrices


def test_the_key_is_of_the_images_that_are_read() -> None:
    subject = with_images()
    assert subject.input is not None
    images = subject.input.images
    changed, later = images.copy(), images.copy()
    changed[1, 0, 5, 5] += 0.01
    later[2] += 1
    others = [PIT, with_images(changed), with_images(targets=(3, 2, 9, 0)), replace(subject, batch=3)]
    assert len({each.key for each in (subject, *others)}) == 5
    assert with_images(later, (3, 1, 0, 0)).key == subject.key  # of a batch of 2, two images count
    assert with_images(images.copy()).key == subject.key


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
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched, contextlib.suppress(OSError):
        patched.setattr(os, "fsync", full)
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
    return repr([[float(m.double().sum()) for m in found.matrices[key]] for key in MATRICES]) + repr(found.net)


@pytest.mark.slow
def test_two_processes_build_the_same_entry_at_once(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        digests = list(pool.map(_digest, [tmp_path] * 6))
    assert set(digests) == {_digest(tmp_path)}
    assert {path.suffix for path in entry(tmp_path).iterdir()} == {".safetensors", ".json"}  # and no draft
    assert_same(read(tmp_path), direct(PIT))


# --- what an entry is named by ---


def test_the_key_is_of_everything_that_the_statistics_depend_on() -> None:
    spec = PIT.spec
    others = [
        replace(PIT, arch=next(arch for arch in architectures(2) if arch != PIT.arch)),
        replace(PIT, spec=replace(spec, image_size=32)),
        replace(PIT, spec=replace(spec, in_channels=1)),
        replace(PIT, spec=replace(spec, num_classes=11)),
        replace(PIT, spec=replace(spec, patch_size=6)),
        replace(PIT, batch=3),
        replace(PIT, seed=1),
        AUTOFORMER,
        replace(AUTOFORMER, space="autoformer-tiny"),
    ]
    assert len({subject.key for subject in (PIT, *others)}) == 1 + len(others)
    assert replace(PIT, arch=replace(PIT.arch)).key == PIT.key


def edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> None:
    """Let the source of a module be another, as after an edit."""
    changed = tmp_path / "changed.py"
    changed.write_bytes(Path(str(module.__file__)).read_bytes() + b"\n# another version\n")
    monkeypatch.setattr(module, "__file__", str(changed))
    monkeypatch.setattr(cache, "statistics_version", statistics_version.__wrapped__)


@pytest.mark.parametrize("module", [blocks, pit, base, cache, probing, named], ids=lambda module: module.__name__)
def test_statistics_of_other_code_are_not_used(
    tmp_path: Path, probed: list, monkeypatch: pytest.MonkeyPatch, module: ModuleType
) -> None:
    read(tmp_path)
    edit(tmp_path, monkeypatch, module)
    read(tmp_path)
    assert len(probed) == 2


@pytest.mark.parametrize("module", [registry, autoformer], ids=lambda module: module.__name__)
def test_another_space_orphans_no_statistics(
    tmp_path: Path, probed: list, monkeypatch: pytest.MonkeyPatch, module: ModuleType
) -> None:
    """A space is added by a module of its own, which the registry finds."""
    read(tmp_path)
    edit(tmp_path, monkeypatch, module)
    read(tmp_path)
    assert len(probed) == 1


def test_a_space_with_other_settings_has_other_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    before, tiny = statistics_version("autoformer-tiny"), get_space("autoformer-tiny")
    changed = {"autoformer-tiny": replace(tiny, norm_eps=1e-6)}  # type: ignore[type-var]
    monkeypatch.setattr(registry, "SPACES", {**registry.SPACES, **changed})
    assert statistics_version.__wrapped__("autoformer-tiny") != before
    assert statistics_version.__wrapped__("mini-vit") == statistics_version("mini-vit")


def test_statistics_of_another_torch_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    before = statistics_version("mini-vit")
    monkeypatch.setattr(torch, "__version__", "1.0")
    assert statistics_version.__wrapped__("mini-vit") != before


def test_clearing_removes_old_versions_or_everything(tmp_path: Path) -> None:
    read(tmp_path, matrices=MATRICES[:1])
    old = tmp_path / "0123456789abcdef" / "00"
    old.mkdir(parents=True)
    (old / "weight-any.safetensors").write_bytes(bytes(1000))
    read(tmp_path, AUTOFORMER, MATRICES[:1])  # the statistics of every space are current
    assert clear(tmp_path) == 1000
    assert StatisticsCache(tmp_path).has(AUTOFORMER, [("weight", "")])
    assert StatisticsCache(tmp_path).has(PIT, [("weight", "")])
    assert clear(tmp_path, everything=True) > 1000
    assert not list(tmp_path.iterdir())
    assert clear(tmp_path / "absent") == 0


# --- memory ---

_BASE = """
import random, resource, sys
import torch
from autoprox.bench_cache.statistics.subject import Subject
from autoprox.bench_cache.statistics.worker import NetworkTask, build, reduce_network
from autoprox.bench_cache.spaces.registry import InputSpec, get_space
from autoprox.evolve.grammar import terminals
from autoprox.primitives import parse
from autoprox.primitives.evaluate import reductions
marks = [f"{name}[{probe}]" if probe else name for name, probe in terminals("noise")]
parts = reductions([parse(f"sum(sum(square({mark})))") for mark in marks])
space = get_space("autoformer-base")
for seed in range(4):
    subject = Subject(space.name, space.sample(random.Random(seed)), InputSpec())
    task = NetworkTask(sys.argv[1], subject, tuple(parts), ("flops",), keep=seed < 2)
    if task.keep:
        build(task)
    reduce_network(task)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak is not in kilobytes")
def test_the_largest_networks_take_bounded_memory(tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", _BASE, str(tmp_path)], capture_output=True, text=True, check=True)
    assert int(ran.stdout) / 1e6 < 2.5  # gigabytes; the statistics of one take 1
