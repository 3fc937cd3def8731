"""Networks without transformer blocks: which layers are read, and their scores against values computed by hand."""

import math
from random import Random

import numpy as np
import pytest
import torch
from tiny_vit import TinyVit
from torch import Tensor, nn

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.spaces.registry import InputSpec, get_space
from autoprox.bench_cache.statistics.scorer import network_scorer
from autoprox.primitives import LayerError, parse
from autoprox.primitives.find_blocks.choose import blocks_of
from autoprox.primitives.find_blocks.describe import find_layers
from autoprox.primitives.find_blocks.runs import layer_names
from autoprox.proxy import Proxy, any_proxy
from autoprox.scoring import ProxyError
from autoprox.zoo import ZooError

IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
SPACE = get_space("nas-bench-201")

# --- two networks by hand ---


class Tiny(nn.Module):
    """A convolution of 2 × 2 that sees the whole image, ReLU, and a classifier of two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 1, 2, bias=False), nn.Linear(1, 2, bias=False)
        self.conv.weight.data = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
        self.head.weight.data = torch.tensor([[1.0], [0.0]])

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).relu().flatten(1))


class Grouped(nn.Module):
    """A depth-wise convolution of two channels, and a convolution of size 1 whose mean over 1 × 2 places are scores."""

    def __init__(self) -> None:
        super().__init__()
        self.deep, self.point = nn.Conv2d(2, 2, (1, 2), groups=2, bias=False), nn.Conv2d(2, 2, 1, bias=False)
        self.deep.weight.data = torch.tensor([[[[3.0, 4.0]]], [[[0.0, 2.0]]]])
        self.point.weight.data = torch.tensor([[1.0, -2.0], [0.0, 2.0]])[..., None, None]

    def forward(self, x: Tensor) -> Tensor:
        return self.point(self.deep(x)).mean(dim=(2, 3))


#: The image [[1, 2], [3, 4]] and its negative. The convolution makes 5 of the first, ReLU 0 of the second.
TINY = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[None, None] * torch.tensor([1.0, -1.0])[:, None, None, None]
#: With logits (5, 0) and class 0, the gradient of the logits is (−q, q), q = 1 / (1 + e⁵).
Q = 1 / (1 + math.exp(5))


@pytest.mark.parametrize(
    ("proxy", "expected"),
    [
        ("params", 6),
        ("depth", 2),
        ("l2-norm", math.sqrt(2) + 1),
        ("sum(fan_in)", 4 + 1),
        ("sum(tokens)", 1 + 1),
        ("mean(position)", 0.75),
        # |w ∂L/∂w|: ∂L/∂w = −q x for the convolution, whose ones are at 1 and 4; (−5 q, 5 q) for the classifier.
        ("snip", (1 + 4) * Q + 5 * Q),
        ("sum(l1(weight[conv] * weight_grad[conv]))", (1 + 4) * Q + 5 * Q),
        ("grad-norm", math.sqrt(30) * Q + math.sqrt(50) * Q),
        # On ones, the convolution makes 2: R = 2, and Σ w ∂R/∂w is R for each layer.
        ("synflow", 2 + 2),
        # Channels are summed over places: (5 · −q)² / 2 of the convolution, and the same of the first logit.
        ("fisher", 2 * (5 * Q) ** 2 / 2),
    ],
)
def test_scores_of_one_sample_by_hand(proxy: str, expected: float) -> None:
    found = any_proxy(proxy).score(Tiny(), TINY[:1], torch.tensor([0]))
    assert found == pytest.approx(expected, rel=1e-5)


def test_patterns_by_hand() -> None:
    """The one neuron is on in the first sample only: K is the identity, and there is one pattern."""
    classes = torch.tensor([0, 1])
    assert any_proxy("nwot").score(Tiny(), TINY, classes) == pytest.approx(0.0)
    assert any_proxy("swap").score(Tiny(), TINY, classes) == 1


def test_zico_and_lswag_by_hand() -> None:
    """Two batches of one sample: gradients are g and 0, mean |g| / 2, deviation |g| / 2 over batches.

    The second sample has a ReLU of 0, so that no weight has a gradient there. ZiCo is Σ log of a 1 for each weight with
    a gradient: log 4 + log 2. Λ is Σ log Σ 2 / |g|, and Ψ one pattern.
    """
    classes = torch.tensor([0, 0])
    assert any_proxy("zico").score(Tiny(), TINY, classes) == pytest.approx(math.log(4) + math.log(2), rel=1e-4)
    conv = math.log(sum(2 / (Q * x) for x in (1, 2, 3, 4)))
    head = math.log(2 * 2 / (5 * Q))
    assert any_proxy("lswag").score(Tiny(), TINY, classes) == pytest.approx(conv + head, rel=1e-4)


def test_grouped_convolutions_are_read_as_they_are() -> None:
    model, images = Grouped(), torch.tensor([[[1.0, 0.0, 2.0]], [[0.0, 1.0, 1.0]]])[None]
    assert layer_names(blocks_of(model, images)) == ["deep", "point"]

    def score(text: str) -> float:
        return Proxy.from_formula(text).score(model, images, torch.tensor([0]))

    assert score("sum(fan_in)") == 2 + 2  # of one group: 1 · 1 · 2
    assert score("sum(fro(weight))") == pytest.approx(math.sqrt(9 + 16 + 4) + 3)
    # Depth-wise: (3, 8) of the first channel, (2, 2) of the second. Then (3 − 4, 8 − 4) and (4, 4).
    assert score("sum(l1(act))") == 3 + 8 + 2 + 2 + 1 + 4 + 4 + 4
    assert score("sum(tokens)") == 2 + 2
    # On ones and with |θ|: 7 and 2 at both places, logits 7 + 4 and 4, R = 15.
    assert any_proxy("synflow").score(model, images) == pytest.approx(15 + 15)


# --- which layers are found ---


class Basic(nn.Module):
    """The residual block of a ResNet, with a shortcut of size 1."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        self.down = nn.Conv2d(channels, out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        made = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu_()))
        return nn.functional.relu(made + self.down(x), inplace=True)


class Inverted(nn.Module):
    """The block of a MobileNet: widening, depth-wise, a gate by channel, narrowing."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.widen, self.deep = nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.squeeze, self.excite = nn.Conv2d(hidden, 4, 1), nn.Conv2d(4, hidden, 1)
        self.narrow = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        made = nn.functional.hardswish(self.deep(nn.functional.hardswish(self.widen(x))))
        gate = self.excite(self.squeeze(made.mean(dim=(2, 3), keepdim=True)).relu())
        return x + self.narrow(made * gate.sigmoid())


def resnet() -> nn.Module:
    return nn.Sequential(Basic(3, 8, 1), Basic(8, 8, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


def mobilenet() -> nn.Module:
    between = [nn.Conv2d(8, 24, 1), nn.ReLU(), nn.Conv2d(24, 24, 3, 2, 1, groups=24), nn.ReLU(), nn.Conv2d(24, 12, 1)]
    blocks = [Inverted(8, 16), *between, Inverted(12, 16)]
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 20), nn.Linear(20, 5)
    )


@pytest.mark.parametrize("make", [resnet, mobilenet])
def test_every_convolution_and_linear_is_a_block_in_the_order_in_which_they_run(make) -> None:
    torch.manual_seed(0)
    model, ran = make(), []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda module, args, out, name=name: ran.append(name))
    model(IMAGES)
    found = find_layers(model, IMAGES[:1])
    assert [dict(block.linears) for block in found.blocks] == [{"conv": (name,)} for name in ran[: len(found.blocks)]]
    assert len(found.blocks) == sum(isinstance(module, nn.Conv2d | nn.Linear) for module in model.modules())
    assert not found.left_out
    assert blocks_of(model, IMAGES, eval(found.draft)) == found.blocks  # the draft of a list is such a list


@pytest.mark.parametrize("make", [resnet, mobilenet])
@pytest.mark.parametrize("proxy", ["snip", "synflow", "fisher", "zico", "nwot", "lswag"])
def test_they_are_scored_without_a_line_about_layers(make, proxy: str) -> None:
    torch.manual_seed(0)
    assert math.isfinite(any_proxy(proxy).score(make(), IMAGES, torch.arange(4)))


def test_snip_is_that_of_all_weights() -> None:
    model = resnet()
    one, other = (any_proxy(name).score(model, IMAGES, torch.arange(4)) for name in ("snip", "snip-all"))
    assert one == pytest.approx(other, rel=1e-5)


@pytest.mark.parametrize("role", ["msa", "mlp", "qkv", "fc2"])
def test_a_role_that_a_network_does_not_have_is_refused_by_name(role: str) -> None:
    with pytest.raises(
        LayerError, match=f"weight\\[{role}\\]; the role '{role}' is of transformer blocks, and Sequent"
    ):
        Proxy.from_formula(f"sum(fro(weight[{role}]))").score(resnet(), IMAGES)
    with pytest.raises(LayerError, match="the role 'conv' is of networks without transformer blocks, and TinyVit has"):
        Proxy.from_formula("sum(fro(weight[conv]))").score(TinyVit(), torch.randn(2, 3, 8, 8))


def test_attention_and_width_are_not_there() -> None:
    with pytest.raises(LayerError, match="attn; the role 'attn' is of transformer blocks"):
        Proxy.from_formula("sum(max(attn))").score(resnet(), IMAGES)
    with pytest.raises(LayerError, match="'width', which this model does not show"):
        Proxy.from_formula("width").score(resnet(), IMAGES)
    with pytest.raises(ZooError, match="calls no activation function"):
        any_proxy("nwot").score(Grouped(), torch.randn(2, 2, 1, 3))


def test_a_list_has_either_kind_of_block() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 4))
    with pytest.raises(LayerError, match="'conv' is a layer of a network without transformer blocks, alone in every"):
        blocks_of(model, None, [{"conv": "0"}, {"fc1": "2"}])


# --- the space nas-bench-201 ---


@pytest.mark.parametrize("proxy", ["snip", "snip-all", "fisher"])
def test_edges_that_lead_nowhere_are_a_part_of_the_architecture(proxy: str) -> None:
    """Three of the cell's four convolutions reach node 2 alone, which nothing reads."""
    arch = SPACE.from_json({"operations": ["conv3x3", "conv3x3", "skip", "conv3x3", "conv1x1", "none"]})
    network = SPACE.build(arch, InputSpec(8, 3, 10, 8))
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert any_proxy(proxy).score(network, images, torch.tensor([0, 1])) > 0
    dead = SPACE.build(SPACE.from_json({"operations": ["conv3x3"] * 3 + ["none"] * 3}), InputSpec(8, 3, 10, 8))
    torch.nn.init.zeros_(dead.head.weight)
    with pytest.raises(ProxyError, match=r"these start at 0: head\.weight"):
        any_proxy(proxy).score(dead, images, torch.tensor([0, 1]))


def cells(count: int) -> list:
    found = {SPACE.key(arch): arch for arch in (SPACE.sample(Random(seed)) for seed in range(40))}
    return list(found.values())[:count]


@pytest.mark.parametrize("seed", range(4))
def test_the_space_names_the_layers_that_a_forward_pass_shows(seed: int) -> None:
    arch, spec = SPACE.sample(Random(seed)), InputSpec(8, 3, 10, 8)
    network = SPACE.build(arch, spec)
    blocks = blocks_of(network, torch.randn(2, 3, 8, 8))
    assert blocks == tuple(SPACE.find_blocks(arch, spec, network))
    assert len(blocks) == SPACE.depth(arch)


def test_cached_statistics_give_the_scores_of_the_networks(tmp_path) -> None:
    spec, archs = InputSpec(8, 3, 10, 8), tuple(cells(3))
    benchmark = Benchmark("cells", "nas-bench-201", spec, "tests", archs, {"a": np.arange(3.0)})
    texts = [
        "sum(fro(weight))",
        "sum(l1(weight * weight_grad[noise])) / depth",
        "sum(std(act[conv, noise]) * fan_in[conv])",
    ]
    formulas = [parse(text) for text in texts]
    scorer = network_scorer(benchmark, tmp_path)
    scorer.prepare(formulas, range(3))
    found = scorer.scores(formulas, range(3))
    assert np.isnan(scorer.scores([parse("sum(fro(weight[msa]))"), parse("width")], range(3))).all()
    for row, text in enumerate(texts):
        for column, arch in enumerate(archs):
            network = SPACE.build(arch, spec)
            expected = Proxy.from_formula(text).score(network, torch.zeros(2, 3, 8, 8))
            assert found[row, column] == pytest.approx(expected, rel=1e-6)
