"""Networks that are as a space built them: their names tell their blocks, and nothing is run to find these."""

from collections.abc import Callable
from copy import deepcopy
from random import Random

import pytest
import torch
from torch import nn

from autoprox.bench_cache.spaces.registry import SPACES, InputSpec
from autoprox.primitives import find_blocks
from autoprox.primitives.find_blocks import choose
from autoprox.primitives.find_blocks.as_built import is_as_built, names_tell_blocks
from autoprox.primitives.find_blocks.choose import blocks_of

SPEC = InputSpec(image_size=32, num_classes=10, patch_size=8)
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def network(space: str = "mini-vit", seed: int = 0) -> nn.Module:
    of = SPACES[space]
    return of.build(of.sample(Random(seed)), SPEC)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The models that a forward pass was run on to find their blocks."""
    seen: list[nn.Module] = []
    real = choose.find_layers
    monkeypatch.setattr(choose, "find_layers", lambda model, x: seen.append(model) or real(model, x))
    return seen


@pytest.mark.parametrize("space", [name for name in SPACES if name != "nas-bench-201"])  # no block has a name there
def test_a_forward_pass_finds_what_the_names_tell(space: str, found: list[nn.Module]) -> None:
    for seed in range(4):
        built = network(space, seed)
        assert blocks_of(built, IMAGES) == find_blocks(built)
        assert not found
        built.forward = built.forward  # no longer as it was built
        assert blocks_of(built, IMAGES) == find_blocks(built)
        assert found.pop() is built


def share_block(model: nn.Module) -> None:
    model.blocks[1] = model.blocks[0]


def share_weight(model: nn.Module) -> None:
    model.blocks[1].mlp.fc1.weight = model.blocks[0].mlp.fc1.weight


def add_block(model: nn.Module) -> None:
    model.norm = nn.Sequential(model.norm, nn.Linear(model.head.in_features, model.head.in_features))


def replace_class(model: nn.Module) -> None:
    class Other(type(model.blocks[0])):
        pass

    model.blocks[0].__class__ = Other


def replace_forward(model: nn.Module) -> None:
    model.blocks[0].forward = nn.Identity().forward


def hook(model: nn.Module) -> None:
    model.blocks[0].register_forward_hook(lambda module, args, output: None)


@pytest.mark.parametrize("change", [share_block, share_weight, add_block, replace_class, replace_forward, hook])
def test_after_a_change_a_forward_pass_decides(change: Callable[[nn.Module], None], found: list[nn.Module]) -> None:
    model = deepcopy(network())
    assert is_as_built(model)
    change(model)
    assert not is_as_built(model)
    blocks_of(model, IMAGES)
    assert found == [model]


def test_a_class_that_runs_otherwise_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    monkeypatch.setattr(type(model.blocks[0]), "forward", lambda self, x: x)
    assert not is_as_built(model)


def test_the_mark_stays_with_the_network() -> None:
    model = network()
    assert not is_as_built(nn.Sequential(model))
    assert not is_as_built(nn.Linear(1, 1))
    assert is_as_built(names_tell_blocks(nn.Linear(1, 1)))
