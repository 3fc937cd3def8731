"""The zoo's values: identities that hold whatever the implementation, and finite differences."""

import copy
import math
import random
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from tiny_vit import TinyVit, batch
from torch import Tensor, nn

from autoprox.bench_cache.spaces.registry import InputSpec, get_space
from autoprox.primitives import batch as batches
from autoprox.zoo import ZOO, ZooError
from autoprox.zoo import few_step as zoo_few_step
from autoprox.zoo import gradients as zoo_gradients
from autoprox.zoo.features import teacher_attention, union_of_patterns
from autoprox.zoo.gradients import EPSILON


def score(name: str, model: nn.Module, inputs: Tensor, targets: Tensor | None = None, seed: int = 0) -> float:
    targets = torch.zeros(len(inputs), dtype=torch.long) if targets is None else targets
    return ZOO[name].score(model, inputs, targets, seed=seed)


@pytest.mark.parametrize(
    ("name", "power"),
    [("snip", 1), ("snip-all", 1), ("plain-all", 1), ("grad-norm", 1), ("grad-norm-all", 1), ("grad-l1", 1),
     ("fisher", 2), ("grasp", 2), ("gradsign", 0), ("zico", 0), ("zico-all", 0), ("nwot", 0)],
)  # fmt: skip
def test_a_scaled_loss_scales_the_score(name: str, power: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """SNIP and norms of gradients are linear in the loss, Fisher and GraSP quadratic, ratios and signs stay."""
    model, (inputs, targets) = TinyVit().double(), batch()
    before = score(name, model, inputs.double(), targets)
    loss = batches.loss_of
    for module in ("autoprox.primitives.passes", "autoprox.zoo.tools"):
        monkeypatch.setattr(f"{module}.loss_of", lambda *args: 3 * loss(*args))
    assert score(name, model, inputs.double(), targets) == pytest.approx(3**power * before, rel=1e-6)


def test_synflow_is_conserved_from_layer_to_layer() -> None:
    """Without biases, Σ |W| dR/d|W| is R itself in every layer (arXiv 2006.05467, Theorem 2)."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, 4, 2, 2, bias=False), nn.ReLU(), nn.Flatten()]
    layers += [nn.Linear(16, 7, bias=False), nn.ReLU(), nn.Linear(7, 5, bias=False)]
    model = nn.Sequential(*layers)
    images = torch.randn(2, 3, 4, 4)
    pairs = zoo_gradients._synflow_pairs(model, images, torch.tensor([0, 1]), 0)
    assert len(pairs) == 3
    flows = [float((weight * slope).sum()) for weight, slope in pairs]
    for parameter in model.parameters():
        parameter.data.abs_()
    assert flows == pytest.approx([float(model(torch.ones(1, 3, 4, 4)).sum().detach())] * 3, rel=1e-5)
    assert score("synflow-all", model, images) == pytest.approx(sum(flows), rel=1e-5)


def loss_with(model: nn.Module, inputs: Tensor, targets: Tensor, scaled: str, factors: Tensor) -> float:
    """The loss where each sample's features in one layer's output are multiplied by samples × features factors."""
    handle = model.get_submodule(scaled).register_forward_hook(lambda m, a, output: output * factors[:, None, :])
    try:
        with torch.no_grad():
            return float(nn.functional.cross_entropy(model(inputs), targets))
    finally:
        handle.remove()


def test_fisher_by_finite_differences() -> None:
    """Σ_t a ∂L/∂a of a channel in a sample is the slope of L when that channel is scaled there."""
    model, (inputs, targets) = TinyVit(depth=1).double(), batch(2)
    inputs, step, expected = inputs.double(), 1e-5, 0.0
    for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"):
        path = f"blocks.0.{name}"
        channels = model.get_submodule(path).out_features
        slopes = torch.zeros(2, channels, dtype=torch.float64)
        for place in np.ndindex(2, channels):
            moved = torch.zeros_like(slopes)
            moved[place] = step
            up, down = (loss_with(model, inputs, targets, path, 1 + sign * moved) for sign in (1, -1))
            slopes[place] = (up - down) / (2 * step)
        expected += float(slopes.square().mean(0).sum() / 2)
    assert score("fisher", model, inputs, targets) == pytest.approx(expected, rel=1e-5)


def test_grasp_against_an_explicit_hessian() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    inputs, targets = torch.randn(5, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 1, 0])
    first, second = model[0].weight.detach(), model[2].weight.detach()

    def loss(flat: Tensor) -> Tensor:
        hidden = torch.tanh(inputs @ flat[:12].reshape(4, 3).T + model[0].bias.detach())
        return nn.functional.cross_entropy(hidden @ flat[12:].reshape(3, 4).T + model[2].bias.detach(), targets)

    at = torch.cat([first.flatten(), second.flatten()])
    hessian, gradient = torch.autograd.functional.hessian(loss, at), torch.func.grad(loss)(at)
    assert score("grasp", model, inputs, targets) == pytest.approx(float(-at @ hessian @ gradient), rel=1e-9)


def test_ntk_against_explicit_jacobians() -> None:
    model, (inputs, _) = TinyVit().double(), batch(3)
    inputs = inputs.double()
    weights = {name: p.detach() for name, p in model.named_parameters() if name.endswith("weight")}
    rest = {name: p.detach() for name, p in model.named_parameters() if name not in weights}

    def sums(parameters: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(model, {**parameters, **rest}, (inputs,)).sum(1)

    jacobians = torch.func.jacrev(sums)(weights).values()
    rows = torch.cat([jacobian.flatten(1) for jacobian in jacobians], 1).numpy()
    assert score("te-nas-ntk", model, inputs) == pytest.approx(-np.linalg.cond(rows @ rows.T), rel=1e-6)


def test_input_gradients_against_explicit_jacobians() -> None:
    model, (inputs, _) = TinyVit().double(), batch(4)
    inputs = inputs.double()
    jacobian = torch.func.jacrev(lambda x: model(x).sum(1))(inputs)
    rows = torch.stack([jacobian[i, i].flatten() for i in range(4)]).detach().numpy()
    values = np.linalg.eigvalsh(np.corrcoef(rows)) + EPSILON
    assert score("jacov", model, inputs) == pytest.approx(-(np.log(values) + 1 / values).sum(), rel=1e-6)


def stream(model: TinyVit, seed: int, samples: int) -> list[list[Tensor]]:
    """Of each block: its input, the stream after attention, and its output, under Gaussian images."""
    x = torch.randn(samples, 3, 8, 8, generator=torch.Generator().manual_seed(seed)).to(model.head.weight.dtype)
    x = model.patch(x).flatten(2).transpose(1, 2).detach()
    found = []
    for block in model.blocks:
        after = x + block.attn(block.norm1(x))
        result = after + block.mlp(block.norm2(after))
        found.append([x, after, result])
        x = result
    return found


def test_az_expressivity_against_numpy() -> None:
    model = TinyVit().double()
    expected = 0.0
    for x in (state for block in stream(model, 2, 4) for state in block[1:]):
        values = np.linalg.eigvalsh(np.cov(x.detach().flatten(0, 1).numpy().T))
        shares = values / values.sum()
        expected -= (shares * np.log(shares)).sum()
    assert score("az-expressivity", model, batch()[0].double(), seed=2) == pytest.approx(expected, rel=1e-9)


def test_az_trainability_against_explicit_jacobians() -> None:
    model = TinyVit(depth=2).double()
    generator = torch.Generator().manual_seed(2)
    steps: list[Callable[[Tensor], Tensor]] = []
    for block in model.blocks:
        steps.append(lambda x, block=block: x + block.attn(block.norm1(x)))
        steps.append(lambda x, block=block: x + block.mlp(block.norm2(x)))
    terms = []
    pairs = [pair for block in stream(model, 2, 4) for pair in pairwise(block)]
    for step, (entry, result) in zip(steps, pairs, strict=True):
        signs = torch.randint(0, 2, result.shape, generator=generator).double() * 2 - 1
        jacobian = torch.func.jacrev(step)(entry).reshape(result.numel(), -1)
        arriving = (signs.flatten() @ jacobian).reshape(16, 6)
        s = np.linalg.norm((arriving.T @ signs.reshape(16, 6)).detach().numpy() / 16, 2)
        terms.append(2 - s - 1 / s)
    found = score("az-trainability", model, batch()[0].double(), seed=2)
    assert found == pytest.approx(np.mean(terms), rel=1e-9)
    assert found < 0  # 2 - s - 1/s is 0 at s = 1 and negative elsewhere


def test_croze_without_perturbation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then g' = g and f' = f: every layer gives (1 + cos(g, W)) · 1 · 2. The perturbation changes that."""
    model, (inputs, targets) = TinyVit().double(), batch()
    inputs = inputs.double()
    perturbed = score("croze", model, inputs, targets)
    monkeypatch.setattr(zoo_gradients, "WEIGHT_STEP", 0.0)
    monkeypatch.setattr(zoo_gradients, "INPUT_STEP", 0.0)
    found = score("croze", model, inputs, targets)
    nn.functional.cross_entropy(model(inputs), targets).backward()
    pairs = [
        (m.weight.grad.ravel(), m.weight.detach().ravel()) for m in model.blocks.modules() if isinstance(m, nn.Linear)
    ]
    cosines = [float(nn.functional.cosine_similarity(slope, weight, 0)) for slope, weight in pairs]
    assert found == pytest.approx(sum(2 * (1 + cosine) for cosine in cosines), rel=1e-9)
    assert 0 < abs(perturbed - found) < 0.5 * found


def test_croze_perturbs_upwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """The perturbed network on the perturbed input has the larger loss."""
    losses: list[float] = []
    loss = batches.loss_of

    def kept(*args):
        losses.append(float(loss(*args).detach()))
        return loss(*args)

    for module in ("primitives.passes", "zoo.tools", "zoo.gradients"):
        monkeypatch.setattr(f"autoprox.{module}.loss_of", kept)
    score("croze", TinyVit(), *batch())
    clean, weights_moved, both_moved = losses
    assert clean < weights_moved < both_moved


@pytest.mark.parametrize(("space", "blocks"), [("autoformer-vb101", 13), ("pit-vb101", 12)])
def test_gennas_without_steps_against_numpy(space: str, blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Patch tokens of the blocks at one, two and three thirds, normalised, times drawn heads, against drawn waves."""
    monkeypatch.setattr(zoo_few_step, "REGRESSION_STEPS", 0)
    model, images = small(space, blocks)
    seen: list[np.ndarray] = []
    for module in model.modules():
        if hasattr(module, "norm2"):
            module.register_forward_hook(lambda m, a, output: seen.append(output.detach().double().numpy()[:, 1:]))
    with torch.no_grad():
        model(images)
    generator = torch.Generator().manual_seed(7)
    assert len(seen) == blocks
    stages = [seen[math.ceil(blocks / 3) - 1], seen[math.ceil(2 * blocks / 3) - 1], seen[-1]]
    waves = []
    for x in stages:
        grid = np.arange(math.isqrt(x.shape[1]))
        u, v, phase = (torch.rand(8, generator=generator).numpy() for _ in range(3))
        turns = grid[:, None, None] * (u - 0.5) / 2 + grid[None, :, None] * (v - 0.5) / 2 + phase
        waves.append(np.sin(2 * np.pi * turns).reshape(-1, 8))
    errors = []
    for x, wave in zip(stages, waves, strict=True):
        head = torch.randn(x.shape[-1], 8, generator=generator).numpy() / math.sqrt(x.shape[-1])
        tokens = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        errors.append(((tokens @ head - wave) ** 2).mean())
    assert score("gennas", model, images, seed=7) == pytest.approx(-np.mean(errors), rel=1e-4)


def small(space: str, blocks: int) -> tuple[nn.Module, Tensor]:
    """A network of a space with so many blocks, and two small images."""
    found, spec, rng = get_space(space), InputSpec(image_size=48, num_classes=4), random.Random(0)
    arch = next(arch for arch in (found.sample(rng) for _ in range(200)) if found.depth(arch) == blocks)
    return found.build(arch, spec), torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))


class Recalled(nn.Module):
    """A teacher that gives a network's last patch tokens as a map, on a grid of three by three."""

    def __init__(self, network: nn.Module, path: str) -> None:
        super().__init__()
        self.network, self.path = network, path

    def forward(self, x: Tensor) -> Tensor:
        seen: list[Tensor] = []
        handle = self.network.get_submodule(self.path).register_forward_hook(lambda m, a, out: seen.append(out))
        self.network(x)
        handle.remove()
        return seen[0][:, 1:].transpose(1, 2).unflatten(2, (3, 3))


def test_tvt_leaves_the_class_token_out() -> None:
    """A network is at no distance from its own patch tokens, and at some from other blocks'."""
    model, images = small("autoformer-vb101", 12)
    assert teacher_attention(model, Recalled(model, "blocks.11"), images, 0) == pytest.approx(0, abs=1e-12)
    assert teacher_attention(model, Recalled(model, "blocks.0"), images, 0) < -1e-6


def test_gennas_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    """More steps leave a smaller error; the targets are the same."""
    errors = []
    for steps in (1, 10, 60):
        monkeypatch.setattr(zoo_few_step, "REGRESSION_STEPS", steps)
        errors.append(-score("gennas", TinyVit(), *batch()))
    assert errors[0] > errors[1] > errors[2] > 0


@pytest.mark.slow
def test_training_speed_against_a_plain_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The images from numpy's transform, and a copy of the model trained as anyone would write it."""
    monkeypatch.setattr(zoo_few_step, "SPEED_STEPS", 12)
    model, images = small("pit-vb101", 12)
    generator = torch.Generator().manual_seed(7)
    frequency = np.hypot(np.fft.fftfreq(48)[:, None], np.fft.fftfreq(48))
    frequency[0, 0] = np.inf

    def clouds(count: int) -> Tensor:
        drawn = torch.randn(count, 3, 48, 48, generator=generator).double().numpy()
        found = np.fft.ifft2(np.fft.fft2(drawn) / frequency).real
        return torch.tensor(found / found.std((1, 2, 3), ddof=1, keepdims=True)).float()

    centres, trained, losses = clouds(4), copy.deepcopy(model).eval(), []
    optimizer = torch.optim.Adam(trained.parameters(), lr=3e-3)
    for _ in range(12):
        y = torch.randint(4, (2,), generator=generator)
        loss = nn.functional.cross_entropy(trained(centres[y] + clouds(2)), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert score("training-speed", model, images, seed=7) == pytest.approx(-np.mean(losses[-10:]), rel=1e-3)


def test_training_speed_tells_what_learns_from_what_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose patches do not reach the classes stays at the loss of guessing."""
    monkeypatch.setattr(zoo_few_step, "SPEED_STEPS", 60)
    images = torch.zeros(16, 3, 8, 8)
    blind = TinyVit()
    blind.patch.register_forward_hook(lambda module, arguments, output: torch.zeros_like(output))
    assert score("training-speed", TinyVit(), images) > score("training-speed", blind, images) + 0.1
    with pytest.raises(ZooError, match="needs images"):
        score("training-speed", nn.Sequential(nn.Linear(3, 2)), torch.ones(2, 3))


@pytest.mark.parametrize("samples", [1, 5, 31, 32, 62, 63, 70, 130])
def test_the_union_of_patterns_is_that_of_a_set(samples: int) -> None:
    """Layers of several sizes share patterns, some of which differ in the last sample alone."""
    generator = torch.Generator().manual_seed(samples)
    kinds = torch.rand(samples, 9, generator=generator) > 0.5
    kinds[:, 3] = kinds[:, 2]
    kinds[-1, 3] ^= True
    layers = [kinds[:, torch.randint(0, 9, (count,), generator=generator)] for count in (4, 30, 7)]
    expected = {tuple(neuron.tolist()) for layer in layers for neuron in layer.T}
    assert union_of_patterns(layers) == len(expected)
