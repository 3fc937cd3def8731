"""The space `timm`: names in a library, which can be built and not varied."""

import sys
from random import Random

import pytest
import torch

from autoprox.bench_cache.spaces.listed import input_of
from autoprox.bench_cache.spaces.registry import LISTED, SPACES, ArchitectureError, InputSpec, get_space
from autoprox.bench_cache.spaces.timm_networks import TimmArch

TIMM = get_space("timm")
TINY = TimmArch("test_vit", 160)


def test_it_is_listed_and_not_searched() -> None:
    assert list(LISTED) == ["timm"]
    assert "timm" not in SPACES
    for refused in (lambda: TIMM.mutate(TINY, Random(0)), lambda: TIMM.crossover(TINY, TINY, Random(0))):
        with pytest.raises(ArchitectureError, match=r"timm: .* they are a list and have no genes"):
            refused()
    for refused in (
        lambda: TIMM.params(TINY, InputSpec()),
        lambda: TIMM.min_flops(InputSpec()),
        lambda: TIMM.depth(TINY),
    ):
        with pytest.raises(
            ArchitectureError, match=r"does not follow from the name .* read it from a benchmark's table"
        ):
            refused()


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"name": "swin.ms_in1k", "img_size": 224}, "without a tag"),
        ({"name": "../x", "img_size": 224}, "is no name of timm"),
        ({"name": 3, "img_size": 224}, "is no name of timm"),
        ({"name": "swin", "img_size": 0}, "img_size 0 is not an integer"),
        ({"name": "swin", "img_size": 2.5}, "img_size 2.5 is not an integer"),
        ({"name": "swin"}, "field img_size is missing"),
    ],
)
def test_what_cannot_be_a_name_is_refused(record: dict, message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        TIMM.from_json(record)


def test_each_network_reads_images_of_its_own_size() -> None:
    assert input_of(TIMM, TINY, InputSpec(224, 3, 10)) == InputSpec(160, 3, 10)
    pit = get_space("pit-vb101")
    assert input_of(pit, pit.sample(Random(0)), InputSpec(224, 3, 10)) == InputSpec(224, 3, 10)


def test_without_timm_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # what Python takes for a module that is not there
    with pytest.raises(ArchitectureError, match=r"pip install 'autoprox\[timm\]'"):
        TIMM.build(TINY, InputSpec())


def test_networks_are_built_by_seed_and_leave_the_generator() -> None:
    pytest.importorskip("timm")
    before = torch.get_rng_state()
    first, again, other = (TIMM.build(TINY, InputSpec(num_classes=7), seed) for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    for (name, a), b, c in zip(first.named_parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b), name
        assert a.ndim < 2 or not torch.equal(a, c) or not a.any(), name
    assert first.training
    assert first(torch.zeros(2, 3, 160, 160)).shape == (2, 7)
    TIMM.validate(TIMM.sample(Random(0)))
    with pytest.raises(ArchitectureError, match=r"has no network 'tset_vit' \(did you mean test_vit"):
        TIMM.build(TimmArch("tset_vit", 160), InputSpec())
