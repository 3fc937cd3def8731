"""Operations: every function of the language, one record each, proved total when the vocabulary is made.

Every torch function here takes values whose last two axes are the matrix (rows × columns) or, for numbers per
layer, blocks × layers of a block; leading axes are a batch. Each is total: finite in, finite out. Two constants
make it so: values saturate at ±MAX, and anything smaller than TINY counts as zero where it would be divided by.
The functions use torch and each other only, because an exported proxy carries their source with it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

MAX = 1e30
TINY = 1e-30


def saturate(x: Tensor) -> Tensor:
    """x limited to ±MAX, in place: x is always a tensor that was just computed."""
    return x.clamp_(-MAX, MAX)


def ratio(a: Tensor, b: Tensor) -> Tensor:
    """a / b, and 0 where |b| ≤ TINY."""
    divisor = torch.threshold(b.abs(), TINY, math.inf).copysign_(b)  # a third of the time of torch.where
    return saturate(a / divisor)


def identity(x: Tensor) -> Tensor:
    """x"""
    return x


def log(x: Tensor) -> Tensor:
    """log max(x, TINY)"""
    return x.clamp(min=TINY).log()


def abslog(x: Tensor) -> Tensor:
    """log max(|x|, TINY)"""
    return x.abs().clamp_(min=TINY).log_()


def absolute(x: Tensor) -> Tensor:
    """|x|"""
    return x.abs()


def square(x: Tensor) -> Tensor:
    """x²"""
    return saturate(x * x)


def exp(x: Tensor) -> Tensor:
    """exp x"""
    return x.clamp(max=69.0).exp_()


def relu(x: Tensor) -> Tensor:
    """max(x, 0)"""
    return x.clamp(min=0)


def invert(x: Tensor) -> Tensor:
    """1 / x, and 0 where |x| ≤ TINY"""
    return ratio(torch.ones_like(x), x)


def sqrt(x: Tensor) -> Tensor:
    """sign(x) √|x|: the root, continued to negative numbers so that it stays strictly increasing"""
    return x.abs().sqrt_().copysign_(x)


def negate(x: Tensor) -> Tensor:
    """−x"""
    return -x


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp −x)"""
    return x.sigmoid()


def tanh(x: Tensor) -> Tensor:
    """tanh x"""
    return x.tanh()


def sign(x: Tensor) -> Tensor:
    """−1, 0 or 1"""
    return x.sign()


def zscore(x: Tensor) -> Tensor:
    """(x − mean) / standard deviation, over the whole matrix"""
    # torch.std_mean gives both, in five times the time.
    mean, std = x.mean((-2, -1), keepdim=True), x.std((-2, -1), correction=0, keepdim=True)
    return ratio(saturate(x - mean), saturate(std))


def minmax(x: Tensor) -> Tensor:
    """(x − min) / (max − min), over the whole matrix"""
    low, high = x.amin((-2, -1), keepdim=True), x.amax((-2, -1), keepdim=True)
    return ratio(saturate(x - low), saturate(high - low))


def softmax(x: Tensor) -> Tensor:
    """softmax of each row"""
    return x.softmax(-1)


def logsoftmax(x: Tensor) -> Tensor:
    """log softmax of each row"""
    return saturate(x.log_softmax(-1))


def row_norm(x: Tensor) -> Tensor:
    """the Euclidean norm of each row: rows × 1"""
    return saturate(x.square().sum(-1, keepdim=True).sqrt_())


def column_norm(x: Tensor) -> Tensor:
    """the Euclidean norm of each column: 1 × columns"""
    return saturate(x.square().sum(-2, keepdim=True).sqrt_())


def gram(x: Tensor) -> Tensor:
    """x xᵀ: rows × rows"""
    return matmul(x, x)


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """a bᵀ: rows × rows; 0 where a sum of products overflows in both directions"""
    return saturate((a @ b.mT).nan_to_num_(0.0, torch.inf, -torch.inf))


def batch_mean(x: Tensor, samples: int) -> Tensor:
    """mean over the samples (or mini-batches) stacked in the rows"""
    return x.unflatten(-2, (samples, -1)).mean(-3)


def batch_std(x: Tensor, samples: int) -> Tensor:
    """standard deviation over the samples (or mini-batches) stacked in the rows"""
    parts = x.unflatten(-2, (samples, -1))
    return saturate((parts - parts.mean(-3, keepdim=True)).square().mean(-3).sqrt_())


def sample_sum(x: Tensor, samples: int) -> Tensor:
    """sum over the rows of each sample (or mini-batch): samples × columns"""
    return saturate(x.unflatten(-2, (samples, -1)).sum(-2))


def total(x: Tensor) -> Tensor:
    """Σ x"""
    return saturate(x.sum((-2, -1)))


def mean(x: Tensor) -> Tensor:
    """Σ x / number of entries"""
    return saturate(x.mean((-2, -1)))


def l1(x: Tensor) -> Tensor:
    """Σ |x|"""
    return saturate(x.abs().sum((-2, -1)))


def l1_mean(x: Tensor) -> Tensor:
    """Σ |x| / number of entries"""
    return saturate(x.abs().mean((-2, -1)))


def fro(x: Tensor) -> Tensor:
    """√Σ x²: the Frobenius (Euclidean) norm"""
    return saturate(x.square().sum((-2, -1)).sqrt())


def std(x: Tensor) -> Tensor:
    """population standard deviation of the entries"""
    return saturate(x.std((-2, -1), correction=0))


def maximum_entry(x: Tensor) -> Tensor:
    """the largest entry"""
    return x.amax((-2, -1))


def minimum_entry(x: Tensor) -> Tensor:
    """the smallest entry"""
    return x.amin((-2, -1))


def logsum(x: Tensor) -> Tensor:
    """Σ log max(|x|, TINY)"""
    return saturate(abslog(x).sum((-2, -1)))


def squared_singular_values(x: Tensor) -> Tensor:
    """Squared singular values, ascending, from the smaller Gram matrix in float64 after scaling by max |x|.

    Squaring costs half the digits, which float64 has to spare. Values below the rounding error, which is
    max(rows, columns) · 2e-16 of the largest, are 0: otherwise those of a rank-deficient matrix, and with them its
    `logdet`, would be noise. It is several times faster than a singular value decomposition. Returned with the
    scale undone, in float64.
    """
    wide = x.double()
    scale = wide.abs().amax((-2, -1), keepdim=True).clamp(min=TINY)
    wide = wide / scale
    small = wide @ wide.mT if x.shape[-2] <= x.shape[-1] else wide.mT @ wide
    values = torch.linalg.eigvalsh(small)
    noise = values[..., -1:] * (max(x.shape[-2:]) * torch.finfo(values.dtype).eps)
    return torch.where(values > noise, values, 0.0) * scale[..., 0].square()


def nuclear(x: Tensor) -> Tensor:
    """Σ σ: the nuclear norm, with σ the singular values"""
    return saturate(squared_singular_values(x).sqrt().sum(-1).to(x.dtype))


def spectral(x: Tensor) -> Tensor:
    """max σ: the spectral norm"""
    return saturate(squared_singular_values(x)[..., -1].sqrt().to(x.dtype))


def effective_rank(x: Tensor) -> Tensor:
    """exp H(σ / Σ σ), H the entropy; 0 for a zero matrix (Roy and Vetterli 2007)"""
    sigma = squared_singular_values(x).sqrt()
    p = ratio(sigma, sigma.sum(-1, keepdim=True))
    rank = torch.special.entr(p).sum(-1).exp()
    return torch.where(p.sum(-1) > 0, rank, 0.0).to(x.dtype)


def logdet(x: Tensor) -> Tensor:
    """log det of the smaller Gram matrix: Σ log max(σ², TINY)"""
    return squared_singular_values(x).clamp(min=TINY).log().sum(-1).to(x.dtype)


def pattern_count(x: Tensor, samples: int) -> Tensor:
    """how many distinct on/off patterns over the samples the neurons show; a neuron is on where x > 0
    (the Ψ of L-SWAG, arXiv 2505.07300 Eq. 1; SWAP)"""
    neurons = (x > 0).unflatten(-2, (samples, -1)).flatten(-2).mT
    while neurons.shape[-1] > 62:  # fold 62 samples at a time into the rank of their pattern
        head = (neurons[..., :62].long() << torch.arange(62, device=x.device)).sum(-1)
        code = torch.unique(head, return_inverse=True)[1]
        bits = torch.arange(int(code.max()).bit_length() or 1, device=x.device)
        neurons = torch.cat([(code[..., None] >> bits & 1).bool(), neurons[..., 62:]], -1)
    codes = (neurons.long() << torch.arange(neurons.shape[-1], device=x.device)).sum(-1).sort(-1).values
    return (1 + (codes.diff(dim=-1) != 0).sum(-1)).to(x.dtype)


def agreement_logdet(x: Tensor, samples: int) -> Tensor:
    """Σ log max(λ, TINY), λ the eigenvalues of K, K_ij how many neurons are on (x > 0) in both samples i and j or off
    in both: log det K, and log TINY for each sample that repeats others (NWOT, arXiv 2006.04647)"""
    signs = (x > 0).unflatten(-2, (samples, -1)).flatten(-2).to(torch.float32) * 2 - 1
    values = torch.linalg.eigvalsh(((signs @ signs.mT).double() + signs.shape[-1]) / 2)
    noise = values[..., -1:] * (samples * torch.finfo(values.dtype).eps)
    return torch.where(values > noise, values, TINY).log().sum(-1).to(x.dtype)


def depth_difference(x: Tensor) -> Tensor:
    """each block's number minus the previous block's; 0 in the first block"""
    return saturate(x - torch.cat([x[..., :1, :], x[..., :-1, :]], dim=-2))


def depth_weighted(x: Tensor) -> Tensor:
    """Σ_l (l / L) x_l"""
    depth = x.shape[-2]
    weights = torch.arange(1, depth + 1, dtype=x.dtype, device=x.device)[:, None] / depth
    return saturate((x * weights).sum((-2, -1)))


def add(a: Tensor, b: Tensor) -> Tensor:
    """a + b"""
    return saturate(a + b)


def subtract(a: Tensor, b: Tensor) -> Tensor:
    """a − b"""
    return saturate(a - b)


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """a b"""
    return saturate(a * b)


def divide(a: Tensor, b: Tensor) -> Tensor:
    """a / b, and 0 where |b| ≤ TINY"""
    return ratio(a, b)


def power(a: Tensor, b: Tensor) -> Tensor:
    """|a|^b, and 0 where |a| ≤ TINY"""
    magnitude = a.abs()
    there = torch.hardshrink(magnitude, TINY).sign_()  # 1 or 0: a third of the time of torch.where
    return saturate(magnitude.clamp_(min=TINY).pow(b)).mul_(there)


def maximum(a: Tensor, b: Tensor) -> Tensor:
    """the larger of the two"""
    return torch.maximum(a, b)


def minimum(a: Tensor, b: Tensor) -> Tensor:
    """the smaller of the two"""
    return torch.minimum(a, b)


#: family → what it takes and gives.
FAMILIES = {
    "map": "entry by entry: matrix, layer or net → the same kind",
    "normalise": "matrix → a matrix of the same shape",
    "derive": "matrix → a matrix of another shape",
    "product": "two matrices of the same kind → a matrix of another shape",
    "reduce": "matrix → one number per layer; layer → one number per network",
    "spectrum": "matrix → one number per layer",
    "along_depth": "layer → layer",
    "aggregate": "layer → net",
    "binary": "two values of one kind → that kind; a net value combines with layers, a constant with anything",
}


#: What the families `derive` and `product` make of a matrix's shape.
DERIVED = {
    "rows": "rows × 1",
    "columns": "1 × columns",
    "gram": "rows × rows",
    "batch": "the rows of one sample",
    "samples": "samples × columns",
}

#: The signs that are written between two arguments, and whose they are.
SIGNS = {"+": "add", "-": "sub", "*": "mul", "/": "div"}


@dataclass(frozen=True)
class Operation:
    """One function of the language: everything that is known of it is in this record.

    `family` gives its typing (see FAMILIES); `function` computes it; `latex` is a template with {0}, {1}; `infix`
    its sign, if it is written between its arguments (see SIGNS); `derives` how the families `derive` and `product`
    change the shape (see DERIVED). Algebra for the canonical form: `commutative`, `idempotent` (f f = f),
    `involution` (f f = identity), `increasing` (strictly, on the real line), `nonnegative` (its value is never
    below 0). `per_sample`: the function also takes how many samples are stacked in the rows. `costly`: cubic in the
    width of the layer instead of linear in its entries.
    """

    name: str
    family: str
    function: Callable[..., Tensor]
    latex: str
    infix: str = ""
    derives: str = ""
    commutative: bool = False
    idempotent: bool = False
    involution: bool = False
    increasing: bool = False
    nonnegative: bool = False
    per_sample: bool = False
    costly: bool = False

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def arity(self) -> int:
        """1 or 2."""
        return 2 if self.family in ("binary", "product") else 1

    @property
    def about(self) -> str:
        """The first sentence of the function's docstring."""
        return " ".join((self.function.__doc__ or "").split())


class OperationError(ValueError):
    """An operation that may not enter the vocabulary: a bad record, or one that does not do what it says."""


class Vocabulary(Mapping[str, Operation]):
    """The operations a formula may use, by name; immutable. `extended` makes a larger one.

    Making one runs every new operation on hard inputs (0, ±1, ±MAX, ±TINY, one entry, one row, one column)
    and refuses it with OperationError if anything but finite numbers of the right shape comes out, if a batch
    does not give what its members give one by one, or if a property that its record states does not hold.
    """

    def __init__(self, *operations: Operation, proven: bool = False) -> None:
        """`proven`: that they are total is tested elsewhere, and takes no time here."""
        self._by_name: dict[str, Operation] = {}
        for operation in operations:
            self._admit(operation, proven)

    def extended(self, *operations: Operation) -> Vocabulary:
        """This vocabulary and the given operations; these are checked, and may not reuse a name."""
        larger = Vocabulary()
        larger._by_name = dict(self._by_name)
        for operation in operations:
            larger._admit(operation, proven=False)
        return larger

    def has(self, operation: Operation) -> bool:
        """Whether this very record is one of the vocabulary: another of its name is another operation."""
        return self._by_name.get(operation.name) is operation

    def _admit(self, operation: Operation, proven: bool) -> None:
        name, told = operation.name, f"operation '{operation.name}'"
        if not (name.isidentifier() and name.isascii()):
            raise OperationError(f"operation name {name!r} is not an identifier")
        if name in self._by_name:
            raise OperationError(f"there is already an operation '{name}'")
        if operation.family not in FAMILIES:
            raise OperationError(f"{told}: family {operation.family!r} is not one of {', '.join(FAMILIES)}")
        if operation.family in ("derive", "product") and operation.derives not in DERIVED:
            raise OperationError(f"{told}: derives {operation.derives!r} is not one of {', '.join(DERIVED)}")
        if operation.infix not in ("", *SIGNS) or SIGNS.get(operation.infix, name) != name:
            raise OperationError(f"{told}: the sign {operation.infix!r} is not its own")
        if not proven:
            prove_total(operation)
        self._by_name[name] = operation

    def __getitem__(self, name: str) -> Operation:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)


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
    """Raise OperationError unless the operation gives finite numbers of the right shape on the hard inputs, alone
    and in a batch, leaves its argument alone, and has the algebra that its record states."""
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


#: The vocabulary of the language. To add an operation, write its function above and its record here.
OPERATIONS = Vocabulary(
    Operation("identity", "map", identity, r"{0}", idempotent=True, involution=True, increasing=True),
    Operation("log", "map", log, r"\log {0}"),
    Operation("abslog", "map", abslog, r"\log \left|{0}\right|"),
    Operation("abs", "map", absolute, r"\left|{0}\right|", idempotent=True, nonnegative=True),
    Operation("square", "map", square, r"\left({0}\right)^2", nonnegative=True),
    Operation("exp", "map", exp, r"\exp\left({0}\right)", increasing=True, nonnegative=True),
    Operation("relu", "map", relu, r"\left({0}\right)_+", idempotent=True, nonnegative=True),
    Operation("invert", "map", invert, r"\left({0}\right)^{{-1}}"),
    Operation("sqrt", "map", sqrt, r"\sqrt{{{0}}}", increasing=True),
    Operation("neg", "map", negate, r"-{0}", involution=True),
    Operation("sigmoid", "map", sigmoid, r"\sigma\left({0}\right)", increasing=True, nonnegative=True),
    Operation("tanh", "map", tanh, r"\tanh\left({0}\right)", increasing=True),
    Operation("sign", "map", sign, r"\operatorname{{sign}}\left({0}\right)", idempotent=True),
    Operation("zscore", "normalise", zscore, r"\operatorname{{z}}\left({0}\right)"),
    Operation("minmax", "normalise", minmax, r"\operatorname{{minmax}}\left({0}\right)", nonnegative=True),
    Operation("softmax", "normalise", softmax, r"\operatorname{{softmax}}\left({0}\right)", nonnegative=True),
    Operation("logsoftmax", "normalise", logsoftmax, r"\log\operatorname{{softmax}}\left({0}\right)"),
    Operation(
        "row_norm", "derive", row_norm, r"\left\|{0}\right\|_{{\mathrm{{rows}}}}", derives="rows", nonnegative=True
    ),
    Operation(
        "column_norm",
        "derive",
        column_norm,
        r"\left\|{0}\right\|_{{\mathrm{{cols}}}}",
        derives="columns",
        nonnegative=True,
    ),
    Operation("gram", "derive", gram, r"\operatorname{{gram}}\left({0}\right)", derives="gram", costly=True),
    Operation("batch_mean", "derive", batch_mean, r"\mathbb{{E}}_b\left[{0}\right]", derives="batch", per_sample=True),
    Operation(
        "batch_std",
        "derive",
        batch_std,
        r"\sigma_b\left[{0}\right]",
        derives="batch",
        nonnegative=True,
        per_sample=True,
    ),
    Operation("sample_sum", "derive", sample_sum, r"\sum_{{t}} {0}", derives="samples", per_sample=True),
    Operation("matmul", "product", matmul, r"{0} \left({1}\right)^\top", derives="gram", costly=True),
    Operation("sum", "reduce", total, r"\sum {0}"),
    Operation("mean", "reduce", mean, r"\operatorname{{mean}}\left({0}\right)"),
    Operation("l1", "reduce", l1, r"\left\|{0}\right\|_1", nonnegative=True),
    Operation("l1_mean", "reduce", l1_mean, r"\operatorname{{mean}}\left|{0}\right|", nonnegative=True),
    Operation("fro", "reduce", fro, r"\left\|{0}\right\|_F", nonnegative=True),
    Operation("std", "reduce", std, r"\operatorname{{std}}\left({0}\right)", nonnegative=True),
    Operation("max", "reduce", maximum_entry, r"\max {0}"),
    Operation("min", "reduce", minimum_entry, r"\min {0}"),
    Operation("logsum", "reduce", logsum, r"\sum \log \left|{0}\right|"),
    Operation("nuclear", "spectrum", nuclear, r"\left\|{0}\right\|_*", nonnegative=True, costly=True),
    Operation("spectral", "spectrum", spectral, r"\left\|{0}\right\|_2", nonnegative=True, costly=True),
    Operation(
        "effective_rank",
        "spectrum",
        effective_rank,
        r"\operatorname{{erank}}\left({0}\right)",
        nonnegative=True,
        costly=True,
    ),
    Operation("logdet", "spectrum", logdet, r"\log\det \operatorname{{gram}}\left({0}\right)", costly=True),
    Operation(
        "pattern_count",
        "spectrum",
        pattern_count,
        r"\left|\left\{{\operatorname{{sgn}} {0}\right\}}\right|",
        nonnegative=True,
        per_sample=True,
        costly=True,
    ),
    Operation(
        "agreement_logdet",
        "spectrum",
        agreement_logdet,
        r"\log\det \operatorname{{agree}}\left({0}\right)",
        per_sample=True,
        costly=True,
    ),
    Operation("depth_difference", "along_depth", depth_difference, r"\Delta_l {0}"),
    Operation("depth_weighted", "aggregate", depth_weighted, r"\sum_l \frac{{l}}{{L}} {0}"),
    Operation("add", "binary", add, r"{0} + {1}", infix="+", commutative=True),
    Operation("sub", "binary", subtract, r"{0} - {1}", infix="-"),
    Operation("mul", "binary", multiply, r"{0} \cdot {1}", infix="*", commutative=True),
    Operation("div", "binary", divide, r"\frac{{{0}}}{{{1}}}", infix="/"),
    Operation("pow", "binary", power, r"\left|{0}\right|^{{{1}}}", nonnegative=True),
    Operation("maximum", "binary", maximum, r"\max\left({0}, {1}\right)", commutative=True),
    Operation("minimum", "binary", minimum, r"\min\left({0}, {1}\right)", commutative=True),
    proven=True,  # by tests/test_operations.py: at every start it would take a second
)

#: Auto-Prox's unary operations by their published number (arXiv 2312.09059, code). Numbers 9 (sum / entries) and
#: 17 (mean) are the same function, and so are one operation here.
AUTO_PROX_UNARIES = (
    "log", "abslog", "abs", "square", "exp", "zscore", "relu", "invert", "fro", "mean", "l1_mean", "softmax",
    "sigmoid", "logsoftmax", "sqrt", "neg", "minmax", "mean", "std", "identity",
)  # fmt: skip

#: Auto-Prox's binary operations by number. Its `matmul` (3) multiplies two scalars, which is `mul`; the matrix
#: product of the language is `matmul`.
AUTO_PROX_BINARIES = ("add", "sub", "mul", "mul")
