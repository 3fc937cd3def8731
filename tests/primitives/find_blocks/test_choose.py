"""Choosing between names, a forward pass and a list: what is taken, and what is refused."""

import pytest
import torch
from tiny_vit import TinyVit, batch
from torch import Tensor, nn
from torch.nn import functional

from autoprox import find_layers
from autoprox.primitives import Block, LayerError, find_blocks
from autoprox.primitives.find_blocks.choose import blocks_of
from autoprox.proxy import resolve


class Encoder(nn.Module):
    """A transformer of torch's own layers, with none of timm's names."""

    def __init__(self, depth: int = 3) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 4, 4)
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(depth))
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).mT
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(1))


class Twice(TinyVit):
    """Every block runs twice."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        for block in (*self.blocks, *self.blocks):
            x = block(x)
        return self.head(x.mean(1))


IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
CLASSES = torch.tensor([0, 1, 1, 0])


def test_names_are_taken_where_they_tell_everything() -> None:
    model = TinyVit()
    assert blocks_of(model, batch()[0]) == find_blocks(model)
    assert blocks_of(model, None) == find_blocks(model)


class Fused(nn.Module):
    """The attention of TinyVit as one fused function; its softmax is idle, as in timm's DaViT."""

    def __init__(self, plain: nn.Module) -> None:
        super().__init__()
        self.num_heads, self.qkv, self.proj, self.softmax = plain.num_heads, plain.qkv, plain.proj, plain.softmax

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def test_a_softmax_that_is_there_and_does_not_run_is_not_read() -> None:
    plain, fused = TinyVit(), TinyVit()
    for block in fused.blocks:
        block.attn = Fused(block.attn)
    assert [block.softmax for block in blocks_of(fused, batch()[0])] == ["blocks.0.attn", "blocks.1.attn"]
    expected = resolve("mean(max(attn))").score(plain, *batch())
    assert resolve("mean(max(attn))").score(fused, *batch()) == pytest.approx(expected)


def test_what_is_named_a_softmax_is_read_where_none_runs() -> None:
    model = TinyVit()
    for block in model.blocks:
        block.attn.softmax = nn.ReLU()
    assert [block.softmax for block in blocks_of(model, batch()[0])] == [f"blocks.{n}.attn.softmax" for n in (0, 1)]


def test_without_inputs_a_model_of_other_names_is_refused() -> None:
    with pytest.raises(LayerError, match=r"found no transformer block of Encoder by name; give a batch of inputs"):
        blocks_of(Encoder(), None)


def test_names_that_leave_out_a_sibling_are_not_enough() -> None:
    model = TinyVit()
    model.blocks[0].attn.query = model.blocks[0].attn.qkv
    del model.blocks[0].attn.qkv
    with pytest.raises(LayerError, match=r"found some blocks of TinyVit by name, but not 'blocks.0'; give a batch"):
        blocks_of(model, None)


class TwoReaders(nn.Module):
    """Two attentions that read one query, each with keys, values and an output of its own."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.pairs = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(2))
        self.outs = nn.ModuleList(nn.Linear(width, width) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        query = self.query(x)
        made = [functional.scaled_dot_product_attention(query, *pair(x).chunk(2, -1)) for pair in self.pairs]
        return self.outs[0](made[0]) + self.outs[1](made[1])


def test_a_layer_of_two_blocks_is_an_error_that_shows_both_places() -> None:
    model = TinyVit()
    for block in model.blocks:
        block.attn = TwoReaders()
    said = (
        r"layer 'blocks\.0\.attn\.query' may be 'qkv' of block 0 or 'qkv' of block 1: name the blocks with "
        r"layers=\[\.\.\.\]; `autoprox layers MODEL` prints a list to start from"
    )
    for name in ("l2-norm", "snip", "croze"):  # formulas and a function
        with pytest.raises(ValueError, match=said):
            resolve(name).score(model, *batch())
    draft = eval(find_layers(model, batch()[0]).draft, {})
    assert [item["qkv"][0] for item in draft[:2]] == ["blocks.0.attn.query"] * 2
    chosen = [item | {"qkv": item["qkv"][1:]} if number % 2 else item for number, item in enumerate(draft)]
    assert resolve("snip").score(model, *batch(), layers=chosen) > 0


def test_blocks_that_run_twice_are_twice_as_many() -> None:
    once, twice, written_out = TinyVit(depth=2), Twice(depth=2), TinyVit(depth=4)
    again = {f"blocks.{n + 2}.{key}": v for n in (0, 1) for key, v in twice.blocks[n].state_dict().items()}
    written_out.load_state_dict(twice.state_dict() | again)
    for formula in ("depth", "flops", "sum(fro(act))", "sum(fro(act_grad))"):
        expected = resolve(formula).score(written_out, *batch())
        assert resolve(formula).score(twice, *batch()) == pytest.approx(expected)
        assert resolve(formula).score(once, *batch()) != expected


def test_blocks_that_are_given_are_taken_as_they_are() -> None:
    given = (Block({"fc1": ("head",)}),)
    assert blocks_of(TinyVit(), None, given) == given


@pytest.mark.parametrize("name", ["l2-norm", "snip", "synflow", "croze", "nwot", "eznas", "meco", "entropic", "swap"])
def test_proxies_score_models_of_other_names(name: str) -> None:
    model = Encoder()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = resolve(name).score(model, IMAGES, CLASSES)
    layers = eval(find_layers(model, IMAGES).draft, {})
    assert found == resolve(name).score(model, IMAGES, CLASSES, layers=layers)
    assert found == resolve(name).score(model, IMAGES, CLASSES, layers=lambda net: layers[: len(net.layers)])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_part_of_the_blocks_is_scored_only_if_that_is_meant() -> None:
    model = Encoder()
    layers = eval(find_layers(model, IMAGES).draft, {})[:2]
    for name in ("snip", "croze"):  # a formula and a function
        with pytest.raises(ValueError, match=r"leaves out layers of the same kind: 'layers.2"):
            resolve(name).score(model, IMAGES, CLASSES, layers=layers)
        assert resolve(name).score(model, IMAGES, CLASSES, layers=layers, partial=True) > 0


def test_attention_that_is_fused_is_read() -> None:
    model = Encoder()
    logits: list[Tensor] = []
    x = model.embed(IMAGES).flatten(2).mT
    for layer in model.layers:
        attention = layer.self_attn
        made = functional.linear(x, attention.in_proj_weight, attention.in_proj_bias)
        q, k, _ = made.unflatten(-1, (3, 2, 4)).unbind(2)
        logits.append(q.transpose(1, 2) @ k.transpose(1, 2).mT / 2)
        x = layer.eval()(x)
    expected = torch.stack([each.softmax(-1).amax() for each in logits]).mean()
    assert resolve("mean(max(attn))").score(model, IMAGES) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_a_gradient_that_is_0_everywhere_is_no_score() -> None:
    model = Encoder()
    nn.init.zeros_(model.head.weight)
    with pytest.raises(ValueError, match=r"'weight_grad' is exactly 0 in .* layers"):
        resolve("snip").score(model, IMAGES, CLASSES)


def test_what_is_found_is_printed() -> None:
    lines = str(find_layers(Encoder(), IMAGES)).splitlines()
    assert lines[0].startswith("3 blocks    qkv: layers.*.self_attn.in_proj_weight  proj: layers.*.self_attn.out_proj")
    assert lines[1].startswith("1 left out  embed  (convolution")
    assert lines[-1] == "95% of the weights of linear layers are in blocks"
