"""Inputs, seeds and card of a benchmark: kept by its file to the last bit, checked, and read by its networks."""

import json
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import synthetic

from autoprox.bench_cache.benchmarks.record import Record
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.benchmarks.task_input import TaskInput
from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.bench_cache.spaces.registry import get_space

MINI = synthetic.mini(5)
TABLE = Benchmark.from_records("table", None, None, "tests", ("oa",), [Record({"depth": 1}, {"oa": 50.0})])


def mini_file() -> dict:
    """Content of a file whose tasks have inputs, seeds and a card."""
    return json.loads(MINI.to_bytes())


def test_a_file_keeps_inputs_seeds_and_card() -> None:
    for again in (Benchmark.from_bytes(MINI.to_bytes()), pickle.loads(pickle.dumps(MINI))):
        assert again.to_bytes() == MINI.to_bytes()
        assert again.card == MINI.card == {"epochs": 1}
        for task, found in MINI.inputs.items():
            other = again.inputs[task]
            assert (other.spec, other.source) == (found.spec, found.source)
            assert (other.images.dtype, other.targets.dtype) == (np.float32, np.int64)
            assert other.images.tobytes() == found.images.tobytes()  # to the last bit: statistics depend on them
            assert other.targets.tolist() == found.targets.tolist()
            assert again.seeds[task].tobytes() == MINI.seeds[task].tobytes()


def test_inputs_and_seeds_are_copies_that_cannot_be_changed() -> None:
    runs, images = MINI.seeds["small"].copy(), MINI.inputs["small"].images.copy()
    kept = replace(MINI, seeds={"small": runs}, inputs={"small": replace(MINI.inputs["small"], images=images)})
    runs[0, 0] = images[0, 0, 0, 0] = 99
    assert kept.seeds["small"][0, 0] == MINI.seeds["small"][0, 0]
    assert kept.inputs["small"].images[0, 0, 0, 0] == MINI.inputs["small"].images[0, 0, 0, 0]
    for array in (kept.seeds["small"], kept.inputs["small"].images, kept.inputs["small"].targets):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    with pytest.raises(TypeError):
        kept.inputs["large"] = MINI.inputs["large"]  # type: ignore[index]


def _set(*path: Any, value: object) -> Callable[[dict], None]:
    """A change of one entry of a file's content."""

    def change(content: dict) -> None:
        for step in path[:-1]:
            content = content[step]
        content[path[-1]] = value

    return change


def _without(*path: Any) -> Callable[[dict], None]:
    def change(content: dict) -> None:
        for step in path[:-1]:
            content = content[step]
        del content[path[-1]]

    return change


BAD_INPUTS: dict[str, tuple[Callable[[dict], None], str]] = {
    "of no task": (_set("inputs", "medium", value=mini_file()["inputs"]["small"]), "inputs of 'medium', which is no"),
    "not an object": (_set("inputs", value=[1]), "expected an object"),
    "no spec": (_set("inputs", "small", "spec", value=None), "inputs of 'small': spec is an object"),
    "no images": (_set("inputs", "small", "images", value=[]), r"inputs of 'small': images of shape \(0,\)"),
    "field missing": (_without("inputs", "small", "targets"), "inputs of 'small': field targets is missing"),
    "field unknown": (_set("inputs", "small", "size", value=8), "inputs of 'small': unknown field 'size'"),
    "another size": (_set("inputs", "small", "spec", "image_size", value=10), r"not some of \(1, 10, 10\)"),
    "another depth": (_set("inputs", "small", "spec", "in_channels", value=3), r"not some of \(3, 8, 8\)"),
    "patches that do not fit": (_set("inputs", "small", "spec", "patch_size", value=3), "not a multiple of patch_size"),
    "ragged": (_set("inputs", "small", "images", 0, 0, 0, value=[1.0]), "inputs of 'small': images or targets are no"),
    "in words": (_set("inputs", "small", "images", 0, 0, 0, 0, value="x"), "images or targets are no arrays"),
    "a pixel missing": (_set("inputs", "small", "images", 0, 0, 0, 0, value=None), "NaN or infinite"),
    "a pixel beyond float32": (_set("inputs", "small", "images", 0, 0, 0, 0, value=1e300), "NaN or infinite"),
    "too few targets": (_set("inputs", "small", "targets", value=[0, 1, 2]), "with a target each"),
    "a target beyond": (_set("inputs", "small", "targets", 3, value=10), "class numbers from 0 to 9"),
    "a target below": (_set("inputs", "small", "targets", 3, value=-1), "class numbers from 0 to 9"),
    "half a target": (_set("inputs", "small", "targets", 3, value=0.5), "targets are not whole numbers"),
    "source is a number": (_set("inputs", "small", "source", value=3), "source a text"),
    "card is a list": (_set("card", value=[1]), "expected an object"),
    "seeds of no task": (_set("records", 0, "seeds", "medium", value=[1.0]), "record 1: field medium is missing"),
    "fewer seeds": (
        _set("records", 2, "seeds", "small", value=[50.0]),
        r"record 2: seeds of small is \[50.0\], not",
    ),
    "no seeds": (_set("records", 0, "seeds", "small", value=[]), r"record 0: seeds of small is \[\], not one"),
    "a seed missing": (_set("records", 3, "seeds", "small", 1, value=None), "record 3: .*none may be missing"),
    "a seed above": (_set("records", 3, "seeds", "small", 1, value=100.5), "record 3: seeds of small is 100.5, not in"),
    "a seed below": (_set("records", 3, "seeds", "small", 1, value=-1), "record 3: seeds of small is -1, not in"),
    "a seed in words": (_set("records", 3, "seeds", "small", 1, value="9"), "record 3: seeds of small is '9', not a"),
    "seeds in one number": (_set("records", 0, "seeds", "small", value=50), "record 0: seeds of small is 50, not one"),
    "seeds not by task": (_set("records", 0, "seeds", value=[50]), "record 0: expected an object"),
    "a record without": (_without("records", 4, "seeds", "large"), "record 4: field large is missing"),
    "a record without any": (_without("records", 4, "seeds"), "record 4: field small is missing"),
}


@pytest.mark.parametrize(("change", "message"), BAD_INPUTS.values(), ids=BAD_INPUTS)
def test_bad_inputs_and_seeds_are_refused_with_the_task_or_the_record(
    change: Callable[[dict], None], message: str
) -> None:
    content = mini_file()
    change(content)
    with pytest.raises(BenchmarkError, match=message) as caught:
        Benchmark.from_bytes(json.dumps(content).encode())
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_arrays_of_inputs_and_seeds_are_checked_too() -> None:
    for runs in (np.ones((4, 2)), np.ones((5, 0)), np.ones(5), np.array(3.0)):
        with pytest.raises(BenchmarkError, match=re.escape(f"seeds of small have shape {runs.shape}, not")):
            replace(MINI, seeds={"small": runs})
    for wrong in (np.nan, 100.1, -0.1):
        with pytest.raises(BenchmarkError, match="seeds of small are not all percentages"):
            replace(MINI, seeds={"small": np.full((5, 2), wrong)})
    with pytest.raises(BenchmarkError, match="seeds of 'medium', which is no task; the tasks are small, large"):
        replace(MINI, seeds={"medium": np.ones((5, 2))})
    with pytest.raises(BenchmarkError, match="NaN or infinite"):
        TaskInput(MINI.inputs["small"].spec, np.full((1, 1, 8, 8), np.nan), np.zeros(1))
    with pytest.raises(BenchmarkError, match="a tabular benchmark has no networks, and so no inputs"):
        replace(TABLE, inputs={"oa": MINI.inputs["small"]})


def test_there_is_a_network_for_every_input() -> None:
    small, large = MINI.inputs.values()
    assert [(n.spec, n.input, n.tasks) for n in MINI.networks()] == [
        (small.spec, small, ("small",)),
        (large.spec, large, ("large",)),
    ]
    plain = replace(MINI, inputs={})
    assert [(n.spec, n.input, n.tasks) for n in plain.networks()] == [(MINI.spec, None, ("small", "large"))]
    more = {**MINI.tasks, "third": MINI.tasks["small"], "fourth": MINI.tasks["large"]}
    mixed = replace(MINI, tasks=more, inputs={"large": large})
    assert [(n.spec, n.input, n.tasks) for n in mixed.networks()] == [
        (MINI.spec, None, ("small", "third", "fourth")),
        (large.spec, large, ("large",)),
    ]
    (network,) = TABLE.networks()
    assert (network.spec, network.input, network.tasks) == (None, None, ("oa",))


def test_structure_is_of_the_input_that_is_asked_for() -> None:
    space = get_space("mini-vit")
    for spec in (found.spec for found in MINI.inputs.values()):
        structure = MINI.structure(spec)
        for row, arch in enumerate(MINI.architectures):
            assert structure["params"][row] == space.params(arch, spec)
            assert structure["flops"][row] == space.flops(arch, spec)
    small, large = (MINI.structure(found.spec) for found in MINI.inputs.values())
    assert np.all(small["params"] != large["params"])
    assert np.all(small["depth"] == large["depth"])
    assert {name: values.tolist() for name, values in MINI.structure().items()} == {
        name: values.tolist() for name, values in small.items()
    }
