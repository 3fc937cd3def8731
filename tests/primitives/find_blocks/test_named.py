"""Finding layers: by the names that vision transformers use, or by those that the user gives."""

from typing import Any

import pytest
from torch import nn

from autoprox.primitives import Block, LayerError, find_blocks


def block(heads: object = 2, softmax: bool = True) -> nn.Module:
    """Make a transformer block's modules, without a forward pass."""
    made, attn, mlp = nn.Module(), nn.Module(), nn.Module()
    attn.qkv, attn.proj = nn.Linear(4, 12), nn.Linear(4, 4)
    if softmax:
        attn.softmax = nn.Softmax(-1)
    if heads is not None:
        attn.num_heads = heads  # type: ignore[assignment]
    mlp.fc1, mlp.fc2 = nn.Linear(4, 8), nn.Linear(8, 4)
    made.attn, made.mlp = attn, mlp
    return made


def found(prefix: str, heads: int = 2, softmax: bool = True) -> Block:
    """Return the block that should be found under a prefix."""
    names = {"qkv": "attn.qkv", "proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}
    return Block(
        {slot: (prefix + name,) for slot, name in names.items()}, f"{prefix}attn.softmax" if softmax else "", heads
    )


def test_blocks_are_found_in_the_order_of_declaration() -> None:
    model = nn.Sequential(*(block() for _ in range(12)))
    assert find_blocks(model) == tuple(found(f"{number}.") for number in range(12))


def test_blocks_are_found_at_any_depth() -> None:
    model = nn.Module()
    model.stages = nn.ModuleList([nn.Sequential(block()), nn.Sequential(nn.Conv2d(3, 3, 1), block(heads=4))])
    assert find_blocks(model) == (found("stages.0.0."), found("stages.1.1.", heads=4))
    assert find_blocks(model.stages[0]) == (found("0."),)
    assert find_blocks(model.stages[0][0]) == (found(""),)


def test_heads_and_softmax_may_be_unknown() -> None:
    model = nn.Sequential(block(heads=None), block(softmax=False), block(heads="many"), block(heads=True))
    assert find_blocks(model) == (
        found("0.", heads=0),
        found("1.", softmax=False),
        found("2.", heads=0),
        found("3.", heads=0),
    )


def test_incomplete_blocks_are_no_blocks() -> None:
    model = nn.Sequential(block(), block(), block())
    del model[1].mlp.fc2
    model[2].attn.qkv = nn.Conv1d(4, 12, 1)
    assert find_blocks(model) == (found("0."),)


def test_nothing_found_says_what_to_do() -> None:
    for model in (nn.Linear(2, 2), nn.Sequential(nn.Conv2d(3, 3, 1)), nn.Module()):
        with pytest.raises(LayerError) as caught:
            find_blocks(model)
        assert str(caught.value).startswith(f"found no transformer block in {type(model).__name__}: ")
        assert "pass layers=[{'qkv': NAME" in str(caught.value)
        assert "\n" not in str(caught.value)


class Named(nn.Module):
    """A block under names of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(4, 2)
        self.narrow, self.out, self.norm, self.soft = (
            nn.Linear(3, 4),
            nn.Linear(4, 4),
            nn.LayerNorm(4),
            nn.Softmax(-1),
        )


def test_names_that_the_user_gives() -> None:
    given = [{"qkv": ["q", "k", "v"], "proj": "out", "softmax": "soft", "heads": 2}, {"fc1": ("q",)}, {"proj": "k"}]
    assert find_blocks(Named(), given) == (
        Block({"qkv": ("q", "k", "v"), "proj": ("out",)}, "soft", 2),
        Block({"fc1": ("q",)}),
        Block({"proj": ("k",)}),
    )


def test_names_come_before_what_would_be_found() -> None:
    assert find_blocks(block(), [{"fc1": "attn.proj"}]) == (Block({"fc1": ("attn.proj",)}),)


REFUSED: dict[str, tuple[Any, str]] = {
    "nothing": ([], "found no transformer block in Named"),
    "unknown name": ([{"qkv": "p"}], "layers[0]['qkv']: module 'p' does not exist"),
    "in a later block": ([{"qkv": "q"}, {"fc2": ["q", "p"]}], "layers[1]['fc2']: module 'p' does not exist"),
    "no linear layer": ([{"fc1": "norm"}], "layers[0]['fc1']: module 'norm' is a LayerNorm, not a Linear"),
    "no number of a run": ([{"fc1": "q#x"}], "layers[0]['fc1']: module 'q#x' has no such run"),
    "the model itself": ([{"fc1": ""}], "layers[0]['fc1']: module '' is a Named, not a Linear"),
    "unknown key": ([{"query": "q"}], "layers[0]: unknown key 'query'; use qkv, proj, fc1, fc2, conv, softmax, heads"),
    "key no text": ([{1: "q"}], "layers[0]: unknown key '1'"),
    "name a number": ([{"qkv": 3}], "layers[0]['qkv']: 3 is not the name of a module"),
    "name nothing": ([{"qkv": None}], "layers[0]['qkv']: None is not the name of a module"),
    "names a mapping": ([{"qkv": {"q": 1}}], "is not the name of a module"),
    "block a text": (["q"], "layers[0]: 'q' is no mapping from qkv, proj, fc1, fc2"),
    "one block alone": ({"qkv": "q"}, "layers[0]: 'qkv' is no mapping"),
    "features differ": ([{"qkv": ["q", "narrow"]}], "[0]['qkv']: q, narrow do not have equally many input features"),
    "unknown softmax": ([{"qkv": "q", "softmax": "s"}], "layers[0]['softmax']: module 's' does not exist"),
    "softmax a list": ([{"qkv": "q", "softmax": ["soft", "s"]}], "layers[0]['softmax']: module 's' does not exist"),
    "heads a text": ([{"qkv": "q", "heads": "2"}], "layers[0]['heads']: '2' is not a number of heads"),
    "heads negative": ([{"qkv": "q", "heads": -1}], "layers[0]['heads']: -1 is not a number of heads"),
    "heads a bool": ([{"qkv": "q", "heads": True}], "layers[0]['heads']: True is not a number of heads"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_names_that_do_not_fit_are_refused(case: str) -> None:
    layers, message = REFUSED[case]
    with pytest.raises(LayerError) as caught:
        find_blocks(Named(), layers)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
