"""Export: every form says the same formula, and a Python file gives the same scores where autoprox is not."""

import ast
import builtins
import itertools
import json
import linecache
import math
import random
import re
import subprocess
import sys
import types
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from places import ROOT, TESTS
from strategies import formulas
from tiny_vit import TinyVit, batch
from torch import Tensor, nn

from autoprox import __version__
from autoprox.bench_cache.spaces.registry import InputSpec, get_space
from autoprox.export import FORMATS, ExportError, export
from autoprox.export.drawing import draw, layout
from autoprox.export.sources import SourceError
from autoprox.pictures import DrawingError
from autoprox.primitives import OPERATIONS, STATISTICS, LayerError, Operation, parse
from autoprox.proxy import Proxy, ProxyError, resolve
from autoprox.zoo import ZOO

RUFF = Path(sys.executable).with_name("ruff")

PROVENANCE = {
    "benchmarks": ["vit-bench-101-autoformer", "vit-bench-101-pit"],
    "tasks": ["cifar100_kd"],
    "seed": 17,
    "tau": {"evolve": {"cifar100_kd": 0.71234567}, "test": {"cifar100_kd": 0.6789}},
    "version": "0.1.0",
}

#: One formula for each way of using an operation that the shipped ones do not use, and then some.
COVERING = (
    *(f"sum(mean({op.name}(weight[fc1])))" for op in OPERATIONS.values() if op.family in ("map", "normalise")),
    *(f"mean({op.name}(sum(act[noise])))" for op in OPERATIONS.values() if op.family in ("map", "along_depth")),
    *(f"{op.name}(params)" for op in OPERATIONS.values() if op.family == "map"),
    *(f"sum({op.name}(act))" for op in OPERATIONS.values() if op.family in ("reduce", "spectrum")),
    *(f"sum({op.name}(weight_grad[qkv, noise]))" for op in OPERATIONS.values() if op.family == "reduce"),
    *(f"{op.name}(heads + l1(weight))" for op in OPERATIONS.values() if op.family in ("reduce", "aggregate")),
    *(f"sum(fro({op.name}(act_grad[proj])))" for op in OPERATIONS.values() if op.family == "derive"),
    *(f"sum(fro({op.name}(act, act_grad)))" for op in OPERATIONS.values() if op.family == "product"),
    "depth / width - flops * params + minimum(depth, maximum(width, pow(depth, 0.5)))",
    "sum(l1(weight - 2) + fan_in / fan_out * tokens - heads + pow(position, 2) + depth)",
    "sum(maximum(l1(maximum(zscore(weight[fc1]) * 2, exp(0.5))), l1(zscore(weight[fc1]))) - heads[fc1])",
    "sum(l1(weight[msa]) + l1(act_grad[mlp, noise])) + depth_weighted(logdet(weight[fc2]))",
    "sum(fro(weight[fc1])) + sum(mean(act[qkv]))",
    "mean(std(attn) + max(attn[noise])) * sum(min(attn[synflow]))",
    "sum(fro(batch_std(weight_grad_batches[qkv, noise]))) + sum(fan_out[proj]) + mean(tokens[mlp])",
    "sum(pattern_count(attn)) + sum(spectral(act[noise])) + sum(effective_rank(act_grad[synflow]))",
    "sum(minimum(mean(weight), 0.25 - exp(1))) + 1e-06",
    "sum(fro(minmax(sigmoid(tanh(weight * weight_grad)) - softmax(weight + weight_grad[synflow] * weight_grad[noise]))"
    " / (zscore(weight * weight_grad) + abs(log(weight * weight_grad)) * invert(weight + weight_grad[synflow]))))",
)


def loaded(source: str, name: str = "exported_proxy") -> types.ModuleType:
    """The module that an exported file is."""
    module = types.ModuleType(name)
    sys.modules[name] = module  # dataclasses look their module up
    exec(compile(source, f"{name}.py", "exec"), module.__dict__)
    return module


def test_the_covering_formulas_use_the_whole_language() -> None:
    heads = [node.head for text in COVERING for node in parse(text).nodes()]
    assert {head.name for head in heads if isinstance(head, Operation)} == set(OPERATIONS)
    assert {head.statistic.name for head in heads if hasattr(head, "statistic")} == set(STATISTICS)


# A Python file on its own

CHECKER = """
import importlib, json, sys, warnings
warnings.simplefilter("error")

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("autoprox", "primitives", "bench_cache", "evolve"):
            raise ModuleNotFoundError(f"{name} is blocked")

import torch
torch.set_num_threads(1)
sys.meta_path.insert(0, Blocker())
from tiny_vit import TinyVit, batch
scores = []
for number in range(int(sys.argv[1])):
    module = importlib.import_module(f"exported_{number}")
    scores.append(module.score(TinyVit(seed=1), *batch()))
assert not [name for name in sys.modules if name.partition(".")[0] == "autoprox"]
try:
    import autoprox
except ModuleNotFoundError:
    print(json.dumps(scores))
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[Path, list[Proxy]]:
    """A folder with every shipped and covering proxy as exported_0.py, exported_1.py, ..."""
    folder = tmp_path_factory.mktemp("exported")
    proxies = [resolve(name) for name, proxy in ZOO.items() if proxy.formula]
    proxies += [Proxy.from_formula(text, "found", PROVENANCE) for text in COVERING]
    for number, proxy in enumerate(proxies):
        (folder / f"exported_{number}.py").write_text(export(proxy, "python"))
    return folder, proxies


def test_an_exported_file_scores_alike_without_autoprox(files) -> None:
    folder, proxies = files
    (folder / "check.py").write_text(CHECKER)
    (folder / "tiny_vit.py").write_text((TESTS / "tiny_vit.py").read_text())
    command = [sys.executable, "check.py", str(len(proxies))]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)
    expected = [proxy.score(TinyVit(seed=1), *batch()) for proxy in proxies]
    differing = [p.formula.text for p, a, b in zip(proxies, scores, expected, strict=True) if a != b]
    assert not differing  # bit for bit, not only to 1e-6


@given(formulas())
@settings(max_examples=80)
def test_any_formula_scores_alike(formula) -> None:
    proxy = Proxy.from_formula(formula)
    module = loaded(export(proxy, "python"))
    for targets in (batch()[1], None):
        model = TinyVit(seed=2)
        assert module.score(model, batch()[0], targets, seed=3) == proxy.score(model, batch()[0], targets, seed=3)


@pytest.mark.skipif(not RUFF.exists(), reason="ruff is not installed beside this Python")
def test_exported_files_pass_the_projects_linter_and_formatter(files) -> None:
    folder, proxies = files
    names = [f"exported_{number}.py" for number in range(len(proxies))]
    for arguments in (["check"], ["format", "--check"]):
        command = [RUFF, *arguments, "--no-cache", "--config", ROOT / "pyproject.toml", *names]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_an_exported_file_has_what_it_needs_and_no_more(files) -> None:
    """It imports torch and the standard library, and `score` reaches every definition, at one or several removes."""
    folder, proxies = files
    for number in range(0, len(proxies), 3):
        tree = ast.parse((folder / f"exported_{number}.py").read_text())
        imported = {a.name for node in tree.body if isinstance(node, ast.Import) for a in node.names}
        imported |= {str(node.module) for node in tree.body if isinstance(node, ast.ImportFrom)}
        assert {name.partition(".")[0] for name in imported} <= {"torch", *sys.stdlib_module_names}
        used: dict[str, set[str]] = {}
        for node in tree.body:
            names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
            assert not [part for part in ast.walk(node) if isinstance(part, ast.Import | ast.ImportFrom)][1:]
            used |= dict.fromkeys(_bound(node), names)
        reached: set[str] = set()
        left = {"score"}
        while left:
            names = {name for name in left if name in used}
            reached |= names
            left = {name for bound in names for name in used[bound]} - reached
        assert set(used) == reached


def _bound(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def test_a_formula_of_weights_is_exported_without_probes() -> None:
    source = export(resolve("l2-norm"), "python")
    assert len(source.splitlines()) < 120 < len(export(resolve("snip"), "python").splitlines()) < 175
    for word in ("autograd", "cross_entropy", "read_statistics", "nuclear", "FlopCounterMode"):
        assert word not in source
    model = TinyVit()
    model.forward = None  # type: ignore[assignment,method-assign]
    assert loaded(source).score(model) == resolve("l2-norm").score(model)


def test_what_is_used_twice_is_computed_once() -> None:
    source = export(
        Proxy.from_formula("mean(l1(abs(weight)) + std(abs(weight)) * depth) + log(depth) * log(depth)"), "python"
    )
    body = source[source.index("blocks = ") : source.index("class LayerError")]
    assert body.count("absolute(") == body.count("log(") == 1


def test_an_exported_file_says_what_it_is() -> None:
    source = export(Proxy.from_formula("sum(fro(weight_grad))", "found", PROVENANCE), "python")
    text = ast.get_docstring(ast.parse(source))
    for part in (
        f"exported by autoprox {__version__}",
        "Name: found",
        "sum(fro(weight_grad))",
        "value = score(model, inputs, targets)",
        "benchmarks: vit-bench-101-autoformer, vit-bench-101-pit",
        "tasks: cifar100_kd",
        "seed: 17",
        "tau:",
        "evolve:",
        "cifar100_kd: 0.712346",
        "version: 0.1.0",
    ):
        assert part in text
    assert "value = score(model)\n" in export(resolve("l2-norm"), "python")


def test_an_exported_file_refuses_what_the_proxy_refuses() -> None:
    proxy = resolve("auto-prox")
    module = loaded(export(proxy, "python"))
    broken = TinyVit()
    broken.blocks[0].mlp.fc1.weight.data[0, 0] = math.nan
    unfound = "found no transformer block in Linear: "  # what follows differs: the file looks at names only
    for model, inputs, ours, theirs, said in (
        (broken, batch()[0], ProxyError, module.ProxyError, ""),
        (nn.Linear(2, 2), batch()[0], LayerError, module.LayerError, unfound),
        (TinyVit(), None, LayerError, module.LayerError, ""),
    ):
        with pytest.raises(ours, match=f"^{said}") as expected:
            proxy.score(model, inputs)
        with pytest.raises(theirs, match=re.escape(said or str(expected.value))):
            module.score(model, inputs)


@pytest.mark.parametrize("name", ["snip", "fisher", "zico", "synflow"])
def test_an_exported_file_refuses_a_model_without_gradients(name: str) -> None:
    proxy, model = resolve(name), TinyVit()
    nn.init.zeros_(model.head.weight)
    module = loaded(export(proxy, "python"))
    with pytest.raises(ProxyError, match="is exactly 0") as expected:
        proxy.score(model, *batch())
    with pytest.raises(module.ProxyError, match=re.escape(str(expected.value))):
        module.score(model, *batch())


def test_an_exported_file_takes_names_of_layers_and_our_spaces() -> None:
    named = [{"qkv": f"blocks.{i}.attn.qkv"} for i in range(2)]
    proxy = Proxy.from_formula("sum(fro(weight[qkv])) + mean(l1(act[qkv]))")
    score = loaded(export(proxy, "python")).score
    assert score(TinyVit(), *batch(), layers=named) == proxy.score(TinyVit(), *batch(), layers=named)
    space = get_space("autoformer-tiny")
    model = space.build(space.sample(random.Random(1)), InputSpec(image_size=32, num_classes=5))
    images = torch.nn.functional.interpolate(batch()[0], size=32)
    for name in ("auto-prox", "synflow", "flops"):
        assert loaded(export(resolve(name), "python")).score(model, images) == resolve(name).score(model, images)


# Provenance is text of unknown origin

HOSTILE = '"""\nimport builtins\nbuiltins.broken_out = True\n"""'
NASTY = st.text(
    st.one_of(st.sampled_from("\"\\\n\r\t'{}$#%\x00\u202e\u2028\u00a0\ud800N"), st.characters()), max_size=60
)


def skeleton(source: str) -> str:
    """All of a file but its docstring."""
    tree = ast.parse(source)
    assert isinstance(tree.body[0], ast.Expr)
    return ast.dump(ast.Module(tree.body[1:], []))


PLAIN = skeleton(export(Proxy.from_formula("params"), "python"))


@pytest.mark.parametrize("text", [HOSTILE, '"' * 7, "\\", '\\"""', "\\N{BELL}", "x" * 500, "絵" * 90, "a\\" * 90])
def test_provenance_cannot_break_out_of_the_docstring(text: str) -> None:
    proxy = Proxy.from_formula(
        "params", text, {"source": text, text: [text, {text: text}], "deep": {"er": {"s": text}}}
    )
    source = export(proxy, "python")
    assert skeleton(source) == PLAIN
    loaded(source)
    assert not hasattr(builtins, "broken_out")
    assert all(len(line) <= 120 for line in source.splitlines())


@given(NASTY, st.recursive(NASTY | st.floats() | st.none() | st.booleans(), lambda inner: st.lists(inner, max_size=3)
                           | st.dictionaries(NASTY, inner, max_size=3), max_leaves=8))  # fmt: skip
@settings(max_examples=150)
def test_no_provenance_changes_the_code(name: str, value: object) -> None:
    try:
        proxy = Proxy.from_formula("params", name, {"value": value})
        proxy.to_json()
    except (ProxyError, TypeError):  # a lone surrogate is no JSON
        return
    assert skeleton(export(proxy, "python")) == PLAIN


# Operations of users

BASE = 1.5
# How much `helper` stretches.
SCALE = BASE * 2


def helper(x: Tensor) -> Tensor:
    """Uses a constant of the module."""
    return x * SCALE + torch.special.expit(x)


def my_sum(x: Tensor) -> Tensor:
    """Σ 3x + σ(x), which needs a helper and a module of the standard library"""
    return (helper(x) + math.pi).sum((-2, -1)).clamp(-1e30, 1e30)


def with_numpy(x: Tensor) -> Tensor:
    """Imports what an exported file may not."""
    return x * np.float32(2)


def saturate(x: Tensor) -> Tensor:
    """Has the name of one of ours."""
    return x.clamp(-1, 1)


def my_clip(x: Tensor) -> Tensor:
    """Uses the one of that name."""
    return saturate(x)


def weight(x: Tensor) -> Tensor:
    """Has the name of a statistic, and so of a variable."""
    return x * 2


def fro_1(x: Tensor) -> Tensor:
    """Has the name that a variable would get."""
    return x + 1


def row(x: Tensor) -> Tensor:
    """Has the name of a variable of every file."""
    return x


def user_proxy(text: str, **functions: Callable[..., Tensor]) -> Proxy:
    """A proxy in our vocabulary and functions, which are reductions if they are named so, and maps otherwise."""
    extra = [
        Operation(name, "reduce" if name.endswith("sum") else "map", function, f"\\{name} {{0}}")
        for name, function in functions.items()
    ]
    return Proxy.from_formula(text, operations=OPERATIONS.extended(*extra))


def test_operations_of_users_are_exported_with_what_they_use() -> None:
    def halved(x: Tensor) -> Tensor:
        return helper(x) / 2

    for proxy in (
        user_proxy("sum(my_sum(weight))", my_sum=my_sum),
        user_proxy("sum(l1(halved(weight)))", halved=halved),
        user_proxy("sum(my_sum(arsinh(expit(weight))))", my_sum=my_sum, arsinh=torch.asinh, expit=torch.special.expit),
        user_proxy("sum(fro(doubled(weight)) + fro(plus(weight)))", doubled=weight, plus=fro_1),
    ):
        source = export(proxy, "python")
        assert loaded(source).score(TinyVit()) == proxy.score(TinyVit())
    source = export(user_proxy("sum(my_sum(weight))", my_sum=my_sum), "python")
    assert "import math\n" in source
    assert "\nBASE = 1.5\n# How much `helper` stretches.\nSCALE = BASE * 2\n" in source


def test_operations_typed_in_a_notebook_are_exported() -> None:
    cell = "def cell(x):\n    return inner(x) * FACTOR + torch.tanh(x) + F.relu(x)\n\n\ndef inner(x):\n    return -x\n"
    namespace = {"__name__": "notebook", "torch": torch, "F": nn.functional, "FACTOR": 0.5}
    linecache.cache["<cell>"] = (len(cell), None, cell.splitlines(keepends=True), "<cell>")
    exec(compile(cell, "<cell>", "exec"), namespace)
    proxy = user_proxy("sum(l1(cell(weight)))", cell=namespace["cell"])
    assert loaded(export(proxy, "python")).score(TinyVit()) == proxy.score(TinyVit())
    namespace["FACTOR"] = torch.tensor(0.5)
    with pytest.raises(SourceError, match="'FACTOR' is used in notebook"):
        export(proxy, "python")
    exec("def unseen(x):\n    return x", namespace)
    with pytest.raises(SourceError, match="no source of the function 'unseen'"):
        export(user_proxy("sum(l1(unseen(weight)))", unseen=namespace["unseen"]), "python")


def test_operations_without_usable_source_are_refused() -> None:
    factor = torch.tensor(2.0)

    def closure(x: Tensor) -> Tensor:
        return x * factor

    class Callable_:
        def __call__(self, x: Tensor) -> Tensor:
            return x

    for function, says in (
        (closure, "'closure' needs the variable 'factor' of the function around it"),
        (lambda x: x, "no function with a name: write it with `def`"),
        (Callable_(), "no function with a name"),
        (with_numpy, "uses 'import numpy as np', but an exported proxy imports only torch"),
        (my_clip, "two things are called 'saturate'"),
        (row, "the function 'row' has the name of a variable of the exported file: rename it"),
    ):
        with pytest.raises(SourceError, match=re.escape(says)) as caught:
            export(user_proxy("sum(fro(used(weight)))", used=function), "python")
        assert "\n" not in str(caught.value)


# The other forms


@given(formulas())
@settings(max_examples=40)
def test_every_form_is_the_same_each_time(formula) -> None:
    proxy = Proxy.from_formula(formula, "found", PROVENANCE)
    for form in set(FORMATS) - {"svg"}:
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
    with pytest.raises(ExportError, match="the formats are text, latex, json, dot, svg, python"):
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


@pytest.mark.parametrize("ref", ["params", "dss", "auto-prox", "zico", COVERING[-1], "params - depth"])
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


@pytest.fixture(autouse=True)
def _forget_exported_modules() -> Iterator[None]:
    yield
    sys.modules.pop("exported_proxy", None)
    linecache.cache.pop("<cell>", None)


def test_a_function_of_the_zoo_cannot_be_exported_and_one_line_says_so() -> None:
    with pytest.raises(ExportError, match=r"'grasp' is a function and not a formula.*resolve\('grasp'\)") as caught:
        export(resolve("grasp"), "python")
    assert "\n" not in str(caught.value)
