"""The zoo's values: by hand, on networks of small integers."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autoprox.zoo import ZOO, ZooError
from autoprox.zoo import few_step as zoo_few_step
from autoprox.zoo.az_nas import log_rank_sum
from autoprox.zoo.gradients import EPSILON

LN2, LN3 = math.log(2), math.log(3)


def score(name: str, model: nn.Module, inputs: Tensor, targets: Tensor | None = None, seed: int = 0) -> float:
    targets = torch.zeros(len(inputs), dtype=torch.long) if targets is None else targets
    return ZOO[name].score(model, inputs, targets, seed=seed)


def linear(weight: list[list[float]], bias: list[float] | None = None) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight), bias=bias is not None)
    layer.weight.data = torch.tensor(weight)
    if bias is not None:
        layer.bias.data = torch.tensor(bias)
    return layer


# By hand, on z = W2 W1 x with W1 = [[1, 0], [1, -1]] and W2 = [[1, 1], [2, 2]].
#
# At x = (1, 2) the hidden layer is h = (1, -1) and the class scores are z = (0, 0), so the probabilities are 1/2, 1/2.
# With class 0 the loss is ln 2 and its gradient for z is d = (-1/2, 1/2). From that
#   dW2 = d hᵀ = [[-1/2, 1/2], [1/2, -1/2]],
#   for h: W2ᵀ d = (1/2, 1/2), and dW1 = (1/2, 1/2) xᵀ = [[1/2, 1], [1/2, 1]].


def two_layers() -> nn.Sequential:
    return nn.Sequential(linear([[1.0, 0.0], [1.0, -1.0]]), linear([[1.0, 1.0], [2.0, 2.0]]))


X = torch.tensor([[1.0, 2.0]])

BY_HAND = {
    # √(1 + 0 + 1 + 1) + √(1 + 1 + 4 + 4)
    "l2-norm-all": math.sqrt(3) + math.sqrt(10),
    # W1: 1/2 + 0 + 1/2 - 1; W2: -1/2 + 1/2 + 1 - 1
    "plain-all": 0.0,
    # √(1/4 + 1 + 1/4 + 1) + √(4 · 1/4)
    "grad-norm-all": math.sqrt(2.5) + 1.0,
    # W1: 1/2 + 0 + 1/2 + 1; W2: 1/2 + 1/2 + 1 + 1
    "snip-all": 2.0 + 3.0,
    # |W1| = [[1, 0], [1, 1]], ones in: h = (1, 2), out (3, 6), R = 9. dW2 has rows (1, 2), dW1 rows of the column
    # sums (3, 3) of W2. Both layers give Σ |W| dW = 9.
    "synflow-all": 9.0 + 9.0,
    # W1: three ones · ln(3 + 1); W2: column of 1 and 2 · ln(1 + 1), the same · ln(2 + 1)
    "logsynflow-all": 3 * 2 * LN2 + 3 * LN2 + 3 * LN3,
}


@pytest.mark.parametrize("name", BY_HAND)
def test_two_layers_by_hand(name: str) -> None:
    assert score(name, two_layers(), X) == pytest.approx(BY_HAND[name], rel=1e-6, abs=1e-7)


def test_gradsign_by_hand() -> None:
    """All eight gradients are nonzero: two equal samples add up to 2 each, and the other class undoes its twin."""
    twice = X.repeat(2, 1)
    assert score("gradsign", two_layers(), twice) == 8 * 2
    assert score("gradsign", two_layers(), twice, torch.tensor([0, 1])) == 0


def test_zico_by_hand() -> None:
    """The second half's x is twice the first's, z stays 0, and so all its gradients are twice as large: g and 2g have
    the mean 3|g|/2 and the deviation |g|/2, a ratio of 3 for each of four weights in each of two layers."""
    inputs = torch.cat([X, 2 * X])
    assert score("zico-all", two_layers(), inputs) == pytest.approx(2 * math.log(4 * 3), rel=1e-6)
    assert score("zico-all", two_layers(), X.repeat(2, 1)) == 0.0  # nothing varies: no layer counts


def test_sigeo_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a warm-up: ‖∇L‖² = 5/2 + 1 for each of two equal samples, L = ln 2. A step of rate 1/10 changes it."""
    monkeypatch.setattr(zoo_few_step, "WARMUP_STEPS", 0)
    twice = X.repeat(2, 1)
    assert score("sigeo", two_layers(), twice) == pytest.approx(math.log(3.5) - LN2, rel=1e-6)
    monkeypatch.setattr(zoo_few_step, "WARMUP_STEPS", 1)
    monkeypatch.setattr(zoo_few_step, "WARMUP_RATE", 0.1)
    # W1 = [[.95, -.1], [.95, -1.1]], W2 = [[1.05, .95], [1.95, 2.05]]; h = (.75, -1.25); z = (-.4, -1.1).
    p = 1 / (1 + math.exp(-0.7))  # of class 0
    d, h = np.array([p - 1, 1 - p]), np.array([0.75, -1.25])
    back = np.array([[1.05, 0.95], [1.95, 2.05]]).T @ d
    squared = (d @ d) * (h @ h) + (back @ back) * 5
    assert score("sigeo", two_layers(), twice) == pytest.approx(math.log(squared) + math.log(p), rel=1e-5)


def test_grasp_by_hand() -> None:
    """z = (1, 3) x + (2, 0) at x = 1 is (3, 3): g = (-1/2, 1/2), H = [[1/4, -1/4], [-1/4, 1/4]], H g = (-1/4, 1/4),
    and the score is -(1 · -1/4 + 3 · 1/4) = -1/2. The bias is no weight."""
    assert score("grasp", nn.Sequential(linear([[1.0], [3.0]], [2.0, 0.0])), torch.ones(1, 1)) == pytest.approx(-0.5)


def test_ntk_by_hand() -> None:
    """The gradient of z1 + z2 = Σ_k W_k x is x in each of two rows: for x = (1, 0) and (1, 1) the kernel is twice
    [[1, 1], [1, 2]], whose eigenvalues are in the ratio (3 + √5) : (3 - √5)."""
    inputs = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    expected = -(3 + math.sqrt(5)) / (3 - math.sqrt(5))
    assert score("te-nas-ntk", nn.Sequential(linear([[5.0, 7.0], [1.0, 2.0]])), inputs) == pytest.approx(expected)
    with pytest.raises(ZooError, match=r"te-nas-ntk: .* singular"):
        score("te-nas-ntk", nn.Sequential(linear([[5.0, 7.0]])), X.repeat(2, 1))


class Squares(nn.Module):
    """Two class scores of x: Σ x² and 0. The gradient of their sum is 2x."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x.square().sum(1), 0 * x.sum(1)], 1)


def test_input_gradients_by_hand() -> None:
    """2x for x = (1, 0, -1), (1, -2, 1) and (2, 0, -2): the first two have correlation 0, the first and third 1.

    Two orthogonal samples: both eigenvalues 1. Two parallel ones: 0 and 2.
    """
    rows = torch.tensor([[1.0, 0.0, -1.0], [1.0, -2.0, 1.0], [2.0, 0.0, -2.0]])
    e = EPSILON
    assert score("jacov", Squares(), rows[:2]) == pytest.approx(-2 * (math.log(1 + e) + 1 / (1 + e)))
    parallel = -(math.log(e) + 1 / e) - (math.log(2 + e) + 1 / (2 + e))
    assert score("jacov", Squares(), rows[[0, 2]]) == pytest.approx(parallel, rel=1e-6)
    # One class: four correlations 1, 0, 0, 1. Two classes of two: four times 0, and once more four entries 1.
    orthogonal = 2 * math.log(1 + e) + 2 * math.log(e)
    assert score("epe-nas", Squares(), rows[:2]) == pytest.approx(-orthogonal, rel=1e-6)
    both = score("epe-nas", Squares(), rows[[0, 1, 0, 2]], torch.tensor([0, 0, 1, 1]))
    assert both == pytest.approx(-orthogonal + 4 * math.log(1 + e), rel=1e-6)
    with pytest.raises(ZooError, match="epe-nas: needs two samples in each of at least 1 classes"):
        score("epe-nas", Squares(), rows[:2], torch.tensor([0, 1]))
    with pytest.raises(ZooError, match=r"jacov: .* constant"):
        score("jacov", Squares(), torch.ones(2, 3))


class ManyClasses(Squares):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(super().forward(x), (0, 99))


def test_epe_nas_beyond_a_hundred_classes_by_hand() -> None:
    """s = 2 log(1 + ε) + 2 log ε in one class and 4 log(1 + ε) in the other: 2 |difference| / 2 classes."""
    rows = torch.tensor([[1.0, 0.0, -1.0], [1.0, -2.0, 1.0], [1.0, 0.0, -1.0], [2.0, 0.0, -2.0]])
    found = score("epe-nas", ManyClasses(), rows, torch.tensor([100, 100, 7, 7]))
    assert found == pytest.approx(2 * math.log(1 + EPSILON) - 2 * math.log(EPSILON), rel=1e-6)
    with pytest.raises(ZooError, match="at least 2 classes"):
        score("epe-nas", ManyClasses(), rows[:2], torch.tensor([100, 100]))


# By hand, on blocks whose linears are given: qkv and proj run beside the stream, fc1, a GELU and fc2 in it.


class Side(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.proj = linear(torch.eye(width).tolist()), linear(torch.eye(width).tolist())


class Middle(nn.Module):
    def __init__(self, fc1: nn.Linear, fc2: nn.Linear) -> None:
        super().__init__()
        self.fc1, self.fc2 = fc1, fc2


class Plain(nn.Module):
    def __init__(self, fc1: list[list[float]], fc2: list[list[float]]) -> None:
        super().__init__()
        self.attn, self.mlp = Side(len(fc1[0])), Middle(linear(fc1), linear(fc2))

    def forward(self, x: Tensor) -> Tensor:
        side = self.attn.proj(self.attn.qkv(x))
        return self.mlp.fc2(nn.functional.gelu(self.mlp.fc1(x))) + 0 * side


class Chain(nn.Module):
    """Samples × tokens × width through the blocks; class scores are the sums of the first two features."""

    def __init__(self, *blocks: Plain) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x).sum(1)[:, :2]


EYE = torch.eye(4).tolist()
#: Two samples of one token: the four neurons of fc1 are on in both, in the first, in the second, in none.
CODES = torch.tensor([[[1.0, 2.0, -1.0, -3.0]], [[3.0, -1.0, 1.0, -1.0]]])
MINUS = (-torch.eye(4)).tolist()


def test_patterns_by_hand() -> None:
    """The patterns are 11, 10, 01 and 00. A second block sees what the GELU passes on, times -1: a large positive
    input becomes negative, a negative one slightly positive, so that it shows the same four, in another order."""
    one, two = Chain(Plain(EYE, MINUS)), Chain(Plain(EYE, MINUS), Plain(EYE, EYE))
    assert score("swap", one, CODES) == score("swap-layers", one, CODES) == 4
    assert score("swap", two, CODES) == score("lswag-psi", two, CODES) == 4
    assert score("swap-layers", two, CODES) == 8
    assert score("swap", one, CODES[[0, 0]]) == 2  # only 11 and 00


def test_nwot_by_hand() -> None:
    """Codes 1100 and 1010 agree in two of four: K = [[4, 2], [2, 4]], det 12. The second block doubles K, det 48."""
    one, two = Chain(Plain(EYE, MINUS)), Chain(Plain(EYE, MINUS), Plain(EYE, EYE))
    assert score("nwot", one, CODES) == pytest.approx(math.log(12))
    assert score("nwot-layers", one, CODES) == pytest.approx(math.log(12))
    assert score("nwot", two, CODES) == pytest.approx(math.log(48))
    assert score("nwot-layers", two, CODES) == pytest.approx(2 * math.log(12))


def test_nwot_of_identical_samples_is_singular_and_handled() -> None:
    with pytest.raises(ZooError, match="nwot: the kernel of agreements is singular"):
        score("nwot", Chain(Plain(EYE, EYE)), CODES[[0, 0]])
    value = score("nwot-layers", Chain(Plain(EYE, EYE)), CODES[[0, 0]])  # [[4, 4], [4, 4]]: 8 and 0
    assert value == pytest.approx(math.log(8) + math.log(1e-30))


def test_entropic_by_hand() -> None:
    """The neurons are on in 2, 1, 1 and 0 of two samples: entropies 0, ln 2, ln 2 and 0."""
    assert score("entropic", Chain(Plain(EYE, EYE)), CODES) == pytest.approx(LN2 / 2)


def test_eznas_by_hand() -> None:
    """Two linears of each side take x, proj takes qkv's output, which is x, and fc2 takes GELU(x)."""
    x = torch.randn(CODES.shape, generator=torch.Generator().manual_seed(3))
    expected = (3 * x.square().sum() + nn.functional.gelu(x).square().sum()) / 4
    assert score("eznas", Chain(Plain(EYE, EYE)), CODES, seed=3) == pytest.approx(float(expected))


def test_meco_by_hand() -> None:
    """Two channels have eigenvalues 1 ± ρ, so that each layer gives 1 - |ρ| with both channels read."""
    x = torch.randn(1, 6, 2, generator=torch.Generator().manual_seed(5))
    model = Chain(Plain([[1.0, 0.0], [2.0, -1.0]], [[1.0, 1.0], [0.0, 1.0]]))
    hidden = x[0] @ torch.tensor([[1.0, 2.0], [0.0, -1.0]])
    passed = nn.functional.gelu(hidden) @ torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    correlations = [abs(np.corrcoef(rows.T.double().numpy())[0, 1]) for rows in (x[0], x[0], hidden, passed)]
    found = score("meco", model, torch.zeros(3, 6, 2), seed=5)
    assert found == pytest.approx(sum(1 - rho for rho in correlations), rel=1e-5)
    with pytest.raises(ZooError, match="three tokens"):
        score("meco", model, torch.zeros(3, 2, 2))


def test_meco_reads_channels_not_tokens() -> None:
    """A channel twice in a layer makes its correlations singular; a token twice would not."""
    twice = Chain(Plain([[1.0, 2.0], [1.0, 2.0]], [[1.0, 0.0], [0.0, 1.0]]))
    once = Chain(Plain([[1.0, 2.0], [1.0, -2.0]], [[1.0, 0.0], [0.0, 1.0]]))
    images = torch.zeros(1, 6, 2)
    rho = np.corrcoef(torch.randn(1, 6, 2, generator=torch.Generator().manual_seed(0))[0].T.numpy())[0, 1]
    assert score("meco", twice, images) == pytest.approx(2 * (1 - abs(rho)), rel=1e-5)  # qkv and proj alone
    assert score("meco", once, images) > score("meco", twice, images)


def test_zen_of_a_linear_network_by_hand() -> None:
    """f(x) - f(x + ε/100) is -W ε / 100."""
    weight = [[1.0, 2.0], [0.0, -3.0]]
    noise = torch.randn(3, 2, generator=torch.Generator().manual_seed(1))
    expected = math.log(float((noise @ torch.tensor(weight).T).abs().mean()) / 100)
    assert score("zen", nn.Sequential(linear(weight)), torch.zeros(3, 2)) == pytest.approx(expected, rel=1e-4)
    with pytest.raises(ZooError, match="zen: the network gives the same"):
        score("zen", nn.Sequential(linear([[0.0, 0.0]])), torch.zeros(3, 2))


def test_log_rank_sum_by_hand() -> None:
    """Ranks 1, 2, 3 and 3, 1.5, 1.5 of three; then one network that the second proxy has no score for."""
    found = log_rank_sum([[0.1, 5.0, 9.0], [7.0, 2.0, 2.0]])
    assert found == pytest.approx([math.log(1 / 3), math.log(2 / 3) + math.log(1.5 / 3), math.log(1.5 / 3)])
    found = log_rank_sum([[0.1, 5.0, 9.0], [7.0, math.nan, 2.0]])
    assert np.isnan(found[1])
    assert found[[0, 2]] == pytest.approx([math.log(1 / 3), math.log(1 / 2)])
    with pytest.raises(ZooError, match="one length"):
        log_rank_sum([[1.0], [1.0, 2.0]])
