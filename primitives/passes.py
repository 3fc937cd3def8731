"""Passes: one forward pass of a model whose parameters have stand-ins, and what is read of it before it is let go.

Uses torch and the standard library only. A `Need` says what is read of which pass: of one of its own, or of one that
`autoprox.primitives.sharing` shares.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from autoprox.primitives.batch import loss_of, probe_batch, random_targets
from autoprox.primitives.batch_norms import RUNNING, batch_norms_by
from autoprox.primitives.capture import Capture, Captured
from autoprox.primitives.errors import LayerError, backward_failed
from autoprox.primitives.few_steps import Trained
from autoprox.primitives.find_blocks.watch import layer_name
from autoprox.primitives.untouched import one_pass, seed_everything, untouched, without_checkpointing

#: The losses that are differentiated: cross-entropy, mean over the samples, and the sum of the outputs.
CLASSES, SUM = "classes", "sum"

#: What a gradient is taken for: loss, kind and name. The kinds are `weight` and `act` (the weight as a layer used it
#: and its output, by the numbered name of the layer), `parameter` (by its name) and `input` (its name is empty).
Slope = tuple[str, str, str]


@dataclass(frozen=True, eq=False)
class Subject:
    """A model and the batch that it is read on. Without targets, random classes are drawn from the seed.

    With `trained`, the model is read with the parameters that a short training gave, on the images that this left.
    """

    model: torch.nn.Module
    inputs: Tensor
    targets: Tensor | None
    seed: int
    trained: Trained | None = None

    def batch(self, where: Where) -> tuple[Tensor, Tensor]:
        """Return the inputs and the targets of a pass."""
        x, y = (
            (self.trained.images, self.trained.targets)
            if self.trained
            else probe_batch(where.probe, self.inputs, self.targets, self.seed)
        )
        y = random_targets(len(x), self.seed) if y is None else y
        if where.first == 0 and where.stop == len(x):
            return x, y
        return x[where.first : where.stop], y[where.first : where.stop]


@dataclass(frozen=True)
class Where:
    """What a pass runs on: the samples from `first` to before `stop` of what a probe runs the network on."""

    probe: str
    first: int
    stop: int


@dataclass(frozen=True)
class Wanted:
    """What is read of a pass.

    Of `layers` (numbered names) inputs, outputs and weights are kept, of `weights` these alone, of `softmaxes` what
    they are given and make, of `states` (paths of modules) first argument and output. `slopes` are the gradients.
    With `from_input`, what the pass makes can be differentiated for the input.
    """

    layers: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    softmaxes: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    slopes: tuple[Slope, ...] = ()
    from_input: bool = False

    def __or__(self, other: Wanted) -> Wanted:
        """Return what either wants."""
        joined = {
            each.name: tuple(dict.fromkeys((*getattr(self, each.name), *getattr(other, each.name))))
            for each in fields(self)
            if each.name != "from_input"
        }
        return Wanted(**joined, from_input=self.from_input or other.from_input)

    @property
    def differentiated(self) -> frozenset[tuple[str, str]]:
        """Return what has gradients: kind and name."""
        found = {(kind, name) for _, kind, name in self.slopes}
        return frozenset(found | {("input", "")} if self.from_input else found)


class Pass:
    """A forward pass, and gradients of what it gave.

    `seen` is what layers, softmaxes and modules were given and made, `output` what the model returned, `samples` how
    many there were, `seconds` what the backward pass of each loss took. Made inside `untouched(model)`. With `compare`,
    `seen.unlike` tells whether something depends on having a gradient.

    Raises:
        LayerError: the model's forward pass raises an error.
    """

    def __init__(
        self, subject: Subject, where: Where, wanted: Wanted, *, compare: bool = False, wide: bool = False
    ) -> None:
        x, y = subject.batch(where)
        x = x.double() if wide and x.is_floating_point() else x
        self._of, self._is_wide = (subject, where), wide
        self._targets = y.clone()  # which an inference tensor needs
        model, of = subject.model, wanted.differentiated
        self.samples, self._wanted = len(x), wanted
        self.seconds: dict[str, float] = {}
        named = tuple(dict.fromkeys((*wanted.layers, *wanted.weights)))
        self._magnitudes = where.probe == "synflow"
        self._trained = subject.trained.parameters if subject.trained else {}
        self._layers = {name.partition("#")[0] for name in named if of & {("weight", name), ("act", name)}}
        self._parameters = {name for kind, name in of if kind == "parameter"}
        self._leaf = x.detach().clone().requires_grad_() if ("input", "") in of else x
        self._stand_ins: dict[str, Tensor] = {}
        self._slopes: dict[Slope, Tensor] = {}
        self._known = dict(model.named_parameters()) if self._parameters else {}
        capture = Capture(
            model,
            named,
            wanted.softmaxes,
            len(x),
            self._stand_in,
            bool(of),
            frozenset(wanted.states),
            compare,
            frozenset(wanted.layers),
            wide,
        )
        norms = RUNNING if self._magnitudes else None  # SynFlow's one sample would normalise itself away
        with torch.set_grad_enabled(bool(of)), without_checkpointing():
            seed_everything(model, subject.seed)
            with capture.watching(), batch_norms_by(norms):
                self.output = one_pass(model, self._leaf.clone())
        self.seen: Captured = capture.captured

    def _stand_in(self, name: str, parameter: Tensor) -> Tensor:
        parameter = self._trained.get(name, parameter)
        made = parameter.clone() if parameter.is_inference() else parameter.detach()
        made = made.abs() if self._magnitudes else made
        made = made.double() if self._is_wide and made.is_floating_point() else made
        if made.is_floating_point() and (name in self._parameters or layer_name(name) in self._layers):
            made = made.requires_grad_()
        self._stand_ins[name] = made
        return made

    def parameter(self, name: str) -> Tensor:
        """Return the stand-in of a parameter that has a gradient."""
        return self._stand_ins[name] if name in self._stand_ins else self._stand_in(name, self._known[name])

    def slope(self, loss: str, kind: str, name: str) -> Tensor:
        """Return the gradient of a loss: 0 where it does not depend on what is meant.

        Raises:
            LayerError: the output is nothing to take the loss of, the layer did not run, or the backward pass failed.
        """
        if loss not in self.seconds:
            began = time.perf_counter()
            self._slopes |= self._gradients(loss)
            self.seconds[loss] = time.perf_counter() - began
        self._source(kind, name)  # of a layer that did not run, it says so
        return self._finite(self._slopes[loss, kind, name], lambda wide: wide.slope(loss, kind, name))

    def made(self, layer: str) -> Tensor:
        """Return what a layer made, detached."""
        return self._finite(self.seen.outputs[layer].detach(), lambda wide: wide.made(layer))

    def _finite(self, found: Tensor, of_wide: Callable[[Pass], Tensor]) -> Tensor:
        """Return what was found, or, where SynFlow's products are not finite, the same of the wide pass."""
        if not self._magnitudes or self._is_wide or bool(torch.isfinite(found.sum())):  # a finite sum has finite terms
            return found
        if bool(torch.isfinite(found).all()):
            return found
        return found if self._wide_pass is None else of_wide(self._wide_pass)

    @cached_property
    def _wide_pass(self) -> Pass | None:
        """The same pass in float64; None where the model or its device has no such numbers."""
        usual = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)  # of what the model makes itself
        try:
            with sdpa_kernel(SDPBackend.MATH):  # others lose the sums of large exponents
                return Pass(*self._of, self._wanted, wide=True)
        except (LayerError, TypeError):
            return None
        finally:
            torch.set_default_dtype(usual)

    def _source(self, kind: str, name: str) -> Tensor:
        if kind == "input":
            return self._leaf
        if kind == "parameter":
            return self.parameter(name)
        return self.seen.outputs[name] if kind == "act" else self.seen.weights[name]

    def _gradients(self, loss: str) -> Mapping[Slope, Tensor]:
        """Return all gradients of a loss that are wanted, but for those of layers that did not run."""
        value = loss_of(self.output, "synflow" if loss == SUM else "data", self._targets)
        ran = {"weight": self.seen.weights.keys(), "act": self.seen.outputs.keys()}
        sources = {
            slope: self._source(*slope[1:])
            for slope in self._wanted.slopes
            if slope[0] == loss and slope[2] in ran.get(slope[1], (slope[2],))
        }
        distinct = {id(source): source for source in sources.values()}
        keep = self._wanted.from_input or len({slope[0] for slope in self._wanted.slopes}) > 1
        try:
            found = torch.autograd.grad(value, list(distinct.values()), allow_unused=True, retain_graph=keep)
        except RuntimeError as error:
            raise backward_failed(error) from error
        of = dict(zip(distinct, found, strict=True))
        return {
            slope: torch.zeros_like(source) if of[id(source)] is None else of[id(source)]
            for slope, source in sources.items()
        }


@dataclass(frozen=True)
class Need:
    """What is read of a pass: `read` reads it, while the pass is there; what has the same name is the same.

    With `once`, it is read once for all that need it, because they share what is computed of it.
    """

    name: Hashable
    where: Where
    wanted: Wanted
    read: Callable[[Pass], Any] = field(compare=False)
    once: bool = field(default=False, compare=False)

    def met_alone(self, subject: Subject) -> Any:
        """Return what is read, of a pass of its own."""
        with untouched(subject.model):
            return self.read(Pass(subject, self.where, self.wanted))


def joined(wanted: Iterable[Wanted]) -> Wanted:
    """Return what any of them wants."""
    whole = Wanted()
    for each in wanted:
        whole = whole | each
    return whole
