"""The AutoFormer spaces: three supernets (Chen et al., 2107.00651), ViT-Bench-101's, and the embedded benchmark's.

They are not in `autoformer.py` because the version of cached statistics is a digest of that file: a new space here
leaves the statistics of the others valid.
"""

from typing import Any

from autoprox.bench_cache.spaces.autoformer import AutoFormerSpace
from autoprox.bench_cache.spaces.base import Space

SPACES: tuple[Space[Any], ...] = (
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
    # The space of the embedded benchmark. Depth and MLP ratio vary the size as much as the width does, so that size
    # alone does not explain accuracy. The networks are narrow and start with PyTorch's own weights, so that they learn
    # from a thousand images.
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
)
