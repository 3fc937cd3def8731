"""Needs: what the zoo's functions read of a network's passes, which run once for all that read them.

A function's record names what it needs (`needs=`), and the function gets it with `met`. So a network that is scored by
many proxies runs once for each batch. What only one proxy reads is run by that proxy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from autoprox.primitives import LayerError
from autoprox.primitives.batch import logits_of
from autoprox.primitives.find_blocks.runs import softmax_names
from autoprox.primitives.passes import CLASSES, SUM, Need, Pass, Subject, Wanted, Where
from autoprox.scoring import Layers
from autoprox.zoo.tools import (
    network_blocks,
    network_weights,
    require_finite,
    require_gradients,
    slot_linears,
)

#: What a function needs of one pass, or of several, from what is scored and its layers.
Needs = Callable[[Subject, Layers], Need | Sequence[Need]]


def listed(needs: Sequence[Needs], subject: Subject, layers: Layers) -> list[Need]:
    """Return all that is needed, one by one."""
    found = [need(subject, layers) for need in needs]
    return [one for each in found for one in ((each,) if isinstance(each, Need) else each)]


def whole_batch(subject: Subject, probe: str = "data") -> Where:
    """Return the pass on all samples."""
    return Where(probe, 0, len(subject.inputs))


def gradients_of(model: nn.Module, run: Pass, loss: str, names: Sequence[str]) -> list[Tensor]:
    """Return the gradients of a loss for parameters.

    Raises:
        ZooError: one is not finite, or most are 0.
        LayerError: the pass used copies of weights.
    """
    run.seen.require_no_copies()
    slopes = [run.slope(loss, "parameter", name) for name in names]
    require_finite(slopes, "gradients")
    require_gradients(model, slopes)
    return slopes


def _of_parameters(loss: str, names: Sequence[str]) -> Wanted:
    return Wanted(slopes=tuple((loss, "parameter", name) for name in names))


def class_gradients(subject: Subject, layers: Layers = None) -> Need:
    """Return ∂L/∂W of all weights, L the cross-entropy: a list of tensors."""
    return _class_gradients(subject, whole_batch(subject))


def class_gradients_by_half(subject: Subject, layers: Layers = None) -> list[Need]:
    """Return the same for both halves of the batch."""
    half = len(subject.inputs) // 2
    halves = Where("data", 0, half), Where("data", half, len(subject.inputs))
    return [_class_gradients(subject, where) for where in halves]


def class_gradients_by_sample(subject: Subject, layers: Layers = None) -> list[Need]:
    """Return the same for every sample."""
    return [_class_gradients(subject, where) for where in _samples(subject)]


def _class_gradients(subject: Subject, where: Where) -> Need:
    model, names = subject.model, network_weights(subject.model)
    wanted = _of_parameters(CLASSES, names)
    return Need("class gradients", where, wanted, lambda run: gradients_of(model, run, CLASSES, names))


def _samples(subject: Subject) -> list[Where]:
    return [Where("data", first, first + 1) for first in range(len(subject.inputs))]


def synflow_pairs(subject: Subject, layers: Layers = None) -> Need:
    """Return (|W|, ∂R/∂|W|) of all weights: a list of pairs.

    R is the summed output on an input of ones, with every parameter replaced by its magnitude.
    """
    model = subject.model
    names = network_weights(model)

    def read(run: Pass) -> list[tuple[Tensor, Tensor]]:
        slopes = gradients_of(model, run, SUM, names)
        return list(zip([run.parameter(name).detach() for name in names], slopes, strict=True))

    return Need("synflow pairs", Where("synflow", 0, 1), _of_parameters(SUM, names), read)


def sum_gradients_by_sample(subject: Subject, layers: Layers = None) -> list[Need]:
    """Return ∂(Σ outputs)/∂θ of every sample, θ all parameters called weight: a row for each."""
    model = subject.model
    names = [name for name, _ in model.named_parameters() if name.rpartition(".")[2] == "weight"]

    def read(run: Pass) -> Tensor:
        return torch.cat([slope.flatten() for slope in gradients_of(model, run, SUM, names)])

    wanted = _of_parameters(SUM, names)
    return [Need("sum gradients", where, wanted, read, once=True) for where in _samples(subject)]


def input_jacobian(subject: Subject, layers: Layers = None) -> Need:
    """Return ∂(Σ outputs)/∂x with a row for each sample: samples × entries of an input, float64."""

    def read(run: Pass) -> Tensor:
        slope = run.slope(SUM, "input", "")
        require_finite([slope], "gradients")
        return slope.flatten(1).double()

    return Need("input jacobian", whole_batch(subject), Wanted(slopes=((SUM, "input", ""),)), read)


def class_scores(subject: Subject, layers: Layers = None) -> Need:
    """Return the class scores: samples × classes."""
    return _class_scores(whole_batch(subject))


def noise_scores(subject: Subject, layers: Layers = None) -> Need:
    """Return the class scores of Gaussian inputs: samples × classes."""
    return _class_scores(whole_batch(subject, "noise"))


def _class_scores(where: Where) -> Need:
    return Need("class scores", where, Wanted(), lambda run: logits_of(run.output).detach())


def outputs_of(run: Pass, layers: Sequence[str]) -> list[Tensor]:
    """Return what linears made in a pass, samples first and features last."""
    return [run.seen.by_sample(layer, run.seen.outputs[layer].detach(), run.samples) for layer in layers]


def gelu_inputs(subject: Subject, layers: Layers = None) -> Need:
    """Return the outputs of the blocks' fc1, which are the inputs of the GELUs: a list of tensors.

    Raises:
        LayerError: not every block has one fc1.
    """
    paths = tuple(slot_linears(network_blocks(subject.model, subject.inputs, layers), "fc1"))

    def read(run: Pass) -> list[Tensor]:
        found = outputs_of(run, paths)
        require_finite(found, "activations")
        return found

    return Need(("outputs", *paths), whole_batch(subject), Wanted(paths), read)


def attention_maps(subject: Subject, layers: Layers = None) -> Need:
    """Return the attention probabilities of each block that has some: a list of maps for each, one for each softmax.

    A map is … × queries × keys; before these come samples and heads, and windows where there are some.

    Raises:
        LayerError: no block has a softmax over tokens.
    """
    blocks = [block for block in network_blocks(subject.model, subject.inputs, layers) if block.softmaxes]
    if not blocks:
        raise LayerError("this model does not show its attention probabilities: no block has a softmax over tokens")
    names = tuple(softmax_names(blocks))

    def read(run: Pass) -> list[list[Tensor]]:
        return [[run.seen.attention[name] for name in block.softmaxes] for block in blocks]

    return Need(("attention maps", names), whole_batch(subject), Wanted(softmaxes=names), read)
