"""Rankings on a device: every network goes there, the device is a setting of the run, and running out of memory is no
property of a proxy."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import orjson
import pytest
import synthetic
import torch
from stand_in_gpu import stand_in_gpu

import autoprox
from autoprox.bench_cache.runtime.devices import DeviceError
from autoprox.display.ranking import heading
from autoprox.rank import network as rank_network
from autoprox.rank.caption import caption
from autoprox.rank.plan import RankError, make_plan
from autoprox.rank.scores import SCORES, begin, collect, compute, stored_plan
from autoprox.validation.origin import Origin
from autoprox.validation.plan import make_validation_plan

BENCHMARK = synthetic.benchmark(4)
PROXIES = ["snip", "nwot", "sum(fro(act_grad[noise]))"]


def test_networks_and_batches_go_there(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = compute(make_plan(BENCHMARK, proxies=PROXIES, tasks=["size_kd"]))
    gpu = stand_in_gpu(monkeypatch)
    found = compute(make_plan(BENCHMARK, proxies=PROXIES, tasks=["size_kd"], device="cuda:1"))
    assert [device for device, _ in gpu.networks] == ["cuda:1"] * 4
    assert gpu.tensors.count(("cuda:1", (2, 3, 24, 24))) >= 4
    np.testing.assert_array_equal(found.table.scores["size_kd"], expected.table.scores["size_kd"])


def test_a_run_goes_on_where_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, plan = tmp_path / "run", make_plan(BENCHMARK, proxies=["snip"], tasks=["size_kd"], device="cuda")
    assert heading(plan, out, 0).endswith("batch 2, seed 0, on cuda")
    assert "The networks ran on cuda, whose last bits are not those of a CPU." in caption(plan)
    with monkeypatch.context() as there:
        stand_in_gpu(there)
        found = collect(plan, out)
    with pytest.raises(RankError, match="device is 'cuda' there and 'cpu' here; choose another"):
        autoprox.rank(BENCHMARK, proxies=["snip"], tasks="size_kd", out=out, resume=True, progress=False)
    np.testing.assert_array_equal(collect(plan, out).table.scores["size_kd"], found.table.scores["size_kd"])  # all done
    whole = (out / SCORES).read_bytes().splitlines(keepends=True)
    (out / SCORES).write_bytes(b"".join(whole[:3]))
    with pytest.raises(DeviceError, match=r"no device 'cuda' here.*go on with a run that began on such a device where"):
        autoprox.rank(BENCHMARK, out=out, resume=True, progress=False)
    stand_in_gpu(monkeypatch)
    again = collect(stored_plan(BENCHMARK, out), out)
    np.testing.assert_array_equal(again.table.scores["size_kd"], found.table.scores["size_kd"])


def test_a_journal_from_before_devices_is_of_a_cpu(tmp_path: Path) -> None:
    plan = make_plan(BENCHMARK, proxies=["snip"], tasks=["size_kd"])
    assert begin(plan, tmp_path) == 0
    stored = orjson.loads((tmp_path / SCORES).read_bytes())
    del stored["settings"]["device"]
    (tmp_path / SCORES).write_bytes(orjson.dumps(stored) + b"\n")
    assert begin(plan, tmp_path) == 0
    assert stored_plan(BENCHMARK, tmp_path).device == "cpu"


def test_what_is_not_there_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    for name, reason in (("cuda:77", "there is no device 'cuda:77' here"), ("tpu", "'tpu' is no device")):
        for run in (autoprox.rank, lambda *given, **more: autoprox.validate("snip", *given, **more)):
            with pytest.raises(DeviceError, match=reason):
                run(BENCHMARK, device=name, out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_the_workers_of_an_executor_look_for_it_themselves(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as elsewhere, pytest.raises(DeviceError, match="no device 'cuda:77' here, on"):
        compute(make_plan(BENCHMARK, proxies=["snip"], device="cuda:77"), workers=elsewhere)


def test_a_device_without_memory_left_is_no_missing_score(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(rank_network, "read_statistics", full)
    with pytest.raises(DeviceError, match="a device has no memory left: use fewer --workers"):
        compute(make_plan(BENCHMARK, proxies=["sum(fro(weight))"], tasks=["size_kd"]))


def test_a_validation_scores_all_its_rankings_there(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_validation_plan(BENCHMARK, Origin("snip", {}), tasks=["size_kd"], split="all", seeds=2, device="cuda")
    gpu = stand_in_gpu(monkeypatch)
    for ranking in plan.rankings().values():
        compute(ranking)
    assert [device for device, _ in gpu.networks] == ["cuda"] * 8
