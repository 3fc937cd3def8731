"""Subject: one network as it is probed, with all that its statistics depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import orjson
import torch

from autoprox.bench_cache.benchmarks.task_input import TaskInput
from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.bench_cache.runtime.devices import CPU, chosen_device, kind_of
from autoprox.bench_cache.spaces.registry import InputSpec, get_space
from autoprox.primitives import Block, Reading, read_statistics
from autoprox.primitives.kinds import CONV_ROLE, role_slots
from autoprox.primitives.probe import OF_BLOCK


@dataclass(frozen=True)
class Subject:
    """A network as it is probed: all that its statistics depend on.

    The batch is `batch` samples of the input's shape; `seed` gives the initial weights, the Gaussian input of the
    probe `noise` and the random targets. The probe `data` reads the first `batch` images of `input`.
    The network runs on `device`, whose kind has a part in the last bits.
    """

    space: str
    arch: Any
    spec: InputSpec
    batch: int = 2
    seed: int = 0
    input: TaskInput | None = None
    device: str = CPU

    @cached_property
    def key(self) -> str:
        """The SHA-256 that names the cache entry, in the folder of the space's version."""
        facts = {
            "arch": get_space(self.space).key(self.arch),
            "spec": asdict(self.spec),
            "batch": self.batch,
            "seed": self.seed,
        }
        if self.input is not None:
            images = hashlib.sha256(self.input.images[: self.batch].tobytes())
            images.update(self.input.targets[: self.batch].tobytes())
            facts["images"] = images.hexdigest()
        if self.device != CPU:
            facts["device"] = kind_of(self.device)
        return hashlib.sha256(orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)).hexdigest()

    def probe(self, wanted: Iterable[tuple[str, str]]) -> Reading:
        """Build the network and read the wanted (statistic, probe) pairs from it; keep nothing.

        Weights and inputs are drawn on the CPU, so that they are the same on every device, and what was read comes back
        to it: a device holds one network at a time.

        FLOPs and activations come from the space, which has closed forms or remembers them: counting gives the same
        numbers, and takes longer.

        Raises:
            ArchitectureError: the network cannot be built, or its blocks are not found.
            BenchmarkError: the probe `data` is wanted, and there are no images, or fewer than the batch;
                or a block lacks one of the layers that formulas read.
            DeviceError: there is no such device here.
        """
        wanted, device = set(wanted), chosen_device(self.device)
        if any(name == "data" for _, name in wanted):
            self._check_images()
        space = get_space(self.space)
        model = space.build(self.arch, self.spec, self.seed)
        blocks = space.find_blocks(self.arch, self.spec, model)
        _check_complete(f"{space.name}: {self.arch}", blocks, {name for name, _ in wanted})
        size = (self.batch, self.spec.in_channels, self.spec.image_size, self.spec.image_size)
        images, targets = torch.zeros(size), None
        if self.input is not None and len(self.input.images) >= self.batch:
            images = torch.tensor(self.input.images[: self.batch])
            targets = torch.tensor(self.input.targets[: self.batch])
        closed = {"flops": space.flops, "activations": space.activations}
        probed = {("tokens" if name in closed else name, p) for name, p in wanted}
        on_device = images.to(device), None if targets is None else targets.to(device)
        reading = read_statistics(model.to(device), blocks, probed, *on_device, seed=self.seed)
        reading.matrices = {key: [matrix.cpu() for matrix in found] for key, found in reading.matrices.items()}
        for name in closed.keys() & {name for name, _ in wanted}:
            reading.net[name] = float(closed[name](self.arch, self.spec))
        return reading

    def _check_images(self) -> None:
        if self.input is None:
            raise BenchmarkError(
                "this benchmark has no images for the probe 'data'; "
                "use the probe 'noise', for example weight_grad[noise] instead of weight_grad"
            )
        if len(self.input.images) < self.batch:
            raise BenchmarkError(
                f"a batch of {self.batch} images, but the benchmark comes with {len(self.input.images)}; "
                "use a smaller --batch"
            )


def _check_complete(network: str, blocks: Sequence[Block], names: Collection[str]) -> None:
    """Check that every block has the layers and the attention that cached statistics are kept of.

    Raises:
        BenchmarkError: one lacks something.
    """
    for number, block in enumerate(blocks):
        if CONV_ROLE in block.linears:
            continue  # a layer of a convolutional network
        lacking = [slot for slot in role_slots("all") if slot not in block.linears]
        lacking += ["softmax"] if OF_BLOCK.keys() & names and not block.softmaxes else []
        lacking += ["heads"] if OF_BLOCK.keys() & names and not block.heads else []
        if lacking:
            raise BenchmarkError(
                f"{network}: block {number} shows no {', '.join(lacking)}; the statistics of a benchmark need "
                f"{', '.join(role_slots('all'))}, heads and a softmax of every block: give the space a function "
                "layers(arch, model) that names them, or use `autoprox rank`, which scores what is there"
            )
