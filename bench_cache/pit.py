"""PiT: its architectures, network and search space (Heo et al., ICCV 2021, arXiv 2103.16302)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from random import Random
from typing import Any

from torch import nn

from autoprox.bench_cache.space import InputSpec, Space, ratio_text

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class PitArch:
    """One PiT of three stages: stage s has `depth[s]` blocks of width `base_dim * num_heads[s]`, one MLP ratio for all."""

    base_dim: int
    mlp_ratio: float
    depth: Triple
    num_heads: Triple


GENES = ("base_dim", "mlp_ratio", "depth", "num_heads")


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
        gene = rng.choice(GENES)
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
        raise NotImplementedError

    def flops(self, arch: PitArch, spec: InputSpec) -> int:
        raise NotImplementedError

    def build(self, arch: PitArch, spec: InputSpec, seed: int = 0) -> nn.Module:
        raise NotImplementedError

    def min_params(self, spec: InputSpec) -> int:
        raise NotImplementedError

    def min_flops(self, spec: InputSpec) -> int:
        raise NotImplementedError
