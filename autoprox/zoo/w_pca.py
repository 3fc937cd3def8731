"""W-PCA (Wang, ICLR 2025): parameters times the principal components that the MLPs' activations need."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from autoprox.primitives.passes import Subject
from autoprox.primitives.sharing import met
from autoprox.scoring import Layers
from autoprox.zoo.needs import gelu_inputs
from autoprox.zoo.record import ZooProxy
from autoprox.zoo.tools import ZooError

#: The share of the variance that the components that count have together.
THRESHOLD = 0.99


def w_pca(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None) -> float:
    """Return params · Σ_l k_l, k_l the fewest principal components of X_l with more than THRESHOLD of its variance.

    X_l is the output of fc1 of block l before the activation, with samples and tokens as rows and features as columns
    (W-PCA, ICLR 2025, arXiv 2504.15983, with the threshold and the layer of its code). The code divides k_l by the
    smaller of fc1's two widths and takes the mean over the blocks; the paper's abstract speaks of the number of
    components, and so the number is summed here. There are never more components than rows: a small batch of few tokens
    limits k_l.

    Raises:
        ZooError: all tokens are alike in a block.
        LayerError: not every block has one fc1.
    """
    subject = Subject(model, inputs, targets, seed)
    seen = met(subject, gelu_inputs(subject, layers))
    params = sum(parameter.numel() for parameter in model.parameters())
    return float(params * sum(principal_components(x.flatten(0, -2)) for x in seen))


def principal_components(rows: Tensor) -> int:
    """Return how many of the largest eigenvalues of the columns' covariance are together more than THRESHOLD of all.

    Raises:
        ZooError: the rows are all alike.
    """
    centred = rows.double() - rows.double().mean(0)
    gram = centred.mT @ centred if len(centred) >= centred.shape[1] else centred @ centred.mT
    values = torch.linalg.eigvalsh(gram).clamp(min=0).flip(0)
    if not bool(values.sum() > 0):
        raise ZooError("all tokens are alike in a block")
    return int((values.cumsum(0) <= THRESHOLD * values.sum()).sum()) + 1


W_PCA = ZooProxy(
    name="w-pca",
    source="Wang, W-PCA, ICLR 2025, arXiv 2504.15983, code",
    cost="forward",
    reads="outputs of fc1, and the number of parameters",
    function=w_pca,
    needs=(gelu_inputs,),
    latex=r"P \sum_l \min\left\{k : \sum_{i \le k} \lambda_{l,i} > 0.99 \sum_i \lambda_{l,i}\right\}",
    note="made for text; the code divides each count by the smaller width of fc1 and averages over the blocks; counts "
    "are at most the number of tokens in the batch, so that small batches tie",
)
