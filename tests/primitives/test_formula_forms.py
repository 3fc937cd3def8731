"""A formula in other forms: JSON, whatever is in it, and LaTeX."""

import contextlib
import math
import re
from typing import Any

import pytest
from formula_words import nested, quickly, words
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.mathtext import MathTextParser
from strategies import formulas

from autoprox.primitives import (
    OPERATIONS,
    STATISTICS,
    Formula,
    FormulaError,
    from_json,
    parse,
)

# JSON.


def doubling(levels: int) -> dict[str, Any]:
    """Return a graph of few nodes that is a tree of 2^levels."""
    nodes: list[dict[str, Any]] = [{"statistic": "params", "marks": []}]
    nodes += [{"op": "add", "args": [number, number]} for number in range(levels)]
    return {"nodes": nodes, "root": levels}


PARAMS = {"statistic": "params", "marks": []}
BAD_JSON = {
    "nothing": (None, "a formula in JSON is"),
    "a list": ([], "a formula in JSON is"),
    "a text": ("params", "a formula in JSON is"),
    "no nodes": ({"nodes": [], "root": 0}, "a formula in JSON is"),
    "nodes no list": ({"nodes": {"0": PARAMS}, "root": 0}, "a formula in JSON is"),
    "no root": ({"nodes": [PARAMS]}, "root None is not"),
    "root outside": ({"nodes": [PARAMS], "root": 1}, "root 1 is not"),
    "root negative": ({"nodes": [PARAMS], "root": -1}, "root -1 is not"),
    "root a bool": ({"nodes": [PARAMS], "root": False}, "root False is not"),
    "root a float": ({"nodes": [PARAMS], "root": 0.0}, "root 0.0 is not"),
    "root deep": ({"nodes": [PARAMS], "root": nested(10_000)}, "is not the index of a node"),
    "self reference": ({"nodes": [{"op": "neg", "args": [0]}], "root": 0}, "node 0: arguments [0] are not indices"),
    "cycle": (
        {"nodes": [PARAMS, {"op": "add", "args": [0, 2]}, {"op": "neg", "args": [1]}], "root": 2},
        "node 1: arguments [0, 2] are not indices of earlier nodes",
    ),
    "negative index": ({"nodes": [PARAMS, {"op": "neg", "args": [-1]}], "root": 1}, "node 1: arguments [-1]"),
    "index a bool": ({"nodes": [PARAMS, {"op": "neg", "args": [False]}], "root": 1}, "node 1: arguments [False]"),
    "index a text": ({"nodes": [PARAMS, {"op": "neg", "args": ["0"]}], "root": 1}, "node 1: arguments ['0']"),
    "args a text": ({"nodes": [PARAMS, {"op": "neg", "args": "0"}], "root": 1}, "node 1: {'args': '0', 'op': 'neg'}"),
    "million args": ({"nodes": [PARAMS, {"op": "neg", "args": [0] * 10**6}], "root": 1}, "takes 1 argument, not"),
    "million bad args": ({"nodes": [PARAMS, {"op": "neg", "args": [9] * 10**6}], "root": 1}, "node 1: arguments [9, 9"),
    "too few args": ({"nodes": [PARAMS, {"op": "add", "args": [0]}], "root": 1}, "node 1: 'add' takes 2 arguments"),
    "unknown operation": ({"nodes": [{"op": "__import__", "args": []}], "root": 0}, "unknown operation '__import__'"),
    "long operation": ({"nodes": [{"op": "x" * 10**6, "args": []}], "root": 0}, "unknown operation 'xxx"),
    "wrong kind": ({"nodes": [PARAMS, {"op": "zscore", "args": [0]}], "root": 1}, "node 1: 'zscore' takes a matrix"),
    "unknown statistic": ({"nodes": [{"statistic": "os", "marks": []}], "root": 0}, "node 0: unknown statistic 'os'"),
    "long statistic": ({"nodes": [{"statistic": "x" * 10**6, "marks": []}], "root": 0}, "unknown statistic 'xxx"),
    "unknown mark": ({"nodes": [{"statistic": "weight", "marks": ["x" * 10**6]}], "root": 0}, "not 'xxx"),
    "mark a number": ({"nodes": [{"statistic": "weight", "marks": [1]}], "root": 0}, "is neither an operation"),
    "no marks": ({"nodes": [{"statistic": "weight"}], "root": 0}, "is neither an operation, a statistic nor"),
    "constant NaN": ({"nodes": [{"constant": math.nan}], "root": 0}, "constant nan is not a finite number"),
    "constant infinite": ({"nodes": [{"constant": -math.inf}], "root": 0}, "constant -inf is not a finite number"),
    "constant huge": ({"nodes": [{"constant": 10**400}], "root": 0}, "is not a finite number"),
    "constant a bool": ({"nodes": [{"constant": True}], "root": 0}, "is neither an operation"),
    "constant a text": ({"nodes": [{"constant": "1"}], "root": 0}, "is neither an operation"),
    "an empty node": ({"nodes": [{}], "root": 0}, "node 0: {} is neither"),
    "a deep node": ({"nodes": [nested(100_000)], "root": 0}, "is neither an operation"),
    "deep args": ({"nodes": [{"op": "neg", "args": nested(10_000)}], "root": 0}, "are not indices"),
    "a long node": ({"nodes": [{"x" * 10**6: 1}], "root": 0}, "is neither an operation"),
    "a million nodes": ({"nodes": [PARAMS] * 10**6, "root": 0}, "more than 1000 nodes"),
    "doubling": (doubling(60), "node 9: the formula has more than 1000 nodes"),
    "doubling to the limit": (doubling(900), "more than 1000 nodes"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "message"), BAD_JSON.values(), ids=BAD_JSON)
def test_malformed_json_gives_one_line(data: object, message: str) -> None:
    with quickly(), pytest.raises(FormulaError) as caught:
        from_json(data)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
indices = st.integers(-1, 5) | json_values
nodes = st.one_of(
    st.fixed_dictionaries({"op": st.sampled_from(list(OPERATIONS)), "args": st.lists(indices, max_size=3)}),
    st.fixed_dictionaries({"op": st.text(max_size=5) | json_values, "args": json_values}),
    st.fixed_dictionaries({"statistic": st.sampled_from(list(STATISTICS)), "marks": st.lists(words, max_size=3)}),
    st.fixed_dictionaries({"constant": json_values}),
    json_values,
)


@settings(max_examples=4 * settings.default.max_examples)
@given(data=json_values | st.fixed_dictionaries({"nodes": st.lists(nodes, max_size=5), "root": indices}))
def test_any_json_is_a_formula_or_an_error(data: object) -> None:
    with contextlib.suppress(FormulaError):
        assert isinstance(from_json(data), Formula)


# LaTeX.

LATEX = {
    "sum(l1(weight * weight_grad))": r"\sum \left\|W \cdot \nabla_W L\right\|_1",
    "params / (depth - 1)": r"\frac{|\theta|}{L - 1}",
    "log(params) * depth": r"\left(\log |\theta|\right) \cdot L",
    "log(params * depth)": r"\log \left(|\theta| \cdot L\right)",
    "params - (depth - width)": r"|\theta| - \left(L - \bar{d}\right)",
    "params - depth - width": r"|\theta| - L - \bar{d}",
    "(params - depth) * width": r"\left(|\theta| - L\right) \cdot \bar{d}",
    "params * -2": r"|\theta| \cdot \left(-2\right)",
    "params - -depth": r"|\theta| - \left(-L\right)",
    "-(params + depth)": r"-\left(|\theta| + L\right)",
    "sum(sum(matmul(weight[qkv], weight_grad[qkv])))":
        r"\sum \sum \left({W}^{\mathrm{qkv}} \left({\nabla_W L}^{\mathrm{qkv}}\right)^\top\right)",
    "pow(params, depth - 1)": r"\left||\theta|\right|^{L - 1}",
}  # fmt: skip


@pytest.mark.parametrize(("text", "latex"), LATEX.items())
def test_latex_reads_one_way(text: str, latex: str) -> None:
    assert parse(text).latex == latex


@settings(max_examples=4 * settings.default.max_examples)
@given(formula=formulas(6))
def test_latex_is_balanced(formula: Formula) -> None:
    open_now: list[str] = []
    for token in re.findall(r"\\left\\?.|\\right\\?.|\\.|[{}]", formula.latex):
        if token.startswith(r"\left"):
            open_now.append("left")
        elif token == "{":
            open_now.append("brace")
        elif token.startswith(r"\right"):
            assert open_now.pop() == "left"
        elif token == "}":
            assert open_now.pop() == "brace"
    assert not open_now


@settings(max_examples=60)
@given(formula=formulas())
def test_latex_is_read_by_an_independent_reader(formula: Formula) -> None:
    MathTextParser("path").parse(f"${formula.latex}$")  # raises for what it cannot read, double superscripts too
