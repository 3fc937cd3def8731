"""Formulas: text, JSON, graph and LaTeX; what is malformed gives one error that points at the place, runs nothing."""

import builtins
import contextlib
import dataclasses
import gc
import json
import math
import pickle
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import networkx as nx
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib.mathtext import MathTextParser
from strategies import formulas, layer_formulas
from torch import Tensor

from autoprox.primitives import (
    OPERATIONS,
    STATISTICS,
    Formula,
    FormulaError,
    Operation,
    Vocabulary,
    apply,
    constant,
    from_json,
    parse,
    statistic,
)
from autoprox.primitives.formula import MAX_DEPTH, MAX_SIZE
from autoprox.primitives.kinds import PROBES, ROLES
from autoprox.primitives.text import MAX_LENGTH

EXAMPLE = "sum(fro(minmax(weight[msa])) + sqrt(mean(sigmoid(act_grad[msa]))))"
QUICK = 1.0


@settings(max_examples=400)
@given(formula=formulas(6))
def test_parse_inverts_print(formula: Formula) -> None:
    again = parse(str(formula))
    assert again == formula
    assert (again.size, again.depth, again.kind) == (formula.size, formula.depth, formula.kind)
    assert again.terminals() == formula.terminals()


@given(formula=layer_formulas())
def test_parse_inverts_print_of_parts(formula: Formula) -> None:
    for node in formula.nodes():
        assert parse(node.text, complete=False) == node


@settings(max_examples=400)
@given(formula=formulas(6))
def test_json_round_trips(formula: Formula) -> None:
    assert from_json(formula.to_json()) == formula
    assert from_json(orjson.loads(orjson.dumps(formula.to_json()))) == formula
    assert from_json(json.loads(json.dumps(formula.to_json()))) == formula


@given(value=st.floats(-1e30, 1e30))
@example(value=-0.0)
@example(value=5e-324)
@example(value=1e30)
@example(value=999999999999999.0)
@example(value=1e15)
def test_constants_keep_every_bit(value: float) -> None:
    node = constant(value)
    for again in (parse(f"{node} * params").args[0], from_json(json.loads(json.dumps(node.to_json())))):
        assert again.head == value
        assert again == node


@settings(max_examples=200)
@given(formula=formulas(6))
def test_graph_is_the_formula(formula: Formula) -> None:
    """Evaluate the graph to text along its topological order: the same text and size as the formula's."""
    graph = formula.graph()
    assert nx.is_directed_acyclic_graph(graph)
    assert graph.number_of_nodes() == len({node.text for node in formula.nodes()}) == len(list(formula.nodes()))
    texts: dict[int, str] = {}
    sizes: dict[int, int] = {}
    for number in nx.lexicographical_topological_sort(graph):
        args = sorted((place, arg) for arg, _, places in graph.in_edges(number, "position") for place in places)
        label = graph.nodes[number]["label"]
        assert [place for place, _ in args] == list(range(len(args)))
        texts[number] = f"{label}({', '.join(texts[arg] for _, arg in args)})" if args else label
        sizes[number] = 1 + sum(sizes[arg] for _, arg in args)
    root = max(graph.nodes)
    assert graph.out_degree(root) == 0
    assert parse(texts[root]) == formula
    assert sizes[root] == formula.size
    assert graph.nodes[root]["kind"] == "Net"


def test_equal_subgraphs_are_one_node() -> None:
    formula = parse("sum(l1(weight * weight_grad) / l1(weight * weight_grad)) + sum(l1(weight * weight_grad))")
    assert formula.size == 16
    assert [node.text for node in formula.nodes()] == [
        "weight",
        "weight_grad",
        "weight * weight_grad",
        "l1(weight * weight_grad)",
        "l1(weight * weight_grad) / l1(weight * weight_grad)",
        "sum(l1(weight * weight_grad) / l1(weight * weight_grad))",
        "sum(l1(weight * weight_grad))",
        "sum(l1(weight * weight_grad) / l1(weight * weight_grad)) + sum(l1(weight * weight_grad))",
    ]
    graph = formula.graph()
    assert graph.edges[3, 4]["position"] == [0, 1]
    assert len(formula.to_json()["nodes"]) == 8


def test_formulas_are_immutable_values() -> None:
    formula = parse(EXAMPLE)
    with pytest.raises(dataclasses.FrozenInstanceError):
        formula.text = "params"  # type: ignore[misc]
    assert {formula: 1}[parse(str(formula))] == 1
    assert formula != parse("params")
    assert formula != str(formula)
    assert pickle.loads(pickle.dumps(formula)) == formula  # to other processes, never to disk
    assert repr(formula) == f"Formula({EXAMPLE!r})"


def test_rebuilt_replaces_subformulas() -> None:
    formula = parse("sum(l1(weight) + l1(weight_grad))")
    replaced = formula.rebuilt({parse("weight", complete=False): parse("abs(weight)", complete=False)})
    assert str(replaced) == "sum(l1(abs(weight)) + l1(weight_grad))"
    assert str(formula) == "sum(l1(weight) + l1(weight_grad))"


# Text, as people write it.

SPELLINGS = {
    "  sum( l1(weight*weight_grad) )\n": "sum(l1(weight * weight_grad))",
    "params-depth-width": "params - depth - width",
    "params-(depth-width)": "params - (depth - width)",
    "params/(depth*width)": "params / (depth * width)",
    "params + (depth * width)": "params + depth * width",
    "((params))": "params",
    "-params*2": "neg(params) * 2",
    "-2 * params": "-2 * params",
    "params - -2": "params - -2",
    "params - - - 2": "params - neg(-2)",
    "1.50*params": "1.5 * params",
    "1e3*params": "1000 * params",
    ".5*params": "0.5 * params",
    "sum(sum(weight[all]))": "sum(sum(weight))",
    "sum(sum(weight_grad[all, data]))": "sum(sum(weight_grad))",
    "sum(sum(weight_grad[noise,msa]))": "sum(sum(weight_grad[msa, noise]))",
    "sum(sum(attn[noise]))": "sum(sum(attn[noise]))",
    "sum(fan_in[mlp])": "sum(fan_in[mlp])",
    "sum(sum(weight) * depth)": "sum(sum(weight) * depth)",
    "sum(l1(weight[qkv]) / l1(act[fc1]))": "sum(l1(weight[qkv]) / l1(act[fc1]))",
    "sum(sum(weight * (1 / 3)))": "sum(sum(weight * (1 / 3)))",
    EXAMPLE: EXAMPLE,
}


@pytest.mark.parametrize(("written", "printed"), SPELLINGS.items())
def test_spellings(written: str, printed: str) -> None:
    assert str(parse(written)) == printed


# Malformed text: what is wrong → the message, and the culprit that the caret must be under.

MALFORMED = {
    "": ("is empty", None),
    "   \n\t": ("is empty", None),
    "sum(l3(weight))": ("unknown operation 'l3'; there are identity, log,", "l3"),
    "sum(frob(weight))": ("unknown operation 'frob'; did you mean 'fro'?", "frob"),
    "sum(l1(wieght))": ("unknown statistic 'wieght'; did you mean 'weight'?", "wieght"),
    "sum(qqq)": ("unknown statistic 'qqq'; there are weight,", "qqq"),
    "sum(l1)": ("'l1' is an operation: write l1(...)", "l1"),
    "sum(weight)": ("gives Layer(4 per block), not one number; aggregate it", "sum(weight)"),
    "weight": ("gives Matrix(weight of all), not one number", "weight"),
    "2 + 3": ("gives no statistic of the network", "2 + 3"),
    "sum(params)": ("'sum' takes a matrix or numbers per layer, not Net", "sum"),
    "zscore(params)": ("'zscore' takes a matrix, not Net", "zscore"),
    "sum(nuclear(fan_in))": ("'nuclear' takes a matrix, not Layer", "nuclear"),
    "depth_weighted(weight)": ("'depth_weighted' takes numbers per layer, not Matrix", "depth_weighted"),
    "sum(batch_std(weight))": ("'batch_std' takes a matrix with samples or mini-batches in its rows", "batch_std"),
    "sum(sum(weight + act))": ("cannot combine Matrix(weight of all) with Matrix(act of all)", "+"),
    "sum(sum(weight[qkv] * weight[fc1]))": ("cannot combine Matrix(weight of qkv) with Matrix(weight of fc1)", "*"),
    "sum(sum(act * act[synflow]))": ("cannot combine Matrix(act of all) with Matrix(act.batch of all)", "*"),
    "sum(fan_in[msa] - fan_in)": ("cannot combine Layer(2 per block) with Layer(4 per block)", "-"),
    "sum(sum(weight / params))": ("cannot combine Matrix(weight of all) with Net: reduce the matrices first", "/"),
    "sum(sum(matmul(weight, act)))": ("'matmul' takes two matrices of one shape and role", "matmul"),
    "sum(l1(weight[mps]))": ("'weight' takes one role of qkv, proj,", "mps"),
    "sum(l1(weight[msa, mlp]))": ("not 'mlp'", "mlp"),
    "sum(l1(weight[msa, msa]))": ("not 'msa'", "msa]"),
    "sum(l1(weight[noise]))": ("'weight' takes one role of", "noise"),
    "sum(l1(weight_grad_batches[synflow]))": ("one probe of data, noise, not 'synflow'", "synflow"),
    "sum(l1(attn[msa]))": ("'attn' takes one probe of", "msa"),
    "sum(tokens[noise])": ("'tokens' takes one role of", "noise"),
    "params[msa]": ("'params' takes no role or probe, not 'msa'", "msa"),
    "weight[": ("expected a role or a probe", None),
    "weight[]": ("expected a role or a probe", "]"),
    "sum(l1(weight[msa)))": ("expected ']' to close 'weight[', found ')'", ")))"),
    "sum(l1(weight)": ("expected ')' to close 'sum(', found the end", None),
    "sum(l1(weight)))": ("unexpected ')' after the formula", None),
    "(params": ("expected ')' to close the bracket, found the end", None),
    "params depth": ("unexpected 'depth' after the formula", "depth"),
    "params +": ("expected a statistic, an operation or a number, found the end", None),
    "* params": ("expected a statistic, an operation or a number, found '*'", "*"),
    "params ** 2": ("expected a statistic, an operation or a number, found '*'", "* 2"),
    "sum()": ("expected a statistic, an operation or a number, found ')'", ")"),
    "sum(weight, weight)": ("'sum' takes 1 argument, not 2", "sum"),
    "add(params)": ("'add' takes 2 arguments, not 1", "add"),
    "add(params, depth, width)": ("'add' takes 2 arguments, not 3", "add"),
    "params + 1e31": ("is not a finite number of magnitude at most 1e30", "1e31"),
    "params + 1e999": ("is not a finite number of magnitude at most 1e30", "1e999"),
    "params + nan": ("unknown statistic 'nan'", "nan"),
    "params.__class__": ("'.' has no meaning here", ".__class__"),
    "params; depth": ("';' has no meaning here", ";"),
    "params\u00a0+ 1": ("'\\xa0' has no meaning here", "\u00a0"),
    "sum(l1(ｗeight))": ("'ｗ' has no meaning here", "ｗ"),
    "params + \x1b[31m1": ("'\\x1b' has no meaning here", "\x1b"),
    '__import__("os")': ("unknown operation '__import__'", "__import__"),
    'sum("os")': ("'\"' has no meaning here", '"'),
    "__import__(os)": ("unknown operation '__import__'", "__import__"),
    "eval(params)": ("unknown operation 'eval'", "eval"),
    "__import__(params)": ("unknown operation '__import__'", "__import__"),
    "lambda: 1": ("':' has no meaning here", ":"),
    "sum(" * 10_000 + "weight": ("is more than 64 levels deep", None),
    "(" * 10_000: ("is more than 64 levels deep", None),
    "-" * 10_000 + "params": ("is more than 64 levels deep", None),
    "params" + " + params" * 100: ("is more than 64 levels deep", None),
    "sum(l1(weight)) + " * 60_000 + "params": ("the formula has 1,080,006 characters; the limit is 50,000", None),
    "a" * 40_000: ("unknown statistic 'aaaaaaa", "aaaa"),
    "9" * 40_000 + "*params": ("is not a finite number of magnitude", "9999"),
    "\x00" * 40_000: ("has no meaning here", None),
    "," * 40_000: ("found ','", ","),
    "+".join(["params"] * 7000): ("is more than 64 levels deep", None),
    "maximum(" + ", ".join(["params"] * 5000) + ")": ("'maximum' takes 2 arguments, not 5000", "maximum"),
    "weight[" + "msa," * 9000 + "mlp]": ("not 'msa'", "msa"),
}


@contextlib.contextmanager
def quickly() -> Iterator[None]:
    """Check the processor's time; without collecting garbage, of which other tests leave a lot."""
    gc.disable()
    try:
        start = time.process_time()
        yield
        assert time.process_time() - start < QUICK
    finally:
        gc.enable()


def label(text: str) -> str:
    return text if len(text) < 40 else f"{text[:20]}… ({len(text)})"


@pytest.mark.parametrize("text", MALFORMED, ids=label)
def test_malformed_text_is_pointed_at(text: str) -> None:
    message, culprit = MALFORMED[text]
    with quickly(), pytest.raises(FormulaError) as caught:
        parse(text)
    said = str(caught.value)
    assert message in said
    assert len(said) < 800
    lines = said.split("\n")
    if len(lines) == 1:
        assert culprit is None
        return
    first, window, carets = lines
    assert window.isprintable()
    assert re.fullmatch(r" *\^+", carets)
    column = int(re.search(r"\(column (\d+)\)$", first)[1]) - 1
    at = carets.index("^")
    if text[column : column + 1].isprintable():
        assert window[at : at + 1] == text[column : column + 1]
    if culprit:
        assert text[column:].startswith(culprit)


def test_reading_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def caught(*args: object) -> None:
        raise AssertionError(f"ran {args!r:.80}")

    with monkeypatch.context() as patch:
        for name in ("eval", "exec", "compile", "open", "__import__"):
            patch.setattr(builtins, name, caught)
        for text in ('__import__("os")', "__import__(os)", "eval(params)", "params.__class__", "exec(weight)"):
            with contextlib.suppress(FormulaError):
                parse(text)
        for node in ({"op": "__import__", "args": []}, {"statistic": "os.system", "marks": []}, {"constant": "exec"}):
            with contextlib.suppress(FormulaError):
                from_json({"nodes": [node], "root": 0})


def test_end_of_text_is_pointed_at() -> None:
    with pytest.raises(FormulaError) as caught:
        parse("sum(l1(weight)   ")
    assert str(caught.value).split("\n")[1:] == ["  sum(l1(weight)   ", "                ^"]


def test_culprit_in_the_middle_of_a_long_formula_is_shown_with_its_surroundings() -> None:
    text = "sum(" + " + ".join(["l1(weight)"] * 20) + " + l1(weigth) + " + " + ".join(["l1(weight)"] * 20) + ")"
    with pytest.raises(FormulaError, match="did you mean 'weight'") as caught:
        parse(text)
    _, window, carets = str(caught.value).split("\n")
    assert window.strip().startswith("…")
    assert window.endswith("…")
    assert window[carets.index("^") : carets.rindex("^") + 1] == "weigth"
    assert len(window) < 120


@settings(max_examples=600)
@given(text=st.one_of(st.text(max_size=60), st.text("sumaxweight[]()+-*/,.0123e_ \n", max_size=60)))
def test_any_text_is_a_formula_or_an_error(text: str) -> None:
    with contextlib.suppress(FormulaError):
        assert isinstance(parse(text, complete=False), Formula)


words = st.sampled_from([*OPERATIONS, *STATISTICS, *ROLES, *PROBES, *"+-*/()[],", "1", "-2.5e3", "nan", "__import__"])


@settings(max_examples=600)
@given(text=st.lists(words, max_size=12).map(" ".join))
def test_any_words_are_a_formula_or_an_error(text: str) -> None:
    with contextlib.suppress(FormulaError):
        formula = parse(text, complete=False)
        assert parse(str(formula), complete=False) == formula


@settings(max_examples=300)
@given(formula=formulas(), data=st.data())
def test_damaged_formulas_are_formulas_or_errors(formula: Formula, data: st.DataObject) -> None:
    text = str(formula)
    start = data.draw(st.integers(0, len(text)))
    damaged = text[:start] + data.draw(st.text(max_size=3)) + text[start + data.draw(st.integers(0, 5)) :]
    with contextlib.suppress(FormulaError):
        parse(damaged)


def test_largest_formula_prints_as_it_parses() -> None:
    """The longest name everywhere, up to the limit on nodes: still within the limit on characters."""
    leaf = statistic("weight_grad_batches", "proj", "noise")
    level = [leaf] * (MAX_SIZE // 2)
    while len(level) > 1:
        pairs = [apply(OPERATIONS["maximum"], a, b) for a, b in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[len(level) // 2 * 2 :]
    assert level[0].size == MAX_SIZE - 1
    assert len(level[0].text) > MAX_LENGTH / 4
    with quickly():
        assert parse(level[0].text, complete=False) == level[0]
    with pytest.raises(FormulaError, match="more than 1000 nodes"):
        apply(OPERATIONS["add"], level[0], leaf)


def test_deepest_formula_prints_as_it_parses() -> None:
    formula = statistic("params")
    for number in range(MAX_DEPTH - 1):
        args = (constant(2.0), formula) if number % 2 else (formula,)
        formula = apply(OPERATIONS["sub" if number % 2 else "log"], *args)
    assert formula.depth == MAX_DEPTH
    assert parse(str(formula)) == formula
    with pytest.raises(FormulaError, match="more than 64 levels deep"):
        apply(OPERATIONS["neg"], formula)


def test_smaller_vocabularies_say_what_they_lack() -> None:
    few = Vocabulary(OPERATIONS["sum"], OPERATIONS["l1"], OPERATIONS["mul"])
    assert str(parse("sum(l1(weight * weight_grad))", few)) == "sum(l1(weight * weight_grad))"
    for text, lacking in {"params + 1": "add", "-params": "neg", "log(params)": "log"}.items():
        with pytest.raises(FormulaError, match=f"unknown operation '{lacking}'"):
            parse(text, few)
    with pytest.raises(FormulaError, match="unknown operation 'add'"):
        from_json(parse("params + 1").to_json(), few)


def test_larger_vocabularies_are_read() -> None:
    def triple(x):
        return (3 * x).clamp(-1e30, 1e30)

    larger = OPERATIONS.extended(Operation("triple", "map", triple, r"3 \cdot \left({0}\right)"))
    formula = parse("sum(l1(triple(weight)))", larger)
    assert from_json(formula.to_json(), larger) == formula
    with pytest.raises(FormulaError, match="unknown operation 'triple'"):
        parse(str(formula))


def one(x):
    return x.abs().clamp(max=1)


def two(x):
    return x.abs().clamp(max=2)


def mine(function: Callable[..., Tensor]) -> Vocabulary:
    """Return the vocabulary with the function as the operation `mine`."""
    return OPERATIONS.extended(Operation("mine", "map", function, r"m\left({0}\right)"))


def test_formulas_of_one_text_differ_where_their_operations_do() -> None:
    text = "sum(l1(mine(weight))) + depth"
    first, second, again = (parse(text, mine(function)) for function in (one, two, one))
    assert first == again
    assert len({first, second, again}) == 2
    assert parse("mine(depth) - mine(2 * depth)", mine(one)) != parse("mine(depth) - mine(2 * depth)", mine(two))


def test_a_formula_may_mix_vocabularies() -> None:
    def nested(outer: Vocabulary, inner: Vocabulary) -> Formula:
        return apply(outer["mine"], apply(inner["mine"], statistic("depth")))

    assert nested(mine(one), mine(two)) == nested(mine(one), mine(two)) != nested(mine(two), mine(one))


def test_an_operation_with_the_name_of_another_is_not_that() -> None:
    own = Vocabulary(Operation("abs", "map", two, r"\left|{0}\right|"))
    formula = parse("abs(depth)", own)
    assert formula != parse("abs(depth)")
    assert not formula.built_in
    assert parse("abs(depth)").built_in


@pytest.mark.parametrize("function", [one, two])
def test_operations_are_the_same_in_another_process(function: Callable[..., Tensor]) -> None:
    formula = parse("sum(l1(mine(abs(weight)))) + depth", mine(function))
    arrived = pickle.loads(pickle.dumps(formula))
    assert arrived == formula
    assert arrived != parse(formula.text, mine({one: two, two: one}[function]))
    for node in arrived.nodes():
        if isinstance(node.head, Operation) and node.head.name != "mine":
            assert node.head is OPERATIONS[node.head.name]
        assert node.built_in is ("mine" not in node.text)


# JSON.


def doubling(levels: int) -> dict[str, Any]:
    """Return a graph of few nodes that is a tree of 2^levels."""
    nodes: list[dict[str, Any]] = [{"statistic": "params", "marks": []}]
    nodes += [{"op": "add", "args": [number, number]} for number in range(levels)]
    return {"nodes": nodes, "root": levels}


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


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


@settings(max_examples=600)
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


@settings(max_examples=400)
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
