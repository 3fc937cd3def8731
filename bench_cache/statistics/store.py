"""Cached statistics: a network is built and probed once, then formulas run on what was kept.

An entry is a directory named by everything the statistics depend on: the version of its space's statistics (see
version.py), then the SHA-256 of architecture, input, batch size and seed. It holds one safetensors file for each
(statistic, probe), with a checksum of every tensor and one of these checksums in its metadata, and `structure.json`
for the numbers per layer and per network. Files appear whole or not at all; what fails its checksum is read from the
network again.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import orjson
import torch
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from autoprox.bench_cache.runtime.files import advising, write_atomically
from autoprox.bench_cache.statistics.subject import Subject
from autoprox.bench_cache.statistics.version import is_current, statistics_version
from autoprox.primitives import Reading
from autoprox.primitives.statistics import STATISTICS

#: Statistics that need a forward pass to know a shape; they are kept beside those that need none.
SHAPES = frozenset({"tokens", "flops", "activations"})


class StatisticsCache:
    """Statistics on disk, under one directory; `read` builds what is missing."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        self._trusted: set[tuple[str, int, int]] = set()  # files whose checksums held in this process

    def read(
        self,
        subject: Subject,
        matrices: Iterable[tuple[str, str, str]] = (),
        numbers: Iterable[str] = (),
        *,
        keep: bool = True,
    ) -> Reading:
        """Return the wanted matrices, by (statistic, probe, slot), and those of `numbers` that need a forward pass.

        These are tokens, flops and activations; the other numbers per layer and network are always there. What is
        missing from the cache, or damaged, is read from the network, and kept if `keep`.
        """
        matrices = list(dict.fromkeys(matrices))
        entry = self._entry(subject)
        shapes = SHAPES & set(numbers)
        reading = self._read_structure(entry, shapes)
        pairs = dict.fromkeys((name, name_of_probe) for name, name_of_probe, _ in matrices)
        missing: set[tuple[str, str]] = set()
        found = reading or Reading()
        for name, probe_name in pairs:
            slots = [slot for n, p, slot in matrices if (n, p) == (name, probe_name)]
            if not self._read_matrices(found, entry, name, probe_name, slots):
                missing.add((name, probe_name))
        if reading is not None and not missing:
            return found
        fresh = subject.probe(missing | {(name, "") for name in shapes if reading is None})
        if keep:
            self._keep_matrices(entry, fresh, missing)
            if reading is None:
                self._keep_structure(entry, fresh)
        found.matrices.update({key: value for key, value in fresh.matrices.items() if key[:2] in missing})
        found.samples.update(fresh.samples)
        found.layers.update(fresh.layers)
        found.net.update(fresh.net)
        return found

    def prepared(self, subject: Subject, pairs: Collection[tuple[str, str]], stride: int, *, keep: bool = True) -> bool:
        """Return whether `prepare` would find nothing missing."""
        return all(self.has(subject, pairs, each) for each in ({1, stride} if keep else {stride}))

    def prepare(self, subject: Subject, pairs: Collection[tuple[str, str]], stride: int, *, keep: bool = True) -> None:
        """Build and keep what is missing of (statistic, probe) pairs, and their samples if the stride is above 1.

        Without `keep`, the samples only.
        """
        if self.prepared(subject, pairs, stride, keep=keep):
            return
        whole = self.read(subject, _everywhere(pairs), SHAPES, keep=keep)
        if stride > 1:
            self._keep_sample(subject, whole, pairs, stride)

    def read_sample(self, subject: Subject, pairs: Collection[tuple[str, str]], stride: int) -> Reading:
        """Return every stride-th row and column of the matrices of (statistic, probe) pairs, and all numbers.

        Rows are taken sample by sample, so that each sample keeps equally many. A sample that is missing is built and
        kept; the whole matrices that it is taken from are not.
        """
        entry = self._entry(subject)
        found = self._read_structure(entry, SHAPES) or Reading()
        there = [self._read_matrices(found, entry, *pair, slots_of(pair[0]), stride) for pair in pairs]
        if found.net and all(there):
            return found
        return self._keep_sample(subject, self.read(subject, _everywhere(pairs), SHAPES, keep=False), pairs, stride)

    def _keep_sample(
        self, subject: Subject, whole: Reading, pairs: Collection[tuple[str, str]], stride: int
    ) -> Reading:
        """Keep every stride-th row and column of the matrices, with all numbers, and return them."""
        entry, sampled = self._entry(subject), _sample(whole, stride)
        self._keep_matrices(entry, sampled, set(pairs), stride)
        if self._read_structure(entry, SHAPES) is None:
            self._keep_structure(entry, whole)
        return sampled

    def _entry(self, subject: Subject) -> Path:
        return self.root / statistics_version(subject.space) / subject.key

    def _keep_matrices(self, entry: Path, fresh: Reading, pairs: set[tuple[str, str]], stride: int = 1) -> None:
        for name, probe_name in pairs:
            tensors = {
                f"{slot}/{block}": tensor.contiguous()
                for (n, p, slot), blocks in fresh.matrices.items()
                if (n, p) == (name, probe_name)
                for block, tensor in enumerate(blocks)
            }
            checksums = {key: _checksum(tensor) for key, tensor in tensors.items()}
            facts = {"samples": str(fresh.samples[name, probe_name]), "checksums": json.dumps(checksums)}
            facts["seal"] = _seal(facts)
            arrays = {key: tensor.numpy() for key, tensor in tensors.items()}  # a quarter of the time of torch's `save`
            _write(_matrix_file(entry, name, probe_name, stride), save(arrays, facts))

    def _keep_structure(self, entry: Path, fresh: Reading) -> None:
        payload = orjson.dumps(
            {"net": fresh.net, "layers": {"/".join(key): numbers for key, numbers in fresh.layers.items()}}
        )
        record = {"checksum": xxhash.xxh3_128_hexdigest(payload), "payload": payload.decode()}
        _write(entry / "structure.json", orjson.dumps(record))

    def _read_structure(self, entry: Path, shapes: Iterable[str]) -> Reading | None:
        """Return the numbers per layer and network; None if absent, damaged or without the wanted shapes."""
        try:
            stored = orjson.loads((entry / "structure.json").read_bytes())
            payload = stored["payload"].encode()
            if xxhash.xxh3_128_hexdigest(payload) != stored["checksum"]:
                return None
            data = orjson.loads(payload)
            numbers = {tuple(key.split("/")): values for key, values in data["layers"].items()}
            reading = Reading(layers=numbers, net=data["net"])
        except (OSError, orjson.JSONDecodeError, KeyError, AttributeError, TypeError):
            return None
        known = reading.net.keys() | {name for name, _ in reading.layers}
        return reading if known.issuperset(shapes) else None

    def _read_matrices(
        self, reading: Reading, entry: Path, name: str, probe_name: str, slots: Sequence[str], stride: int = 1
    ) -> bool:
        """Put the slots' matrices into the reading, and return whether they were there and sound."""
        path = _matrix_file(entry, name, probe_name, stride)
        try:
            stat = path.stat()
            identity = (str(path), stat.st_mtime_ns, stat.st_size)
            with safe_open(path, framework="np") as file:  # three times as fast as with torch's tensors
                facts = file.metadata()
                if facts["seal"] != _seal(facts):
                    return False
                checksums = json.loads(facts["checksums"])
                wanted = [key for key in checksums if key.partition("/")[0] in slots]
                read = {
                    key: torch.from_numpy(file.get_tensor(key))
                    for key in (wanted if identity in self._trusted else file.keys())
                }
                if identity not in self._trusted and not _all_sound(read, checksums):
                    return False
                self._trusted.add(identity)
                for slot in slots:
                    depth = sum(key.startswith(f"{slot}/") for key in wanted)
                    if depth:  # else no block of the network has the slot
                        reading.matrices[name, probe_name, slot] = [read[f"{slot}/{block}"] for block in range(depth)]
                reading.samples[name, probe_name] = int(facts["samples"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return False
        return True

    def size(self, subject: Subject, stride: int = 1) -> int:
        """Return how many bytes on disk the statistics of a network take, or their samples of a stride above 1."""
        files = self._entry(subject).glob(f"*{_mark(stride)}*" if stride > 1 else "*")
        return sum(file.stat().st_size for file in files)

    def has(self, subject: Subject, pairs: Iterable[tuple[str, str]], stride: int = 1) -> bool:
        """Return whether there are files for all the (statistic, probe) pairs; `read` checks that they are sound."""
        entry = self._entry(subject)
        return all(_matrix_file(entry, name, probe_name, stride).exists() for name, probe_name in pairs)


def clear(root: Path, *, everything: bool = False) -> int:
    """Remove the statistics that no current code reads, or everything, and return the bytes that became free."""
    freed = 0
    for folder in root.glob("*"):
        if everything or not is_current(folder.name):
            freed += sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            shutil.rmtree(folder)
    return freed


def slots_of(name: str) -> tuple[str, ...]:
    """The slots that a matrix statistic has."""
    return STATISTICS[name].slots


def is_matrix(name: str) -> bool:
    """Return whether a statistic is one matrix for each layer."""
    return name in STATISTICS and STATISTICS[name].level == "matrix"  # columns of a table are not in STATISTICS


def _everywhere(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str, str]]:
    return [(*pair, slot) for pair in pairs for slot in slots_of(pair[0])]


def _sample(whole: Reading, stride: int) -> Reading:
    """Return the reading with every stride-th row and column of its matrices."""
    thin: dict[tuple[str, str, str], Sequence[Tensor]] = {
        key: [thinned(matrix, whole.samples[key[:2]], stride) for matrix in blocks]
        for key, blocks in whole.matrices.items()
    }
    return replace(whole, matrices=thin)


def thinned(matrix: Tensor, samples: int, stride: int) -> Tensor:
    """Return every stride-th row of each sample, and of these every stride-th column."""
    return matrix.unflatten(0, (samples, -1))[:, ::stride, ::stride].flatten(0, 1).contiguous()


def _matrix_file(entry: Path, name: str, probe_name: str, stride: int = 1) -> Path:
    return entry / f"{name}-{probe_name or 'any'}{_mark(stride)}.safetensors"


def _mark(stride: int) -> str:
    """Return the mark of samples in the names of files; nothing for whole matrices."""
    return f"-every{stride}" if stride > 1 else ""


def _write(path: Path, data: bytes) -> None:
    """Write a file of the cache, in place of whatever is there."""
    if path.is_dir():
        shutil.rmtree(path)
    with advising("statistics are kept there; make room, or set AUTOPROX_HOME to another folder"):
        write_atomically(path, data, durable=False)  # what a crash of the machine damages is built again


def _checksum(tensor: Tensor) -> str:
    digest = xxhash.xxh3_128(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
    digest.update(tensor.numpy().data)
    return digest.hexdigest()


def _seal(facts: Mapping[str, str]) -> str:
    """Return the checksum of what a file's metadata say."""
    return xxhash.xxh3_128_hexdigest(f"{facts['samples']} {facts['checksums']}".encode())


def _all_sound(tensors: Mapping[str, Tensor], checksums: Mapping[str, str]) -> bool:
    return tensors.keys() == checksums.keys() and all(
        _checksum(tensor) == checksums[key] for key, tensor in tensors.items()
    )
