"""Spectra: operations on singular values, eigenvalues and activation patterns, one number for each layer."""

from __future__ import annotations

import torch
from torch import Tensor

from autoprox.primitives.operations.record import Operation
from autoprox.primitives.operations.total import TINY, ratio, saturate


def squared_singular_values(x: Tensor) -> Tensor:
    """Squared singular values, ascending, from the smaller Gram matrix in float64 after scaling by max |x|.

    Squaring costs half the digits, which float64 has to spare. Values below the rounding error, which is
    max(rows, columns) · 2e-16 of the largest, are 0: otherwise those of a rank-deficient matrix, and with them its
    `logdet`, would be noise. It is several times faster than a singular value decomposition. Returned with the
    scale undone, in float64.
    """
    wide = x.double()
    scale = wide.abs().amax((-2, -1), keepdim=True).clamp(min=TINY)
    wide = wide / scale
    small = wide @ wide.mT if x.shape[-2] <= x.shape[-1] else wide.mT @ wide
    values = _eigenvalues(small)
    noise = values[..., -1:] * (max(x.shape[-2:]) * torch.finfo(values.dtype).eps)
    return torch.where(values <= noise, 0.0, values) * scale[..., 0].square()


def _eigenvalues(symmetric: Tensor) -> Tensor:
    """Eigenvalues, ascending; NaN for a matrix with entries that are not finite, where LAPACK would give up on all."""
    finite = symmetric.isfinite().all(-1).all(-1, keepdim=True)
    values = torch.linalg.eigvalsh(torch.where(finite[..., None], symmetric, 0.0))
    return torch.where(finite, values, torch.nan)


def nuclear(x: Tensor) -> Tensor:
    """Σ σ: the nuclear norm, with σ the singular values"""
    return saturate(squared_singular_values(x).sqrt().sum(-1).to(x.dtype))


def spectral(x: Tensor) -> Tensor:
    """max σ: the spectral norm"""
    return saturate(squared_singular_values(x)[..., -1].sqrt().to(x.dtype))


def effective_rank(x: Tensor) -> Tensor:
    """exp H(σ / Σ σ), H the entropy; 0 for a zero matrix (Roy and Vetterli 2007)"""
    sigma = squared_singular_values(x).sqrt()
    p = ratio(sigma, sigma.sum(-1, keepdim=True))
    rank = torch.special.entr(p).sum(-1).exp()
    return torch.where(p.sum(-1) == 0, 0.0, rank).to(x.dtype)


def logdet(x: Tensor) -> Tensor:
    """log det of the smaller Gram matrix: Σ log max(σ², TINY)"""
    return squared_singular_values(x).clamp(min=TINY).log().sum(-1).to(x.dtype)


def pattern_count(x: Tensor, samples: int) -> Tensor:
    """how many distinct on/off patterns over the samples the neurons show; a neuron is on where x > 0
    (the Ψ of L-SWAG, arXiv 2505.07300 Eq. 1; SWAP)"""
    neurons = (x > 0).unflatten(-2, (samples, -1)).flatten(-2).mT
    while neurons.shape[-1] > 62:  # fold 62 samples at a time into the rank of their pattern
        head = (neurons[..., :62].long() << torch.arange(62, device=x.device)).sum(-1)
        code = torch.unique(head, return_inverse=True)[1]
        bits = torch.arange(int(code.max()).bit_length() or 1, device=x.device)
        neurons = torch.cat([(code[..., None] >> bits & 1).bool(), neurons[..., 62:]], -1)
    codes = (neurons.long() << torch.arange(neurons.shape[-1], device=x.device)).sum(-1).sort(-1).values
    return (1 + (codes.diff(dim=-1) != 0).sum(-1)).to(x.dtype)


def agreement_logdet(x: Tensor, samples: int) -> Tensor:
    """Σ log max(λ, TINY), λ the eigenvalues of K, K_ij how many neurons are on (x > 0) in both samples i and j or off
    in both: log det K, and log TINY for each sample that repeats others (NWOT, arXiv 2006.04647)"""
    signs = (x > 0).unflatten(-2, (samples, -1)).flatten(-2).to(torch.float32) * 2 - 1
    values = torch.linalg.eigvalsh(((signs @ signs.mT).double() + signs.shape[-1]) / 2)
    noise = values[..., -1:] * (samples * torch.finfo(values.dtype).eps)
    return torch.where(values > noise, values, TINY).log().sum(-1).to(x.dtype)


#: The records, each of a function above.
SPECTRA = (
    Operation(
        "nuclear",
        "spectrum",
        nuclear,
        r"\left\|{0}\right\|_*",
        words="the sum of the singular values of {0}",
        nonnegative=True,
        costly=True,
    ),
    Operation(
        "spectral",
        "spectrum",
        spectral,
        r"\left\|{0}\right\|_2",
        words="the largest singular value of {0}",
        nonnegative=True,
        costly=True,
    ),
    Operation(
        "effective_rank",
        "spectrum",
        effective_rank,
        r"\operatorname{{erank}}\left({0}\right)",
        words="the effective rank of {0}",
        nonnegative=True,
        costly=True,
    ),
    Operation(
        "logdet",
        "spectrum",
        logdet,
        r"\log\det \operatorname{{gram}}\left({0}\right)",
        words="the log-determinant of the Gram matrix of {0}",
        costly=True,
    ),
    Operation(
        "pattern_count",
        "spectrum",
        pattern_count,
        r"\left|\left\{{\operatorname{{sgn}} {0}\right\}}\right|",
        words="the number of different on/off patterns over the samples in {0}",
        nonnegative=True,
        per_sample=True,
        costly=True,
    ),
    Operation(
        "agreement_logdet",
        "spectrum",
        agreement_logdet,
        r"\log\det \operatorname{{agree}}\left({0}\right)",
        words="the log-determinant of how often samples agree in on and off in {0}",
        per_sample=True,
        costly=True,
    ),
)
