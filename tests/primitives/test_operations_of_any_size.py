"""Operations in float32 give what they give in float64, however small or large the entries are."""

import pytest
import torch
from torch import Tensor

from autoprox.primitives import OPERATIONS, Operation
from autoprox.primitives.operations import MAX, TINY

SIZES = (1e-26, 1e-23, 1e-21, 1e-18, 1e-15, 1e-10, 1.0, 1e10, 1e15, 1e19, 1e20, 1e25, 1e28)

LARGEST = float(torch.tensor(MAX))  # 1e30 is no float32

#: What they make of c x is c times what they make of x, or the same: no size of the entries is special.
SCALING = [
    *("row_norm", "column_norm", "batch_mean", "batch_std", "sample_sum", "sum", "mean", "l1", "l1_mean", "fro", "std"),
    *("max", "min", "zscore", "minmax", "nuclear", "spectral", "effective_rank"),
]


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def call(operation: Operation, *args: Tensor) -> Tensor:
    return operation.function(*args, 2) if operation.per_sample else operation.function(*args)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", SCALING)
def test_float32_agrees_with_float64(name: str, size: float) -> None:
    for x in (drawn(8, 6), drawn(64, 48)):
        given = x * size
        expected = call(OPERATIONS[name], given.double())
        spread = 1e-5 * float(expected.abs().max())
        torch.testing.assert_close(call(OPERATIONS[name], given).double(), expected, rtol=1e-5, atol=spread)


@pytest.mark.parametrize("name", ["row_norm", "column_norm", "fro", "std", "batch_std"])
def test_matrices_of_a_batch_may_differ_in_size(name: str) -> None:
    x = torch.stack([drawn(8, 6) * size for size in SIZES] + [torch.zeros(8, 6)])
    together = call(OPERATIONS[name], x)
    assert torch.equal(together, torch.stack([call(OPERATIONS[name], one) for one in x]))
    assert not together[-1].any()


def test_rows_of_a_matrix_may_differ_in_size() -> None:
    rows = drawn(4, 6) * torch.tensor([[1e-25], [1.0], [0.0], [1e25]])
    expected = rows.double().square().sum(1, keepdim=True).sqrt().float()
    torch.testing.assert_close(OPERATIONS["row_norm"].function(rows), expected, rtol=1e-6, atol=0.0)
    assert torch.equal(OPERATIONS["column_norm"].function(rows.mT), OPERATIONS["row_norm"].function(rows).mT)


@pytest.mark.parametrize("size", [1e-9, 1e-4, 1.0, 1e5, 1e12])
def test_entries_of_ordinary_size_are_squared_as_they_are(size: float) -> None:
    """Scores of ordinary networks do not depend on how the others are computed: they are the same to the last bit."""
    x = drawn(64, 48) * size
    assert torch.equal(OPERATIONS["fro"].function(x), x.square().sum((-2, -1)).sqrt())
    assert torch.equal(OPERATIONS["row_norm"].function(x), x.square().sum(-1, keepdim=True).sqrt())
    apart = x - x[:1, :1]
    apart -= apart.mean()
    assert torch.equal(OPERATIONS["std"].function(x), apart.square().mean((-2, -1)).sqrt())


def test_products_that_overflow_keep_their_sign() -> None:
    """Products of 1e40 are infinite in float32, and their sum is no number."""
    a = torch.tensor([[1e20, 1e20, 1e20], [1e20, -1e20, 0.0]])
    b = torch.tensor([[1e20, 1e20, -3e20], [1e20, 1e20, 0.0]])
    assert OPERATIONS["matmul"].function(a, b).tolist() == [[-LARGEST, LARGEST], [0.0, 0.0]]
    assert OPERATIONS["gram"].function(a).tolist() == [[LARGEST, 0.0], [0.0, LARGEST]]


def test_norms_of_the_smallest_numbers() -> None:
    """Float32 has numbers below TINY; their norm is a number of the same size, and not 0."""
    x = torch.full((4, 4), TINY / 1e6)
    assert OPERATIONS["fro"].function(x).item() == pytest.approx(4 * TINY / 1e6, rel=1e-3)


@pytest.mark.parametrize("entry", [0.1, 1 / 3, -7.7e5, 3.3e-12, 1e30, 1e-30])
def test_equal_entries_have_no_deviation(entry: float) -> None:
    """Nor may rounding errors of their mean be taken for one, which `zscore` would then divide by."""
    x = torch.full((37, 53), entry)
    assert OPERATIONS["std"].function(x) == 0
    assert torch.equal(OPERATIONS["zscore"].function(x), torch.zeros(37, 53))


@pytest.mark.parametrize("outlier", [1.0, 1e4])
def test_deviations_have_float32s_digits_whatever_the_first_entry_is(outlier: float) -> None:
    x = drawn(64, 48) + 100.0
    x[0, 0] *= outlier
    expected = x.double().std((-2, -1), correction=0).float()
    torch.testing.assert_close(OPERATIONS["std"].function(x), expected, rtol=2e-6, atol=0.0)


def test_powers_in_float32_are_exact_to_one_part_in_a_hundred_thousand() -> None:
    base = torch.logspace(-29.9, 30, 500)[:, None]
    exponent = torch.linspace(-3, 3, 61)
    expected = base.double().pow(exponent.double()).clamp(-1e30, 1e30).float()
    found = OPERATIONS["pow"].function(base, exponent)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-37)
    ones = OPERATIONS["pow"].function(torch.ones(2, 2), torch.tensor([[3.7, -1e30], [1e30, 0.0]]))
    assert torch.equal(ones, torch.ones(2, 2))
    assert torch.equal(OPERATIONS["pow"].function(torch.zeros(2, 2), torch.tensor([-1.0, 0.0])), torch.zeros(2, 2))
