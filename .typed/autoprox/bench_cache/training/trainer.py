"""Trainer: trains an architecture from scratch, with several seeds at once, and measures its accuracy.

The networks of all seeds are one batched network: their parameters are stacked along a new first axis, over which
torch.func.vmap runs the space's own network. So a step takes one pass of Python whatever the number of seeds, and a
space needs no second implementation for training. A network that vmap cannot run, such as one with dropout or batch
norm, runs once for each seed.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional

from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.bench_cache.runtime.user_code import described, seeded
from autoprox.bench_cache.spaces.registry import InputSpec, Space
from autoprox.bench_cache.training.dataset import Dataset

#: Takes the stacked weights of all seeds, and images for each seed, and returns class scores.
Logits = Callable[[Mapping[str, Tensor], Tensor], Tensor]


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
    try:
        with seeded(0):  # for dropout and the like
            return _trained(networks, data, recipe, seeds)
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
        raise BenchmarkError(f"training of {space.key(arch)} on {data.name} fails with {described(error)}") from error


def _trained(networks: Sequence[nn.Module], data: Dataset, recipe: Recipe, seeds: Sequence[int]) -> list[float]:
    parameters, _ = stack_module_state(list(networks))
    parameters = {name: value.detach().clone().requires_grad_() for name, value in parameters.items()}
    logits = _batched(networks, parameters, data.train_images[:2])
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
    networks[0].eval()
    with _no_fast_path():
        return _accuracies(logits, parameters, data)


@contextmanager
def _no_fast_path() -> Iterator[None]:
    """Keep torch's own transformer layers from a fused kernel in evaluation mode, which vmap cannot run."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _batched(networks: Sequence[nn.Module], parameters: Mapping[str, Tensor], images: Tensor) -> Logits:
    """Return the function that gives the class scores of all seeds, seeds × samples × classes.

    It runs all at once where vmap can, and gives on some images what the networks give one by one. Otherwise it runs
    one by one, each network with buffers of its own.
    """
    buffers = [{name: value.detach().clone() for name, value in each.named_buffers()} for each in networks]
    shell = networks[0].to("meta")

    def one_by_one(weights: Mapping[str, Tensor], images: Tensor) -> Tensor:
        parts = zip(buffers, images, strict=True)
        return torch.stack(
            [
                functional_call(shell, {**{name: value[n] for name, value in weights.items()}, **own}, (part,))
                for n, (own, part) in enumerate(parts)
            ]
        )

    together = vmap(lambda weights, images: functional_call(shell, {**weights, **buffers[0]}, (images,)))
    tried = images.expand(len(networks), *images.shape)
    kept = [{name: value.clone() for name, value in own.items()} for own in buffers]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # vmap warns where it is slower than one by one
        try:
            found = together(parameters, tried)
        except (RuntimeError, ValueError, TypeError, UserWarning):  # vmap has no one error for what it cannot do
            return one_by_one
        alike = torch.allclose(found, one_by_one(parameters, tried), rtol=1e-3, atol=1e-4)
    same = all(torch.equal(own[name], before[name]) for own, before in zip(buffers, kept, strict=True) for name in own)
    return together if alike and same else one_by_one


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
