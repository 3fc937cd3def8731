"""Batches of a search: images are read from a file of arrays, checked, and seen by the networks."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch

from autoprox.bench_cache.spaces.registry import InputSpec, get_space
from autoprox.proxy import Proxy, resolve
from autoprox.search.batch import Batch
from autoprox.search.candidate import SearchError
from autoprox.search.limits import Limits
from autoprox.search.on_space import search
from autoprox.search.proxies import as_proxy
from autoprox.search.strategies import SearchSettings

SPEC = InputSpec(image_size=24, num_classes=10, patch_size=8)
SMALL = Limits(max_params=500_000)
PIT = get_space("pit-vb101")


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def images(samples: int = 4) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(samples, 3, 24, 24)).astype(np.float32)


def test_without_images_the_probe_data_reads_gaussian_samples_with_random_classes() -> None:
    found = search(PIT, "snip", SearchSettings(budget=2, limits=SMALL), spec=SPEC, batch=Batch(3))
    inputs, targets = Batch(3).tensors(SPEC)
    for entry in found.candidates:
        assert entry.score == pytest.approx(resolve("snip").score(PIT.build(entry.arch, SPEC), inputs, targets))


def test_halves_need_an_even_number() -> None:
    with pytest.raises(SearchError, match="even number, not 3"):
        as_proxy("sum(fro(batch_std(weight_grad_batches[noise])))", Batch(3))


def test_images_are_what_the_networks_see() -> None:
    pixels, targets = images(), np.array([0, 9, 3, 3])
    batch = Batch.from_bytes(npz(images=pixels, targets=targets))
    result = search(PIT, "snip", SearchSettings(budget=2, limits=SMALL), spec=SPEC, batch=batch)
    for entry in result.candidates:
        model = PIT.build(entry.arch, SPEC)
        expected = Proxy.from_formula("sum(l1(weight * weight_grad))").score(
            model, torch.from_numpy(pixels), torch.from_numpy(targets)
        )
        assert entry.score == expected


class Hostile:
    def __reduce__(self):
        return print, ("this ran",)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "no .npz file"),
        (b"not a file", "no .npz file"),
        (npz(images=images(), targets=np.arange(4))[:-40], "no .npz file"),
        (npz(images=images()), "lacks images or targets"),
        (npz(images=np.array([Hostile()]), targets=np.arange(1)), "no .npz file of plain arrays"),
        (npz(images=images().astype(np.float64), targets=np.arange(4)), "finite float32"),
        (npz(images=images()[0], targets=np.arange(3)), "samples × channels"),
        (npz(images=images() * np.float32(np.nan), targets=np.arange(4)), "finite"),
        (npz(images=images(), targets=np.arange(3)), "4 class numbers"),
        (npz(images=images(), targets=np.ones(4)), "class numbers, not float64"),
    ],
)
def test_a_bad_file_of_images_is_refused(data: bytes, told: str, capsys) -> None:
    with pytest.raises(SearchError, match=told):
        Batch.from_bytes(data)
    assert "ran" not in capsys.readouterr().out


def test_one_array_is_no_batch() -> None:
    file = io.BytesIO()
    np.save(file, images())
    with pytest.raises(SearchError, match="one array"):
        Batch.from_bytes(file.getvalue())


def test_a_batch_fits_the_networks() -> None:
    with pytest.raises(SearchError, match="images are 3 × 24 × 24, but the networks read 3 × 32 × 32"):
        Batch(images=images(), targets=np.arange(4)).check(replace(SPEC, image_size=32))
    with pytest.raises(SearchError, match="targets go from 7 to 10, but the networks have the classes 0 to 9"):
        Batch(images=images(), targets=np.arange(7, 11)).check(SPEC)
    with pytest.raises(SearchError, match="0 samples"):
        Batch(0)
    with pytest.raises(SearchError, match="both images and targets"):
        Batch(images=images())
