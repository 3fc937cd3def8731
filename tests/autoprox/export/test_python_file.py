"""A Python file gives the same scores where autoprox is not, and no provenance breaks out of its docstring."""

import ast
import builtins
import json
import math
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from exported_files import DENSE, PROVENANCE, loaded
from hypothesis import given, settings
from hypothesis import strategies as st
from places import ROOT, TESTS
from strategies import formulas
from tiny_vit import TinyVit, batch
from torch import nn

from autoprox import __version__
from autoprox.bench_cache.spaces.registry import InputSpec, get_space
from autoprox.export import export
from autoprox.primitives import OPERATIONS, STATISTICS, LayerError, Operation, parse
from autoprox.proxy import Proxy, ProxyError, resolve
from autoprox.zoo import ZOO

RUFF = Path(sys.executable).with_name("ruff")

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
    "activations / flops + sum(tokens[qkv])",
    "mean(std(attn_logits)) + sum(max(attn * attn_logits)) + sum(mean(act)) + mean(min(attn_logits[synflow]))",
    DENSE,
)


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
    assert len(source.splitlines()) < 125 < len(export(resolve("snip"), "python").splitlines()) < 175
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
