"""Devices: their names, who looks for them, how arithmetic is done there, and that workers can use a GPU at all."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from stand_in_gpu import FULL, stand_in_gpu

from autoprox.bench_cache.runtime import devices
from autoprox.bench_cache.runtime.devices import DeviceError, agreed_device, chosen_device, computing, held_on, kind_of
from autoprox.bench_cache.runtime.local_pool import LocalPool


@pytest.fixture
def elsewhere() -> Iterator[ThreadPoolExecutor]:
    """An executor, whose workers may be anywhere."""
    with ThreadPoolExecutor(1) as made:
        yield made


def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tpu", "", "cuda:x", "cuda:", "cpu:0", "cuda:-1", "cuda:99999999999"):
        with pytest.raises(DeviceError, match="is no device; --device is auto, cpu, cuda, cuda:N or mps"):
            chosen_device(name)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(chosen_device(name)) for name in ("cpu", "cuda", "cuda:1")] == ["cpu", "cuda", "cuda:1"]
    with pytest.raises(DeviceError, match=r"there is no device 'cuda:2' here, on .*: CUDA has 2 GPUs; use --device"):
        chosen_device("cuda:2")
    assert [kind_of(name) for name in ("cpu", "cuda", "cuda:1")] == ["cpu", "cuda", "cuda"]


def test_auto_is_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, expected in ((False, "cpu"), (True, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert str(chosen_device("auto")) == expected


def test_workers_elsewhere_look_for_their_own_device(
    monkeypatch: pytest.MonkeyPatch, elsewhere: ThreadPoolExecutor
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert agreed_device("cuda:3", elsewhere) == "cuda:3"
    for workers in (1, 4, LocalPool(1)):
        with pytest.raises(DeviceError, match="there is no device 'cuda:3' here"):
            agreed_device("cuda:3", workers)
    with pytest.raises(DeviceError, match="name cpu or cuda"):
        agreed_device("auto", elsewhere)
    with pytest.raises(DeviceError, match="'tpu' is no device"):
        agreed_device("tpu", elsewhere)


def test_whole_float32_on_one_thread_inside() -> None:
    places = [(torch.backends.cuda.matmul, "allow_tf32"), (torch.backends.cudnn, "allow_tf32")]
    places += [(torch.backends.cudnn, "deterministic"), (torch.backends.cudnn, "benchmark")]  # type: ignore[list-item]
    before = [getattr(*place) for place in places]
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        with computing():
            assert [getattr(*place) for place in places] == [False, False, True, False]
            assert torch.get_num_threads() == 1
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before[0]
    assert [getattr(*place) for place in places] == before


def test_no_memory_left_is_one_line() -> None:
    with pytest.raises(DeviceError, match=r"no memory left: use fewer --workers.*Tried to allocate 2\)$"), computing():
        raise torch.OutOfMemoryError("CUDA out of memory, Tried to allocate 2. GPU 0 has a total capacity of ...")


def test_statistics_take_half_of_a_gpu_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    matrices, gpu = torch.zeros(10, dtype=torch.int8), torch.device("cuda:1")
    for memory, held in (((60, 100), True), ((59, 100), False), (FULL, False)):
        moved = stand_in_gpu(monkeypatch, memory)
        assert held_on(gpu, matrices) is matrices
        assert moved.tensors == ([("cuda:1", (10,))] if held else [])
    assert held_on(torch.device("cpu"), matrices) is matrices


FORKED = """
import sys
import torch

def refused(*args, **kwargs):
    raise AssertionError("CUDA is asked for before the fork, after which no worker could use it")

for name in ("init", "_lazy_init", "is_available", "device_count", "mem_get_info", "synchronize"):
    setattr(torch.cuda, name, refused)
torch._C._cuda_getDeviceCount = refused
import autoprox.bench_cache.statistics.scorer, autoprox.rank.network, autoprox.search.scorer
print("as it was")
"""


def test_what_workers_are_forked_from_has_not_touched_cuda() -> None:
    """CUDA cannot be used after a fork of a process that has: the server imports what all workers need, and no more."""
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("as it was\n", 0), done.stderr


def test_a_worker_asks_for_a_device_of_its_own() -> None:
    with LocalPool(1, preload=[devices.__name__]) as pool:
        assert str(pool.submit(chosen_device, "cpu").result()) == "cpu"
        with pytest.raises(DeviceError, match="'tpu' is no device"):
            pool.submit(chosen_device, "tpu").result()
