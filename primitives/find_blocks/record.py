"""Record: one forward pass as a graph of what matters: uses of weights, products of results, and what reaches what."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from autoprox.primitives.find_blocks.watch import Call, TensorNotes, Watch, tensors_in


@dataclass(frozen=True)
class Use:
    """One node of the record.

    `kind`: `input`, or as in `Call`. Sets of nodes are bit masks: bit n is node n. `sides` has, for each operand, the
    nearest nodes whose results reach it; `softmaxes` likewise the softmaxes since these nodes. `name` is the layer's
    numbered name (for `fused`: the module's), `features` its inputs and outputs, `rows` how many vectors of `features`
    it makes, `given` and `made` the shapes of the first operand and of the result.
    """

    number: int
    kind: str
    sides: tuple[int, ...] = ()
    softmaxes: tuple[int, ...] = ()
    name: str = ""
    module: str = ""
    features: tuple[int, int] = (0, 0)
    kernel: int = 1
    groups: int = 1
    rows: int = 0
    given: tuple[int, ...] = ()
    made: tuple[int, ...] = ()
    transposed: bool = False  # whether the first operand lies in memory across its features

    @property
    def sources(self) -> int:
        """Return the nearest nodes whose results reach it."""
        mask = 0
        for side in self.sides:
            mask |= side
        return mask

    @property
    def weights(self) -> int:
        """Return how many entries its weight has."""
        return self.features[0] // max(self.groups, 1) * self.features[1] * self.kernel

    @property
    def bit(self) -> int:
        return 1 << self.number


@dataclass(frozen=True)
class Softmax:
    """A softmax: its numbered module name, what reaches it, the axis (counted from the end) and its shape."""

    number: int
    name: str
    sources: int
    axis: int
    shape: tuple[int, ...]


@dataclass
class Record:
    """What a forward pass did, in order. `samples` is the size of the batch, `outputs` what reaches the result."""

    samples: int
    uses: list[Use] = field(default_factory=list)
    softmaxes: list[Softmax] = field(default_factory=list)
    outputs: int = 0

    def members(self, mask: int) -> Iterator[Use]:
        """Return the nodes of a set, in order."""
        while mask:
            low = mask & -mask
            yield self.uses[low.bit_length() - 1]
            mask ^= low


_RECURRENT = frozenset({"lstm", "gru", "rnn_tanh", "rnn_relu"})


class _Note(NamedTuple):
    """What reaches a tensor: nodes, and softmaxes since these."""

    nodes: int = 0
    softmaxes: int = 0


_NOTHING = _Note()

# What these make has the shape, type or device of what they are given, and nothing of its values.
_FILLED = ("zeros", "ones", "empty", "full", "rand", "randn")
_SHAPED = frozenset(
    [*_FILLED, *(f"{name}_like" for name in _FILLED), "new_zeros", "new_ones", "new_empty", "new_full", "new_tensor"]
)


def record(model: torch.nn.Module, run: Callable[[], Any], inputs: Tensor) -> Record:
    """Return the record of `run()`, which calls the model on the inputs."""
    recorder = _Recorder(model, inputs)
    with torch.no_grad(), recorder.watching():
        output = run()
    recorder.found.outputs = recorder.joined(output).nodes
    return recorder.found


class _Recorder(Watch):
    def __init__(self, model: torch.nn.Module, inputs: Tensor) -> None:
        super().__init__(model)
        self.found = Record(len(inputs), [Use(0, "input")])
        self.notes = TensorNotes()
        self.notes.set(inputs, _Note(1))

    def joined(self, value: Any) -> _Note:
        """Return what reaches any of the tensors in a value."""
        nodes = softmaxes = 0
        for tensor in tensors_in(value):
            note = self.notes.get(tensor)
            if note is not None:
                nodes |= note.nodes
                softmaxes |= note.softmaxes
        return _Note(nodes, softmaxes)

    def noted(self, result: Any, note: _Note) -> Any:
        for tensor in tensors_in(result):
            self.notes.set(tensor, note)
        return result

    def other(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        name = getattr(function, "__name__", "")
        note = _NOTHING if name in _SHAPED else self.joined((args, kwargs))
        result = function(*args, **kwargs)
        if args and isinstance(args[0], Tensor) and _changes(name):
            self.noted(args[0], note)
            if args[0]._base is not None:
                self.noted(args[0]._base, note)
        if note.nodes and name in _RECURRENT:
            first = next(tensors_in((args, kwargs)))
            made = next(tensors_in(result))
            use = Use(
                len(self.found.uses),
                "recurrent",
                (note.nodes,),
                (note.softmaxes,),
                "",
                self.modules[-1],
                (first.shape[-1], made.shape[-1]),
                rows=made.numel() // made.shape[-1],
                given=tuple(first.shape),
                made=tuple(made.shape),
            )
            self.found.uses.append(use)
            note = _Note(use.bit)
        if note != _NOTHING:
            self.noted(result, note)
        return result

    def softmax(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], name: str) -> Any:
        result = function(*args, **kwargs)
        note = self.joined((args, kwargs))
        axis = args[1] if len(args) > 1 else kwargs.get("dim")
        axis = -1 if axis is None else axis if axis < 0 else axis - result.ndim
        number = len(self.found.softmaxes)
        self.found.softmaxes.append(Softmax(number, name, note.nodes, axis, tuple(result.shape)))
        return self.noted(result, _Note(note.nodes, note.softmaxes | 1 << number))

    def fused(self, call: Call, name: str) -> Any:
        return self._add(call, name)

    def product(self, call: Call) -> Any:
        sides = [self.joined(operand).nodes for operand in call.operands]
        if not all(sides) and not any(side & ~1 for side in sides):  # positions and the like
            return self.other(call.function, call.args, call.kwargs)
        return self._add(call, "")

    def weighted(self, call: Call, name: str) -> Any:
        if not self.joined(call.operands).nodes:  # positions and the like, which do not depend on the input
            return self.other(call.function, call.args, call.kwargs)
        return self._add(call, name)

    def _add(self, call: Call, name: str) -> Any:
        result = call.function(*call.args, **call.kwargs)
        notes = [self.joined(operand) for operand in call.operands]
        first = call.operands[0]
        weight = call.weight
        use = Use(
            number=len(self.found.uses),
            kind=call.kind,
            sides=tuple(note.nodes for note in notes),
            softmaxes=tuple(note.softmaxes for note in notes),
            name=name,
            module=self.modules[-1],
            features=call.features,
            kernel=weight[0, 0].numel() if weight is not None and weight.ndim > 2 else 1,
            groups=call.groups,
            rows=result.numel() // max(call.features[1], 1),
            given=tuple(first.shape),
            made=tuple(result.shape),
            transposed=call.kind == "linear" and call.axis == -1 and first.ndim > 1 and first.stride(-1) != 1,
        )
        self.found.uses.append(use)
        return self.noted(result, _Note(use.bit))

    def left(self, module: torch.nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Note that what a module made unseen by the function mode comes from what the module was given."""
        super().left(module, args, output)
        unseen = [tensor for tensor in tensors_in(output) if self.notes.get(tensor) is None]
        if unseen:
            self.noted(unseen, self.joined(args))


def _changes(name: str) -> bool:
    """Return whether a function of this name changes its first argument."""
    in_place = name.endswith("_") and not name.endswith("__")
    return in_place or name in ("__setitem__", "__iadd__", "__imul__", "__isub__", "__itruediv__")
