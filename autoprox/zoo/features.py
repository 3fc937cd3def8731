"""Proxies of the zoo from features: on/off patterns, correlations, entropies and distances of what a network computes.

Every function takes (model, inputs, targets, seed, layers), returns a score that is higher for better networks, and
leaves the model as it was. `activations` says which neurons are on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from autoprox.primitives.batch import logits_of, probe_batch
from autoprox.primitives.capture import forward
from autoprox.primitives.passes import Need, Pass, Subject, Wanted
from autoprox.primitives.sharing import met
from autoprox.primitives.untouched import untouched
from autoprox.scoring import Layers
from autoprox.zoo.activations import switched_on
from autoprox.zoo.needs import gelu_inputs, noise_scores, whole_batch
from autoprox.zoo.tools import (
    ZooError,
    block_linears,
    block_paths,
    correlations,
    detached,
    enough_samples,
    module_outputs,
    network_blocks,
    outputs,
)

#: So many on/off bits are packed into one word. Two words, or a word and the number of a pattern, fit into 64 bits.
_WORD = 31


def union_of_patterns(on: Sequence[Tensor]) -> int:
    """Return how many distinct on/off patterns over the samples the neurons show, all layers taken together.

    `on` has a boolean tensor for each layer: samples × neurons.
    """
    words = [[_packed(part) for part in layer.split(_WORD)] for layer in on]
    if len(words[0]) == 1:
        return len(torch.unique(torch.cat([torch.unique(layer[0]) for layer in words])))
    first, *others = (torch.cat(column) for column in zip(*words, strict=True))
    for word in others:  # number the patterns so far, and join each number with the next word
        first = torch.unique(first, return_inverse=True)[1] << _WORD | word
    return len(torch.unique(first))


def _packed(on: Tensor) -> Tensor:
    """Return the bits of each neuron over at most 31 samples as one number; `on` is samples × neurons, boolean."""
    places = torch.arange(len(on), device=on.device)[:, None]
    return (on.long() << places).sum(0)


def patterns(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    seed: int,
    layers: Layers = None,
    chosen: Callable[[int, int], bool] | None = None,
) -> float:
    """Return Ψ, the number of distinct on/off patterns of the neurons at the activations, all taken together.

    A neuron is one feature of one token, and `switched_on` reads it. Its pattern says in which of the samples it is on,
    so that S samples have at most 2^S patterns (SWAP, arXiv 2403.04161; L-SWAG, arXiv 2505.07300, Eq. 1).
    `chosen(layer, layers)` says whether layer number `layer` of `layers` counts; without it, all do.

    Raises:
        ZooError: there are fewer than two samples, or no block is chosen.
        LayerError: not every block has one fc1.
    """
    enough_samples(inputs, 2)
    with untouched(model):
        on = switched_on(Subject(model, inputs, targets, seed), layers)
    kept = [layer for number, layer in enumerate(on) if chosen is None or chosen(number, len(on))]
    if not kept:
        raise ZooError(f"none of the {len(on)} blocks is in the range")
    return float(union_of_patterns(kept))


def nwot(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None) -> float:
    """Return log |det K|, where K_ij is the number of neurons that agree in samples i and j.

    The neurons of all activations are counted together (NWOT, arXiv 2006.04647).

    Raises:
        ZooError: there are fewer than two samples, or K is singular, because two samples switch every neuron alike.
        LayerError: not every block has one fc1.
    """
    enough_samples(inputs, 2)
    with untouched(model):
        kernel = torch.zeros(len(inputs), len(inputs), dtype=torch.float64)
        for on in switched_on(Subject(model, inputs, targets, seed), layers):
            signs = on.float() * 2 - 1
            kernel += ((signs @ signs.mT).double() + signs.shape[1]).cpu() / 2
    values = torch.linalg.eigvalsh(kernel)
    if not values[0] > values[-1] * len(values) * torch.finfo(values.dtype).eps:
        raise ZooError("the kernel of agreements is singular: there are samples that the network cannot tell apart")
    return float(values.log().sum())


def eznas(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None) -> float:
    """Return mean_l ‖X_l‖_F², X_l the input of the blocks' linear l.

    The network's input is Gaussian (EZNAS, arXiv 2209.07413, code).
    """
    subject = Subject(model, inputs, targets, seed)
    squares = met(subject, squared_inputs(subject, layers))
    return sum(squares) / len(squares)


def squared_inputs(subject: Subject, layers: Layers = None) -> Need:
    """Return ‖X_l‖_F² of the inputs of the blocks' linears under Gaussian input: a list of numbers."""
    paths = tuple(block_linears(network_blocks(subject.model, subject.inputs, layers)))

    def read(run: Pass) -> list[float]:
        return [float(run.seen.inputs[path].detach().double().square().sum()) for path in paths]

    return Need(("squared inputs", *paths), whole_batch(subject, "noise"), Wanted(paths), read)


#: The factor of the Gaussian step ε from Zen's first input to its second.
MIXUP = 0.01


def zen(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None) -> float:
    """Return log mean |f(x) − f(x + 0.01 ε)|, x and ε Gaussian of the batch's shape, f the class scores.

    It is Zen-score (arXiv 2102.01063, Alg. 1) without its second term, the variances of batch normalisation, which a
    vision transformer does not have.

    Raises:
        ZooError: the network gives the same for different inputs.
    """
    subject = Subject(model, inputs, targets, seed)
    f = met(subject, noise_scores(subject)).double()
    with untouched(model), torch.no_grad():
        x, _ = probe_batch("noise", inputs, None, seed)
        step, _ = probe_batch("noise", inputs, None, seed + 1)
        near = logits_of(forward(model, detached(model), x + MIXUP * step, seed)).double()
    distance = float((f - near).abs().mean())
    if not distance > 0:
        raise ZooError("the network gives the same for different inputs")
    return math.log(distance)


#: How many channels of each layer MeCo correlates, if there are more tokens than that.
CHANNELS = 8


def meco(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None) -> float:
    """Return Σ_l (C_l / k) λ_min(corr X_l), X_l the outputs of layer l on one Gaussian input (MeCo_opt, NeurIPS 2023).

    The layers are the blocks' linears. X_l is k × tokens: k of the layer's C_l channels, drawn from the seed. k is 8,
    or one less than the tokens if that is smaller, because the correlations of more channels are always singular.

    Raises:
        ZooError: there are fewer than three tokens, or a channel is constant.
    """
    generator = torch.Generator().manual_seed(seed)
    score = 0.0
    with untouched(model):
        noise, _ = probe_batch("noise", inputs[:1], None, seed)
        for x in outputs(model, block_linears(network_blocks(model, inputs, layers)), noise, seed):
            rows = x.reshape(-1, x.shape[-1]).T.double()
            count = min(CHANNELS, rows.shape[1] - 1, rows.shape[0])
            if count < 2:
                raise ZooError(f"needs at least three tokens, not {rows.shape[1]}")
            drawn = torch.randperm(len(rows), generator=generator)[:count]
            values = torch.linalg.eigvalsh(correlations(rows[drawn.to(rows.device)], "a channel"))
            score += len(rows) / count * max(float(values[0]), 0.0)
    return score


def entropic(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None) -> float:
    """Return the mean over blocks and neurons of H(p) = −p log p − (1 − p) log(1 − p).

    p is how often a neuron is on at the GELU, over tokens and samples. The score follows the entropic score (arXiv
    2310.04179), whose exact form is not known to us. Like that, it does not grow with the network.
    """
    subject = Subject(model, inputs, targets, seed)
    seen = met(subject, gelu_inputs(subject, layers))
    rates = [(x > 0).flatten(0, -2).double().mean(0) for x in seen]
    entropies = [(torch.special.entr(p) + torch.special.entr(1 - p)).mean() for p in rates]
    return float(torch.stack(entropies).mean())


def teacher_attention(model: nn.Module, teacher: nn.Module, inputs: Tensor, seed: int, layers: Layers = None) -> float:
    """Return −mean (s − t)², s and t the attention maps of student and teacher (TVT, arXiv 2311.14337, code).

    An attention map is the mean square over the channels of the last feature map, scaled to norm 1. The student's last
    feature map is the output of its last block without the class token. The teacher returns its own, samples ×
    channels × height × width; its attention map is resized to the student's grid.

    Raises:
        ZooError: the teacher returns something else, or the student's tokens are no square grid.
    """
    with untouched(model), torch.no_grad():
        last = block_paths(network_blocks(model, inputs, layers))[-1]
        with module_outputs(model, [last]) as made:
            forward(model, detached(model), inputs, seed)
        tokens = made[last].double()
    with untouched(teacher), torch.no_grad():
        features = forward(teacher, detached(teacher), inputs, seed)
    if not isinstance(features, Tensor) or features.ndim != 4 or len(features) != len(inputs):
        raise ZooError("the teacher must give its last feature map: samples × channels × height × width")
    extra = tokens.shape[1] - math.isqrt(tokens.shape[1]) ** 2
    if extra and math.isqrt(tokens.shape[1] - 1) ** 2 != tokens.shape[1] - 1:
        raise ZooError(f"{tokens.shape[1]} tokens are no square grid, nor one and a class token")
    student = tokens[:, 1 if extra else 0 :].square().mean(2)
    grid = math.isqrt(student.shape[1])
    seen = features.double().square().mean(1, keepdim=True)
    seen = nn.functional.interpolate(seen, (grid, grid), mode="bilinear", align_corners=False).flatten(1)
    unit = [nn.functional.normalize(maps, dim=1) for maps in (student, seen)]
    return -float((unit[0] - unit[1]).square().mean())
