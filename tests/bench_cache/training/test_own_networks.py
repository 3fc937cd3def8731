"""Training of networks that vmap cannot run: dropout, batch norm and buffers that differ by seed."""

from pathlib import Path

import numpy as np
import pytest
from own_spaces import NETWORK

from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.bench_cache.spaces.registry import get_space
from autoprox.bench_cache.training.dataset import Dataset, normalised
from autoprox.bench_cache.training.trainer import Recipe, train


@pytest.fixture
def data() -> Dataset:
    rng, labels = np.random.default_rng(0), np.arange(120) % 10
    images = rng.normal(size=(120, 1, 8, 8)).astype(np.float32) + labels[:, None, None, None]
    return normalised("made", images, labels, np.arange(80), np.arange(80, 120), 4)


def space_with(folder: Path, layer: str) -> str:
    body = (
        "class Tiny:\n    choices = {'width': [8, 16]}\n"
        "    def build(self, arch):\n"
        "        net = Net(arch.width, [2])\n"
        f"        net.patches = nn.Sequential(net.patches, {layer})\n"
        "        return net\n"
    )
    (folder / "own.py").write_text(NETWORK + body)
    return f"{folder / 'own.py'}:Tiny"


@pytest.mark.parametrize("layer", ["nn.Dropout(0.1)", "nn.BatchNorm2d(arch.width)", "nn.Identity()"])
def test_each_seed_is_trained_as_if_alone(layer: str, tmp_path: Path, data: Dataset) -> None:
    space = get_space(space_with(tmp_path, layer))
    arch, recipe = space.from_json({"width": 8}), Recipe(epochs=2, batch=20)
    both = train(space, arch, data.spec, data, recipe, [0, 1])
    assert both == train(space, arch, data.spec, data, recipe, [0, 1])
    if "Dropout" not in layer:  # whose draws follow one another
        assert both == [train(space, arch, data.spec, data, recipe, [seed])[0] for seed in (0, 1)]


def test_a_training_that_fails_is_one_line(tmp_path: Path, data: Dataset) -> None:
    space = get_space(space_with(tmp_path, "nn.Conv2d(3, 8, 1)"))
    with pytest.raises(
        BenchmarkError, match=r'^training of Tiny:\{"width":8\} on made fails with RuntimeError'
    ) as caught:
        train(space, space.from_json({"width": 8}), data.spec, data, Recipe(epochs=1), [0])
    assert len(str(caught.value).splitlines()) == 1
