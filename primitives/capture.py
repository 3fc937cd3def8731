"""Capture: what layers make, their gradients and the attention between them, read while a model runs as it is written.

Uses torch and the standard library only. Nothing is assigned to the model: a function mode gives every function that
would read a parameter a stand-in for it, and keeps what the wanted layers are given and make.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from autoprox.primitives.errors import LayerError
from autoprox.primitives.find_blocks.watch import CONVOLUTION, LINEAR, Call, Watch, numbered, tensors_in
from autoprox.primitives.stand_ins import StandIns
from autoprox.primitives.untouched import one_pass, seed_everything


@dataclass
class Captured:
    """What one forward pass showed, by numbered name.

    `inputs`: as the layer was given them; `outputs`: as the layer made them, which gradients are taken for; `weights`:
    as the layer used them (of a supernet, the slice); `axes`: which axis of the output has the features, counted from
    the end; `turned`: whether samples are the second axis of the output; `attention` and `logits`: of each softmax or
    fused attention; `activations`: how many elements all linears and convolutions made, also those that are not kept;
    `entries` and `results`: the first argument and the output of modules, by path; `unlike`: whether something gave
    other bits than without a gradient, where this was compared.
    Raises LayerError for the name of a layer that did not run.
    """

    inputs: dict[str, Tensor] = field(default_factory=lambda: _Seen())
    outputs: dict[str, Tensor] = field(default_factory=lambda: _Seen())
    weights: dict[str, Tensor] = field(default_factory=lambda: _Seen())
    axes: dict[str, int] = field(default_factory=dict)
    turned: dict[str, bool] = field(default_factory=dict)
    columns: frozenset[str] = frozenset()  # layers whose weights are in × out
    copied: frozenset[str] = frozenset()  # layers whose weights were copied from the model's before the pass
    attention: dict[str, Tensor] = field(default_factory=lambda: _Seen())
    logits: dict[str, Tensor] = field(default_factory=lambda: _Logits())
    activations: int = 0
    entries: dict[str, Any] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    unlike: bool = False

    def require(self, layers: Collection[str]) -> None:
        """Raise LayerError for a layer that did not run."""
        for name in layers:
            self.weights[name]

    def require_no_copies(self) -> None:
        """Raise LayerError for a layer that ran with a copy of its weight, in whose place nothing could be put."""
        if self.copied:
            raise LayerError(
                f"layer '{min(self.copied)}' runs with a copy of its weight that was made before the pass, so nothing "
                "can take the weight's place; slice it in the forward pass, or as a view"
            )

    def matrix(self, name: str, weight: Tensor) -> Tensor:
        """Return a layer's weight, or its gradient, as out × in."""
        return weight.mT if name in self.columns else weight.flatten(1)

    def rows(self, name: str, tensor: Tensor, samples: int) -> Tensor:
        """Return a layer's output, or its gradient, as samples·tokens × features."""
        moved = self.by_sample(name, tensor, samples)
        return moved.reshape(-1, moved.shape[-1])

    def by_sample(self, name: str, tensor: Tensor, samples: int) -> Tensor:
        """Return a layer's output, or its gradient, with samples as the first axis and features as the last.

        Windows and the like stand as they are, so that the first axis may be a multiple of the samples.
        """
        moved = tensor.movedim(self.axes[name], -1)
        if self.turned[name]:
            moved = moved.unflatten(0, (-1, samples)) if moved.ndim == 2 else moved
            moved = moved.transpose(0, 1)
        return moved


class _Seen(dict[str, Tensor]):
    """Tensors by numbered name."""

    def __missing__(self, name: str) -> Tensor:
        raise LayerError(f"layer '{name}' does not run in the model's forward pass, so it has no output to read")


class _Logits(dict[str, Tensor]):
    """Logits by the numbered name of their softmax."""

    def __missing__(self, name: str) -> Tensor:
        raise LayerError(f"attn_logits: '{name}' does not run, or is no softmax: what it reads are no logits")


class Capture(Watch):
    """Runs inside `watching()`; `captured` fills while the model runs.

    `layers` and `softmaxes` are the numbered names to keep, `states` the paths of modules. `stand_in` makes, of a
    parameter, what the model computes with instead: called once for each. With `gradient`, weights and outputs that are
    kept require gradients. With `compare`, that for which torch may take another kernel where there is a gradient is
    also run without one: convolutions, attention with a mask, and products with what lies in memory in another order.
    Of layers that are not among `outputs`, if these are given, only the weight is kept, and nothing is copied.
    With `wide`, buffers are float64, as parameters are whose stand-ins are.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        layers: Collection[str],
        softmaxes: Collection[str],
        samples: int,
        stand_in: Callable[[str, Tensor], Tensor],
        gradient: bool,
        states: Collection[str] = (),
        compare: bool = False,
        outputs: Collection[str] | None = None,
        wide: bool = False,
    ) -> None:
        super().__init__(model)
        self.states, self.compare, self.outputs, self.wide = states, compare, outputs, wide
        self.layers, self.softmaxes, self.samples, self.gradient = (
            frozenset(layers),
            frozenset(softmaxes),
            samples,
            gradient,
        )
        self.captured = Captured()
        self._softmax_runs: Counter[str] = Counter()  # of modules that are named as a softmax
        self._softmax_paths = {name.partition("#")[0] for name in self.softmaxes}
        self._multihead = {p for p, m in self.named_modules.items() if isinstance(m, torch.nn.MultiheadAttention)}
        self._stand_ins = StandIns(self.parameters, stand_in, wide)

    def _swapped(self, args: Any, kwargs: Any) -> tuple[Any, Any]:
        swapped = self._stand_ins.swapped
        return swapped(args), swapped(kwargs) if kwargs else kwargs

    def other(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        args, kwargs = self._swapped(args, kwargs)
        if self.wide:  # where a model asks for float32, it gets float64
            function = torch.Tensor.double if function is torch.Tensor.float else function
            args = tuple(torch.float64 if arg is torch.float32 else arg for arg in args)
            kwargs = {name: torch.float64 if arg is torch.float32 else arg for name, arg in kwargs.items()}
        return function(*args, **kwargs)

    def product(self, call: Call) -> Any:
        return self.other(call.function, call.args, call.kwargs)

    def softmax(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], name: str) -> Any:
        result = self.other(function, args, kwargs)
        if name in self.softmaxes:
            self.captured.attention[name] = result.detach()
            # a copy, because what follows might change it in place
            self.captured.logits[name] = next(tensors_in((args, kwargs))).detach().clone()
            return result.clone()
        return result

    def fused(self, call: Call, name: str) -> Any:
        args, kwargs = self._swapped(call.args, call.kwargs)
        if name in self.softmaxes:
            with torch.no_grad():
                logits = attention_logits(*args, **kwargs)
                self.captured.logits[name] = logits
                self.captured.attention[name] = logits.softmax(-1)
        result = call.function(*args, **kwargs)
        mask = args[3] if len(args) > 3 else kwargs.get("attn_mask")
        if isinstance(mask, Tensor) and mask.requires_grad:
            self._compare(call.function, args, kwargs, result)
        return result

    def _compare(self, function: Callable[..., Any], args: Any, kwargs: Any, result: Tensor) -> None:
        """Note whether a result that has a gradient differs from the same without one."""
        if self.compare and result.requires_grad:
            bare = [arg.detach() if isinstance(arg, Tensor) else arg for arg in args]
            named = {name: arg.detach() if isinstance(arg, Tensor) else arg for name, arg in kwargs.items()}
            self.captured.unlike |= not torch.equal(function(*bare, **named), result)

    def weighted(self, call: Call, name: str) -> Any:
        assert call.weight is not None
        wanted = name in self.layers
        weight = self._stand_ins.of(call.weight)
        if weight is call.weight and self._stand_ins.copied(weight):
            self.captured.copied |= {name}
        if wanted:
            if self.gradient and not weight.requires_grad:
                weight = weight.detach().requires_grad_()
            self.captured.weights[name] = weight
        # The function must get the very tensor that gradients are taken for, and not another view of its memory.
        args, kwargs = (self._stand_ins.swapped(given, {id(call.weight): weight}) for given in (call.args, call.kwargs))
        result = call.function(*args, **kwargs)
        if call.function in CONVOLUTION or not call.operands[0].is_contiguous() or call.axis != -1:
            self._compare(call.function, args, kwargs, result)
        self.captured.activations += result.numel()
        if not wanted:
            return result
        if (
            call.weight.ndim == 2
            and call.weight.shape == call.features
            and call.function not in LINEAR
            and call.axis == -1
        ):
            self.captured.columns |= {name}
        if self.outputs is not None and name not in self.outputs:
            return result
        if self.gradient and not result.requires_grad:
            result.requires_grad_()
        self.captured.inputs[name] = call.operands[0]
        self.captured.outputs[name] = result
        self.captured.axes[name] = call.axis
        self.captured.turned[name] = self._turned(result)
        return result.clone()  # what follows might change it in place

    def entered(self, module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        """Keep what a module is given, if it is one of the states."""
        super().entered(module, args)
        path = self._paths.get(id(module), "")
        if path in self.states and args:
            self.captured.entries[path] = args[0]

    def left(self, module: torch.nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Keep what a module that is named as a softmax makes, unless a softmax inside it makes another shape."""
        super().left(module, args, output)
        path = self._paths.get(id(module), "")
        if path in self.states:
            self.captured.results[path] = output
        if path not in self._softmax_paths or not isinstance(output, Tensor):
            return None
        self._softmax_runs[path] += 1
        name = numbered(path, self._softmax_runs[path])
        known = self.captured.attention.get(name)
        if name not in self.softmaxes or (known is not None and known.shape != output.shape):
            return None
        self.captured.attention[name] = output.detach()
        given = args[0] if args else None
        if isinstance(given, Tensor) and given.shape == output.shape and name not in self.captured.logits:
            self.captured.logits[name] = given.detach().clone()
        return output.clone()

    def _turned(self, result: Tensor) -> bool:
        """Return whether tokens come before samples, as inside nn.MultiheadAttention."""
        if self.modules[-1] in self._multihead:
            return result.ndim in (2, 3)
        return result.ndim == 3 and len(result) % self.samples != 0 and result.shape[1] == self.samples


def attention_logits(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Return q kᵀ · scale + mask, the logits of scaled_dot_product_attention; scale is 1/√d where not given.

    With `enable_gqa` keys are shared by groups of heads. Where a mask forbids, the logit is −∞.
    """
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    logits = query @ key.mT * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
    if attn_mask is None:
        return logits
    return logits.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool else logits + attn_mask


def unmasked(logits: Tensor) -> Tensor:
    """Return logits in which each entry that a mask forbids is the lowest other entry of its row.

    A forbidden entry is −∞, or the least number of its type, which transformers adds. A row of such entries alone is 0.
    Other numbers are no mask: the −100 that Swin adds stays.
    """
    forbidden = logits <= torch.finfo(logits.dtype).min / 2
    if not bool(forbidden.any()):
        return logits
    lowest = logits.masked_fill(forbidden, math.inf).amin(-1, keepdim=True)
    return torch.where(forbidden, lowest.masked_fill(lowest == math.inf, 0), logits)


def forward(model: torch.nn.Module, parameters: Mapping[str, Tensor], x: Tensor, seed: int) -> object:
    """Return the model's output with these parameters: the same whatever ran before.

    The model is not touched: its modules hold their own parameters all the time, also those that are shared.
    """
    return captured_forward(model, parameters, x, seed, ())[0]


def captured_forward(
    model: torch.nn.Module,
    parameters: Mapping[str, Tensor],
    x: Tensor,
    seed: int,
    layers: Collection[str],
    softmaxes: Collection[str] = (),
) -> tuple[object, Captured]:
    """Return the model's output with these parameters, and what the named layers and softmaxes were given and made."""
    capture = Capture(model, layers, softmaxes, len(x), lambda name, own: parameters.get(name, own), gradient=False)
    seed_everything(model, seed)
    with capture.watching():
        output = one_pass(model, x.clone())
    own = capture.parameters.named
    if any(p.requires_grad or (n in own and p.data_ptr() != own[n].data_ptr()) for n, p in parameters.items()):
        capture.captured.require_no_copies()
    return output, capture.captured
