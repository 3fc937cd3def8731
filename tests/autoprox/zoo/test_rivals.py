"""Info-NAS, InTrain, IBFS and W-PCA: equal to a plain implementation, by hand, and to figures of their authors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from public_files import reference
from scipy.stats import kendalltau
from tiny_vit import TinyVit, batch
from torch import Tensor, nn
from zoo_references import REFERENCES

from autoprox.bench_cache.benchmarks.readers import read_benchmark
from autoprox.zoo import ZOO, ZooError
from autoprox.zoo.info_nas import DEVIATIONS, BlockSizes, block_sizes, information, standardised_scores
from autoprox.zoo.intrain import gradient_health, participation_ratio
from autoprox.zoo.w_pca import principal_components

RIVALS = ("info-nas", "intrain", "ibfs", "w-pca")
ROWS = torch.randn(30, 4, generator=torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize("name", RIVALS)
@pytest.mark.parametrize("depth", [2, 5])
def test_scores_equal_a_plain_implementation(name: str, depth: int) -> None:
    model = TinyVit(seed=4, depth=depth)
    assert ZOO[name].score(model, *batch()) == pytest.approx(REFERENCES[name](model), rel=1e-5)


# --- Info-NAS ---


def test_info_nas_reads_sizes_and_runs_nothing() -> None:
    model = TinyVit(depth=3, width=8, heads=2, hidden=20)
    assert block_sizes(model, torch.empty(0)) == [BlockSizes(8, 2, 2.5)] * 3
    for parameter in model.parameters():
        parameter.data.fill_(torch.nan)
    assert ZOO["info-nas"].score(model) == ZOO["info-nas"].score(TinyVit(depth=3, width=8, heads=2, hidden=20))


def test_info_nas_of_equal_blocks() -> None:
    """Equal blocks differ in the information that reaches them, 2^(12 − 2/(17 − i)): squared, it is in the flow."""
    block = BlockSizes(192, 3, 4.0)
    flow = np.array([2 ** (24 - 4 / (17 - i)) for i in range(4)])
    capacity, gradient, consistency = information([block] * 4)
    used = capacity / np.sqrt(flow).sum()
    assert gradient == pytest.approx(used * (flow[0] - flow[2] + flow[1] - flow[3]))
    assert consistency == pytest.approx(used * (3 * flow[0] + flow[1] - flow[2] - 3 * flow[3]))


def test_info_nas_needs_heads() -> None:
    model = TinyVit()
    del model.blocks[1].attn.num_heads
    with pytest.raises(ZooError, match="info-nas: block 1 shows no number of heads"):
        ZOO["info-nas"].score(model)


def oracle(path: str, space: str) -> tuple[list[list[BlockSizes]], dict[str, np.ndarray]]:
    benchmark = read_benchmark(reference(*path.split("/")))
    assert benchmark.space == space
    sizes = [
        [BlockSizes(a.embed_dim, h, r) for h, r in zip(a.num_heads, a.mlp_ratio, strict=True)]
        for a in benchmark.architectures
    ]
    return sizes, dict(benchmark.tasks)


@pytest.mark.parametrize(
    ("path", "space", "task", "tau"),
    [
        ("ood-vit-nas/tiny.json", "autoformer-tiny", "imagenet", 0.655),
        ("ood-vit-nas/small.json", "autoformer-small", "imagenet", 0.783),
        ("vit-bench-101/gt_autoformer.pth", "autoformer-vb101", "c100_kd", 0.603),
        ("vit-bench-101/gt_autoformer.pth", "autoformer-vb101", "flower_kd", 0.672),
        ("vit-bench-101/gt_autoformer.pth", "autoformer-vb101", "chaoyang_kd", 0.272),
    ],
)
def test_info_nas_has_the_tau_of_the_authors_code(path: str, space: str, task: str, tau: float) -> None:
    networks, accuracies = oracle(path, space)
    there = ~np.isnan(accuracies[task])
    scores = standardised_scores([sizes for sizes, known in zip(networks, there, strict=True) if known])
    assert round(kendalltau(scores, accuracies[task][there]).statistic, 3) == tau


def test_info_nas_deviations_are_those_of_ood_tiny() -> None:
    networks, _ = oracle("ood-vit-nas/tiny.json", "autoformer-tiny")
    parts = np.array([information(blocks) for blocks in networks])
    assert parts.std(0) == pytest.approx(DEVIATIONS, rel=1e-8)


# --- InTrain ---


def test_participation_ratio_by_hand() -> None:
    equal = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])  # two directions of variance 1/2
    assert participation_ratio(equal) == pytest.approx(2)
    assert participation_ratio(equal * torch.tensor([1.0, 0, 0])) == pytest.approx(1)
    assert participation_ratio(equal * torch.tensor([3.0, 1, 0])) == pytest.approx((9 + 1) ** 2 / (81 + 1))
    with pytest.raises(ZooError, match="all tokens are alike"):
        participation_ratio(torch.ones(3, 2))


def test_participation_ratio_is_the_exponential_of_the_spectrum_s_renyi_entropy() -> None:
    for rows in (ROWS, ROWS.T):  # more rows than columns, and fewer
        values = np.linalg.eigvalsh(np.cov(rows.T.numpy(), bias=True))
        shares = values / values.sum()
        assert participation_ratio(rows) == pytest.approx(math.exp(-math.log((shares**2).sum())), rel=1e-6)


def test_gradient_health_by_hand() -> None:
    """A sign pattern is as healthy as can be; one entry of n has √(n − 1)/n; equal entries and no gradient give 0."""
    signs, one, equal = torch.tensor([1.0, -1, 1, -1]), torch.tensor([5.0, 0, 0, 0]), torch.ones(3)
    assert gradient_health([signs]) == pytest.approx(1)
    assert gradient_health([one]) == pytest.approx(math.sqrt(3) / 4)
    assert gradient_health([signs, one, equal, torch.zeros(2), torch.ones(1)]) == pytest.approx(1 + math.sqrt(3) / 4)


# --- IBFS ---


class Linear(nn.Module):
    """Σ of outputs w · x, so that a sample's gradient is the sample itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def test_ibfs_by_hand() -> None:
    """Three orthogonal samples of squared lengths 1, 1 and 2: the shares are 1/4, 1/4 and 1/2."""
    inputs = torch.diag(torch.tensor([1.0, 1.0, math.sqrt(2)]))
    targets = torch.zeros(3, dtype=torch.long)
    assert ZOO["ibfs"].score(Linear(), inputs, targets) == pytest.approx(1.5 * math.log(2))
    assert ZOO["ibfs"].score(Linear(), torch.eye(3), targets) == pytest.approx(math.log(3))
    with pytest.raises(ZooError, match="ibfs: needs at least 2 samples, not 1"):
        ZOO["ibfs"].score(Linear(), inputs[:1], targets[:1])


def test_ibfs_of_two_samples_ranks_as_the_tangent_kernel_does() -> None:
    scores = [[ZOO[name].score(TinyVit(seed=s), *batch(2)) for s in range(6)] for name in ("ibfs", "te-nas-ntk")]
    assert kendalltau(*scores).statistic == pytest.approx(1)


# --- W-PCA ---


def test_principal_components_by_hand() -> None:
    """Variances 90, 9 and 1 of 100: two have 99 %, which is not more than 99 %."""
    axes = torch.diag(torch.tensor([90.0, 9, 1]).sqrt()).double()
    rows = torch.cat([axes, -axes])
    assert principal_components(rows) == 3
    assert principal_components(rows * torch.tensor([1, 1.1, 1])) == 2
    assert principal_components(rows[:, :1]) == 1
    with pytest.raises(ZooError, match="all tokens are alike"):
        principal_components(torch.ones(3, 2))


def test_principal_components_are_at_most_the_rows() -> None:
    assert principal_components(ROWS) == 4
    assert principal_components(ROWS.T) == 3  # four rows vary in three directions around their mean
