"""Activations: the outputs of convolutions and linears, however a model calls them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from autoprox.primitives import read_statistics


class Called(nn.Module):
    """A layer or a function of one."""

    def __init__(self, function, *layers: nn.Module) -> None:
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.layers)


class Doubled(nn.Linear):
    """A linear that uses the first two rows of its weight only, as a supernet does."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight[:2])


LINEAR, IMAGE, TOKENS = nn.Linear(6, 8), torch.zeros(3, 6, 4, 4), torch.zeros(3, 5, 6)

#: What is called, on what, and how many elements are made for one sample.
CASES = {
    "linear": (LINEAR, TOKENS, 5 * 8),
    "linear without its module": (Called(lambda x, layer: functional.linear(x, layer.weight), LINEAR), TOKENS, 5 * 8),
    "product with a weight": (Called(lambda x, layer: x @ layer.weight.mT, LINEAR), TOKENS, 5 * 8),
    "twice": (Called(lambda x, layer: layer(x) + layer(x), LINEAR), TOKENS, 2 * 5 * 8),
    "part of a weight": (Doubled(6, 8), TOKENS, 5 * 2),
    "convolution": (nn.Conv2d(6, 8, 3, stride=2, padding=1), IMAGE, 8 * 2 * 2),
    "grouped convolution": (nn.Conv2d(6, 12, 3, groups=6), IMAGE, 12 * 2 * 2),
    "transposed convolution": (nn.ConvTranspose2d(6, 8, 2, stride=2), IMAGE, 8 * 8 * 8),
    "multi-head attention": (
        Called(lambda x, layer: layer(x, x, x)[0], nn.MultiheadAttention(6, 2, batch_first=True)),
        TOKENS,
        4 * 5 * 6,
    ),
    "torch's encoder, whose fast path hides its layers": (
        nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 16, batch_first=True), 2),
        TOKENS,
        2 * 5 * (4 * 6 + 16 + 6),
    ),
    "products of results": (Called(lambda x, layer: layer(x) @ layer(x).mT, LINEAR), TOKENS, 2 * 5 * 8),
    "norm": (nn.LayerNorm(6), TOKENS, 0),
}


@pytest.mark.parametrize("name", CASES)
def test_activations_are_the_outputs_of_convolutions_and_linears(name: str) -> None:
    model, inputs, expected = CASES[name]
    for batch in (inputs, inputs[:1]):
        assert read_statistics(model, (), {("activations", "")}, batch).net["activations"] == expected
