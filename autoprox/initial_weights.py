"""Initial weights: a copy of a network in which layers whose weight starts at 0 start otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import torch
from torch import nn

#: Layers whose weight makes features of features.
_LAYERS = (nn.Linear, nn.modules.conv._ConvNd)
#: Layers whose weight scales each feature.
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)

#: Deviation of the weights that replace zeros, as timm and the authors of DeiT draw those of a classifier.
DEVIATION = 0.02


def fill_zeros(model: nn.Module, seed: int = 0) -> nn.Module:
    """Return a copy of a model in which no linear layer, convolution or norm has a weight of zeros alone.

    Weights of linear layers and convolutions are drawn from a normal distribution of deviation 0.02, cut off at ±2;
    those of norms are 1, as torch's own norms start. All else is as in the model, which is left as it was. Models start
    layers at 0 so that training begins with a simpler network; until the first step no gradient reaches what is behind
    these layers. The copy shows the gradients of the architecture without that. Its scores are those of other initial
    weights: compare them with each other, and not with scores of models as they are.

    Args:
        model: any module that `copy.deepcopy` takes.
        seed: of the weights that are drawn.

    Raises:
        ValueError: the model cannot be copied.
    """
    try:
        filled = deepcopy(model)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise ValueError(f"{type(model).__name__} cannot be copied: {error}; fill its zeros by hand") from error
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, layer in _of_zeros(filled):
            weight = layer.get_parameter("weight")
            if isinstance(layer, _NORMS):
                weight.fill_(1)
            else:
                drawn = nn.init.trunc_normal_(torch.empty(weight.shape), std=DEVIATION, generator=generator)
                weight.copy_(drawn)
    return filled


def zero_weights(model: nn.Module) -> list[str]:
    """Return the names of the weights that `fill_zeros` fills."""
    return [f"{path}.weight".lstrip(".") for path, _ in _of_zeros(model)]


def _of_zeros(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for path, module in model.named_modules():
        weight = module._parameters.get("weight") if isinstance(module, (*_LAYERS, *_NORMS)) else None
        if weight is not None and weight.numel() and not bool(weight.any()):
            yield path, module
