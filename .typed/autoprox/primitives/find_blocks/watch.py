"""Watch: what a forward pass does with weights, seen by a function mode and named the same in every pass.

Uses torch and the standard library only. The model is not touched: a function mode sees the calls, and hooks that are
global to torch say which module is running.
"""

from __future__ import annotations

import types
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.modules import module as module_hooks
from torch.overrides import TorchFunctionMode

LINEAR = frozenset({functional.linear})
TRANSPOSED = frozenset({torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d})
CONVOLUTION = frozenset({torch.conv1d, torch.conv2d, torch.conv3d}) | TRANSPOSED
MATMUL = frozenset(
    getattr(owner, name)
    for owner in (torch, Tensor)
    for name in ("matmul", "bmm", "mm", "__matmul__", "__rmatmul__")
    if hasattr(owner, name)
)
ADDMM = frozenset(getattr(owner, name) for owner in (torch, Tensor) for name in ("addmm", "baddbmm"))
EINSUM = frozenset({torch.einsum})
FUSED = frozenset({functional.scaled_dot_product_attention})
_UNDERSTOOD = LINEAR | CONVOLUTION | MATMUL | ADDMM | EINSUM | FUSED
SOFTMAX = frozenset({functional.softmax, torch.softmax, Tensor.softmax, torch.special.softmax})

# Functions written in Python that do what we want to see inside, but hand themselves to a mode as a whole.
_COMPOSITE: tuple[Any, ...] = (functional.multi_head_attention_forward,)


def _unchecked(function: types.FunctionType) -> Callable[..., Any]:
    """Return the same function without its first step, which hands the whole call to a mode."""
    never = dict.fromkeys(
        ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic"), lambda *_: False
    )
    copy = types.FunctionType(
        function.__code__, {**function.__globals__, **never}, function.__name__, function.__defaults__
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


_INSIDE = {function: _unchecked(function) for function in _COMPOSITE}


class Parameters:
    """Which parameter of a model a tensor is, or is a view of.

    A parameter that has several names goes by the first.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self.named: dict[str, Tensor] = dict(model.named_parameters())
        self.buffers: dict[str, Tensor] = dict(model.named_buffers())
        self._by_storage: dict[int, list[tuple[str, Tensor]]] = {}
        for name, parameter in self.named.items():
            self._by_storage.setdefault(_storage(parameter), []).append((name, parameter))
        self._by_storage.pop(0, None)

    def add(self, name: str, tensor: Tensor) -> None:
        """Let a tensor that takes the place of a parameter, and its views, go by the parameter's name."""
        storage = _storage(tensor)
        if storage and storage not in self._by_storage:
            self._by_storage[storage] = [(name, tensor)]

    def name_of(self, tensor: Tensor) -> str:
        """Return the name of the parameter whose memory the tensor shares; empty where there is none."""
        found = self._by_storage.get(_storage(tensor), ())
        for name, parameter in found:
            first = parameter.storage_offset()
            if len(found) == 1 or first <= tensor.storage_offset() < first + max(parameter.numel(), 1):
                return name
        return ""


def _storage(tensor: Tensor) -> int:
    try:
        return tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):  # a tensor without memory of its own, such as a sparse one
        return 0


def layer_name(parameter: str) -> str:
    """Return the path of the layer that a parameter is the weight of; its own name where it is no `weight`.

    `blocks.0.mlp.fc1.weight` → `blocks.0.mlp.fc1`; `blocks.0.attn.in_proj_weight` as it is.
    """
    path, _, last = parameter.rpartition(".")
    if ".parametrizations.weight." in parameter:
        return parameter.partition(".parametrizations.weight.")[0]
    return path if last in ("weight", "weight_v", "weight_g", "weight_orig") and path else parameter


def numbered(name: str, turn: int) -> str:
    """Return the name of a layer's run: `fc1` for the first in a forward pass, `fc1#2` for the second."""
    return name if turn <= 1 else f"{name}#{turn}"


class Call(NamedTuple):
    """One use of a weight or one product of two results, as the mode sees it.

    `kind`: `linear` (of the last axis, or a convolution with a kernel of one), `convolution` (a larger kernel),
    `product` (a matrix product of two results) or `fused` (scaled_dot_product_attention). `operands` are the tensors
    that it reads, apart from the weight; `weight` is as the function got it, out × in first where `by_rows`.
    """

    kind: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    operands: tuple[Tensor, ...]
    weight: Tensor | None = None
    features: tuple[int, int] = (0, 0)  # in, out
    groups: int = 1
    axis: int = -1  # of the features in the input and the output


def understood(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], watch: Watch
) -> Call | None:
    """Return the call as one of those that matter, or None."""
    if function in LINEAR:
        x, weight = _arguments(args, kwargs, ("input", "weight"))
        if weight.ndim == 2:
            return Call("linear", function, args, kwargs, (x,), weight, (weight.shape[1], weight.shape[0]))
    elif function in CONVOLUTION:
        return _convolution(function, args, kwargs)
    elif function in FUSED:
        return Call("fused", function, args, kwargs, _arguments(args, kwargs, ("query", "key", "value")))
    elif function in MATMUL or function in ADDMM:
        names = ("input", "mat2", "other") if function in MATMUL else ("input", "mat1", "mat2")
        tensors = [
            t for t in (*args, *(kwargs[n] for n in kwargs if n in (*names, "tensor2"))) if isinstance(t, Tensor)
        ]
        left, right = tensors[-2:]
        if function is Tensor.__rmatmul__:
            left, right = right, left
        return _product(function, args, kwargs, left, right, watch)
    elif function in EINSUM:
        return _einsum(function, args, kwargs, watch)
    return None


def _arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any], names: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(args[place] if place < len(args) else kwargs[name] for place, name in enumerate(names))


def _convolution(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    x, weight = _arguments(args, kwargs, ("input", "weight"))
    if function in TRANSPOSED:
        groups = args[6] if len(args) > 6 else kwargs.get("groups", 1)  # conv_transpose has them in the same place
        features = (weight.shape[0], weight.shape[1] * groups)
        return Call("convolution", function, args, kwargs, (x,), weight, features, groups, axis=1 - weight.ndim)
    groups = args[6] if len(args) > 6 else kwargs.get("groups", 1)
    kind = "linear" if weight[0, 0].numel() == 1 and not (groups > 1 and weight.shape[1] == 1) else "convolution"
    features = (weight.shape[1] * groups, weight.shape[0])
    return Call(kind, function, args, kwargs, (x,), weight, features, groups, axis=1 - weight.ndim)


def _product(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    left: Tensor,
    right: Tensor,
    watch: Watch,
) -> Call | None:
    if right.ndim == 2 and watch.parameters.name_of(right) and not watch.parameters.name_of(left):
        return Call("linear", function, args, kwargs, (left,), right, (right.shape[0], right.shape[1]))
    if left.ndim == 2 and watch.parameters.name_of(left) and not watch.parameters.name_of(right):
        return Call("linear", function, args, kwargs, (right,), left, (left.shape[1], left.shape[0]), axis=-2)
    return Call("product", function, args, kwargs, (left, right))


def _einsum(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], watch: Watch
) -> Call | None:
    if not args or not isinstance(args[0], str):
        return None
    operands = tuple(args[1]) if len(args) == 2 and isinstance(args[1], list | tuple) else args[1:]
    if len(operands) != 2:
        return None
    inputs, _, output = args[0].replace(" ", "").partition("->")
    weights = [place for place, operand in enumerate(operands) if watch.parameters.name_of(operand)]
    if len(weights) != 1 or operands[weights[0]].ndim != 2 or not output or "." in inputs.split(",")[weights[0]]:
        return Call("product", function, args, kwargs, operands)
    letters = inputs.split(",")[weights[0]]
    weight, other = operands[weights[0]], operands[1 - weights[0]]
    sizes = dict(zip(letters, weight.shape, strict=True))
    kept = [size for letter, size in sizes.items() if letter in output]
    summed = [size for letter, size in sizes.items() if letter not in output]
    if len(kept) != 1 or len(summed) != 1:
        return Call("product", function, args, kwargs, operands)
    return Call("linear", function, args, kwargs, (other,), weight, (summed[0], kept[0]))


class Watch(TorchFunctionMode):
    """Sees the functions that a model calls. Subclasses say what to do with the calls that matter.

    `calls(call, name)`: a use of a weight or a product; `softmax(function, args, kwargs, name)`; `other(function, args,
    kwargs)`. Each returns the function's result. Names are those of layers, and of modules for what has no weight,
    with the number of the run after `#` from the second on.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model
        self.parameters = Parameters(model)
        self.modules = [""]  # that are running, the innermost last
        self.turns: Counter[str] = Counter()
        self.named_modules = dict(model.named_modules())
        self._paths = {id(module): path for path, module in self.named_modules.items()}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in _INSIDE:
            with self:
                return _INSIDE[func](*args, **kwargs)
        if func in SOFTMAX:
            return self.softmax(func, args, kwargs, self.turn(f"{self.modules[-1]}"))
        call = understood(func, args, kwargs, self) if func in _UNDERSTOOD else None
        if call is None:
            return self.other(func, args, kwargs)
        if call.kind == "fused":
            return self.fused(call, self.turn(self.modules[-1]))
        if call.kind == "product":
            return self.product(call)
        return self.weighted(call, self.weight_name(call))

    def turn(self, name: str) -> str:
        """Return the name with the number of this run."""
        self.turns[name] += 1
        return numbered(name, self.turns[name])

    def weight_name(self, call: Call) -> str:
        """Return the numbered name of the layer whose weight the call uses; empty where no parameter is behind it."""
        assert call.weight is not None
        parameter = self.parameters.name_of(call.weight) or self.computed_from(call.weight)
        return self.turn(layer_name(parameter)) if parameter else ""

    def computed_from(self, weight: Tensor) -> str:
        """Return the parameter that a weight is computed from: one of the module that is running.

        It has the shape of the weight, or else a larger one, as where a supernet copies a part of it.
        """
        inside = [name for name in self.parameters.named if name.startswith(f"{self.modules[-1]}.")]
        shapes = {name: self.parameters.named[name].shape for name in inside}
        equal = [name for name, shape in shapes.items() if shape == weight.shape and len(shape) >= 2]
        larger = [
            name
            for name, shape in shapes.items()
            if len(shape) == weight.ndim >= 2
            and all(have >= need for have, need in zip(shape, weight.shape, strict=True))
        ]
        return next(iter([*equal, *larger]), "")

    def softmax(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], name: str) -> Any:
        return function(*args, **kwargs)

    def fused(self, call: Call, name: str) -> Any:
        return call.function(*call.args, **call.kwargs)

    def product(self, call: Call) -> Any:
        return call.function(*call.args, **call.kwargs)

    def weighted(self, call: Call, name: str) -> Any:
        return call.function(*call.args, **call.kwargs)

    def other(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        return function(*args, **kwargs)

    def entered(self, module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        """Note that a module starts."""
        self.modules.append(self._paths.get(id(module), self.modules[-1]))

    def left(self, module: torch.nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Note that a module has run."""
        if len(self.modules) > 1:
            self.modules.pop()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Turn the mode on inside, and follow which module runs."""
        with ExitStack() as stack:
            for register, hook in (
                (module_hooks.register_module_forward_pre_hook, self.entered),
                (module_hooks.register_module_forward_hook, self.left),
            ):
                stack.callback(register(hook).remove)
            stack.enter_context(self)
            yield


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in arguments or results: in tuples, lists and mappings, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from tensors_in(item)


class TensorNotes:
    """Notes about tensors that are forgotten with them."""

    def __init__(self) -> None:
        self._notes: dict[int, tuple[weakref.ref[Tensor], Any]] = {}

    def get(self, tensor: Tensor) -> Any:
        """Return the note, or None."""
        found = self._notes.get(id(tensor))
        return found[1] if found is not None and found[0]() is tensor else None

    def set(self, tensor: Tensor, note: Any) -> None:
        """Write the note of a tensor."""
        self._notes[id(tensor)] = (weakref.ref(tensor), note)
