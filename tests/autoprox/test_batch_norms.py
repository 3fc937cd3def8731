"""Batch norms: by the batch, networks score as if their norms knew nothing else, and stay as they are."""

import copy
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import synthetic
import torch
from snapshots import Snapshot
from torch import nn

from autoprox import Proxy, resolve, score
from autoprox.bench_cache.spaces.registry import InputSpec, get_space
from autoprox.primitives import LayerError
from autoprox.rank.plan import RankError, make_plan
from autoprox.rank.scores import begin, stored_plan
from autoprox.search.run import SearchPlan, read_plan, start_search
from autoprox.search.strategies import SearchSettings
from autoprox.zoo.tools import ZooError

SPACE, SPEC = get_space("nas-bench-201"), InputSpec(image_size=8, num_classes=4, patch_size=8)
GRADIENT, SYNFLOW = "sum(l1(weight * weight_grad))", "sum(log(l1(weight_grad[synflow])))"


def cell() -> nn.Module:
    return SPACE.build(SPACE.sample(Random(0)), SPEC, 0)


def by_the_batch(model: nn.Module) -> nn.Module:
    """Return a copy whose batch norms know the batch alone."""
    found = copy.deepcopy(model)
    for norm in found.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.track_running_stats, norm.running_mean, norm.running_var = False, None, None
    return found


def samples() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, 3, 8, 8, generator=generator), torch.tensor([0, 1, 2, 3, 0, 1])


@pytest.mark.parametrize(
    "name", [GRADIENT, "sum(std(act))", "snip-all", "nwot", "jacov", "fisher", "zico-all", "grasp"]
)
def test_a_score_by_the_batch_is_that_of_norms_that_know_the_batch_alone(name: str) -> None:
    model, (x, y), proxy = cell(), samples(), resolve(name)
    before = Snapshot(model)
    found = proxy.score(model, x, y, batch_norm="batch")
    before.check(model)
    assert found == proxy.score(by_the_batch(model), x, y)
    assert found != proxy.score(model, x, y) == proxy.score(model, x, y, batch_norm="running")


@pytest.mark.parametrize("name", [SYNFLOW, "synflow-all"])
def test_synflow_keeps_the_running_statistics(name: str) -> None:
    model, (x, y), proxy = cell(), samples(), resolve(name)
    assert proxy.score(model, x, y, batch_norm="batch") == proxy.score(model, x, y)


def test_another_word_is_refused() -> None:
    with pytest.raises(LayerError, match="batch_norm is 'fresh'; it must be running or batch"):
        Proxy.from_formula(GRADIENT).score(cell(), *samples(), batch_norm="fresh")
    with pytest.raises(ZooError, match="must be running or batch"):
        resolve("snip-all").score(cell(), *samples(), batch_norm="fresh")


def test_a_run_says_and_keeps_by_what_batch_norms_normalise(tmp_path: Path) -> None:
    result = score("snip-all", {"cell": cell}, batch_norm="batch", image_size=8, progress=False)
    assert "Batch norms normalised by what they were given" in " ".join(result.ran_on())
    assert result.models[0].scores[0].value != score("snip-all", {"cell": cell}, image_size=8).models[0].scores[0].value
    plan = make_plan(synthetic.benchmark(8), proxies=["snip-all"], batch_norm="batch")
    begin(plan, tmp_path / "rank")
    assert stored_plan(plan.benchmark, tmp_path / "rank").batch_norm == "batch"
    with pytest.raises(RankError, match="another setting: batch_norm is 'batch' there and 'running' here"):
        begin(replace(plan, batch_norm="running"), tmp_path / "rank")
    search = SearchPlan(resolve("snip-all"), SearchSettings(budget=2), "nas-bench-201", SPEC, batch_norm="batch")
    start_search(search, tmp_path / "search")
    assert read_plan(tmp_path / "search") == search
    assert search.batch.batch_norm == "batch"
