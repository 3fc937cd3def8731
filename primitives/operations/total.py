"""Totality: what keeps every operation finite.

Values saturate at ±MAX, and anything smaller than TINY counts as zero where it would be divided by.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

MAX = 1e30
TINY = 1e-30


def saturate(x: Tensor) -> Tensor:
    """x limited to ±MAX, in place: x is always a tensor that was just computed."""
    return x.clamp_(-MAX, MAX)


def ratio(a: Tensor, b: Tensor) -> Tensor:
    """a / b, and 0 where |b| ≤ TINY."""
    divisor = torch.threshold(b.abs(), TINY, math.inf).copysign_(b)  # a third of the time of torch.where
    return saturate(a / divisor)


def norm(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """√Σ x² over the axes, which stay with size 1."""
    return without_loss(lambda x: x.square().sum(axes, keepdim=True).sqrt_(), x, axes)


def deviation(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Population standard deviation over the axes, which stay with size 1; 0 where all are equal."""
    return without_loss(lambda x: _deviation(x, axes), x, axes)


def _deviation(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The same, unless squares overflow or lose digits: in half the time of torch.std."""
    first = x
    for axis in axes:
        first = first.narrow(axis, 0, 1)
    apart = x - first  # the mean of equal numbers may be another number, that of zeros is 0
    apart -= apart.mean(axes, keepdim=True)
    return apart.square_().mean(axes, keepdim=True).sqrt_()


def without_loss(plain: Callable[[Tensor], Tensor], x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """plain(x), of x / max |x| where squares overflow or lose digits; plain(c x) must be c plain(x) for c > 0."""
    value, digits = plain(x), torch.finfo(x.dtype)
    safe = math.sqrt(digits.tiny / digits.eps)
    lowest, highest = value.aminmax() if value.numel() else (value.new_tensor(safe),) * 2
    if safe <= float(lowest) and float(highest) < math.inf:  # mostly, and one pass tells; never of what is no number
        return value
    unsure = ~(value >= safe) | value.isinf()
    scale = x.abs().amax(axes, keepdim=True).clamp_(min=digits.tiny)
    if bool((scale[unsure] > digits.tiny).any()):  # else all are zeros
        value = torch.where(unsure, plain(x / scale) * scale, value)
    return value
