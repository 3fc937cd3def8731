"""Built networks: their size and FLOPs against the closed forms, their first weights, attention, and what is read."""

import random
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autoprox.bench_cache.spaces import blocks
from autoprox.bench_cache.spaces.autoformer import AutoFormerArch
from autoprox.bench_cache.spaces.blocks import REACH, Attention, RelativePosition2D, initialised
from autoprox.bench_cache.spaces.micro_vit import MicroVitArch
from autoprox.bench_cache.spaces.nas_bench_201 import NasBench201Arch
from autoprox.bench_cache.spaces.pit import PitArch
from autoprox.bench_cache.spaces.registry import SPACES, ArchitectureError, InputSpec, Space
from autoprox.primitives import read_statistics
from autoprox.primitives.flops import count_flops

SPECS = [
    InputSpec(image_size=64, num_classes=10),
    InputSpec(image_size=48, in_channels=1, num_classes=3, patch_size=8),
]
SMALL = InputSpec(image_size=32, num_classes=5, patch_size=8)

every_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
light_space = pytest.mark.parametrize(
    "space",
    [SPACES[name] for name in ("autoformer-tiny", "autoformer-vb101", "pit-vb101")],
    ids=lambda space: space.name,
)


def sampled(space: Space[Any], seed: int = 0) -> Any:
    return space.sample(random.Random(seed))


def built(space: Space[Any], spec: InputSpec = SMALL, seed: int = 0) -> nn.Module:
    return space.build(sampled(space), spec, seed)


def images(spec: InputSpec = SMALL, batch: int = 2) -> Tensor:
    shape = (batch, spec.in_channels, spec.image_size, spec.image_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def counted_flops(network: nn.Module, spec: InputSpec) -> int:
    with torch.no_grad():
        return count_flops(lambda: network(images(spec, batch=1)))[1]


def made_by_layers(network: nn.Module, spec: InputSpec) -> int:
    """Return the output elements of all convolutions and linears, by hooks."""
    counts = []
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.register_forward_hook(lambda module, args, output: counts.append(output.numel()))
    with torch.no_grad():
        network(images(spec, batch=1))
    return sum(counts)


@every_space
def test_size_and_flops_in_closed_form_are_those_of_the_built_network(space: Space[Any]) -> None:
    for seed, spec in enumerate(SPECS):
        arch = sampled(space, seed)
        network = space.build(arch, spec)
        assert space.params(arch, spec) == sum(p.numel() for p in network.parameters())
        assert 2 * space.flops(arch, spec) == counted_flops(network, spec)
        counted = read_statistics(network, (), {("activations", "")}, images(spec)).net["activations"]
        assert space.activations(arch, spec) == counted == made_by_layers(network, spec)


@light_space
def test_size_and_flops_on_many_architectures_of_the_default_input_size(space: Space[Any]) -> None:
    spec = InputSpec()
    rng = random.Random(3)
    for _ in range(6):
        arch = space.sample(rng)
        assert space.params(arch, spec) == sum(p.numel() for p in space.build(arch, spec).parameters())
    arch = sampled(space)
    assert 2 * space.flops(arch, spec) == counted_flops(space.build(arch, spec), spec)


@light_space
def test_weights_follow_from_seed_and_architecture_alone(space: Space[Any]) -> None:
    arch = sampled(space)
    torch.manual_seed(1)
    first = space.build(arch, SMALL, seed=7).state_dict()
    torch.manual_seed(2)
    second = space.build(arch, SMALL, seed=7).state_dict()
    other_seed = space.build(arch, SMALL, seed=8).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.weight"], other_seed["head.weight"])
    assert not torch.equal(first["pos_embed"], other_seed["pos_embed"])


def test_architectures_of_one_shape_and_seed_have_weights_of_their_own() -> None:
    space = SPACES["autoformer-vb101"]
    arch = AutoFormerArch(192, (3,) * 12, (4.0,) * 12)
    a = space.build(arch, SMALL).state_dict()
    b = space.build(replace(arch, num_heads=(4,) * 12), SMALL).state_dict()
    assert not torch.equal(a["head.weight"], b["head.weight"])


@every_space
def test_all_weights_are_drawn(space: Space[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not drawn would be what the memory held before: NaN here."""
    drawn, draw = [], blocks._draw

    def onto_nan(values: Tensor, *rest: Any) -> None:
        drawn.append(id(values))
        draw(values.fill_(torch.nan), *rest)

    monkeypatch.setattr(blocks, "_draw", onto_nan)
    network = space.build(sampled(space), SMALL)
    assert drawn == [id(parameter) for parameter in network.parameters()]
    assert all(tensor.isfinite().all() for tensor in network.state_dict().values())


@light_space
def test_building_leaves_global_generators_and_the_default_device_alone(space: Space[Any]) -> None:
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    network = built(space)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.random.get_state()[1].tolist() == states[2]
    assert {tensor.device.type for tensor in (*network.parameters(), *network.buffers())} == {"cpu"}
    assert torch.empty(1).device.type == "cpu"
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())


def expected_spread(name: str, module: nn.Module, space: Space[Any]) -> tuple[float, float]:
    """Return mean and standard deviation that a parameter starts with."""
    if isinstance(module, nn.LayerNorm):
        return float(name.endswith("weight")), 0.0
    if isinstance(module, nn.Conv2d) or (isinstance(module, nn.Linear) and space.name == "pit-vb101"):
        return 0.0, module.weight[0].numel() ** -0.5 / 3**0.5
    if isinstance(module, nn.Linear) and name.endswith("bias"):
        return 0.0, 0.0
    return 0.0, 0.02


@light_space
def test_every_parameter_starts_as_published(space: Space[Any]) -> None:
    network = built(space)
    modules = dict(network.named_modules())
    for name, values in network.named_parameters():
        mean, deviation = expected_spread(name, modules[name.rpartition(".")[0]], space)
        size, values = values.numel(), values.detach()
        assert values.isfinite().all(), name
        assert abs(values.mean().item() - mean) <= 6 * deviation / size**0.5, name
        if deviation == 0:
            assert (values == mean).all(), name
        elif size > 1:
            assert abs(values.std().item() / deviation - 1) <= 5 / size**0.5, name
        uniform = isinstance(modules[name.rpartition(".")[0]], nn.Conv2d) or (
            space.name == "pit-vb101" and deviation not in (0, 0.02)
        )
        if uniform:
            assert values.abs().max() <= deviation * 3**0.5 * (1 + 1e-6), name
        elif size > 10_000:
            assert values.abs().max() > deviation * 3, name


def test_default_initialisation_is_pytorchs_own_distribution() -> None:
    torch_generator = torch.get_rng_state()
    torch.manual_seed(0)
    theirs = nn.Linear(300, 200)
    torch.set_rng_state(torch_generator)
    ours = initialised(lambda: nn.Linear(300, 200), torch.Generator().manual_seed(0), linear="torch")
    for name in ("weight", "bias"):
        a, b = getattr(theirs, name).detach(), getattr(ours, name).detach()
        assert a.std().item() == pytest.approx(b.std().item(), rel=0.1)
        assert a.abs().max().item() == pytest.approx(b.abs().max().item(), rel=0.02)


@light_space
def test_blocks_have_the_names_that_layers_are_found_by(space: Space[Any]) -> None:
    arch, network = sampled(space), built(space)
    blocks = [module for name, module in network.named_modules() if re.search(r"(blocks|stages\.\d)\.\d+$", name)]
    assert len(blocks) == space.depth(arch)
    for block in blocks:
        assert isinstance(block.attn.softmax, nn.Softmax)
        assert isinstance(block.mlp.act, nn.GELU)
        assert isinstance(block.attn.num_heads, int)
        for layer in (block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2):
            assert isinstance(layer, nn.Linear)
    linears = sum(isinstance(module, nn.Linear) for module in network.modules())
    assert linears == 4 * len(blocks) + (3 if space.name == "pit-vb101" else 1)


@light_space
def test_attention_probabilities_can_be_hooked(space: Space[Any]) -> None:
    network = built(space)
    seen = []
    for module in network.modules():
        if isinstance(module, Attention):
            heads = module.num_heads
            module.softmax.register_forward_hook(lambda _, __, out, heads=heads: seen.append((heads, out)))
    network(images())
    assert len(seen) == space.depth(sampled(space))
    for heads, probabilities in seen:
        batch, found, tokens, keys = probabilities.shape
        assert (batch, found, tokens) == (2, heads, keys)
        torch.testing.assert_close(probabilities.sum(-1), torch.ones(batch, heads, tokens))


@light_space
def test_every_parameter_has_a_gradient(space: Space[Any]) -> None:
    network = built(space)
    network(images()).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def laid_out(tables: RelativePosition2D, grid: int) -> Tensor:
    """Return the vectors r_ij (1 + g², 1 + g², d), pair by pair as the paper defines them."""
    rows = []
    for i in range(grid**2 + 1):
        for j in range(grid**2 + 1):
            vertical = horizontal = 0
            if i and j:
                down, right = (j - 1) // grid - (i - 1) // grid, (j - 1) % grid - (i - 1) % grid
                vertical = max(-REACH, min(REACH, down)) + REACH + 1
                horizontal = max(-REACH, min(REACH, right)) + REACH + 1
            rows.append(tables.vertical[vertical] + tables.horizontal[horizontal])
    return torch.stack(rows).unflatten(0, (grid**2 + 1, grid**2 + 1))


def drawn_attention(width: int, heads: int, head_dim: int, grid: int | None) -> nn.Module:
    return initialised(
        lambda: Attention(width, heads, head_dim, grid), torch.Generator().manual_seed(5), linear="torch"
    ).double()


@pytest.mark.parametrize("grid", [1, 2, 5, 17], ids=lambda grid: f"grid{grid}")
def test_relative_positions_equal_the_pairwise_definition(grid: int) -> None:
    # A grid of 17 has offsets beyond the reach of 14, which share the last rows.
    head_dim, heads, length = 3, 2, grid**2 + 1
    tables = drawn_attention(6, heads, head_dim, grid).rel_pos_k
    vectors = laid_out(tables, grid)
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(2, heads, length, head_dim, generator=generator, dtype=torch.double)
    attention = torch.rand(2, heads, length, length, generator=generator, dtype=torch.double)
    torch.testing.assert_close(tables.logits(query), torch.einsum("bhid,ijd->bhij", query, vectors))
    torch.testing.assert_close(tables.values(attention), torch.einsum("bhij,ijd->bhid", attention, vectors))


@pytest.mark.parametrize("relative", [False, True])
def test_attention_equals_its_formula(relative: bool) -> None:
    grid, heads, head_dim, width = 3, 2, 4, 6
    module = drawn_attention(width, heads, head_dim, grid if relative else None)
    x = torch.randn(2, 10, width, generator=torch.Generator().manual_seed(2), dtype=torch.double)
    parts = module.qkv(x).chunk(3, dim=2)
    query, key, value = (part.reshape(2, 10, heads, head_dim).transpose(1, 2) for part in parts)
    if not relative:
        out = nn.functional.scaled_dot_product_attention(query, key, value)
    else:
        r_k, r_v = laid_out(module.rel_pos_k, grid), laid_out(module.rel_pos_v, grid)
        keys = key[:, :, None] + r_k
        logits = (query[:, :, :, None] * keys).sum(-1) / head_dim**0.5
        out = (logits.softmax(-1)[..., None] * (value[:, :, None] + r_v)).sum(3)
    torch.testing.assert_close(module(x), module.proj(out.transpose(1, 2).reshape(2, 10, heads * head_dim)))


def read_gradient(network: nn.Module, spec: InputSpec) -> Tensor:
    """Return the loss gradient of the last block's output, the size of it per token."""
    last = [module for module in network.modules() if isinstance(getattr(module, "mlp", None), nn.Module)][-1]
    kept = []
    last.register_forward_hook(lambda _, __, out: (out.retain_grad(), kept.append(out))[0])
    network(images(spec)).square().sum().backward()
    return kept[0].grad.abs().sum(dim=(0, 2))


def test_autoformers_head_reads_all_patches_and_not_the_class_token() -> None:
    for name in ("autoformer-tiny", "autoformer-vb101"):
        gradient = read_gradient(built(SPACES[name]), SMALL)
        assert gradient[0] == 0
        assert (gradient[1:] > 0).all()


def test_pits_head_reads_the_class_token_only() -> None:
    gradient = read_gradient(built(SPACES["pit-vb101"]), SMALL)
    assert gradient[0] > 0
    assert (gradient[1:] == 0).all()


def test_pits_stages_have_the_published_tokens_and_widths() -> None:
    space = SPACES["pit-vb101"]
    arch = PitArch(16, 2.0, (1, 6, 6), (2, 4, 8))
    network = space.build(arch, InputSpec())
    shapes = []
    for stage in network.stages:
        stage.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape[1:])))
    with torch.no_grad():
        assert network(images(InputSpec(), batch=1)).shape == (1, 1000)
    assert shapes == [(1 + 27**2, 32), (1 + 14**2, 64), (1 + 7**2, 128)]


def test_microsofts_heads_have_64_channels_and_vit_bench_101s_share_the_width() -> None:
    arch = AutoFormerArch(216, (3, 4) * 6, (3.5,) * 12)
    microsoft = SPACES["autoformer-tiny"].build(arch, SMALL).blocks
    vb101 = SPACES["autoformer-vb101"].build(arch, SMALL).blocks
    assert [block.attn.qkv.out_features for block in microsoft[:2]] == [3 * 64 * 3, 3 * 64 * 4]
    assert [block.attn.qkv.out_features for block in vb101[:2]] == [3 * 216, 3 * 216]
    assert [block.attn.head_dim for block in vb101[:2]] == [72, 54]
    assert microsoft[0].mlp.fc1.out_features == int(216 * 3.5)
    assert (microsoft[0].norm1.eps, vb101[0].norm1.eps) == (1e-5, 1e-6)
    assert microsoft[0].attn.rel_pos_k.vertical.shape == (30, 64)
    assert vb101[0].attn.rel_pos_k is None


@every_space
def test_an_architecture_outside_the_space_is_not_built(space: Space[Any]) -> None:
    arch = sampled(space)
    genes = {PitArch: "base_dim", AutoFormerArch: "embed_dim", MicroVitArch: "mixer", NasBench201Arch: "operations"}
    gene = genes[type(arch)]
    with pytest.raises(ArchitectureError, match=f"{gene} 7 is not"):
        space.build(replace(arch, **{gene: 7}), SMALL)


@light_space
def test_a_state_dict_moves_weights_from_one_network_to_another(space: Space[Any]) -> None:
    a, b = built(space, seed=1).eval(), built(space, seed=2).eval()
    assert not any("offsets" in name for name in a.state_dict())
    b.load_state_dict(a.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(a(images()), b(images()), rtol=0, atol=0)
