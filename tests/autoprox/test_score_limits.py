"""Limits of numbers: SynFlow beyond float32 is read in float64, and a score where formulas stop is none."""

import pytest
import torch
from exported_files import loaded
from tiny_vit import TinyVit, batch
from torch import nn

from autoprox import Proxy, resolve
from autoprox.export import export
from autoprox.rank.network import model_scores
from autoprox.scoring import ProxyError
from autoprox.search.batch import Batch
from autoprox.search.candidate import Candidate
from autoprox.search.scorer import ArchitectureScorer

SYNFLOW, LAYERS = "sum(l1(weight[fc1] * weight_grad[fc1, synflow]))", [{"fc1": f"{place}"} for place in range(3)]
SATURATED = "params * 1e30"


class Growing(nn.Sequential):
    """Three linears, of which two multiply by `factor`; before the third, features are divided by their sum, or not."""

    def __init__(self, factor: float, divided: bool = False) -> None:
        super().__init__(*(nn.Linear(4, 4, bias=False) for _ in range(3)))
        self.divided = divided
        with torch.no_grad():
            for number, linear in enumerate(self):
                linear.weight.copy_((factor if number < 2 else 1) * (torch.eye(4) + torch.arange(4.0) * 0.1 + number))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self[1](self[0](x).float())  # of a wide pass, this makes float64 too
        return self[2](x / x.sum(-1, keepdim=True) if self.divided else x)


def exact(model: Growing) -> float:
    """Return Σ |W ∂R/∂|W|| of the linears, all in float64."""
    weights = [linear.weight.detach().double().abs().requires_grad_() for linear in model]
    x = torch.ones(1, 4, dtype=torch.float64) @ weights[0].mT @ weights[1].mT
    result = ((x / x.sum() if model.divided else x) @ weights[2].mT).sum()
    return sum(
        float((w.detach() * g).abs().sum()) for w, g in zip(weights, torch.autograd.grad(result, weights), strict=True)
    )


def test_what_float32_cannot_hold_on_the_way_is_read_in_float64() -> None:
    model = Growing(1e20, divided=True)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = Proxy.from_formula(SYNFLOW).score(model, torch.ones(2, 4), layers=LAYERS)
    assert found == pytest.approx(exact(model), rel=1e-6)
    assert torch.get_default_dtype() == torch.float32
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    small = Growing(1e3, divided=True)  # float32 does for it
    assert Proxy.from_formula(SYNFLOW).score(small, torch.ones(2, 4), layers=LAYERS) == pytest.approx(found, rel=1e-5)


def test_statistics_have_one_type_whatever_was_computed_in_float64() -> None:
    """Operations on two matrices, as matmul, would fail on two types."""
    model = Growing(1e20, divided=True)
    for text in ("sum(l1(matmul(weight[fc1], weight_grad[fc1, synflow])))", "sum(l1(gram(weight_grad[fc1, synflow])))"):
        assert Proxy.from_formula(text).score(model, torch.ones(2, 4), layers=LAYERS) > 0


def test_a_score_beyond_formulas_is_refused_and_the_function_has_it() -> None:
    model, x = Growing(1e25), torch.ones(2, 4)
    with pytest.raises(ProxyError, match="above 1e30, where formulas stop; the functions synflow-all"):
        Proxy.from_formula(SYNFLOW).score(model, x, layers=LAYERS)
    with pytest.raises(ProxyError, match="no score: the value is 1e30, where formulas stop; the functions synflow-all"):
        Proxy.from_formula(SYNFLOW).score(Growing(2e14), x, layers=LAYERS)
    found = resolve("synflow-all").score(model, x)
    assert found == pytest.approx(exact(model), rel=1e-6)
    assert found > 1e50


def test_the_same_alone_and_with_others() -> None:
    """Each tensor is read in float64 where float32 does not hold it, whatever else is read of the pass."""
    model, x, y = Growing(1e25), torch.ones(2, 4), torch.tensor([0, 1])
    proxies = [resolve("synflow-all"), resolve("logsynflow-all"), Proxy.from_formula("sum(max(act[fc1, synflow]))")]
    together = model_scores(proxies, model, x, y, 0, LAYERS)
    for proxy in proxies[:2]:
        assert together[proxy.name].value == pytest.approx(proxy.score(model, x, y), rel=1e-11)


@pytest.mark.parametrize("formula", [SATURATED, "sum(l1(weight * 1e30))", "-params * 1e30"])
def test_a_score_where_formulas_stop_is_none_everywhere(formula: str) -> None:
    proxy, model, (x, y) = Proxy.from_formula(formula), TinyVit(), batch()
    with pytest.raises(ProxyError, match="no score: the value is 1e30, where formulas stop"):
        proxy.score(model, x, y)
    found = model_scores([proxy], model, x, y, 0)[proxy.name]
    assert found.value is None
    assert "where formulas stop" in found.problem
    with pytest.raises(Exception, match="where formulas stop"):
        loaded(export(proxy, "python")).score(model, x, y)


def test_a_candidate_of_a_search_without_a_score_says_why() -> None:
    candidate = Candidate({}, "one", 10, 1, 1, 1, 1)
    with ArchitectureScorer(Proxy.from_formula(SATURATED), None, None, Batch()) as scorer:
        (found,) = scorer([candidate])
    assert found.score is None
    assert found.problem == "the value is 1e30, where formulas stop"
