"""Used: which entries of a model's parameters a forward pass uses; of a supernet, those of the chosen subnet.

Uses torch and the standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import Tensor

from autoprox.primitives.errors import LayerError
from autoprox.primitives.find_blocks.watch import Watch, tensors_in
from autoprox.primitives.untouched import one_pass, seed_everything


def may_use_part(layer: object) -> bool:
    """Return whether a layer may use a part of its weight, as those of supernets do: its forward pass is its own."""
    return isinstance(layer, torch.nn.Linear) and type(layer).forward is not torch.nn.Linear.forward


def read_from_outside(model: torch.nn.Module) -> dict[str, str]:
    """Return the layers whose weight a module above them reads, which may use a part of it: path → class above.

    The code of a forward pass tells, as in `F.linear(x, self.fc.weight[:n])`. torch's own modules use whole weights.
    """
    found: dict[str, str] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        names = set() if type(module).__module__.startswith("torch.") else _names_in_forward(module)
        if "weight" not in names:
            continue
        for below, layer in module.named_modules(remove_duplicate=False):
            parts = below.split(".")
            if below and isinstance(layer, _LAYERS) and all(part in names or part.isdecimal() for part in parts):
                found[f"{path}.{below}".lstrip(".")] = type(module).__name__
    return found


_LAYERS = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)


def _names_in_forward(module: torch.nn.Module) -> set[str]:
    """Return the names of attributes and functions in a module's `forward`, and in the methods that it names."""
    found: set[str] = set()
    waiting = {"forward"}
    while waiting:
        method = getattr(module, waiting.pop(), None)
        function = getattr(method, "__func__", method)
        if isinstance(function, FunctionType):
            new = set(_names_in(function.__code__)) - found
            found |= new
            waiting |= {name for name in new if callable(getattr(type(module), name, None))}
    return found


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):  # a function or a comprehension inside
            yield from _names_in(constant)


def uses_parts(model: torch.nn.Module) -> bool:
    """Return whether any layer of the model may use a part of its weight."""
    return any(map(may_use_part, model.modules())) or bool(read_from_outside(model))


def require_whole(model: torch.nn.Module, layers: Iterable[tuple[str, object]]) -> None:
    """Check that layers, given by path, use their whole weight, because there is no batch that would show what they do.

    Raises:
        LayerError: one of them may use a part.
    """
    outside = read_from_outside(model)
    for path, layer in layers:
        if may_use_part(layer) or path in outside:
            who = f"has its weight read by {outside[path]}" if path in outside else f"is a {type(layer).__name__}"
            raise LayerError(
                f"layer '{path}' {who}, which may use a part of its weight only; give a batch of "
                "inputs, so that a forward pass shows what it uses"
            )


def used_params(model: torch.nn.Module, inputs: Tensor, seed: int) -> int | None:
    """Return how many parameters a forward pass uses; None where no layer uses a part of its weight."""
    entries, copied = used_entries(model, inputs, seed)
    if not any(map(may_use_part, model.modules())) and not _used_in_part(model, entries):
        return None
    return copied + sum(int(mask.sum()) for mask in entries.values())


def used_in_part(model: torch.nn.Module, inputs: Tensor, seed: int) -> list[str]:
    """Return the layers whose weight a module above them reads, and of which a forward pass uses a part only."""
    return _used_in_part(model, used_entries(model, inputs, seed)[0]) if read_from_outside(model) else []


def _used_in_part(model: torch.nn.Module, entries: Mapping[str, Tensor]) -> list[str]:
    masks = {path: entries[f"{path}.weight"] for path in read_from_outside(model) if f"{path}.weight" in entries}
    return [path for path, mask in masks.items() if bool(mask.any()) and not bool(mask.all())]


def used_entries(model: torch.nn.Module, inputs: Tensor, seed: int) -> tuple[dict[str, Tensor], int]:
    """Return which entries of each parameter a pass of one sample of zeros uses, and how many it has copies of.

    The entries are a mask by the parameter's name. Copies are what a supernet made of its parameters beforehand: they
    share no memory with these, and still require a gradient.
    """
    watch = _UsedEntries(model)
    with torch.no_grad():
        seed_everything(model, seed)
        with watch.watching():
            one_pass(model, torch.zeros_like(inputs[:1]))
    return watch.masks, sum(copy.numel() for copy in watch.copies.values())


class _UsedEntries(Watch):
    """A watch that marks what functions compute with."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__(model)
        self.masks = {
            name: torch.empty_strided(p.shape, p.stride(), dtype=torch.bool, device="cpu").zero_()
            for name, p in self.parameters.named.items()
        }
        self.copies: dict[int, Tensor] = {}

    def other(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        return self._marked(super().other(function, args, kwargs), args, kwargs)

    def softmax(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], name: str) -> Any:
        return self._marked(super().softmax(function, args, kwargs, name), args, kwargs)

    def fused(self, call: Any, name: str) -> Any:
        return self._marked(super().fused(call, name), call.args, call.kwargs)

    def product(self, call: Any) -> Any:
        return self._marked(super().product(call), call.args, call.kwargs)

    def weighted(self, call: Any, name: str) -> Any:
        return self._marked(super().weighted(call, name), call.args, call.kwargs)

    def _marked(self, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        made = list(tensors_in(result))
        for tensor in tensors_in((args, kwargs)):
            if made and not any(_same_memory(tensor, other) for other in made):  # else it makes a view, or reads a size
                self._mark(tensor)
        return result

    def _mark(self, tensor: Tensor) -> None:
        name = self.parameters.name_of(tensor)
        if name:
            first = tensor.storage_offset() - self.parameters.named[name].storage_offset()
            axes = zip(tensor.shape, tensor.stride(), strict=True)
            shape = [1 if stride == 0 else size for size, stride in axes]  # of what is expanded, the one copy
            self.masks[name].as_strided(shape, tensor.stride(), first).fill_(True)
        elif tensor.requires_grad:
            self.copies[id(tensor)] = tensor


def _same_memory(a: Tensor, b: Tensor) -> bool:
    try:
        return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):  # a tensor without memory of its own, such as a sparse one
        return False
