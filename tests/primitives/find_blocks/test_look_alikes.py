"""Look-alikes of public models whose blocks were read by hand from their source: benchmarks/checked_layers.py."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from autoprox.primitives.find_blocks.describe import find_layers
from autoprox.proxy import resolve

WIDTH, HEADS = 8, 2


def by_head(x: Tensor) -> Tensor:
    return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)


def together(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


class Block(nn.Module):
    """x + attn(norm(x)), x + mlp(norm(x))."""

    def __init__(self, attn: nn.Module) -> None:
        super().__init__()
        self.attn, self.mlp, self.norm1, self.norm2 = attn, Mlp(), nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ClassBlock(Block):
    """CaiT and XCiT: the class token alone is changed, by what it sees of all tokens."""

    def forward(self, x: Tensor) -> Tensor:
        cls = x[:, :1] + self.attn(self.norm1(x))
        return torch.cat([cls + self.mlp(self.norm2(cls)), x[:, 1:]], 1)


class Attend(nn.Module):
    """`queries`: all tokens, or the first alone."""

    def __init__(self, queries: slice = slice(None)) -> None:
        super().__init__()
        self.queries = queries
        self.q, self.k, self.v, self.proj = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = by_head(self.q(x[:, self.queries])), by_head(self.k(x)), by_head(self.v(x))
        return self.proj(together(functional.scaled_dot_product_attention(q, k, v)))


class GatedPositions(nn.Module):
    """ConViT: probabilities of content and of positions, mixed by a gate; the latter do not depend on the input."""

    def __init__(self) -> None:
        super().__init__()
        self.qk, self.v, self.proj = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.positions, self.gate = nn.Linear(3, HEADS), nn.Parameter(torch.ones(HEADS, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        q, k = (by_head(half) for half in self.qk(x).chunk(2, -1))
        distances = torch.arange(3.0).expand(1, x.shape[1], x.shape[1], 3)
        content, places = (q @ k.mT).softmax(-1), self.positions(distances).permute(0, 3, 1, 2).softmax(-1)
        mixed = (1 - self.gate.sigmoid()) * content + self.gate.sigmoid() * places
        return self.proj(together(mixed / mixed.sum(-1, keepdim=True) @ by_head(self.v(x))))


class Outlook(nn.Module):
    """VOLO: one layer makes the probabilities of a window's tokens; there are neither queries nor keys."""

    def __init__(self) -> None:
        super().__init__()
        self.v, self.attn, self.proj = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, HEADS * 81), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        values = functional.unfold(self.v(x).mT.unflatten(-1, (4, 4)), 3, padding=1)
        values = values.unflatten(1, (HEADS, WIDTH // HEADS, 9)).permute(0, 1, 4, 3, 2)
        seen = self.attn(x).unflatten(-1, (HEADS, 9, 9)).transpose(1, 2).softmax(-1) @ values
        made = seen.permute(0, 1, 4, 3, 2).flatten(1, 3)
        return self.proj(functional.fold(made, (4, 4), 3, padding=1).flatten(2).mT)


class Reduced(nn.Module):
    """PVT and Twins: keys and values of fewer tokens, which a convolution makes."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.kv, self.proj = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.sr = nn.Conv2d(WIDTH, WIDTH, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        q = by_head(self.q(x))
        fewer = self.sr(x.mT.unflatten(-1, (4, 4))).flatten(2).mT
        k, v = (by_head(half) for half in self.kv(fewer).chunk(2, -1))
        return self.proj(together(functional.scaled_dot_product_attention(q, k, v)))


class Gate(nn.Module):
    """gMLP: half of the features are gated by the other half, which a linear layer mixes over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.proj = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(2 * WIDTH, WIDTH), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        u, v = functional.gelu(self.fc1(x)).chunk(2, -1)
        return x + self.fc2(u * self.proj(v.mT).mT)


class Net(nn.Module):
    """A stem, blocks on 16 tokens, and a classifier."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.stem, self.blocks, self.head = nn.Conv2d(3, WIDTH, 4, 4), nn.ModuleList(blocks), nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).mT
        for block in self.blocks:
            x = block(x)
        return self.head(x[:, 0])


class TwoStreams(nn.Module):
    """CrossViT: two streams with blocks of their own; then each class token attends to the other, without MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.stems = nn.ModuleList(nn.Conv2d(3, WIDTH, size, size) for size in (4, 8))
        self.streams = nn.ModuleList(nn.ModuleList(Block(Attend()) for _ in range(depth)) for depth in (1, 2))
        self.across, self.back = (nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(2)) for _ in range(2))
        self.fusion = nn.ModuleList(Attend(slice(1)) for _ in range(2))
        self.heads = nn.ModuleList(nn.Linear(WIDTH, 10) for _ in range(2))

    def forward(self, image: Tensor) -> Tensor:
        made = []
        for stem, blocks in zip(self.stems, self.streams, strict=True):
            x = stem(image).flatten(2).mT
            for block in blocks:
                x = block(x)
            made.append(x)
        logits = []
        for n in (0, 1):
            cls = functional.gelu(self.across[n](made[n][:, :1]))
            crossed = cls + self.fusion[n](torch.cat([cls, made[1 - n][:, 1:]], 1))
            back = self.back[n](functional.gelu(crossed))
            logits.append(self.heads[n](torch.cat([back, made[n][:, 1:]], 1)[:, 0]))
        return (logits[0] + logits[1]) / 2


MLP = {"fc1": ("mlp.fc1",), "fc2": ("mlp.fc2",)}
APART = {"qkv": ("attn.q", "attn.k", "attn.v"), "proj": ("attn.proj",), **MLP}

#: Model → a block like one of its, the slots below `blocks.N.`, and whether there are probabilities over tokens.
CASES: dict[str, tuple[Callable[[], nn.Module], dict[str, tuple[str, ...]], bool]] = {
    "cait": (lambda: ClassBlock(Attend(slice(1))), APART, True),
    "convit": (lambda: Block(GatedPositions()), {"qkv": ("attn.qk", "attn.v"), "proj": ("attn.proj",), **MLP}, True),
    "volo": (lambda: Block(Outlook()), {"qkv": ("attn.v", "attn.attn"), "proj": ("attn.proj",), **MLP}, True),
    "pvt": (lambda: Block(Reduced()), {"qkv": ("attn.q", "attn.kv"), "proj": ("attn.proj",), **MLP}, True),
    "gmlp": (Gate, {"proj": ("proj",), "fc1": ("fc1",), "fc2": ("fc2",)}, False),
}
IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
CLASSES = torch.tensor([0, 1])


@pytest.mark.parametrize("case", CASES)
def test_blocks_are_those_of_the_source(case: str) -> None:
    build, slots, softmax = CASES[case]
    model = Net(build(), build(), build())
    blocks = find_layers(model, IMAGES).blocks
    assert [dict(block.linears) for block in blocks] == [
        {slot: tuple(f"blocks.{n}.{name}" for name in names) for slot, names in slots.items()} for n in range(3)
    ]
    assert [bool(block.softmax) for block in blocks] == [softmax] * 3
    for formula in ("sum(fro(weight))", "sum(l1(weight * weight_grad))", "sum(std(act))"):
        assert resolve(formula).score(model, IMAGES, CLASSES) > 0


def test_streams_that_attend_to_one_another() -> None:
    names = [
        {slot: tuple(f"{path}.{name}" for name in names) for slot, names in APART.items()}
        for path in ("streams.0.0", "streams.1.0", "streams.1.1")
    ]
    crossed = [{"qkv": tuple(f"fusion.{n}.{x}" for x in "qkv"), "proj": (f"fusion.{n}.proj",)} for n in (0, 1)]
    assert [dict(block.linears) for block in find_layers(TwoStreams(), IMAGES).blocks] == names + crossed
