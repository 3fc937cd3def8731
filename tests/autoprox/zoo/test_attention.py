"""Attention proxies by hand: maps of a few tokens, given by a model that does nothing else."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_vit import TinyVit, batch
from torch import Tensor, nn

from autoprox.primitives.passes import Subject
from autoprox.primitives.sharing import met
from autoprox.zoo import ZOO
from autoprox.zoo.attention import distances, grid_side, patches
from autoprox.zoo.needs import attention_maps
from autoprox.zoo.record import ZooProxy
from autoprox.zoo.tools import ZooError


class Fixed(nn.Module):
    """Attention with given probabilities: P v of one linear, with a softmax over log P."""

    def __init__(self, probabilities: Tensor) -> None:
        super().__init__()
        self.qkv, self.softmax, self.proj = nn.Linear(4, 4), nn.Softmax(-1), nn.Linear(4, 5)
        self.logits = nn.Parameter(probabilities.log())

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.mean((2, 3))[:, None].expand(-1, self.logits.shape[-1], -1)
        values = self.qkv(tokens)
        attention = self.softmax(self.logits.expand(len(x), *self.logits.shape))
        return self.proj(attention @ values).mean(1)


LAYERS = [{"qkv": "qkv", "proj": "proj", "softmax": "softmax"}]
IMAGES = torch.ones(2, 4, 8, 8)
SURE = torch.eye(4)
SPLIT = torch.tensor([[0.5, 0.5, 0, 0], [0.5, 0, 0.5, 0], [0, 0, 0.5, 0.5], [0.25, 0.25, 0.25, 0.25]])


def score(name: str, probabilities: Tensor) -> float:
    proxy = ZOO[name]
    assert isinstance(proxy, ZooProxy)
    return proxy.score(Fixed(probabilities), IMAGES, torch.zeros(2).long(), layers=LAYERS)


def test_head_confidence_by_hand() -> None:
    assert score("head-confidence", SURE) == pytest.approx(1)
    assert score("head-confidence", SPLIT) == pytest.approx((0.5 + 0.5 + 0.5 + 0.25) / 4)


def test_attention_entropy_by_hand() -> None:
    assert score("attention-entropy", SURE) == pytest.approx(0, abs=1e-6)
    assert score("attention-entropy", SPLIT) == pytest.approx((3 * math.log(2) + math.log(4)) / 4)


def test_attention_distance_by_hand() -> None:
    """The patches are 0 1 above 2 3: neighbours are 1 apart, and corners √2."""
    assert score("attention-distance", SURE) == pytest.approx(0, abs=1e-6)
    rows = (0.5, 0.5 + 0.5 * math.sqrt(2), 0.5, 0.25 * (1 + 1 + math.sqrt(2)))
    assert score("attention-distance", SPLIT) == pytest.approx(sum(rows) / 4)


def test_a_class_token_is_left_out() -> None:
    with_class = torch.full((5, 5), 0.2)
    expected = 0.2 * (1 + 1 + math.sqrt(2))  # what is left of a row is not scaled up
    assert score("attention-distance", with_class) == pytest.approx(expected)
    assert patches(torch.arange(25.0).view(5, 5))[0].tolist() == [6, 7, 8, 9]


def test_keys_of_a_coarser_grid_stand_at_its_centres() -> None:
    found = distances(torch.zeros(16, 4))
    assert found[0].tolist() == pytest.approx([math.sqrt(0.5), math.sqrt(6.5), math.sqrt(6.5), math.sqrt(12.5)])


def test_what_is_no_grid_is_refused() -> None:
    assert [grid_side(tokens) for tokens in (4, 5, 49, 197, 198, 201)] == [2, 2, 7, 14, 14, 14]
    for tokens in (1, 3, 192):
        with pytest.raises(ZooError, match=f"{tokens} tokens are no square grid"):
            grid_side(tokens)
    with pytest.raises(ZooError, match="attention-distance: needs square images"):
        ZOO["attention-distance"].score(TinyVit(), torch.zeros(2, 3, 8, 12))


def test_a_model_without_attention_is_told() -> None:
    layers = [{"qkv": "blocks.0.attn.qkv", "proj": "blocks.0.attn.proj"}]
    with pytest.raises(ZooError, match="head-confidence: this model does not show its attention probabilities"):
        ZOO["head-confidence"].score(TinyVit(), *batch(), layers=layers, partial=True)


def test_maps_are_those_of_the_blocks() -> None:
    subject = Subject(TinyVit(), *batch(), 0)
    maps = met(subject, attention_maps(subject))
    assert [[tuple(a.shape) for a in block] for block in maps] == [[(4, 2, 4, 4)]] * 2
