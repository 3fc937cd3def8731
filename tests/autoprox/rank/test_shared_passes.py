"""Shared passes: the whole zoo has the scores that each proxy has alone, and a network runs once for all of them."""

import random
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from tiny_vit import TinyVit, batch
from torch import Tensor, nn

from autoprox.api.scoring_models import score
from autoprox.bench_cache.spaces.registry import InputSpec, get_space
from autoprox.bench_cache.statistics.protocol import rounded
from autoprox.primitives import LayerError, sharing
from autoprox.primitives.passes import Need, Pass, Subject, Wanted, Where
from autoprox.primitives.sharing import met, sharing_results
from autoprox.proxy import named_proxy
from autoprox.rank.network import function_score, model_scores
from autoprox.scoring import Layers
from autoprox.zoo import ZOO

PROXIES = [named_proxy(name) for name, entry in ZOO.items() if entry.training_free]
#: Without L-SWAG, which reads a formula's statistics on the halves.
FUNCTIONS = [p for p in ZOO.values() if p.function is not None and p.training_free and p.name != "lswag"]
Case = tuple[nn.Module, Tensor, Tensor, Layers]


def tiny() -> Case:
    return TinyVit(), batch()[0], torch.tensor([3, 1, 1, 3]), None


def of_space(name: str) -> Case:
    """A small network of a space on two images; of PiT's layers, some depend on having a gradient."""
    spec, space, rng = InputSpec(image_size=48, num_classes=10), get_space(name), random.Random(0)
    arch = min((space.sample(rng) for _ in range(20)), key=lambda arch: space.params(arch, spec))
    model = space.build(arch, spec)
    images = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    return model, images, torch.tensor([3, 1]), space.layers(arch, model)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Counter[Where]:
    """How many shared passes ran on what."""
    ran: Counter[Where] = Counter()

    class Counted(Pass):
        def __init__(self, subject: Subject, where: Where, wanted: Wanted, *, compare: bool = False) -> None:
            ran[where] += 1
            super().__init__(subject, where, wanted, compare=compare)

    monkeypatch.setattr(sharing, "Pass", Counted)
    return ran


@pytest.mark.parametrize(
    "case", [tiny, pytest.param(lambda: of_space("pit-vb101"), marks=pytest.mark.slow)], ids=["tiny", "pit"]
)
def test_the_whole_zoo_has_the_scores_that_each_proxy_has_alone(case: Callable[[], Case]) -> None:
    model, inputs, targets, layers = case()
    together = model_scores(PROXIES, model, inputs, targets, 0, layers)
    for proxy in PROXIES:
        try:
            alone = float(rounded(np.array(proxy.score(model, inputs, targets, layers=layers))))
        except ValueError:
            alone = None
        assert together[proxy.name].value == alone, proxy.name
        assert together[proxy.name].seconds > 0


def test_a_network_runs_once_on_each_batch_and_all_that_is_read_is_declared(passes: Counter[Where]) -> None:
    model, inputs, targets, layers = tiny()
    with sharing_results(Subject(model, inputs, targets, 0)) as shared:
        for proxy in FUNCTIONS:
            shared.expect(proxy.needed(shared.subject, layers))
        for proxy in FUNCTIONS:
            assert function_score(proxy, model, inputs, targets, 0, layers).problem == "", proxy.name
    samples = {Where("data", first, first + 1) for first in range(4)}
    halves = {Where("data", 0, 2), Where("data", 2, 4)}
    whole = {Where("data", 0, 4), Where("noise", 0, 4), Where("synflow", 0, 1)}
    assert set(passes) == samples | halves | whole
    assert max(passes.values()) == 1
    assert shared.unexpected == []
    assert not shared._outcomes


def test_formulas_share_the_passes_of_functions(passes: Counter[Where]) -> None:
    model, inputs, targets, layers = tiny()
    names = ["snip", "zico", "synflow", "attention-entropy", "snip-all", "zico-all", "synflow-all", "head-confidence"]
    model_scores([named_proxy(name) for name in names], model, inputs, targets, 0, layers)
    assert max(passes.values()) == 1
    assert len(passes) == 4


def test_autoprox_score_shares_passes_too(passes: Counter[Where]) -> None:
    proxies = [named_proxy(name) for name in ("snip-all", "nwot", "swap", "head-confidence")]
    together = score(proxies, TinyVit(), image_size=8, progress=False).models[0].scores
    assert list(passes.values()) == [1]
    alone = [score(proxy, TinyVit(), image_size=8, progress=False).models[0].scores[0] for proxy in proxies]
    assert [each.value for each in together] == [each.value for each in alone]


def test_what_one_proxy_cannot_read_is_no_other_s_problem() -> None:
    model, inputs, targets, _ = tiny()
    subject, whole = Subject(model, inputs, targets, 0), Where("data", 0, 4)
    bad = Need("bad", whole, Wanted(("nowhere",)), lambda run: run.seen.outputs["nowhere"])
    torn = Need("torn", whole, Wanted(slopes=(("classes", "parameter", "nothing"),)), lambda run: None)
    good = Need("good", whole, Wanted(), lambda run: run.output)
    with sharing_results(subject) as shared:
        shared.expect([bad, torn, good])
        with pytest.raises(LayerError, match="'nowhere' does not run"):
            met(subject, bad)
        assert met(subject, good).shape == (4, 5)
        other = Subject(model, inputs[:2], targets[:2], 0)
        assert met(other, Need("good", Where("data", 0, 2), Wanted(), good.read)).shape == (2, 5)


def test_a_kernel_that_depends_on_a_gradient_is_noticed() -> None:
    model, inputs, targets, _ = of_space("pit-vb101")
    names = tuple(("classes", "parameter", name) for name, _ in model.named_parameters())
    with sharing.untouched(model):
        run = Pass(Subject(model, inputs, targets, 0), Where("data", 0, 2), Wanted(slopes=names), compare=True)
    assert run.seen.unlike
