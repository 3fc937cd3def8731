"""One network in a ranking: every proxy's score is what it would be alone, and what is shared is computed once."""

import numpy as np
import pytest
import synthetic
import torch
from small_zoo import FORMULAS, SMALL

from autoprox.bench_cache.spaces.registry import get_space
from autoprox.bench_cache.statistics.protocol import rounded
from autoprox.primitives import Formula, parse
from autoprox.primitives.evaluate import reductions
from autoprox.proxy import Proxy
from autoprox.rank import network as rank_network
from autoprox.rank import scores as rank
from autoprox.rank.network import NetworkSetup, formula_scores, function_score, score_network
from autoprox.rank.plan import make_plan, network_setups
from autoprox.zoo import ZOO

BENCHMARK = synthetic.benchmark(8)


def setting() -> NetworkSetup:
    return network_setups(make_plan(BENCHMARK, proxies=["snip"], batch=4))[0]


def test_formulas_scored_together_have_the_scores_that_they_have_alone() -> None:
    inputs, targets = setting().tensors()
    for arch in BENCHMARK.architectures[:3]:
        model = get_space("pit-vb101").build(arch, synthetic.SPEC, 0)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        formulas = {name: parse(text) for name, text in FORMULAS.items()}
        together = formula_scores(formulas, model, inputs, targets, 0)
        for name, formula in formulas.items():
            alone = Proxy(formula).score(model, inputs, targets, seed=0)
            assert together[name].value == rounded(np.array(alone)), name
            assert together[name].problem == ""
            assert formula_scores({name: formula}, model, inputs, targets, 0)[name].value == together[name].value
            assert together[name].seconds > 0
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_probe_runs_once_for_all_formulas(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[set[tuple[str, str]]] = []
    real = rank_network.read_statistics

    def counted(model, blocks, wanted, *rest):  # type: ignore[no-untyped-def]
        runs.append(set(wanted))
        return real(model, blocks, wanted, *rest)

    monkeypatch.setattr(rank_network, "read_statistics", counted)
    inputs, targets = setting().tensors()
    model = get_space("pit-vb101").build(BENCHMARK.architectures[0], synthetic.SPEC, 0)
    texts = ["sum(l1(weight * weight_grad))", "sum(fro(weight_grad))", "mean(std(act))", "sum(fro(weight_grad[noise]))"]
    formula_scores({text: parse(text) for text in texts}, model, inputs, targets, 0)
    probed = [sorted(pairs) for pairs in runs if any(probe for _, probe in pairs)]
    assert probed == [[("act", "data"), ("weight_grad", "data")], [("weight_grad", "noise")]]


def test_what_one_formula_cannot_read_is_no_others_problem() -> None:
    model = get_space("pit-vb101").build(BENCHMARK.architectures[0], synthetic.SPEC, 0)
    inputs, targets = setting().tensors()
    with torch.no_grad():
        dict(model.named_parameters())["stages.0.0.mlp.fc2.weight"][0, 0] = float("nan")
    texts = {
        "good": "sum(fro(weight[msa]))",
        "bad": "sum(fro(weight[fc2]))",
        "odd": "sum(sum(batch_std(weight_grad_batches[qkv])))",
        "sized": "params",
    }
    found = formula_scores({n: parse(t) for n, t in texts.items()}, model, inputs[:3], targets[:3], 0)
    assert found["good"].value is not None
    assert found["sized"].value is not None
    assert (found["bad"].value, found["odd"].value) == (None, None)
    assert "1 of" in found["bad"].problem
    assert "are NaN or infinite" in found["bad"].problem
    assert "halves the batch" in found["odd"].problem


def test_a_number_of_the_layers_that_a_model_does_not_show_is_a_problem() -> None:
    model = get_space("pit-vb101").build(BENCHMARK.architectures[0], synthetic.SPEC, 0)
    for module in model.modules():
        if hasattr(module, "num_heads"):
            del module.num_heads
    inputs, targets = setting().tensors()
    texts = {"heads": "sum(heads[qkv])", "others": "sum(fan_in[qkv]) + params"}
    found = formula_scores({n: parse(t) for n, t in texts.items()}, model, inputs, targets, 0)
    assert found["others"].value is not None
    assert found["heads"].value is None
    assert "does not show its number of heads" in found["heads"].problem


def test_a_reduction_is_computed_once_for_all_formulas(monkeypatch: pytest.MonkeyPatch) -> None:
    reduced: list[Formula] = []
    real = rank_network.reduce_layers

    def noted(parts, reading):  # type: ignore[no-untyped-def]
        reduced.extend(parts)
        return real(parts, reading)

    monkeypatch.setattr(rank_network, "reduce_layers", noted)
    inputs, targets = setting().tensors()
    model = get_space("pit-vb101").build(BENCHMARK.architectures[0], synthetic.SPEC, 0)
    formulas = {text: parse(text) for text in (*FORMULAS.values(), "mean(fro(weight))", "max(fro(weight[msa]))")}
    formula_scores(formulas, model, inputs, targets, 0)
    assert len(reduced) == len(set(reduced))
    assert set(reduced) == set(reductions(formulas.values()))


def test_functions_that_fail_say_why_in_one_line() -> None:
    inputs, targets = setting().tensors()
    problems = set()
    for arch in BENCHMARK.architectures:
        model = get_space("pit-vb101").build(arch, synthetic.SPEC, 0)
        score = function_score(SMALL["fails"], model, inputs, targets, 0)
        assert (score.value is None) == bool(score.problem)
        problems.add(score.problem)
    assert any(problem.endswith("blocks are too many") for problem in problems)
    assert not any("\n" in problem or problem.startswith("fails:") for problem in problems)


def test_a_model_without_blocks_fails_every_formula() -> None:
    found = formula_scores(
        {"a": parse("sum(fro(weight))")}, torch.nn.Linear(2, 2), torch.zeros(2, 2), torch.zeros(2), 0
    )
    assert found["a"].value is None
    assert "found no transformer block" in found["a"].problem


def test_functions_share_and_have_the_scores_that_they_have_alone() -> None:
    names = ("plain-all", "snip-all", "synflow-all", "logsynflow-all", "zico-all", "gradsign", "jacov", "swap", "lswag")
    plan = make_plan(BENCHMARK, proxies=[*names, "lswag-lambda", "nwot"])
    inputs, targets = network_setups(plan)[0].tensors()
    job = rank._jobs(plan)[0]
    together = score_network(job)[0]
    model = get_space("pit-vb101").build(BENCHMARK.architectures[0], synthetic.SPEC, 0)
    for name in names:
        assert together[name].value == rounded(np.array(ZOO[name].score(model, inputs, targets, seed=0))), name
    assert together["snip-all"].seconds > 0.5 * together["plain-all"].seconds  # charged for what was there already
    assert together["lswag"].seconds > together["lswag-lambda"].seconds
