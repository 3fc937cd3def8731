"""Scoring: the protocol of all proxies, and the value of a formula on a model, whose statistics are checked first."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from autoprox.bench_cache.spaces.registry import InputSpec
from autoprox.primitives import (
    STATISTICS,
    Block,
    Formula,
    LayerError,
    Reading,
    evaluate,
    read_statistics,
    requirements,
)
from autoprox.primitives.find_blocks.choose import Layers, blocks_of
from autoprox.primitives.find_blocks.named import SLOTS
from autoprox.primitives.find_blocks.used import uses_parts
from autoprox.primitives.kinds import CONV_ROLE, read_slots, steps_of
from autoprox.primitives.operations.total import MAX

#: A function of an untrained network that returns a number, higher for better networks.
ScoreFunction = Callable[[torch.nn.Module], float]

#: What a formula reads: statistic, probe, and the layers of a block (none for a number of the network).
Reads = tuple[tuple[str, str, tuple[str, ...]], ...]


class AnyProxy(Protocol):
    """A proxy as every command takes it: a formula or a function that scores models, with what is known of it.

    `text` is its name in records: the formula, or the name in the zoo. `as_formula` is the formula, None for a
    function. `probes` are the probes that it runs networks under; with `data` it reads the batch and its classes.
    `halves_batch` says that it needs an even number of samples, `training_free` that it takes no step of training.
    """

    @property
    def name(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def as_formula(self) -> Formula | None: ...
    @property
    def probes(self) -> tuple[str, ...]: ...
    @property
    def halves_batch(self) -> bool: ...
    @property
    def training_free(self) -> bool: ...
    @property
    def provenance(self) -> Mapping[str, object]: ...

    def score(
        self,
        model: torch.nn.Module,
        inputs: Tensor | None = None,
        targets: Tensor | None = None,
        *,
        layers: Layers = None,
        seed: int = 0,
        partial: bool = False,
    ) -> float:
        """Return the model's score, higher for better models; the model is left bit for bit as it was."""
        ...


class ProxyError(ValueError):
    """A proxy that cannot be made, found or read, or that has no score for a model; one line says why."""


@dataclass(frozen=True)
class FunctionProxy:
    """A plain function of an untrained network, made an `AnyProxy`."""

    function: ScoreFunction
    probes: tuple[str, ...] = ()
    as_formula: None = None
    halves_batch: bool = False
    training_free: bool = True

    @property
    def name(self) -> str:
        """The function's name."""
        return getattr(self.function, "__name__", type(self.function).__name__)

    @property
    def text(self) -> str:
        """The function's name: it is all that can be recorded of a function."""
        return self.name

    @property
    def provenance(self) -> Mapping[str, object]:
        """Empty: nothing is known of where a function comes from."""
        return {}

    def score(
        self,
        model: torch.nn.Module,
        inputs: Tensor | None = None,
        targets: Tensor | None = None,
        *,
        layers: Layers = None,
        seed: int = 0,
        partial: bool = False,
    ) -> float:
        """Return what the function gives for the model; it does not see the other arguments.

        Raises:
            ProxyError: the score is not finite.
        """
        found = self.function(model)
        score = float(found.detach() if isinstance(found, Tensor) else found)
        if not math.isfinite(score):
            raise ProxyError(f"the score is {score}")
        return score


def formula_reads(formula: Formula, convolutional: bool = False) -> Reads:
    """Return what the formula reads from a model, in order of first use."""
    slots = [read_slots(t.role, convolutional) if t.role else () for t in formula.terminals()]
    return tuple((t.statistic.name, t.probe, of) for t, of in zip(formula.terminals(), slots, strict=True))


def is_convolutional(blocks: Sequence[Block]) -> bool:
    """Return whether blocks are the layers of a network without transformer blocks."""
    return any(CONV_ROLE in block.linears for block in blocks)


def require_roles(model: torch.nn.Module, formula: Formula, convolutional: bool) -> None:
    """Check that a network has what the roles of a formula name.

    Raises:
        LayerError: it has no transformer blocks, and a role is of these, or the contrary.
    """
    for terminal in formula.terminals():
        if terminal.role and not read_slots(terminal.role, convolutional):
            raise LayerError(
                f"the formula reads {terminal}; the role '{terminal.role}' is of transformer blocks, and "
                f"{type(model).__name__} has none: its layers have the roles all and {CONV_ROLE}"
            )
        if terminal.role == CONV_ROLE and not convolutional:
            raise LayerError(
                f"the formula reads {terminal}; the role '{CONV_ROLE}' is of networks without transformer blocks, and "
                f"{type(model).__name__} has some: use the role all"
            )


def formula_probes(formula: Formula) -> tuple[str, ...]:
    """Return the probes that a formula runs a network under, in order of first use."""
    return tuple(dict.fromkeys(terminal.probe for terminal in formula.terminals() if terminal.probe))


def is_training_free(probes: Iterable[str]) -> bool:
    """Return whether none of the probes trains the network before it is read."""
    return not any(map(steps_of, probes))


def few_step_note(probes: Iterable[str]) -> str:
    """Return what must be said of a formula that trains networks before it reads them; empty where it does not."""
    counts = sorted({steps for probe in probes if (steps := steps_of(probe))})
    if not counts:
        return ""
    return f"reads networks after {' and '.join(map(str, counts))} training steps: not zero-cost"


def halves_batch(formula: Formula) -> bool:
    """Return whether a formula reads gradients of both halves of the batch, which then needs an even size."""
    return any(terminal.statistic.name == "weight_grad_batches" for terminal in formula.terminals())


#: Statistics that no probe reads, and that still depend on what a forward pass does: a block may run several times.
_OF_A_PASS = frozenset({"flops", "activations", "depth", "position"})


def formula_score(
    formula: Formula,
    model: torch.nn.Module,
    inputs: Tensor | None = None,
    targets: Tensor | None = None,
    *,
    layers: Layers = None,
    seed: int = 0,
    partial: bool = False,
) -> float:
    """Return the formula's value on a model, which is left bit for bit as it was; see `Proxy.score`.

    Raises:
        LayerError: the model or the batch lacks what the formula reads.
        ProxyError: this is no model; a statistic that the formula reads, or the value, is not finite, or where values
            stop; or a gradient is 0 in half of the layers.
    """
    if not isinstance(model, torch.nn.Module):
        raise ProxyError(f"a proxy scores a torch.nn.Module, not a {type(model).__name__}")
    if targets is not None and not isinstance(targets, Tensor):
        raise ProxyError(f"targets must be a torch.Tensor of class numbers, not a {type(targets).__name__}")
    for terminal in formula.terminals():
        if terminal.statistic.column:
            raise LayerError(f"the formula reads {terminal}, which is of a benchmark's table; a model has none")
    runs = uses_parts(model) or any(
        t.probe or t.statistic.probed or t.statistic.name in _OF_A_PASS for t in formula.terminals()
    )
    blocks = blocks_of(model, inputs, layers, partial=partial, runs=runs)
    convolutional = is_convolutional(blocks)
    require_roles(model, formula, convolutional)
    reads = formula_reads(formula, convolutional)
    if layers is not None:
        _require_slots(blocks, reads)
    reading = read_statistics(model, blocks, requirements([formula]), inputs, targets, seed)
    require(model, reading, blocks, reads)
    value = evaluate(formula, reading)
    if not math.isfinite(value):
        raise ProxyError(f"the score is {value}: an operation of '{formula.text:.80}' is not total")
    require_below_limit(formula, value)
    return value


def is_at_limit(value: float) -> bool:
    """Return whether a score is where the values of formulas stop, up to the rounding of scores."""
    return abs(value) >= MAX * (1 - 1e-9)


#: Where the values of formulas stop, as text.
LIMIT = f"{MAX:.0e}".replace("+", "")
#: Why there is no score of a network that is there.
AT_LIMIT = f"the value is {LIMIT}, where formulas stop"


def require_below_limit(formula: Formula, value: float) -> None:
    """Check that a formula's value is not where values stop, because such scores tie whatever they are of.

    Raises:
        ProxyError: it is.
    """
    if is_at_limit(value):
        reads_synflow = any(terminal.probe == "synflow" for terminal in formula.terminals())
        raise ProxyError(f"no score: {AT_LIMIT}{_WITHOUT_LIMIT if reads_synflow else ''}")


_WITHOUT_LIMIT = "; the functions synflow-all and logsynflow-all go on to 1e308"


def _require_gradient(model: torch.nn.Module, reading: Reading, name: str, probe: str) -> None:
    """Check that a gradient is not exactly 0 in half of the layers or more, because these show nothing of the model.

    Layers of a convolutional network that lead nowhere are a part of its architecture.

    Raises:
        ProxyError: it is.
    """
    if not STATISTICS[name].gradient:
        return
    read = [matrix for key, found in reading.matrices.items() if key[:2] == (name, probe) for matrix in found]
    zero = sum(not (bool(matrix.sum()) or bool(matrix.any())) for matrix in read)  # a sum is made sooner
    if read and 2 * zero >= len(read) and not (reading.convolutional and lead_nowhere(model, read)):
        raise ProxyError(
            f"no score: '{name}' is exactly 0 in {zero} of {len(read)} layers, which nothing of the loss reaches: "
            f"{why_no_gradient(model)}"
        )


#: What the reason for having no score says where weights of zeros stop the gradient.
STARTS_AT_0 = "these start at 0"


def lead_nowhere(model: torch.nn.Module, gradients: Sequence[Tensor]) -> bool:
    """Return whether layers without a gradient are those whose results lead nowhere, as in some cells of a space.

    Then no weight starts at 0, and the gradient reaches the first layer, which it does not where activations vanish.
    """
    return bool(gradients[0].any()) and not _zeros(model)


def _zeros(model: torch.nn.Module) -> list[str]:
    """Return the names of weights, norms and scales that start at 0."""
    return [n for n, p in model.named_parameters() if "bias" not in n and p.dim() != 3 and not p.any()]


def why_no_gradient(model: torch.nn.Module) -> str:
    """Return why nothing may reach a model's blocks, and the fix: weights, norms and scales of zeros are named."""
    zeros = _zeros(model)
    if zeros:
        more = f" and {len(zeros) - 3} more" if len(zeros) > 3 else ""
        named = f"{', '.join(zeros[:3])}{more}"
        return f"{STARTS_AT_0}: {named}; give other initial weights, as autoprox.fill_zeros does"
    norms = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    if any(not bool(m.running_mean.any()) for m in norms if m.running_mean is not None):
        return (
            "its batch norms have no running statistics yet, so that activations vanish on the way; run it on images "
            "in training mode first, or give larger initial weights"
        )
    return "there is one class, or a scale of 0; give other initial weights"


def _require_slots(blocks: Sequence[Block], reads: Reads) -> None:
    """Check that some block of the user's list has each slot that the formula reads.

    Raises:
        LayerError: no block has one of them.
    """
    for name, _, slots in reads:
        for slot in slots:
            if slot in SLOTS and not any(slot in block.linears for block in blocks):
                raise LayerError(f"the formula reads '{name}' of '{slot}'; no block has one; name it in layers=[...]")


def require(model: torch.nn.Module, reading: Reading, blocks: Sequence[Block], reads: Reads) -> None:
    """Check that a reading has every statistic of `reads`, and that a score can be computed from it.

    Raises:
        LayerError: the model lacks a statistic.
        ProxyError: a statistic has entries that are NaN or infinite, or a gradient is 0 in half of the layers.
    """
    for name, probe, slots in reads:
        if not slots and name not in reading.net:
            raise LayerError(f"the formula reads '{name}', which this model does not show; see layers=")
        if name in STATISTICS:
            _require_gradient(model, reading, name, probe)
        for slot in slots:
            matrices = reading.matrices.get((name, probe, slot))
            if not reading.places.get(slot, True) and any(reading.places.get(other) for other in slots):
                continue  # of a role with several slots, what the model has is read
            if matrices is None and (name, slot) not in reading.layers:
                raise LayerError(
                    f"the formula reads '{name}' of '{slot}'; not every block has one; name them with layers=[...]"
                )
            for number, matrix in enumerate(matrices or ()):
                block = blocks[reading.places[slot][number] if reading.places else number]
                _require_numbers(matrix, f"'{name}' of {', '.join(block.linears.get(slot, block.softmaxes))}", probe)


def _require_numbers(matrix: Tensor, what: str, probe: str) -> None:
    """Check that a formula can compute with the entries of a matrix.

    Raises:
        ProxyError: some are NaN or infinite, or SynFlow's are where formulas stop.
    """
    synflow = probe == "synflow"
    total = matrix.abs().sum() if synflow else matrix.sum()
    above = int((matrix.abs() >= MAX).sum()) if synflow and not bool(total < MAX) else 0
    if above:
        raise ProxyError(
            f"no score: {above} of {matrix.numel()} entries of {what} are above {LIMIT}, where formulas stop"
            f"{_WITHOUT_LIMIT}"
        )
    # a finite sum has finite entries, and is quickly made
    wrong = 0 if torch.isfinite(total) else matrix.numel() - int(torch.isfinite(matrix).sum())
    if wrong:
        cause = (
            "SynFlow's products over all layers exceed what its numbers can hold"
            if synflow
            else "look at the model's initial weights and at the inputs"
        )
        raise ProxyError(f"no score: {wrong} of {matrix.numel()} entries of {what} are NaN or infinite; {cause}")


def gaussian_batch(spec: InputSpec, samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw what networks run on where there are no images: Gaussian inputs (float32) and random classes.

    Where the batch has room, every class comes twice, because some proxies compare samples of one class.
    """
    rng = np.random.default_rng((seed, 0))
    inputs = rng.standard_normal((samples, spec.in_channels, spec.image_size, spec.image_size), dtype=np.float32)
    distinct = min(max((samples + 1) // 2, 2), spec.num_classes)
    return inputs, np.resize(rng.choice(spec.num_classes, distinct, replace=False), samples)
