"""Cached statistics: built once, exactly what the network shows, and never trusted once damaged."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random
from types import ModuleType

import numpy as np
import pytest
import torch
from stored_statistics import MATRICES, PIT, assert_same, direct, entry, read
from synthetic import architectures

from autoprox.bench_cache.benchmarks.task_input import TaskInput
from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.bench_cache.spaces import autoformer, base, blocks, pit, registry
from autoprox.bench_cache.spaces.registry import InputSpec, get_space
from autoprox.bench_cache.statistics import store as cache
from autoprox.bench_cache.statistics.store import StatisticsCache, clear
from autoprox.bench_cache.statistics.subject import Subject
from autoprox.bench_cache.statistics.version import statistics_version
from autoprox.evolve.grammar import terminals
from autoprox.primitives import find_blocks, read_statistics
from autoprox.primitives import probe as probing
from autoprox.primitives.find_blocks import named

AUTOFORMER = Subject("autoformer-vb101", get_space("autoformer-vb101").sample(Random(0)), InputSpec(32, 3, 10, 16))


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

    def killed(path: Path, data: bytes, **settings: bool) -> None:
        nonlocal written
        written += 1
        if written > 3:
            raise KeyboardInterrupt
        plain(path, data, **settings)

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
