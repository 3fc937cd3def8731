"""AutoFormer: its architectures, network and search spaces (Chen et al., ICCV 2021, arXiv 2107.00651)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from random import Random
from typing import Any

import torch
from torch import Tensor, nn

from autoprox.bench_cache.spaces.base import ArchitectureError, InputSpec, Space, ratio_text, shown
from autoprox.bench_cache.spaces.blocks import (
    REACH,
    Attention,
    LinearInit,
    Mlp,
    PreNormBlock,
    block_activations,
    block_flops,
    block_params,
    initialised,
    relative_flops,
    relative_params,
)
from autoprox.primitives.find_blocks.as_built import names_tell_blocks


@dataclass(frozen=True)
class AutoFormerArch:
    """One AutoFormer: a width for all, heads and MLP ratio for each layer; its depth is their number."""

    embed_dim: int
    num_heads: tuple[int, ...]
    mlp_ratio: tuple[float, ...]

    @property
    def depth(self) -> int:
        """Number of transformer blocks."""
        return len(self.num_heads)


@dataclass(frozen=True)
class AutoFormerSpace(Space[AutoFormerArch]):
    """The AutoFormers with the given choices; heads and MLP ratio are chosen for each layer.

    `head_dim` is the channels of one head whatever the width, as in Microsoft's AutoFormer (64), or None for
    width / heads channels, as in ViT-Bench-101's, where heads do not change the size. `linear` is how linears start:
    see `blocks.initialised`.

    Raises:
        ArchitectureError: `head_dim` is None and a number of heads does not divide a width.
    """

    name: str
    embed_dims: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    ratios: tuple[float, ...]
    head_dim: int | None
    relative_positions: bool
    norm_eps: float
    linear: LinearInit = "normal"

    def __post_init__(self) -> None:
        for width, heads in product(self.embed_dims, self.heads):
            if self.head_dim is None and width % heads:
                raise ArchitectureError(f"{self.name}: embed_dim {width} is not a multiple of num_heads {heads}")

    def choices(self) -> dict[str, tuple[Any, ...]]:
        """Return the allowed values of the width, the depth, and each layer's heads and MLP ratio."""
        return {
            "embed_dim": self.embed_dims,
            "depth": self.depths,
            "num_heads": self.heads,
            "mlp_ratio": self.ratios,
        }

    def sample(self, rng: Random) -> AutoFormerArch:
        """Draw depth and width, then heads and ratio of each layer, all uniformly."""
        depth = rng.choice(self.depths)
        return AutoFormerArch(
            embed_dim=rng.choice(self.embed_dims),
            num_heads=tuple(rng.choice(self.heads) for _ in range(depth)),
            mlp_ratio=tuple(rng.choice(self.ratios) for _ in range(depth)),
        )

    def mutate(self, arch: AutoFormerArch, rng: Random) -> AutoFormerArch:
        """Change the width, the depth, or one layer's heads or ratio, each kind with equal chances.

        A new depth removes the last layers, or adds layers of random heads and ratio at the end.
        """
        gene = rng.choice([gene for gene, values in self.choices().items() if len(values) > 1])
        if gene == "embed_dim":
            return replace(arch, embed_dim=_other(arch.embed_dim, self.embed_dims, rng))
        if gene == "depth":
            return self._with_depth(arch, _other(arch.depth, self.depths, rng), rng)
        layer = rng.randrange(arch.depth)
        if gene == "num_heads":
            return replace(arch, num_heads=_changed(arch.num_heads, layer, self.heads, rng))
        return replace(arch, mlp_ratio=_changed(arch.mlp_ratio, layer, self.ratios, rng))

    def _with_depth(self, arch: AutoFormerArch, depth: int, rng: Random) -> AutoFormerArch:
        missing = range(depth - arch.depth)
        return replace(
            arch,
            num_heads=arch.num_heads[:depth] + tuple(rng.choice(self.heads) for _ in missing),
            mlp_ratio=arch.mlp_ratio[:depth] + tuple(rng.choice(self.ratios) for _ in missing),
        )

    def crossover(self, a: AutoFormerArch, b: AutoFormerArch, rng: Random) -> AutoFormerArch:
        """Take width, depth, and heads and ratio of each layer from either parent.

        Layers that only the deeper parent has come from it.
        """
        depth = rng.choice((a.depth, b.depth))
        parents = [[p for p in (a, b) if layer < p.depth] for layer in range(depth)]
        return AutoFormerArch(
            embed_dim=rng.choice((a.embed_dim, b.embed_dim)),
            num_heads=tuple(rng.choice(have).num_heads[layer] for layer, have in enumerate(parents)),
            mlp_ratio=tuple(rng.choice(have).mlp_ratio[layer] for layer, have in enumerate(parents)),
        )

    def validate(self, arch: AutoFormerArch) -> None:
        """Refuse genes that are no choice of the space, and lists that do not have one value per layer."""
        self._require_type(arch, AutoFormerArch)
        self._require_choice("embed_dim", arch.embed_dim, self.embed_dims)
        for gene in ("num_heads", "mlp_ratio"):
            if not isinstance(values := getattr(arch, gene), tuple):
                raise ArchitectureError(f"{self.name}: {gene} {shown(values)} is not a sequence of one value per layer")
        self._require_choice("depth", arch.depth, self.depths)
        if len(arch.mlp_ratio) != arch.depth:
            raise ArchitectureError(
                f"{self.name}: mlp_ratio has {len(arch.mlp_ratio)} values for the {arch.depth} layers of num_heads"
            )
        for layer, (heads, ratio) in enumerate(zip(arch.num_heads, arch.mlp_ratio, strict=True)):
            self._require_choice(f"num_heads[{layer}]", heads, self.heads)
            self._require_choice(f"mlp_ratio[{layer}]", ratio, self.ratios)

    def depth(self, arch: AutoFormerArch) -> int:
        """Return the number of layers."""
        return arch.depth

    def width(self, arch: AutoFormerArch) -> float:
        """Return the embedding dimension, the same in all layers."""
        return float(arch.embed_dim)

    def to_json(self, arch: AutoFormerArch) -> dict[str, Any]:
        """Return `embed_dim`, and `num_heads` and `mlp_ratio` as arrays with one value per layer."""
        return {
            "embed_dim": arch.embed_dim,
            "num_heads": list(arch.num_heads),
            "mlp_ratio": [float(ratio) for ratio in arch.mlp_ratio],
        }

    def from_json(self, record: Mapping[str, Any]) -> AutoFormerArch:
        """Return the architecture that `to_json` wrote, checked."""
        arch = AutoFormerArch(*self._read_fields(record, ("embed_dim", "num_heads", "mlp_ratio")))
        self.validate(arch)
        return replace(arch, mlp_ratio=tuple(float(ratio) for ratio in arch.mlp_ratio))

    def key(self, arch: AutoFormerArch) -> str:
        """Return `name:width|heads of each layer|ratio of each layer`."""
        heads = ",".join(map(str, arch.num_heads))
        return f"{self.name}:{arch.embed_dim}|{heads}|{','.join(map(ratio_text, arch.mlp_ratio))}"

    def params(self, arch: AutoFormerArch, spec: InputSpec) -> int:
        """Return the number of parameters, in closed form; equals that of the built network.

        With `head_dim` 64 and the default input it also equals the published count of an AutoFormer, to the unit.
        """
        width = arch.embed_dim
        total = width * (spec.in_channels * spec.patch_size**2 + 1) + width * (self._grid(spec) ** 2 + 2)
        for heads, head_dim, hidden in self._layers(arch):
            total += block_params(width, heads * head_dim, hidden)
            total += relative_params(head_dim) if self.relative_positions else 0
        return total + 2 * width + (width + 1) * spec.num_classes

    def flops(self, arch: AutoFormerArch, spec: InputSpec) -> int:
        """Return the multiply-adds of one forward pass on one image, each counted once, in closed form.

        Counted are the convolution, the linears and the matrix products of attention and relative positions, as the
        network computes them: half of what `torch.utils.flop_counter` counts, exactly. What works element by element
        (norms, softmax, GELU, sums, and relative positions to the class token) is not counted.

        For Microsoft's AutoFormers this is .9 to 2.6 % less than the published count (see `published_flops`),
        which takes the head for a layer on every token, where it reads one, and its blocks to read two class tokens.
        """
        width, grid = arch.embed_dim, self._grid(spec)
        total = grid**2 * spec.in_channels * spec.patch_size**2 * width + width * spec.num_classes
        for heads, head_dim, hidden in self._layers(arch):
            total += block_flops(grid**2 + 1, width, heads * head_dim, hidden)
            total += relative_flops(grid, heads * head_dim) if self.relative_positions else 0
        return total

    def activations(self, arch: AutoFormerArch, spec: InputSpec) -> int:
        """Return the output elements of the convolution and all linears on one image, in closed form."""
        width, tokens = arch.embed_dim, self._grid(spec) ** 2 + 1
        blocks = sum(block_activations(tokens, width, heads * dim, hidden) for heads, dim, hidden in self._layers(arch))
        return (tokens - 1) * width + blocks + spec.num_classes

    def _layers(self, arch: AutoFormerArch) -> Iterator[tuple[int, int, int]]:
        """Yield the heads of each layer, the channels of one head, and the hidden channels of the MLP."""
        for heads, ratio in zip(arch.num_heads, arch.mlp_ratio, strict=True):
            yield heads, self.head_dim or arch.embed_dim // heads, int(arch.embed_dim * ratio)

    def _grid(self, spec: InputSpec) -> int:
        """Return the patches along one side of the image."""
        if spec.image_size % spec.patch_size:
            raise ArchitectureError(
                f"{self.name}: image_size {spec.image_size} is not a multiple of patch_size {spec.patch_size}"
            )
        return spec.image_size // spec.patch_size

    def min_params(self, spec: InputSpec) -> int:
        """Return the smallest `params` of the space: that of its smallest genes, since every gene adds to it."""
        return self.params(self._smallest(), spec)

    def min_flops(self, spec: InputSpec) -> int:
        """Return the smallest `flops` of the space: that of its smallest genes, since every gene adds to it."""
        return self.flops(self._smallest(), spec)

    def min_activations(self, spec: InputSpec) -> int:
        """Return the smallest `activations` of the space: that of its smallest genes, since every gene adds to it."""
        return self.activations(self._smallest(), spec)

    def _smallest(self) -> AutoFormerArch:
        depth = min(self.depths)
        return AutoFormerArch(min(self.embed_dims), (min(self.heads),) * depth, (min(self.ratios),) * depth)

    def build(self, arch: AutoFormerArch, spec: InputSpec, seed: int = 0) -> nn.Module:
        """Return the untrained network; its weights follow from `seed` and `key(arch)` alone."""
        self.validate(arch)
        grid, eps = self._grid(spec), self.norm_eps
        around = grid if self.relative_positions else None

        def construct() -> nn.Module:
            width = arch.embed_dim
            blocks = [
                PreNormBlock(Attention(width, heads, head_dim, around), Mlp(width, hidden), eps)
                for heads, head_dim, hidden in self._layers(arch)
            ]
            return AutoFormer(blocks, grid, spec, eps)

        return names_tell_blocks(initialised(construct, self.weight_generator(arch, seed), linear=self.linear))


class AutoFormer(nn.Module):
    """A ViT read by the mean of its patch tokens: patches, class token, positions, blocks, LN, mean, linear head."""

    def __init__(self, blocks: list[PreNormBlock], grid: int, spec: InputSpec, eps: float) -> None:
        super().__init__()
        width, patch = blocks[0].attn.proj.out_features, spec.patch_size
        self.patch_embed = nn.Conv2d(spec.in_channels, width, kernel_size=patch, stride=patch)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, grid**2 + 1, width))
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width, eps=eps)
        self.head = nn.Linear(width, spec.num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (batch, channels, size, size) to logits (batch, classes)."""
        patches = self.patch_embed(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(images), -1, -1), patches], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 1:].mean(dim=1))


def published_flops(arch: AutoFormerArch, spec: InputSpec) -> float:
    """Return the FLOPs that Microsoft's code reports for one of its AutoFormers (heads of 64 channels).

    With t = patches + 2 tokens, I = 64·heads and M = int(width·ratio) of a layer, a multiply-add counted once:

        patches·(C·P²)·width + width + (patches + 1)/2·width + (patches + 1)·classes·width
        + Σ_layers  t·(2·width + 4·width·I + 2·width·M) + 2·t²·I + (2·14 + ½)·t² + t·I/2

    It reproduces the 2,002 counts of OoD-ViT-NAS (arXiv 2501.03782) to the unit. It is a count of its own, not the
    work done: t has one token too many, the head reads one token and not all, and the terms in 14·t² and the halves
    stand for relative and absolute positions, whichever way they are computed. Use it to compare with published
    figures, and `AutoFormerSpace.flops` for what the network computes.
    """
    width = arch.embed_dim
    patches = (spec.image_size // spec.patch_size) ** 2
    tokens = patches + 2
    total = float(width * (patches * spec.in_channels * spec.patch_size**2 + 1))
    total += (patches + 1) * width * (spec.num_classes + 0.5)
    for heads, ratio in zip(arch.num_heads, arch.mlp_ratio, strict=True):
        inner = 64 * heads
        total += block_flops(tokens, width, inner, int(width * ratio)) + 2 * tokens * width
        total += (2 * REACH + 0.5) * tokens**2 + tokens * inner / 2
    return total


def _other(value: Any, choices: tuple[Any, ...], rng: Random) -> Any:
    return rng.choice([choice for choice in choices if choice != value])


def _changed(values: tuple[Any, ...], layer: int, choices: tuple[Any, ...], rng: Random) -> tuple[Any, ...]:
    return (*values[:layer], _other(values[layer], choices, rng), *values[layer + 1 :])
