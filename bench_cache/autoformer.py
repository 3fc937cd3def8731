"""AutoFormer: its architectures, network and search spaces (Chen et al., ICCV 2021, arXiv 2107.00651)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from torch import nn

from autoprox.bench_cache.space import (
    ArchitectureError,
    InputSpec,
    Space,
    is_int,
    ratio_text,
)


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

    `head_dim` is the channels of one head as in Microsoft's AutoFormer (64), with relative positions; None is the
    AutoFormer of ViT-Bench-101, whose heads have width / heads channels and know no relative positions.
    """

    name: str
    embed_dims: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    ratios: tuple[float, ...]
    head_dim: int | None

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
        gene = rng.choice(("embed_dim", "depth", "num_heads", "mlp_ratio"))
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
        """Refuse genes that are no choice of the space, and a width that its heads do not divide."""
        self._require_type(arch, AutoFormerArch)
        self._require_choice("embed_dim", arch.embed_dim, self.embed_dims)
        for gene in ("num_heads", "mlp_ratio"):
            if not isinstance(getattr(arch, gene), tuple):
                raise ArchitectureError(
                    f"{self.name}: {gene} {getattr(arch, gene)!r} is not one value per layer"
                )
        self._require_choice("depth", arch.depth, self.depths)
        if len(arch.mlp_ratio) != arch.depth:
            raise ArchitectureError(
                f"{self.name}: mlp_ratio has {len(arch.mlp_ratio)} values for the {arch.depth} layers of num_heads"
            )
        for layer, (heads, ratio) in enumerate(zip(arch.num_heads, arch.mlp_ratio, strict=True)):
            self._require_choice(f"num_heads[{layer}]", heads, self.heads)
            self._require_choice(f"mlp_ratio[{layer}]", ratio, self.ratios)
            if self.head_dim is None and arch.embed_dim % heads:
                raise ArchitectureError(
                    f"{self.name}: embed_dim {arch.embed_dim} is not a multiple of num_heads[{layer}] {heads}"
                )

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
        """Return the number of parameters, in closed form; equals that of the built network."""
        width = arch.embed_dim
        tokens = (spec.image_size // spec.patch_size) ** 2 + 1
        patch = spec.in_channels * spec.patch_size**2
        total = width * (patch + 1) + width + tokens * width + 2 * width + (width + 1) * spec.num_classes
        for heads, ratio in zip(arch.num_heads, arch.mlp_ratio, strict=True):
            inner = width if self.head_dim is None else heads * self.head_dim
            hidden = int(width * ratio)
            total += 4 * width + (width + 1) * 3 * inner + (inner + 1) * width
            total += (width + 1) * hidden + (hidden + 1) * width
            total += 0 if self.head_dim is None else 4 * 30 * self.head_dim
        return total

    def flops(self, arch: AutoFormerArch, spec: InputSpec) -> int:
        raise NotImplementedError

    def build(self, arch: AutoFormerArch, spec: InputSpec, seed: int = 0) -> nn.Module:
        raise NotImplementedError

    def min_params(self, spec: InputSpec) -> int:
        raise NotImplementedError

    def min_flops(self, spec: InputSpec) -> int:
        raise NotImplementedError


def _other(value: Any, choices: tuple[Any, ...], rng: Random) -> Any:
    return rng.choice([choice for choice in choices if choice != value])


def _changed(values: tuple[Any, ...], layer: int, choices: tuple[Any, ...], rng: Random) -> tuple[Any, ...]:
    return (*values[:layer], _other(values[layer], choices, rng), *values[layer + 1 :])
