"""An exported file counts activations as autoprox does, also of layers that are not called as modules."""

import pytest
import torch
from exported_files import loaded
from torch import Tensor, nn
from torch.nn import functional

from autoprox.export import export
from autoprox.primitives import read_statistics
from autoprox.proxy import Proxy


class Mixed(nn.Module):
    """Linears as modules, through functions, as products and as an einsum; convolutions, and a product of results."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.back = nn.Conv2d(3, 6, 2, stride=2), nn.ConvTranspose2d(6, 4, 2)
        self.linear, self.table = nn.Linear(6, 8), nn.Parameter(torch.ones(8, 6))
        self.attention = nn.MultiheadAttention(6, 2, kdim=8, vdim=8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.patches(x)
        tokens = maps.flatten(2).mT
        wide = self.linear(tokens) + functional.linear(tokens, self.linear.weight)
        narrow = wide @ self.table + torch.einsum("btw,wn->btn", wide, self.table) + torch.matmul(wide, self.table)
        mixed, _ = self.attention(narrow, wide, wide)
        return (mixed @ mixed.mT).sum((1, 2))[:, None] + self.back(maps).flatten(1)


MODELS = {
    "mixed": Mixed(),
    "torch's encoder": nn.Sequential(
        nn.Flatten(2), nn.Linear(16, 6), nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 9, batch_first=True), 2)
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_activations_are_counted_alike(name: str) -> None:
    module, inputs = loaded(export(Proxy.from_formula("activations"), "python")), torch.ones(2, 3, 4, 4)
    expected = read_statistics(MODELS[name], (), {("activations", "")}, inputs).net["activations"]
    assert module.score(MODELS[name].eval(), inputs, layers=[{}]) == expected > 0
