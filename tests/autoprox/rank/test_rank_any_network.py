"""A ranking of networks that somebody else wrote: each with its input size, refused one by one."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.spaces.registry import InputSpec
from autoprox.bench_cache.spaces.timm_networks import TimmArch
from autoprox.primitives import parse
from autoprox.proxy import Proxy
from autoprox.rank.network import Score, formula_scores, score_network
from autoprox.rank.plan import RankError, make_plan, network_setups
from autoprox.rank.scores import _jobs as jobs
from autoprox.rank.scores import collect

NAMES = ("test_vit", "test_vit2", "test_vit3")
BENCHMARK = Benchmark(
    "mine",
    "timm",
    InputSpec(224, 3, 10),
    "made up",
    tuple(TimmArch(name, 160) for name in NAMES),
    {"top": [41.0, 42.0, 57.0]},
    {"params": [4e5, 5e5, 9e5]},
)


class Pooled(nn.Module):
    """A block of poolformer's kind: the tokens are mixed without any weight."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(1, 8), nn.GroupNorm(1, 8)
        self.mixer = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
        self.widen, self.narrow = nn.Conv2d(8, 32, 1), nn.Conv2d(32, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.mixer(y) - y
        return x + self.narrow(nn.functional.gelu(self.widen(self.norm2(x))))


class PoolFormer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blocks, self.head = nn.Conv2d(3, 8, 4, 4), nn.Sequential(Pooled(), Pooled()), nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(images)).mean((2, 3)))


@pytest.mark.parametrize("text", ["sum(fro(weight))", "sum(l1(weight * weight_grad))", "mean(std(act[mlp]))"])
def test_a_network_without_queries_has_the_score_that_a_proxy_gives_it(text: str) -> None:
    """The role `all` is what the blocks have of it."""
    torch.manual_seed(0)
    model, images, targets = PoolFormer(), torch.randn(2, 3, 16, 16), torch.tensor([1, 3])
    score = formula_scores({"it": parse(text)}, model, images, targets, 0)["it"]
    assert score.value == pytest.approx(Proxy.from_formula(text).score(model, images, targets), rel=1e-9)


def test_a_formula_that_reads_what_the_network_lacks_says_so() -> None:
    formulas = {"queries": parse("sum(fro(weight[qkv]))"), "attention": parse("mean(max(attn))")}
    scores = formula_scores(formulas, PoolFormer(), torch.randn(2, 3, 16, 16), torch.tensor([1, 3]), 0)
    assert scores["queries"].value is scores["attention"].value is None
    assert "'qkv'" in scores["queries"].problem
    assert "attention probabilities" in scores["attention"].problem


def test_a_network_that_cannot_be_built_is_a_reason_and_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    (scores,) = score_network(jobs(make_plan(BENCHMARK, proxies=["snip", "nwot"]))[0])
    assert scores["snip"].value is scores["nwot"].value is None
    assert "pip install 'autoprox[timm]'" in scores["nwot"].problem


def test_samples_have_the_size_that_a_network_reads() -> None:
    (setup,) = network_setups(make_plan(BENCHMARK, proxies=["snip"], batch=4))
    assert setup.tensors()[0].shape == setup.tensors(InputSpec(224, 3, 10))[0].shape == (4, 3, 224, 224)
    inputs, targets = setup.tensors(InputSpec(160, 3, 10), seed=0)
    assert inputs.shape == (4, 3, 160, 160)
    assert torch.equal(targets, setup.tensors(InputSpec(160, 3, 10), seed=0)[1])


def test_images_of_another_size_are_no_input() -> None:
    """No Gaussian samples stand in for images that the benchmark has."""
    job = jobs(make_plan(BENCHMARK, proxies=["snip"]))[0]
    (scores,) = score_network(replace(job, setups=(replace(job.setups[0], images=True),)))
    assert scores["snip"] == Score(None, "it reads 160 px, and the benchmark's images have 224 px")


def test_networks_of_timm_are_scored() -> None:
    pytest.importorskip("timm")
    plan = make_plan(BENCHMARK, proxies=["l2-norm", "snip", "depth"])
    (scores,) = score_network(jobs(plan)[0])
    assert all(score.value for score in scores.values()), scores


def test_depth_is_read_from_the_networks_where_the_table_lacks_it(tmp_path: Path) -> None:
    plan = make_plan(BENCHMARK, proxies=["depth", "depth-times-width", "params"])
    assert [proxy.name for proxy in jobs(plan)[0].proxies] == ["depth", "depth-times-width"]
    pytest.importorskip("timm")
    scores = collect(plan, tmp_path / "run").table
    assert scores.scores["top"][scores.proxies.index("depth")].min() >= 1


def test_only_networks_up_to_a_size_are_ranked() -> None:
    assert make_plan(BENCHMARK, max_params=9e5).architectures == (0, 1, 2)
    with pytest.raises(RankError, match="2 architectures with an accuracy; too few"):
        make_plan(BENCHMARK, max_params=5e5)
