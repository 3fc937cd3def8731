"""What property tests draw from: well-typed formulas over the whole language, and networks' statistics."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from autoprox.primitives import OPERATIONS, STATISTICS, Formula, Operation, Reading, apply, constant, statistic

Draw = Callable[[st.SearchStrategy[Any]], Any]

#: Roles by the number of layers that they have in a block.
ROLES_OF = {1: ("qkv", "proj", "fc1", "fc2"), 2: ("msa", "mlp"), 4: ("all",)}
#: Shapes of matrices: as read, and derived once or twice from these.
SHAPES = ("weight", "stacked", "act", "act.batch", "weight.rows", "weight.columns", "weight.gram", "stacked.rows",
          "act.rows", "act.columns", "act.gram", "act.samples", "act.samples.batch",
          "stacked.samples", "act.batch.rows", "weight.rows.columns")  # fmt: skip
ATTN_SHAPES = ("attn", "attn.batch", "attn.rows", "attn.columns", "attn.gram")
CONSTANTS = (0.0, 1.0, -1.0, 2.0, 0.5, -2.0, 1e-30, 1e30, -1e30, 3.25, 1e-6)


def operations_of(*families: str) -> list[Operation]:
    """Return the vocabulary's operations of some families."""
    return [operation for operation in OPERATIONS.values() if operation.family in families]


def constants() -> st.SearchStrategy[Formula]:
    """Draw a constant: the special ones often."""
    return st.one_of(st.sampled_from(CONSTANTS), st.floats(-100, 100)).map(constant)


@st.composite
def formulas(draw: Draw, depth: int = 5) -> Formula:
    """Draw a complete formula, about `depth` levels deep."""
    return _net(draw, depth)


@st.composite
def layer_formulas(draw: Draw, depth: int = 4) -> Formula:
    """Draw a formula that gives one number for each layer."""
    return _layer(draw, draw(st.sampled_from(tuple(ROLES_OF))), depth)


@st.composite
def reductions(draw: Draw, depth: int = 4) -> Formula:
    """Draw a formula that reduces matrices, themselves computed, to one number for each layer."""
    return _reduction(draw, draw(st.sampled_from(tuple(ROLES_OF))), depth)


def _net(draw: Draw, depth: int) -> Formula:
    kind = draw(st.sampled_from(("fold", "fold", "fold", "map", "binary"))) if depth > 1 else "statistic"
    if kind == "fold":
        operation = draw(st.sampled_from(operations_of("reduce", "aggregate")))
        return apply(operation, _layer(draw, draw(st.sampled_from((1, 1, 2, 4))), depth - 1))
    if kind == "map":
        return apply(draw(st.sampled_from(operations_of("map"))), _net(draw, depth - 1))
    if kind == "binary":
        return _binary(draw, _net(draw, depth - 1), lambda: _net(draw, depth - 2), depth)
    return statistic(draw(st.sampled_from([s.name for s in STATISTICS.values() if s.level == "net"])))


def _layer(draw: Draw, slots: int, depth: int) -> Formula:
    kind = draw(st.sampled_from(("reduction",) * 3 + ("map", "along", "binary", "statistic"))) if depth > 1 else ""
    if kind == "reduction":
        return _reduction(draw, slots, depth)
    if kind == "map":
        return apply(draw(st.sampled_from(operations_of("map"))), _layer(draw, slots, depth - 1))
    if kind == "along":
        return apply(draw(st.sampled_from(operations_of("along_depth"))), _layer(draw, slots, depth - 1))
    if kind == "binary":
        other = draw(st.sampled_from((lambda: _layer(draw, slots, depth - 2), lambda: _net(draw, depth - 2))))
        return _binary(draw, _layer(draw, slots, depth - 1), other, depth)
    name = draw(st.sampled_from([s.name for s in STATISTICS.values() if s.level == "layer"]))
    return statistic(name, draw(st.sampled_from(ROLES_OF[slots])))


def _reduction(draw: Draw, slots: int, depth: int) -> Formula:
    with_attention = slots == 1 and draw(st.integers(0, 5)) == 0
    role = "attn" if with_attention else draw(st.sampled_from(ROLES_OF[slots]))
    shape = draw(st.sampled_from(ATTN_SHAPES if with_attention else SHAPES))
    inner = _matrix(draw, shape, role, depth - 1)
    choices = [op for op in operations_of("reduce", "spectrum") if inner.kind.stacked or not op.per_sample]
    return apply(draw(st.sampled_from(choices)), inner)


def _matrix(draw: Draw, shape: str, role: str, depth: int) -> Formula:
    kind = draw(st.sampled_from(("make", "make", "map", "normalise", "binary"))) if depth > 1 else "make"
    if kind in ("map", "normalise"):
        return apply(draw(st.sampled_from(operations_of(kind))), _matrix(draw, shape, role, depth - 1))
    if kind == "binary":
        return _binary(
            draw, _matrix(draw, shape, role, depth - 1), lambda: _matrix(draw, shape, role, depth - 2), depth
        )
    if shape == "weight" and depth > 1 and draw(st.integers(0, 3)) == 0:
        means = [op for op in operations_of("derive") if op.derives == "batch"]
        return apply(draw(st.sampled_from(means)), _matrix(draw, "stacked", role, depth - 1))
    base, _, change = shape.rpartition(".")
    if not base:
        return _read(draw, shape, role, ("data", "noise"))
    if change == "batch" and base in ("act", "attn") and draw(st.booleans()):
        return _read(draw, base, role, ("synflow",))
    makers = [op for op in operations_of("derive", "product") if op.derives == change]
    maker = draw(st.sampled_from(makers))
    return apply(maker, *(_matrix(draw, base, role, depth - 1) for _ in range(maker.arity)))


def _read(draw: Draw, shape: str, role: str, probes: tuple[str, ...]) -> Formula:
    found = draw(st.sampled_from([s for s in STATISTICS.values() if s.shape == shape]))
    if shape == "weight":
        probes = ("data", "noise", "synflow")
    marks = [] if role == "attn" else [role]
    return statistic(found.name, *marks, *([draw(st.sampled_from(probes))] if found.probed else []))


def _binary(draw: Draw, first: Formula, other: Callable[[], Formula], depth: int) -> Formula:
    """Combine with another value of the kind or a number, itself or computed, on either side."""
    operation = draw(st.sampled_from(operations_of("binary")))
    what = draw(st.sampled_from(("other", "other", "constant", "computed")))
    if what == "other" and depth > 2:
        second = other()
    elif what == "computed":
        second = apply(draw(st.sampled_from(operations_of("map"))), draw(constants()))
    else:
        second = draw(constants())
    return apply(operation, *draw(st.permutations((first, second))))


def reading(seed: int, blocks: int = 2, dtype: torch.dtype = torch.float64) -> Reading:
    """Make all statistics of one small network up: widths, heads and tokens differ between seeds."""
    rng = np.random.default_rng(seed)
    width, samples, tokens, heads = int(rng.integers(2, 4)), 2, int(rng.integers(2, 4)), int(rng.integers(1, 3))
    hidden = width + int(rng.integers(1, 3))
    features = {"qkv": (3 * width, width), "proj": (width, width), "fc1": (hidden, width), "fc2": (width, hidden)}
    made = Reading()

    def matrices(rows: int, columns: int, scale: float) -> list[torch.Tensor]:
        return [torch.tensor(rng.normal(0, scale, (rows, columns)), dtype=dtype) for _ in range(blocks)]

    for slot, (out, inside) in features.items():
        made.matrices["weight", "", slot] = matrices(out, inside, 0.5)
        for probe in ("data", "noise", "synflow"):
            rows = (1 if probe == "synflow" else samples) * tokens
            made.matrices["weight_grad", probe, slot] = matrices(out, inside, 0.3)
            made.matrices["act", probe, slot] = matrices(rows, out, 1.0)
            made.matrices["act_grad", probe, slot] = matrices(rows, out, 0.1)
            if probe != "synflow":
                made.matrices["weight_grad_batches", probe, slot] = matrices(2 * out, inside, 0.3)
        made.layers["fan_in", slot] = [float(inside)] * blocks
        made.layers["fan_out", slot] = [float(out)] * blocks
        made.layers["heads", slot] = [float(heads)] * blocks
        made.layers["tokens", slot] = [float(tokens)] * blocks
        made.layers["position", slot] = [(block + 1) / blocks for block in range(blocks)]
    for probe in ("data", "noise", "synflow"):
        count = 1 if probe == "synflow" else samples
        made.matrices["attn", probe, "attn"] = [m.softmax(-1) for m in matrices(count * heads * tokens, tokens, 1.0)]
        made.matrices["attn_logits", probe, "attn"] = matrices(count * heads * tokens, tokens, 1.0)
        for name in ("act", "act_grad", "attn", "attn_logits"):
            made.samples[name, probe] = count
        made.samples["weight_grad", probe] = 1
        made.samples["weight_grad_batches", probe] = 2
    made.samples["weight", ""] = 1
    made.net = {"params": float(rng.integers(1e6, 9e6)), "flops": float(rng.integers(1e8, 9e8)),
                "activations": float(rng.integers(1e6, 9e6)),
                "depth": float(blocks), "width": float(width)}  # fmt: skip
    return made
