"""Fitted structure finds what follows from the genes, finds nothing in noise, and does not look at the test split."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from public_files import reference
from scipy.stats import kendalltau, rankdata

from autoprox.bench_cache.benchmarks.fitted_structure import (
    STRENGTHS,
    _Ridge,
    fitted_structure,
    held_out_structure,
    ridge_features,
)
from autoprox.bench_cache.benchmarks.library import load_benchmark
from autoprox.bench_cache.benchmarks.readers import read_benchmark
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.benchmarks.tabular import TabularArchitecture
from autoprox.bench_cache.spaces.registry import InputSpec, get_space

SPEC = InputSpec(image_size=8, in_channels=1, num_classes=10, patch_size=2)


def made(space: str, count: int, accuracy, seed: int = 0) -> Benchmark:
    """Return a benchmark of a space with `accuracy(genes, rng)` as its one task."""
    drawn, rng = get_space(space), np.random.default_rng(seed)
    archs = {drawn.key(arch): arch for arch in (drawn.sample(Random(f"{seed}/{n}")) for n in range(count))}
    values = np.array([accuracy(drawn.to_json(arch), rng) for arch in archs.values()])
    return Benchmark("made", space, SPEC, "a test", tuple(archs.values()), {"task": values})


def tau(benchmark: Benchmark, split: str = "test") -> float:
    fitted, which = fitted_structure(benchmark, "task"), benchmark.splits()[split]
    assert fitted is not None
    return float(kendalltau(fitted.predicted[which], benchmark.tasks["task"][which]).statistic)


def test_finds_a_best_depth_in_the_middle() -> None:
    """Neither depth nor its logarithm ranks these labels: the square has to be there."""
    found = made("mini-vit", 200, lambda genes, rng: 90 - 5 * abs(len(genes["num_heads"]) - 3))
    assert tau(found) > 0.7
    depth = found.structure()["depth"]
    assert abs(kendalltau(depth, found.tasks["task"]).statistic) < 0.4


def test_finds_one_layer_that_matters() -> None:
    """The first block's MLP ratio alone decides; size, depth and means hardly tell."""
    assert tau(made("mini-vit", 200, lambda genes, rng: 50 + 10 * np.log(genes["mlp_ratio"][0]))) > 0.8


def test_finds_choices_that_are_no_numbers() -> None:
    """Networks of micro-vit have one size, but their labels may still follow from their genes."""

    def accuracy(genes, rng) -> float:
        return 50 + 3 * genes["activation"].count("gelu") - 20 * (genes["mixer"][0] == "shift")

    found = made("micro-vit", 300, accuracy)
    assert len(np.unique(found.structure()["depth"])) == 1
    assert tau(found) > 0.7


def test_finds_a_number_of_which_only_0_matters() -> None:
    """Without a skip connection a network fails, and half of one is as good as a whole one: no line fits that.

    Read as sizes alone, skips reach .60 here. Blocks alike differ by noise only, so 1 is out of reach.
    """

    def accuracy(genes, rng) -> float:
        return 90 - 15 * genes["skip"].count(0.0) + rng.normal(0, 1)

    assert tau(made("micro-vit", 300, accuracy)) > 0.65


def test_finds_nothing_in_noise() -> None:
    taus = [tau(made("mini-vit", 300, lambda _genes, rng: rng.uniform(10, 90), seed)) for seed in range(5)]
    assert abs(np.mean(taus)) < 0.1


def test_does_not_look_at_the_test_split() -> None:
    found = made("mini-vit", 120, lambda genes, rng: 50 + genes["embed_dim"] / 4 + rng.normal(0, 3))
    values, test = found.tasks["task"].copy(), found.splits()["test"]
    values[test] = values[test][::-1]
    changed = fitted_structure(replace(found, tasks={"task": values}), "task")
    before = fitted_structure(found, "task")
    assert before is not None
    assert changed is not None
    np.testing.assert_array_equal(before.predicted, changed.predicted)


def test_no_architecture_is_predicted_by_a_fit_to_its_own_label() -> None:
    found = made("mini-vit", 60, lambda genes, rng: 50 + genes["embed_dim"] / 4 + rng.normal(0, 3))
    values = found.tasks["task"]
    before = held_out_structure(found, "task")
    assert before is not None
    lowest = int(np.argmin(values))
    changed = np.where(np.arange(len(values)) == lowest, 100.0, values)
    after = held_out_structure(replace(found, tasks={"task": changed}), "task")
    assert after is not None
    assert after[lowest] == before[lowest]
    assert (after != before).sum() > 30  # the other folds were fitted to the label


@pytest.mark.parametrize("split", ["evolve", "validation", "test"])
def test_only_the_split_is_predicted(split: str) -> None:
    found = made("mini-vit", 150, lambda genes, rng: 50 + genes["embed_dim"] / 4 + rng.normal(0, 3))
    values, inside = found.tasks["task"].copy(), np.zeros(len(found), bool)
    inside[found.splits()[split]] = True
    predicted, fitted = held_out_structure(found, "task", split), fitted_structure(found, "task")
    assert predicted is not None
    assert fitted is not None
    assert np.array_equal(~np.isnan(predicted), inside)
    assert kendalltau(predicted[inside], values[inside]).statistic > 0.4
    assert (split == "test") == np.array_equal(predicted[inside], fitted.predicted[inside])
    others = replace(found, tasks={"task": np.where(inside, values, values[::-1])})
    if split != "test":
        assert np.array_equal(held_out_structure(others, "task", split), predicted, equal_nan=True)


def test_noise_is_not_predicted_out_of_its_fold() -> None:
    taus = []
    for seed in range(5):
        found = made("mini-vit", 200, lambda _genes, rng: rng.uniform(10, 90), seed)
        predicted = held_out_structure(found, "task")
        assert predicted is not None
        taus.append(kendalltau(predicted, found.tasks["task"]).statistic)
    assert np.mean(taus) < 0.05


def test_the_error_left_out_is_that_of_fits_without_each_point() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(25, 4))
    z -= z.mean(0)
    accuracies = rng.permutation(25).astype(float)
    target = (rankdata(accuracies) - 13) / 25
    for strength in (0.1, 10.0):
        errors = []
        for out in range(25):
            kept = np.arange(25) != out
            design = np.column_stack([np.ones(24), z[kept]])
            penalty = np.diag([0.0, *[strength] * 4])  # the intercept is free
            beta = np.linalg.solve(design.T @ design + penalty, design.T @ target[kept])
            errors.append(target[out] - beta[0] - z[out] @ beta[1:])
        assert _Ridge(z, accuracies).error_left_out(strength) == pytest.approx(np.mean(np.square(errors)))


def test_equals_the_normal_equations() -> None:
    """β = (zᵀ z + λ)⁻¹ zᵀ r, and validation's best λ by trying each."""
    found = made("mini-vit", 150, lambda genes, rng: 50 + genes["embed_dim"] / 4 + rng.normal(0, 9))
    splits, accuracies = found.splits(), found.tasks["task"]
    features = ridge_features(found, "task")
    evolve, validation = splits["evolve"], splits["validation"]
    varies = features[evolve].std(0) > 1e-9
    z = ((features - features[evolve].mean(0)) / np.where(varies, features[evolve].std(0), 1))[:, varies]
    r = rankdata(accuracies[evolve])
    r = (r - r.mean()) / len(r)
    best = (-2.0, 0.0, np.zeros(0))
    for strength in STRENGTHS:
        beta = np.linalg.solve(z[evolve].T @ z[evolve] + strength * np.eye(z.shape[1]), z[evolve].T @ r)
        reached = kendalltau(z[validation] @ beta, accuracies[validation]).statistic
        if reached > best[0] + 1e-12:
            best = (reached, strength, z @ beta)
    fitted = fitted_structure(found, "task")
    assert fitted is not None
    assert (fitted.strength, fitted.features) == (best[1], z.shape[1])
    np.testing.assert_allclose(fitted.predicted, best[2], atol=1e-8)


def test_a_table_of_names_has_none() -> None:
    """A name that one architecture has says nothing of any other."""
    archs = tuple(TabularArchitecture((("name", f"net-{number}"),)) for number in range(50))
    table = Benchmark("names", None, None, "a test", archs, {"task": np.arange(50.0)})
    assert fitted_structure(table, "task") is None


def test_missing_accuracies_are_predicted_too() -> None:
    found = made("mini-vit", 120, lambda genes, rng: 50 + genes["embed_dim"] / 4)
    values = found.tasks["task"].copy()
    values[::5] = np.nan
    fitted = fitted_structure(replace(found, tasks={"task": values}), "task")
    assert fitted is not None
    assert np.isfinite(fitted.predicted).all()


@pytest.mark.parametrize(("task", "least"), [("digits", 0.80), ("fashion", 0.80), ("pines", 0.70)])
def test_on_the_embedded_benchmark_it_beats_the_parameter_count(task: str, least: float) -> None:
    found = load_benchmark("mini-vit")
    test, fitted = found.splits()["test"], fitted_structure(found, task)
    assert fitted is not None
    reached = kendalltau(fitted.predicted[test], found.tasks[task][test]).statistic
    network = next(each for each in found.networks() if task in each.tasks)
    params = kendalltau(found.structure(network.spec)["params"][test], found.tasks[task][test]).statistic
    assert reached > max(least, params)


@pytest.mark.parametrize(("size", "least"), [("tiny", 0.71), ("small", 0.83)])
def test_on_ood_vit_nas_it_is_above_every_size(size: str, least: float) -> None:
    """`least` is what a hand-made formula of a few fitted constants had reached there."""
    found = read_benchmark(reference("ood-vit-nas", f"{size}.json"))
    test, fitted = found.splits()["test"], fitted_structure(found, "imagenet")
    assert fitted is not None
    accuracies = found.tasks["imagenet"][test]
    reached = kendalltau(fitted.predicted[test], accuracies).statistic
    assert reached > least
    assert reached > max(kendalltau(values[test], accuracies).statistic for values in found.structure().values())
