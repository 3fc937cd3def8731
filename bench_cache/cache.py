"""Cached statistics: a network is built and probed once, then formulas run on what was kept.

An entry is a directory named by the SHA-256 of everything the statistics depend on: space, architecture, input, batch
size, seed, the source of the networks and probes, and torch's version. It holds one safetensors file for each
(statistic, probe), with a checksum of every tensor in its metadata, and `structure.json` for the numbers per layer
and per network. Files appear whole or not at all; what fails its checksum is read from the network again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import torch
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from autoprox.bench_cache import autoformer, models, pit, space
from autoprox.bench_cache.files import BenchmarkError, write_atomically
from autoprox.bench_cache.spaces import InputSpec, get_space
from autoprox.primitives import Reading, find_blocks, layers, probe, read_statistics
from autoprox.primitives.kinds import role_slots
from autoprox.primitives.statistics import STATISTICS

#: Statistics that need a forward pass to know a shape; they are kept beside those that need none.
SHAPES = frozenset({"tokens", "flops"})


@dataclass(frozen=True)
class Subject:
    """A network as it is probed: all that its statistics depend on.

    The batch is `batch` samples of the input's shape; `seed` gives the initial weights, the Gaussian input of the
    probe `noise` and the random targets.
    """

    space: str
    arch: Any
    spec: InputSpec
    batch: int = 2
    seed: int = 0

    @property
    def key(self) -> str:
        """The SHA-256 that names the cache entry."""
        facts = {
            "arch": get_space(self.space).key(self.arch),
            "spec": asdict(self.spec),
            "batch": self.batch,
            "seed": self.seed,
            "code": code_version(),
        }
        return hashlib.sha256(orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)).hexdigest()

    def probe(self, wanted: Iterable[tuple[str, str]]) -> Reading:
        """Build the network and read the wanted (statistic, probe) pairs from it, keeping nothing.

        Raises BenchmarkError for the probe `data`: a table of accuracies comes without images.
        """
        wanted = set(wanted)
        if any(name == "data" for _, name in wanted):
            raise BenchmarkError(
                "this benchmark has no images for the probe 'data'; "
                "use the probe 'noise', for example weight_grad[noise] instead of weight_grad"
            )
        model = get_space(self.space).build(self.arch, self.spec, self.seed)
        size = (self.batch, self.spec.in_channels, self.spec.image_size, self.spec.image_size)
        return read_statistics(model, find_blocks(model), wanted, torch.zeros(size), seed=self.seed)


@cache
def code_version() -> str:
    """A digest of the source that decides what a statistic is, and of torch's version."""
    digest = hashlib.sha256(torch.__version__.encode())
    for module in (space, models, autoformer, pit, layers, probe):
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()[:16]


class StatisticsCache:
    """Statistics on disk, under one directory. `read` is all that is needed; it builds what is missing."""

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
        """The wanted matrices, as (statistic, probe, slot), and whatever `numbers` (tokens, flops) need a run.

        The other numbers per layer and network are always there. What is not in the cache, or damaged, is read from
        the network, and kept if `keep`.
        """
        matrices = list(dict.fromkeys(matrices))
        entry = self.root / subject.key[:2] / subject.key
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
        fresh = subject.probe(missing | {(name, "") for name in shapes})
        if keep:
            self._keep(entry, fresh, missing)
        found.matrices.update({key: value for key, value in fresh.matrices.items() if key[:2] in missing})
        found.samples.update(fresh.samples)
        found.layers.update(fresh.layers)
        found.net.update(fresh.net)
        return found

    def _keep(self, entry: Path, fresh: Reading, pairs: set[tuple[str, str]]) -> None:
        entry.mkdir(parents=True, exist_ok=True)
        for name, probe_name in pairs:
            tensors = {
                f"{slot}/{block}": tensor.contiguous()
                for (n, p, slot), blocks in fresh.matrices.items()
                if (n, p) == (name, probe_name)
                for block, tensor in enumerate(blocks)
            }
            checksums = {key: _checksum(tensor) for key, tensor in tensors.items()}
            facts = {"samples": str(fresh.samples[name, probe_name]), "checksums": json.dumps(checksums)}
            write_atomically(_matrix_file(entry, name, probe_name), save(tensors, facts))
        payload = orjson.dumps(
            {"net": fresh.net, "layers": {"/".join(key): numbers for key, numbers in fresh.layers.items()}}
        )
        complete = "flops" in fresh.net
        if complete or not (entry / "structure.json").exists():
            write_atomically(
                entry / "structure.json",
                orjson.dumps({"checksum": xxhash.xxh3_128_hexdigest(payload), "payload": payload.decode()}),
            )

    def _read_structure(self, entry: Path, shapes: Iterable[str]) -> Reading | None:
        """The numbers per layer and network; None if absent, damaged or without the wanted shapes."""
        try:
            stored = orjson.loads((entry / "structure.json").read_bytes())
            payload = stored["payload"].encode()
            if xxhash.xxh3_128_hexdigest(payload) != stored["checksum"]:
                return None
            data = orjson.loads(payload)
        except (FileNotFoundError, orjson.JSONDecodeError, KeyError, AttributeError, TypeError):
            return None
        if shapes and "flops" not in data["net"]:
            return None
        numbers = {tuple(key.split("/")): values for key, values in data["layers"].items()}
        return Reading(layers=numbers, net=data["net"])  # type: ignore[arg-type]

    def _read_matrices(self, reading: Reading, entry: Path, name: str, probe_name: str, slots: Sequence[str]) -> bool:
        """Put the slots' matrices into the reading; whether they were there and sound."""
        path = _matrix_file(entry, name, probe_name)
        try:
            stat = path.stat()
            identity = (str(path), stat.st_mtime_ns, stat.st_size)
            with safe_open(path, framework="pt") as file:
                facts = file.metadata()
                keys = file.keys() if identity not in self._trusted else ()
                checksums = json.loads(facts["checksums"])
                if keys and (set(keys) != set(checksums) or not _all_sound(file, checksums)):
                    return False
                self._trusted.add(identity)
                depth = sum(key.startswith(f"{slots[0]}/") for key in checksums)
                for slot in slots:
                    reading.matrices[name, probe_name, slot] = [
                        file.get_tensor(f"{slot}/{block}") for block in range(depth)
                    ]
                reading.samples[name, probe_name] = int(facts["samples"])
        except (FileNotFoundError, SafetensorError, KeyError, TypeError, ValueError):
            return False
        return True

    def has(self, subject: Subject, pairs: Iterable[tuple[str, str]]) -> bool:
        """Whether files for all the (statistic, probe) pairs are there; their soundness is checked when read."""
        entry = self.root / subject.key[:2] / subject.key
        return all(_matrix_file(entry, name, probe_name).exists() for name, probe_name in pairs)


def slots_of(name: str) -> tuple[str, ...]:
    """The slots that a matrix statistic has."""
    return role_slots("attn" if name == "attn" else "all")


def is_matrix(name: str) -> bool:
    """Whether a statistic is one matrix for each layer."""
    return STATISTICS[name].level == "matrix"


def _matrix_file(entry: Path, name: str, probe_name: str) -> Path:
    return entry / f"{name}-{probe_name or 'any'}.safetensors"


def _checksum(tensor: Tensor) -> str:
    return xxhash.xxh3_128_hexdigest(tensor.numpy())


def _all_sound(file: Any, checksums: Mapping[str, str]) -> bool:
    return all(_checksum(file.get_tensor(key)) == checksum for key, checksum in checksums.items())
