"""InTrain (Zhou et al., CVPR 2026): how many dimensions activations fill, times how evenly gradients are spread."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from autoprox.primitives.passes import CLASSES, Need, Pass, Subject, Wanted
from autoprox.primitives.sharing import met
from autoprox.scoring import Layers
from autoprox.zoo.needs import gradients_of, outputs_of, whole_batch
from autoprox.zoo.record import ZooProxy
from autoprox.zoo.tools import ZooError, block_linears, network_blocks

#: Added to every eigenvalue of a covariance, and to the largest magnitude in a gradient.
EPSILON = 1e-10


def intrain(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None) -> float:
    """Return γ (1 + o) / ln(L + 1), with γ = Σ_l ln PR(C_l) and o = Σ_i min(1, σ(g_i) / (max |g_i| + ε)).

    C_l is the covariance of layer l's activations plus ε, with samples and tokens as rows and features as columns. PR
    is its participation ratio (Tr C)² / Tr C², a number of dimensions from 1 to the number of features. g_i is the
    gradient of the cross-entropy for parameter tensor i, σ the standard deviation of its entries. L is the number of
    layers. Input and classes are random (InTrain, CVPR 2026, arXiv 2606.18676). We know the equations from public notes
    on the paper, which has no code. Our choices:

    - The layers are the linears of the blocks, where the paper has all layers of convolutional networks.
    - The Gaussian input has the shape of the batch, where the paper has 64 images of 64 × 64.
    - ε in o is that of the covariance, and σ divides by the number of entries.

    Raises:
        ZooError: all tokens are alike in a layer, or no gradient reaches the parameters, or one is not finite.
    """
    subject = Subject(model, inputs, targets, seed)
    capacity, health, linears = met(subject, capacity_and_health(subject, layers))
    return capacity * (1 + health) / math.log(linears + 1)


def capacity_and_health(subject: Subject, layers: Layers = None) -> Need:
    """Return γ and o of `intrain`, and the number of linears: three numbers."""
    model = subject.model
    paths = tuple(block_linears(network_blocks(model, subject.inputs, layers)))
    names = [name for name, parameter in model.named_parameters() if parameter.is_floating_point()]

    def read(run: Pass) -> tuple[float, float, int]:
        slopes = gradients_of(model, run, CLASSES, names)
        ratios = [participation_ratio(x.flatten(0, -2)) for x in outputs_of(run, paths)]
        return sum(math.log(ratio) for ratio in ratios), gradient_health(slopes), len(paths)

    slopes = tuple((CLASSES, "parameter", name) for name in names)
    return Need(("intrain", *paths), whole_batch(subject, "noise"), Wanted(paths, slopes=slopes), read)


def participation_ratio(rows: Tensor) -> float:
    """Return (Tr C)² / Tr C², C the covariance of the columns plus ε.

    Raises:
        ZooError: the rows are all alike.
    """
    centred = rows.double() - rows.double().mean(0)
    total = float(centred.square().sum()) / len(rows)
    if not total > 0:
        raise ZooError("all tokens are alike in a layer")
    gram = centred.mT @ centred if len(centred) >= centred.shape[1] else centred @ centred.mT
    squares = float(gram.square().sum()) / len(rows) ** 2
    features = rows.shape[1]
    return (total + EPSILON * features) ** 2 / (squares + 2 * EPSILON * total + EPSILON**2 * features)


def gradient_health(slopes: Sequence[Tensor]) -> float:
    """Return Σ min(1, σ / (max |·| + ε)) over gradients: the more evenly an entry's gradients are spread, the more."""
    ratios = [slope.double().std(correction=0) / (slope.double().abs().amax() + EPSILON) for slope in slopes]
    return float(torch.stack([ratio.clamp(max=1).cpu() for ratio in ratios]).sum())


INTRAIN = ZooProxy(
    name="intrain",
    source="Zhou et al., InTrain, CVPR 2026, arXiv 2606.18676",
    cost="backward",
    reads="outputs of the blocks' linears and gradients of all parameters, Gaussian input",
    function=intrain,
    needs=(capacity_and_health,),
    probes=("noise",),
    latex=r"\frac{\sum_l \log \operatorname{PR}(C_l) \left(1 + \sum_i \min\left(1, \frac{\sigma(g_i)}"
    r"{\max |g_i| + \epsilon}\right)\right)}{\log(L + 1)}",
    note="from public notes on the paper, which has no code and no transformers; the layers are our choice; both "
    "factors are sums, so that the score grows with the depth",
)
