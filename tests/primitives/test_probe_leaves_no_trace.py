"""Probing leaves the model as it was: in every mode, and after an error."""

import contextlib
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from vit_to_probe import EVERYTHING, Vit, X, Y, read_vit, requirements, same

from autoprox.primitives import LayerError, evaluate, parse

WEIGHT_ONLY = "sum(fro(weight)) + sum(fan_in + fan_out + position) + params + depth + width"


# Nothing of the model changes.


def snapshot(model: nn.Module) -> dict[str, Any]:
    """Return all that must be as it was, down to which tensors there are and how often they were written to."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {
        "tensors": {name: (id(t), t.device, t.dtype, t.detach().clone().tolist()) for name, t in tensors.items()},
        "versions": {name: None if t.is_inference() else t._version for name, t in tensors.items()},
        "requires": {name: t.requires_grad for name, t in tensors.items()},
        "grads": {n: None if p.grad is None else (id(p.grad), p.grad.tolist()) for n, p in model.named_parameters()},
        "modes": {name: module.training for name, module in model.named_modules()},
        "hooks": {
            (name, key): list(value.items())
            for name, module in model.named_modules()
            for key, value in vars(module).items()
            if "hooks" in key
        },
        "members": {name: sorted(vars(module)) for name, module in model.named_modules()},
        "forward": {name: "forward" in vars(module) for name, module in model.named_modules()},
        "torch": torch.get_rng_state().tolist(),
        "python": random.getstate(),
        "numpy": str(np.random.get_state()),
        "modes of torch": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype()),
        "global hooks": [list(getattr(nn.modules.module, n)) for n in dir(nn.modules.module) if n.startswith("_global_")
                         and hasattr(getattr(nn.modules.module, n), "keys")],
    }  # fmt: skip


def lived_in() -> Vit:
    """Return a model with a past: gradients, frozen parts, mixed modes, hooks of its owner's, running statistics."""
    model = Vit()
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        functional.cross_entropy(model(X.clone()), Y).backward()
    model.blocks[0].attn.proj.weight.grad = None
    model.blocks[1].mlp.fc1.requires_grad_(False)
    model.embed.requires_grad_(False)
    model.blocks[0].eval()
    model.blocks[0].attn.drop.train()
    model.blocks[1].mlp.fc2.register_forward_hook(lambda module, args, output: None)
    model.head.register_forward_pre_hook(lambda module, args: None)
    return model


CONTEXTS: dict[str, Callable[[], contextlib.AbstractContextManager[object]]] = {
    "plainly": contextlib.nullcontext,
    "in no_grad": torch.no_grad,
    "in inference_mode": torch.inference_mode,
}
in_every_context = pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)


@in_every_context
@pytest.mark.parametrize("wanted", [EVERYTHING, *({pair} for pair in sorted(EVERYTHING))], ids=lambda w: str(len(w)))
def test_model_is_untouched(wanted: set[tuple[str, str]], context: Callable) -> None:
    model, x, y = lived_in(), X.clone(), Y.clone()
    expected = read_vit(lived_in(), wanted)
    random.random(), torch.rand(1)  # not where the seed would put the generators
    with context():
        before = snapshot(model)
        reading = read_vit(model, wanted, x, y)
        assert snapshot(model) == before
    assert same(reading, expected)
    assert torch.equal(x, X)
    assert torch.equal(y, Y)
    assert not any(m.requires_grad for blocks in reading.matrices.values() for m in blocks)


BROKEN: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "forward raises half-way": ({}, LayerError, "half-way"),
    "targets too large": ({"targets": Y + 2}, LayerError, "class numbers from 0 to 2, as the model has 3 classes"),
    "targets negative": ({"targets": Y - 1}, LayerError, "class numbers from 0 to 2"),
    "targets of another length": ({"targets": Y[:3]}, LayerError, "targets must be 4 class numbers"),
    "targets no numbers of classes": ({"targets": Y.float()}, LayerError, "torch.float32"),
    "targets one-hot": ({"targets": functional.one_hot(Y)}, LayerError, "shape (4, 3)"),
    "batch of odd size": ({"inputs": X[:3], "targets": Y[:3]}, LayerError, "give an even number of samples, not 3"),
    "no sample": ({"inputs": X[:0], "targets": Y[:0]}, LayerError, "at least one sample"),
    "no batch": ({"inputs": None, "targets": None}, LayerError, "give it a batch of inputs"),
    "inputs no tensor": ({"inputs": X.tolist()}, LayerError, "must be a tensor"),
    "inputs of another width": ({"inputs": X[..., :2]}, LayerError, "shapes cannot be multiplied"),
}


@in_every_context
@pytest.mark.parametrize("case", BROKEN)
def test_model_is_untouched_after_an_error(case: str, context: Callable) -> None:
    arguments, error, message = BROKEN[case]
    model = lived_in()
    model.blocks[1].fails = case == "forward raises half-way"
    with context():
        before = snapshot(model)
        with pytest.raises(error) as caught:
            read_vit(model, EVERYTHING, **arguments)
        assert snapshot(model) == before
    assert message in str(caught.value)
    if error is LayerError:
        assert "\n" not in str(caught.value)


@in_every_context
def test_model_of_inference_tensors(context: Callable) -> None:
    with torch.inference_mode():
        model, x, y = Vit(), X.clone(), Y.clone()
    with context():
        reading = read_vit(model, EVERYTHING, x, y)
    assert same(reading, read_vit(Vit(), EVERYTHING))


def test_what_reads_only_weights_runs_nothing() -> None:
    class Silent(Vit):
        def forward(self, x: Tensor) -> Tensor:
            raise AssertionError("it was run")

    model = Silent()
    reading = read_vit(model, requirements(WEIGHT_ONLY) | {("heads", "")}, None, None)
    assert evaluate(parse(WEIGHT_ONLY), reading) > 0
    assert reading.layers["heads", "proj"] == [2.0, 2.0]
    assert set(reading.matrices) == {("weight", "", slot) for slot in ("qkv", "proj", "fc1", "fc2")}
    with pytest.raises(LayerError, match="it was run"):
        read_vit(model, {("act", "data")})


def test_what_needs_no_gradient_takes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def caught(*args: object, **kwargs: object) -> None:
        raise AssertionError("it was differentiated")

    monkeypatch.setattr(torch.autograd, "grad", caught)
    read_vit(Vit(), {("act", "data"), ("attn", "noise"), ("act", "synflow"), ("flops", "")})
    with pytest.raises(AssertionError, match="it was differentiated"):
        read_vit(Vit(), {("act_grad", "data")})


def test_mode_does_not_matter() -> None:
    """Drop-out and batch norm are as in evaluation, whatever mode the model is in."""
    assert same(read_vit(Vit().train(), EVERYTHING), read_vit(Vit().eval(), EVERYTHING))


def test_frozen_parameters_have_gradients() -> None:
    assert same(read_vit(Vit().requires_grad_(False), EVERYTHING), read_vit(Vit(), EVERYTHING))


def test_random_forward_passes_are_repeatable() -> None:
    """A pass that draws whatever the mode: the seed decides, and not what else is read or was drawn before."""

    class Noisy(Vit):
        def forward(self, x: Tensor) -> Tensor:
            scale = random.random() + 0.5
            return super().forward(functional.dropout(x, 0.5, training=True) * scale)

    first = read_vit(Noisy(), EVERYTHING)
    torch.rand(3)
    random.random()
    assert same(read_vit(Noisy(), EVERYTHING), first)
    assert not same(read_vit(Noisy(), EVERYTHING, seed=1), first)
    alone = read_vit(Noisy(), {("act", "data")})
    torch.testing.assert_close(alone.matrices["act", "data", "fc2"][1], first.matrices["act", "data", "fc2"][1])


def test_targets_left_out_are_random_classes_of_the_seed() -> None:
    wanted = {("weight_grad", "data"), ("weight_grad_batches", "data")}
    assert same(read_vit(Vit(), wanted, X, None), read_vit(Vit(), wanted, X, None))
    assert not same(read_vit(Vit(), wanted, X, None), read_vit(Vit(), wanted, X, None, seed=2))


@pytest.mark.parametrize(("dtype", "read"), [(torch.float64, torch.float64), (torch.bfloat16, torch.float32)])
def test_precision(dtype: torch.dtype, read: torch.dtype) -> None:
    """Double stays double; half precision is read as single, with gradients taken in the model's own."""
    reading = read_vit(Vit().to(dtype), EVERYTHING, X.to(dtype))
    assert {m.dtype for blocks in reading.matrices.values() for m in blocks} == {read}
    exact = read_vit(Vit().double(), EVERYTHING, X.double())
    for key in (("weight", "", "qkv"), ("act", "data", "fc1"), ("weight_grad", "noise", "fc2")):
        torch.testing.assert_close(reading.matrices[key][1].double(), exact.matrices[key][1], rtol=0.1, atol=0.05)
