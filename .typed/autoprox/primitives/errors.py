"""Errors: what a model has not, and what it or torch raises in a pass, told in one line, with cause and fix if known.

Uses torch and the standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class LayerError(ValueError):
    """A model whose layers cannot be found, that lacks what a formula reads, or that does not run."""


def forward_failed(model: torch.nn.Module, inputs: Tensor, error: Exception) -> LayerError:
    """Return what to raise where the forward pass of a model raises an error."""
    shape = " × ".join(map(str, inputs.shape))
    told = f"the forward pass of {type(model).__name__} on a batch of {shape} ({_name(inputs.dtype)}) fails"
    cause = _cause(model, inputs, error)
    return LayerError(f"{told}: {cause} ({described(error)})" if cause else f"{told} with {described(error)}")


def backward_failed(error: Exception) -> LayerError:
    """Return what to raise where the backward pass raises an error."""
    return LayerError(f"the backward pass fails{_memory(error)} with {described(error)}")


def described(error: BaseException) -> str:
    """Return the kind of an error and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def _cause(model: torch.nn.Module, inputs: Tensor, error: Exception) -> str:
    """Return why a forward pass may fail, and the fix; empty where neither the types nor the devices differ."""
    tensors = [*model.parameters(), *model.buffers()]
    devices = sorted({str(tensor.device) for tensor in tensors})
    types = _distinct(_name(p.dtype) for p in model.parameters() if p.is_floating_point())
    given = _name(inputs.dtype)
    if _memory(error):
        return "there is too little memory; give fewer samples"
    if len(devices) > 1:
        return f"the model is on {' and '.join(devices)}; move it to one device, as with model.to('{devices[-1]}')"
    if devices and str(inputs.device) not in devices:
        return f"the batch is on {inputs.device} and the model on {devices[0]}; give inputs.to('{devices[0]}')"
    if len(types) > 1:
        return f"the parameters are {' and '.join(types)}; give them one type, as with model.float()"
    if types and given != types[0] and (inputs.is_floating_point() or inputs.is_complex() or inputs.ndim > 2):
        return f"the batch is {given} and the parameters are {types[0]}; give inputs.to(torch.{types[0]})"
    return ""


def _memory(error: Exception) -> str:
    return " for lack of memory; give fewer samples;" if isinstance(error, torch.OutOfMemoryError | MemoryError) else ""


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
