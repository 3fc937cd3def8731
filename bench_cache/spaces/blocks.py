"""The layers the networks of all spaces are made of, their size and FLOPs in closed form, and their first weights.

Dropout and stochastic depth are left out: they belong to a training recipe, not to an architecture.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.random import fork_rng

LinearInit = Literal["normal", "torch"]

# Offsets beyond this many patches share one row of a relative-position table (AutoFormer, section 3).
REACH = 14
INIT_STD = 0.02


class RelativePosition2D(nn.Module):
    """Learned vectors for the offset between a query's and a key's patch (AutoFormer; Shaw et al., 1803.02155, in 2-D).

    The vector r_ij of query i and key j is `vertical[v_ij] + horizontal[h_ij]`. Row 0 of both tables serves every
    pair with the class token; row 1 + REACH + d serves patches that are d rows (columns) apart, key minus query,
    d clipped to ±REACH. The vectors r_ij are never laid out: rows and columns are handled one after the other,
    on the grid of g × g patches, at 2·g³ products for each channel instead of g⁴.
    """

    offsets: Tensor

    def __init__(self, head_dim: int, grid: int) -> None:
        super().__init__()
        self.vertical = nn.Parameter(torch.empty(2 * REACH + 2, head_dim))
        self.horizontal = nn.Parameter(torch.empty(2 * REACH + 2, head_dim))
        place = torch.arange(grid)
        offsets = (place[None, :] - place[:, None]).clamp(-REACH, REACH) + REACH + 1
        self.register_buffer("offsets", offsets, persistent=False)

    def _vectors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the class token's vector (d) and, by query and key place, the row and column vectors (g, g, d)."""
        rows = functional.embedding(self.offsets, self.vertical)
        columns = functional.embedding(self.offsets, self.horizontal)
        return self.vertical[0] + self.horizontal[0], rows, columns

    def logits(self, query: Tensor) -> Tensor:
        """Return q_i · r_ij for queries (batch, heads, 1 + g², d): (batch, heads, 1 + g², 1 + g²)."""
        token, rows, columns = self._vectors()
        grid, length = len(rows), query.shape[2]
        patches = query[:, :, 1:].unflatten(2, (grid, grid))
        by_row = torch.einsum("bhyxd,yYd->bhyxY", patches, rows)
        by_column = torch.einsum("bhyxd,xXd->bhyxX", patches, columns)
        between = (by_row[..., :, None] + by_column[..., None, :]).flatten(4, 5).flatten(2, 3)
        with_token = (query * token).sum(-1, keepdim=True)
        below = torch.cat([with_token[:, :, 1:], between], dim=3)
        return torch.cat([with_token[:, :, :1].expand(-1, -1, -1, length), below], dim=2)

    def values(self, attention: Tensor) -> Tensor:
        """Return Σ_j a_ij r_ij for probabilities (batch, heads, 1 + g², 1 + g²): (batch, heads, 1 + g², d)."""
        token, rows, columns = self._vectors()
        grid = len(rows)
        between = attention[:, :, 1:, 1:].unflatten(3, (grid, grid)).unflatten(2, (grid, grid))
        from_rows = torch.einsum("bhyxY,yYd->bhyxd", between.sum(5), rows)
        from_columns = torch.einsum("bhyxX,xXd->bhyxd", between.sum(4), columns)
        patches = (from_rows + from_columns).flatten(2, 3) + attention[:, :, 1:, :1] * token
        return torch.cat([attention[:, :, :1].sum(3, keepdim=True) * token, patches], dim=2)


class Attention(nn.Module):
    """Multi-head self-attention: softmax((q kᵀ + q · r_k) / √d) (v + r_v), heads of d channels, r only with a `grid`.

    The softmax is a module so that the attention probabilities (batch, heads, tokens, tokens) can be hooked.
    """

    def __init__(self, width: int, num_heads: int, head_dim: int, grid: int | None = None) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.qkv = nn.Linear(width, 3 * num_heads * head_dim)
        self.rel_pos_k = None if grid is None else RelativePosition2D(head_dim, grid)
        self.rel_pos_v = None if grid is None else RelativePosition2D(head_dim, grid)
        self.softmax = nn.Softmax(dim=-1)
        self.proj = nn.Linear(num_heads * head_dim, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (batch, tokens, width) to the same shape."""
        query, key, value = self.qkv(x).unflatten(2, (3, self.num_heads, self.head_dim)).permute(2, 0, 3, 1, 4)
        query = query * self.head_dim**-0.5
        logits = query @ key.transpose(2, 3)
        if self.rel_pos_k is not None:
            logits = logits + self.rel_pos_k.logits(query)
        attention = self.softmax(logits)
        out = attention @ value
        if self.rel_pos_v is not None:
            out = out + self.rel_pos_v.values(attention)
        return self.proj(out.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linears with an activation between them, a GELU unless given: width → hidden → width."""

    def __init__(self, width: int, hidden: int, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU() if activation is None else activation
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (batch, tokens, width) to the same shape."""
        return self.fc2(self.act(self.fc1(x)))


class PreNormBlock(nn.Module):
    """A pre-norm transformer block: x + attn(LN x), then x + mlp(LN x)."""

    def __init__(self, attn: Attention, mlp: Mlp, eps: float) -> None:
        super().__init__()
        width = attn.proj.out_features
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = attn
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = mlp

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (batch, tokens, width) to the same shape."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def block_params(width: int, inner: int, hidden: int) -> int:
    """Return the parameters of a `PreNormBlock` without relative positions; `inner` is heads · head_dim."""
    attention = (width + 1) * 3 * inner + (inner + 1) * width
    mlp = (width + 1) * hidden + (hidden + 1) * width
    return 4 * width + attention + mlp


def block_flops(tokens: int, width: int, inner: int, hidden: int) -> int:
    """Return the multiply-adds of a `PreNormBlock`'s matrix products on one image, without relative positions."""
    return tokens * (4 * width * inner + 2 * width * hidden) + 2 * tokens**2 * inner


def block_activations(tokens: int, width: int, inner: int, hidden: int) -> int:
    """Return the output elements of a `PreNormBlock`'s four linears on one image: qkv, proj, fc1 and fc2."""
    return tokens * (3 * inner + width + hidden + width)


def relative_params(head_dim: int) -> int:
    """Return the parameters of a block's relative positions: two tables for keys and two for values."""
    return 4 * (2 * REACH + 2) * head_dim


def relative_flops(grid: int, inner: int) -> int:
    """Return the multiply-adds of a block's relative positions between patches: rows and columns, keys and values."""
    return 4 * grid**3 * inner


def initialised(construct: Callable[[], nn.Module], generator: Generator, linear: LinearInit) -> nn.Module:
    """Return the network that `construct` makes, its weights drawn from `generator` in the order of its modules.

    Convolutions start as in PyTorch (U(±1/√fan_in), weights and biases alike), and so do linears if `linear` is
    "torch"; if "normal", their weights are N(0, .02²) and their biases 0. LayerNorm and batch norm start at 1 and 0.
    Parameters of no such layer (tokens, positions) are N(0, .02²). The public codes of AutoFormer and PiT truncate this
    normal at ±2, which is 100 standard deviations: no draw reaches it.
    """
    with fork_rng(devices=[]), WithoutDraws():
        network = construct()
    with torch.no_grad():
        for module in network.modules():
            for name, parameter in module.named_parameters(recurse=False):
                _draw(parameter, module, name, generator, linear)
    return network


class WithoutDraws(TorchFunctionMode):
    """Linears and convolutions are made without PyTorch's own first weights, which take longer than all the rest."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Do what was called, but for the draws of first weights."""
        return None if func in (nn.init.kaiming_uniform_, nn.init.uniform_) else func(*args, **(kwargs or {}))


def _draw(values: Tensor, module: nn.Module, name: str, generator: Generator, linear: LinearInit) -> None:
    if isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
        values.fill_(float(name == "weight"))
    elif isinstance(module, nn.Conv2d) or (isinstance(module, nn.Linear) and linear == "torch"):
        bound = module.weight[0].numel() ** -0.5
        values.uniform_(-bound, bound, generator=generator)
    elif isinstance(module, nn.Linear) and name == "bias":
        values.zero_()
    else:
        values.normal_(0, INIT_STD, generator=generator)
