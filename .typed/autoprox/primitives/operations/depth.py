"""Depth: operations on the numbers of layers that know the order of the blocks."""

from __future__ import annotations

import torch
from torch import Tensor

from autoprox.primitives.operations.record import Operation
from autoprox.primitives.operations.total import saturate


def depth_difference(x: Tensor) -> Tensor:
    """each block's number minus the previous block's; 0 in the first block"""
    return saturate(x - torch.cat([x[..., :1, :], x[..., :-1, :]], dim=-2))


def depth_weighted(x: Tensor) -> Tensor:
    """Σ_l (l / L) x_l"""
    depth = x.shape[-2]
    weights = torch.arange(1, depth + 1, dtype=x.dtype, device=x.device)[:, None] / depth
    return saturate((x * weights).sum((-2, -1)))


#: The records, each of a function above.
ALONG_DEPTH = (
    Operation(
        "depth_difference",
        "along_depth",
        depth_difference,
        r"\Delta_l {0}",
        words="the change of {0} from the block before",
    ),
    Operation(
        "depth_weighted",
        "aggregate",
        depth_weighted,
        r"\sum_l \frac{{l}}{{L}} {0}",
        words="the sum of {0}, each times its block's number over the number of blocks",
    ),
)
