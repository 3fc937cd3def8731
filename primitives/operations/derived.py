"""Derived matrices: operations that make a matrix of another shape, from one matrix or two."""

from __future__ import annotations

import torch
from torch import Tensor

from autoprox.primitives.operations.record import Operation
from autoprox.primitives.operations.total import saturate


def row_norm(x: Tensor) -> Tensor:
    """the Euclidean norm of each row: rows × 1"""
    return saturate(x.square().sum(-1, keepdim=True).sqrt_())


def column_norm(x: Tensor) -> Tensor:
    """the Euclidean norm of each column: 1 × columns"""
    return saturate(x.square().sum(-2, keepdim=True).sqrt_())


def gram(x: Tensor) -> Tensor:
    """x xᵀ: rows × rows"""
    return matmul(x, x)


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """a bᵀ: rows × rows; 0 where a sum of products overflows in both directions"""
    return saturate((a @ b.mT).nan_to_num_(0.0, torch.inf, -torch.inf))


def batch_mean(x: Tensor, samples: int) -> Tensor:
    """mean over the samples (or mini-batches) stacked in the rows"""
    return x.unflatten(-2, (samples, -1)).mean(-3)


def batch_std(x: Tensor, samples: int) -> Tensor:
    """standard deviation over the samples (or mini-batches) stacked in the rows"""
    parts = x.unflatten(-2, (samples, -1))
    return saturate((parts - parts.mean(-3, keepdim=True)).square().mean(-3).sqrt_())


def sample_sum(x: Tensor, samples: int) -> Tensor:
    """sum over the rows of each sample (or mini-batch): samples × columns"""
    return saturate(x.unflatten(-2, (samples, -1)).sum(-2))


#: The records, each of a function above.
DERIVED_MATRICES = (
    Operation(
        "row_norm", "derive", row_norm, r"\left\|{0}\right\|_{{\mathrm{{rows}}}}", derives="rows", nonnegative=True
    ),
    Operation(
        "column_norm",
        "derive",
        column_norm,
        r"\left\|{0}\right\|_{{\mathrm{{cols}}}}",
        derives="columns",
        nonnegative=True,
    ),
    Operation("gram", "derive", gram, r"\operatorname{{gram}}\left({0}\right)", derives="gram", costly=True),
    Operation("batch_mean", "derive", batch_mean, r"\mathbb{{E}}_b\left[{0}\right]", derives="batch", per_sample=True),
    Operation(
        "batch_std",
        "derive",
        batch_std,
        r"\sigma_b\left[{0}\right]",
        derives="batch",
        nonnegative=True,
        per_sample=True,
    ),
    Operation("sample_sum", "derive", sample_sum, r"\sum_{{t}} {0}", derives="samples", per_sample=True),
    Operation("matmul", "product", matmul, r"{0} \left({1}\right)^\top", derives="gram", costly=True),
)
