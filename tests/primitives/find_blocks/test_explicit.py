"""Layers that the user names: what belongs to the list and is not in it, and lists that are a function of the model."""

import pytest
from torch import nn

from autoprox.primitives import LayerError
from autoprox.primitives.find_blocks.explicit import given_blocks


def model(blocks: int = 3) -> nn.Module:
    """Blocks with an MLP each, and a head."""
    made = nn.Module()
    made.blocks = nn.ModuleList(nn.ModuleDict({"up": nn.Linear(2, 4), "down": nn.Linear(4, 2)}) for _ in range(blocks))
    made.head = nn.Linear(2, 2)
    return made


def layers(numbers: range) -> list[dict[str, object]]:
    return [{"fc1": f"blocks.{n}.up", "fc2": f"blocks.{n}.down"} for n in numbers]


def test_a_whole_list_is_taken() -> None:
    assert len(given_blocks(model(), layers(range(3)))) == 3


def test_a_list_that_leaves_out_siblings_is_refused() -> None:
    with pytest.raises(LayerError) as caught:
        given_blocks(model(), layers(range(1)))
    assert "'blocks.1.up' (fc1), 'blocks.1.down' (fc2), 'blocks.2.up' (fc1) and 1 more; add them" in str(caught.value)
    assert len(given_blocks(model(), layers(range(1)), partial=True)) == 1


def test_other_kinds_of_layers_are_no_siblings() -> None:
    assert len(given_blocks(model(), [{"fc1": f"blocks.{n}.up"} for n in range(3)])) == 3


def test_an_alias_is_no_other_layer() -> None:
    shared = model()
    shared.blocks[2] = shared.blocks[1]
    assert len(given_blocks(shared, layers(range(2)))) == 2
    assert len(given_blocks(shared, layers(range(3)))) == 3


def test_a_function_of_the_model_gives_the_list() -> None:
    for blocks in (1, 4):
        assert len(given_blocks(model(blocks), lambda net: layers(range(len(net.blocks))))) == blocks
