"""Few steps: a short training on made-up images. Copies of a network's parameters are trained, and it stays as it was.

Uses torch and the standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from autoprox.primitives.batch import logits_of, loss_of
from autoprox.primitives.capture import forward
from autoprox.primitives.errors import LayerError, backward_failed
from autoprox.primitives.untouched import untouched

#: Adam's learning rate, how many images a step sees under the probe `stepsK`, and of how many classes at most.
RATE = 3e-3
BATCH = 16
CLASSES = 10
#: How often the images that are left are drawn, where the network is not finite on them.
DRAWS = 8


@dataclass(frozen=True, eq=False)
class Trained:
    """What a short training gave.

    `parameters` by name, `losses` of the steps, each before it was taken, and further `images` with their `targets`,
    which were not trained on.
    """

    parameters: Mapping[str, Tensor]
    losses: tuple[float, ...]
    images: Tensor
    targets: Tensor


def trained(model: torch.nn.Module, like: Tensor, steps: int, seed: int, batch: int) -> Trained:
    """Return the parameters of the model after `steps` steps of Adam on made-up images, and as many images as `like`.

    Each class is a cloud: noise of deviation 1 whose amplitude falls as 1 / frequency, as in natural images. There are
    as many as the model has classes, CLASSES at most. An image is the cloud of its class plus another one; no image is
    seen twice. Each step takes the cross-entropy of `batch` images in the shape of those of `like`, at the learning
    rate RATE, and moves all parameters. The network is in evaluation mode: nothing is dropped, and batch norms
    normalise as in every other pass. All draws follow from `seed`. Where a gradient is not finite, the training ends
    before the step that led there, and there are fewer losses. Where the network is not finite on the images that are
    left, others are drawn: DRAWS times, and as often without the last step.

    Raises:
        LayerError: `like` are no images (samples × channels × height × width), or the model cannot be trained.
    """
    if like.ndim != 4 or not like.is_floating_point():
        raise LayerError(
            f"training for a few steps needs images, samples × channels × height × width, not inputs of shape "
            f"{tuple(like.shape)} and {like.dtype}"
        )
    generator = torch.Generator().manual_seed(seed)
    with untouched(model):
        copies = _Copies(model, seed)
        with torch.no_grad():
            classes = min(logits_of(forward(model, copies.named, like[:1], seed)).shape[-1], CLASSES)
        centres = _clouds(classes, like, generator)
        losses = []
        for _ in range(steps):
            loss, slopes = copies.differentiated(*_drawn(centres, batch, generator))
            if not slopes:
                copies.undo()
                break
            losses.append(loss)
            copies.step(slopes)
        for draw in range(2 * DRAWS):
            if draw == DRAWS:
                copies.undo()
            images, targets = _drawn(centres, len(like), generator)
            if copies.differentiated(images, targets)[1]:
                break
    return Trained({name: p.detach() for name, p in copies.named.items()}, tuple(losses), images, targets)


class _Copies:
    """Copies of a model's parameters, which Adam moves."""

    def __init__(self, model: torch.nn.Module, seed: int) -> None:
        self.model, self.seed = model, seed
        self.named = {name: p.clone().detach() for name, p in model.named_parameters()}  # a clone can have a gradient
        self.moved = [p.requires_grad_() for p in self.named.values() if p.is_floating_point()]
        self.before = [p.detach().clone() for p in self.moved]
        self.optimizer = torch.optim.Adam(self.moved, lr=RATE)

    def differentiated(self, images: Tensor, targets: Tensor) -> tuple[float, list[Tensor]]:
        """Return the loss and its gradients; no gradients where a number is not finite."""
        loss = loss_of(forward(self.model, self.named, images, self.seed), "data", targets)
        try:
            found = torch.autograd.grad(loss, self.moved, allow_unused=True)
        except RuntimeError as error:
            raise backward_failed(error) from error
        slopes = [torch.zeros_like(p) if slope is None else slope for p, slope in zip(self.moved, found, strict=True)]
        finite = all(bool(torch.isfinite(each).all()) for each in (loss, *slopes))
        return float(loss.detach()), slopes if finite else []

    def step(self, slopes: list[Tensor]) -> None:
        self.before = [p.detach().clone() for p in self.moved]
        for parameter, slope in zip(self.moved, slopes, strict=True):
            parameter.grad = slope
        self.optimizer.step()

    def undo(self) -> None:
        """Undo the last step."""
        for parameter, value in zip(self.moved, self.before, strict=True):
            parameter.detach().copy_(value)


def _drawn(centres: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return images and their classes."""
    targets = torch.randint(len(centres), (count,), generator=generator).to(centres.device)
    return centres[targets] + _clouds(count, centres, generator), targets


def _clouds(count: int, like: Tensor, generator: torch.Generator) -> Tensor:
    """Return noise whose amplitude falls as 1 / frequency, of mean 0 and deviation 1: count × the shape of a sample."""
    height, width = like.shape[-2:]
    frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width))
    frequency[0, 0] = torch.inf
    drawn = torch.randn((count, *like.shape[1:]), generator=generator)
    clouds = torch.fft.ifft2(torch.fft.fft2(drawn) / frequency).real
    return (clouds / clouds.std((1, 2, 3), keepdim=True)).to(like)
