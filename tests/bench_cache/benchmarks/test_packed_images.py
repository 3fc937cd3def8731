"""Large images in a benchmark's file: packed, kept to the last bit, and refused where they are damaged."""

import base64
import json
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import synthetic

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.benchmarks.task_input import READABLE, TaskInput
from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.bench_cache.spaces.registry import InputSpec

SMALL = synthetic.mini(5)
SPEC = InputSpec(64, 2, 4, 16)
IMAGES = np.random.default_rng(0).normal(size=(9, 2, 64, 64))
LARGE = replace(SMALL, inputs={"large": TaskInput(SPEC, IMAGES, np.zeros(9), "tests", random_targets=True)})


def test_many_numbers_are_packed_and_few_can_be_read() -> None:
    assert IMAGES.size > READABLE
    stored = json.loads(LARGE.to_bytes())["inputs"]["large"]
    assert stored["images"]["shape"] == [9, 2, 64, 64]
    assert stored["random_targets"] is True
    small = json.loads(SMALL.to_bytes())["inputs"]["small"]
    assert isinstance(small["images"], list)
    assert "random_targets" not in small
    again = Benchmark.from_bytes(LARGE.to_bytes())
    assert again.to_bytes() == LARGE.to_bytes()
    assert again.inputs["large"].digest == LARGE.inputs["large"].digest
    assert again.inputs["large"].random_targets


def test_rounding_keeps_signs_of_zero() -> None:
    images = np.array([-0.0, 0.0, 1.23456789, -1.23456789] * 16).reshape(1, 1, 8, 8)
    found = TaskInput(InputSpec(8, 1, 2, 4), images, np.zeros(1))
    assert np.signbit(found.images).tolist() == np.signbit(images).tolist()
    assert sorted(set(found.images.ravel().tolist())) == [-np.float32(1.23457), 0.0, np.float32(1.23457)]


def packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


SIZE = 4 * IMAGES.size


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": [9, 2, 64]}, "not four positive integers"),
        ({"shape": [9, 2, 64, -64]}, "not four positive integers"),
        ({"shape": [9, 2, 64, 64.0]}, "not four positive integers"),
        ({"shape": [10**6, 3, 1000, 1000]}, "more than a benchmark's file can hold"),
        ({"shape": [9, 2, 64, 32]}, "not the 147456 bytes"),
        ({"zlib": 3}, "zlib of the images is damaged"),
        ({"zlib": "no base 64!"}, "zlib of the images is damaged"),
        ({"zlib": base64.b64encode(b"not zlib").decode()}, "zlib of the images is damaged"),
        ({"zlib": packed(bytes(SIZE - 4))}, f"not the {SIZE} bytes"),
        ({"zlib": packed(bytes(100 * SIZE))}, f"not the {SIZE} bytes"),
        ({"zlib": packed(b"\xff" * SIZE)}, "NaN or infinite"),
        ({"more": 1}, "unknown field 'more'"),
    ],
)
def test_damaged_images_are_refused(change: dict[str, Any], message: str) -> None:
    content = json.loads(LARGE.to_bytes())
    content["inputs"]["large"]["images"] |= change
    with pytest.raises(BenchmarkError, match=message) as caught:
        Benchmark.from_bytes(json.dumps(content).encode())
    assert str(caught.value).startswith("inputs of 'large'")


def test_an_input_can_be_that_of_a_task_above() -> None:
    content = json.loads(SMALL.to_bytes())
    content["inputs"]["large"] = "small"
    found = Benchmark.from_bytes(json.dumps(content).encode())
    assert [network.tasks for network in found.networks()] == [("small", "large")]
    content["inputs"]["small"] = "large"
    with pytest.raises(BenchmarkError, match="inputs of 'small': they are those of 'large', which has none above it"):
        Benchmark.from_bytes(json.dumps(content).encode())


def test_a_file_that_could_not_be_read_again_is_not_written(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoprox.bench_cache.benchmarks.table.MAX_BYTES", 100_000)
    with pytest.raises(BenchmarkError, match="keep fewer images"):
        LARGE.save(tmp_path / "large.json")
    assert not list(tmp_path.iterdir())
