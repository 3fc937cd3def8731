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
from contextlib import AbstractContextManager, contextmanager, nullcontext
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
    with telling(f"training of {space.key(arch)} on {data.name}"):
        return _trained(networks, data, recipe, seeds)


@contextmanager
def telling(doing: str) -> Iterator[None]:
    """Make one line of what a network raises inside.

    Raises:
        BenchmarkError: something is raised; the message says what fails, and how.
    """
    try:
        yield
    except BenchmarkError:
        raise
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
        raise BenchmarkError(f"{doing} fails with {described(error)}") from error


@dataclass(frozen=True)
class EpochResult:
    """Mean loss and accuracy in percent, for each seed, over the training images as an epoch learned them."""

    loss: list[float]
    accuracy: list[float]


class Training:
    """The training of an architecture from several seeds at once, epoch by epoch.

    `networks` have the initial weights of each seed, and are used up. On a CUDA device the passes are in mixed
    precision: products are of bfloat16, weights and sums of float32.

    Attributes:
        epoch: the number of epochs that are done.
    """

    def __init__(
        self, networks: Sequence[nn.Module], data: Dataset, recipe: Recipe, seeds: Sequence[int], device: str = "cpu"
    ) -> None:
        self.recipe, self.device, self.epoch = recipe, torch.device(device), 0
        self.data = data.to(self.device)
        self._stored = _stored_names(networks[0])
        parameters, _ = stack_module_state([network.to(self.device) for network in networks])
        self.parameters = {name: value.detach().clone().requires_grad_() for name, value in parameters.items()}
        self.buffers = [{name: value.detach().clone() for name, value in each.named_buffers()} for each in networks]
        self.shell = networks[0].to("meta")
        self._modes = [(module, module.training) for module in self.shell.modules()]
        self._logits = _batched(self.shell, self.parameters, self.buffers, self.data.train_images[:2], self._mixed)
        values = self.parameters.values()
        self.optimiser = torch.optim.AdamW(values, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
        self._orders = [torch.Generator().manual_seed(seed) for seed in seeds]

    def _mixed(self) -> AbstractContextManager[Any]:
        return torch.autocast("cuda", torch.bfloat16) if self.device.type == "cuda" else nullcontext()

    def run_epoch(self) -> EpochResult:
        """Go through the training images once. What is random in the networks follows from the epoch's number."""
        labels = self.data.train_labels
        batch = min(self.recipe.batch, len(labels))
        steps = len(labels) // batch
        for module, mode in self._modes:
            module.training = mode
        with seeded(self.epoch):
            order = self._next_order()
            found = [
                self._step(order[:, number * batch : (number + 1) * batch], self.epoch * steps + number, steps)
                for number in range(steps)
            ]
        self.epoch += 1
        sums = (torch.stack(each).sum(0).cpu().double() for each in zip(*found, strict=True))
        loss, right = (total / (steps * batch) for total in sums)
        return EpochResult(loss.tolist(), (100 * right).tolist())

    def _next_order(self) -> Tensor:
        """Return the order of the training images in the next epoch, seeds × images."""
        count = len(self.data.train_labels)
        return torch.stack([torch.randperm(count, generator=order) for order in self._orders]).to(self.device)

    def _step(self, chosen: Tensor, step: int, per_epoch: int) -> tuple[Tensor, Tensor]:
        """Learn from the chosen images, seeds × batch; return each seed's sum of losses and count of right answers."""
        labels = self.data.train_labels[chosen]
        with self._mixed():
            out = self._logits(self.parameters, self.data.train_images[chosen])
            losses = functional.cross_entropy(out.flatten(0, 1), labels.flatten(), reduction="none")
        self.optimiser.zero_grad()
        (losses.sum() / chosen.shape[1]).backward()
        _clip([value.grad for value in self.parameters.values() if value.grad is not None], self.recipe.clip)
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.rate(step, self.recipe.epochs * per_epoch)
        self.optimiser.step()
        with torch.no_grad():
            return losses.view(labels.shape).sum(1), (out.argmax(-1) == labels).sum(1)

    def test_accuracies(self) -> list[float]:
        """Return the accuracy of each seed on the test images, in percent (see `_accuracies`)."""
        self.shell.eval()
        with seeded(0), _no_fast_path(), self._mixed():
            return _accuracies(self._logits, self.parameters, self.data)

    def weights(self, place: int) -> dict[str, Tensor]:
        """Return the state_dict of the network of one seed, on the CPU."""
        values = {**{name: value[place] for name, value in self.parameters.items()}, **self.buffers[place]}
        return {name: values[source].detach().cpu().clone() for name, source in self._stored.items()}

    def state(self) -> dict[str, Any]:
        """Return what `restore` takes: tensors, numbers, and texts, which torch.load reads with weights_only=True."""
        parameters = {name: value.detach() for name, value in self.parameters.items()}
        optimiser = self.optimiser.state_dict()
        return {"epoch": self.epoch, "parameters": parameters, "buffers": self.buffers, "optimiser": optimiser}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a state of the same training.

        Raises:
            KeyError, ValueError, RuntimeError: it is of another training.
        """
        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(state["parameters"][name])
            for own, stored in zip(self.buffers, state["buffers"], strict=True):
                for name, value in own.items():
                    value.copy_(stored[name])
        self.optimiser.load_state_dict(state["optimiser"])
        while self.epoch < state["epoch"]:
            self._next_order()
            self.epoch += 1


def _trained(networks: Sequence[nn.Module], data: Dataset, recipe: Recipe, seeds: Sequence[int]) -> list[float]:
    training = Training(networks, data, recipe, seeds)
    while training.epoch < recipe.epochs:
        training.run_epoch()
    return training.test_accuracies()


def _stored_names(network: nn.Module) -> dict[str, str]:
    """Return the names in the network's state_dict, each with the name under which its tensor is trained or kept."""
    every = (*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False))
    first: dict[int, str] = {}
    for name, value in (*network.named_parameters(), *network.named_buffers()):
        first.setdefault(id(value), name)
    known = {name: first[id(value)] for name, value in every}
    return {name: known[name] for name in network.state_dict() if name in known}


@contextmanager
def _no_fast_path() -> Iterator[None]:
    """Keep torch's own transformer layers from a fused kernel in evaluation mode, which vmap cannot run."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _batched(
    shell: nn.Module,
    parameters: Mapping[str, Tensor],
    buffers: Sequence[Mapping[str, Tensor]],
    images: Tensor,
    mixed: Callable[[], AbstractContextManager[Any]],
) -> Logits:
    """Return the function that gives the class scores of all seeds, seeds × samples × classes.

    It runs all at once where vmap can, also in the context `mixed`, and gives on some images what the networks give one
    by one. Otherwise it runs one by one, each network with buffers of its own. `shell` is the network without values.
    """

    def one_by_one(weights: Mapping[str, Tensor], images: Tensor) -> Tensor:
        parts = zip(buffers, images, strict=True)
        return torch.stack(
            [
                functional_call(shell, {**{name: value[n] for name, value in weights.items()}, **own}, (part,))
                for n, (own, part) in enumerate(parts)
            ]
        )

    together = vmap(lambda weights, images: functional_call(shell, {**weights, **buffers[0]}, (images,)))
    tried = images.expand(len(buffers), *images.shape)
    kept = [{name: value.clone() for name, value in own.items()} for own in buffers]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # vmap warns where it is slower than one by one
        try:
            with mixed():
                together(parameters, tried)
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
    )
    right = right.cpu().double()
    if not data.balanced:
        return (100 * right.mean(1)).tolist()
    of_class = functional.one_hot(data.test_labels.cpu(), data.num_classes).double()
    return (100 * (right @ of_class / of_class.sum(0)).mean(1)).tolist()
