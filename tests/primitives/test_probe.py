"""Probes: statistics worked out by hand, and a model that is the same afterwards, bit for bit, whatever happened."""

import contextlib
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from autoprox.primitives import Block, LayerError, Reading, evaluate, find_blocks, parse, read_statistics
from autoprox.primitives.statistics import STATISTICS

MATRICES = [s for s in STATISTICS.values() if s.level == "matrix"]
EVERYTHING = {("weight", ""), ("tokens", ""), ("flops", ""), ("heads", ""), ("params", "")} | {
    (s.name, probe)
    for s in MATRICES
    for probe in ("data", "noise", "synflow")
    if s.probed and (s.shape, probe) != ("stacked", "synflow")
}
WEIGHT_ONLY = "sum(fro(weight)) + sum(fan_in + fan_out + position) + params + depth + width"


# By hand: two layers without bias, two tokens of which the second is zero, two samples, two classes. The class scores
# of a sample are equal, so its probabilities are ½ and the gradient of the mean loss is ∓¼.


class Chain(nn.Module):
    """first: [[1, 3], [1, −2]], second: [[1, 2], [2, 1]], summed over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([[1.0, 3.0], [1.0, -2.0]]))
            self.second.weight.copy_(torch.tensor([[1.0, 2.0], [2.0, 1.0]]))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)).sum(1)


CHAIN_LAYERS = [{"fc1": "first", "fc2": "second", "heads": 3}]
CHAIN_X = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[2.0, 0.0], [0.0, 0.0]]])
CHAIN_Y = torch.tensor([0, 1])
BY_HAND: dict[tuple[str, str, str], list[list[float]]] = {
    ("weight", "", "fc1"): [[1, 3], [1, -2]],
    ("weight", "", "fc2"): [[1, 2], [2, 1]],
    ("act", "data", "fc1"): [[1, 1], [0, 0], [2, 2], [0, 0]],
    ("act", "data", "fc2"): [[3, 3], [0, 0], [6, 6], [0, 0]],
    ("act_grad", "data", "fc2"): [[-0.25, 0.25], [-0.25, 0.25], [0.25, -0.25], [0.25, -0.25]],
    ("act_grad", "data", "fc1"): [[0.25, -0.25], [0.25, -0.25], [-0.25, 0.25], [-0.25, 0.25]],
    ("weight_grad", "data", "fc2"): [[0.25, 0.25], [-0.25, -0.25]],
    ("weight_grad", "data", "fc1"): [[-0.25, 0], [0.25, 0]],
    # each half has one sample, whose loss is no longer halved
    ("weight_grad_batches", "data", "fc2"): [[-0.5, -0.5], [0.5, 0.5], [1, 1], [-1, -1]],
    ("weight_grad_batches", "data", "fc1"): [[0.5, 0], [-0.5, 0], [-1, 0], [1, 0]],
    # magnitudes [[1, 3], [1, 2]], all-ones input of one sample: (4, 3) and (10, 11) for each of two tokens
    ("act", "synflow", "fc1"): [[4, 3], [4, 3]],
    ("act", "synflow", "fc2"): [[10, 11], [10, 11]],
    ("act_grad", "synflow", "fc1"): [[3, 3], [3, 3]],
    ("act_grad", "synflow", "fc2"): [[1, 1], [1, 1]],
    ("weight_grad", "synflow", "fc1"): [[6, 6], [6, 6]],
    ("weight_grad", "synflow", "fc2"): [[8, 6], [8, 6]],
}


@pytest.fixture(scope="module")
def chain() -> Reading:
    model = Chain()
    wanted = EVERYTHING - {(name, probe) for name, probe in EVERYTHING if name == "attn"}
    return read_statistics(model, find_blocks(model, CHAIN_LAYERS), wanted, CHAIN_X, CHAIN_Y)


@pytest.mark.parametrize("key", BY_HAND, ids=" ".join)
def test_matrices_by_hand(chain: Reading, key: tuple[str, str, str]) -> None:
    assert [matrix.tolist() for matrix in chain.matrices[key]] == [BY_HAND[key]]


def test_numbers_by_hand(chain: Reading) -> None:
    assert chain.net == {"params": 8.0, "depth": 1.0, "flops": 2 * 2 * 4.0}  # no qkv, so no width
    assert chain.layers == {
        (name, slot): [value]
        for slot in ("fc1", "fc2")
        for name, value in {"fan_in": 2, "fan_out": 2, "position": 1, "heads": 3, "tokens": 2}.items()
    }
    counts = {("act", "data"): 2, ("act", "synflow"): 1, ("weight_grad_batches", "data"): 2, ("weight_grad", "data"): 1}
    assert {key: chain.samples[key] for key in counts} == counts


def test_scores_by_hand() -> None:
    model = Chain()
    values = {
        "sum(l1(weight[mlp] * weight_grad[mlp]))": 0.25 + 0.25 + 0.25 + 0.5 + 0.5 + 0.25,  # SNIP
        "sum(l1(weight[mlp] * weight_grad[mlp, synflow]))": 42 + 42,  # SynFlow: each layer carries the whole output
        "sum(sum(batch_mean(act[mlp])))": 3 + 9,
        "sum(pattern_count(act[fc1]))": 2,  # the zero token is off in both samples, the other on
        "sum(sum(batch_std(weight_grad_batches[fc2])))": 4 * 0.75,
        "flops / params": 2,
    }
    for text, value in values.items():
        formula = parse(text)
        reading = read_statistics(model, find_blocks(model, CHAIN_LAYERS), requirements(text), CHAIN_X, CHAIN_Y)
        assert evaluate(formula, reading) == pytest.approx(value, rel=1e-6), text


def requirements(text: str) -> set[tuple[str, str]]:
    return {(t.statistic.name, t.probe) for t in parse(text).terminals()}


def test_mini_batches_average_to_the_batch() -> None:
    for targets in (None, torch.tensor([1, 0, 2, 2])):
        reading = read_vit(Vit(), {("weight_grad", "data"), ("weight_grad_batches", "data")}, targets=targets)
        for slot in ("qkv", "proj", "fc1", "fc2"):
            pairs = zip(
                reading.matrices["weight_grad", "data", slot],
                reading.matrices["weight_grad_batches", "data", slot],
                strict=True,
            )
            for whole, halves in pairs:
                torch.testing.assert_close(halves.unflatten(0, (2, -1)).mean(0), whole, rtol=1e-5, atol=1e-7)
                assert whole.any()


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


def test_shapes_are_those_the_language_states() -> None:
    reading = read_vit(Vit(), EVERYTHING)
    outs, ins = {"qkv": 12, "proj": 4, "fc1": 8, "fc2": 4}, {"qkv": 4, "proj": 4, "fc1": 4, "fc2": 8}
    shapes = {key: {tuple(m.shape) for m in blocks} for key, blocks in reading.matrices.items()}
    for slot in outs:
        assert shapes["weight", "", slot] == {(outs[slot], ins[slot])}
        for probe in ("data", "noise", "synflow"):
            rows = (1 if probe == "synflow" else 4) * 5
            assert shapes["weight_grad", probe, slot] == {(outs[slot], ins[slot])}
            assert shapes["act", probe, slot] == shapes["act_grad", probe, slot] == {(rows, outs[slot])}
            assert shapes["attn", probe, "attn"] == {(rows * 2, 5)}
            if probe != "synflow":
                assert shapes["weight_grad_batches", probe, slot] == {(2 * outs[slot], ins[slot])}
    assert {len(blocks) for blocks in reading.matrices.values()} == {2}
    assert set(reading.matrices) == {
        (name, probe, slot)
        for name, probe in EVERYTHING
        if STATISTICS[name].level == "matrix"
        for slot in (["attn"] if name == "attn" else outs)
    }
    block = 5 * (4 * 12 + 4 * 4 + 4 * 8 + 8 * 4) + 2 * 5 * 5 * 4  # layers, then the two products of attention
    assert reading.net == {
        "params": float(sum(p.numel() for p in Vit().parameters())),
        "depth": 2.0,
        "width": 4.0,
        "flops": float(2 * block + 5 * 3 * 4 + 4 * 3),
    }


def test_statistics_are_torchs_own() -> None:
    """Gradients by ordinary back-propagation, activations by ordinary hooks, in evaluation mode."""
    model, seen = Vit().eval(), {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Softmax):
            module.register_forward_hook(lambda m, a, out, name=name: seen.update({name: out.clone()}))
    with torch.no_grad():
        model(X.clone())
    plain = dict(seen)
    functional.cross_entropy(model(X.clone()), Y).backward()
    reading = read_vit(Vit(), {("weight_grad", "data"), ("act", "data"), ("attn", "data")})
    for block in range(2):
        for slot, name in {"qkv": "attn.qkv", "proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}.items():
            path = f"blocks.{block}.{name}"
            grad = model.get_submodule(path).weight.grad
            torch.testing.assert_close(reading.matrices["weight_grad", "data", slot][block], grad)
            torch.testing.assert_close(reading.matrices["act", "data", slot][block], plain[path].flatten(0, 1))
        attn = plain[f"blocks.{block}.attn.softmax"]
        torch.testing.assert_close(reading.matrices["attn", "data", "attn"][block], attn.flatten(0, -2))
        torch.testing.assert_close(attn.sum(-1), torch.ones_like(attn[..., 0]))


def test_outputs_are_those_before_a_change_in_place() -> None:
    """The activation after fc1 writes over its input; the statistic is the layer's output all the same."""
    reading = read_vit(Vit(), {("act", "data"), ("act_grad", "data")})
    assert all((m < 0).any() for m in reading.matrices["act", "data", "fc1"])
    for act, grad in zip(
        reading.matrices["act", "data", "fc1"], reading.matrices["act_grad", "data", "fc1"], strict=True
    ):
        assert not grad[act < 0].any()
        assert grad[act > 0].any()


def test_noise_is_of_the_batchs_shape_and_the_seed_alone() -> None:
    wanted = {("act", "noise"), ("weight_grad", "noise"), ("attn", "noise")}
    first = read_vit(Vit(), wanted, X, Y)
    assert same(first, read_vit(Vit(), wanted, 3 * X + 1, None))
    assert not same(first, read_vit(Vit(), wanted, X, Y, seed=1))
    data = read_vit(Vit(), {("act", "data")}, torch.randn(X.shape, generator=torch.Generator().manual_seed(0)))
    # close, not equal: with and without a gradient to come, torch may pick other kernels
    torch.testing.assert_close(data.matrices["act", "data", "fc2"][1], first.matrices["act", "noise", "fc2"][1])


def test_synflow_sees_no_data_and_no_signs() -> None:
    wanted = {("weight_grad", "synflow"), ("act", "synflow")}
    first, model = read_vit(Vit(), wanted), Vit()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.neg_()
    assert same(first, read_vit(model, wanted, 2 * X, None, seed=5))


# Nothing of the model changes.


def snapshot(model: nn.Module) -> dict[str, Any]:
    """Return all that must be as it was, down to which tensors there are and how often they were written to."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {
        "tensors": {name: (id(t), t.device, t.dtype, t.detach().clone().tolist()) for name, t in tensors.items()},
        "versions": {name: None if t.is_inference() else t._version for name, t in tensors.items()},
        "requires": {name: t.requires_grad for name, t in tensors.items()},
        "grads": {n: None if p.grad is None else (id(p.grad), p.grad.tolist()) for n, p in model.named_parameters()},
        "modes": {name: module.training for name, module in model.named_modules()},
        "hooks": {
            (name, key): list(value.items())
            for name, module in model.named_modules()
            for key, value in vars(module).items()
            if "hooks" in key
        },
        "members": {name: sorted(vars(module)) for name, module in model.named_modules()},
        "forward": {name: "forward" in vars(module) for name, module in model.named_modules()},
        "torch": torch.get_rng_state().tolist(),
        "python": random.getstate(),
        "numpy": str(np.random.get_state()),
        "modes of torch": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype()),
        "global hooks": [list(getattr(nn.modules.module, n)) for n in dir(nn.modules.module) if n.startswith("_global_")
                         and hasattr(getattr(nn.modules.module, n), "keys")],
    }  # fmt: skip


def lived_in() -> Vit:
    """Return a model with a past: gradients, frozen parts, mixed modes, hooks of its owner's, running statistics."""
    model = Vit()
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        functional.cross_entropy(model(X.clone()), Y).backward()
    model.blocks[0].attn.proj.weight.grad = None
    model.blocks[1].mlp.fc1.requires_grad_(False)
    model.embed.requires_grad_(False)
    model.blocks[0].eval()
    model.blocks[0].attn.drop.train()
    model.blocks[1].mlp.fc2.register_forward_hook(lambda module, args, output: None)
    model.head.register_forward_pre_hook(lambda module, args: None)
    return model


CONTEXTS: dict[str, Callable[[], contextlib.AbstractContextManager[object]]] = {
    "plainly": contextlib.nullcontext,
    "in no_grad": torch.no_grad,
    "in inference_mode": torch.inference_mode,
}
in_every_context = pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)


@in_every_context
@pytest.mark.parametrize("wanted", [EVERYTHING, *({pair} for pair in sorted(EVERYTHING))], ids=lambda w: str(len(w)))
def test_model_is_untouched(wanted: set[tuple[str, str]], context: Callable) -> None:
    model, x, y = lived_in(), X.clone(), Y.clone()
    expected = read_vit(lived_in(), wanted)
    random.random(), torch.rand(1)  # not where the seed would put the generators
    with context():
        before = snapshot(model)
        reading = read_vit(model, wanted, x, y)
        assert snapshot(model) == before
    assert same(reading, expected)
    assert torch.equal(x, X)
    assert torch.equal(y, Y)
    assert not any(m.requires_grad for blocks in reading.matrices.values() for m in blocks)


BROKEN: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "forward raises half-way": ({}, LayerError, "half-way"),
    "targets too large": ({"targets": Y + 2}, LayerError, "class numbers from 0 to 2, as the model has 3 classes"),
    "targets negative": ({"targets": Y - 1}, LayerError, "class numbers from 0 to 2"),
    "targets of another length": ({"targets": Y[:3]}, LayerError, "targets must be 4 class numbers"),
    "targets no numbers of classes": ({"targets": Y.float()}, LayerError, "torch.float32"),
    "targets one-hot": ({"targets": functional.one_hot(Y)}, LayerError, "shape (4, 3)"),
    "batch of odd size": ({"inputs": X[:3], "targets": Y[:3]}, LayerError, "give an even number of samples, not 3"),
    "no sample": ({"inputs": X[:0], "targets": Y[:0]}, LayerError, "at least one sample"),
    "no batch": ({"inputs": None, "targets": None}, LayerError, "give it a batch of inputs"),
    "inputs no tensor": ({"inputs": X.tolist()}, LayerError, "must be a tensor"),
    "inputs of another width": ({"inputs": X[..., :2]}, LayerError, "shapes cannot be multiplied"),
}


@in_every_context
@pytest.mark.parametrize("case", BROKEN)
def test_model_is_untouched_after_an_error(case: str, context: Callable) -> None:
    arguments, error, message = BROKEN[case]
    model = lived_in()
    model.blocks[1].fails = case == "forward raises half-way"
    with context():
        before = snapshot(model)
        with pytest.raises(error) as caught:
            read_vit(model, EVERYTHING, **arguments)
        assert snapshot(model) == before
    assert message in str(caught.value)
    if error is LayerError:
        assert "\n" not in str(caught.value)


@in_every_context
def test_model_of_inference_tensors(context: Callable) -> None:
    with torch.inference_mode():
        model, x, y = Vit(), X.clone(), Y.clone()
    with context():
        reading = read_vit(model, EVERYTHING, x, y)
    assert same(reading, read_vit(Vit(), EVERYTHING))


def test_what_reads_only_weights_runs_nothing() -> None:
    class Silent(Vit):
        def forward(self, x: Tensor) -> Tensor:
            raise AssertionError("it was run")

    model = Silent()
    reading = read_vit(model, requirements(WEIGHT_ONLY) | {("heads", "")}, None, None)
    assert evaluate(parse(WEIGHT_ONLY), reading) > 0
    assert reading.layers["heads", "proj"] == [2.0, 2.0]
    assert set(reading.matrices) == {("weight", "", slot) for slot in ("qkv", "proj", "fc1", "fc2")}
    with pytest.raises(LayerError, match="it was run"):
        read_vit(model, {("act", "data")})


def test_what_needs_no_gradient_takes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def caught(*args: object, **kwargs: object) -> None:
        raise AssertionError("it was differentiated")

    monkeypatch.setattr(torch.autograd, "grad", caught)
    read_vit(Vit(), {("act", "data"), ("attn", "noise"), ("act", "synflow"), ("flops", "")})
    with pytest.raises(AssertionError, match="it was differentiated"):
        read_vit(Vit(), {("act_grad", "data")})


def test_mode_does_not_matter() -> None:
    """Drop-out and batch norm are as in evaluation, whatever mode the model is in."""
    assert same(read_vit(Vit().train(), EVERYTHING), read_vit(Vit().eval(), EVERYTHING))


def test_frozen_parameters_have_gradients() -> None:
    assert same(read_vit(Vit().requires_grad_(False), EVERYTHING), read_vit(Vit(), EVERYTHING))


def test_random_forward_passes_are_repeatable() -> None:
    """A pass that draws whatever the mode: the seed decides, and not what else is read or was drawn before."""

    class Noisy(Vit):
        def forward(self, x: Tensor) -> Tensor:
            scale = random.random() + 0.5
            return super().forward(functional.dropout(x, 0.5, training=True) * scale)

    first = read_vit(Noisy(), EVERYTHING)
    torch.rand(3)
    random.random()
    assert same(read_vit(Noisy(), EVERYTHING), first)
    assert not same(read_vit(Noisy(), EVERYTHING, seed=1), first)
    alone = read_vit(Noisy(), {("act", "data")})
    torch.testing.assert_close(alone.matrices["act", "data", "fc2"][1], first.matrices["act", "data", "fc2"][1])


def test_targets_left_out_are_random_classes_of_the_seed() -> None:
    wanted = {("weight_grad", "data"), ("weight_grad_batches", "data")}
    assert same(read_vit(Vit(), wanted, X, None), read_vit(Vit(), wanted, X, None))
    assert not same(read_vit(Vit(), wanted, X, None), read_vit(Vit(), wanted, X, None, seed=2))


@pytest.mark.parametrize(("dtype", "read"), [(torch.float64, torch.float64), (torch.bfloat16, torch.float32)])
def test_precision(dtype: torch.dtype, read: torch.dtype) -> None:
    """Double stays double; half precision is read as single, with gradients taken in the model's own."""
    reading = read_vit(Vit().to(dtype), EVERYTHING, X.to(dtype))
    assert {m.dtype for blocks in reading.matrices.values() for m in blocks} == {read}
    exact = read_vit(Vit().double(), EVERYTHING, X.double())
    for key in (("weight", "", "qkv"), ("act", "data", "fc1"), ("weight_grad", "noise", "fc2")):
        torch.testing.assert_close(reading.matrices[key][1].double(), exact.matrices[key][1], rtol=0.1, atol=0.05)


# Models of other people's: names, separate layers, shared weights, fused attention, outputs.


class Separate(nn.Module):
    """The first block of a Vit, with layers of its own names and separate query, key and value."""

    def __init__(self, model: Vit) -> None:
        super().__init__()
        block = model.blocks[0]
        self.embed, self.head, self.out = model.embed, model.head, block.attn.proj
        self.q, self.k, self.v = (nn.Linear(4, 4) for _ in range(3))
        self.up, self.down, self.norm, self.soft = block.mlp.fc1, block.mlp.fc2, block.norm, nn.Softmax(-1)
        with torch.no_grad():
            for layer, weight, bias in zip(
                (self.q, self.k, self.v), block.attn.qkv.weight.chunk(3), block.attn.qkv.bias.chunk(3), strict=True
            ):
                layer.weight.copy_(weight)
                layer.bias.copy_(bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x - 0.5)
        y = self.norm(x.mT).mT
        q, k, v = (layer(y).unflatten(-1, (2, 2)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        x = x + self.out((self.soft(q @ k.mT / 2**0.5) @ v).transpose(1, 2).flatten(2))
        return self.head((x + self.down(self.up(x).relu())).mean(1))


SEPARATE_LAYERS = [
    {"qkv": ["q", "k", "v"], "proj": "out", "fc1": "up", "fc2": "down", "softmax": "soft", "heads": 2}
]  # fmt: skip


def test_separate_query_key_and_value_are_one_layer() -> None:
    fused, separate = Vit(blocks=1), Separate(Vit(blocks=1))
    a = read_vit(fused, EVERYTHING)
    b = read_statistics(separate, find_blocks(separate, SEPARATE_LAYERS), EVERYTHING, X, Y)
    assert a.matrices.keys() == b.matrices.keys()
    for key in a.matrices:
        torch.testing.assert_close(a.matrices[key], b.matrices[key], rtol=1e-4, atol=1e-6)
    assert (a.layers, a.net) == (b.layers, b.net)


def test_shared_weights_have_the_whole_gradient() -> None:
    model = Vit()
    model.blocks[1].mlp.fc1.weight = model.blocks[0].mlp.fc1.weight
    functional.cross_entropy(model.eval()(X.clone()), Y).backward()
    first, second = read_vit(model, EVERYTHING).matrices["weight_grad", "data", "fc1"]
    torch.testing.assert_close(first, model.blocks[0].mlp.fc1.weight.grad)
    assert torch.equal(first, second)


def test_computed_weights_have_the_gradient_of_what_is_used() -> None:
    """Weight normalisation at its start computes the weight itself."""
    model, plain = Vit(), Vit()
    nn.utils.parametrizations.weight_norm(model.blocks[0].mlp.fc1)
    wanted = {("weight", ""), ("weight_grad", "data"), ("act_grad", "data")}
    torch.testing.assert_close(read_vit(model, wanted).matrices, read_vit(plain, wanted).matrices)


class Fused(nn.Module):
    """One layer of torch's own, whose attention never calls its output projection as a module."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, dropout=0.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).mean(1)


def test_layers_whose_module_is_never_called_are_read() -> None:
    model, x = Fused(), X[..., [0, 1, 2, 0]]
    names = {"qkv": "layer.self_attn.in_proj_weight", "proj": "layer.self_attn.out_proj"}
    blocks = (Block({slot: (name,) for slot, name in names.items()}, "layer.self_attn", 2),)
    read = {(name, "data") for name in ("act", "act_grad", "weight_grad", "attn")} | {("tokens", "")}
    reading = read_statistics(model, blocks, read, x, Y)
    attention = model.layer.self_attn
    made = functional.linear(x, attention.in_proj_weight, attention.in_proj_bias)
    torch.testing.assert_close(reading.matrices["act", "data", "qkv"][0], made.flatten(0, 1))
    q, k, v = made.detach().unflatten(-1, (3, 2, 2)).permute(2, 0, 3, 1, 4)
    logits = q @ k.mT / 2**0.5
    torch.testing.assert_close(reading.matrices["attn", "data", "attn"][0], logits.softmax(-1).flatten(0, 2))
    out = attention.out_proj((logits.softmax(-1) @ v).transpose(1, 2).flatten(2)).flatten(0, 1)
    torch.testing.assert_close(reading.matrices["act", "data", "proj"][0], out)
    assert reading.layers["tokens", "proj"] == [5.0]


def test_layers_that_do_not_run_are_named() -> None:
    model = Vit()
    model.spare = nn.Linear(4, 4)
    blocks = (Block({"fc1": ("spare",)}),)
    for wanted in ("act", "data"), ("weight_grad", "data"), ("tokens", ""):
        with pytest.raises(LayerError, match=r"layer 'spare' does not run in the model's forward pass"):
            read_statistics(model, blocks, {wanted}, X, Y)


def test_fused_attention_counts_its_products() -> None:
    class Scaled(Attention):
        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
            return self.proj(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    plain, fused = Vit(), Vit()
    for block in fused.blocks:
        scaled = Scaled(4, 2)
        scaled.load_state_dict(block.attn.state_dict())
        block.attn = scaled
    wanted = {("flops", ""), ("act", "data")}
    a, b = read_vit(plain, wanted), read_vit(fused, wanted)
    assert a.net["flops"] == b.net["flops"]
    torch.testing.assert_close(a.matrices, b.matrices)


def test_what_a_model_lacks_is_one_clear_line() -> None:
    model = Vit()
    hidden = tuple(Block(block.linears) for block in find_blocks(model))
    lacking = {
        ("attn", "data"): "attn: this model does not show its attention probabilities",
        ("heads", ""): "heads: this model does not show its number of heads; pass layers=",
        ("weight_grad_batches", "synflow"): "synflow runs one sample",
    }
    for wanted, message in lacking.items():
        with pytest.raises(LayerError, match=message) as caught:
            read_statistics(model, hidden, {wanted}, X, Y)
        assert "\n" not in str(caught.value)
    some = (find_blocks(model)[0], Block({"fc1": ("blocks.1.mlp.fc1",)}))
    reading = read_statistics(model, some, EVERYTHING - {p for p in EVERYTHING if p[0] in ("attn", "heads")}, X, Y)
    assert {slot: len(reading.matrices["act", "data", slot]) for slot in ("qkv", "proj", "fc1", "fc2")} == {
        "qkv": 1, "proj": 1, "fc1": 2, "fc2": 1,
    }  # fmt: skip
    every = sum(evaluate(parse(f"sum(l1(weight[{slot}]))"), reading) for slot in ("qkv", "proj", "fc1", "fc2"))
    assert evaluate(parse("sum(l1(weight))"), reading) == pytest.approx(every)


class Returns(nn.Module):
    """A Vit that wraps what it returns."""

    def __init__(self, wrap: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.vit, self.wrap = Vit(), wrap

    def forward(self, x: Tensor) -> object:
        return self.wrap(self.vit(x))


class Output:
    def __init__(self, logits: Tensor) -> None:
        self.logits = logits


@pytest.mark.parametrize("wrap", [lambda y: (y, 1), Output], ids=["tuple", "logits"])
def test_class_scores_are_found(wrap: Callable[[Tensor], object]) -> None:
    wanted = {("weight_grad", "data"), ("weight_grad", "synflow")}
    assert same(read_vit(Returns(wrap), wanted), read_vit(Vit(), wanted))


BAD_OUTPUTS: dict[str, tuple[Callable[[Tensor], object], str]] = {
    "a list": (lambda y: [y], "the model returns list; class scores (samples × classes) are needed"),
    "one number a sample": (lambda y: y.sum(1), "a tensor of shape (4,) for 4 samples"),
    "a number": (lambda y: y.sum(), "a tensor of shape () for 4 samples"),
    "a map": (lambda y: y[..., None], "a tensor of shape (4, 3, 1) for 4 samples"),
    "no gradient": (lambda y: y.detach(), "no gradient reaches the model's layers"),
}


@pytest.mark.parametrize("case", BAD_OUTPUTS)
def test_outputs_without_class_scores_are_refused(case: str) -> None:
    wrap, message = BAD_OUTPUTS[case]
    with pytest.raises(LayerError) as caught:
        read_vit(Returns(wrap), {("weight_grad", "data")})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    read_vit(Returns(wrap), {("act", "data"), ("attn", "noise"), ("flops", "")})  # these need no class scores


def test_softmax_that_does_not_run_is_named() -> None:
    model = Vit()
    layers = [{"fc1": "blocks.0.mlp.fc1", "softmax": "pair"}]
    model.pair = Returns(lambda y: (y, 1))
    model.forward = lambda x: model.pair(x)[0]  # type: ignore[method-assign]
    with pytest.raises(LayerError, match="layer 'pair' does not run in the model's forward pass"):
        read_statistics(model, find_blocks(model, layers), {("attn", "data")}, X, Y)
