"""Derived matrices: operations that make a matrix of another shape, from one matrix or two."""

from __future__ import annotations

import torch
from torch import Tensor

from autoprox.primitives.operations.record import Operation
from autoprox.primitives.operations.total import TINY, norm, saturate, without_loss


def row_norm(x: Tensor) -> Tensor:
    """the Euclidean norm of each row: rows × 1"""
    return saturate(norm(x, (-1,)))


def column_norm(x: Tensor) -> Tensor:
    """the Euclidean norm of each column: 1 × columns"""
    return saturate(norm(x, (-2,)))


def gram(x: Tensor) -> Tensor:
    """x xᵀ: rows × rows"""
    return matmul(x, x)


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """a bᵀ: rows × rows"""
    product = a @ b.mT
    lost = ~product.isfinite()
    if bool(lost.any()):  # products overflow, some up and some down: the sign of their sum is found in smaller numbers
        left, right = (x.abs().amax(-1, keepdim=True).clamp_(min=TINY) for x in (a, b))
        product = torch.where(lost, (a / left) @ (b / right).mT * left * right.mT, product)
    return saturate(product)


def batch_mean(x: Tensor, samples: int) -> Tensor:
    """mean over the samples (or mini-batches) stacked in the rows"""
    return x.unflatten(-2, (samples, -1)).mean(-3)


def batch_std(x: Tensor, samples: int) -> Tensor:
    """standard deviation over the samples (or mini-batches) stacked in the rows"""
    parts = x.unflatten(-2, (samples, -1))
    return saturate(without_loss(_root_mean_square, parts - parts.mean(-3, keepdim=True), (-3,)).squeeze(-3))


def _root_mean_square(x: Tensor) -> Tensor:
    """√ mean x² over the samples, whose axis stays with size 1."""
    return x.square().mean(-3, keepdim=True).sqrt_()


def sample_sum(x: Tensor, samples: int) -> Tensor:
    """sum over the rows of each sample (or mini-batch): samples × columns"""
    return saturate(x.unflatten(-2, (samples, -1)).sum(-2))


#: The records, each of a function above.
DERIVED_MATRICES = (
    Operation(
        "row_norm",
        "derive",
        row_norm,
        r"\left\|{0}\right\|_{{\mathrm{{rows}}}}",
        words="the Euclidean norm of each row of {0}",
        derives="rows",
        nonnegative=True,
        adds="columns",
        power=0.5,
    ),
    Operation(
        "column_norm",
        "derive",
        column_norm,
        r"\left\|{0}\right\|_{{\mathrm{{cols}}}}",
        words="the Euclidean norm of each column of {0}",
        derives="columns",
        nonnegative=True,
        adds="rows",
        power=0.5,
    ),
    Operation(
        "gram",
        "derive",
        gram,
        r"\operatorname{{gram}}\left({0}\right)",
        words="the products of every two rows of {0}",
        derives="gram",
        adds="columns",
        costly=True,
    ),
    Operation(
        "batch_mean",
        "derive",
        batch_mean,
        r"\mathbb{{E}}_b\left[{0}\right]",
        words="the mean of {0} over samples or mini-batches",
        derives="batch",
        per_sample=True,
    ),
    Operation(
        "batch_std",
        "derive",
        batch_std,
        r"\sigma_b\left[{0}\right]",
        words="the standard deviation of {0} over samples or mini-batches",
        derives="batch",
        nonnegative=True,
        per_sample=True,
    ),
    Operation(
        "sample_sum",
        "derive",
        sample_sum,
        r"\sum_{{t}} {0}",
        words="the sum of {0} over the rows of each sample or mini-batch",
        derives="samples",
        adds="rows",
        per_sample=True,
    ),
    Operation(
        "matmul",
        "product",
        matmul,
        r"{0} \left({1}\right)^\top",
        words="the products of each row of {0} with each row of {1}",
        derives="gram",
        adds="columns",
        costly=True,
    ),
)
