"""Trainer: trains an architecture from scratch, with several seeds at once, and measures its accuracy.

The networks of all seeds are one batched network: their parameters are stacked along a new first axis, over which
torch.func.vmap runs the space's own network. So a step takes one pass of Python whatever the number of seeds, and a
space needs no second implementation for training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional

from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.bench_cache.spaces.registry import InputSpec, Space
from autoprox.bench_cache.training.dataset import Dataset


@dataclass(frozen=True)
class Recipe:
    """How every architecture is trained: AdamW (Loshchilov and Hutter, 1711.05101), cross-entropy, no augmentation.

    The learning rate rises linearly to `lr` over the share `warmup` of the steps, then falls to zero as a half cosine.
    Each epoch goes through the training images in a new order, in batches of `batch`; an incomplete last batch is left
    out. Gradients are clipped to the norm `clip`, for each seed separately.

    Raises:
        BenchmarkError: a number is out of range.
    """

    epochs: int = 20
    batch: int = 64
    lr: float = 2e-3
    weight_decay: float = 0.05
    warmup: float = 0.1
    clip: float = 1.0

    def __post_init__(self) -> None:
        for name, lowest in (("epochs", 1), ("batch", 1)):
            if type(getattr(self, name)) is not int or getattr(self, name) < lowest:
                raise BenchmarkError(f"{name} is {getattr(self, name)!r}; it must be a whole number from {lowest}")
        for name in ("lr", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise BenchmarkError(f"{name} is {getattr(self, name)!r}; it must be a positive number")
        for name in ("weight_decay", "warmup"):
            if not 0 <= getattr(self, name) < 1:
                raise BenchmarkError(f"{name} is {getattr(self, name)!r}; it must be at least 0 and below 1")

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate at a step, counted from 0, of `steps` in total."""
        rising = self.warmup * steps
        if step < rising:
            return self.lr * (step + 1) / (rising + 1)
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1.0, steps - rising)))


def train(
    space: Space[Any], arch: Any, spec: InputSpec, data: Dataset, recipe: Recipe, seeds: Sequence[int]
) -> list[float]:
    """Train an architecture from scratch, and return its test accuracy in percent for each seed.

    A seed decides the initial weights, together with the architecture (see `Space.build`), and the order of the images,
    which is thus the same for all architectures. The result depends on the arguments, on torch's version and number of
    threads, and on the kind of processor. Where one of these differs, accuracies differ as much as between two seeds. A
    training that diverges has the accuracy of its last weights.
    """
    networks = [space.build(arch, spec, seed) for seed in seeds]
    parameters, _ = stack_module_state(networks)
    parameters = {name: value.detach().clone().requires_grad_() for name, value in parameters.items()}
    constants = dict(networks[0].named_buffers())  # the same for all seeds
    shell = networks[0].to("meta")
    logits = vmap(lambda weights, images: functional_call(shell, {**weights, **constants}, (images,)))
    optimiser = torch.optim.AdamW(parameters.values(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    batch = min(recipe.batch, len(data.train_labels))
    per_epoch = len(data.train_labels) // batch
    steps = recipe.epochs * per_epoch
    orders = [torch.Generator().manual_seed(seed) for seed in seeds]
    for epoch in range(recipe.epochs):
        order = torch.stack([torch.randperm(len(data.train_labels), generator=order) for order in orders])
        for number in range(per_epoch):
            chosen = order[:, number * batch : (number + 1) * batch]
            out = logits(parameters, data.train_images[chosen])
            loss = functional.cross_entropy(out.flatten(0, 1), data.train_labels[chosen].flatten(), reduction="sum")
            optimiser.zero_grad()
            (loss / batch).backward()
            _clip([value.grad for value in parameters.values() if value.grad is not None], recipe.clip)
            for group in optimiser.param_groups:
                group["lr"] = recipe.rate(epoch * per_epoch + number, steps)
            optimiser.step()
    return _accuracies(logits, parameters, data)


def _clip(gradients: Sequence[Tensor], limit: float) -> None:
    """Scale the gradient of each seed, which is one slice of every tensor, to a norm of at most `limit`, in place."""
    squares = torch.stack([gradient.flatten(1).square().sum(1) for gradient in gradients]).sum(0)
    scale = (limit / (squares.sqrt() + 1e-6)).clamp_(max=1.0)
    for gradient in gradients:
        gradient.mul_(scale.view(-1, *[1] * (gradient.ndim - 1)))


@torch.no_grad()
def _accuracies(logits: Any, parameters: dict[str, Tensor], data: Dataset, batch: int = 256) -> list[float]:
    """Return, for each seed, the percentage of test images whose largest logit is that of their class.

    If `data.balanced`, it is the mean of the percentages of the classes.
    """
    seeds = len(next(iter(parameters.values())))
    right = torch.cat(
        [
            logits(parameters, images.expand(seeds, *images.shape)).argmax(-1) == labels
            for images, labels in zip(data.test_images.split(batch), data.test_labels.split(batch), strict=True)
        ],
        dim=1,
    ).double()
    if not data.balanced:
        return (100 * right.mean(1)).tolist()
    of_class = functional.one_hot(data.test_labels, data.num_classes).double()
    return (100 * (right @ of_class / of_class.sum(0)).mean(1)).tolist()
