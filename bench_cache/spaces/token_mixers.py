"""Token mixers of micro-vit: thirteen ways to mix the tokens of a block, all of one size and cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional


class TokenMixer(nn.Module):
    """What mixes the tokens of a block: proj(mix(q, k, v)), with q, k and v from one linear, in heads of channels.

    Every mixer has the same two linears and does two products of a tokens × tokens matrix, so that all cost the same.
    `softmax` is the module whose output is the matrix that the values are multiplied with, (batch, heads, tokens,
    tokens): what the statistic `attn` reads. It has that name because layers are found by it, also where it is none.
    """

    def __init__(self, width: int, num_heads: int, softmax: nn.Module) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.softmax = softmax
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (batch, tokens, width) to the same shape."""
        query, key, value = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(self.mix(query, key, value).transpose(1, 2).flatten(2))

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Map three tensors (batch, heads, tokens, channels of a head) to one of that shape."""
        raise NotImplementedError


class Attention(TokenMixer):
    """A(q kᵀ / (τ √d)) v, with A a softmax or what takes its place, and τ the temperature."""

    def __init__(self, width: int, num_heads: int, softmax: nn.Module, temperature: float = 1.0) -> None:
        super().__init__(width, num_heads, softmax)
        self.scale = (width // num_heads) ** -0.5 / temperature

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return self.softmax(query * self.scale @ key.transpose(2, 3)) @ value


class LocalAttention(Attention):
    """Softmax attention of a patch to itself and its up to eight neighbours."""

    far: Tensor

    def __init__(self, width: int, num_heads: int, grid: int) -> None:
        super().__init__(width, num_heads, nn.Softmax(dim=-1))
        near = _neighbours(grid) > 0
        far = torch.zeros(near.shape).masked_fill(near.logical_not(), -math.inf)
        self.register_buffer("far", far, persistent=False)

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return self.softmax(query * self.scale @ key.transpose(2, 3) + self.far) @ value


class LinearAttention(TokenMixer):
    """φ(q) φ(k)ᵀ v, each row divided by its sum over the keys; φ(x) = elu(x) + 1 (Katharopoulos et al., 2006.16236)."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__(width, num_heads, RowShare())

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key = functional.elu(query) + 1, functional.elu(key) + 1
        return self.softmax(query @ key.transpose(2, 3)) @ value


class KeyGate(TokenMixer):
    """σ(q) ⊙ softmax(1 kᵀ / √d) v: all tokens get the same mean of the values, weighted by the keys, and gate it."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__(width, num_heads, nn.Softmax(dim=-1))
        self.scale = (width // num_heads) ** -0.5

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        logits = torch.full_like(query, self.scale) @ key.transpose(2, 3)
        return query.sigmoid() * (self.softmax(logits) @ value)


class Pooling(TokenMixer):
    """P v − σ(P q) ⊙ k, with P the mean over a patch and its neighbours (Yu et al., 2111.11418, with a gate)."""

    def __init__(self, width: int, grid: int) -> None:
        near = _neighbours(grid)
        super().__init__(width, 1, Fixed((near / near.sum(1, keepdim=True))[None]))

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        mean = self.softmax(value)
        return mean @ value - (mean @ query).sigmoid() * key


class Convolution(TokenMixer):
    """S v + k + Sᵀ q: a convolution of three taps, along the rows in one half of the channels, else along the columns.

    S moves every patch by one place; what would come from outside of the image is 0.
    """

    def __init__(self, width: int, grid: int) -> None:
        super().__init__(width, 2, Fixed(torch.stack([_moved(grid, 0, 1), _moved(grid, 1, 0)])))

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        moved = self.softmax(value)
        return moved @ value + key + moved.transpose(2, 3) @ query


class GatedShift(TokenMixer):
    """g ⊙ S v + (1 − g) ⊙ Sᵀ k with g = σ(q): each token chooses between two opposite neighbours.

    S moves every patch by one place, right, left, down or up, in a quarter of the channels each; outside is 0.
    """

    def __init__(self, width: int, grid: int) -> None:
        places = ((0, 1), (0, -1), (1, 0), (-1, 0))
        super().__init__(width, 4, Fixed(torch.stack([_moved(grid, *place) for place in places])))

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        moved, gate = self.softmax(value), query.sigmoid()
        return gate * (moved @ value) + (1 - gate) * (moved.transpose(2, 3) @ key)


class RowShare(nn.Module):
    """In place of a softmax: every entry's share of its row's sum; entries are positive."""

    def forward(self, weights: Tensor) -> Tensor:
        """Map (batch, heads, tokens, tokens) to the same shape."""
        return weights / weights.sum(-1, keepdim=True)


class TokenSigmoid(nn.Module):
    """In place of a softmax: σ(x − ln tokens); a row sums to about 1 at first (Ramapuram et al., 2409.04431)."""

    def forward(self, logits: Tensor) -> Tensor:
        """Map (batch, heads, tokens, tokens) to the same shape."""
        return (logits - math.log(logits.shape[-1])).sigmoid()


class TokenMean(nn.Module):
    """In place of a softmax: x / tokens, so that nothing bounds the weights."""

    def forward(self, logits: Tensor) -> Tensor:
        """Map (batch, heads, tokens, tokens) to the same shape."""
        return logits / logits.shape[-1]


class Fixed(nn.Module):
    """In place of a softmax: the same matrix for every image, one for each head."""

    matrix: Tensor

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix, persistent=False)

    def forward(self, value: Tensor) -> Tensor:
        """Map (batch, heads, tokens, channels) to (batch, heads, tokens, tokens)."""
        return self.matrix.expand(len(value), *self.matrix.shape)


def _places(grid: int) -> tuple[Tensor, Tensor]:
    """Rows and columns of every patch of a grid, each (tokens)."""
    every = torch.arange(grid**2)
    return every // grid, every % grid


def _neighbours(grid: int) -> Tensor:
    """1 where two patches touch or are the same, else 0: tokens × tokens."""
    row, column = _places(grid)
    apart = torch.maximum((row[:, None] - row).abs(), (column[:, None] - column).abs())
    return (apart <= 1).float()


def _moved(grid: int, down: int, right: int) -> Tensor:
    """S of S x = the patches of x moved by so many rows and columns: tokens × tokens."""
    row, column = _places(grid)
    return ((row[:, None] == row + down) & (column[:, None] == column + right)).float()


#: How the tokens of a block are mixed: name → mixer, for a width and a grid of patches. The number is of heads.
MIXERS: Mapping[str, Callable[[int, int], TokenMixer]] = MappingProxyType(
    {
        "softmax1": lambda width, grid: Attention(width, 1, nn.Softmax(dim=-1)),
        "softmax4": lambda width, grid: Attention(width, 4, nn.Softmax(dim=-1)),
        "softmax8": lambda width, grid: Attention(width, 8, nn.Softmax(dim=-1)),
        "sharp4": lambda width, grid: Attention(width, 4, nn.Softmax(dim=-1), temperature=0.125),
        "flat4": lambda width, grid: Attention(width, 4, nn.Softmax(dim=-1), temperature=8.0),
        "local4": lambda width, grid: LocalAttention(width, 4, grid),
        "linear4": lambda width, grid: LinearAttention(width, 4),
        "sigmoid4": lambda width, grid: Attention(width, 4, TokenSigmoid()),
        "product4": lambda width, grid: Attention(width, 4, TokenMean()),
        "gate4": lambda width, grid: KeyGate(width, 4),
        "pool": Pooling,
        "conv": Convolution,
        "shift": GatedShift,
    }
)
