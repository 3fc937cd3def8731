"""Search spaces: drawing, varying, checking, naming and sizing architectures; the published sizes of AutoFormers."""

import json
import random
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import product
from typing import Any

import orjson
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from places import DATA

from autoprox.bench_cache.spaces.autoformer import AutoFormerArch, AutoFormerSpace, published_flops
from autoprox.bench_cache.spaces.micro_vit import MicroVitArch, MicroVitSpace
from autoprox.bench_cache.spaces.nas_bench_201 import NasBench201Arch, NasBench201Space
from autoprox.bench_cache.spaces.pit import PitArch
from autoprox.bench_cache.spaces.registry import SPACES, ArchitectureError, InputSpec, Space, by_name, get_space

SPEC = InputSpec()
SMALL_SPEC = InputSpec(image_size=32, in_channels=1, num_classes=4, patch_size=8)
TINY, PIT = SPACES["autoformer-tiny"], SPACES["pit-vb101"]
TINY_ARCH = AutoFormerArch(192, (3,) * 12, (3.5,) * 12)
PIT_ARCH = PitArch(16, 2.0, (1, 6, 6), (2, 2, 2))

every_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
seeds = st.integers(0, 2**32)


def genes(arch: Any) -> dict[str, Any]:
    """Return every single choice an architecture is made of, per-layer ones by layer."""
    found = {}
    for name, value in asdict(arch).items():
        per_layer = isinstance(value, tuple) and isinstance(arch, AutoFormerArch | MicroVitArch | NasBench201Arch)
        found |= {(name, layer): v for layer, v in enumerate(value)} if per_layer else {(name, None): value}
    return found


@every_space
@settings(max_examples=30, deadline=None)
@given(seed=seeds)
def test_sampled_mutated_and_crossed_architectures_are_in_the_space(space: Space[Any], seed: int) -> None:
    rng = random.Random(seed)
    a, b = space.sample(rng), space.sample(rng)
    child, mutant = space.crossover(a, b, rng), space.mutate(a, rng)
    for arch in (a, b, child, mutant, space.crossover(mutant, child, rng)):
        space.validate(arch)
    assert mutant != a


@every_space
@settings(max_examples=30, deadline=None)
@given(seed=seeds)
def test_a_mutant_differs_in_one_gene_or_in_depth(space: Space[Any], seed: int) -> None:
    rng = random.Random(seed)
    arch = space.sample(rng)
    before, after = genes(arch), genes(space.mutate(arch, rng))
    shared = [gene for gene in before if gene in after]
    changed = [gene for gene in shared if before[gene] != after[gene]]
    assert len(changed) == (1 if before.keys() == after.keys() else 0)


@every_space
@settings(max_examples=30, deadline=None)
@given(seed=seeds)
def test_a_child_has_only_genes_of_its_parents(space: Space[Any], seed: int) -> None:
    rng = random.Random(seed)
    a, b = space.sample(rng), space.sample(rng)
    child = genes(space.crossover(a, b, rng))
    for gene, value in child.items():
        assert value in (genes(a).get(gene), genes(b).get(gene))
    assert child.keys() in (genes(a).keys(), genes(b).keys())


@every_space
def test_every_choice_is_sampled_reached_by_mutation_and_passed_on_by_both_parents(space: Any) -> None:
    rng = random.Random(0)
    arch = space.sample(rng)
    sampled, mutated = [], []
    for _ in range(600):
        arch = space.mutate(arch, rng)
        mutated.append(arch)
        sampled.append(space.sample(rng))
    for archs in (sampled, mutated):
        for gene, choices in space.choices().items():
            values = [getattr(arch, gene) for arch in archs]
            if isinstance(space, MicroVitSpace | NasBench201Space) or (
                isinstance(space, AutoFormerSpace) and gene in ("num_heads", "mlp_ratio")
            ):
                values = [value for layers in values for value in layers]
            assert set(values) == set(choices), gene
    a, b = sampled[0], sampled[1]
    children = {space.key(space.crossover(a, b, rng)) for _ in range(60)}
    assert len(children) > 3


def test_layers_of_parents_of_different_depth_come_from_both_where_both_have_them() -> None:
    shallow = AutoFormerArch(192, (3,) * 12, (3.5,) * 12)
    deep = AutoFormerArch(240, (4,) * 14, (4.0,) * 14)
    rng = random.Random(1)
    children = [TINY.crossover(shallow, deep, rng) for _ in range(200)]
    assert {child.depth for child in children} == {12, 14}
    assert {child.num_heads[11] for child in children} == {3, 4}
    assert {child.num_heads[12:] for child in children} == {(), (4, 4)}


@every_space
def test_a_seed_gives_one_result_and_global_generators_stay_where_they_are(space: Space[Any]) -> None:
    python, pytorch = random.getstate(), torch.get_rng_state()

    def draw(seed: int) -> list[Any]:
        rng = random.Random(seed)
        a, b = space.sample(rng), space.sample(rng)
        return [a, b, space.mutate(a, rng), space.crossover(a, b, rng)]

    assert draw(5) == draw(5) != draw(6)
    assert random.getstate() == python
    assert torch.equal(torch.get_rng_state(), pytorch)


@every_space
@settings(max_examples=30, deadline=None)
@given(seed=seeds)
def test_json_round_trip(space: Space[Any], seed: int) -> None:
    arch = space.sample(random.Random(seed))
    again = space.from_json(orjson.loads(orjson.dumps(space.to_json(arch))))
    assert again == arch
    assert orjson.dumps(space.to_json(again)) == orjson.dumps(space.to_json(arch))


@every_space
@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_keys_are_equal_exactly_for_equal_architectures(space: Space[Any], seed: int) -> None:
    rng = random.Random(seed)
    archs = [space.sample(rng) for _ in range(10)]
    archs += [space.mutate(arch, rng) for arch in archs]
    for a, b in product(archs, archs):
        assert (space.key(a) == space.key(b)) == (a == b)
    assert not any("\n" in space.key(arch) for arch in archs)


def test_the_keys_of_all_1600_pits_differ() -> None:
    assert len({PIT.key(arch) for arch in PIT.architectures()}) == 1600


def test_equal_numbers_written_differently_make_equal_architectures_keys_and_json() -> None:
    whole = replace(TINY_ARCH, mlp_ratio=(4,) * 12)
    exact = replace(TINY_ARCH, mlp_ratio=(4.0,) * 12)
    TINY.validate(whole)
    assert TINY.key(whole) == TINY.key(exact)
    assert orjson.dumps(TINY.to_json(whole)) == orjson.dumps(TINY.to_json(exact))
    assert orjson.dumps(TINY.to_json(TINY.from_json(TINY.to_json(whole)))) == orjson.dumps(TINY.to_json(exact))


def test_the_key_is_stable() -> None:
    # Keys decide splits and weights: a new spelling would silently change every result.
    arch = AutoFormerArch(192, (4, 3) * 6, (3.5, 4.0) * 6)
    assert TINY.key(arch) == "autoformer-tiny:192|4,3,4,3,4,3,4,3,4,3,4,3|3.5,4,3.5,4,3.5,4,3.5,4,3.5,4,3.5,4"
    assert PIT.key(PIT_ARCH) == "pit-vb101:16|2|1,6,6|2,2,2"


def test_depth_and_width() -> None:
    assert (TINY.depth(TINY_ARCH), TINY.width(TINY_ARCH)) == (12, 192.0)
    arch = PitArch(24, 4.0, (2, 6, 4), (2, 4, 8))
    assert PIT.depth(arch) == 12
    assert PIT.width(arch) == 24 * (2 * 2 + 6 * 4 + 4 * 8) / 12


@pytest.mark.parametrize(
    ("space", "arch", "message"),
    [
        (TINY, replace(TINY_ARCH, embed_dim=200), "autoformer-tiny: embed_dim 200 is not one of 192, 216, 240"),
        (TINY, replace(TINY_ARCH, embed_dim=192.0), "autoformer-tiny: embed_dim 192.0 is not one of 192, 216, 240"),
        (TINY, replace(TINY_ARCH, embed_dim="192"), "autoformer-tiny: embed_dim '192' is not one of 192, 216, 240"),
        (TINY, replace(TINY_ARCH, embed_dim=None), "autoformer-tiny: embed_dim None is not one of 192, 216, 240"),
        (
            TINY,
            replace(TINY_ARCH, num_heads=(3,) * 11 + (5,)),
            "autoformer-tiny: num_heads[11] 5 is not one of 3, 4",
        ),
        (
            TINY,
            replace(TINY_ARCH, mlp_ratio=(3.5, float("nan")) * 6),
            "autoformer-tiny: mlp_ratio[1] nan is not one of 3.5, 4",
        ),
        (
            TINY,
            replace(TINY_ARCH, mlp_ratio=(3.5, True) * 6),
            "autoformer-tiny: mlp_ratio[1] True is not one of 3.5, 4",
        ),
        (
            TINY,
            AutoFormerArch(192, (3,) * 15, (4.0,) * 15),
            "autoformer-tiny: depth 15 is not one of 12, 13, 14",
        ),
        (
            TINY,
            replace(TINY_ARCH, mlp_ratio=(4.0,) * 13),
            "autoformer-tiny: mlp_ratio has 13 values for the 12 layers of num_heads",
        ),
        (
            TINY,
            replace(TINY_ARCH, num_heads=3),
            "autoformer-tiny: num_heads 3 is not a sequence of one value per layer",
        ),
        (TINY, PIT_ARCH, "autoformer-tiny: expected AutoFormerArch, got PitArch"),
        (PIT, replace(PIT_ARCH, base_dim=48), "pit-vb101: base_dim 48 is not one of 16, 24, 32, 40"),
        (PIT, replace(PIT_ARCH, mlp_ratio=3), "pit-vb101: mlp_ratio 3 is not one of 2, 4, 6, 8"),
        (PIT, replace(PIT_ARCH, depth=(1, 6)), "pit-vb101: depth [1, 6] is not one of [1, 6, 6], [1, 8, 4]"),
        (PIT, replace(PIT_ARCH, depth=(True, 6, 6)), "pit-vb101: depth [True, 6, 6] is not one of [1, 6, 6]"),
        (PIT, replace(PIT_ARCH, num_heads=(2, 8, 2)), "pit-vb101: num_heads [2, 8, 2] is not one of [2, 2, 2]"),
        (PIT, TINY_ARCH, "pit-vb101: expected PitArch, got AutoFormerArch"),
    ],
)
def test_what_is_outside_a_space_is_refused_by_name(space: Space[Any], arch: Any, message: str) -> None:
    with pytest.raises(ArchitectureError) as error:
        space.validate(arch)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([1], "pit-vb101: an architecture is an object with base_dim, mlp_ratio, depth, num_heads, got list"),
        (
            {"base_dim": 16, "mlp_ratio": 2, "depth": [1, 6, 6]},
            "pit-vb101: field num_heads is missing; the fields are base_dim, mlp_ratio, depth, num_heads",
        ),
        (
            {"base_dim": 16, "mlp_ratios": 2, "depth": [1, 6, 6], "num_heads": [2, 2, 2]},
            "pit-vb101: unknown field 'mlp_ratios' (did you mean mlp_ratio?); the fields are",
        ),
        ({"base_dim": 16, 7: 2}, "pit-vb101: unknown field 7; the fields are"),
        (
            {"base_dim": "16", "mlp_ratio": 2, "depth": [1, 6, 6], "num_heads": [2, 2, 2]},
            "pit-vb101: base_dim '16' is not one of 16, 24, 32, 40",
        ),
        (
            {"base_dim": 16, "mlp_ratio": {"a": 1}, "depth": [1, 6, 6], "num_heads": [2, 2, 2]},
            "pit-vb101: mlp_ratio {'a': 1} is not one of 2, 4, 6, 8",
        ),
        (
            {"base_dim": 16, "mlp_ratio": 2, "depth": [1, 6, 7], "num_heads": [2, 2, 2]},
            "pit-vb101: depth [1, 6, 7] is not one of [1, 6, 6],",
        ),
    ],
)
def test_a_wrong_record_is_refused_by_field(record: Any, message: str) -> None:
    with pytest.raises(ArchitectureError) as error:
        PIT.from_json(record)
    assert str(error.value).startswith(message)


def test_an_error_quotes_a_huge_or_deep_value_in_short() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (deep, "x" * 10**6, list(range(10**5))):
        with pytest.raises(ArchitectureError) as error:
            TINY.from_json({"embed_dim": value, "num_heads": [3], "mlp_ratio": [4]})
        assert len(str(error.value)) < 600
    with pytest.raises(ArchitectureError):
        TINY.from_json({"x" * 10**6: 1})


def test_heads_that_do_not_divide_a_width_are_refused_where_they_split_it() -> None:
    vb101 = SPACES["autoformer-vb101"]
    with pytest.raises(ArchitectureError, match="embed_dim 200 is not a multiple of num_heads 3"):
        replace(vb101, embed_dims=(192, 200))
    assert replace(TINY, embed_dims=(200,)).sample(random.Random(0)).embed_dim == 200


def test_a_space_with_a_gene_of_one_choice_still_mutates() -> None:
    narrow = replace(TINY, heads=(3,), depths=(12,))
    rng = random.Random(0)
    arch = narrow.sample(rng)
    assert all(narrow.mutate(arch, rng) != arch for _ in range(50))


def test_get_space_suggests_the_closest_name() -> None:
    assert get_space("pit-vb101") is PIT
    with pytest.raises(ArchitectureError, match=r"unknown space 'autoformer-tny' \(did you mean autoformer-tiny"):
        get_space("autoformer-tny")
    with pytest.raises(ArchitectureError, match="the spaces are autoformer-tiny, autoformer-small"):
        get_space("")


def test_spaces_are_ordered_by_module_and_within_it_as_written() -> None:
    autoformers = [f"autoformer-{size}" for size in ("tiny", "small", "base", "vb101")]
    assert list(SPACES) == [*autoformers, "mini-vit", "micro-vit", "nas-bench-201", "pit-vb101"]


def test_two_spaces_of_one_name_are_refused() -> None:
    assert list(by_name([PIT, TINY])) == ["pit-vb101", "autoformer-tiny"]
    with pytest.raises(ArchitectureError, match="two spaces are called 'pit-vb101'"):
        by_name([PIT, TINY, PIT])


def test_the_table_of_spaces_is_read_only_and_agrees_with_the_names() -> None:
    assert all(space.name == name for name, space in SPACES.items())
    with pytest.raises(TypeError):
        SPACES["mine"] = TINY  # type: ignore[index]


@pytest.mark.parametrize(
    ("field", "value"), [("image_size", 0), ("in_channels", -3), ("num_classes", 2.5), ("patch_size", True)]
)
def test_an_input_that_is_no_image_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ArchitectureError, match=f"input: {field} {value!r} is not a positive integer"):
        InputSpec(**{field: value})


def test_an_input_a_network_cannot_read_is_refused() -> None:
    with pytest.raises(ArchitectureError, match="patch_size 16 is larger than image_size 8"):
        InputSpec(image_size=8)
    with pytest.raises(ArchitectureError, match="image_size 225 is not a multiple of patch_size 16"):
        TINY.params(TINY_ARCH, InputSpec(image_size=225))
    with pytest.raises(ArchitectureError, match="patch_size 1 is too small"):
        PIT.build(PIT_ARCH, InputSpec(image_size=8, patch_size=1))


def extremes(space: AutoFormerSpace) -> Iterator[AutoFormerArch]:
    """Yield every AutoFormer of a space whose layers are all alike, and some in which one layer is not."""
    for width, depth, heads, ratio in product(*space.choices().values()):
        yield AutoFormerArch(width, (heads,) * depth, (ratio,) * depth)
        for last, first in product(space.heads, space.ratios):
            yield AutoFormerArch(width, (*(heads,) * (depth - 1), last), (first, *(ratio,) * (depth - 1)))


@pytest.mark.parametrize("spec", [SPEC, SMALL_SPEC], ids=["224", "32"])
@every_space
def test_the_smallest_sizes_are_those_of_an_architecture_and_no_other_is_smaller(space: Any, spec: InputSpec) -> None:
    if isinstance(space, MicroVitSpace):  # all of one size
        everything = [space.sample(random.Random(seed)) for seed in range(5)]
    else:
        everything = list(extremes(space) if isinstance(space, AutoFormerSpace) else space.architectures())
    params, flops, activations = space.min_params(spec), space.min_flops(spec), space.min_activations(spec)
    assert params == min(space.params(arch, spec) for arch in everything)
    assert flops == min(space.flops(arch, spec) for arch in everything)
    assert activations == min(space.activations(arch, spec) for arch in everything)
    rng = random.Random(0)
    for arch in (space.sample(rng) for _ in range(200)):
        assert space.params(arch, spec) >= params
        assert space.flops(arch, spec) >= flops
        assert space.activations(arch, spec) >= activations


def test_heads_change_the_size_in_microsofts_autoformer_only() -> None:
    more = replace(TINY_ARCH, num_heads=(4,) * 12)
    assert TINY.params(more, SPEC) > TINY.params(TINY_ARCH, SPEC)
    vb101 = SPACES["autoformer-vb101"]
    assert vb101.params(more, SPEC) == vb101.params(TINY_ARCH, SPEC)
    assert vb101.flops(more, SPEC) == vb101.flops(TINY_ARCH, SPEC)


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_sizes_and_flops_of_the_1001_published_autoformers(size: str) -> None:
    path = DATA / "ood-vit-nas" / f"{size}.json"
    if not path.is_file():
        pytest.skip(f"reference data not found: {path}")
    space = get_space(f"autoformer-{size}")
    records = list(json.loads(path.read_text()).values())
    assert len(records) == 1001
    for record in records:
        setting = record["net_setting"]
        arch = AutoFormerArch(setting["embed_dim"][0], tuple(setting["num_heads"]), tuple(setting["mlp_ratio"]))
        space.validate(arch)
        assert space.params(arch, SPEC) == round(record["params"] * 1e6)
        assert published_flops(arch, SPEC) == round(record["flops"] * 1e6)
        assert 0.97 < space.flops(arch, SPEC) / published_flops(arch, SPEC) < 0.995
