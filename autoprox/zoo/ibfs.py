"""IBFS (Kang, ICML 2025): the entropy of the spectrum of the samples' weight gradients."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from autoprox.primitives.passes import Subject
from autoprox.scoring import Layers
from autoprox.zoo.gradients import tangent_kernel
from autoprox.zoo.needs import sum_gradients_by_sample
from autoprox.zoo.record import ZooProxy
from autoprox.zoo.tools import enough_samples


def ibfs(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None) -> float:
    """Return −Σ_k p_k ln p_k with p_k = λ_k / Σ λ, λ the eigenvalues of J Jᵀ, in nats: from 0 to ln(samples).

    Row i of J is ∂f(x_i)/∂w (IBFS, ICML 2025, PMLR 267, Eq. 9 and 10). We know the equations from public notes on the
    paper, which has no code. Our choices:

    - The notes speak of the eigenvalues of J, which is not square: we take those of J Jᵀ.
    - p is the share of an eigenvalue in their sum.
    - f is the sum of the outputs, and w every parameter called weight, as in `te_nas_ntk`. The code of TE-NAS
      (arXiv 2102.11535) is what the paper builds on.

    Of two samples, it ranks networks as `te_nas_ntk` does, because both follow from the ratio of two eigenvalues.

    Raises:
        ZooError: there are fewer than two samples, or no gradient reaches the weights.
    """
    enough_samples(inputs, 2)
    values = torch.linalg.eigvalsh(tangent_kernel(Subject(model, inputs, targets, seed))).clamp(min=0)
    return float(torch.special.entr(values / values.sum()).sum())


IBFS = ZooProxy(
    name="ibfs",
    source="Kang, Revisiting Neural Networks for Few-Shot Learning (IBFS), ICML 2025, Eq. 9 and 10",
    cost="per-sample",
    reads="gradients of the summed outputs of every sample, for all weights",
    function=ibfs,
    needs=(sum_gradients_by_sample,),
    latex=r"-\sum_k p_k \log p_k, \quad p_k = \frac{\lambda_k}{\sum_j \lambda_j}, \quad"
    r" \lambda = \operatorname{eig}\left(J J^\top\right)",
    note="from public notes on the paper, which has no code; eigenvalues of J Jᵀ are our reading; two samples give the "
    "ranks of te-nas-ntk",
)
