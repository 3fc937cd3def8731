"""Proof: an operation is run on hard inputs, and refused if it is not total or not what its record says."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from autoprox.primitives.operations.record import Operation, OperationError
from autoprox.primitives.operations.total import MAX, TINY

_HARD_VALUES = (0.0, -1.0, 1.0, 0.5, -MAX, MAX, -TINY, TINY, 1e-38, 3.0, -1e15, 1e15)


def _hard_inputs(dtype: torch.dtype) -> list[Tensor]:
    values = torch.tensor(_HARD_VALUES, dtype=dtype)
    single = [value.reshape(1, 1) for value in values]
    return [
        *single,
        values.reshape(1, -1),
        values.reshape(-1, 1),
        values.reshape(4, 3),
        torch.zeros(4, 2, dtype=dtype),
        torch.tensor([[MAX, MAX], [MAX, -MAX]], dtype=dtype),
    ]


def prove_total(operation: Operation) -> None:
    """Run the operation on the hard inputs, and compare what it does with its record.

    Raises:
        OperationError: alone or in a batch it gives anything but finite numbers of the right shape, it changes its
            argument, or it lacks the algebra that its record states.
    """
    dtypes = [torch.float32] if operation.family in ("normalise", "derive", "product", "spectrum") else []
    if operation.family in ("along_depth", "aggregate"):
        dtypes = [torch.float64]
    for dtype in dtypes or [torch.float32, torch.float64]:
        inputs = _hard_inputs(dtype)
        cases: list[tuple[Tensor, ...]]
        if operation.arity == 1:
            cases = [(x,) for x in inputs]
        else:
            cases = [(a, b) for a, b in itertools.product(inputs, inputs) if a.shape == b.shape]
        if operation.family == "map":  # numbers reach these two as they are
            cases += [(x[0, 0],) for x in inputs]
        elif operation.family == "binary":
            cases += [case for x in inputs for case in ((x, inputs[1][0, 0]), (inputs[1][0, 0], x))]
        for case in cases:
            _prove_case(operation, case)
    _prove_batch(operation)
    _prove_algebra(operation)


def _called(operation: Operation, *args: Tensor, samples: int = 1) -> Tensor:
    try:
        value = operation.function(*args, samples) if operation.per_sample else operation.function(*args)
    except Exception as error:
        shapes = " and ".join(" × ".join(map(str, x.shape)) or "one number" for x in args)
        raise OperationError(f"operation '{operation.name}' on {shapes} raises {error!r}") from error
    if not isinstance(value, Tensor):
        raise OperationError(f"operation '{operation.name}' gives {type(value).__name__}, not a tensor")
    return value


def _expected_shape(operation: Operation, shape: tuple[int, ...], samples: int) -> tuple[int, ...]:
    if operation.family in ("reduce", "spectrum", "aggregate"):
        return shape[:-2]
    if operation.family not in ("derive", "product"):
        return shape
    rows, columns = shape[-2:]
    derived = {
        "rows": (rows, 1),
        "columns": (1, columns),
        "gram": (rows, rows),
        "batch": (rows // samples, columns),
        "samples": (samples, columns),
    }
    return shape[:-2] + derived[operation.derives]


def _prove_case(operation: Operation, case: tuple[Tensor, ...]) -> None:
    shape = tuple(torch.broadcast_shapes(*(x.shape for x in case)))
    told = f"operation '{operation.name}' on {' × '.join(map(str, shape)) or 'one number'}"
    before = [x.clone() for x in case]
    for samples in {1, math.gcd(shape[-2], 2)} if operation.per_sample else {1}:
        value, expected = _called(operation, *case, samples=samples), _expected_shape(operation, shape, samples)
        if tuple(value.shape) != expected:
            raise OperationError(f"{told} gives shape {tuple(value.shape)}, not {expected}")
        if not bool(torch.isfinite(value).all()):
            raise OperationError(f"{told} with entries {[x.flatten().tolist() for x in case]} is not finite")
        if operation.nonnegative and bool((value < 0).any()):
            raise OperationError(f"{told} is negative although it says nonnegative")
    if any(not torch.equal(x, y) for x, y in zip(case, before, strict=True)):
        raise OperationError(f"{told} changes its argument in place")


def _prove_batch(operation: Operation) -> None:
    a = torch.linspace(-1.5, 2.0, 24, dtype=torch.float64).reshape(3, 4, 2).sin()
    args = (a, a.flip(0) + 1.0)[: operation.arity]
    together = _called(operation, *args, samples=2)
    for number in range(3):
        alone = _called(operation, *(x[number] for x in args), samples=2)
        if together.shape[1:] != alone.shape or not torch.allclose(together[number], alone, rtol=1e-6, atol=1e-9):
            raise OperationError(f"operation '{operation.name}' gives another value in a batch than alone")


def _prove_algebra(operation: Operation) -> None:
    x = torch.tensor([-7.5, -1.0, -0.25, 0.0, 1e-3, 0.5, 1.0, 3.0], dtype=torch.float64).reshape(4, 2)
    told = f"operation '{operation.name}'"
    if operation.commutative and not (operation.arity == 2 and _same(operation, (x, x.flip(0)), (x.flip(0), x))):
        raise OperationError(f"{told} is not commutative although it says so")
    if operation.increasing and operation.family != "map":
        raise OperationError(f"{told}: only a map is increasing, not {operation.family}")
    if (operation.idempotent or operation.involution) and operation.family not in ("map", "normalise", "along_depth"):
        raise OperationError(f"{told}: {operation.family} cannot be idempotent or an involution")
    if operation.idempotent and not _same(operation, (operation.function(x),), (x,)):
        raise OperationError(f"{told} is not idempotent although it says so")
    if operation.involution and not torch.allclose(operation.function(operation.function(x)), x):
        raise OperationError(f"{told} is not an involution although it says so")
    if operation.increasing and not bool((operation.function(x).flatten().diff() > 0).all()):
        raise OperationError(f"{told} is not strictly increasing although it says so")


def _same(operation: Operation, left: tuple[Tensor, ...], right: tuple[Tensor, ...]) -> bool:
    return torch.equal(operation.function(*left), operation.function(*right))
