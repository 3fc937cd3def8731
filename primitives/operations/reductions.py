"""Reductions: operations that take a matrix to one number for each layer, in time linear in its entries."""

from __future__ import annotations

from torch import Tensor

from autoprox.primitives.operations.maps import abslog
from autoprox.primitives.operations.record import Operation
from autoprox.primitives.operations.total import deviation, norm, saturate


def total(x: Tensor) -> Tensor:
    """Σ x"""
    return saturate(x.sum((-2, -1)))


def mean(x: Tensor) -> Tensor:
    """Σ x / number of entries"""
    return saturate(x.mean((-2, -1)))


def l1(x: Tensor) -> Tensor:
    """Σ |x|"""
    return saturate(x.abs().sum((-2, -1)))


def l1_mean(x: Tensor) -> Tensor:
    """Σ |x| / number of entries"""
    return saturate(x.abs().mean((-2, -1)))


def fro(x: Tensor) -> Tensor:
    """√Σ x²: the Frobenius (Euclidean) norm"""
    return saturate(norm(x, (-2, -1))[..., 0, 0])


def std(x: Tensor) -> Tensor:
    """population standard deviation of the entries"""
    return saturate(deviation(x, (-2, -1))[..., 0, 0])


def maximum_entry(x: Tensor) -> Tensor:
    """the largest entry"""
    return x.amax((-2, -1))


def minimum_entry(x: Tensor) -> Tensor:
    """the smallest entry"""
    return x.amin((-2, -1))


def logsum(x: Tensor) -> Tensor:
    """Σ log max(|x|, TINY)"""
    return saturate(abslog(x).sum((-2, -1)))


#: The records, each of a function above.
REDUCTIONS = (
    Operation("sum", "reduce", total, r"\sum {0}", words="the sum of {0}", adds="entries"),
    Operation("mean", "reduce", mean, r"\operatorname{{mean}}\left({0}\right)", words="the mean of {0}"),
    Operation(
        "l1",
        "reduce",
        l1,
        r"\left\|{0}\right\|_1",
        words="the sum of the magnitudes of {0}",
        nonnegative=True,
        adds="entries",
    ),
    Operation(
        "l1_mean",
        "reduce",
        l1_mean,
        r"\operatorname{{mean}}\left|{0}\right|",
        words="the mean of the magnitudes of {0}",
        nonnegative=True,
    ),
    Operation(
        "fro",
        "reduce",
        fro,
        r"\left\|{0}\right\|_F",
        words="the Euclidean (Frobenius) norm of {0}",
        nonnegative=True,
        adds="entries",
        power=0.5,
    ),
    Operation(
        "std",
        "reduce",
        std,
        r"\operatorname{{std}}\left({0}\right)",
        words="the standard deviation of {0}",
        nonnegative=True,
    ),
    Operation("max", "reduce", maximum_entry, r"\max {0}", words="the largest number of {0}"),
    Operation("min", "reduce", minimum_entry, r"\min {0}", words="the smallest number of {0}"),
    Operation(
        "logsum",
        "reduce",
        logsum,
        r"\sum \log \left|{0}\right|",
        words="the sum of the logarithms of the magnitudes of {0}",
        adds="entries",
    ),
)
