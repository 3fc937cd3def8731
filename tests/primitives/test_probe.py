"""Probes: statistics worked out by hand, and a model that is the same afterwards, bit for bit, whatever happened."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from vit_to_probe import EVERYTHING, Attention, Vit, X, Y, read_vit, requirements, same

from autoprox.primitives import Block, LayerError, Reading, evaluate, find_blocks, parse, read_statistics
from autoprox.primitives.probe import OF_BLOCK
from autoprox.primitives.statistics import STATISTICS

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
    wanted = EVERYTHING - {(name, probe) for name, probe in EVERYTHING if name in OF_BLOCK}
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
            assert shapes["attn", probe, "attn"] == shapes["attn_logits", probe, "attn"] == {(rows * 2, 5)}
            if probe != "synflow":
                assert shapes["weight_grad_batches", probe, slot] == {(2 * outs[slot], ins[slot])}
    assert {len(blocks) for blocks in reading.matrices.values()} == {2}
    assert set(reading.matrices) == {
        (name, probe, slot)
        for name, probe in EVERYTHING
        if STATISTICS[name].level == "matrix"
        for slot in (["attn"] if name in OF_BLOCK else outs)
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
    reading = read_statistics(model, some, EVERYTHING - {p for p in EVERYTHING if p[0] in (*OF_BLOCK, "heads")}, X, Y)
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
