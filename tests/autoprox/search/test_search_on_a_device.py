"""Searches on a device: every network goes there, and a search goes on where it began."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import synthetic
from stand_in_gpu import stand_in_gpu

import autoprox
from autoprox.bench_cache.runtime.devices import DeviceError
from autoprox.bench_cache.spaces.registry import InputSpec
from autoprox.search.candidate import SearchError
from autoprox.search.on_space import search
from autoprox.search.run import JOURNAL
from autoprox.search.strategies import SearchSettings

SPEC = InputSpec(8, 1, 10, 2)
SMALL: dict[str, Any] = {"image_size": 8, "channels": 1, "classes": 10, "patch_size": 2, "progress": False}
PROXY = "sum(fro(weight_grad[noise]))"


def test_networks_and_batches_go_there(monkeypatch: pytest.MonkeyPatch) -> None:
    choices: dict[str, Any] = {"settings": SearchSettings(budget=3), "spec": SPEC}
    expected = search("mini-vit", PROXY, **choices)
    gpu = stand_in_gpu(monkeypatch)
    found = search("mini-vit", PROXY, device="cuda:1", **choices)
    assert [device for device, _ in gpu.networks] == ["cuda:1"] * 3
    assert gpu.tensors.count(("cuda:1", (2, 1, 8, 8))) >= 3
    assert found == expected


def test_among_the_architectures_of_a_benchmark_too(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = stand_in_gpu(monkeypatch)
    found = autoprox.search(
        benchmark=synthetic.benchmark(8), tasks="size_kd", proxy=["snip", PROXY], budget=3, device="auto", workers=1,
        progress=False,
    )  # fmt: skip
    assert found.plan.device == found.plan.record()["device"] == "cuda"
    assert [device for device, _ in gpu.networks] == ["cuda"] * 6  # one for each vote


def test_a_search_goes_on_where_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "found"
    with monkeypatch.context() as there:
        stand_in_gpu(there)
        autoprox.search("mini-vit", PROXY, budget=2, device="cuda", out=out, workers=1, **SMALL)
    with pytest.raises(SearchError, match=r"was started with another .*device; resume it without .*device"):
        autoprox.search(out=out, resume=True, device="cpu", budget=3, progress=False)
    with pytest.raises(DeviceError, match="no device 'cuda' here"):
        autoprox.search(out=out, resume=True, budget=3, progress=False)
    gpu = stand_in_gpu(monkeypatch)
    more = autoprox.search(out=out, resume=True, budget=3, workers=1, device="auto", progress=False)
    assert (len(more.ranked), len(gpu.networks)) == (3, 1)
    assert b'"device":"cuda"' in (out / JOURNAL).read_bytes()


def test_what_is_not_there_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    for name, reason in (("cuda:77", "there is no device 'cuda:77' here"), ("tpu", "'tpu' is no device")):
        with pytest.raises(DeviceError, match=reason):
            autoprox.search("mini-vit", "snip", device=name, out=tmp_path / "found", **SMALL)
    assert not (tmp_path / "found").exists()


def test_the_workers_of_an_executor_look_for_it_themselves() -> None:
    with ThreadPoolExecutor(1) as elsewhere, pytest.raises(DeviceError, match="no device 'cuda:77' here, on"):
        autoprox.search("mini-vit", PROXY, budget=2, device="cuda:77", workers=elsewhere, **SMALL)
