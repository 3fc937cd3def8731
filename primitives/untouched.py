"""Untouched: run a model and leave its modes, its buffers and the random generators as they were."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.utils.checkpoint
from torch import Tensor

from autoprox.primitives.batch_norms import batch_norms
from autoprox.primitives.errors import LayerError, forward_failed


@contextmanager
def untouched(model: torch.nn.Module) -> Iterator[None]:
    """Put the model in evaluation mode and turn gradients on inside; restore modes and random generators afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    state = random.getstate()
    try:
        with torch.random.fork_rng(cuda_devices(model)), torch.inference_mode(False), torch.enable_grad():
            for module, _ in modes:
                module.training = False
            yield
    finally:
        random.setstate(state)
        for module, mode in modes:
            module.training = mode


def cuda_devices(model: torch.nn.Module) -> list[int]:
    """Return the numbers of the CUDA devices that hold parameters of the model."""
    if not torch.cuda.is_initialized():  # then no tensor is on such a device
        return []
    return sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})


def seed_everything(model: torch.nn.Module, seed: int) -> None:
    """Set the random generators as every pass of the model has them."""
    random.seed(seed)
    torch.default_generator.manual_seed(seed)
    for device in cuda_devices(model):
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def one_pass(model: torch.nn.Module, inputs: Tensor) -> object:
    """Return the model's output on the inputs; put back the buffers that the pass writes to or replaces.

    Raises:
        LayerError: the model's forward pass raises an error.
    """
    before = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    try:
        with batch_norms():
            return model(inputs)
    except LayerError:
        raise
    except Exception as error:
        raise forward_failed(model, inputs, error) from error
    finally:
        for module, name, buffer, value in before:
            if module._buffers.get(name) is not buffer:
                module._buffers[name] = buffer
            if not torch.equal(buffer, value):
                buffer.detach().copy_(value)


@contextmanager
def without_checkpointing() -> Iterator[None]:
    """Let gradient checkpoints keep their activations inside.

    What a backward pass computes again would be computed with the model's own parameters, not with those probed.
    """
    module = torch.utils.checkpoint
    generators = [name for name in vars(module) if name.startswith("_checkpoint_without_reentrant_generator")]
    kept = {name: getattr(module, name) for name in ("CheckpointFunction", *generators)}
    try:
        for name in kept:
            setattr(module, name, _PlainCall if name == "CheckpointFunction" else _plain_generator)
        yield
    finally:
        for name, original in kept.items():
            setattr(module, name, original)


class _PlainCall:
    @staticmethod
    def apply(function: Callable[..., Any], preserve_rng_state: bool, *args: Any) -> Any:
        return function(*args)


def _plain_generator(*args: Any, **kwargs: Any) -> Iterator[None]:
    yield
