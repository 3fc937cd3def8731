"""Multiply-adds of attention: the same, whether it is written out or fused, and whatever its mask."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from autoprox.primitives import read_statistics

TOKENS, WIDTH, HEADS = 6, 8, 2


class Attention(nn.Module):
    """Attention of two heads on tokens, then a classifier; `mask` says what is added to the logits."""

    def __init__(self, fused: bool, mask: str) -> None:
        super().__init__()
        self.fused, self.mask = fused, mask
        self.qkv, self.head = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, 5)
        self.learned = nn.Parameter(torch.randn(HEADS, TOKENS, TOKENS))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        mask = {"none": None, "learned": self.learned, "fixed": self.learned.detach() > 0}[self.mask]
        if self.fused:
            made = functional.scaled_dot_product_attention(q, k, v, mask)
        else:
            made = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1) @ v
        return self.head(made.transpose(1, 2).flatten(2).mean(1))


@pytest.mark.parametrize(("fused", "mask"), [(False, "none"), (True, "none"), (True, "learned"), (True, "fixed")])
def test_both_products_count(fused: bool, mask: str) -> None:
    x = torch.randn(2, TOKENS, WIDTH, generator=torch.Generator().manual_seed(0))
    linears = TOKENS * WIDTH * 3 * WIDTH + WIDTH * 5
    reading = read_statistics(Attention(fused, mask), (), {("flops", "")}, x)
    assert reading.net["flops"] == linears + 2 * TOKENS * TOKENS * WIDTH
