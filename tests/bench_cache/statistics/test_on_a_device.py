"""Statistics and scores on a device: networks and matrices go there, numbers come back, those of the CPU stay."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import synthetic
import torch
from stand_in_gpu import FULL, ROOMY, stand_in_gpu

from autoprox.bench_cache.runtime.devices import DeviceError
from autoprox.bench_cache.spaces.registry import get_space
from autoprox.bench_cache.statistics.in_memory import HELD
from autoprox.bench_cache.statistics.scorer import network_scorer
from autoprox.bench_cache.statistics.subject import Subject
from autoprox.bench_cache.statistics.together import estimates
from autoprox.primitives import parse
from autoprox.primitives.reduce import evaluated_on

FORMULAS = [
    parse("sum(mean(sigmoid(weight[msa])) + fro(act_grad[noise, mlp] * 2))"),
    parse("sum(std(relu(attn[noise]) - 0.1) / fan_in[qkv])"),
    parse("mean(nuclear(weight_grad[noise, proj]))"),
]
PAIRS = {("weight", ""), ("act", "noise"), ("weight_grad", "synflow"), ("tokens", "")}


@pytest.fixture(autouse=True)
def nothing_held() -> Iterator[None]:
    HELD.clear()
    yield
    HELD.clear()


def subject(device: str = "cpu") -> Subject:
    """One network."""
    arch = synthetic.architectures(1)[0]
    return Subject("pit-vb101", arch, synthetic.SPEC, device=device)


def test_the_kind_of_device_names_statistics_and_the_cpu_has_the_name_it_had() -> None:
    plain = Subject("pit-vb101", subject().arch, synthetic.SPEC)
    assert plain.key == subject("cpu").key
    assert subject("cuda").key == subject("cuda:1").key != plain.key != subject("mps").key != subject("cuda").key


def test_a_network_is_read_where_it_is_moved_and_its_statistics_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = subject().probe(PAIRS)
    gpu = stand_in_gpu(monkeypatch)
    found = subject("cuda:1").probe(PAIRS)
    assert gpu.networks == [("cuda:1", type(get_space("pit-vb101").build(subject().arch, synthetic.SPEC)).__name__)]
    assert ("cuda:1", (2, 3, 24, 24)) in gpu.tensors
    assert found.layers == expected.layers
    assert found.net == expected.net
    for key, matrices in expected.matrices.items():
        for left, right in zip(found.matrices[key], matrices, strict=True):
            assert left.device.type == "cpu"
            assert torch.equal(left, right)


def test_small_networks_are_scored_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it has no room for statistics: these are moved each time then, piece by piece."""
    made, everything = synthetic.mini(6), np.arange(6)
    expected = network_scorer(made, tmp_path).scores(FORMULAS, everything)
    gpu = stand_in_gpu(monkeypatch)
    scorer = network_scorer(made, tmp_path, device="cuda:1")
    scorer.prepare(FORMULAS, everything)
    assert [device for device, _ in gpu.networks] == ["cuda:1"] * 6
    moves = []
    for memory in ((10**12, 10**12), FULL):
        HELD.clear()
        gpu.clear()
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, memory=memory: memory)
        np.testing.assert_allclose(scorer.scores(FORMULAS, everything), expected, rtol=1e-9)
        assert gpu.devices == {"cuda:1"}
        assert not gpu.networks  # their statistics are there
        moves.append(len(gpu.tensors))
    assert moves[0] > moves[1] > 0


def test_large_networks_are_scored_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, everything = synthetic.benchmark(4), np.arange(4)
    expected = network_scorer(made, tmp_path).scores(FORMULAS, everything)
    gpu = stand_in_gpu(monkeypatch, ROOMY)
    scorer = network_scorer(made, tmp_path, kept=[0, 1], device="cuda")
    np.testing.assert_array_equal(scorer.scores(FORMULAS, everything), expected)
    assert len(gpu.networks) == 4  # read again, whatever is kept of the CPU
    matrices = {tuple(m.shape) for m in subject().probe({("weight", "")}).matrices["weight", "", "qkv"]}
    assert matrices & {shape for _, shape in gpu.tensors}
    gpu.clear()
    assert estimates([scorer], FORMULAS, [everything]) is not None
    assert gpu.devices == {"cuda"}


def test_mps_has_no_float64_so_formulas_are_evaluated_on_the_cpu() -> None:
    assert [str(evaluated_on(torch.device(name))) for name in ("mps", "cuda:1", "cpu")] == ["cpu", "cuda:1", "cpu"]


@pytest.mark.parametrize("count", [synthetic.mini, synthetic.benchmark])
def test_a_worker_without_the_device_says_so_in_one_line(count: object, tmp_path: Path) -> None:
    made = count(4)  # type: ignore[operator]
    with ThreadPoolExecutor(1) as elsewhere:
        scorer = network_scorer(made, tmp_path, executor=elsewhere, device="cuda:7")
        with pytest.raises(DeviceError, match=r"no device 'cuda:7' here, on .*: CUDA has \d GPUs"):
            scorer.prepare(FORMULAS, range(4))
        with pytest.raises(DeviceError, match="no device 'cuda:7' here"):
            scorer.scores(FORMULAS, range(4))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("count", [synthetic.mini, synthetic.benchmark])
def test_a_gpu_gives_the_numbers_of_the_cpu_up_to_rounding(count: object, tmp_path: Path) -> None:
    made = count(4)  # type: ignore[operator]
    expected = network_scorer(made, tmp_path).scores(FORMULAS, range(4))
    found = network_scorer(made, tmp_path, device="cuda").scores(FORMULAS, range(4))
    np.testing.assert_allclose(found, expected, rtol=1e-3)
