"""Statistics of one network in the store, and how often the network is probed."""

from pathlib import Path

import torch
from synthetic import SPEC, architectures

from autoprox.bench_cache.spaces.registry import get_space
from autoprox.bench_cache.statistics.store import StatisticsCache, slots_of
from autoprox.bench_cache.statistics.subject import Subject
from autoprox.bench_cache.statistics.version import statistics_version
from autoprox.evolve.grammar import terminals
from autoprox.primitives import Reading, find_blocks, read_statistics

MATRICES = [(name, probe, slot) for name, probe in terminals("noise") for slot in slots_of(name)]
PIT = Subject("pit-vb101", architectures(1)[0], SPEC)


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
