"""Structure that was fitted to other tasks or benchmarks reads no label of what it is judged on."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from scipy.stats import kendalltau

from autoprox.bench_cache.benchmarks.fitted_structure import fitted_to_other_benchmarks, fitted_to_other_tasks
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.benchmarks.tabular import TabularArchitecture
from autoprox.bench_cache.spaces.registry import InputSpec, get_space

SPEC = InputSpec(image_size=8, in_channels=1, num_classes=10, patch_size=2)


def made(count: int = 120, seed: int = 0, name: str = "made") -> Benchmark:
    """Return a benchmark whose tasks both prefer a depth of 3, and networks that are wide."""
    space, rng = get_space("mini-vit"), np.random.default_rng(seed)
    archs = {space.key(arch): arch for arch in (space.sample(Random(f"{seed}/{n}")) for n in range(count))}
    genes = [space.to_json(arch) for arch in archs.values()]
    best = np.array([50 - 5 * abs(len(each["num_heads"]) - 3) + each["embed_dim"] / 8 for each in genes])
    tasks = {task: best + rng.normal(0, 1, len(best)) for task in ("one", "two", "three")}
    return Benchmark(name, "mini-vit", SPEC, "a test", tuple(archs.values()), tasks)


def tau(benchmark: Benchmark, task: str, predicted: np.ndarray | None) -> float:
    assert predicted is not None
    assert predicted.shape == (len(benchmark),)
    test = benchmark.splits()["test"]
    return float(kendalltau(predicted[test], benchmark.tasks[task][test]).statistic)


def test_what_other_tasks_share_is_found() -> None:
    found = made()
    assert tau(found, "one", fitted_to_other_tasks(found, "one")) > 0.7


def test_what_other_benchmarks_share_is_found() -> None:
    """The best depth carries over to a space of other architectures."""
    found = made()
    assert tau(found, "one", fitted_to_other_benchmarks(found, [made(seed=1, name="a"), made(seed=2, name="b")])) > 0.6


def test_the_held_out_task_is_not_read() -> None:
    found = made()
    changed = replace(found, tasks={**found.tasks, "one": found.tasks["one"][::-1]})
    np.testing.assert_array_equal(fitted_to_other_tasks(found, "one"), fitted_to_other_tasks(changed, "one"))
    assert not np.array_equal(fitted_to_other_tasks(found, "two"), fitted_to_other_tasks(changed, "two"))


def test_the_held_out_benchmark_is_not_read() -> None:
    found, other = made(), made(seed=1, name="other")
    changed = replace(found, tasks={task: values[::-1] for task, values in found.tasks.items()})
    expected = fitted_to_other_benchmarks(found, [other])
    np.testing.assert_array_equal(expected, fitted_to_other_benchmarks(changed, [other]))


@pytest.mark.parametrize("split", ["validation", "test"])
def test_only_the_evolve_split_is_fitted_to(split: str) -> None:
    found, at = made(), made().splits()[split]
    tasks = {task: values.copy() for task, values in found.tasks.items()}
    for values in tasks.values():
        values[at] = values[at][::-1]
    changed = replace(found, tasks=tasks)
    np.testing.assert_array_equal(fitted_to_other_tasks(found, "one"), fitted_to_other_tasks(changed, "one"))
    other = made(seed=1, name="other")
    expected = fitted_to_other_benchmarks(other, [found])
    np.testing.assert_array_equal(expected, fitted_to_other_benchmarks(other, [changed]))


def test_missing_accuracies_of_other_tasks_are_left_out() -> None:
    found = made()
    two = found.tasks["two"].copy()
    two[::3] = np.nan
    one = np.full(len(found), np.nan)
    predicted = fitted_to_other_tasks(replace(found, tasks={**found.tasks, "two": two, "three": one}), "one")
    assert tau(found, "one", predicted) > 0.6


def test_nothing_to_fit_to_is_none() -> None:
    found = made()
    assert fitted_to_other_tasks(replace(found, tasks={"one": found.tasks["one"]}), "one") is None
    assert fitted_to_other_benchmarks(found, []) is None
    table = Benchmark("table", None, None, "", tuple(TabularArchitecture((("a", n),)) for n in range(60)), {"t": two()})
    assert fitted_to_other_benchmarks(found, [table]) is None
    assert fitted_to_other_benchmarks(table, [found]) is None


def two() -> np.ndarray:
    return np.arange(60) / 2
