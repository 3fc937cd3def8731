"""A small vision transformer with everything that a probe could disturb, and what is read of it."""

import torch
from torch import Tensor, nn

from autoprox.primitives import Reading, find_blocks, parse, read_statistics
from autoprox.primitives.statistics import STATISTICS

MATRICES = [s for s in STATISTICS.values() if s.level == "matrix"]
EVERYTHING = {("weight", ""), ("tokens", ""), ("flops", ""), ("heads", ""), ("params", "")} | {
    (s.name, probe)
    for s in MATRICES
    for probe in ("data", "noise", "synflow")
    if s.probed and (s.shape, probe) != ("stacked", "synflow")
}


def requirements(text: str) -> set[tuple[str, str]]:
    return {(t.statistic.name, t.probe) for t in parse(text).terminals()}


# A small vision transformer with everything that could go wrong: batch norm, drop-out, an activation in place, a
# buffer that every pass writes to, one that it replaces, an input that it changes, and attention that may fail.


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.softmax, self.drop = nn.Softmax(-1), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        samples, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(samples, tokens, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        p = self.softmax(q @ k.mT / q.shape[-1] ** 0.5)
        return self.drop(self.proj((p @ v).transpose(1, 2).reshape(samples, tokens, width)))


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(width, 2 * width), nn.ReLU(inplace=True), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class VitBlock(nn.Module):
    calls: Tensor
    last: Tensor

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn, self.mlp, self.norm = Attention(width, heads), Mlp(width), nn.BatchNorm1d(width)
        self.register_buffer("calls", torch.zeros(1))
        self.register_buffer("last", torch.zeros(1), persistent=False)
        self.fails = False

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.last = x.detach().mean().reshape(1)
        if self.fails:
            raise RuntimeError("half-way")
        x = x + self.attn(self.norm(x.mT).mT)
        return x + self.mlp(x)


class Vit(nn.Module):
    """Two blocks of width 4, tokens of three numbers."""

    def __init__(self, blocks: int = 2, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            self.embed, self.head = nn.Linear(3, 4), nn.Linear(4, 3)
            self.blocks = nn.ModuleList(VitBlock(4, 2) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        x -= 0.5
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


X = torch.linspace(-1, 2, 4 * 5 * 3).sin().reshape(4, 5, 3)  # 4 samples of 5 tokens
Y = torch.tensor([0, 2, 1, 2])


def read_vit(
    model: nn.Module, wanted: set[tuple[str, str]], inputs: Tensor | None = X, targets: Tensor | None = Y, seed: int = 0
) -> Reading:
    return read_statistics(model, find_blocks(model), wanted, inputs, targets, seed)


def same(a: Reading, b: Reading) -> bool:
    matrices = a.matrices.keys() == b.matrices.keys() and all(
        torch.equal(x, y) for key in a.matrices for x, y in zip(a.matrices[key], b.matrices[key], strict=True)
    )
    return matrices and (a.layers, a.net, a.samples) == (b.layers, b.net, b.samples)
