"""Supernets: a subnet whose layers use parts of their weights scores as the network that has these parts as its own."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from autoprox import Proxy, resolve
from autoprox.export import export
from autoprox.primitives import LayerError
from autoprox.scoring import ProxyError
from tests.exported_files import loaded
from tests.tiny_vit import TinyVit, batch

HIDDEN, DEPTH = 5, 2  # of the subnet; the supernet has 9 and 3


class Sliced(nn.Linear):
    """A linear whose weight in use is chosen beforehand, as a view of the whole (AutoFormer)."""

    def choose(self, inputs: int, outputs: int) -> None:
        self.part = self.weight[:outputs, :inputs], self.bias[:outputs]

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, *self.part)


class SlicedAtOnce(Sliced):
    """A linear that slices its weight in the forward pass (once-for-all)."""

    def choose(self, inputs: int, outputs: int) -> None:
        self.size = inputs, outputs

    def forward(self, x: Tensor) -> Tensor:
        inputs, outputs = self.size
        return functional.linear(x, self.weight[:outputs, :inputs], self.bias[:outputs])


class Copied(Sliced):
    """A linear that puts the rows of its weight together anew, which makes a copy of them (qkv of AutoFormer)."""

    def choose(self, inputs: int, outputs: int) -> None:
        rows = torch.arange(outputs)
        self.part = self.weight[rows][:, :inputs], self.bias[:outputs]


class SlicedMlp(nn.Module):
    """An MLP of plain linears that slices their weights itself."""

    def __init__(self, whole: nn.Module, used: int) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2, self.used = whole.fc1, whole.act, whole.fc2, used

    def forward(self, x: Tensor) -> Tensor:
        hidden = functional.linear(x, self.fc1.weight[: self.used], self.fc1.bias[: self.used])
        return self.narrowed(self.act(hidden))

    def narrowed(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.fc2.weight[:, : self.used], self.fc2.bias)


def sliced_by_parents(used: int) -> TinyVit:
    """Return a network whose plain linears have their weights sliced by the modules above them."""
    model = TinyVit(depth=DEPTH)
    whole = Supernet(Sliced).state_dict()
    model.load_state_dict({name: whole[name] for name in model.state_dict()})
    for block in model.blocks:
        block.mlp = SlicedMlp(block.mlp, used)
    return model


class Supernet(TinyVit):
    """A vision transformer that runs the first `DEPTH` of its blocks, with MLPs of `HIDDEN` neurons."""

    def __init__(self, kind: type[Sliced]) -> None:
        super().__init__(depth=3)
        for block in self.blocks:
            for owner, name in ((block.attn, "qkv"), (block.attn, "proj"), (block.mlp, "fc1"), (block.mlp, "fc2")):
                plain = getattr(owner, name)
                layer = kind(plain.in_features, plain.out_features)
                layer.load_state_dict(plain.state_dict())
                sizes = {"fc1": (6, HIDDEN), "fc2": (HIDDEN, 6)}.get(name, (plain.in_features, plain.out_features))
                layer.choose(*sizes)
                setattr(owner, name, layer)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        for block in self.blocks[:DEPTH]:
            x = block(x)
        return self.head(x.mean(1))


def subnet() -> TinyVit:
    """Return the network that has the supernet's parts as its own weights."""
    whole, own = Supernet(Sliced).state_dict(), TinyVit(depth=DEPTH, hidden=HIDDEN)
    with torch.no_grad():
        for name, parameter in own.named_parameters():
            parameter.copy_(whole[name][tuple(map(slice, parameter.shape))])
    return own


FORMULAS = [
    *("params", "depth", "width", "flops", "sum(fan_out)", "sum(tokens)", "mean(position)", "sum(fro(weight))"),
    *("sum(l1(weight * weight_grad))", "sum(fro(weight_grad[fc1]))", "sum(l1(weight_grad[fc2, synflow]))"),
    *("sum(mean(batch_std(weight_grad_batches)))", "sum(fro(act))", "sum(fro(act_grad[noise]))"),
]


@pytest.mark.parametrize("kind", [Sliced, SlicedAtOnce, Copied])
@pytest.mark.parametrize("formula", FORMULAS)
def test_a_subnet_scores_as_the_network_of_its_own(formula: str, kind: type[Sliced]) -> None:
    proxy, own = Proxy.from_formula(formula), subnet()
    torch.testing.assert_close(Supernet(kind)(batch()[0]), own(batch()[0]))
    if kind is Copied and "synflow" in formula:
        with pytest.raises(LayerError, match=r"layer 'blocks\.0\.attn\.proj' runs with a copy of its weight"):
            proxy.score(Supernet(kind), *batch())
        return
    assert proxy.score(Supernet(kind), *batch()) == pytest.approx(proxy.score(own, *batch()), rel=1e-5)


@pytest.mark.parametrize("formula", ["params", *FORMULAS])
def test_plain_layers_whose_weights_are_sliced_above_them_score_as_the_network_of_its_own(formula: str) -> None:
    proxy, own = Proxy.from_formula(formula), subnet()
    score = proxy.score(sliced_by_parents(HIDDEN), *batch())
    assert score == pytest.approx(proxy.score(own, *batch()), rel=1e-5)


def test_a_whole_slice_is_the_whole_layer() -> None:
    """Parameters that no pass uses count then, as in every network that is no supernet."""
    model = sliced_by_parents(9)
    model.extra = nn.Linear(3, 3)
    declared = sum(parameter.numel() for parameter in model.parameters())
    assert Proxy.from_formula("params").score(model, *batch()) == declared
    assert resolve("l2-norm-all").score(model, *batch()) > 0


@pytest.mark.parametrize("formula", ["params", "sum(fan_out)", "sum(fro(weight))"])
def test_without_a_batch_plain_layers_that_may_be_sliced_are_refused(formula: str) -> None:
    with pytest.raises(LayerError, match=r"'blocks\.0\.mlp\.fc1' has its weight read by SlicedMlp, .*; give a batch"):
        Proxy.from_formula(formula).score(sliced_by_parents(HIDDEN))


def test_a_proxy_of_whole_weights_refuses_plain_layers_that_are_sliced() -> None:
    with pytest.raises(ProxyError, match=r"uses a part of the weight of layer 'blocks\.0\.mlp\.fc1' only"):
        resolve("l2-norm-all").score(sliced_by_parents(HIDDEN), *batch())


def test_parameters_are_counted_as_they_are_used() -> None:
    """Copies made beforehand count too, and a mask does not count what is read twice."""
    params = Proxy.from_formula("params")
    used = sum(parameter.numel() for parameter in subnet().parameters())
    assert params.score(Supernet(Copied), *batch()) == used
    model = Supernet(Sliced)
    model.blocks[1].mlp = model.blocks[0].mlp  # one MLP for both blocks
    assert params.score(model, *batch()) == used - sum(p.numel() for p in subnet().blocks[0].mlp.parameters())


def test_parameters_of_other_networks_are_those_declared() -> None:
    model = TinyVit()
    model.extra = nn.Linear(3, 3)
    declared = sum(parameter.numel() for parameter in model.parameters())
    params = Proxy.from_formula("params")
    assert params.score(model) == params.score(model, *batch()) == declared


@pytest.mark.parametrize("formula", ["params", "depth", "sum(fan_out)", "sum(heads)", "sum(fro(weight))"])
def test_without_a_batch_a_supernet_is_refused(formula: str) -> None:
    with pytest.raises(LayerError, match=r"'blocks\.0\.attn\.qkv' is a Sliced, which may use a part .*; give a batch"):
        Proxy.from_formula(formula).score(Supernet(Sliced))


@pytest.mark.parametrize("name", ["l2-norm-all", "croze"])
def test_proxies_that_read_whole_weights_refuse_a_supernet(name: str) -> None:
    with pytest.raises(ProxyError, match=f"^{name}: layer 'blocks.0.attn.qkv' is a Sliced, which may use a part"):
        resolve(name).score(Supernet(Sliced), *batch())


@pytest.mark.parametrize("name", ["grad-norm-all", "snip-all", "synflow-all", "zico-all", "grasp"])
def test_proxies_over_all_weights_read_what_the_subnet_uses(name: str) -> None:
    proxy = resolve(name)
    expected = proxy.score(subnet(), *batch())
    assert proxy.score(Supernet(Sliced), *batch()) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["snip-all", "synflow-all"])
def test_weights_copied_beforehand_cannot_be_replaced(name: str) -> None:
    with pytest.raises(ProxyError, match="runs with a copy of its weight"):
        resolve(name).score(Supernet(Copied), *batch())


def test_an_exported_file_refuses_a_supernet() -> None:
    module = loaded(export(Proxy.from_formula("sum(fro(weight))"), "python"))
    with pytest.raises(module.LayerError, match="names no plain linear layer"):
        module.score(Supernet(Sliced))
