"""PiT: its architectures, network and search space (Heo et al., ICCV 2021, arXiv 2103.16302)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise, product
from math import isqrt
from random import Random
from typing import Any

import torch
from torch import Tensor, nn

from autoprox.bench_cache.spaces.base import ArchitectureError, InputSpec, Space, ratio_text
from autoprox.bench_cache.spaces.blocks import (
    Attention,
    Mlp,
    PreNormBlock,
    block_activations,
    block_flops,
    block_params,
    initialised,
)
from autoprox.primitives.find_blocks.as_built import names_tell_blocks

Triple = tuple[int, int, int]
GENES = ("base_dim", "mlp_ratio", "depth", "num_heads")
EPS = 1e-6


@dataclass(frozen=True)
class PitArch:
    """One PiT: stage s of three has `depth[s]` blocks of width `base_dim * num_heads[s]`; one MLP ratio for all."""

    base_dim: int
    mlp_ratio: float
    depth: Triple
    num_heads: Triple


@dataclass(frozen=True)
class PitSpace(Space[PitArch]):
    """The 1,600 PiTs that ViT-Bench-101 samples from: every combination of the four genes' choices."""

    name: str
    base_dims: tuple[int, ...] = (16, 24, 32, 40)
    ratios: tuple[float, ...] = (2.0, 4.0, 6.0, 8.0)
    # fmt: off
    depths: tuple[Triple, ...] = (
        (1, 6, 6), (1, 8, 4), (2, 4, 6), (2, 6, 4), (2, 6, 6), (2, 8, 2), (2, 8, 4), (3, 4, 6), (3, 6, 4), (3, 8, 2),
    )
    heads: tuple[Triple, ...] = (
        (2, 2, 2), (2, 2, 4), (2, 2, 8), (2, 4, 4), (2, 4, 8), (2, 8, 8), (4, 4, 4), (4, 4, 8), (4, 8, 8), (8, 8, 8),
    )
    # fmt: on

    def choices(self) -> dict[str, tuple[Any, ...]]:
        """Return the allowed values of each gene of `PitArch`."""
        return {
            "base_dim": self.base_dims,
            "mlp_ratio": self.ratios,
            "depth": self.depths,
            "num_heads": self.heads,
        }

    def architectures(self) -> Iterator[PitArch]:
        """Yield every architecture of the space."""
        return (PitArch(*genes) for genes in product(*self.choices().values()))

    def sample(self, rng: Random) -> PitArch:
        """Draw each of the four genes uniformly."""
        return PitArch(**{gene: rng.choice(values) for gene, values in self.choices().items()})

    def mutate(self, arch: PitArch, rng: Random) -> PitArch:
        """Give one of the four genes, chosen uniformly, another value."""
        gene = rng.choice([gene for gene, values in self.choices().items() if len(values) > 1])
        others = [value for value in self.choices()[gene] if value != getattr(arch, gene)]
        return replace(arch, **{gene: rng.choice(others)})

    def crossover(self, a: PitArch, b: PitArch, rng: Random) -> PitArch:
        """Take each of the four genes from either parent."""
        return PitArch(**{gene: getattr(rng.choice((a, b)), gene) for gene in GENES})

    def validate(self, arch: PitArch) -> None:
        """Refuse a gene that is no choice of the space."""
        self._require_type(arch, PitArch)
        for gene, values in self.choices().items():
            self._require_choice(gene, getattr(arch, gene), values)

    def depth(self, arch: PitArch) -> int:
        """Return the number of blocks in all three stages."""
        return sum(arch.depth)

    def width(self, arch: PitArch) -> float:
        """Return the stage widths averaged over the blocks."""
        total = sum(blocks * heads for blocks, heads in zip(arch.depth, arch.num_heads, strict=True))
        return arch.base_dim * total / sum(arch.depth)

    def to_json(self, arch: PitArch) -> dict[str, Any]:
        """Return the four genes, `depth` and `num_heads` as arrays with one value per stage."""
        return {
            "base_dim": arch.base_dim,
            "mlp_ratio": float(arch.mlp_ratio),
            "depth": list(arch.depth),
            "num_heads": list(arch.num_heads),
        }

    def from_json(self, record: Mapping[str, Any]) -> PitArch:
        """Return the architecture that `to_json` wrote, checked."""
        arch = PitArch(*self._read_fields(record, GENES))
        self.validate(arch)
        return replace(arch, mlp_ratio=float(arch.mlp_ratio))

    def key(self, arch: PitArch) -> str:
        """Return `name:base_dim|mlp_ratio|depths|heads`."""
        depths, heads = (",".join(map(str, triple)) for triple in (arch.depth, arch.num_heads))
        return f"{self.name}:{arch.base_dim}|{ratio_text(arch.mlp_ratio)}|{depths}|{heads}"

    def params(self, arch: PitArch, spec: InputSpec) -> int:
        """Return the number of parameters, in closed form; equals that of the built network."""
        widths, grids = self._widths(arch), self._grids(spec)
        total = widths[0] * (spec.in_channels * spec.patch_size**2 + 1 + grids[0] ** 2 + 1)
        for width, blocks in zip(widths, arch.depth, strict=True):
            total += blocks * block_params(width, width, int(width * arch.mlp_ratio))
        for width, wider in pairwise(widths):
            total += wider * (3 * 3 + 1) + (width + 1) * wider
        return total + 2 * widths[-1] + (widths[-1] + 1) * spec.num_classes

    def flops(self, arch: PitArch, spec: InputSpec) -> int:
        """Return the multiply-adds of one forward pass on one image, each counted once, in closed form.

        Counted are the convolutions, the linears and the matrix products of attention: half of what
        `torch.utils.flop_counter` counts, exactly. What works element by element is not counted.
        """
        widths, grids = self._widths(arch), self._grids(spec)
        total = grids[0] ** 2 * spec.in_channels * spec.patch_size**2 * widths[0]
        for width, grid, blocks in zip(widths, grids, arch.depth, strict=True):
            total += blocks * block_flops(grid**2 + 1, width, width, int(width * arch.mlp_ratio))
        for (width, wider), grid in zip(pairwise(widths), grids[1:], strict=True):
            total += grid**2 * 3 * 3 * wider + width * wider
        return total + widths[-1] * spec.num_classes

    def activations(self, arch: PitArch, spec: InputSpec) -> int:
        """Return the output elements of all convolutions and linears on one image, in closed form."""
        widths, grids = self._widths(arch), self._grids(spec)
        total = grids[0] ** 2 * widths[0]
        for width, grid, blocks in zip(widths, grids, arch.depth, strict=True):
            total += blocks * block_activations(grid**2 + 1, width, width, int(width * arch.mlp_ratio))
        for wider, grid in zip(widths[1:], grids[1:], strict=True):
            total += grid**2 * wider + wider
        return total + spec.num_classes

    def min_params(self, spec: InputSpec) -> int:
        """Return the smallest `params` of the space, by looking at all of it."""
        return min(self.params(arch, spec) for arch in self.architectures())

    def min_flops(self, spec: InputSpec) -> int:
        """Return the smallest `flops` of the space, by looking at all of it."""
        return min(self.flops(arch, spec) for arch in self.architectures())

    def min_activations(self, spec: InputSpec) -> int:
        """Return the smallest `activations` of the space, by looking at all of it."""
        return min(self.activations(arch, spec) for arch in self.architectures())

    def build(self, arch: PitArch, spec: InputSpec, seed: int = 0) -> nn.Module:
        """Return the untrained network; its weights follow from `seed` and `key(arch)` alone."""
        self.validate(arch)
        widths, grids = self._widths(arch), self._grids(spec)
        generator = self.weight_generator(arch, seed)
        return names_tell_blocks(initialised(lambda: Pit(arch, widths, grids[0], spec), generator, linear="torch"))

    def _widths(self, arch: PitArch) -> Triple:
        first, second, third = (arch.base_dim * heads for heads in arch.num_heads)
        return first, second, third

    def _grids(self, spec: InputSpec) -> Triple:
        """Return the patches along one side of the image, in each stage."""
        if spec.patch_size < 2:
            raise ArchitectureError(f"{self.name}: patch_size {spec.patch_size} is too small; patches overlap by half")
        first = (spec.image_size - spec.patch_size) // (spec.patch_size // 2) + 1
        second = (first + 1) // 2
        return first, second, (second + 1) // 2


class Pooling(nn.Module):
    """Between two stages: a depth-wise convolution halves the grid and widens it, a linear widens the class token."""

    def __init__(self, width: int, wider: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, wider, kernel_size=3, stride=2, padding=1, groups=width)
        self.fc = nn.Linear(width, wider)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (batch, 1 + g², width) to (batch, 1 + ⌈g/2⌉², wider)."""
        grid = isqrt(x.shape[1] - 1)
        patches = self.conv(x[:, 1:].transpose(1, 2).unflatten(2, (grid, grid)))
        return torch.cat([self.fc(x[:, :1]), patches.flatten(2).transpose(1, 2)], dim=1)


class Pit(nn.Module):
    """A ViT of three stages on overlapping patches, each stage on a coarser grid, read by its class token."""

    def __init__(self, arch: PitArch, widths: Triple, grid: int, spec: InputSpec) -> None:
        super().__init__()
        patch = spec.patch_size
        self.patch_embed = nn.Conv2d(spec.in_channels, widths[0], kernel_size=patch, stride=patch // 2)
        self.cls_token = nn.Parameter(torch.empty(1, 1, widths[0]))
        self.pos_embed = nn.Parameter(torch.empty(1, widths[0], grid, grid))
        self.stages = nn.ModuleList(
            nn.Sequential(*(_block(arch, width, heads) for _ in range(blocks)))
            for width, heads, blocks in zip(widths, arch.num_heads, arch.depth, strict=True)
        )
        self.pools = nn.ModuleList(Pooling(width, wider) for width, wider in pairwise(widths))
        self.norm = nn.LayerNorm(widths[-1], eps=EPS)
        self.head = nn.Linear(widths[-1], spec.num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (batch, channels, size, size) to logits (batch, classes)."""
        patches = (self.patch_embed(images) + self.pos_embed).flatten(2).transpose(1, 2)
        x = self.stages[0](torch.cat([self.cls_token.expand(len(images), -1, -1), patches], dim=1))
        for pool, stage in zip(self.pools, self.stages[1:], strict=True):
            x = stage(pool(x))
        return self.head(self.norm(x[:, 0]))


def _block(arch: PitArch, width: int, heads: int) -> PreNormBlock:
    return PreNormBlock(Attention(width, heads, arch.base_dim), Mlp(width, int(width * arch.mlp_ratio)), EPS)


SPACES: tuple[Space[Any], ...] = (PitSpace(name="pit-vb101"),)
