"""The evaluator written plainly, in numpy and float64: one formula and one layer at a time."""

import math
from collections.abc import Callable, Mapping

import numpy as np

from autoprox.primitives import Formula, Reading, Terminal
from autoprox.primitives.kinds import role_slots

LARGEST, SMALLEST = 1e30, 1e-30

# The reference: what the docstrings say, in float64 and plainly. Matrices are 2-D arrays, numbers per layer are
# blocks × slots, numbers of the network are floats.


def limited(x):
    return np.clip(x, -LARGEST, LARGEST)


def divided(a, b):
    a, b = np.broadcast_arrays(np.asarray(a, float), np.asarray(b, float))
    out = np.zeros(a.shape)
    for place in np.ndindex(a.shape):
        if abs(b[place]) > SMALLEST:
            out[place] = a[place] / b[place]
    return limited(out)


def raised(a, b):
    a, b = np.broadcast_arrays(np.abs(np.asarray(a, float)), np.asarray(b, float))
    return limited(np.where(a > SMALLEST, np.where(a > SMALLEST, a, 1.0) ** b, 0.0))


def logarithm(x):
    return np.log(np.where(x > SMALLEST, x, SMALLEST))


def softmaxed(x):
    shifted = np.exp(x - x.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def log_softmaxed(x):
    shifted = x - x.max(axis=1, keepdims=True)
    return limited(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def product(a, b):
    """The sum of every pair of rows' products."""
    return limited((a[:, None, :] * b[None, :, :]).sum(axis=2))


def sigma(x):
    """Singular values; those that float64 cannot tell from zero after squaring are zero."""
    scale = max(abs(x).max(), SMALLEST)
    values = np.linalg.svd(x / scale, compute_uv=False)
    return np.where(values**2 > max(x.shape) * np.finfo(float).eps * values[0] ** 2, values, 0.0) * scale


def effective_rank(x):
    p = divided(sigma(x), sigma(x).sum())
    return math.exp(-sum(q * math.log(q) for q in p if q > 0)) if p.sum() > 0 else 0.0


def log_determinant(x):
    """Of the smaller Gram matrix: values that are 0 in it count as SMALLEST."""
    return float(logarithm(sigma(x) ** 2).sum())


def pattern_count(x, samples):
    on = (x > 0).reshape(samples, -1)
    return float(len({tuple(on[:, neuron]) for neuron in range(on.shape[1])}))


def agreement_log_determinant(x, samples):
    """Of how often two samples' on/off codes agree; eigenvalues that are 0 in it count as SMALLEST."""
    on = (x > 0).reshape(samples, -1)
    values = np.linalg.eigvalsh((on[:, None, :] == on[None, :, :]).sum(axis=2).astype(float))
    return float(np.log(np.where(values > samples * np.finfo(float).eps * values[-1], values, SMALLEST)).sum())


def depth_difference(x):
    out = np.zeros_like(x)
    for block in range(1, len(x)):
        out[block] = x[block] - x[block - 1]
    return limited(out)


REFERENCE: Mapping[str, Callable] = {
    "identity": lambda x: x,
    "log": logarithm,
    "abslog": lambda x: logarithm(np.abs(x)),
    "abs": np.abs,
    "square": lambda x: limited(np.square(x)),
    "exp": lambda x: np.exp(np.minimum(x, 69.0)),
    "relu": lambda x: np.where(np.asarray(x) > 0, x, 0.0),
    "invert": lambda x: divided(1.0, x),
    "sqrt": lambda x: np.sign(x) * np.sqrt(np.abs(x)),
    "neg": lambda x: -x,
    "sigmoid": lambda x: np.exp(-np.logaddexp(0.0, -x)),
    "tanh": np.tanh,
    "sign": np.sign,
    "zscore": lambda x: divided(limited(x - x.mean()), limited(x.std())),
    "minmax": lambda x: divided(limited(x - x.min()), limited(x.max() - x.min())),
    "softmax": softmaxed,
    "logsoftmax": log_softmaxed,
    "row_norm": lambda x: limited(np.sqrt((x * x).sum(axis=1, keepdims=True))),
    "column_norm": lambda x: limited(np.sqrt((x * x).sum(axis=0, keepdims=True))),
    "gram": lambda x: product(x, x),
    "matmul": product,
    "batch_mean": lambda x, samples: x.reshape(samples, -1, x.shape[1]).mean(axis=0),
    "batch_std": lambda x, samples: limited(x.reshape(samples, -1, x.shape[1]).std(axis=0)),
    "sample_sum": lambda x, samples: limited(x.reshape(samples, -1, x.shape[1]).sum(axis=1)),
    "sum": lambda x: limited(np.sum(x)),
    "mean": lambda x: limited(np.mean(x)),
    "l1": lambda x: limited(np.abs(x).sum()),
    "l1_mean": lambda x: limited(np.abs(x).mean()),
    "fro": lambda x: limited(np.sqrt(np.square(x).sum())),
    "std": lambda x: limited(np.std(x)),
    "max": np.max,
    "min": np.min,
    "logsum": lambda x: limited(logarithm(np.abs(x)).sum()),
    "nuclear": lambda x: limited(sigma(x).sum()),
    "spectral": lambda x: limited(sigma(x)[0]),
    "effective_rank": effective_rank,
    "logdet": log_determinant,
    "pattern_count": pattern_count,
    "agreement_logdet": agreement_log_determinant,
    "depth_difference": depth_difference,
    "depth_weighted": lambda x: limited(sum((block + 1) / len(x) * row.sum() for block, row in enumerate(x))),
    "add": lambda a, b: limited(a + b),
    "sub": lambda a, b: limited(a - b),
    "mul": lambda a, b: limited(a * b),
    "div": divided,
    "pow": raised,
    "maximum": np.maximum,
    "minimum": np.minimum,
}


def reference(formula: Formula, statistics: Reading) -> float:
    """Return the value of a complete formula, by plain recursion."""
    with np.errstate(all="ignore"):
        return float(shallow(formula, statistics))


def shallow(node: Formula, statistics: Reading):
    """Return a value per layer (blocks × slots) or of the network."""
    if isinstance(node.head, float):
        return node.head
    if isinstance(node.head, Terminal):
        name, role = node.head.statistic.name, node.head.role
        if not role:
            return statistics.net[name]
        return np.array([statistics.layers[name, slot] for slot in role_slots(role)]).T
    function = REFERENCE[node.head.name]
    if not any(arg.kind.level == "matrix" for arg in node.args):
        return function(*(shallow(arg, statistics) for arg in node.args))
    role = node.args[0].kind.role
    blocks = len(next(iter(statistics.matrices.values())))
    return np.array(
        [[float(deep(node, statistics, slot, block)) for slot in role_slots(role)] for block in range(blocks)]
    )


def deep(node: Formula, statistics: Reading, slot: str, block: int):
    """Return a matrix of one layer, or what it is reduced to."""
    if isinstance(node.head, float):
        return node.head
    if isinstance(node.head, Terminal):
        return statistics.matrices[node.head.statistic.name, node.head.probe, slot][block].double().numpy()
    args = [deep(arg, statistics, slot, block) for arg in node.args]
    return REFERENCE[node.head.name](*args, 2) if node.head.per_sample else REFERENCE[node.head.name](*args)
