"""Proxy: scores are the formulas' values, models stay as they were, files and names resolve or say why not."""

import gc
import math
import random
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from error_lines import one_line
from snapshots import Snapshot
from tiny_vit import TinyVit, batch
from torch import Tensor, nn
from zoo_references import REFERENCES, linears, with_gradients

from autoprox.bench_cache.spaces.registry import InputSpec, get_space
from autoprox.primitives import OPERATIONS, LayerError, Operation
from autoprox.proxy import Proxy, ProxyError, resolve
from autoprox.zoo import ZOO

FORMULAS = [name for name, proxy in ZOO.items() if proxy.formula]


@pytest.mark.parametrize("name", FORMULAS)
def test_shipped_proxies_are_what_they_are_called(name: str) -> None:
    model = TinyVit(seed=3)
    if name == "logsynflow":  # all gradients positive, so that the published formula is defined
        model.blocks.requires_grad_(True)
        model = _positive_gradients(model)
    assert resolve(name).score(model, *batch()) == pytest.approx(REFERENCES[name](model), rel=1e-5)


def _positive_gradients(model: TinyVit) -> TinyVit:
    """The same network scaled until no gradient of the SynFlow loss is below −1."""
    for layer in linears(model):
        layer.weight.data.mul_(0.1)
    assert all(bool((layer.weight.grad > -1).all()) for layer in linears(with_gradients(model, "synflow")))
    return model


@pytest.mark.parametrize("shipped", [ZOO[name] for name in FORMULAS], ids=FORMULAS)
def test_shipped_records_are_complete(shipped) -> None:
    proxy = resolve(shipped.name)
    assert proxy.name == shipped.name
    assert proxy.formula.text == shipped.formula
    assert proxy.provenance == {"source": shipped.source, "note": shipped.note}
    with pytest.raises(TypeError):
        ZOO["new"] = shipped  # type: ignore[index]


def test_score_works_on_our_spaces() -> None:
    space, spec = get_space("autoformer-tiny"), InputSpec(image_size=32, num_classes=10)
    arch = space.sample(random.Random(0))
    model = space.build(arch, spec)
    inputs = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert resolve("params").score(model) == space.params(arch, spec)
    assert resolve("depth").score(model) == space.depth(arch)
    assert resolve("width").score(model) == space.width(arch)
    assert resolve("flops").score(model, inputs) == pytest.approx(space.flops(arch, spec), rel=0.01)
    assert resolve("auto-prox").score(model, inputs, torch.tensor([3, 9])) > 0


def test_a_formula_of_weights_runs_no_forward_pass() -> None:
    model = TinyVit()
    expected = resolve("l2-norm").score(model)
    model.forward = _never  # type: ignore[method-assign]
    assert resolve("l2-norm").score(model) == expected
    assert resolve("l2-norm").score(model, *batch()) == expected
    with pytest.raises(LayerError, match="ran"):
        resolve("snip").score(model, *batch())
    with pytest.raises(LayerError, match="batch of inputs"):
        resolve("snip").score(TinyVit())


def _never(x: Tensor) -> Tensor:
    raise AssertionError("the network ran")


def test_score_depends_on_the_seed_only_without_targets() -> None:
    proxy, (inputs, targets) = resolve("snip"), batch()
    assert proxy.score(TinyVit(), inputs, targets, seed=1) == proxy.score(TinyVit(), inputs, targets, seed=2)
    scores = [proxy.score(TinyVit(), inputs, seed=seed) for seed in (1, 2, 1)]
    assert scores[0] == scores[2] != scores[1]
    assert proxy.score(TinyVit(), inputs, targets.int()) == proxy.score(TinyVit(), inputs, targets)


@pytest.mark.parametrize("name", FORMULAS)
def test_score_leaves_the_model_as_it_was(name: str) -> None:
    model = TinyVit()
    model.blocks[0].eval()
    model.head.requires_grad_(False)
    model.patch.weight.grad = torch.ones_like(model.patch.weight)
    before = Snapshot(model)
    resolve(name).score(model, *batch())
    before.check(model)
    model.blocks[1].mlp.act = nn.Identity()
    model.blocks[1].mlp.forward = _never  # type: ignore[method-assign]
    before = Snapshot(model)
    if any(probe for _, probe, _ in resolve(name).reads):
        with pytest.raises(LayerError, match="ran"):
            resolve(name).score(model, *batch())
    before.check(model)


def test_a_statistic_that_is_not_finite_is_an_error_that_names_it() -> None:
    model = TinyVit()
    model.blocks[1].mlp.fc2.weight.data[0, :2] = torch.tensor([math.nan, math.inf])
    with pytest.raises(ProxyError) as caught:
        resolve("l2-norm").score(model)
    assert "2 of 54 entries of 'weight' of blocks.1.mlp.fc2" in one_line(caught.value)
    assert resolve("params").score(model) > 0  # does not read it
    assert Proxy.from_formula("sum(fro(weight[msa]))").score(model) > 0
    inputs, targets = batch()
    inputs[0, 0, 0, 0] = math.inf
    with pytest.raises(ProxyError, match=r"entries of 'act' of blocks\.0\.attn\.qkv"):
        Proxy.from_formula("sum(fro(act))").score(TinyVit(), inputs, targets)
    with pytest.raises(ProxyError, match=r"entries of 'attn' of blocks\.0\.attn\.softmax"):
        Proxy.from_formula("sum(fro(attn))").score(TinyVit(), inputs, targets)


def test_a_score_that_is_not_finite_is_an_error() -> None:
    def bad(x: Tensor) -> Tensor:  # total on all that registration tries
        return (x.sum((-2, -1)) / 0) if x.shape[-2:].numel() == 54 else x.clamp(-1, 1).mean((-2, -1))

    operations = OPERATIONS.extended(Operation("bad", "reduce", bad, "{0}"))
    with pytest.raises(ProxyError, match="is not total"):
        Proxy.from_formula("sum(bad(weight))", operations=operations).score(TinyVit())


@pytest.mark.parametrize("text", ["sum(mine(weight))", "mine(mean(fan_in))", "sum(mine(weight) * fro(weight))"])
def test_a_redefined_operation_gives_its_own_score(text: str) -> None:
    scores = []
    for value in (1.0, 2.0, 1.0):

        def mine(x: Tensor, value: float = value) -> Tensor:
            return torch.full_like(x[..., 0, 0], value)

        family = "aggregate" if text.startswith("mine") else "reduce"
        operations = OPERATIONS.extended(Operation("mine", family, mine, "{0}"))
        text_of_layers = text.replace("mean(fan_in)", "fan_in")
        scores.append(Proxy.from_formula(text_of_layers, operations=operations).score(TinyVit()))
    assert scores[1] == pytest.approx(2 * scores[0])
    assert scores[2] == scores[0] > 0


def test_what_the_model_lacks_is_a_layer_error() -> None:
    named = [{"qkv": f"blocks.{i}.attn.qkv", "fc1": f"blocks.{i}.mlp.fc1"} for i in range(2)]
    model = TinyVit()
    assert Proxy.from_formula("sum(fro(weight[qkv]))").score(model, layers=named) > 0
    for text in ("sum(fro(weight))", "sum(fan_in[proj])", "sum(l1(act[mlp]))", "sum(heads[fc1])", "sum(fro(attn))"):
        with pytest.raises(LayerError) as caught:
            Proxy.from_formula(text).score(model, *batch(), layers=named)
        one_line(caught.value)
    with pytest.raises(LayerError, match="'width'"):
        Proxy.from_formula("width").score(model, layers=[{"fc1": "blocks.0.mlp.fc1"}], partial=True)
    with pytest.raises(LayerError, match="found no transformer block"):
        resolve("params").score(nn.Linear(2, 2))


def test_layers_can_be_named_by_the_user() -> None:
    model = TinyVit(seed=5)
    renamed = nn.Module()
    renamed.stages = nn.ModuleList(nn.Module() for _ in model.blocks)
    named = []
    for number, block in enumerate(model.blocks):
        stage = renamed.stages[number]
        for name in ("query", "key", "value"):
            stage.add_module(name, nn.Linear(6, 6))
        for part, name in zip(block.attn.qkv.weight.chunk(3), ("query", "key", "value"), strict=True):
            stage.get_submodule(name).weight.data = part.data
        stage.out, stage.up, stage.down = block.attn.proj, block.mlp.fc1, block.mlp.fc2
        names = {"qkv": ["query", "key", "value"], "proj": "out", "fc1": "up", "fc2": "down"}
        named.append({k: [f"stages.{number}.{n}" for n in np.atleast_1d(v)] for k, v in names.items()})
    proxy = Proxy.from_formula("sum(nuclear(weight)) + mean(fan_out) / sum(position[fc1])")
    assert proxy.score(renamed, layers=named) == proxy.score(model)


@pytest.mark.parametrize(
    ("inputs", "targets", "says"),
    [
        (np.zeros((2, 3, 8, 8)), None, "tensor"),
        (torch.zeros(0, 3, 8, 8), None, "sample"),
        (torch.zeros(2, 3, 8, 8), torch.tensor([1]), "targets"),
        (torch.zeros(2, 3, 8, 8), torch.tensor([0.5, 0.5]), "targets"),
        (torch.zeros(2, 3, 8, 8), [1, 2], "targets"),
        (torch.zeros(2, 3, 8, 8), torch.tensor([0, 5]), "targets"),
    ],
)
def test_a_batch_that_is_none_is_refused(inputs: object, targets: object, says: str) -> None:
    with pytest.raises((ProxyError, LayerError), match=says) as caught:
        resolve("snip").score(TinyVit(), inputs, targets)  # type: ignore[arg-type]
    one_line(caught.value)


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ProxyError, match=r"a torch\.nn\.Module, not a str"):
        resolve("params").score("model")  # type: ignore[arg-type]


# Ranking


def test_rank_puts_the_best_first_and_keeps_the_order_of_equals() -> None:
    models = [TinyVit(depth=1), TinyVit(depth=3), TinyVit(depth=1, seed=1), TinyVit(depth=2)]
    assert resolve("depth").rank(models) == [(1, 3.0), (3, 2.0), (0, 1.0), (2, 1.0)]
    named = dict(zip("wxyz", models, strict=True))
    assert resolve("depth").rank(named) == [("x", 3.0), ("z", 2.0), ("w", 1.0), ("y", 1.0)]
    assert resolve("snip").rank([lambda: models[0]], *batch(), seed=4) == resolve("snip").rank([models[0]], *batch())
    assert resolve("depth").rank([]) == []


@pytest.mark.slow
def test_rank_keeps_one_built_model_at_a_time() -> None:
    alive: list[weakref.ref] = []
    most = 0

    def build() -> TinyVit:
        nonlocal most
        model = TinyVit()
        alive.append(weakref.ref(model))
        gc.collect()
        most = max(most, sum(ref() is not None for ref in alive))
        return model

    assert len(resolve("l2-norm").rank(dict.fromkeys(range(4), build))) == 4
    assert most == 1

    def models() -> Iterator[TinyVit]:
        for _ in range(4):
            yield build()

    alive.clear()
    assert len(resolve("l2-norm").rank(models())) == 4
    assert most <= 2


def test_rank_names_the_model_that_has_no_score() -> None:
    broken = TinyVit()
    broken.blocks[0].mlp.fc1.weight.data.fill_(math.nan)
    with pytest.raises(ProxyError, match="model 'b': no score"):
        resolve("l2-norm").rank({"a": TinyVit(), "b": lambda: broken})
    with pytest.raises(LayerError, match="model 1: found no transformer block"):
        resolve("l2-norm").rank([TinyVit(), nn.Linear(2, 2)])
    with pytest.raises(ProxyError, match=r"model 0: a proxy scores a .* not a int"):
        resolve("l2-norm").rank([3])  # type: ignore[list-item]
    with pytest.raises(ProxyError, match="several models"):
        resolve("l2-norm").rank(nn.Sequential(TinyVit()))
