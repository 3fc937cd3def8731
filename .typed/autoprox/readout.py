"""Readout: of what a model returns, the part that stands for its class scores."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from autoprox.primitives import LayerError


class Readout(torch.nn.Module):
    """A model that returns one tensor, samples × features, of what another model returns.

    `name` is a path into the output: keys, attributes and positions, with dots between them, such as
    `last_hidden_state`, `features.0` or `1`. It is empty where the output itself is the tensor. Of tokens (samples ×
    tokens × features) and of feature maps (samples × channels × height × width) the mean is taken. The features stand
    for class scores: the loss of a proxy is the cross-entropy against one of them.

    The model is the submodule `model`, so names in `layers=` begin with `model.`; nothing is assigned to it.
    """

    def __init__(self, model: torch.nn.Module, name: str = "") -> None:
        super().__init__()
        self.model = model
        self.name = name

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the part of the model's output.

        Raises:
            LayerError: the output has no such part, or the part is no tensor with samples and features.
        """
        part: object = self.model(inputs)
        for step in self.name.split(".") if self.name else ():
            part = _inside(part, step, self.name)
        if not isinstance(part, Tensor) or part.ndim not in (2, 3, 4):
            shown = f"a tensor of shape {tuple(part.shape)}" if isinstance(part, Tensor) else type(part).__name__
            raise LayerError(
                f"the readout '{self.name}' is {shown}; samples × features, samples × tokens × features or samples × "
                f"channels × height × width are needed; {parts_of(part)}"
            )
        return part.mean(1) if part.ndim == 3 else part.mean((2, 3)) if part.ndim == 4 else part


def _inside(part: object, step: str, name: str) -> object:
    """Return what a key, an attribute or a position leads to."""
    if isinstance(part, Mapping) and step in part:
        return part[step]
    if isinstance(part, tuple | list) and step.isdecimal() and int(step) < len(part):
        return part[int(step)]
    if not isinstance(part, Tensor) and isinstance(getattr(part, step, None), Tensor | tuple | list | Mapping):
        return getattr(part, step)
    raise LayerError(f"the readout '{name}' leads nowhere: there is no '{step}'; {parts_of(part)}")


def parts_of(output: object) -> str:
    """Return what a model's output has that may be read, for a message: names, and the shapes of tensors."""
    if isinstance(output, Tensor):
        return f"it is a tensor of shape {tuple(output.shape)}"
    if isinstance(output, Mapping):
        inside = [(str(key), value) for key, value in output.items()]
    elif isinstance(output, tuple | list):
        inside = [(str(number), value) for number, value in enumerate(output)]
    else:
        inside = [(name, value) for name, value in vars(output).items()] if hasattr(output, "__dict__") else []
    shown = [
        f"'{name}' ({' × '.join(map(str, value.shape))})" if isinstance(value, Tensor) else f"'{name}'"
        for name, value in inside
        if isinstance(value, Tensor | tuple | list | Mapping)
    ]
    return f"{type(output).__name__} has {', '.join(shown[:8]) or 'nothing to read'}"
