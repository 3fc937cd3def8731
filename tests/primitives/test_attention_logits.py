"""Attention logits: what enters the softmax, whatever computes it, with a value in place of what a mask forbids."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from autoprox.primitives import LayerError, find_blocks, read_statistics
from autoprox.primitives.capture import unmasked
from autoprox.primitives.probe import Reading

INF = math.inf
LAYERS = [{"qkv": "qkv", "proj": "proj", "softmax": "attend", "heads": 2}]


class Attend(nn.Module):
    """The attention of two heads: eager or fused, with a mask that is boolean, added, or causal."""

    def __init__(self, fused: bool, mask: Tensor | None, causal: bool) -> None:
        super().__init__()
        self.fused, self.mask, self.causal = fused, mask, causal

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self.fused:
            return functional.scaled_dot_product_attention(q, k, v, self.mask, is_causal=self.causal)
        logits = q @ k.mT / math.sqrt(q.shape[-1])
        forbidden = torch.ones(3, 3).triu(1).bool() if self.causal else None
        if self.mask is not None and self.mask.dtype == torch.bool:
            forbidden = ~self.mask
        elif self.mask is not None:
            logits = logits + self.mask
        logits = logits if forbidden is None else logits.masked_fill(forbidden, -INF)
        attention = logits.softmax(-1)
        logits.zero_()  # what follows may use the memory
        return attention @ v


class Net(nn.Module):
    def __init__(self, fused: bool, mask: Tensor | None = None, causal: bool = False) -> None:
        super().__init__()
        self.qkv, self.proj, self.attend = nn.Linear(4, 12), nn.Linear(4, 5), Attend(fused, mask, causal)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 2)).permute(2, 0, 3, 1, 4)
        return self.proj(self.attend(q, k, v).transpose(1, 2).flatten(2)).mean(1)


X = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1))


def read(model: nn.Module, *names: str) -> Reading:
    return read_statistics(model, find_blocks(model, LAYERS), {(name, "data") for name in names}, X)


def by_hand(model: Net) -> Tensor:
    q, k, _ = model.qkv(X).unflatten(-1, (3, 2, 2)).permute(2, 0, 3, 1, 4)
    return (q @ k.mT / math.sqrt(2)).detach()


@pytest.mark.parametrize("fused", [False, True], ids=["eager", "fused"])
def test_logits_are_what_enters_the_softmax(fused: bool) -> None:
    model = Net(fused)
    reading = read(model, "attn", "attn_logits")
    (logits,), (attention,) = (reading.matrices[name, "data", "attn"] for name in ("attn_logits", "attn"))
    assert logits.shape == attention.shape == (2 * 2 * 3, 3)
    assert reading.samples["attn_logits", "data"] == reading.samples["attn", "data"] == 2
    torch.testing.assert_close(logits, by_hand(model).flatten(0, 2))
    torch.testing.assert_close(logits.softmax(-1), attention)


@pytest.mark.parametrize("fused", [False, True], ids=["eager", "fused"])
@pytest.mark.parametrize("kind", ["boolean", "infinite", "least", "causal"])
def test_what_a_mask_forbids_is_the_lowest_other_logit_of_its_row(fused: bool, kind: str) -> None:
    allowed = torch.ones(3, 3).tril().bool()
    least = -INF if kind == "infinite" else torch.finfo(torch.float32).min
    mask = {"boolean": allowed, "causal": None}.get(kind, torch.zeros(3, 3).masked_fill(~allowed, least))
    model = Net(fused, mask, kind == "causal")
    (logits,) = read(model, "attn_logits").matrices["attn_logits", "data", "attn"]
    raw = by_hand(model)
    expected = torch.where(allowed, raw, raw.masked_fill(~allowed, INF).amin(-1, keepdim=True))
    torch.testing.assert_close(logits, expected.flatten(0, 2))


def test_masked_rows_by_hand() -> None:
    assert unmasked(torch.tensor([[1.0, -INF, 3.0], [-INF, -INF, -INF]])).tolist() == [[1, 1, 3], [0, 0, 0]]
    finite = torch.tensor([[1.0, -100.0]])
    assert unmasked(finite) is finite


def test_what_is_no_softmax_has_no_logits() -> None:
    class Uniform(nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return torch.full((*q.shape[:-1], 3), 1 / 3)

    class Mean(Net):
        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.qkv(x).unflatten(-1, (3, 2, 2)).permute(2, 0, 3, 1, 4)
            return self.proj((self.attend(q, k, v) @ v).transpose(1, 2).flatten(2)).mean(1)

    model = Mean(False)
    model.attend = Uniform()  # type: ignore[assignment]
    assert read(model, "attn").matrices["attn", "data", "attn"][0].shape == (12, 3)
    with pytest.raises(LayerError, match=r"attn_logits: 'attend' does not run, or is no softmax"):
        read(model, "attn_logits")
