"""Maps and normalisations: operations that keep the shape of what they take."""

from __future__ import annotations

import torch
from torch import Tensor

from autoprox.primitives.operations.record import Operation
from autoprox.primitives.operations.total import TINY, deviation, ratio, saturate


def identity(x: Tensor) -> Tensor:
    """x"""
    return x


def log(x: Tensor) -> Tensor:
    """log max(x, TINY)"""
    return x.clamp(min=TINY).log()


def abslog(x: Tensor) -> Tensor:
    """log max(|x|, TINY)"""
    return x.abs().clamp_(min=TINY).log_()


def absolute(x: Tensor) -> Tensor:
    """|x|"""
    return x.abs()


def square(x: Tensor) -> Tensor:
    """x²"""
    return saturate(x * x)


def exp(x: Tensor) -> Tensor:
    """exp x"""
    return x.clamp(max=69.0).exp_()


def relu(x: Tensor) -> Tensor:
    """max(x, 0)"""
    return x.clamp(min=0)


def invert(x: Tensor) -> Tensor:
    """1 / x, and 0 where |x| ≤ TINY"""
    return ratio(torch.ones_like(x), x)


def sqrt(x: Tensor) -> Tensor:
    """sign(x) √|x|: the root, continued to negative numbers so that it stays strictly increasing"""
    return x.abs().sqrt_().copysign_(x)


def negate(x: Tensor) -> Tensor:
    """−x"""
    return -x


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp −x)"""
    return x.sigmoid()


def tanh(x: Tensor) -> Tensor:
    """tanh x"""
    return x.tanh()


def sign(x: Tensor) -> Tensor:
    """−1, 0 or 1"""
    return x.sign()


def zscore(x: Tensor) -> Tensor:
    """(x − mean) / standard deviation, over the whole matrix"""
    # torch.std_mean gives both, in five times the time.
    mean, std = x.mean((-2, -1), keepdim=True), deviation(x, (-2, -1))
    return ratio(saturate(x - mean), saturate(std))


def minmax(x: Tensor) -> Tensor:
    """(x − min) / (max − min), over the whole matrix"""
    low, high = x.amin((-2, -1), keepdim=True), x.amax((-2, -1), keepdim=True)
    return ratio(saturate(x - low), saturate(high - low))


def softmax(x: Tensor) -> Tensor:
    """softmax of each row"""
    return x.softmax(-1)


def logsoftmax(x: Tensor) -> Tensor:
    """log softmax of each row"""
    return saturate(x.log_softmax(-1))


#: The records, each of a function above.
MAPS = (
    Operation("identity", "map", identity, r"{0}", idempotent=True, involution=True, increasing=True, words="{0}"),
    Operation("log", "map", log, r"\log {0}", words="the logarithm of {0}"),
    Operation("abslog", "map", abslog, r"\log \left|{0}\right|", words="the logarithm of the magnitude of {0}"),
    Operation(
        "abs", "map", absolute, r"\left|{0}\right|", words="the magnitude of {0}", idempotent=True, nonnegative=True
    ),
    Operation("square", "map", square, r"\left({0}\right)^2", words="the square of {0}", nonnegative=True),
    Operation(
        "exp", "map", exp, r"\exp\left({0}\right)", words="the exponential of {0}", increasing=True, nonnegative=True
    ),
    Operation(
        "relu",
        "map",
        relu,
        r"\left({0}\right)_+",
        words="{0}, with 0 for what is negative",
        idempotent=True,
        nonnegative=True,
    ),
    Operation("invert", "map", invert, r"\left({0}\right)^{{-1}}", words="1 divided by {0}"),
    Operation(
        "sqrt",
        "map",
        sqrt,
        r"\sqrt{{{0}}}",
        words="the square root of the magnitude of {0}, with the sign of {0}",
        increasing=True,
    ),
    Operation("neg", "map", negate, r"-{0}", words="minus {0}", involution=True),
    Operation(
        "sigmoid",
        "map",
        sigmoid,
        r"\sigma\left({0}\right)",
        words="the sigmoid of {0}",
        increasing=True,
        nonnegative=True,
    ),
    Operation("tanh", "map", tanh, r"\tanh\left({0}\right)", words="the hyperbolic tangent of {0}", increasing=True),
    Operation("sign", "map", sign, r"\operatorname{{sign}}\left({0}\right)", words="the sign of {0}", idempotent=True),
    Operation(
        "zscore",
        "normalise",
        zscore,
        r"\operatorname{{z}}\left({0}\right)",
        words="{0}, shifted to mean 0 and scaled to standard deviation 1",
    ),
    Operation(
        "minmax",
        "normalise",
        minmax,
        r"\operatorname{{minmax}}\left({0}\right)",
        words="{0}, shifted and scaled to 0 … 1",
        nonnegative=True,
    ),
    Operation(
        "softmax",
        "normalise",
        softmax,
        r"\operatorname{{softmax}}\left({0}\right)",
        words="the softmax of each row of {0}",
        nonnegative=True,
    ),
    Operation(
        "logsoftmax",
        "normalise",
        logsoftmax,
        r"\log\operatorname{{softmax}}\left({0}\right)",
        words="the logarithm of the softmax of each row of {0}",
    ),
)
