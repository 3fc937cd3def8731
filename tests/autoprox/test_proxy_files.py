"""Proxies made, kept and found: files, names, formulas, and what is refused."""

import math
import os
import pickle
from pathlib import Path

import orjson
import pytest
from error_lines import one_line
from hypothesis import given, settings
from strategies import formulas
from tiny_vit import TinyVit, batch
from torch import Tensor

from autoprox.primitives import OPERATIONS, FormulaError, Operation, statistic
from autoprox.proxy import FORMAT, PROXY_FILE, VERSION, Proxy, ProxyError, resolve

# Making, keeping and finding


def test_a_proxy_is_one_number_read_from_a_network() -> None:
    with pytest.raises(FormulaError, match="not one number"):
        Proxy.from_formula("weight")
    with pytest.raises(ProxyError, match="not one number"):
        Proxy.from_formula(statistic("weight"))
    with pytest.raises(ProxyError, match="no JSON object"):
        Proxy.from_formula("params", provenance={"a": object()})
    with pytest.raises(ProxyError, match="no JSON object"):
        Proxy.from_formula("params", provenance={1: 2})  # type: ignore[dict-item]


def test_a_proxy_does_not_change() -> None:
    given_ = {"tasks": ["a"], "tau": {"test": (0.5, math.nan)}}
    proxy = Proxy.from_formula("params", "name", given_)
    given_["tasks"].append("b")
    assert proxy.provenance == {"tasks": ["a"], "tau": {"test": [0.5, None]}}
    with pytest.raises(TypeError):
        proxy.provenance["tasks"] = []  # type: ignore[index]
    assert pickle.loads(pickle.dumps(proxy)) == proxy
    assert hash(proxy) == hash(Proxy.from_formula("params", "name"))


@given(formulas())
@settings(max_examples=60)
def test_a_saved_proxy_is_the_same_when_loaded(tmp_path_factory, formula) -> None:
    path = tmp_path_factory.getbasetemp() / "saved" / "proxy.json"
    proxy = Proxy.from_formula(formula, "Zoë \"'\n", {"seed": 1, "tau": {"test": {"t": 0.25}}, "benchmarks": ["b"]})
    proxy.save(path)
    assert Proxy.load(path) == proxy
    assert os.listdir(path.parent) == ["proxy.json"]


def test_a_file_written_by_hand_needs_only_a_formula(tmp_path) -> None:
    path = tmp_path / "mine.json"
    path.write_text('{"format": "autoprox-proxy", "version": 1, "formula": "sum( fro(weight) )"}')
    assert Proxy.load(path) == Proxy.from_formula("sum(fro(weight))")


def test_a_user_vocabulary_is_loaded_with(tmp_path) -> None:
    operations = OPERATIONS.extended(Operation("cosh", "map", _cosh, r"\cosh {0}"))
    proxy = Proxy.from_formula("sum(cosh(fro(weight)))", operations=operations)
    proxy.save(tmp_path / PROXY_FILE)
    assert resolve(tmp_path, operations) == proxy
    with pytest.raises(ProxyError, match="unknown operation"):
        resolve(tmp_path)


def _cosh(x: Tensor) -> Tensor:
    return x.clamp(-60, 60).cosh()


GOOD = orjson.loads(Proxy.from_formula("sum(fro(weight))").to_json())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not JSON"),
        (orjson.dumps(GOOD)[:-20], "not JSON"),
        (b"\x80\x04cposix\nsystem\n", "not JSON"),
        (b"[" * 5000, "not JSON"),
        (b"[]", "not a proxy file"),
        (orjson.dumps(GOOD | {"format": "autoprox-benchmark"}), "not a proxy file"),
        (orjson.dumps(GOOD | {"version": 2}), "version 2"),
        (orjson.dumps(GOOD | {"version": True}), "version True"),
        (orjson.dumps(GOOD | {"version": "1" * 500}), "version"),
        (orjson.dumps(GOOD | {"formula": None}), "no text"),
        (orjson.dumps(GOOD | {"name": 3}), "no text"),
        (orjson.dumps(GOOD | {"provenance": []}), "no object"),
        (orjson.dumps(GOOD | {"formula": "sum(fro(act))"}), "differ"),
        (orjson.dumps(GOOD | {"graph": {"nodes": [{"op": "fro", "args": [7]}], "root": 0}}), "node 0"),
        (orjson.dumps(GOOD | {"graph": {"nodes": [{"constant": 1.0}], "root": 0}, "formula": "1"}), "not one number"),
        (orjson.dumps({"format": FORMAT, "version": VERSION, "formula": '__import__("os")'}), "formula cannot be read"),
        (orjson.dumps({"format": FORMAT, "version": VERSION, "formula": "sum(weight)"}), "formula cannot be read"),
        (b" " * (16 * 2**20 + 1), "16 MiB"),
    ],
)
def test_a_damaged_file_is_one_line_with_its_path(tmp_path, content: bytes, says: str) -> None:
    path = tmp_path / "proxy.json"
    path.write_bytes(content)
    for load in (Proxy.load, resolve):
        with pytest.raises(ProxyError, match=says) as caught:
            load(path)
        assert one_line(caught.value).startswith(f"{path}: ")
        assert len(str(caught.value)) < 800  # all operations may be listed


def test_resolve_takes_directories_files_names_and_formulas(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    proxy = Proxy.from_formula("sum(l1(weight))", "mine", {"seed": 3})
    proxy.save(tmp_path / "run" / PROXY_FILE)
    proxy.save(tmp_path / "snip")
    assert resolve("run") == resolve(tmp_path / "run") == resolve("run/proxy.json") == resolve("./snip") == proxy
    assert resolve("snip").formula.text == "sum(l1(weight * weight_grad))"  # the shipped one, whatever lies around
    assert resolve("params / depth").formula.text == "params / depth"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("~/run") == proxy


@pytest.mark.parametrize(
    ("ref", "says"),
    [
        ("snpi", "did you mean 'snip'?"),
        ("auto-proxx", "did you mean 'auto-prox'?"),
        ("weihgt_grad", "did you mean 'weight_grad'?"),
        ("runs/17", "`autoprox proxies` lists"),
        ("nowhere.json", "`autoprox proxies` lists"),
        ("x" * 5000, "no shipped proxy"),
    ],
)
def test_a_typo_is_one_line_with_the_closest_name(ref: str, says: str) -> None:
    with pytest.raises(ProxyError) as caught:
        resolve(ref)
    assert says in one_line(caught.value)
    assert len(str(caught.value)) < 250


def test_a_function_of_the_zoo_resolves_and_scores_as_a_formula_does() -> None:
    proxy, (inputs, targets) = resolve("grasp"), batch()
    assert proxy.as_formula is None
    assert isinstance(proxy.score(TinyVit(), inputs, targets, layers=None, seed=0), float)
    drawn = proxy.score(TinyVit(), inputs, seed=3)  # without targets, random classes
    assert drawn == proxy.score(TinyVit(), inputs, seed=3)


def test_functions_read_the_layers_that_are_named() -> None:
    model, (inputs, targets) = TinyVit(), batch()
    slots = {"qkv": "attn.qkv", "proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}
    named = [{slot: f"blocks.{n}.{path}" for slot, path in slots.items()} for n in range(len(model.blocks))]
    for name in ("swap", "croze"):
        proxy = resolve(name)
        assert proxy.score(model, inputs, targets, layers=named) == proxy.score(model, inputs, targets)
        with pytest.raises(ProxyError, match=f"^{name}: .*nothing"):
            proxy.score(model, inputs, targets, layers=[{"fc1": "nothing"}])


def test_load_takes_what_a_user_means_and_refuses_a_function(tmp_path: Path) -> None:
    proxy = Proxy.from_formula("mean(std(weight))", "mine")
    proxy.save(tmp_path / "run" / PROXY_FILE)
    assert Proxy.load(tmp_path / "run") == Proxy.load(str(tmp_path / "run")) == proxy
    assert Proxy.load("snip").formula == resolve("snip").as_formula
    assert Proxy.load("params / depth").formula.text == "params / depth"
    with pytest.raises(ProxyError, match=r"'grasp' is a function and not a formula") as caught:
        Proxy.load("grasp")
    assert "resolve('grasp') scores" in one_line(caught.value)


@pytest.mark.parametrize("ref", ["", "weight", "sum(l1(weigt))", "params +", "depth-wdith", "\0", '__import__("os")'])
def test_a_malformed_formula_keeps_the_error_that_points_at_it(ref: str) -> None:
    with pytest.raises(FormulaError):
        resolve(ref)


def test_a_directory_without_a_proxy_says_so(tmp_path) -> None:
    with pytest.raises(ProxyError, match=r"holds no proxy\.json"):
        resolve(tmp_path)
    with pytest.raises(FileNotFoundError):
        Proxy.load(tmp_path / "none.json")
