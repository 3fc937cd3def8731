"""Batch: what a probe runs a network on, the class scores in what the network returns, and the loss."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from autoprox.primitives.errors import LayerError


def checked_batch(inputs: Tensor | None, targets: Tensor | None, halved: bool) -> Tensor:
    """Return the inputs, detached.

    Raises:
        LayerError: there is no batch, or the targets are not its class numbers, or a batch to be `halved` is odd.
    """
    if inputs is None:
        raise LayerError("this formula runs the network: give it a batch of inputs")
    if not isinstance(inputs, Tensor) or not inputs.ndim or not len(inputs):
        raise LayerError("the batch of inputs must be a tensor, samples first, with at least one sample")
    if halved and len(inputs) % 2:
        raise LayerError(f"weight_grad_batches halves the batch: give an even number of samples, not {len(inputs)}")
    wrong = targets is not None and (targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool)
    if targets is not None and (wrong or targets.shape != inputs.shape[:1]):
        raise LayerError(
            f"targets must be {len(inputs)} class numbers, one for each sample, "
            f"not a tensor of shape {tuple(targets.shape)} and {targets.dtype}"
        )
    return inputs.detach()


def probe_batch(probe: str, inputs: Tensor, targets: Tensor | None, seed: int) -> tuple[Tensor, Tensor | None]:
    """Return the inputs and targets that a probe runs; without targets, random ones are drawn later."""
    if probe == "data":
        return inputs, targets
    if probe == "synflow":
        return torch.ones_like(inputs[:1]), None
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(inputs.shape, generator=generator, dtype=torch.float32, device="cpu").to(inputs), None


def random_targets(samples: int, seed: int) -> Tensor:
    """Return numbers in [0, 1) that become random classes once the number of classes is known."""
    generator = torch.Generator().manual_seed(seed + 1)
    return torch.rand(samples, generator=generator, dtype=torch.float32, device="cpu")


def logits_of(output: object) -> Tensor:
    """Return the class scores in what a model returns.

    Raises:
        LayerError: there are none.
    """
    logits = output["logits"] if isinstance(output, Mapping) and "logits" in output else output
    logits = getattr(logits, "logits", logits)
    logits = logits[0] if isinstance(logits, tuple) else logits
    if not isinstance(logits, Tensor):
        raise LayerError(
            f"the model returns {type(output).__name__}; class scores (samples × classes) are needed; "
            "autoprox.Readout (--readout) says what stands for them"
        )
    return logits


def loss_of(output: object, probe: str, y: Tensor) -> Tensor:
    """Return the loss of a probe: the sum of the outputs for `synflow`, else cross-entropy.

    Raises:
        LayerError: the outputs are no class scores, no gradient reaches them, or targets are no classes of the model.
    """
    logits = logits_of(output)
    if logits.is_complex():
        raise LayerError(f"the model returns {logits.dtype} numbers; class scores must be real")
    if not logits.requires_grad:
        raise LayerError(
            "no gradient reaches the model's layers: its forward pass detaches them, or runs under no_grad"
        )
    if probe == "synflow":
        return logits.sum()
    if logits.ndim != 2 or len(logits) != len(y):
        raise LayerError(
            f"the model returns a tensor of shape {tuple(logits.shape)} for {len(y)} samples; "
            "class scores (samples × classes) are needed; autoprox.Readout (--readout) says what stands for them"
        )
    classes = logits.shape[1]
    y = (y * classes if y.is_floating_point() else y).to(logits.device).long()
    if not 0 <= int(y.min()) <= int(y.max()) < classes:
        raise LayerError(
            f"targets must be class numbers from 0 to {classes - 1}, as the model has {classes} classes; "
            f"there are some from {int(y.min())} to {int(y.max())}"
        )
    logits = logits if logits.dtype in (torch.float32, torch.float64) else logits.float()
    return functional.cross_entropy(logits, y)
