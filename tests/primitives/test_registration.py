"""Registering an operation: what is refused, and that a good one is one edit."""

import dataclasses

import pytest
import torch
from torch import Tensor

from autoprox.primitives import OPERATIONS, Operation, OperationError, Vocabulary

# Registration: each of these is an edit that somebody could make, and must be refused for the reason it is wrong.


def nan_at_zero(x: Tensor) -> Tensor:
    return x / x


def overflowing(x: Tensor) -> Tensor:
    return x * x


def flat(x: Tensor) -> Tensor:
    return x.flatten()


def to_number(x: Tensor) -> Tensor:
    return x.sum()


def in_place(x: Tensor) -> Tensor:
    return x.clamp_(-1, 1)


def needs_two_rows(x: Tensor) -> Tensor:
    return x - x[1]


def to_float(x: Tensor) -> float:
    return float(x.flatten()[0])


def of_the_whole_batch(x: Tensor) -> Tensor:
    return x * 0 + x.mean().clamp(-1, 1)


def doubled(x: Tensor) -> Tensor:
    return x.clamp(-1e29, 1e29) * 2


def falling(x: Tensor) -> Tensor:
    return -x


def first(a: Tensor, b: Tensor) -> Tensor:
    return a.expand(torch.broadcast_shapes(a.shape, b.shape))


def half(x: Tensor) -> Tensor:
    return x / 2


REFUSED = {
    "NaN at 0": (Operation("bad", "map", nan_at_zero, "{0}"), "is not finite"),
    "overflow": (Operation("bad", "map", overflowing, "{0}"), "is not finite"),
    "shape of a map": (Operation("bad", "map", flat, "{0}"), r"gives shape \(1,\), not \(1, 1\)"),
    "a reduction as a map": (Operation("bad", "map", to_number, "{0}"), r"gives shape \(\), not \(1, 1\)"),
    "a map as a reduction": (Operation("bad", "reduce", half, "{0}"), r"gives shape \(1, 1\), not \(\)"),
    "shape of a derived matrix": (Operation("bad", "derive", half, "{0}", derives="rows"), r"\(1, 12\), not \(1, 1\)"),
    "argument changed": (Operation("bad", "map", in_place, "{0}"), "changes its argument in place"),
    "error on one row": (Operation("bad", "normalise", needs_two_rows, "{0}"), "raises IndexError"),
    "no tensor": (Operation("bad", "reduce", to_float, "{0}"), "gives float, not a tensor"),
    "mixes a batch": (Operation("bad", "normalise", of_the_whole_batch, "{0}"), "another value in a batch"),
    "duplicate name": (Operation("sum", "map", half, "{0}"), "there is already an operation 'sum'"),
    "no identifier": (Operation("my op", "map", half, "{0}"), "'my op' is not an identifier"),
    "no ASCII identifier": (Operation("é", "map", half, "{0}"), "not an identifier"),
    "unknown family": (Operation("bad", "maps", half, "{0}"), "family 'maps' is not one of map,"),
    "unknown derived shape": (Operation("bad", "derive", half, "{0}", derives="half"), "'half' is not one of rows"),
    "another's sign": (Operation("bad", "binary", first, "{0}", infix="+"), "the sign '\\+' is not its own"),
    "unknown sign": (Operation("bad", "binary", first, "{0}", infix="^"), "is not its own"),
    "not nonnegative": (Operation("bad", "map", half, "{0}", nonnegative=True), "negative although it says"),
    "not commutative": (Operation("bad", "binary", first, "{0}", commutative=True), "not commutative although"),
    "commutative alone": (Operation("bad", "map", half, "{0}", commutative=True), "not commutative although"),
    "not idempotent": (Operation("bad", "map", doubled, "{0}", idempotent=True), "not idempotent although"),
    "no involution": (Operation("bad", "map", doubled, "{0}", involution=True), "not an involution although"),
    "not increasing": (Operation("bad", "map", falling, "{0}", increasing=True), "not strictly increasing although"),
    "increasing reduction": (
        dataclasses.replace(OPERATIONS["mean"], name="bad", increasing=True),
        "only a map is increasing",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("operation", "reason"), REFUSED.values(), ids=REFUSED)
def test_registration_refuses(operation: Operation, reason: str) -> None:
    with pytest.raises(OperationError, match=reason) as caught:
        OPERATIONS.extended(operation)
    assert f"'{operation.name}'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_registration_admits_a_good_operation_in_one_edit() -> None:
    larger = OPERATIONS.extended(Operation("half", "map", half, r"\tfrac{{{0}}}{{2}}", increasing=True))
    assert list(larger) == [*OPERATIONS, "half"]
    assert "half" not in OPERATIONS
    assert larger["half"].about == ""


def test_vocabulary_is_proved_when_it_is_made() -> None:
    """Every record of the vocabulary goes through the same door."""
    assert dict(Vocabulary(*OPERATIONS.values())) == dict(OPERATIONS)
    with pytest.raises(OperationError):
        Vocabulary(OPERATIONS["sum"], OPERATIONS["sum"])
    with pytest.raises(TypeError):
        OPERATIONS["new"] = OPERATIONS["sum"]  # type: ignore[index]
