"""nas-bench-201: convolutional networks that stack one cell of six operations (Dong and Yang, ICLR 2020, 2001.00326).

A cell has four nodes. Node 0 is its input, node 3 its output, and each node is the sum of one operation on every node
before it. A stem of 16 channels is followed by three stages of five cells, of 16, 32 and 64 channels, with a residual
block of stride 2 between two stages; then come batch norm, ReLU, the mean over the image, and a classifier.

These networks have no transformer blocks: each convolution, and the classifier, counts as a block, in the order in
which they run. They have no embedding, and so no width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from random import Random
from typing import Any

from torch import Tensor, nn

from autoprox.bench_cache.spaces.base import ArchitectureError, InputSpec, Space, shown
from autoprox.bench_cache.spaces.blocks import initialised
from autoprox.primitives.find_blocks.named import Block, find_blocks

#: The operations of an edge, by the numbers that NAS-Bench-Suite-Zero gives them.
OPERATIONS = ("skip", "none", "conv3x3", "conv1x1", "pool3x3")
#: The edges of a cell, from and to, in the order of an architecture's operations.
EDGES = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
#: The edges' numbers in the order in which they run.
_RUN = sorted(range(len(EDGES)), key=lambda edge: EDGES[edge][::-1])
#: Channels of the stages, and cells in each.
WIDTHS, CELLS = (16, 32, 64), 5
#: The side of the kernel of the operations that are convolutions.
KERNELS = {"conv3x3": 3, "conv1x1": 1}

# --- networks ---


class ReluConvBn(nn.Sequential):
    """ReLU, a convolution without bias, batch norm."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1) -> None:
        conv = nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, bias=False)
        super().__init__(nn.ReLU(), conv, nn.BatchNorm2d(out))


class Zero(nn.Module):
    """The operation `none`: whatever it is given, it makes zeros."""

    def forward(self, x: Tensor) -> Tensor:
        """Map a tensor to zeros of its shape."""
        return x * 0


def operation(name: str, channels: int) -> nn.Module:
    """Return the module of an operation, which keeps shape and channels."""
    if name in KERNELS:
        return ReluConvBn(channels, channels, KERNELS[name])
    if name == "pool3x3":
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    return nn.Identity() if name == "skip" else Zero()


class Cell(nn.Module):
    """Four nodes: node j is the sum over the nodes i < j of the operation of edge (i, j) on node i."""

    def __init__(self, operations: tuple[str, ...], channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleList(operation(name, channels) for name in operations)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, side, side) to the same shape."""
        nodes = [x]
        for node in (1, 2, 3):
            made = [edge(nodes[i]) for edge, (i, j) in zip(self.edges, EDGES, strict=True) if j == node]
            nodes.append(sum(made[1:], made[0]))
        return nodes[3]


class Reduction(nn.Module):
    """The residual block between two stages: it halves the image and doubles the channels."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv_a = ReluConvBn(channels, out, 3, stride=2)
        self.conv_b = ReluConvBn(out, out, 3)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(channels, out, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, side, side) to (batch, out, side / 2, side / 2)."""
        return self.shortcut(x) + self.conv_b(self.conv_a(x))


class NasBench201(nn.Module):
    """Stem, stages of cells with residual blocks between them, batch norm, ReLU, mean over the image, classifier."""

    def __init__(self, operations: tuple[str, ...], in_channels: int, num_classes: int) -> None:
        super().__init__()
        first, *_, last = WIDTHS
        self.stem = nn.Sequential(nn.Conv2d(in_channels, first, 3, padding=1, bias=False), nn.BatchNorm2d(first))
        stages: list[nn.Module] = []
        for before, width in zip((0, *WIDTHS), WIDTHS, strict=False):
            stages += [Reduction(before, width)] if before else []
            stages += [Cell(operations, width) for _ in range(CELLS)]
        self.stages = nn.Sequential(*stages)
        self.norm = nn.Sequential(nn.BatchNorm2d(last), nn.ReLU())
        self.head = nn.Linear(last, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (batch, channels, side, side) to logits (batch, classes)."""
        return self.head(self.norm(self.stages(self.stem(images))).mean(dim=(2, 3)))


# --- architectures and space ---


@dataclass(frozen=True)
class NasBench201Arch:
    """A cell: the name of an operation for each of the six `EDGES`."""

    operations: tuple[str, ...]

    def count(self, *names: str) -> int:
        """Return how many edges have one of these operations."""
        return sum(name in names for name in self.operations)


@dataclass(frozen=True)
class NasBench201Space(Space[NasBench201Arch]):
    """All 15,625 cells. Cells that compute the same function are different ones here; `cell_function` tells."""

    name: str
    convolutional = True

    def choices(self) -> dict[str, tuple[str, ...]]:
        """Return the allowed values of the gene, the same on every edge."""
        return {"operations": OPERATIONS}

    def architectures(self) -> Iterator[NasBench201Arch]:
        """Yield every architecture of the space."""
        return (NasBench201Arch(names) for names in product(OPERATIONS, repeat=len(EDGES)))

    def sample(self, rng: Random) -> NasBench201Arch:
        """Draw the operation of each edge uniformly."""
        return NasBench201Arch(tuple(rng.choice(OPERATIONS) for _ in EDGES))

    def mutate(self, arch: NasBench201Arch, rng: Random) -> NasBench201Arch:
        """Give one edge, chosen uniformly, another operation."""
        edge, names = rng.randrange(len(EDGES)), arch.operations
        other = rng.choice([name for name in OPERATIONS if name != names[edge]])
        return replace(arch, operations=(*names[:edge], other, *names[edge + 1 :]))

    def crossover(self, a: NasBench201Arch, b: NasBench201Arch, rng: Random) -> NasBench201Arch:
        """Take the operation of each edge from either parent."""
        return NasBench201Arch(tuple(rng.choice(pair) for pair in zip(a.operations, b.operations, strict=True)))

    def validate(self, arch: NasBench201Arch) -> None:
        """Refuse what is not one operation for each edge."""
        self._require_type(arch, NasBench201Arch)
        if not isinstance(arch.operations, tuple) or len(arch.operations) != len(EDGES):
            raise ArchitectureError(
                f"{self.name}: operations {shown(arch.operations)} is not a sequence of {len(EDGES)}, one per edge"
            )
        for edge, name in enumerate(arch.operations):
            self._require_choice(f"operations[{edge}]", name, OPERATIONS)

    def build(self, arch: NasBench201Arch, spec: InputSpec, seed: int = 0) -> nn.Module:
        """Return the untrained network; its weights follow from `seed` and `key(arch)` alone, drawn as in PyTorch."""
        self.validate(arch)
        self._sides(spec)
        generator = self.weight_generator(arch, seed)
        construct = (arch.operations, spec.in_channels, spec.num_classes)
        return initialised(lambda: NasBench201(*construct), generator, linear="torch")

    def layers(self, arch: NasBench201Arch, model: nn.Module) -> list[dict[str, str]]:
        """Return every convolution and the classifier as a block, in the order in which they run."""
        names = ["stem.0"]
        for number, stage in enumerate(model.get_submodule("stages").children()):
            inside = [f"edges.{n}.1" for n in _RUN if arch.operations[n] in KERNELS]
            if isinstance(stage, Reduction):
                inside = ["shortcut.1", "conv_a.1", "conv_b.1"]
            names += [f"stages.{number}.{name}" for name in inside]
        return [{"conv": name} for name in (*names, "head")]

    def find_blocks(self, arch: NasBench201Arch, spec: InputSpec, model: nn.Module) -> Sequence[Block]:
        """Return the blocks that `layers` names."""
        return find_blocks(model, self.layers(arch, model))

    def params(self, arch: NasBench201Arch, spec: InputSpec) -> int:
        """Return the number of parameters, in closed form; for CIFAR-10 they are those published.

        They are 73,306 + 5 Σ_C [k₃ (9 C² + 2 C) + k₁ (C² + 2 C)] for three channels and ten classes, with k₃ and k₁
        the edges of either convolution.
        """
        self._sides(spec)
        total = (9 * spec.in_channels + 2) * WIDTHS[0] + 2 * WIDTHS[-1] + (WIDTHS[-1] + 1) * spec.num_classes
        for width, out in pairwise(WIDTHS):
            total += (9 * width + 9 * out + width + 4) * out
        return total + CELLS * sum(k * (side**2 * c + 2) * c for side, k in _kernels(arch) for c in WIDTHS)

    def flops(self, arch: NasBench201Arch, spec: InputSpec) -> int:
        """Return the multiply-adds of one forward pass on one image, each counted once, in closed form.

        Counted are convolutions and the classifier. The published figures count more: see `published_flops`.
        """
        sides = self._sides(spec)
        total = 9 * spec.in_channels * WIDTHS[0] * sides[0] ** 2 + WIDTHS[-1] * spec.num_classes
        for (width, out), side in zip(pairwise(WIDTHS), sides[1:], strict=True):
            total += (9 * width + 9 * out + width) * out * side**2
        taps = sum(k * size**2 for size, k in _kernels(arch))
        return total + CELLS * taps * sum((c * s) ** 2 for c, s in zip(WIDTHS, sides, strict=True))

    def activations(self, arch: NasBench201Arch, spec: InputSpec) -> int:
        """Return the output elements of all convolutions and the classifier on one image, in closed form."""
        maps = [c * side**2 for c, side in zip(WIDTHS, self._sides(spec), strict=True)]
        return maps[0] + 3 * sum(maps[1:]) + CELLS * arch.count(*KERNELS) * sum(maps) + spec.num_classes

    def depth(self, arch: NasBench201Arch) -> int:
        """Return the number of convolutions, and one for the classifier."""
        return 2 + 3 * (len(WIDTHS) - 1) + CELLS * len(WIDTHS) * arch.count(*KERNELS)

    def width(self, arch: NasBench201Arch) -> float:
        """Return NaN: these networks have no embedding."""
        return math.nan

    def to_json(self, arch: NasBench201Arch) -> dict[str, Any]:
        """Return the operations as an array."""
        return {"operations": list(arch.operations)}

    def from_json(self, record: Mapping[str, Any]) -> NasBench201Arch:
        """Return the architecture that `to_json` wrote, checked."""
        arch = NasBench201Arch(*self._read_fields(record, ("operations",)))
        self.validate(arch)
        return arch

    def key(self, arch: NasBench201Arch) -> str:
        """Return `name:` and the operations, with commas."""
        return f"{self.name}:{','.join(arch.operations)}"

    def min_params(self, spec: InputSpec) -> int:
        """Return the `params` of a cell without convolutions."""
        return self.params(_EMPTY, spec)

    def min_flops(self, spec: InputSpec) -> int:
        """Return the `flops` of a cell without convolutions."""
        return self.flops(_EMPTY, spec)

    def min_activations(self, spec: InputSpec) -> int:
        """Return the `activations` of a cell without convolutions."""
        return self.activations(_EMPTY, spec)

    def _sides(self, spec: InputSpec) -> tuple[int, ...]:
        """Return the side of the image in each stage."""
        halvings = 2 ** (len(WIDTHS) - 1)
        if spec.image_size % halvings:
            raise ArchitectureError(f"{self.name}: image_size {spec.image_size} is not a multiple of {halvings}")
        return tuple(spec.image_size // 2**stage for stage in range(len(WIDTHS)))


_EMPTY = NasBench201Arch(("none",) * len(EDGES))


def _kernels(arch: NasBench201Arch) -> list[tuple[int, int]]:
    """Return the side of each kernel, and how many edges have it."""
    return [(side, arch.count(name)) for name, side in KERNELS.items()]


def published_flops(space: NasBench201Space, arch: NasBench201Arch, num_classes: int = 10) -> int:
    """Return FLOPs on images of 32 × 32 as the benchmark publishes them, where some element-wise work counts too.

    Beside `flops` they have 160,832 for every network, 430,080 for each edge with a convolution (its ReLU and batch
    norm), and 1,290,240 for each with pooling.
    """
    extra = 160_832 + 430_080 * arch.count(*KERNELS) + 1_290_240 * arch.count("pool3x3")
    return space.flops(arch, InputSpec(image_size=32, num_classes=num_classes)) + extra


def cell_function(arch: NasBench201Arch) -> str:
    """Return a text that is equal for cells that compute the same function, whatever their weights start as.

    Skips are resolved, zeros vanish from sums, what is applied to zeros is zeros, and summands have no order. The space
    has 4,930 such functions. The paper counts 6,466, because its texts keep zeros, and the order inside nested sums.
    """
    nodes: list[list[str]] = [["x"]]
    for node in (1, 2, 3):
        edges = zip(arch.operations, EDGES, strict=True)
        nodes.append(sorted(text for name, (i, j) in edges if j == node for text in _summands(name, nodes[i])))
    return "+".join(nodes[3]) or "0"


def _summands(name: str, node: list[str]) -> list[str]:
    """Return what an operation adds to a sum, when its input is the sum of the texts of a node; zeros have none."""
    if name == "none" or not node:
        return []
    return node if name == "skip" else [f"{name}({'+'.join(node)})"]


SPACES: tuple[Space[Any], ...] = (NasBench201Space("nas-bench-201"),)
