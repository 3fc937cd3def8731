"""Proxies of the zoo from what passes the network: on/off patterns, correlations, entropies, distances.

Every function takes (model, inputs, targets, seed, layers), returns a score that is higher for better networks, and
leaves the model as it was. The inputs of the GELUs are the outputs of fc1: hooks on GELU modules would miss networks
that call the function, and a GELU is "on" where its input is positive.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from autoprox.primitives import find_blocks
from autoprox.primitives.probe import forward, logits_of, probe_batch, untouched
from autoprox.scoring import Layers
from autoprox.zoo.tools import (
    ZooError,
    block_linears,
    block_paths,
    captured_inputs,
    correlations,
    detached,
    enough_samples,
    outputs,
    slot_linears,
)

#: On/off bits of so many samples are one word: two words, or one and the number of a pattern, fit into 64 bits.
_WORD = 31


def union_of_patterns(on: Sequence[Tensor]) -> int:
    """How many distinct on/off patterns over the samples the neurons of several layers show, all layers together.

    Each tensor is samples × neurons, boolean.
    """
    words = [[_packed(part) for part in layer.split(_WORD)] for layer in on]
    if len(words[0]) == 1:
        return len(torch.unique(torch.cat([torch.unique(layer[0]) for layer in words])))
    first, *others = (torch.cat(column) for column in zip(*words, strict=True))
    for word in others:  # the patterns so far are numbered, and each number is joined with the next word
        first = torch.unique(first, return_inverse=True)[1] << _WORD | word
    return len(torch.unique(first))


def _packed(on: Tensor) -> Tensor:
    """Up to 31 samples × neurons, boolean, as one number for each neuron."""
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
    """Ψ: the number of distinct patterns over the samples of all neurons at the GELUs' inputs, all blocks together.

    A neuron is a feature of a token, and its pattern says in which samples it is on (SWAP, arXiv 2403.04161; L-SWAG,
    arXiv 2505.07300, Eq. 1). `chosen(block, blocks)` restricts the blocks. S samples have at most 2^S patterns.
    """
    enough_samples(inputs, 2)
    with untouched(model):
        paths = slot_linears(model, "fc1", layers)
        kept = [path for number, path in enumerate(paths) if chosen is None or chosen(number, len(paths))]
        if not kept:
            raise ZooError(f"none of the {len(paths)} blocks is in the range")
        return float(union_of_patterns([(x > 0).flatten(1) for x in outputs(model, kept, inputs, seed)]))


def nwot(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None) -> float:
    """log |det K|, K_ij how many neurons at the GELUs' inputs, over all blocks, agree in samples i and j.

    (NWOT, arXiv 2006.04647.) Raises ZooError where K is singular, as two samples of one code make it.
    """
    enough_samples(inputs, 2)
    with untouched(model):
        kernel = torch.zeros(len(inputs), len(inputs), dtype=torch.float64)
        for x in outputs(model, slot_linears(model, "fc1", layers), inputs, seed):
            signs = (x > 0).flatten(1).float() * 2 - 1
            kernel += ((signs @ signs.mT).double() + signs.shape[1]).cpu() / 2
    values = torch.linalg.eigvalsh(kernel)
    if not values[0] > values[-1] * len(values) * torch.finfo(values.dtype).eps:
        raise ZooError("the kernel of agreements is singular: there are samples that the network cannot tell apart")
    return float(values.log().sum())


def eznas(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None) -> float:
    """mean_l ‖X_l‖_F², X_l the input of linear l of the blocks under Gaussian input (EZNAS, arXiv 2209.07413, code)."""
    with untouched(model), torch.no_grad():
        noise, _ = probe_batch("noise", inputs, None, seed)
        paths = block_linears(find_blocks(model, layers))
        with captured_inputs(model, paths) as seen:
            forward(model, detached(model), noise, seed)
        return sum(float(seen[path].double().square().sum()) for path in paths) / len(paths)


#: How far Zen's second input is from its first.
MIXUP = 0.01


def zen(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None) -> float:
    """log mean |f(x) − f(x + 0.01 ε)|, x and ε Gaussian of the batch's shape, f the class scores.

    What is left of Zen-score (arXiv 2102.01063, Alg. 1) without batch normalisation, whose variances it adds.
    """
    with untouched(model), torch.no_grad():
        x, _ = probe_batch("noise", inputs, None, seed)
        step, _ = probe_batch("noise", inputs, None, seed + 1)
        f, near = (logits_of(forward(model, detached(model), z, seed)).double() for z in (x, x + MIXUP * step))
    distance = float((f - near).abs().mean())
    if not distance > 0:
        raise ZooError("the network gives the same for different inputs")
    return math.log(distance)


#: Channels whose correlations MeCo takes in each layer, where tokens allow so many.
CHANNELS = 8


def meco(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None) -> float:
    """Σ_l (C_l / k) λ_min(corr X_l), X_l k of the C_l channels of layer l on one Gaussian input, as rows over tokens.

    (MeCo_opt, NeurIPS 2023, code.) Layers are the blocks' linears; k = 8, or one less than the tokens, since more
    channels than that are always singular. The channels are drawn from the seed.
    """
    generator = torch.Generator().manual_seed(seed)
    score = 0.0
    with untouched(model):
        noise, _ = probe_batch("noise", inputs[:1], None, seed)
        for x in outputs(model, block_linears(find_blocks(model, layers)), noise, seed):
            rows = x.reshape(-1, x.shape[-1]).T.double()
            count = min(CHANNELS, rows.shape[1] - 1, rows.shape[0])
            if count < 2:
                raise ZooError(f"needs at least three tokens, not {rows.shape[1]}")
            drawn = torch.randperm(len(rows), generator=generator)[:count]
            values = torch.linalg.eigvalsh(correlations(rows[drawn.to(rows.device)], "a channel"))
            score += len(rows) / count * max(float(values[0]), 0.0)
    return score


def entropic(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None) -> float:
    """mean over blocks and neurons of H(p) = −p log p − (1 − p) log(1 − p), p how often a neuron is on at the GELU.

    p is taken over tokens and samples. After the entropic score (arXiv 2310.04179), whose exact form is not known to
    us; like it, the score does not grow with the network.
    """
    with untouched(model):
        seen = outputs(model, slot_linears(model, "fc1", layers), inputs, seed)
    rates = [(x > 0).flatten(0, -2).double().mean(0) for x in seen]
    entropies = [(torch.special.entr(p) + torch.special.entr(1 - p)).mean() for p in rates]
    return float(torch.stack(entropies).mean())


def teacher_attention(model: nn.Module, teacher: nn.Module, inputs: Tensor, seed: int, layers: Layers = None) -> float:
    """−mean (s − t)², s and t the channel-mean-square maps of student's and teacher's last feature, each of norm 1.

    (TVT, arXiv 2311.14337, code.) The teacher gives samples × channels × height × width, resized to the student's
    grid; the student's feature is its last block's output without the class token.
    """
    with untouched(model):
        tokens = outputs(model, block_paths(find_blocks(model, layers))[-1:], inputs, seed)[0].double()
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
