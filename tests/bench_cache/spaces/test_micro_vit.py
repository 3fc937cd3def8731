"""The space micro-vit: one size for all, mixers against their definitions, and what formulas and trainings read."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional

from autoprox import Proxy
from autoprox.bench_cache.spaces.micro_vit import ACTIVATIONS, GENES, INITS, NORMS, MicroVitArch
from autoprox.bench_cache.spaces.registry import SPACES, ArchitectureError, InputSpec
from autoprox.bench_cache.spaces.token_mixers import MIXERS
from autoprox.primitives.flops import count_flops

SPACE = SPACES["micro-vit"]
SPECS = (InputSpec(8, 1, 10, 2), InputSpec(28, 1, 10, 7), InputSpec(5, 8, 12, 1), InputSpec(32, 3, 10, 8))
DIGITS = SPECS[0]
LINEARS = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")

every_mixer = pytest.mark.parametrize("mixer", MIXERS)


def uniform(**genes: object) -> MicroVitArch:
    """The architecture whose blocks all have these genes, and else those of an ordinary ViT."""
    usual = {
        "mixer": "softmax4", "activation": "gelu", "norm": "pre", "skip": 1.0, "layer_scale": 1.0, "init": "fan_in"
    }  # fmt: skip
    return MicroVitArch(**{gene: (value,) * 4 for gene, value in (usual | genes).items()})


def everything() -> list[MicroVitArch]:
    """Architectures that show every choice of every gene, and some at random."""
    rng = random.Random(0)
    shown = [uniform(**{gene: value}) for gene, values in SPACE.choices().items() for value in values]
    return shown + [SPACE.sample(rng) for _ in range(5)]


def images(spec: InputSpec = DIGITS, batch: int = 6) -> Tensor:
    shape = (batch, spec.in_channels, spec.image_size, spec.image_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "spec",
    [*(pytest.param(spec, marks=pytest.mark.slow) for spec in SPECS[:3]), SPECS[3]],
    ids=("digits", "fashion", "pines", "photos"),
)
def test_all_have_one_size_and_it_is_that_of_the_built_network(spec: InputSpec) -> None:
    params, flops = SPACE.min_params(spec), SPACE.min_flops(spec)
    for arch in everything():
        network = SPACE.build(arch, spec)
        with torch.no_grad():
            _, counted = count_flops(lambda network=network: network(images(spec, 1)))
        assert sum(p.numel() for p in network.parameters()) == SPACE.params(arch, spec) == params
        assert counted / 2 == SPACE.flops(arch, spec) == flops
        assert (SPACE.depth(arch), SPACE.width(arch)) == (4, 24.0)


def test_a_record_is_read_back_and_its_key_is_stable() -> None:
    arch = replace(uniform(), mixer=("softmax4", "conv", "pool", "gate4"), skip=(0, 0.5, 1, 1))
    again = SPACE.from_json(SPACE.to_json(arch))
    assert again == arch
    assert SPACE.key(again) == SPACE.key(arch)
    assert SPACE.key(arch) == (
        "micro-vit:softmax4,conv,pool,gate4|gelu,gelu,gelu,gelu|pre,pre,pre,pre|0,0.5,1,1|1,1,1,1|"
        "fan_in,fan_in,fan_in,fan_in"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mixer": ("softmax4",) * 3 + ("softmax",)}, r"mixer\[3\] 'softmax' is not one of softmax1, softmax4"),
        ({"norm": ("pre", 1, "pre", "pre")}, r"norm\[1\] 1 is not one of pre, post, none"),
        ({"skip": (1.0, 1.0, True, 1.0)}, r"skip\[2\] True is not one of 0, 0.5, 1"),
        ({"init": ("large",) * 3}, r"init \['large', 'large', 'large'\] is not a sequence of 4 values"),
        ({"activation": "gelu"}, r"activation 'gelu' is not a sequence of 4 values"),
    ],
)
def test_what_is_outside_the_space_is_refused_by_gene_and_block(change: dict, message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        SPACE.validate(replace(uniform(), **change))


def test_images_that_the_patches_do_not_divide_are_refused() -> None:
    with pytest.raises(ArchitectureError, match="image_size 9 is not a multiple of patch_size 2"):
        SPACE.params(uniform(), InputSpec(9, 1, 10, 2))


# How it works


def attention(network: nn.Module) -> Tensor:
    """What the statistic attn reads of the first block, (batch, heads, tokens, tokens)."""
    seen = []
    network.blocks[0].attn.softmax.register_forward_hook(lambda _, __, out: seen.append(out))
    network(images())
    return seen[0].detach()


@every_mixer
def test_the_matrix_of_a_mixer_is_what_its_name_says(mixer: str) -> None:
    matrix = attention(SPACE.build(uniform(mixer=mixer), DIGITS))
    heads = SPACE.build(uniform(mixer=mixer), DIGITS).blocks[0].attn.num_heads
    assert matrix.shape == (6, heads, 16, 16)
    if mixer not in ("sigmoid4", "product4", "conv", "shift"):
        torch.testing.assert_close(matrix.sum(-1), torch.ones(6, heads, 16))
    if mixer in ("conv", "shift"):
        assert matrix.sum(-1).unique().tolist() == [0.0, 1.0]
    if mixer in ("local4", "pool"):
        assert (matrix[:, :, 0] > 0).nonzero()[:, -1].unique().tolist() == [0, 1, 4, 5]
    if mixer.startswith("softmax"):
        assert isinstance(SPACE.build(uniform(mixer=mixer), DIGITS).blocks[0].attn.softmax, nn.Softmax)


@pytest.mark.parametrize(("mixer", "temperature"), [("softmax4", 1.0), ("sharp4", 0.125), ("flat4", 8.0)])
def test_softmax_attention_equals_torchs_own(mixer: str, temperature: float) -> None:
    module = SPACE.build(uniform(mixer=mixer), DIGITS).blocks[0].attn
    x = torch.randn(2, 16, 24, generator=torch.Generator().manual_seed(1))
    query, key, value = (part.unflatten(2, (4, 6)).transpose(1, 2) for part in module.qkv(x).chunk(3, 2))
    expected = functional.scaled_dot_product_attention(query, key, value, scale=6**-0.5 / temperature)
    torch.testing.assert_close(module(x), module.proj(expected.transpose(1, 2).flatten(2)))


def test_the_convolution_equals_torchs_own() -> None:
    module = SPACE.build(uniform(mixer="conv"), DIGITS).blocks[0].attn
    x = torch.randn(2, 16, 24, generator=torch.Generator().manual_seed(1))
    query, key, value = (weight.unflatten(0, (2, 12)) for weight in module.qkv.weight.chunk(3))
    halves = []
    for half, axis in ((0, 3), (1, 2)):  # S takes from the place before, its transpose from the one after
        taps = torch.stack([part[half] for part in (query, key, value)], -1)
        reads_next = taps.flip(-1)  # v for the place before, q for the one after
        kernel = reads_next[:, :, None, :] if axis == 3 else reads_next[:, :, :, None]
        grid = x.transpose(1, 2).unflatten(2, (4, 4))
        halves.append(functional.conv2d(grid, kernel, padding=(0, 1) if axis == 3 else (1, 0)))
    expected = torch.cat(halves, 1).flatten(2).transpose(1, 2)
    torch.testing.assert_close(module(x), module.proj(expected))


def test_pooling_equals_torchs_own() -> None:
    module = SPACE.build(uniform(mixer="pool"), DIGITS).blocks[0].attn
    x = torch.randn(2, 16, 24, generator=torch.Generator().manual_seed(1))
    query, key, value = (part.transpose(1, 2).unflatten(2, (4, 4)) for part in module.qkv(x).chunk(3, 2))
    mean = {"kernel_size": 3, "stride": 1, "padding": 1, "count_include_pad": False}
    mixed = functional.avg_pool2d(value, **mean) - functional.avg_pool2d(query, **mean).sigmoid() * key
    torch.testing.assert_close(module(x), module.proj(mixed.flatten(2).transpose(1, 2)))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("skip", [0.0, 0.5])
def test_a_block_is_its_formula(norm: str, skip: float) -> None:
    block = SPACE.build(uniform(norm=norm, skip=skip, layer_scale=0.125), DIGITS).blocks[0]
    x = torch.randn(2, 16, 24, generator=torch.Generator().manual_seed(1))

    def normal(y: Tensor) -> Tensor:
        return (y - y.mean(-1, keepdim=True)) / (y.var(-1, keepdim=True, correction=0) + 1e-6).sqrt()

    y = x
    for branch in (block.attn, block.mlp):
        y = skip * y + 0.125 * branch(normal(y) if norm == "pre" else y)
        y = normal(y) if norm == "post" else y
    torch.testing.assert_close(block(x), y)


@pytest.mark.parametrize(("init", "deviation"), [("small", 0.125), ("fan_in", 1.0), ("large", 2.0)])
def test_linears_start_with_the_spread_of_their_gene(init: str, deviation: float) -> None:
    for block in SPACE.build(uniform(init=init), DIGITS).blocks:
        for path in LINEARS:
            linear = block.get_submodule(path)
            assert (linear.weight.std() * linear.in_features**0.5).item() == pytest.approx(deviation, rel=0.12)
            assert not linear.bias.any()


def test_orthogonal_linears_start_orthogonal() -> None:
    proj = SPACE.build(uniform(init="orthogonal"), DIGITS).blocks[0].attn.proj.weight.detach()
    torch.testing.assert_close(proj @ proj.T, torch.eye(24), atol=1e-5, rtol=0)


def test_a_seed_gives_one_network_and_every_architecture_its_own() -> None:
    a, b = (SPACE.build(uniform(), DIGITS, seed=3).state_dict() for _ in range(2))
    assert all(torch.equal(a[name], b[name]) for name in a)
    others = SPACE.build(uniform(), DIGITS, seed=4), SPACE.build(uniform(mixer="conv"), DIGITS, seed=3)
    assert not any(torch.equal(a["head.weight"], other.head.weight) for other in others)


# What is made with it


@pytest.mark.parametrize(
    "genes",
    [
        *({"mixer": mixer} for mixer in MIXERS),
        *({"activation": activation} for activation in ACTIVATIONS),
        *({"norm": norm, "skip": skip, "layer_scale": 0.015625} for norm in NORMS for skip in (0.0, 1.0)),
        *({"init": init} for init in INITS),
    ],
    ids=lambda genes: "-".join(map(str, genes.values())),
)
def test_a_gradient_reaches_every_linear_and_a_step_lowers_the_loss(genes: dict) -> None:
    network, labels = SPACE.build(uniform(**genes), DIGITS), torch.arange(6)
    loss = functional.cross_entropy(network(images()), labels)
    loss.backward()
    for number, block in enumerate(network.blocks):
        for path in LINEARS:
            weight = block.get_submodule(path).weight
            assert weight.grad.isfinite().all(), (number, path)
            assert weight.grad.abs().sum() > 0, (number, path)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter -= 1e-3 * parameter.grad / max(1.0, parameter.grad.norm().item())
        assert functional.cross_entropy(network(images()), labels) < loss


@every_mixer
def test_a_gradient_reaches_queries_keys_and_values(mixer: str) -> None:
    network = SPACE.build(uniform(mixer=mixer, skip=0.5), DIGITS)
    functional.cross_entropy(network(images()), torch.arange(6)).backward()
    for part in network.blocks[0].attn.qkv.weight.grad.chunk(3):
        assert part.abs().sum() > 0


@pytest.mark.slow
def test_networks_stacked_over_seeds_give_what_each_gives() -> None:
    for arch in everything():
        networks = [SPACE.build(arch, DIGITS, seed) for seed in range(3)]
        parameters, buffers = stack_module_state(networks)
        stacked = vmap(lambda p, b, x, shell=networks[0]: functional_call(shell, {**p, **b}, (x,)))
        out = stacked(parameters, buffers, images().expand(3, *images().shape))
        for network, found in zip(networks, out, strict=True):
            torch.testing.assert_close(network(images()), found, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "formula",
    [
        "sum(fro(weight))",
        "sum(l1(weight * weight_grad))",
        "sum(std(act))",
        "mean(std(attn))",
        "sum(l1(weight * weight_grad[synflow]))",
        "mean(fro(act_grad[noise])) + mean(heads)",
    ],
)
def test_formulas_score_every_kind_of_network(formula: str) -> None:
    proxy, labels = Proxy.from_formula(formula), torch.arange(6)
    scores = {proxy.score(SPACE.build(arch, DIGITS), images(), labels) for arch in everything()}
    assert len(scores) > 10


def test_genes_are_the_choices() -> None:
    assert tuple(SPACE.choices()) == GENES
