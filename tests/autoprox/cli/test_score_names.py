"""`autoprox score`: proxies without --proxy, and a function of the user's that names a model's layers."""

import json
from pathlib import Path

import pytest
from places import ROOT

from autoprox.cli.root import FAILED, main

TINY = f"{ROOT / 'tests' / 'tiny_vit.py'}:TinyVit"
SHAPE = ("--image-size", "8", "--device", "cpu")
OWN = """
def first(model):
    return [{"qkv": "blocks.0.attn.qkv"}]

def every(model):
    return [{"qkv": f"blocks.{n}.attn.qkv"} for n in range(len(model.blocks))]

def nothing(model):
    return None

def broken(model):
    return model.layers_of_it

LIST = 3
"""


@pytest.fixture(autouse=True)
def _own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN)


def scores(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, float]:
    assert main(["score", *arguments, *SHAPE, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    return {entry["text"]: entry["ranking"][0]["score"] for entry in found["proxies"]}


def test_a_name_without_a_colon_is_a_proxy(capsys: pytest.CaptureFixture[str]) -> None:
    named = scores(capsys, TINY, "--proxy", "sum(fro(weight))", "--proxy", "depth")
    assert scores(capsys, "sum(fro(weight))", "depth", TINY) == named
    assert main(["score", "snip"]) == FAILED
    assert "score which model? Name a MODEL: timm:NAME" in capsys.readouterr().err
    assert main(["score", TINY]) == FAILED
    assert "score with what? Name a PROXY" in capsys.readouterr().err


def test_a_function_names_the_layers(capsys: pytest.CaptureFixture[str]) -> None:
    model = ("sum(fro(weight[qkv]))", TINY, "--set", "depth=2")
    (found,) = scores(capsys, *model).values()
    (named,) = scores(capsys, *model, "--layers", "own.py:every").values()
    assert named == found
    assert main(["score", *model, *SHAPE, "--layers", "own.py:first"]) == FAILED
    assert "leaves out layers of the same kind: 'blocks.1.attn.qkv'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("function", "told"),
    [
        ("own.py:frist", "--layers own.py:frist: own.py has no 'frist' (did you mean first?)"),
        ("own.py:LIST", "--layers own.py:LIST: it is a int; name a function of a model that returns"),
        ("own.py:broken", "--layers own.py:broken: naming the layers fails"),
        ("own.py:nothing", "--layers own.py:nothing: it returns a NoneType; a list of blocks is needed"),
    ],
)
def test_what_is_wrong_with_the_function_is_told(function: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "sum(fro(weight))", TINY, *SHAPE, "--layers", function]) == FAILED
    *said, error = capsys.readouterr().err.splitlines()
    assert told in error
    assert said in ([], ["autoprox score: 1 model by 1 proxy, on cpu"])
