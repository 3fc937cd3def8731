"""Proxies of the zoo that train for a few steps. They are no zero-cost proxies, and their records say so.

Copies of the parameters are trained; the model is left as it was. Where a source leaves something open, or is not fully
known to us, the choice is ours, and the docstring says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from autoprox.primitives.batch import logits_of
from autoprox.primitives.capture import forward
from autoprox.primitives.few_steps import trained
from autoprox.primitives.untouched import untouched
from autoprox.scoring import Layers
from autoprox.zoo.tools import (
    ZooError,
    block_paths,
    detached,
    enough_samples,
    gradients,
    module_outputs,
    network_blocks,
    network_weights,
    weight_gradients,
)

#: GenNAS: steps and learning rate of Adam, and the number of target signals of each stage.
REGRESSION_STEPS = 3
REGRESSION_RATE = 1e-3
SIGNALS = 8

#: Training speed: steps, and how many losses count at the end.
SPEED_STEPS = 100
SPEED_LAST = 10

#: SiGeo: steps and learning rate of plain gradient descent.
WARMUP_STEPS = 3
WARMUP_RATE = 0.01


def gennas(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None) -> float:
    """Return −mean squared error of fitting three blocks' tokens to 2-D sine waves, after a few steps of Adam.

    From GenNAS (arXiv 2108.01899) come the features of three stages with a linear head on each, synthetic targets
    instead of labels, and the loss after a few steps. Our choices:

    - The stages are the blocks at one, two and three thirds of the depth, without class tokens.
    - The targets are SIGNALS waves sin(2π(u y + v x) + φ) on the tokens' grid, the same for all samples. u and v are
      uniform in ±1/4 per token, and φ is uniform over a turn.
    - There are REGRESSION_STEPS steps at the rate REGRESSION_RATE.

    Raises:
        ZooError: the tokens are no square grid, or a gradient is not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    with untouched(model):
        paths = block_paths(network_blocks(model, inputs, layers))
        stages = [paths[math.ceil(len(paths) * third / 3) - 1] for third in (1, 2, 3)]
        trained = {name: p.clone().requires_grad_() for name, p in detached(model).items()}
        features = _stage_features(model, trained, stages, inputs, seed)
        waves = [_waves(x, generator) for x in features]
        heads = [_head(x, generator) for x in features]
        parameters = [*trained.values(), *heads]
        optimizer = torch.optim.Adam(parameters, lr=REGRESSION_RATE)
        for _ in range(REGRESSION_STEPS):
            slopes = gradients(_regression_loss(features, heads, waves), parameters)
            for parameter, slope in zip(parameters, slopes, strict=True):
                parameter.grad = slope
            optimizer.step()
            features = _stage_features(model, trained, stages, inputs, seed)
        return -float(_regression_loss(features, heads, waves).detach())


def _stage_features(
    model: nn.Module, parameters: dict[str, Tensor], stages: Sequence[str], x: Tensor, seed: int
) -> list[Tensor]:
    """Return the stages' patch tokens, samples × tokens × features, each token scaled to mean 0 and deviation 1."""
    with module_outputs(model, stages) as seen:
        forward(model, parameters, x, seed)
    found = []
    for path in stages:
        tokens = seen[path].shape[1]
        patches = seen[path] if math.isqrt(tokens) ** 2 == tokens else seen[path][:, 1:]
        if math.isqrt(patches.shape[1]) ** 2 != patches.shape[1]:
            raise ZooError(f"{tokens} tokens are no square grid, nor one and a class token")
        found.append(nn.functional.layer_norm(patches, patches.shape[-1:]))
    return found


def _waves(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return target signals on the tokens' grid: tokens × SIGNALS."""
    grid = math.isqrt(x.shape[1])
    u, v, phase = (torch.rand(SIGNALS, generator=generator) for _ in range(3))
    place = torch.arange(grid, dtype=torch.float32)
    turns = place[:, None, None] * (u - 0.5) / 2 + place[None, :, None] * (v - 0.5) / 2 + phase
    return (2 * math.pi * turns).sin().flatten(0, 1).to(x)


def _head(x: Tensor, generator: torch.Generator) -> Tensor:
    weights = torch.randn(x.shape[-1], SIGNALS, generator=generator) * x.shape[-1] ** -0.5
    return weights.to(x).detach().requires_grad_()


def _regression_loss(features: Sequence[Tensor], heads: Sequence[Tensor], waves: Sequence[Tensor]) -> Tensor:
    errors = [(x @ head - wave).square().mean() for x, head, wave in zip(features, heads, waves, strict=True)]
    return torch.stack(errors).mean()


def sigeo(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None) -> float:
    """Return log mean_i ‖∇ L_i‖² − L after a few steps of gradient descent, L_i the loss of sample i, L their mean.

    From SiGeo (arXiv 2311.13169) come the warm-up on little data, and a score of Fisher information and loss. Its
    exact form is not known to us. Ours is the logarithm of the trace of the empirical Fisher information, minus the
    loss, equally weighted. It reads all weights of linears and convolutions. WARMUP_STEPS and WARMUP_RATE are ours too.

    Raises:
        ZooError: there are fewer than two samples, or no gradient reaches the weights, or one is not finite.
    """
    enough_samples(inputs, 2)
    with untouched(model):
        names = network_weights(model)
        at = detached(model)
        for _ in range(WARMUP_STEPS):
            slopes = weight_gradients(model, names, inputs, targets, seed, at)
            at |= {name: at[name] - WARMUP_RATE * slope for name, slope in zip(names, slopes, strict=True)}
        trace = 0.0
        for i in range(len(inputs)):
            slopes = weight_gradients(model, names, inputs[i : i + 1], targets[i : i + 1], seed, at)
            trace += sum(float(slope.double().square().sum()) for slope in slopes) / len(inputs)
        with torch.no_grad():
            logits = forward(model, at, inputs, seed)
        loss = float(nn.functional.cross_entropy(logits_of(logits), targets.long()))
    if not trace > 0:
        raise ZooError("no gradient reaches the weights")
    return math.log(trace) - loss


def training_speed(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None) -> float:
    """Return −mean loss of the last steps of a short training on made-up images.

    From the training speed estimator with late losses, TSE-E (Ru et al., NeurIPS 2021, arXiv 2006.04492), comes the sum
    of the training losses of the last part of a training. What is trained on is ours, and needs no data: the clouds of
    `primitives.few_steps.trained`, in batches as large as that of the `inputs`. There are SPEED_STEPS steps, and the
    last SPEED_LAST losses count.

    The `inputs` give the size of the images and of the batches alone, and the `targets` nothing.

    Raises:
        LayerError: the inputs are no images (samples × channels × height × width).
        ZooError: a gradient is not finite.
    """
    losses = trained(model, inputs, SPEED_STEPS, seed, len(inputs)).losses
    if len(losses) < SPEED_STEPS:
        raise ZooError(f"gradients are NaN or infinite after {len(losses)} steps; look at the initial weights")
    return -sum(losses[-SPEED_LAST:]) / len(losses[-SPEED_LAST:])
