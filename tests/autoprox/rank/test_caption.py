"""The caption of a ranking says what the networks ran on, for every benchmark and probe."""

import dataclasses

import pytest
import synthetic

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.rank.caption import caption
from autoprox.rank.plan import make_plan
from autoprox.zoo import ZOO


def ran_on(benchmark: Benchmark, *proxies: str, batch: int = 2, seed: int = 0) -> str:
    plan = make_plan(benchmark, proxies=proxies, batch=batch, seed=seed)
    return caption(plan).split("\n", 1)[1]


def test_images_of_the_benchmark_are_said_to_be_read() -> None:
    text, inputs = ran_on(synthetic.mini(6), "snip"), synthetic.mini(6).inputs
    assert text == (
        "On small, large the probe `data` read the first 2 images that the benchmark has of the task, "
        "with their classes (SHA-256 of its images: "
        f"{inputs['small'].digest[:12]} for small, {inputs['large'].digest[:12]} for large)."
    )
    assert "first image that" in ran_on(synthetic.mini(6), "snip", batch=1)


def test_gaussian_samples_are_said_to_be_read_where_there_are_no_images() -> None:
    text = ran_on(synthetic.benchmark(8), "snip", batch=3, seed=7)
    assert text == (
        "No images come with this benchmark: the probe `data` read 3 Gaussian samples with random classes (seed 7)."
    )


def test_each_task_is_told_apart_where_only_some_have_images() -> None:
    full = synthetic.mini(6)
    mixed = dataclasses.replace(full, inputs={"large": full.inputs["large"]})
    first, second = ran_on(mixed, "snip").splitlines()
    assert first.startswith("On large the probe `data` read the first 2 images")
    assert second.startswith("On small no images come with this benchmark")


@pytest.mark.parametrize("benchmark", [synthetic.mini(6), synthetic.benchmark(8)], ids=lambda b: b.name)
def test_only_the_probes_that_ran_are_named(benchmark: Benchmark) -> None:
    noise = ran_on(benchmark, "sum(fro(act[noise]))")
    assert "`noise` read Gaussian input" in noise
    assert "`data`" not in noise + ran_on(benchmark, "synflow")
    assert "one input of ones" in ran_on(benchmark, "synflow")
    assert ran_on(benchmark, "l2-norm").startswith("No network was run")


@pytest.mark.parametrize("name", [name for name, entry in ZOO.items() if entry.function])
def test_functions_say_their_probes(name: str) -> None:
    text = ran_on(synthetic.mini(6), name)
    named = {probe for probe in ("data", "noise", "synflow") if f"`{probe}`" in text}
    assert named == set(ZOO[name].probes)
    assert ("Gaussian" in ZOO[name].reads) is ("noise" in named)
    assert ("SynFlow" in ZOO[name].reads) is ("synflow" in named)
