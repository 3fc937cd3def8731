"""What `bench show` says: facts that scipy and counting confirm, and a warning for labels that are not their own."""

import random
from random import Random

import numpy as np
import pytest
from public_files import reference
from scipy.stats import kendalltau

from autoprox.bench_cache.benchmarks.describe import ALPHA, FEWEST, check_structure, describe, structural_features
from autoprox.bench_cache.benchmarks.readers import read_benchmark
from autoprox.bench_cache.benchmarks.record import Record
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.spaces.registry import InputSpec, get_space

KD = ("c100_kd", "flower_kd", "chaoyang_kd")


def made(space: str, count: int, noise: float, seed: int = 0) -> Benchmark:
    """Architectures whose accuracy grows with depth, plus noise; and their labels shuffled, sparse, and constant."""
    found, rng, noises = get_space(space), Random(seed), np.random.default_rng(seed)
    archs = tuple({found.key(a): a for a in (found.sample(rng) for _ in range(count))}.values())
    depth = np.array([found.depth(arch) for arch in archs], dtype=float)
    accuracy = np.round(60 + depth + noise * noises.normal(size=len(archs)), 1)
    tasks = {
        "real": accuracy,
        "shuffled": noises.permutation(accuracy),
        "sparse": np.where(np.arange(len(archs)) < 6, accuracy, np.nan),
        "constant": np.full(len(archs), 70.0),
        "empty": np.full(len(archs), np.nan),
    }
    return Benchmark("made", space, InputSpec(num_classes=10), "tests", archs, tasks)


def test_facts_are_what_counting_and_scipy_say() -> None:
    benchmark = made("autoformer-vb101", 80, noise=0.5)
    description = describe(benchmark)
    structure, splits = benchmark.structure(), benchmark.splits()
    assert (description.name, description.architectures) == ("made", len(benchmark))
    assert dict(description.splits) == {name: len(rows) for name, rows in splits.items()}
    for facts in description.tasks:
        values = benchmark.tasks[facts.task]
        labels = values[~np.isnan(values)].tolist()
        assert (facts.labelled, facts.missing) == (len(labels), len(benchmark) - len(labels))
        assert facts.distinct == len(set(labels))
        assert facts.tied == sum(labels.count(label) > 1 for label in labels)
        for split, rows in splits.items():
            assert facts.splits[split] == np.isfinite(values[rows]).sum()
        if facts.distinct > 1:
            assert (facts.lowest, facts.highest) == (min(labels), max(labels))
            for fact, tau in facts.tau.items():
                there = ~np.isnan(values)
                assert tau == pytest.approx(kendalltau(structure[fact][there], values[there]).statistic)
    pair = kendalltau(benchmark.tasks["real"], benchmark.tasks["shuffled"]).statistic
    assert description.tau_between["real", "shuffled"] == pytest.approx(pair)
    assert len(description.tau_between) == 10
    assert np.isnan(description.tau_between["real", "constant"])
    assert np.isnan(description.tau_between["real", "empty"])


def test_warnings_name_the_shuffled_the_constant_and_the_empty_task_only() -> None:
    benchmark = made("autoformer-vb101", 80, noise=0.5)
    warned = [warning.split(":")[0] for warning in describe(benchmark).warnings]
    assert warned == ["shuffled", "constant", "empty"]
    sparse = describe(benchmark).tasks[2]
    assert sparse.labelled < FEWEST
    assert sparse.check.verdict == "too few"


@pytest.mark.parametrize("space", ["autoformer-small", "pit-vb101"])
def test_the_closest_fact_is_found(space: str) -> None:
    check = describe(made(space, 100, noise=0.1)).tasks[0].check
    assert "depth" in check.strongest or "sum" in check.strongest
    assert check.rho > 0.8
    assert check.p_value <= ALPHA


def test_a_description_is_repeatable_and_moves_no_global_generator() -> None:
    benchmark = made("pit-vb101", 60, noise=2.0)
    before = random.getstate(), np.random.get_state()[1].tolist()
    assert repr(describe(benchmark)) == repr(describe(benchmark))
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def test_a_best_in_the_middle_and_facts_that_count_together_explain_too() -> None:
    rng = np.random.default_rng(0)
    width = rng.permutation(np.repeat(np.arange(5.0), 20))
    middle = -np.abs(width - 2) + 0.3 * rng.normal(size=100)
    assert abs(np.corrcoef(width, middle)[0, 1]) < 0.2
    assert check_structure(middle, {"width": width}).verdict == "explained"

    uncorrelated = np.linalg.qr(rng.normal(size=(150, 21)))[0].T
    features = {f"f{i}": values for i, values in enumerate(uncorrelated[:20])}
    together = uncorrelated.sum(axis=0)
    check = check_structure(together, features)
    assert abs(check.rho) < 0.33, "none does much alone"
    assert check.r2 > 0.8
    assert check.verdict == "explained"
    assert check_structure(together, {"constant": np.ones(150)}).verdict == "unexplained"


def test_shuffled_labels_escape_as_rarely_as_promised() -> None:
    benchmark = made("autoformer-vb101", 100, noise=0.5)
    features, labels, rng = structural_features(benchmark), benchmark.tasks["real"], np.random.default_rng(1)
    escaped = sum(check_structure(rng.permutation(labels), features).verdict == "explained" for _ in range(100))
    assert escaped <= 1  # 0.1 are expected; 2 or more have a chance of one in two hundred


def test_features_are_told_stage_by_stage_or_over_layers() -> None:
    pit = structural_features(made("pit-vb101", 30, noise=1))
    assert set(pit) >= {"params", "flops", "depth", "width", "base_dim", "mlp_ratio", "depth[0]", "num_heads[2]"}
    autoformer = structural_features(made("autoformer-tiny", 30, noise=1))
    assert set(autoformer) >= {"embed_dim", "mean num_heads", "sum mlp_ratio"}
    archs = [{"layer_num": n, "kind": "vit", "dims": [n] * n} for n in range(1, 5)]
    table = Benchmark.from_records("t", None, None, "tests", ["a"], [Record(arch, {"a": 1}) for arch in archs])
    assert set(structural_features(table)) == {"depth", "layer_num", "mean dims", "sum dims"}


@pytest.mark.parametrize("name", ["autoformer", "pit"])
@pytest.mark.parametrize("task", KD)
def test_public_labels_are_explained_until_they_are_shuffled(name: str, task: str) -> None:
    benchmark = read_benchmark(reference("vit-bench-101", f"gt_{name}.pth"))
    features, labels = structural_features(benchmark), benchmark.tasks[task]
    assert check_structure(labels, features).verdict == "explained"
    for seed in range(10):
        shuffled = np.random.default_rng(seed).permutation(labels)
        assert check_structure(shuffled, features).verdict == "unexplained", seed


def test_one_public_column_looks_shuffled() -> None:
    warned = [
        (name, facts.task)
        for name in ("autoformer", "pit")
        for facts in describe(read_benchmark(reference("vit-bench-101", f"gt_{name}.pth"))).tasks
        if facts.warning
    ]
    assert warned == [("autoformer", "chaoyang_base")]


@pytest.mark.parametrize("parts", [("ood-vit-nas", "tiny.json"), ("ood-vit-nas", "small.json"), ("hytas", "ksc.csv")])
def test_large_public_benchmarks_are_explained(parts: tuple[str, ...]) -> None:
    assert describe(read_benchmark(reference(*parts))).warnings == ()
