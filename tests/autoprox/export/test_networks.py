"""The files of an architecture: genes that every reader reads back, and Python that builds it where autoprox is not."""

import json
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from own_spaces import NETWORK

from autoprox.bench_cache.spaces.registry import SPACES, InputSpec, get_space, pinned
from autoprox.export.networks import network_files
from autoprox.export.yaml_text import to_yaml
from autoprox.search.networks import write_networks

SPEC = InputSpec(32, 3, 10, 8)

#: How many networks of a space are built: some of each family, and of those of Microsoft's AutoFormer the small ones.
BUILT = {"autoformer-tiny": 1, "autoformer-vb101": 1, "mini-vit": 2, "micro-vit": 5, "nas-bench-201": 2, "pit-vb101": 2}

#: Builds each network of a folder in a process without autoprox, and saves its weights and what it computes.
BUILDER = """
import importlib, sys
from pathlib import Path

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("autoprox", "primitives", "bench_cache", "evolve", "numpy", "timm"):
            raise ModuleNotFoundError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
import torch
torch.set_num_threads(1)
folder = Path(sys.argv[1])
sys.path.insert(0, str(folder))
images = torch.load(folder / "images.pt", weights_only=True)
for file in sorted(folder.glob("*.py")):
    network = importlib.import_module(file.stem).build(5)
    assert network.training
    weights = {name: value.clone() for name, value in network.state_dict().items()}  # a batch norm's follow the images
    made = {"weights": weights, "logits": network(images)}
    torch.save(made, file.with_suffix(".pt"))
"""


def test_every_space_is_built_alike_without_autoprox(tmp_path: Path) -> None:
    """Bit for bit: the weights, their names, and what the network computes."""
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.save(images, tmp_path / "images.pt")
    expected = {}
    for name, count in BUILT.items():
        space = get_space(name)
        for number in range(count):
            arch = space.sample(Random(number))
            stem = f"{name.replace('-', '_')}_{number}"
            (tmp_path / f"{stem}.py").write_text(network_files(name, arch, SPEC)["py"])
            expected[stem] = space.build(arch, SPEC, 5)
    (tmp_path / "builder").mkdir()
    script = tmp_path / "builder" / "builder.py"
    script.write_text(BUILDER)
    subprocess.run([sys.executable, "-I", "-W", "ignore", str(script), str(tmp_path)], check=True)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for stem, network in expected.items():
            made = torch.load(tmp_path / f"{stem}.pt", weights_only=True)
            state = network.state_dict()
            assert list(made["weights"]) == list(state)
            assert all(torch.equal(made["weights"][name], state[name]) for name in state), stem
            assert torch.equal(made["logits"], network(images)), stem
    finally:
        torch.set_num_threads(before)


def test_a_users_space_is_built_by_the_file_that_is_named(tmp_path: Path) -> None:
    body = (
        "class Tiny:\n    choices = {'width': [8, 16]}\n"
        "    def build(self, arch):\n        return Net(arch.width, [2])\n"
    )
    (tmp_path / "own.py").write_text(NETWORK + body)
    space = pinned(f"{tmp_path / 'own.py'}:Tiny")
    arch = get_space(space).from_json({"width": 8})
    text = network_files(space, arch, InputSpec(8, 1, 10, 4))["py"]
    assert "It is built by own.py, which is a user's" in text
    assert str(tmp_path) not in text
    made: dict = {}
    exec(compile(text, "row_1.py", "exec"), made)
    network = made["build"](2, f"{tmp_path / 'own.py'}:Tiny")
    for name, value in get_space(space).build(arch, InputSpec(8, 1, 10, 4), 2).state_dict().items():
        assert torch.equal(network.state_dict()[name], value)


@pytest.mark.parametrize("name", SPACES)
def test_genes_are_the_same_in_json_and_yaml(name: str) -> None:
    space = get_space(name)
    for number in range(5):
        arch = space.sample(Random(number))
        files = network_files(name, arch, SPEC)
        assert json.loads(files["json"]) == yaml.safe_load(files["yaml"]) == space.to_json(arch)
        assert space.from_json(yaml.safe_load(files["yaml"])) == arch


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@given(st.dictionaries(st.text() | st.sampled_from(["y", "no", "Null", "a b", "- x"]), SCALARS | st.lists(SCALARS)))
def test_whatever_the_values_yaml_reads_them_back(record: dict) -> None:
    def same(a: object, b: object) -> bool:
        return type(a) is type(b) and (all(map(same, a, b)) and len(a) == len(b) if type(a) is list else a == b)

    found = yaml.safe_load(to_yaml(record)) or {}
    assert list(found) == list(record)
    assert all(same(found[name], record[name]) for name in record)


def test_rows_that_a_result_no_longer_has_are_removed(tmp_path: Path) -> None:
    space = get_space("mini-vit")
    archs = [space.sample(Random(number)) for number in range(3)]
    write_networks(tmp_path, "mini-vit", SPEC, archs)
    (tmp_path / "networks" / "row_notes.txt").write_text("mine")
    write_networks(tmp_path, "mini-vit", SPEC, archs[:1])
    kept = sorted(path.name for path in (tmp_path / "networks").iterdir())
    assert kept == ["row_1.json", "row_1.py", "row_1.yaml", "row_notes.txt"]


def test_rows_of_a_table_have_genes_alone(tmp_path: Path) -> None:
    write_networks(tmp_path, None, None, [{"layers": (3, 4), "name": "a: b"}])
    assert yaml.safe_load((tmp_path / "networks" / "row_1.yaml").read_text()) == {"layers": [3, 4], "name": "a: b"}
    assert sorted(path.suffix for path in (tmp_path / "networks").iterdir()) == [".json", ".yaml"]
