"""Groups of a benchmark: what a file may say of them, and the tau within them, by hand."""

from dataclasses import replace
from math import isnan

import numpy as np
import orjson
import pytest
import synthetic
from scipy.stats import kendalltau

from autoprox.bench_cache.benchmarks.describe import describe
from autoprox.bench_cache.benchmarks.groups import within_tau
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.runtime.checks import BenchmarkError

PLAIN = synthetic.benchmark(9)
LABELS = ("a", "a", "a", "b", "b", "b", "b", "", "c")
GROUPED = replace(PLAIN, groups={"family": LABELS})


def test_the_mean_is_weighted_by_pairs() -> None:
    accuracies = np.array([1.0, 2, 3, 1, 2, 3, 4, 9, 9])
    scores = np.array([3.0, 2, 1, 1, 2, 3, 4, 0, 0])  # −1 in the 3 pairs of a, +1 in the 6 of b
    found = within_tau(scores, accuracies, np.array(LABELS))
    assert (found.tau, found.groups, found.pairs) == (pytest.approx((-3 + 6) / 9), 2, 9)


def test_a_tau_between_groups_is_not_one_within() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(["2", "4"], 100)
    accuracies = (labels == "4") * 10 + rng.normal(size=200)
    scores = (labels == "4") * 10 + rng.normal(size=200)
    assert kendalltau(scores, accuracies).statistic > 0.4
    assert abs(within_tau(scores, accuracies, labels).tau) < 0.1


def test_what_is_missing_constant_or_alone() -> None:
    labels, accuracies = np.array(["a"] * 4 + ["b"] * 3 + ["c"] * 2), np.array([1.0, 2, 3, np.nan, 5, 5, 5, 1, 2])
    scores = np.array([1.0, 2, 3, 0, 1, 2, 3, 1, 2])
    assert within_tau(scores, accuracies, labels) == within_tau(scores[:3], accuracies[:3], labels[:3])
    assert within_tau(np.ones(9), accuracies, labels).tau == 0
    scores[0] = np.nan
    nothing = within_tau(scores, accuracies, labels)
    assert isnan(nothing.tau)
    assert (nothing.groups, nothing.pairs) == (0, 0)


def test_a_file_keeps_groups_and_one_without_them_is_as_before() -> None:
    again = Benchmark.from_bytes(GROUPED.to_bytes())
    assert again.groups["family"].tolist() == list(LABELS)
    assert again.to_bytes() == GROUPED.to_bytes()
    assert b"groups" not in PLAIN.to_bytes()
    assert not Benchmark.from_bytes(PLAIN.to_bytes()).groups
    with pytest.raises(ValueError, match="read-only"):
        again.groups["family"][0] = "z"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": 3}, r"record 2: group family is 3, not a line of text"),
        ({"family": "x" * 65}, r"record 2: group family is 'x.*, not a line of text with at most 64"),
        ({"other": "x"}, r"record 2: unknown field 'other'"),
    ],
)
def test_wrong_groups_are_refused(change: dict, message: str) -> None:
    table = orjson.loads(GROUPED.to_bytes())
    table["records"][2]["groups"] = change
    with pytest.raises(BenchmarkError, match=message):
        Benchmark.from_bytes(orjson.dumps(table))


def test_the_arrays_are_as_long_as_the_benchmark() -> None:
    with pytest.raises(BenchmarkError, match=r"group family has shape \(1,\) for 9 architectures"):
        replace(PLAIN, groups={"family": ("a",)})
    with pytest.raises(BenchmarkError, match="cannot be the name of a group"):
        replace(PLAIN, groups={"a b": LABELS})


def test_describe_has_taus_of_structure_within() -> None:
    (facts, *_) = describe(GROUPED).tasks
    params, accuracies = GROUPED.structure()["params"], GROUPED.tasks[facts.task]
    assert facts.within["family"]["params"] == within_tau(params, accuracies, GROUPED.groups["family"])
    assert describe(PLAIN).tasks[0].within == {}
