"""Finding blocks by what a forward pass does: look-alikes of the ways in which transformers are written."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from autoprox.primitives import Block, LayerError, find_blocks
from autoprox.primitives.find_blocks.describe import find_layers, table

X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Residual(nn.Module):
    """x + f(norm(x)) for each f, on tokens."""

    def __init__(self, width: int, *parts: nn.Module) -> None:
        super().__init__()
        self.parts, self.norm = nn.ModuleList(parts), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = x + part(self.norm(x))
        return x


class Attend(nn.Module):
    """Attention of 2 heads under names that say nothing; `way` says how the product is written."""

    def __init__(self, way: str, width: int = 8) -> None:
        super().__init__()
        self.way, self.num_heads = way, 2
        self.a, self.b, self.c, self.d = (nn.Linear(width, width) for _ in range(4))
        self.heads_before, self.heads_after = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (2, -1)).transpose(1, 2) for layer in (self.a, self.b, self.c))
        return self.d(self.product(q, k, v).transpose(1, 2).flatten(2))

    def product(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self.way == "fused":
            return functional.scaled_dot_product_attention(q, k, v)
        if self.way == "einsum":
            return torch.einsum("bhqk,bhkd->bhqd", torch.einsum("bhqd,bhkd->bhqk", q, k).softmax(-1), v)
        if self.way == "channels":  # cross-covariance
            return ((q.mT @ k).softmax(-1) @ v.mT).mT
        if self.way == "linear":
            return q.relu() @ (k.relu().mT @ v)
        logits = q @ k.mT / 2
        if self.way == "talking":
            logits = self.heads_before(logits.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            return self.heads_after(logits.softmax(-1).permute(0, 2, 3, 1)).permute(0, 3, 1, 2) @ v
        return logits.softmax(-1) @ v


class Windows(nn.Module):
    """Attention inside windows of four tokens, with one projection for query, key and value, and a mask."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.num_heads, self.all, self.out = 2, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        w = x.unflatten(1, (-1, 4)).flatten(0, 1)
        q, k, v = self.all(w).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        mask = x.new_zeros(4, 4)
        made = functional.softmax(q @ k.mT + mask, dim=-1) @ v
        return self.out(made.transpose(1, 2).flatten(2)).unflatten(0, (len(x), -1)).flatten(1, 2)


class Shared(nn.Module):
    """Multi-query attention: one key and value for all heads, of fewer tokens than there are queries."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.many, self.one, self.out = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q = self.many(x).unflatten(-1, (2, -1)).transpose(1, 2)
        k, v = self.one(x[:, ::2])[:, None].chunk(2, -1)
        return self.out(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Gated(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(width, 12), nn.Linear(width, 12), nn.Linear(12, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(functional.silu(self.gate(x)) * self.up(x))


class Unnamed(nn.Module):
    """A layer whose module is never called: only its weight is used."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = functional.linear(x, self.qkv.weight).chunk(3, -1)
        return functional.linear((q @ k.mT).softmax(-1) @ v, self.out.weight, self.out.bias)


class Multihead(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(width, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, x, x)[0]


class Tokens(nn.Module):
    """An MLP over tokens, as in MLP-Mixer; with `single`, one linear layer, as in ResMLP."""

    def __init__(self, tokens: int = 16, single: bool = False) -> None:
        super().__init__()
        self.mix = nn.Linear(tokens, tokens) if single else nn.Sequential(mlp(tokens))

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x.mT).mT


class StateSpace(nn.Module):
    """The residual stream itself meets probabilities over tokens, which one projection of it makes (EfficientViM)."""

    def __init__(self, width: int = 8, states: int = 3) -> None:
        super().__init__()
        self.all, self.dw = nn.Conv1d(width, 2 * states, 1), nn.Conv1d(2 * states, 2 * states, 3, 1, 1, groups=6)
        self.before, self.out = nn.Conv1d(width, width, 3, 1, 1, groups=width), nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.mT + self.before(x.mT)
        weights, spread = self.dw(self.all(x)).chunk(2, 1)
        return (self.out(x @ weights.softmax(-1).mT) @ spread).mT


class Depthwise(nn.Module):
    """ConvNeXt: one residual branch of a depth-wise convolution and an MLP."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.conv, self.up, self.down = (
            nn.Conv2d(width, width, 3, 1, 1, groups=width),
            nn.Linear(width, 16),
            nn.Linear(16, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.conv(x.mT.unflatten(-1, (4, 4))).flatten(2).mT
        return self.down(self.up(mixed).relu())


def mlp(width: int = 8) -> nn.Module:
    return nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))


class Net(nn.Module):
    """16 tokens of 8 features, the blocks, and a classifier."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.embed, self.blocks, self.head = nn.Conv2d(3, 8, 4, 4), nn.ModuleList(blocks), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).mT
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


def net(*parts: Callable[[], nn.Module], depth: int = 2) -> Net:
    return Net(*(Residual(8, *(part() for part in parts)) for _ in range(depth)))


FC = {"fc1": ("1.0",), "fc2": ("1.2",)}

#: Case → the attention or mixer, the MLP, and what a block's slots are, below `blocks.N.parts.`.
FOUND: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module], dict[str, tuple[str, ...]], str]] = {
    **{
        way: (lambda way=way: Attend(way), mlp, {"qkv": ("0.a", "0.b", "0.c"), "proj": ("0.d",), **FC}, "0")
        for way in ("plain", "fused", "einsum", "channels", "talking")
    },
    "linear attention": (lambda: Attend("linear"), mlp, {"qkv": ("0.a", "0.b", "0.c"), "proj": ("0.d",), **FC}, ""),
    "windows": (Windows, mlp, {"qkv": ("0.all",), "proj": ("0.out",), **FC}, "0"),
    "multi-query": (Shared, mlp, {"qkv": ("0.many", "0.one"), "proj": ("0.out",), **FC}, "0"),
    "weights only": (Unnamed, mlp, {"qkv": ("0.qkv",), "proj": ("0.out",), **FC}, "0"),
    "MultiheadAttention": (
        Multihead, mlp, {"qkv": ("0.inner.in_proj_weight",), "proj": ("0.inner.out_proj",), **FC}, "0.inner",
    ),
    "gated MLP": (
        Windows, Gated, {"qkv": ("0.all",), "proj": ("0.out",), "fc1": ("1.gate", "1.up"), "fc2": ("1.down",)}, "0",
    ),
    "state space": (StateSpace, mlp, {"qkv": ("0.all",), "proj": ("0.out",), **FC}, "0"),
    "MLP-Mixer": (Tokens, mlp, {"qkv": ("0.mix.0.0",), "proj": ("0.mix.0.2",), **FC}, ""),
    "ResMLP": (lambda: Tokens(single=True), mlp, {"proj": ("0.mix",), **FC}, ""),
}  # fmt: skip


@pytest.mark.parametrize("case", FOUND)
def test_blocks_are_found_whatever_they_are_called(case: str) -> None:
    mixer, after, slots, softmax = FOUND[case]
    blocks = find_layers(net(mixer, after), X).blocks
    assert [dict(block.linears) for block in blocks] == [
        {slot: tuple(f"blocks.{number}.parts.{name}" for name in names) for slot, names in slots.items()}
        for number in range(2)
    ]
    assert [block.softmax for block in blocks] == [f"blocks.{n}.parts.{softmax}" if softmax else "" for n in range(2)]


def test_heads_are_what_the_module_says_or_the_axis_of_heads() -> None:
    assert {block.heads for block in find_layers(net(Windows, mlp), X).blocks} == {2}
    assert {block.heads for block in find_layers(net(Shared, mlp), X).blocks} == {2}


def test_a_convolution_and_its_mlp_in_one_branch() -> None:
    model = Net(*(Residual(8, Depthwise()) for _ in range(3)))
    assert [dict(b.linears) for b in find_layers(model, X).blocks] == [
        {"proj": (f"{p}conv",), "fc1": (f"{p}up",), "fc2": (f"{p}down",)}
        for p in (f"blocks.{n}.parts.0." for n in range(3))
    ]


class ConvMixer(nn.Module):
    """A depth-wise convolution as a residual branch, then one projection."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.mix, self.point = nn.Conv2d(width, width, 3, 1, 1, groups=width), nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        image = x.mT.unflatten(-1, (4, 4))
        return self.point(image + self.mix(image).relu()).relu().flatten(2).mT


def test_a_convolution_and_one_projection() -> None:
    assert [dict(b.linears) for b in find_layers(Net(ConvMixer(), ConvMixer()), X).blocks] == [
        {"proj": (f"blocks.{n}.mix",), "fc1": (f"blocks.{n}.point",)} for n in (0, 1)
    ]


def test_torch_own_layers() -> None:
    model = Net(*(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=n > 0) for n in range(2)))
    blocks = find_layers(model, X).blocks
    assert blocks == tuple(
        Block(
            {
                "qkv": (f"blocks.{n}.self_attn.in_proj_weight",),
                "proj": (f"blocks.{n}.self_attn.out_proj",),
                "fc1": (f"blocks.{n}.linear1",),
                "fc2": (f"blocks.{n}.linear2",),
            },
            f"blocks.{n}.self_attn",
            2,
        )
        for n in range(2)
    )


def test_a_block_that_runs_twice_is_two_blocks() -> None:
    block = Residual(8, Windows(), mlp())
    blocks = find_layers(Net(block, block), X).blocks
    assert blocks[0].linears["qkv"] == ("blocks.0.parts.0.all",)
    assert blocks[1].linears["qkv"] == ("blocks.0.parts.0.all#2",)
    assert [block.softmax for block in blocks] == ["blocks.0.parts.0", "blocks.0.parts.0#2"]


class Pooled(nn.Module):
    """Attention pooling before the classifier: a query that is a parameter."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net, self.query, self.kv, self.out = (
            net,
            nn.Parameter(torch.randn(1, 1, 8)),
            nn.Linear(8, 16),
            nn.Linear(8, 8),
        )
        self.q = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.net.embed(x).flatten(2).mT
        for block in self.net.blocks:
            x = block(x)
        k, v = self.kv(x).chunk(2, -1)
        q = self.q(self.query).expand(len(x), -1, -1)
        return self.net.head(self.out(functional.scaled_dot_product_attention(q, k, v))[:, 0])


def test_what_is_left_out_says_why() -> None:
    finding = find_layers(Pooled(net(Windows, mlp)), X)
    assert len(finding.blocks) == 2
    reasons = {item.name: item.reason for item in finding.left_out}
    assert reasons["kv"] == "attention pooling: its query does not depend on the input"
    assert reasons["net.head"].startswith("classifier")
    assert reasons["net.embed"].startswith("convolution")
    assert finding.covered == pytest.approx(2 * (192 + 64 + 256) / (2 * 512 + 128 + 64 + 80))


def test_the_draft_can_be_given_as_layers() -> None:
    model = net(lambda: Attend("plain"), mlp)
    finding = find_layers(model, X)
    assert find_blocks(model, eval(finding.draft, {}))[0].linears == finding.blocks[0].linears


def test_names_that_are_known_give_the_same(tiny: Callable[[], nn.Module]) -> None:
    model = tiny()
    for by_name, found in zip(find_blocks(model), find_layers(model, X).blocks, strict=True):
        assert (by_name.linears, by_name.heads) == (found.linears, found.heads)


@pytest.fixture
def tiny() -> Callable[[], nn.Module]:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.num_heads, self.qkv, self.proj, self.softmax = 2, nn.Linear(8, 24), nn.Linear(8, 8), nn.Softmax(-1)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.qkv(x).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
            return self.proj((self.softmax(q @ k.mT) @ v).transpose(1, 2).flatten(2))

    class Mlp(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(8, 16), nn.Linear(16, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc2(self.fc1(x).relu())

    class Known(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attn, self.mlp = Attention(), Mlp()

        def forward(self, x: Tensor) -> Tensor:
            x = x + self.attn(x)
            return x + self.mlp(x)

    return lambda: Net(Known(), Known(), Known())


def test_the_model_is_as_it_was() -> None:
    model = net(Windows, mlp).train()
    model.register_buffer("seen", torch.zeros(()))
    model.blocks[0].register_forward_hook(lambda module, args, output: model.seen.add_(1) and None)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    kept, rng = dict(model.named_parameters()), torch.get_rng_state()
    find_layers(model, X)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter is kept[name] for name, parameter in model.named_parameters())
    assert model.training
    assert torch.equal(rng, torch.get_rng_state())


def test_after_an_error_nothing_of_the_watching_is_left() -> None:
    model = net(Windows, mlp)
    with pytest.raises(LayerError, match="expected input"):
        find_layers(model, torch.zeros(2, 5, 16, 16))
    assert len(find_layers(model, X).blocks) == 2
    assert not torch.overrides._get_current_function_mode_stack()


def test_the_table_has_a_row_for_blocks_that_differ_in_numbers_only() -> None:
    rows = table(find_layers(net(Windows, mlp, depth=3), X))
    layers = "qkv: blocks.*.parts.*.all  proj: blocks.*.parts.*.out  fc1: blocks.*.parts.*.*  fc2: blocks.*.parts.*.*"
    assert rows[0] == ("3 blocks", layers, "softmax in blocks.*.parts.*")
    assert [row[:2] for row in rows[1:]] == [("1 left out", "embed"), ("1 left out", "head")]
