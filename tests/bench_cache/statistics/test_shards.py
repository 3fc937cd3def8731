"""Shards: stacked evaluation equals the network-by-network path, on every operation, whatever the number of workers."""

from pathlib import Path
from random import Random

import numpy as np
import pytest
import synthetic
from torch import Tensor

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.bench_cache.runtime.local_pool import close_pool, local_pool
from autoprox.bench_cache.statistics import scorer as scoring
from autoprox.bench_cache.statistics import stacks
from autoprox.bench_cache.statistics.held_small import HELD_SMALL
from autoprox.bench_cache.statistics.in_memory import HELD
from autoprox.bench_cache.statistics.large import LargeScorer
from autoprox.bench_cache.statistics.scorer import network_scorer
from autoprox.bench_cache.statistics.shards import OF_ONE_DEPTH, SIZE, SIZE_OF_SAMPLED, shards
from autoprox.bench_cache.statistics.small import SmallScorer
from autoprox.evolve import grammar
from autoprox.evolve.variation import generator, grow
from autoprox.primitives import OPERATIONS, Operation, apply, parse, statistic
from autoprox.primitives.reduce import is_small


@pytest.fixture(scope="module")
def mini() -> Benchmark:
    """Small networks, which are two shards."""
    return synthetic.mini(40)


@pytest.fixture(scope="module")
def pair(mini: Benchmark, tmp_path_factory: pytest.TempPathFactory) -> tuple[SmallScorer, LargeScorer]:
    """Two scorers of all networks on the same statistics: from memory, and network by network."""
    root = tmp_path_factory.mktemp("statistics")
    return SmallScorer(mini, root), LargeScorer(mini, root)


def formulas(count: int) -> list:
    """Random formulas of the whole language, that together use every operation."""
    made = grammar("typed", costly=True)
    found, missing = [], set(OPERATIONS) - {"identity"}
    rng = generator(0)
    while missing or len(found) < count:
        formula = made.formula(grow(made, made.pset.ret, 2, 6, rng))
        used = {getattr(node.head, "name", "") for node in formula.nodes()} & missing
        if formula.is_complete and (used or len(found) < count):
            found.append(formula)
            missing -= used
    return found


def test_groups_have_as_much_work_and_depths_are_not_torn_apart() -> None:
    depths = np.array([2] * (OF_ONE_DEPTH + 2) + [5] * 20 + [1] * 30 + [4])
    groups = shards(depths)
    assert sorted(np.concatenate(groups)) == [*range(len(depths))]
    assert [sorted(zip(*np.unique(depths[at], return_counts=True), strict=True)) for at in groups] == [
        [(2, 51), (5, 20)],
        [(1, 30), (2, 51), (4, 1)],
    ]
    assert len(shards(np.array([3] * 4 * SIZE))) == 4
    assert [len(at) for at in shards(np.array([7]))] == [1]


def test_groups_of_large_networks_are_small_and_even_in_number() -> None:
    depths = np.array([12] * 60 + [13] * 30 + [14] * 10)
    groups = shards(depths, stride=8)
    assert sorted(np.concatenate(groups)) == [*range(len(depths))]
    assert len(groups) == 6
    assert max(len(at) for at in groups) <= SIZE_OF_SAMPLED
    assert [len(at) for at in shards(np.array([12]), stride=8)] == [1]


def test_scores_are_those_of_the_plain_path_on_every_operation(pair: tuple[SmallScorer, LargeScorer]) -> None:
    fast, slow = pair
    everything = np.arange(len(fast.subjects))
    chosen = formulas(60)
    expected, found = slow.scores(chosen, everything), fast.scores(chosen, everything)
    for formula, left, right in zip(chosen, found, expected, strict=True):
        scale = np.abs(right).max()
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6 * scale, err_msg=formula.text)


def test_each_reduction_is_that_of_the_plain_path(pair: tuple[SmallScorer, LargeScorer]) -> None:
    fast, slow = pair
    everything = np.arange(len(fast.subjects))
    reduce = [o for o in OPERATIONS.values() if o.family in ("reduce", "spectrum") and not o.per_sample]
    chosen = [
        apply(OPERATIONS["sum"], apply(operation, statistic(name, "mlp", *filter(None, [probe]))))
        for operation in reduce
        for name, probe in (("weight", ""), ("act_grad", "noise"))
    ]
    found, expected = fast.scores(chosen, everything), slow.scores(chosen, everything)
    for formula, left, right in zip(chosen, found, expected, strict=True):
        cancels = formula.text.startswith(("sum(sum(", "sum(mean("))  # of signed entries: only their size is kept
        scale = np.abs(right).max() if cancels else 0
        np.testing.assert_allclose(
            left, right, rtol=1e-6 if not cancels else 1e-3, atol=1e-4 * scale, err_msg=formula.text
        )


def test_order_and_further_formulas_change_nothing(pair: tuple[SmallScorer, LargeScorer]) -> None:
    fast, _ = pair
    order = np.array(Random(0).sample(range(len(fast.subjects)), len(fast.subjects)))
    chosen = formulas(12)
    whole = fast.scores(chosen, order)
    np.testing.assert_array_equal(whole[3:5], fast.scores(chosen[3:5], order))
    np.testing.assert_array_equal(whole, fast.scores(chosen, np.arange(len(order)))[:, order])


@pytest.mark.parametrize(("kept", "together"), [(0.0, 64), (0.02, 3), (10.0, 1)])
def test_what_is_kept_of_derived_matrices_changes_nothing(
    pair: tuple[SmallScorer, LargeScorer], kept: float, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast, _ = pair
    everything = np.arange(len(fast.subjects))
    chosen = [
        *(f for f in formulas(60) if any(is_small(n) for n in f.nodes())),
        parse("sum(fro(column_norm(sample_sum(act[fc1, noise])))) + sum(std(row_norm(weight[fc1])))"),
        parse("sum(fro(gram(sample_sum(act[fc1, noise])))) * sum(l1(log(column_norm(sample_sum(act[fc1, noise])))))"),
    ]
    expected = fast.scores(chosen, everything)
    HELD.clear()
    monkeypatch.setattr(stacks, "KEPT_PART", kept)
    monkeypatch.setattr(stacks, "TOGETHER", together)
    for part in (chosen[::-1], chosen):
        found = np.concatenate([fast.scores([formula], everything) for formula in part])
        np.testing.assert_array_equal(found, expected[:: -1 if part is not chosen else 1])
    for shard in HELD:
        derived = sum(each.nbytes for each in shard.stacks._derived.values())
        assert derived == shard.stacks._derived_bytes <= kept * shard.stacks._read_bytes
        assert bool(derived) == bool(kept)
    HELD.clear()


def test_workers_change_nothing(mini: Benchmark, pair: tuple[SmallScorer, LargeScorer]) -> None:
    fast, _ = pair
    everything = np.arange(len(mini))
    pool = local_pool(2)
    try:
        found = SmallScorer(mini, fast.root, executor=pool).scores(formulas(12), everything)
    finally:
        close_pool(pool)
    np.testing.assert_array_equal(found, fast.scores(formulas(12), everything))


def half(x: Tensor) -> Tensor:
    return x.abs().mean((-2, -1)) / 2


def whole(x: Tensor) -> Tensor:
    return x.abs().mean((-2, -1))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_redefined_operation_is_not_remembered(
    mini: Benchmark, pair: tuple[SmallScorer, LargeScorer], workers: int
) -> None:
    pool = local_pool(workers) if workers else None
    scorer, scores = SmallScorer(mini, pair[0].root, executor=pool), []
    try:
        for function in (half, whole, half):
            operations = OPERATIONS.extended(Operation("mine", "reduce", function, "{0}"))
            scores.append(scorer.scores([parse("sum(mine(weight)) + params", operations)], np.arange(6)))
    finally:
        if pool:
            close_pool(pool)
    params = scorer.structure["params"][:6]
    np.testing.assert_allclose(scores[1] - params, 2 * (scores[0] - params), rtol=1e-5)
    np.testing.assert_array_equal(scores[2], scores[0])


def test_a_function_of_the_same_name_is_not_remembered_either(pair: tuple[SmallScorer, LargeScorer]) -> None:
    """As in a notebook, where a cell is run again."""
    scores = []
    for value in (1.0, 2.0):

        def mine(x: Tensor, value: float = value) -> Tensor:
            return x.abs().mean((-2, -1)) * value

        operations = OPERATIONS.extended(Operation("mine", "reduce", mine, "{0}"))
        scores.append(pair[0].scores([parse("sum(mine(weight))", operations)], np.arange(6)))
    np.testing.assert_allclose(scores[1], 2 * scores[0])


def test_only_small_networks_are_scored_from_memory(mini: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    params = mini.structure()["params"]
    assert scoring.are_small(params)
    monkeypatch.setattr(scoring, "SMALL", params.max() - 1)
    assert not scoring.are_small(params)


def test_the_memory_limit_changes_nothing(
    pair: tuple[SmallScorer, LargeScorer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards that are read again, beside other formulas, give the same bits."""
    texts = ("sum(l1(weight * weight_grad[noise]))", "mean(std(pow(act[noise], 3)))", "sum(fro(tanh(weight)))")
    fast, chosen, everything = pair[0], [parse(text) for text in texts], np.arange(40)
    HELD.clear()
    whole = fast.scores(chosen, everything)
    assert len(HELD) == 2
    one = int(1.2 * max(shard.nbytes for shard in HELD))
    for limit, held in ((0, 0), (one, 1)):
        monkeypatch.setenv("AUTOPROX_MEMORY", str(limit))
        HELD.clear()
        np.testing.assert_array_equal(fast.scores(chosen[:2], everything), whole[:2])
        np.testing.assert_array_equal(fast.scores(chosen[1:], everything), whole[1:])
        assert len(HELD) == held


def test_shards_of_an_earlier_benchmark_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (SmallScorer(synthetic.mini(count), tmp_path) for count in (6, 7))
    formula = [parse("sum(fro(weight))")]
    HELD.clear()
    HELD_SMALL.clear()
    first.scores(formula, np.arange(6))
    size, kept = sum(shard.nbytes for shard in HELD), list(HELD)
    monkeypatch.setenv("AUTOPROX_MEMORY", str(size))
    second.scores(formula, np.arange(7))
    assert list(HELD) == kept
    second.scores(formula, np.arange(7))
    assert list(HELD) != kept


@pytest.mark.parametrize("limit", ["much", "-1", "1e9", "4 PB"])
def test_a_memory_limit_that_is_no_size_is_refused(
    mini: Benchmark, tmp_path: Path, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOPROX_MEMORY", limit)
    with pytest.raises(BenchmarkError, match=f"AUTOPROX_MEMORY is '{limit}'; it must be a size, such as 500MB or 4GB"):
        network_scorer(mini, tmp_path)
