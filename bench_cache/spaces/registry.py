"""The search spaces by name; a new one is a module of its own and one line of `SPACES`."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from autoprox.bench_cache.spaces.autoformer import AutoFormerArch, AutoFormerSpace
from autoprox.bench_cache.spaces.base import ArchitectureError, InputSpec, Space, listed, suggestion
from autoprox.bench_cache.spaces.micro_vit import MicroVitArch, MicroVitSpace
from autoprox.bench_cache.spaces.pit import PitArch, PitSpace

__all__ = [
    "SPACES",
    "ArchitectureError",
    "AutoFormerArch",
    "AutoFormerSpace",
    "InputSpec",
    "MicroVitArch",
    "MicroVitSpace",
    "PitArch",
    "PitSpace",
    "Space",
    "get_space",
]

_SPACES: tuple[Space[Any], ...] = (
    AutoFormerSpace(
        name="autoformer-tiny",
        embed_dims=(192, 216, 240),
        depths=(12, 13, 14),
        heads=(3, 4),
        ratios=(3.5, 4.0),
        head_dim=64,
        relative_positions=True,
        norm_eps=1e-5,
    ),
    AutoFormerSpace(
        name="autoformer-small",
        embed_dims=(320, 384, 448),
        depths=(12, 13, 14),
        heads=(5, 6, 7),
        ratios=(3.0, 3.5, 4.0),
        head_dim=64,
        relative_positions=True,
        norm_eps=1e-5,
    ),
    AutoFormerSpace(
        name="autoformer-base",
        embed_dims=(528, 576, 624),
        depths=(14, 15, 16),
        heads=(9, 10),
        ratios=(3.0, 3.5, 4.0),
        head_dim=64,
        relative_positions=True,
        norm_eps=1e-5,
    ),
    AutoFormerSpace(
        name="autoformer-vb101",
        embed_dims=(192, 216, 240),
        depths=(12, 13, 14),
        heads=(3, 4),
        ratios=(3.5, 4.0),
        head_dim=None,
        relative_positions=False,
        norm_eps=1e-6,
    ),
    PitSpace(name="pit-vb101"),
    # The embedded benchmark's. Depth and MLP ratio vary the size as much as the width does, so that size alone does not
    # explain accuracy; narrow networks with PyTorch's own first weights learn from a thousand images.
    AutoFormerSpace(
        name="mini-vit",
        embed_dims=(16, 24, 32, 48),
        depths=(1, 2, 3, 4, 6),
        heads=(1, 2, 4),
        ratios=(0.5, 1.0, 2.0, 4.0),
        head_dim=None,
        relative_positions=False,
        norm_eps=1e-6,
        linear="torch",
    ),
    MicroVitSpace(
        "micro-vit", embed_dim=24, blocks=4, ratio=2, skips=(0.0, 0.5, 1.0), layer_scales=(0.015625, 0.125, 1.0)
    ),
)

SPACES: Mapping[str, Space[Any]] = MappingProxyType({space.name: space for space in _SPACES})


def get_space(name: str) -> Space[Any]:
    """Return the space called `name`.

    Raises:
        ArchitectureError: there is none; the message lists the names and the closest one.
    """
    if name not in SPACES:
        raise ArchitectureError(f"unknown space {name!r}{suggestion(name, SPACES)}; the spaces are {listed(SPACES)}")
    return SPACES[name]
