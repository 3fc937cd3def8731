"""Export: every form says the same formula, and pictures are drawn without overlaps."""

import itertools
import re
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest
from exported_files import DENSE, PROVENANCE, loaded
from hypothesis import given, settings
from strategies import formulas
from tiny_vit import TinyVit, batch

from autoprox.export import FORMATS, ExportError, export
from autoprox.export.drawing import draw, layout
from autoprox.pictures import DrawingError
from autoprox.primitives import parse
from autoprox.proxy import Proxy, resolve


@given(formulas())
@settings(max_examples=40)
def test_every_form_is_the_same_each_time(formula) -> None:
    proxy = Proxy.from_formula(formula, "found", PROVENANCE)
    for form in set(FORMATS) - {"svg", "png"}:
        assert export(proxy, form) == export(replace(proxy), form)


@given(formulas())
@settings(max_examples=40)
def test_text_and_json_read_back(tmp_path_factory, formula) -> None:
    proxy = Proxy.from_formula(formula, "found", PROVENANCE)
    assert parse(export(proxy, "text")) == formula
    path = tmp_path_factory.getbasetemp() / "exported.json"
    path.write_text(export(proxy, "json"))
    assert Proxy.load(path) == proxy
    latex = export(proxy, "latex")
    assert latex == formula.latex + "\n"
    assert latex.count("{") == latex.count("}")


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(ExportError, match="the formats are text, latex, json, dot, svg, png, python"):
        export(resolve("snip"), "onnx")


def test_dot_has_the_graph_and_the_order_of_arguments() -> None:
    proxy = Proxy.from_formula("sum(l1(weight * weight)) - depth", '"hostile\\" }\n')
    lines = export(proxy, "dot").splitlines()
    assert lines[0] == r'digraph "\"hostile\\\" } " {'
    assert lines[-1] == "}"
    labels = re.findall(r'^  (\d+) \[label="(.*?)", tooltip="(.*?)"\];$', "\n".join(lines), re.M)
    assert [label for _, label, _ in labels] == ["weight", "mul", "l1", "sum", "depth", "sub"]
    edges = [line.strip() for line in lines if "->" in line]
    assert edges == ["0 -> 1;", "0 -> 1;", "1 -> 2;", "2 -> 3;", "3 -> 5 [label=1];", "4 -> 5 [label=2];"]


@given(formulas(depth=7))
@settings(max_examples=60)
def test_boxes_and_edges_keep_clear_of_each_other(formula) -> None:
    graph = formula.graph()
    widths = [20.0 + 7 * len(graph.nodes[number]["label"]) for number in graph]
    plan = layout(graph, widths)
    width, height = plan.size
    assert all(
        w / 2 - 1e-6 <= x <= width - w / 2 + 1e-6 for w, (x, _) in zip(widths, plan.centres.values(), strict=True)
    )
    rows: dict[float, list[tuple[float, float]]] = {}
    for number, (x, y) in plan.centres.items():
        assert 0 < y < height
        rows.setdefault(y, []).append((x - widths[number] / 2, x + widths[number] / 2))
    for row in rows.values():
        row.sort()
        assert all(left[1] < right[0] for left, right in itertools.pairwise(row))
    for argument, user, _, points in plan.edges:
        assert plan.centres[argument][1] < plan.centres[user][1]  # data flows upwards
        assert abs(points[0][0] - plan.centres[argument][0]) < 1e-6
        assert abs(points[-1][0] - plan.centres[user][0]) < widths[user] / 2
        assert [y for _, y in points] == sorted(y for _, y in points)
        for x, y in points[1:-1]:  # where it passes a row, no box is there
            near = min(rows, key=lambda centre: abs(centre - y))
            assert not any(left < x < right for left, right in rows[near])
    assert sorted((a, u) for a, u, _, _ in plan.edges) == sorted(
        (a, u) for a, u, data in graph.edges(data=True) for _ in data["position"]
    )


@pytest.mark.parametrize("ref", ["params", "dss", "auto-prox", "zico", DENSE, "params - depth"])
def test_labels_are_inside_their_boxes_and_overlap_nothing(ref: str) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch

    figure = Figure(dpi=72)
    draw(resolve(ref), figure)
    renderer = FigureCanvasAgg(figure).get_renderer()
    axes = figure.axes[0]
    texts = [text.get_window_extent(renderer) for text in axes.texts]
    assert len(texts) >= len(list(resolve(ref).formula.nodes()))
    assert not [(a, b) for i, a in enumerate(texts) for b in texts[:i] if a.overlaps(b)]
    boxes = [p.get_window_extent(renderer) for p in axes.patches if isinstance(p, FancyBboxPatch)]
    assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
    page = figure.bbox
    assert all(page.x0 < b.x0 and b.x1 < page.x1 and page.y0 < b.y0 and b.y1 < page.y1 for b in [*texts, *boxes])


def test_svg_is_well_formed_and_the_same_each_time() -> None:
    proxy = resolve("dss")
    text = export(proxy, "svg")
    assert text == export(proxy, "svg")
    assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    for label in ("nuclear", "weight_grad[msa, synflow]", "a number for the network"):
        assert f"<!-- {label} -->" in text
    assert "<dc:date>" not in text


def test_a_picture_without_matplotlib_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(DrawingError, match=re.escape("pip install 'autoprox[plot]'")) as caught:
        export(resolve("snip"), "svg")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_large_graph_is_drawn() -> None:
    terms = [f"pow(params, {number}) * log({('depth', 'width', 'flops')[number % 3]})" for number in range(140)]
    while len(terms) > 1:
        terms = [f"({' + '.join(terms[number : number + 2])})" for number in range(0, len(terms), 2)]
    proxy = Proxy.from_formula(terms[0])
    assert len(proxy.formula.graph()) > 500
    assert ElementTree.fromstring(export(proxy, "svg")) is not None
    assert loaded(export(proxy, "python")).score(TinyVit(), *batch()) == proxy.score(TinyVit(), *batch())


def test_a_function_of_the_zoo_cannot_be_exported_and_one_line_says_so() -> None:
    with pytest.raises(ExportError, match=r"'grasp' is a function and not a formula.*resolve\('grasp'\)") as caught:
        export(resolve("grasp"), "python")
    assert "\n" not in str(caught.value)
