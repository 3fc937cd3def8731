"""Operations: what each computes against independent oracles, its algebra, totality, and what registration refuses."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from autoprox.primitives import OPERATIONS, Operation
from autoprox.primitives.operations import AUTO_PROX_BINARIES, AUTO_PROX_UNARIES, FAMILIES, MAX, TINY

every_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
SAMPLES = 2


def drawn(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Draw a tensor of ordinary numbers with some exact zeros among them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 2, shape) * (rng.random(shape) < 0.9)
    return torch.tensor(x, dtype=dtype)


def call(operation: Operation, *args: Tensor, samples: int = SAMPLES) -> Tensor:
    """Apply the operation, with the number of samples where it takes one."""
    return operation.function(*args, samples) if operation.per_sample else operation.function(*args)


def arguments(operation: Operation, seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Draw as many tensors as the operation takes."""
    return [drawn(seed + number, *shape, dtype=dtype) for number in range(operation.arity)]


# Oracles: name → the same function of numpy arrays, written with other means than the operation itself.


def singular_values(x: np.ndarray) -> np.ndarray:
    return np.linalg.svd(x, compute_uv=False)


def patterns(x: np.ndarray) -> float:
    halves = np.split(x > 0, SAMPLES)
    return len({tuple(half[i, j] for half in halves) for i in range(len(halves[0])) for j in range(x.shape[1])})


def agreement(x: np.ndarray) -> float:
    codes = [half.ravel() > 0 for half in np.split(x, SAMPLES)]
    kernel = [[sum(a == b for a, b in zip(one, other, strict=True)) for other in codes] for one in codes]
    return np.linalg.slogdet(np.array(kernel, dtype=float))[1]


def rank_entropy(x: np.ndarray) -> float:
    return math.exp(scipy.stats.entropy(singular_values(x)))


ORACLES: dict[str, Callable[..., object]] = {
    "identity": lambda x: x,
    "log": lambda x: np.log(np.where(x > TINY, x, TINY)),
    "abslog": lambda x: np.log(np.where(abs(x) > TINY, abs(x), TINY)),
    "abs": np.abs,
    "square": lambda x: x**2,
    "exp": np.exp,
    "relu": lambda x: np.where(x > 0, x, 0.0),
    "invert": lambda x: np.divide(1.0, x, out=np.zeros_like(x), where=x != 0),
    "sqrt": lambda x: np.sign(x) * np.sqrt(np.abs(x)),
    "neg": np.negative,
    "sigmoid": scipy.special.expit,
    "tanh": np.tanh,
    "sign": np.sign,
    "zscore": lambda x: scipy.stats.zscore(x, axis=None),
    "minmax": lambda x: (x - x.min()) / np.ptp(x),
    "softmax": lambda x: scipy.special.softmax(x, axis=1),
    "logsoftmax": lambda x: scipy.special.log_softmax(x, axis=1),
    "row_norm": lambda x: np.linalg.norm(x, axis=1)[:, None],
    "column_norm": lambda x: np.linalg.norm(x, axis=0)[None, :],
    "gram": lambda x: np.einsum("ik,jk->ij", x, x),
    "matmul": lambda a, b: np.einsum("ik,jk->ij", a, b),
    "batch_mean": lambda x: np.mean(np.split(x, SAMPLES), axis=0),
    "batch_std": lambda x: np.std(np.split(x, SAMPLES), axis=0),
    "sample_sum": lambda x: np.array([half.sum(axis=0) for half in np.split(x, SAMPLES)]),
    "sum": lambda x: math.fsum(x.flat),
    "mean": lambda x: math.fsum(x.flat) / x.size,
    "l1": lambda x: np.linalg.norm(x.ravel(), 1),
    "l1_mean": lambda x: np.linalg.norm(x.ravel(), 1) / x.size,
    "fro": lambda x: np.linalg.norm(x, "fro"),
    "std": np.std,
    "max": np.max,
    "min": np.min,
    "logsum": lambda x: np.log(np.maximum(abs(x), TINY)).sum(),
    "nuclear": lambda x: np.linalg.norm(x, "nuc"),
    "spectral": lambda x: np.linalg.norm(x, 2),
    "effective_rank": rank_entropy,
    "logdet": lambda x: np.linalg.slogdet(x @ x.T if len(x) <= x.shape[1] else x.T @ x)[1],
    "pattern_count": patterns,
    "agreement_logdet": agreement,
    "depth_difference": lambda x: np.diff(x, axis=0, prepend=x[:1]),
    "depth_weighted": lambda x: sum((number + 1) / len(x) * row.sum() for number, row in enumerate(x)),
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": lambda a, b: np.divide(a, b, out=np.zeros_like(a), where=b != 0),
    "pow": lambda a, b: np.where(a == 0, 0.0, np.abs(np.where(a == 0, 1.0, a)) ** b),
    "maximum": lambda a, b: np.where(a > b, a, b),
    "minimum": lambda a, b: np.where(a < b, a, b),
}


@every_operation
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 3e-5)])
@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (2, 1)])
def test_value_is_the_oracles(
    operation: Operation, dtype: torch.dtype, tolerance: float, shape: tuple[int, int]
) -> None:
    """Compare with numpy and scipy in float64; float32 keeps five digits of these numbers."""
    for seed in range(20):
        args = arguments(operation, 10 * seed, *shape, dtype=dtype)
        if operation.name in ("zscore", "minmax", "effective_rank") and args[0].unique().numel() < 2:
            continue  # the oracle divides by zero; see test_constant_matrices
        if operation.name == "logdet" and torch.linalg.matrix_rank(args[0]) < min(shape):
            continue  # see test_spectra_of_rank_deficient_matrices
        if (
            operation.name == "agreement_logdet"
            and len({half.numpy().tobytes() for half in (args[0] > 0).chunk(2)}) < 2
        ):
            continue  # see test_agreement_of_identical_samples
        expected = ORACLES[operation.name](*(x.double().numpy() for x in args))
        value = call(operation, *args)
        assert value.dtype == dtype
        np.testing.assert_allclose(value.double().numpy(), expected, rtol=tolerance, atol=tolerance)


def test_every_operation_has_an_oracle() -> None:
    assert set(ORACLES) == set(OPERATIONS)


@pytest.mark.parametrize("samples", [1, 3, 62, 63, 64, 130, 200])
def test_pattern_count_is_that_of_a_set(samples: int) -> None:
    """Count with a Python set; few distinct neurons, so that patterns repeat and differ in late samples."""
    rng = np.random.default_rng(samples)
    kinds = rng.integers(0, 2, (7, samples))
    kinds[3] = kinds[2]
    kinds[3, -1] ^= 1  # tells two neurons apart by the last sample alone
    neurons = kinds[rng.integers(0, 7, 4 * 5)].reshape(4, 5, samples)  # tokens × features × samples
    x = torch.tensor(np.moveaxis(neurons, -1, 0) * 2.0 - 1.0).reshape(samples * 4, 5)
    expected = len({tuple(neuron) for neuron in neurons.reshape(20, samples)})
    assert OPERATIONS["pattern_count"].function(x, samples).item() == expected
    assert OPERATIONS["pattern_count"].function(torch.stack([x, -x, x.abs()]), samples).tolist() == [
        expected,
        expected,
        1,
    ]


def test_batch_operations_take_the_rows_of_each_sample() -> None:
    x = torch.tensor([[1.0], [10.0], [3.0], [30.0], [8.0], [80.0]])  # three samples of two tokens
    assert call(OPERATIONS["batch_mean"], x, samples=3).tolist() == [[4.0], [40.0]]
    spread = [[np.std([1, 3, 8])], [np.std([10, 30, 80])]]
    np.testing.assert_allclose(call(OPERATIONS["batch_std"], x, samples=3), spread, rtol=1e-6)
    assert call(OPERATIONS["sample_sum"], x, samples=3).tolist() == [[11.0], [33.0], [88.0]]


def test_agreement_of_identical_samples() -> None:
    """Four neurons, one token: codes 1100, 1010, 1100. K = [[4, 2, 4], [2, 4, 2], [4, 2, 4]] has the characteristic
    polynomial λ (λ² − 12 λ + 24), so the product of its other eigenvalues is 24; the third counts as TINY."""
    x = torch.tensor([[1.0, 2.0, -1.0, 0.0], [3.0, -1.0, 0.5, -2.0], [0.1, 0.1, 0.0, -0.1]])
    value = OPERATIONS["agreement_logdet"].function(x, 3).item()
    assert value == pytest.approx(math.log(24) + math.log(TINY), rel=1e-6)
    assert OPERATIONS["agreement_logdet"].function(x[:2], 2).item() == pytest.approx(math.log(4 * 4 - 2 * 2), rel=1e-6)


def test_constant_matrices() -> None:
    """Nothing varies: scaled values are 0, softmax is uniform, one direction spans all."""
    x = torch.full((3, 4), 7.0)
    assert not OPERATIONS["zscore"].function(x).any()
    assert not OPERATIONS["minmax"].function(x).any()
    assert OPERATIONS["effective_rank"].function(x).item() == pytest.approx(1.0, abs=1e-5)
    assert OPERATIONS["effective_rank"].function(torch.zeros(3, 4)).item() == 0.0
    assert OPERATIONS["pattern_count"].function(x, 3).item() == 1.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_spectra_of_rank_deficient_matrices(dtype: torch.dtype) -> None:
    """Singular values that are zero count as zero: not as rounding errors, whose logarithm would be noise."""
    rng = np.random.default_rng(0)
    for shape in [(12, 8), (8, 12), (12, 12)]:
        factors = rng.integers(-3, 4, (shape[0], 3)), rng.integers(-3, 4, (3, shape[1]))
        x = torch.tensor(factors[0] @ factors[1], dtype=dtype)  # exact integers of rank 3
        sigma = np.linalg.svd(x.double().numpy(), compute_uv=False)[:3]
        expected = 2 * np.log(sigma).sum() + (min(shape) - 3) * math.log(TINY)
        assert OPERATIONS["logdet"].function(x).item() == pytest.approx(expected, rel=1e-5)
        assert OPERATIONS["nuclear"].function(x).item() == pytest.approx(sigma.sum(), rel=1e-6)
        assert OPERATIONS["effective_rank"].function(x).item() == pytest.approx(
            math.exp(scipy.stats.entropy(sigma)), rel=1e-6
        )


def test_division_and_powers_are_protected() -> None:
    div, power, invert = (OPERATIONS[name].function for name in ("div", "pow", "invert"))
    zero, one, tiny = torch.tensor([[0.0]]), torch.tensor([[1.0]]), torch.tensor([[TINY / 2]])
    assert [div(one, zero).item(), div(one, tiny).item(), invert(zero).item(), invert(tiny).item()] == [0.0] * 4
    assert [power(zero, zero).item(), power(zero, -one).item(), power(tiny, one).item()] == [0.0] * 3
    assert power(-2 * one, 3 * one).item() == 8.0
    assert power(torch.tensor([[3.0]]), torch.tensor([[2.0]])).item() == 9.0


LARGEST = float(np.float32(MAX))  # 1e30 is no float32

hard_numbers = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, MAX, -MAX, TINY, -TINY, 1e-40, 1e15, -1e15, 1e19, 88.0, -104.0]),
    st.floats(-LARGEST, LARGEST, width=32),
)


@st.composite
def hard_cases(draw: Callable) -> tuple[Operation, list[Tensor], int]:
    """Draw an operation and matrices of any numbers that the language can hold."""
    operation = draw(st.sampled_from(list(OPERATIONS.values())))
    rows, columns, samples = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    size = rows * samples * columns
    dtype = draw(st.sampled_from((torch.float32, torch.float64)))
    args = [
        torch.tensor(draw(st.lists(hard_numbers, min_size=size, max_size=size)), dtype=dtype).reshape(-1, columns)
        for _ in range(operation.arity)
    ]
    return operation, args, samples


@settings(max_examples=4 * settings.default.max_examples)
@given(case=hard_cases())
def test_finite_in_finite_out(case: tuple[Operation, list[Tensor], int]) -> None:
    operation, args, samples = case
    before = [x.clone() for x in args]
    value = call(operation, *args, samples=samples)
    assert torch.isfinite(value).all()
    if operation.family in ("map", "normalise", "along_depth", "binary"):
        assert value.shape == args[0].shape
    if operation.nonnegative:
        assert not (value < 0).any()
    assert all(torch.equal(x, y) for x, y in zip(args, before, strict=True))


@settings(max_examples=4 * settings.default.max_examples)
@given(operation=st.sampled_from(list(OPERATIONS.values())), seed=st.integers(0, 10**6), scale=st.floats(1e-3, 50))
def test_stated_algebra_holds(operation: Operation, seed: int, scale: float) -> None:
    args = [x * scale for x in arguments(operation, seed, 4, 3)]
    function = operation.function
    if operation.commutative:
        assert torch.equal(function(*args), function(*reversed(args)))
    if operation.idempotent:
        assert torch.equal(function(function(args[0])), function(args[0]))
    if operation.involution:
        assert torch.equal(function(function(args[0])), args[0])
    if operation.increasing:  # strictly where the numbers do not saturate: exp at 69, sigmoid and tanh at ±17
        line = torch.linspace(-15, 15, 400, dtype=torch.float64).reshape(20, 20)
        assert (function(line).flatten().diff() > 0).all()
        assert (function(args[0].flatten().sort().values.reshape(1, -1)).diff() >= 0).all()


def test_flags_that_hold_are_stated() -> None:
    """The algebra of the canonical form is complete for these properties of maps and binaries."""
    x, y = drawn(0, 6, 5), drawn(1, 6, 5)
    line = torch.linspace(-15, 15, 400, dtype=torch.float64).reshape(20, 20)
    for operation in OPERATIONS.values():
        function = operation.function
        if operation.family == "binary":
            assert operation.commutative == torch.equal(function(x, y), function(y, x)), operation.name
        elif operation.family == "map":
            assert operation.idempotent == torch.equal(function(function(x)), function(x)), operation.name
            assert operation.involution == (operation.name in ("identity", "neg")), operation.name
            assert operation.increasing == bool((function(line).flatten().diff() > 0).all()), operation.name
        if operation.family in ("map", "normalise", "reduce"):
            values = torch.cat([call(operation, part).flatten() for part in (x, x * 0.01, x - 50.0)])
            assert operation.nonnegative == bool((values >= 0).all()), operation.name


@every_operation
def test_a_batch_gives_what_its_members_give(operation: Operation) -> None:
    """Leading axes are a batch; sums may be added in another order, which float64 shows in the last digits."""
    args = [drawn(number, 3, 2, 4, 6) for number in range(operation.arity)]
    together = call(operation, *args)
    for place in np.ndindex(3, 2):
        alone = call(operation, *(x[place] for x in args))
        torch.testing.assert_close(together[place], alone, rtol=1e-12, atol=1e-12)


@every_operation
def test_record_is_complete(operation: Operation) -> None:
    assert operation.about, "the function's docstring says what it is"
    assert operation.family in FAMILIES
    assert "{0}" in operation.latex
    assert ("{1}" in operation.latex) == (operation.arity == 2)
    shown = operation.latex.format("a", "b")
    assert shown.count("{") == shown.count("}")
    assert shown.count(r"\left") == shown.count(r"\right")


def test_auto_prox_vocabulary() -> None:
    """Twenty unary and four binary numbers, in the published order (arXiv 2312.09059, code)."""
    assert len(AUTO_PROX_UNARIES) == 20
    assert len(AUTO_PROX_BINARIES) == 4
    assert {OPERATIONS[name].arity for name in AUTO_PROX_UNARIES} == {1}
    assert {OPERATIONS[name].arity for name in AUTO_PROX_BINARIES} == {2}
    published = {0: "log", 2: "abs", 8: "fro", 12: "sigmoid", 14: "sqrt", 16: "minmax", 18: "std", 19: "identity"}
    assert {number: AUTO_PROX_UNARIES[number] for number in published} == published
    assert AUTO_PROX_BINARIES[:3] == ("add", "sub", "mul")


@pytest.mark.parametrize("name", ["nuclear", "spectral", "effective_rank", "logdet"])
def test_a_matrix_that_is_not_finite_has_no_spectrum_and_spoils_no_other(name: str) -> None:
    matrices = torch.randn(3, 8, 5, generator=torch.Generator().manual_seed(0))
    whole = OPERATIONS[name].function(matrices.clone())
    matrices[1, 0, 0] = torch.inf
    found = OPERATIONS[name].function(matrices)
    assert found[1].isnan()
    assert found[[0, 2]].tolist() == whole[[0, 2]].tolist()
