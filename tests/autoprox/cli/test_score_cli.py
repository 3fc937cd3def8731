"""`autoprox score` and `autoprox layers`: what they print, and what they refuse."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from places import ROOT
from tiny_vit import TinyVit

from autoprox.bench_cache.spaces.registry import InputSpec
from autoprox.bench_cache.training.images import read_images
from autoprox.cli.root import main
from autoprox.models import build_model
from autoprox.primitives.find_blocks.explicit import given_blocks
from autoprox.primitives.find_blocks.named import find_blocks
from autoprox.proxy import resolve
from autoprox.scoring import gaussian_batch

TINY = f"{ROOT / 'tests' / 'tiny_vit.py'}:TinyVit"
TWO = """
from tiny_vit import TinyVit

def small():
    return TinyVit(depth=1)

def large():
    return TinyVit(depth=3)
"""
SHAPE = ("--image-size", "8")


@pytest.fixture
def two(tmp_path: Path) -> tuple[str, str]:
    """A file with two models."""
    file = tmp_path / "two.py"
    file.write_text(TWO)
    return f"{file}:small", f"{file}:large"


def run(*arguments: object, code: int = 0) -> None:
    assert main([str(argument) for argument in arguments]) == code


def scored(capsys, *arguments: object) -> dict:
    run("score", *arguments, "--json")
    return json.loads(capsys.readouterr().out)


def strip_seconds(found: dict) -> dict:
    for entry in found["proxies"]:
        for row in entry["ranking"]:
            del row["seconds"]
    return found


def test_models_are_ranked_by_each_proxy(two: tuple[str, str], capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")  # the files' paths may be long
    run("score", *two, *SHAPE, "--proxy", "sum(fro(weight))", "--proxy", "snip", "--batch", 4)
    shown = capsys.readouterr().out
    assert "Weights are untrained (seed 0).\n" in shown
    assert "The probe `data` read 4 Gaussian samples of 3 × 8 × 8 with random classes (seed 0).\n" in shown
    assert "snip: sum(l1(weight * weight_grad))" in shown
    weights = shown.partition("sum(fro(weight))")[2].partition("snip")[0]
    assert weights.index(two[1]) < weights.index(two[0])


def test_scores_are_those_of_the_proxies(two: tuple[str, str], capsys) -> None:
    arguments = (*two, *SHAPE, "--proxy", "snip", "--proxy", "grasp", "--seed", 3)
    found = strip_seconds(scored(capsys, *arguments))
    assert found == strip_seconds(scored(capsys, *arguments))
    inputs, targets = map(torch.from_numpy, gaussian_batch(InputSpec(8, 3, 5, 4), 2, 3))
    for entry in found["proxies"]:
        assert [row["rank"] for row in entry["ranking"]] == [1, 2]
        for row in entry["ranking"]:
            expected = resolve(entry["proxy"]).score(build_model(row["model"], seed=3), inputs, targets, seed=3)
            assert row["score"] == pytest.approx(expected, rel=1e-5)
    params = [sum(p.numel() for p in TinyVit(depth=depth).parameters()) for depth in (1, 3)]
    assert [model["params"] for model in found["models"]] == params
    assert found["models"][0]["flops"] < found["models"][1]["flops"]
    assert [model["activations"] for model in found["models"]] == [4 * 6 + d * 4 * (18 + 6 + 9 + 6) + 5 for d in (1, 3)]


def test_images_of_a_file(tmp_path: Path, capsys) -> None:
    images, targets = gaussian_batch(InputSpec(8, 3, 5, 4), 4, 9)
    np.savez(tmp_path / "batch.npz", images=images, targets=targets)
    found = scored(capsys, TINY, "--proxy", "snip", "--images", tmp_path / "batch.npz")
    assert f"4 images of 3 × 8 × 8 from {tmp_path / 'batch.npz'}, with their classes." in found["ran_on"][1]
    expected = resolve("snip").score(build_model(TINY), torch.from_numpy(images), torch.from_numpy(targets))
    assert found["proxies"][0]["ranking"][0]["score"] == pytest.approx(expected, rel=1e-5)
    run("score", TINY, "--proxy", "snip", "--images", tmp_path / "batch.npz", "--batch", 2, code=2)
    assert "--batch is for Gaussian samples" in capsys.readouterr().err
    np.savez(tmp_path / "other.npz", pictures=images)
    run("score", TINY, "--proxy", "snip", "--images", tmp_path / "other.npz", code=2)
    said = f"error: {tmp_path / 'other.npz'}: it has pictures; save with numpy.savez(FILE, images=..., targets=...)"
    assert capsys.readouterr().err.startswith(said)


def test_images_of_a_folder(tmp_path: Path, capsys) -> None:
    """The first of each class; without folders of classes the classes are random."""
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for name in ("classes/cat/a.png", "classes/cat/b.png", "classes/dog/a.png", "flat/a.png", "flat/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(rng.integers(0, 255, (12, 9, 3), dtype=np.uint8)).save(tmp_path / name)
    folder = tmp_path / "classes"
    found = scored(capsys, TINY, "--proxy", "snip", "--images", folder, *SHAPE)
    assert f"read 2 images of 3 × 8 × 8 from {folder}, with their classes." in found["ran_on"][1]
    assert found["ran_on"][2] == f"{folder} is cut to 8 × 8, normalised by ImageNet's mean."
    read = read_images(folder, size=8, count=2)
    expected = resolve("snip").score(build_model(TINY), torch.from_numpy(read.images), torch.tensor([0, 1]))
    assert found["proxies"][0]["ranking"][0]["score"] == pytest.approx(expected, rel=1e-5)
    flat = scored(capsys, TINY, "--proxy", "snip", "--images", tmp_path / "flat", *SHAPE)
    assert "with random classes (seed 0)." in flat["ran_on"][1]
    run("score", TINY, "--proxy", "snip", "--images", folder, "--channels", 1, code=2)
    assert "--channels is for Gaussian samples" in capsys.readouterr().err


HEADLESS = """
from torch import nn
from tiny_vit import TinyVit

class Backbone(TinyVit):
    def forward(self, x):
        x = self.patch(x).flatten(2).mT
        for block in self.blocks:
            x = block(x)
        return {"last_hidden_state": x, "states": (x.mean(1), x)}

def backbone():
    return Backbone()
"""


def test_a_model_without_a_head_has_a_readout(tmp_path: Path, capsys) -> None:
    (tmp_path / "own.py").write_text(HEADLESS)
    model = f"{tmp_path / 'own.py'}:backbone"
    run("score", model, *SHAPE, "--proxy", "snip", code=2)
    assert "the model returns dict; class scores (samples × classes) are needed" in capsys.readouterr().err
    arguments = (model, *SHAPE, "--proxy", "snip", "--proxy", "sum(fro(act))", "--readout")
    by_tokens = strip_seconds(scored(capsys, *arguments, "last_hidden_state"))
    assert by_tokens["proxies"][0]["ranking"][0]["score"] > 0
    assert by_tokens == strip_seconds(scored(capsys, *arguments, "states.0"))
    run("score", *arguments, "logits", code=2)
    reason = "the readout 'logits' leads nowhere: there is no 'logits'; dict has 'last_hidden_state' (1 × 4 × 6), 'stat"
    assert reason in capsys.readouterr().err


def test_devices(capsys) -> None:
    assert scored(capsys, TINY, *SHAPE, "--proxy", "snip", "--device", "cpu")["models"][0]["params"]
    for name, reason in (
        ("cuda:99", "there is no device 'cuda:99' here"),
        ("tpu", "'tpu' is no device; --device is"),
    ):
        run("score", TINY, *SHAPE, "--proxy", "snip", "--device", name, code=2)
        assert reason in capsys.readouterr().err


def test_a_model_without_a_score_comes_last_with_the_reason(tmp_path: Path, capsys) -> None:
    (tmp_path / "plain.py").write_text(
        "from torch import nn\n\ndef plain():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(192, 7), nn.ReLU(), nn.Linear(7, 5))\n"
    )
    plain = f"{tmp_path / 'plain.py'}:plain"
    run("score", plain, TINY, *SHAPE, "--proxy", "snip")
    shown = capsys.readouterr().out
    assert f"{plain} has no score: found no transformer block in Sequential" in shown
    run("score", plain, *SHAPE, "--proxy", "snip", code=2)
    heading, error = capsys.readouterr().err.splitlines()
    assert heading == "autoprox score: 1 model by 1 proxy, on cpu"
    assert error.startswith("error: no proxy scores any model")
    run("layers", plain, *SHAPE, code=2)
    assert capsys.readouterr().err.startswith(f"error: {plain}: found no transformer block: ")


def test_layers_are_shown_with_a_draft(capsys) -> None:
    run("layers", TINY, *SHAPE, "--set", "depth=3")
    shown = capsys.readouterr().out
    assert "(TinyVit): 3 blocks, found by one forward pass on an image of 3 × 8 × 8" in shown
    assert "qkv: blocks.*.attn.qkv" in shown
    assert "classifier: its result is the network's" in shown
    draft = ast.literal_eval(shown.partition("layers=")[2])
    model = TinyVit(depth=3)
    assert [block.linears for block in given_blocks(model, draft)] == [block.linears for block in find_blocks(model)]


def test_layers_tell_which_layer_has_two_places(tmp_path: Path, capsys) -> None:
    (tmp_path / "twice.py").write_text(
        "from tests.primitives.find_blocks.test_choose import TinyVit, TwoReaders\n\ndef twice():\n"
        "    model = TinyVit()\n    model.blocks[0].attn = TwoReaders()\n    return model\n"
    )
    run("layers", f"{tmp_path / 'twice.py'}:twice", *SHAPE)
    shown = " ".join(capsys.readouterr().out.split())
    assert "Scores need a choice: layer 'blocks.0.attn.query' may be 'qkv' of block 0 or 'qkv' of block 1:" in shown


@pytest.mark.parametrize("command", [("layers",), ("score", "--proxy", "params")])
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((TINY, *SHAPE, "--channels", "2"), "the forward pass of TinyVit on a batch of 1 × 2 × 8 × 8"),
        ((TINY, *SHAPE, "--set", "depth"), "'depth' is not NAME=VALUE, such as depth=6"),
        ((TINY, *SHAPE, "--set", "hight=3"), "unexpected keyword argument 'hight'"),
        (("tiny",), "'tiny' is no MODEL; write timm:NAME"),
    ],
)
def test_what_is_wrong_is_an_error(command: tuple[str, ...], arguments: tuple[str, ...], reason: str, capsys) -> None:
    run(*command, *arguments, code=2)
    assert reason in capsys.readouterr().err


def test_an_odd_batch_has_no_halves(capsys) -> None:
    run("score", TINY, *SHAPE, "--proxy", "zico", "--batch", 3, code=2)
    assert "zico halves the batch, and 3 samples have no half" in capsys.readouterr().err
