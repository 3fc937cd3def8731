"""Passes that fail: one line names the model, the cause and the fix, and never torch's own error alone."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from autoprox import Proxy, resolve
from autoprox.primitives import LayerError
from autoprox.scoring import ProxyError
from tests.tiny_vit import TinyVit, batch

SCORED = "sum(fro(act))"


class MixedVit(TinyVit):
    """A network whose MLPs are in half precision."""

    def __init__(self) -> None:
        super().__init__()
        for block in self.blocks:
            block.mlp.bfloat16()


class Broken(TinyVit):
    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("no such feature")


class Starved(TinyVit):
    def forward(self, x: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


class Placed(TinyVit):
    """A network on a device of which nothing can be computed with what is on another."""

    def __init__(self) -> None:
        super().__init__()
        self.to("meta")


class WithComplexScores(TinyVit):
    def forward(self, x: Tensor) -> Tensor:
        return torch.complex(super().forward(x), super().forward(x))


X, Y = batch()
FAILING: dict[str, tuple[Callable[[], nn.Module], Tensor, str]] = {
    "half precision": (
        lambda: TinyVit().bfloat16(), X, r"the batch is float32 and the parameters are bfloat16; give inputs.to\(torch"
    ),
    "double precision": (lambda: TinyVit(), X.double(), "the batch is float64 and the parameters are float32; give"),
    "integer images": (lambda: TinyVit(), (X * 50).to(torch.uint8), "the batch is uint8 and the parameters are float"),
    "complex images": (lambda: TinyVit(), X.to(torch.complex64), "the batch is complex64 and the parameters are float"),
    "two types": (MixedVit, X, r"the parameters are float32 and bfloat16; give them one type, as with model.float\(\)"),
    "another device": (Placed, X, r"the batch is on cpu and the model on meta; give inputs.to\('meta'\)"),
    "channels": (lambda: TinyVit(), X[:, :1], r"on a batch of \d × 1 × 8 × 8 \(float32\) fails with RuntimeError: "),
    "no batch axis": (lambda: TinyVit(), X[0], r"on a batch of \d × 8 × 8 \(float32\) fails with \w+Error: "),
    "size": (lambda: TinyVit(), X[..., :2], r"on a batch of \d × 3 × 8 × 2 \(float32\) fails with RuntimeError: "),
    "the model's own error": (Broken, X, r"the forward pass of Broken on a batch of .* fails with KeyError: 'no such"),
    "memory": (Starved, X, "there is too little memory; give fewer samples"),
}  # fmt: skip

failing = pytest.mark.parametrize("case", FAILING)


@failing
@pytest.mark.parametrize("formula", [SCORED, "flops", "sum(l1(weight * weight_grad))"])
def test_a_failing_forward_pass_is_one_line(case: str, formula: str) -> None:
    build, inputs, said = FAILING[case]
    with pytest.raises(LayerError, match=said) as caught:
        Proxy.from_formula(formula).score(build(), inputs)
    assert "\n" not in str(caught.value)
    assert type(build()).__name__ in str(caught.value)


@failing
def test_rank_names_the_model(case: str) -> None:
    build, inputs, said = FAILING[case]
    with pytest.raises(LayerError, match=f"^model 'mine': .*{said}"):
        Proxy.from_formula(SCORED).rank({"mine": build}, inputs)


@failing
@pytest.mark.parametrize("name", ["snip-all", "jacov", "swap", "grasp"])
def test_functions_of_the_zoo_say_the_same(case: str, name: str) -> None:
    build, inputs, said = FAILING[case]
    with pytest.raises(ProxyError, match=f"^{name}: .*{said}"):
        resolve(name).score(build(), inputs)


def test_a_failing_backward_pass_is_one_line() -> None:
    class Stepped(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            return x.clone()

        @staticmethod
        def backward(context, gradient):
            raise RuntimeError("no derivative\nof a step")

    class Vit(TinyVit):
        def forward(self, x: Tensor) -> Tensor:
            return Stepped.apply(super().forward(x))

    for proxy in (Proxy.from_formula("sum(l1(weight * weight_grad))"), resolve("snip-all")):
        with pytest.raises(ValueError, match=r"the backward pass fails with RuntimeError: no derivative$"):
            proxy.score(Vit(), X, Y)


def test_complex_class_scores_are_refused() -> None:
    with pytest.raises(LayerError, match=r"the model returns torch\.complex64 numbers; class scores must be real"):
        Proxy.from_formula("sum(l1(weight * weight_grad))").score(WithComplexScores(), X, Y)


@pytest.mark.parametrize("kind", [torch.float32, torch.complex64, torch.bool])
def test_targets_are_whole_numbers(kind: torch.dtype) -> None:
    with pytest.raises(LayerError, match=r"targets must be 4 class numbers, one for each sample, not .*"):
        Proxy.from_formula("sum(l1(weight * weight_grad))").score(TinyVit(), X, Y.to(kind))


def test_what_passes_is_left_alone() -> None:
    """Networks in one precision with a batch of it score."""
    model = TinyVit().bfloat16()
    assert Proxy.from_formula(SCORED).score(model, X.bfloat16()) > 0
