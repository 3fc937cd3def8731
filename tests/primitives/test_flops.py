"""FLOPs counted here are torch's own, whatever a network is made of, and whoever counts."""

import sys
from collections.abc import Callable

import pytest
import torch
from tiny_vit import TinyVit
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode

from autoprox.primitives import flops
from autoprox.primitives.flops import FlopCounter, count_flops

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def attended(x: Tensor) -> Tensor:
    query = x.flatten(2).unsqueeze(1)
    return scaled_dot_product_attention(query, query, query)


def one_of_two(x: Tensor) -> Tensor:
    """Two products, of which one is run: torch counts the dearer one."""
    return torch.cond(x.sum() > 0, lambda y: y @ y.mT @ y, lambda y: y @ y.mT, (x,))  # type: ignore[no-any-return]


def transformer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.Flatten(2), nn.Linear(4, 8), layer)


NETWORKS: dict[str, Callable[[Tensor], object]] = {
    "vit": TinyVit(),
    "transformer": transformer(),
    "transformer in evaluation": transformer().eval(),
    "convolutions": nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6), nn.ConvTranspose2d(6, 4, 3)),
    "einsum": lambda x: torch.einsum("bchw,bdhw->bcd", x, x) @ torch.ones(3, 4),
    "attention": attended,
    "backward": lambda x: torch.autograd.grad((x.clone().requires_grad_() @ x.mT).sum(), x, allow_unused=True),
}


def by_torch(run: Callable[[], object]) -> int:
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


CASES = [(name, mode) for name in NETWORKS for mode in (torch.no_grad, torch.inference_mode) if name != "backward"]


@pytest.mark.parametrize(("name", "mode"), [*CASES, *((name, torch.enable_grad) for name in NETWORKS)])
def test_the_count_is_torchs(name: str, mode: Callable[[], torch.no_grad]) -> None:
    x = X.clone().requires_grad_(name == "backward")
    with mode():
        with sdpa_kernel(SDPBackend.MATH), FlopCounter() as counter:
            NETWORKS[name](x)
        assert counter.total == by_torch(lambda: NETWORKS[name](x)) > 0


@pytest.mark.parametrize("there", [True, False])
def test_what_is_compiled_is_counted_too(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.cond hides its products from a counter that the compiler looks into: the second run has them."""
    found = iter([there, True])
    monkeypatch.setattr(flops, "_compiler_is_there", lambda: next(found))
    result, count = count_flops(lambda: one_of_two(X))
    assert count == by_torch(lambda: one_of_two(X)) == 2 * 2 * 2 * 3 * 8 * 8 * 8
    assert torch.equal(result, X @ X.mT @ X if X.sum() > 0 else X @ X.mT)


def test_operations_that_take_functions_are_counted_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a program that torch has exported, for which nothing is compiled."""
    monkeypatch.setattr(flops, "_compiler_is_there", lambda: False)
    either = (lambda y: y @ y.mT @ y, lambda y: y @ y.mT)
    result, count = count_flops(lambda: torch.ops.higher_order.cond(torch.tensor(True), *either, (X,)))
    assert count == 2 * 2 * 2 * 3 * 8 * 8 * 8
    assert torch.equal(result, X @ X.mT @ X)


def test_an_error_of_the_network_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong() -> None:
        raise ValueError("of the network")

    for there in (True, False):
        monkeypatch.setattr(flops, "_compiler_is_there", lambda there=there: there)
        with pytest.raises(ValueError, match="of the network"):
            count_flops(wrong)


def test_the_compiler_is_seen_where_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch._dynamo", raising=False)
    assert not flops._compiler_is_there()
    monkeypatch.setitem(sys.modules, "torch._dynamo", torch)
    assert flops._compiler_is_there()
