"""Stand-ins: tensors that a network computes with in the place of its parameters and buffers.

Uses torch and the standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from autoprox.primitives.find_blocks.watch import Parameters

#: The types of most arguments that are no tensors and hold none.
_WITHOUT_TENSORS = frozenset({int, float, bool, str, slice, type(None), type(...), torch.dtype, torch.device})


class StandIns:
    """Tensors that take the place of a model's parameters and buffers wherever a function would read these."""

    def __init__(self, known: Parameters, stand_in: Callable[[str, Tensor], Tensor], wide: bool) -> None:
        self._make, self._wide = stand_in, wide
        self._known = known
        parameters, buffers = known.named, known.buffers
        self._by_storage: dict[int, list[tuple[str, Tensor]]] = {}
        for name, tensor in (*buffers.items(), *parameters.items()):
            self._by_storage.setdefault(tensor.untyped_storage().data_ptr(), []).append((name, tensor))
        self._by_storage.pop(0, None)
        self._parameters = parameters
        self._own = {id(parameter) for parameter in parameters.values()}
        self._made: dict[str, Tensor] = {}
        self._whole: dict[int, Tensor] = {}  # by the identity of a parameter

    def of(self, tensor: Tensor) -> Tensor:
        """Return the stand-in of a parameter, buffer or view of one; another tensor as it is."""
        whole = self._whole.get(id(tensor))
        if whole is not None:
            return whole
        try:
            found = self._by_storage.get(tensor.untyped_storage().data_ptr())
        except (NotImplementedError, RuntimeError):
            return tensor
        if found is None:
            return tensor
        offset = tensor.storage_offset()
        name, original = next(
            ((n, t) for n, t in found if t.storage_offset() <= offset < t.storage_offset() + max(t.numel(), 1)),
            found[0],
        )
        made = self._made.get(name)
        if made is None:
            made = self._make(name, original) if name in self._parameters else self._buffer(original)
            self._made[name] = made
            if name in self._parameters:
                self._known.add(name, made)
        if tensor is made:
            return tensor
        if (
            tensor.shape == original.shape
            and tensor.stride() == original.stride()
            and offset == original.storage_offset()
        ):
            if id(tensor) in self._own:
                self._whole[id(tensor)] = made
            return made
        if tensor.dtype != original.dtype:
            return tensor
        return made.as_strided(
            tensor.shape, tensor.stride(), made.storage_offset() + offset - original.storage_offset()
        )

    def _buffer(self, original: Tensor) -> Tensor:
        copy = original.detach().clone()
        return copy.double() if self._wide and copy.is_floating_point() else copy

    def copied(self, weight: Tensor) -> bool:
        """Return whether a weight was computed from the model's own parameters, before there were stand-ins."""
        waiting, seen = [weight.grad_fn], set()
        while waiting:
            step = waiting.pop()
            if step is None or step in seen:
                continue
            seen.add(step)
            if id(getattr(step, "variable", None)) in self._own:  # of the step that gathers a parameter's gradient
                return True
            waiting += [before for before, _ in step.next_functions]
        return False

    def swapped(self, value: Any, known: Mapping[int, Tensor] = MappingProxyType({})) -> Any:
        """Return the same arguments with stand-ins; `known` has some of these, by the identity of what they replace."""
        if isinstance(value, Tensor):
            return known[id(value)] if id(value) in known else self.of(value)
        kind = type(value)
        if kind is tuple or kind is list:
            return kind([item if type(item) in _WITHOUT_TENSORS else self.swapped(item, known) for item in value])
        if kind is dict:
            return {key: self.swapped(item, known) for key, item in value.items()}
        return value
