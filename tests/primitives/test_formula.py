"""Formulas: text, JSON, graph and LaTeX; what is malformed gives one error that points at the place, runs nothing."""

import builtins
import contextlib
import dataclasses
import json
import pickle
import re

import networkx as nx
import orjson
import pytest
from formula_words import quickly, words
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import formulas, layer_formulas

from autoprox.primitives import (
    OPERATIONS,
    Formula,
    FormulaError,
    apply,
    constant,
    from_json,
    parse,
    statistic,
)
from autoprox.primitives.formula import MAX_DEPTH, MAX_SIZE
from autoprox.primitives.text import MAX_LENGTH

EXAMPLE = "sum(fro(minmax(weight[msa])) + sqrt(mean(sigmoid(act_grad[msa]))))"


@settings(max_examples=4 * settings.default.max_examples)
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


@settings(max_examples=4 * settings.default.max_examples)
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


@settings(max_examples=4 * settings.default.max_examples)
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
    "sum(l1(weight_grad_batches[synflow]))": ("one probe of data, noise, stepsK, not 'synflow'", "synflow"),
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


@settings(max_examples=4 * settings.default.max_examples)
@given(text=st.one_of(st.text(max_size=60), st.text("sumaxweight[]()+-*/,.0123e_ \n", max_size=60)))
def test_any_text_is_a_formula_or_an_error(text: str) -> None:
    with contextlib.suppress(FormulaError):
        assert isinstance(parse(text, complete=False), Formula)


@settings(max_examples=4 * settings.default.max_examples)
@given(text=st.lists(words, max_size=12).map(" ".join))
def test_any_words_are_a_formula_or_an_error(text: str) -> None:
    with contextlib.suppress(FormulaError):
        formula = parse(text, complete=False)
        assert parse(str(formula), complete=False) == formula


@settings(max_examples=4 * settings.default.max_examples)
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
