"""Models: what MODEL means on a command line, the weights that follow from the seed, and what is refused."""

import random
import sys
from pathlib import Path
from random import Random

import numpy as np
import orjson
import pytest
import torch
from places import ROOT
from torch import nn

from autoprox.bench_cache.spaces.registry import InputSpec, get_space
from autoprox.models import ModelError, build_model, class_count, first_output

SPEC = InputSpec(24, 3, 10, 8)
TINY = f"{ROOT / 'tests' / 'tiny_vit.py'}:TinyVit"
OWN = """
import torch
from beside import WIDTH

def linear(width=WIDTH):
    return torch.nn.Linear(width, 2)

def number():
    return 3

def fails():
    raise KeyError("no such\\nthing")

def leaves():
    raise SystemExit(0)

ready = torch.nn.Linear(2, 2)
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "beside.py").write_text("WIDTH = 5\n")
    return tmp_path / "own.py"


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_a_function_of_a_file_imports_what_lies_beside_it(own: Path) -> None:
    path = list(sys.path)
    assert build_model(f"{own}:linear").in_features == 5
    assert build_model(f"{own}:linear", {"width": 7}).in_features == 7
    assert sys.path == path


def test_a_function_of_a_module_in_the_current_folder(own: Path, monkeypatch) -> None:
    monkeypatch.chdir(own.parent)
    assert build_model("own:linear").in_features == 5
    monkeypatch.delitem(sys.modules, "own")
    assert build_model("torch.nn:Linear", {"in_features": 2, "out_features": 3}).out_features == 3


def test_weights_follow_from_the_seed_and_generators_stay_as_they_were(own: Path) -> None:
    states = random.getstate(), torch.get_rng_state(), np.random.get_state()[1].copy()
    first, again, other = (weights(build_model(f"{own}:linear", seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])
    assert np.array_equal(np.random.get_state()[1], states[2])


def test_an_architecture_of_a_space(tmp_path: Path) -> None:
    space = get_space("pit-vb101")
    arch = space.sample(Random(0))
    file, results = tmp_path / "arch.json", tmp_path / "architectures.json"
    file.write_bytes(orjson.dumps(space.to_json(arch)))
    results.write_bytes(orjson.dumps({"architectures": [{"rank": 1, "arch": space.to_json(arch)}]}))
    expected = weights(space.build(arch, SPEC, 4))
    shape = InputSpec(24)
    for path in (file, results):
        model = build_model(f"space:pit-vb101:{path}", {"num_classes": 10, "patch_size": 8}, 4, shape)
        assert torch.equal(weights(model), expected)


def test_classes_are_those_of_the_output() -> None:
    model = build_model(TINY)
    assert class_count(first_output(TINY, model, torch.zeros(2, 3, 8, 8))) == 5
    assert model.training
    assert class_count(torch.zeros(1, 4, 5)) is None
    assert class_count("text") is None


WRONG = {
    "resnet": "'resnet' is no MODEL; write timm:NAME",
    "timm:": "is no MODEL",
    "a b:c": "is no MODEL",
    "absent.py:f": "there is no file absent.py",
    "absent_module:f": "building it fails with ModuleNotFoundError: No module named 'absent_module'",
    "OWN:absent": "own.py has no 'absent'",
    "OWN:number": "it returns a int; a torch.nn.Module is needed",
    "OWN:ready": "'ready' is a Linear; name a function that builds a model",
    "OWN:fails": "building it fails with KeyError: 'no such\\nthing', at line 12 of ",
    "OWN:leaves": "building it fails with SystemExit: 0",
    "space:pit-vb101": "write space:NAME:ARCH.json",
    "space:pit-vb101:absent.json": "absent.json cannot be read (No such file or directory)",
    "space:pit-vb101:OWN": "own.py is no JSON",
    "space:pit:EMPTY": "unknown space 'pit'",
    "space:pit-vb101:EMPTY": "missing",
    "hf:absent.json": "absent.json cannot be read",
    "hf:google/vit-base-patch16-224": "cannot be read",
}


@pytest.mark.parametrize("reference", WRONG)
def test_what_is_wrong_is_one_line(reference: str, own: Path) -> None:
    empty = own.parent / "empty.json"
    empty.write_text("{}")
    reference, expected = reference.replace("OWN", str(own)).replace("EMPTY", str(empty)), WRONG[reference]
    with pytest.raises(ModelError) as caught:
        build_model(reference)
    assert expected in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_settings_that_do_not_fit(own: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"TypeError: linear\(\) got an unexpected keyword argument 'depth'$"):
        build_model(f"{own}:linear", {"depth": 3})
    (tmp_path / "arch.json").write_text("{}")
    with pytest.raises(ModelError, match="has no setting 'depth'; it has image_size, "):
        build_model(f"space:pit-vb101:{tmp_path / 'arch.json'}", {"depth": 3})


@pytest.mark.parametrize(
    ("kind", "package"), [("timm", "timm"), ("torchvision", "torchvision"), ("hf", "transformers")]
)
def test_a_package_that_is_missing_is_named(kind: str, package: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ModelError, match=f"{package} cannot be imported .*; pip install {package}$"):
        build_model(f"{kind}:{tmp_path}")


@pytest.mark.parametrize("name", ["pretrained", "weights", "checkpoint_path"])
def test_trained_weights_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match=f"'{name}' loads trained weights"):
        build_model("timm:vit_tiny_patch16_224", {name: "x"})


def test_a_forward_pass_that_fails_names_the_input() -> None:
    with pytest.raises(
        ModelError, match=r"on a batch of 1 × 1 × 8 × 8 \(float32\) fails with RuntimeError: .*--channels may fit$"
    ):
        first_output(TINY, build_model(TINY), torch.zeros(2, 1, 8, 8))
