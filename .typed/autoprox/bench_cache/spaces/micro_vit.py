"""micro-vit: vision transformers of one size, which differ in how they work; made for the benchmark of that name.

All have the same depth, width, parameters and multiply-adds, so that none of these can tell a good one from a bad one.
Every block chooses how its tokens are mixed, its activation, where it normalises, its skip connections, the first
value of its LayerScale, and how its four linears start. See `MIXERS`, `ACTIVATIONS`, `NORMS` and `INITS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from random import Random
from types import MappingProxyType
from typing import Any

import torch
from torch import Generator, Tensor, nn

from autoprox.bench_cache.spaces.base import ArchitectureError, InputSpec, Space, ratio_text, shown
from autoprox.bench_cache.spaces.blocks import Mlp, block_activations, initialised
from autoprox.bench_cache.spaces.token_mixers import MIXERS, TokenMixer
from autoprox.primitives.find_blocks.as_built import names_tell_blocks

EPS = 1e-6

#: The function between the two linears of a block's MLP.
ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = MappingProxyType(
    {"gelu": nn.GELU, "relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "identity": nn.Identity}
)

# --- blocks and network ---

#: Where a block normalises: before each of its two branches, after each skip connection, or nowhere.
NORMS = ("pre", "post", "none")


class MicroVitBlock(nn.Module):
    """Two branches f, the mixer and the MLP, each with a skip connection of weight a and a LayerScale s:

    pre: x ← a x + s ⊙ f(LN x);  post: x ← LN(a x + s ⊙ f(x));  none: x ← a x + s ⊙ f(x)

    LN has no weights of its own, so that blocks with and without are of one size; s is learned (Touvron et al.,
    2103.17239), a is not.
    """

    def __init__(self, mixer: TokenMixer, mlp: Mlp, norm: str, skip: float) -> None:
        super().__init__()
        width = mixer.proj.out_features
        before, after = norm == "pre", norm == "post"
        self.skip = skip
        self.before = nn.LayerNorm(width, EPS, elementwise_affine=False) if before else nn.Identity()
        self.attn = mixer
        self.scale1 = nn.Parameter(torch.empty(width))
        self.mlp = mlp
        self.scale2 = nn.Parameter(torch.empty(width))
        self.after = nn.LayerNorm(width, EPS, elementwise_affine=False) if after else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (batch, tokens, width) to the same shape."""
        x = self.after(self.skip * x + self.scale1 * self.attn(self.before(x)))
        return self.after(self.skip * x + self.scale2 * self.mlp(self.before(x)))


class MicroVit(nn.Module):
    """Patches, learned positions, blocks, LN, mean over the patches, linear head; no class token."""

    def __init__(self, blocks: list[MicroVitBlock], grid: int, spec: InputSpec) -> None:
        super().__init__()
        width, patch = blocks[0].attn.proj.out_features, spec.patch_size
        self.patch_embed = nn.Conv2d(spec.in_channels, width, kernel_size=patch, stride=patch)
        self.pos_embed = nn.Parameter(torch.empty(1, grid**2, width))
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.head = nn.Linear(width, spec.num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (batch, channels, size, size) to logits (batch, classes)."""
        x = self.patch_embed(images).flatten(2).transpose(1, 2) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(dim=1))


# --- first weights ---


def _normal(gain: float) -> Callable[[Tensor, Generator], Tensor]:
    """Draw from N(0, gain² / fan-in)."""
    return lambda weight, generator: weight.normal_(0, gain * weight.shape[1] ** -0.5, generator=generator)


#: How the weights of a block's four linears start: with N(0, gain² / fan-in) or orthogonal; their biases are 0.
INITS: Mapping[str, Callable[[Tensor, Generator], Tensor]] = MappingProxyType(
    {
        "small": _normal(0.125),
        "fan_in": _normal(1.0),
        "large": _normal(2.0),
        "orthogonal": lambda weight, generator: nn.init.orthogonal_(weight, generator=generator),
    }
)


@torch.no_grad()
def _start(block: MicroVitBlock, init: str, layer_scale: float, generator: Generator) -> None:
    for linear in (block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2):
        INITS[init](linear.weight, generator)
        linear.bias.zero_()
    for scale in (block.scale1, block.scale2):
        scale.fill_(layer_scale)


# --- architectures and space ---


@dataclass(frozen=True)
class MicroVitArch:
    """How each block works, one value a block: see `MIXERS`, `ACTIVATIONS`, `NORMS`, `MicroVitBlock` and `INITS`.

    `skip` is the weight of the skip connections (0: there are none), `layer_scale` the first value of LayerScale.
    """

    mixer: tuple[str, ...]
    activation: tuple[str, ...]
    norm: tuple[str, ...]
    skip: tuple[float, ...]
    layer_scale: tuple[float, ...]
    init: tuple[str, ...]


GENES = tuple(field.name for field in fields(MicroVitArch))


@dataclass(frozen=True)
class MicroVitSpace(Space[MicroVitArch]):
    """Networks of `blocks` blocks of one width, with an MLP of `ratio` times that width; every block works its own way.

    Parameters, multiply-adds, depth and width are the same for all.
    """

    name: str
    embed_dim: int
    blocks: int
    ratio: int
    skips: tuple[float, ...]
    layer_scales: tuple[float, ...]

    def choices(self) -> dict[str, tuple[Any, ...]]:
        """Return the allowed values of each gene, the same in every block."""
        return {
            "mixer": tuple(MIXERS),
            "activation": tuple(ACTIVATIONS),
            "norm": NORMS,
            "skip": self.skips,
            "layer_scale": self.layer_scales,
            "init": tuple(INITS),
        }

    def sample(self, rng: Random) -> MicroVitArch:
        """Draw every gene uniformly: by even chances once for all blocks, or for each block on its own.

        With every block on its own, the blocks of a network make up for each other, and networks are much alike.
        """
        return MicroVitArch(**{gene: self._drawn(values, rng) for gene, values in self.choices().items()})

    def _drawn(self, values: tuple[Any, ...], rng: Random) -> tuple[Any, ...]:
        if rng.random() < 0.5:
            return (rng.choice(values),) * self.blocks
        return tuple(rng.choice(values) for _ in range(self.blocks))

    def mutate(self, arch: MicroVitArch, rng: Random) -> MicroVitArch:
        """Give one gene of one block another value; kinds of gene, blocks and values have equal chances."""
        gene = rng.choice(GENES)
        block, values = rng.randrange(self.blocks), getattr(arch, gene)
        other = rng.choice([choice for choice in self.choices()[gene] if choice != values[block]])
        return replace(arch, **{gene: (*values[:block], other, *values[block + 1 :])})

    def crossover(self, a: MicroVitArch, b: MicroVitArch, rng: Random) -> MicroVitArch:
        """Take each gene of each block from either parent."""
        return MicroVitArch(
            **{
                gene: tuple(rng.choice(pair) for pair in zip(getattr(a, gene), getattr(b, gene), strict=True))
                for gene in GENES
            }
        )

    def validate(self, arch: MicroVitArch) -> None:
        """Refuse genes that are no choice of the space, and lists that do not have one value per block."""
        self._require_type(arch, MicroVitArch)
        for gene, choices in self.choices().items():
            values = getattr(arch, gene)
            if not isinstance(values, tuple) or len(values) != self.blocks:
                raise ArchitectureError(
                    f"{self.name}: {gene} {shown(values)} is not a sequence of {self.blocks} values, one per block"
                )
            for block, value in enumerate(values):
                self._require_choice(f"{gene}[{block}]", value, choices)

    def depth(self, arch: MicroVitArch) -> int:
        """Return the number of blocks, the same for all."""
        return self.blocks

    def width(self, arch: MicroVitArch) -> float:
        """Return the embedding dimension, the same for all."""
        return float(self.embed_dim)

    def to_json(self, arch: MicroVitArch) -> dict[str, Any]:
        """Return each gene as an array with one value per block."""
        return {gene: list(getattr(self._exact(arch), gene)) for gene in GENES}

    def from_json(self, record: Mapping[str, Any]) -> MicroVitArch:
        """Return the architecture that `to_json` wrote, checked."""
        arch = MicroVitArch(*self._read_fields(record, GENES))
        self.validate(arch)
        return self._exact(arch)

    def _exact(self, arch: MicroVitArch) -> MicroVitArch:
        """Return the architecture with its numbers as floats."""
        return replace(arch, skip=tuple(map(float, arch.skip)), layer_scale=tuple(map(float, arch.layer_scale)))

    def key(self, arch: MicroVitArch) -> str:
        """Return `name:` and the genes in the order of `GENES`, each gene's values with commas, bars between genes."""
        genes = [
            ",".join(value if isinstance(value, str) else ratio_text(value) for value in getattr(arch, gene))
            for gene in GENES
        ]
        return f"{self.name}:{'|'.join(genes)}"

    def params(self, arch: MicroVitArch, spec: InputSpec) -> int:
        """Return the number of parameters, in closed form; equals that of the built network, and is one for all."""
        width, hidden = self.embed_dim, self.ratio * self.embed_dim
        ends = width * (spec.in_channels * spec.patch_size**2 + 1) + width * self._grid(spec) ** 2
        linears = (width + 1) * 4 * width + (width + 1) * hidden + (hidden + 1) * width
        return ends + self.blocks * (linears + 2 * width) + 2 * width + (width + 1) * spec.num_classes

    def flops(self, arch: MicroVitArch, spec: InputSpec) -> int:
        """Return the multiply-adds of one forward pass on one image, each counted once; one number for all.

        Counted are the convolution, the linears, and the two products of every mixer with a tokens × tokens matrix.
        What works element by element is not counted.
        """
        width, tokens = self.embed_dim, self._grid(spec) ** 2
        block = tokens * (4 + 2 * self.ratio) * width**2 + 2 * tokens**2 * width
        patches = tokens * spec.in_channels * spec.patch_size**2 * width
        return patches + self.blocks * block + width * spec.num_classes

    def activations(self, arch: MicroVitArch, spec: InputSpec) -> int:
        """Return the output elements of the convolution and all linears on one image; one number for all."""
        width, tokens = self.embed_dim, self._grid(spec) ** 2
        block = block_activations(tokens, width, width, self.ratio * width)
        return tokens * width + self.blocks * block + spec.num_classes

    def min_params(self, spec: InputSpec) -> int:
        """Return `params`, which is one number for all architectures."""
        return self.params(self.sample(Random(0)), spec)

    def min_flops(self, spec: InputSpec) -> int:
        """Return `flops`, which is one number for all architectures."""
        return self.flops(self.sample(Random(0)), spec)

    def min_activations(self, spec: InputSpec) -> int:
        """Return `activations`, which is one number for all architectures."""
        return self.activations(self.sample(Random(0)), spec)

    def _grid(self, spec: InputSpec) -> int:
        """Return the patches along one side of the image."""
        if spec.image_size % spec.patch_size:
            raise ArchitectureError(
                f"{self.name}: image_size {spec.image_size} is not a multiple of patch_size {spec.patch_size}"
            )
        return spec.image_size // spec.patch_size

    def build(self, arch: MicroVitArch, spec: InputSpec, seed: int = 0) -> nn.Module:
        """Return the untrained network; its weights follow from `seed` and `key(arch)` alone.

        What is outside of the blocks starts as in `blocks.initialised` with linear="torch".
        """
        self.validate(arch)
        grid, width, generator = self._grid(spec), self.embed_dim, self.weight_generator(arch, seed)

        def construct() -> nn.Module:
            hidden = self.ratio * width
            blocks = [
                MicroVitBlock(MIXERS[mixer](width, grid), Mlp(width, hidden, ACTIVATIONS[activation]()), norm, skip)
                for mixer, activation, norm, skip in zip(arch.mixer, arch.activation, arch.norm, arch.skip, strict=True)
            ]
            return MicroVit(blocks, grid, spec)

        network = initialised(construct, generator, linear="torch")
        blocks = [module for module in network.modules() if isinstance(module, MicroVitBlock)]
        for block, init, layer_scale in zip(blocks, arch.init, arch.layer_scale, strict=True):
            _start(block, init, layer_scale, generator)
        return names_tell_blocks(network)


SPACES: tuple[Space[Any], ...] = (
    MicroVitSpace(
        "micro-vit", embed_dim=24, blocks=4, ratio=2, skips=(0.0, 0.5, 1.0), layer_scales=(0.015625, 0.125, 1.0)
    ),
)
