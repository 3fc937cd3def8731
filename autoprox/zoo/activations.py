"""Activations: which neurons of a network are on, as the proxies of on/off patterns read it.

A neuron is one feature of one token or place, and is on where the input of its activation function is positive. In a
transformer the input of a GELU is read as the output of fc1, because hooks on GELU modules would miss networks that
call the function instead. In a network without transformer blocks every call of an activation function is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from autoprox.primitives.capture import Capture
from autoprox.primitives.passes import Subject
from autoprox.primitives.sharing import computed_once, met
from autoprox.primitives.untouched import one_pass, seed_everything
from autoprox.scoring import Layers, is_convolutional
from autoprox.zoo.needs import gelu_inputs
from autoprox.zoo.tools import ZooError, network_blocks

#: The functions whose neurons are counted. Sigmoids are gates, and are not.
ACTIVATIONS = frozenset(
    getattr(owner, name)
    for owner in (functional, torch, Tensor)
    for kind in ("relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "celu", "selu", "gelu", "silu", "mish")
    for name in (kind, f"{kind}_")
    if hasattr(owner, name)
) | {functional.hardswish, functional.hardtanh, functional.softplus}


def switched_on(subject: Subject, layers: Layers = None) -> list[Tensor]:
    """Return which neurons are on in each sample: a boolean tensor for each layer, samples × neurons.

    Raises:
        ZooError: an input of an activation is not finite, or a network without transformer blocks has no activation.
        LayerError: not every transformer block has one fc1.
    """
    model, inputs, seed = subject.model, subject.inputs, subject.seed
    if not is_convolutional(network_blocks(model, inputs, layers)):
        return [(x > 0).reshape(len(inputs), -1) for x in met(subject, gelu_inputs(subject, layers))]
    return computed_once("switched on", (model, inputs, seed), lambda: _at_activations(model, inputs, seed))


def _at_activations(model: nn.Module, inputs: Tensor, seed: int) -> list[Tensor]:
    watch = _Signs(model, len(inputs))
    seed_everything(model, seed)
    with torch.no_grad(), watch.watching():
        one_pass(model, inputs.clone())
    if not watch.on:
        raise ZooError("its forward pass calls no activation function such as ReLU, GELU or SiLU")
    return watch.on


class _Signs(Capture):
    """Notes where the inputs of activation functions are positive, before a function changes them in place."""

    def __init__(self, model: nn.Module, samples: int) -> None:
        super().__init__(model, (), (), samples, lambda name, own: own.detach(), gradient=False)
        self.on: list[Tensor] = []

    def other(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if function in ACTIVATIONS:
            x = args[0] if args else kwargs["input"]
            if not torch.isfinite(x.sum()):
                raise ZooError("activations are NaN or infinite; look at the initial weights and at the inputs")
            self.on.append((x > 0).reshape(self.samples, -1))
        return super().other(function, args, kwargs)
