"""Scoring: a formula's value on a model, with what it reads checked first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from autoprox.primitives import (
    Block,
    Formula,
    LayerError,
    Reading,
    evaluate,
    find_blocks,
    read_statistics,
    requirements,
)
from autoprox.primitives.kinds import role_slots

#: What a formula reads: statistic, probe, and the layers of a block (none for a number of the network).
Reads = tuple[tuple[str, str, tuple[str, ...]], ...]


class ProxyError(ValueError):
    """A proxy that cannot be made, found or read, or that has no score for a model; one line says why."""


def formula_reads(formula: Formula) -> Reads:
    """What the formula reads from a model, in order of first use."""
    return tuple((t.statistic.name, t.probe, role_slots(t.role) if t.role else ()) for t in formula.terminals())


def formula_score(
    formula: Formula,
    model: torch.nn.Module,
    inputs: Tensor | None = None,
    targets: Tensor | None = None,
    *,
    layers: Sequence[Mapping[str, object]] | None = None,
    seed: int = 0,
) -> float:
    """The formula's value on a model, which is left bit for bit as it was; see `Proxy.score`."""
    if not isinstance(model, torch.nn.Module):
        raise ProxyError(f"a proxy scores a torch.nn.Module, not a {type(model).__name__}")
    if targets is not None and not isinstance(targets, Tensor):
        raise ProxyError(f"targets must be a torch.Tensor of class numbers, not a {type(targets).__name__}")
    for terminal in formula.terminals():
        if terminal.statistic.column:
            raise LayerError(f"the formula reads {terminal}, which is of a benchmark's table; a model has none")
    blocks = find_blocks(model, layers)
    reading = read_statistics(model, blocks, requirements([formula]), inputs, targets, seed)
    require(reading, blocks, formula_reads(formula))
    value = evaluate(formula, reading)
    if not math.isfinite(value):
        raise ProxyError(f"the score is {value}: an operation of '{formula.text:.80}' is not total")
    return value


def require(reading: Reading, blocks: Sequence[Block], reads: Reads) -> None:
    """Raise LayerError if the model lacks a statistic, ProxyError if one has entries that are NaN or infinite."""
    for name, probe, slots in reads:
        if not slots and name not in reading.net:
            raise LayerError(f"the formula reads '{name}', which this model does not show; see layers=")
        for slot in slots:
            matrices = reading.matrices.get((name, probe, slot))
            if matrices is None and (name, slot) not in reading.layers:
                raise LayerError(
                    f"the formula reads '{name}' of '{slot}'; not every block has one; name them with layers=[...]"
                )
            for number, matrix in enumerate(matrices or ()):  # a finite sum has finite entries, and is quickly made
                wrong = 0 if torch.isfinite(matrix.sum()) else matrix.numel() - int(torch.isfinite(matrix).sum())
                if wrong:
                    path = ", ".join(blocks[number].linears.get(slot, (blocks[number].softmax,)))
                    raise ProxyError(
                        f"no score: {wrong} of {matrix.numel()} entries of '{name}' of {path} are NaN or infinite; "
                        "look at the model's initial weights and at the inputs"
                    )
