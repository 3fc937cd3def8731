"""The statistics of a ranking, against scipy, by hand, and by their definitions."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from autoprox.evolve import MEAN
from autoprox.evolve.report import RESAMPLES, draws, partial_tau
from autoprox.rank.stats import (
    BINS,
    TOPS,
    Row,
    ScoreTable,
    binned_tau,
    correlations,
    params_bins,
    rank_rows,
    regret,
    resampled_pearsons,
    resampled_spearmans,
)
from autoprox.rank.verdict import verdict

NAN = float("nan")
COUNT = 40


def made(seed: int = 0) -> ScoreTable:
    """A table with ties, missing accuracies, and proxies that fail on some or on all architectures."""
    rng = np.random.default_rng(seed)
    params = rng.integers(5, 30, COUNT).astype(float)
    accuracies = {
        "one": np.round(60 + params / 3 + rng.normal(0, 2, COUNT)),
        "two": np.where(rng.random(COUNT) < 0.2, NAN, 50 + rng.normal(0, 3, COUNT) + params / 5),
    }
    scores = {
        "params": params,
        "good": params + rng.normal(0, 3, COUNT),
        "coarse": np.round(params / 10) * 1e12,
        "partly": np.where(rng.random(COUNT) < 0.3, NAN, rng.normal(0, 1, COUNT)),
        "constant": np.ones(COUNT),
        "fails": np.full(COUNT, NAN),
        "reversed": -params,
    }
    values = np.array(list(scores.values()))
    return ScoreTable(tuple(scores), accuracies, dict.fromkeys(accuracies, values), params)


TABLE = made()
ROWS = rank_rows(TABLE, seed=3)


def row(task: str, proxy: str, rows: tuple[Row, ...] = ROWS) -> Row:
    return next(row for row in rows if (row.task, row.proxy) == (task, proxy))


def pair(task: str, proxy: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, accuracies and params of the architectures that have both."""
    x, y = TABLE.scores[task][TABLE.proxies.index(proxy)], TABLE.accuracies[task]
    there = ~np.isnan(x) & ~np.isnan(y)
    assert TABLE.params is not None
    return x[there], y[there], TABLE.params[there]


cases = pytest.mark.parametrize(
    ("task", "proxy"),
    list(itertools.product(TABLE.accuracies, ["params", "good", "coarse", "partly", "reversed"])),
)


@cases
def test_correlations_with_accuracy_are_scipys(task: str, proxy: str) -> None:
    x, y, z = pair(task, proxy)
    found = row(task, proxy)
    assert found.n == len(x)
    assert found.tau.value == pytest.approx(scipy.stats.kendalltau(x, y).statistic, abs=1e-12)
    assert found.spearman.value == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-12)
    assert found.pearson.value == pytest.approx(scipy.stats.pearsonr(x, y).statistic, abs=1e-12)
    if proxy == "params":
        assert math.isnan(found.partial)
    else:
        taus = (scipy.stats.kendalltau(*two).statistic for two in ((x, y), (x, z), (z, y)))
        assert found.partial == pytest.approx(partial_tau(*taus), abs=1e-12)


@pytest.mark.parametrize(("task", "proxy"), [("one", "coarse"), ("two", "partly")])
def test_intervals_are_the_quantiles_of_scipys_values_on_the_resamples(task: str, proxy: str) -> None:
    x, y = TABLE.scores[task][TABLE.proxies.index(proxy)], TABLE.accuracies[task]
    there = ~np.isnan(x) & ~np.isnan(y)
    counts = draws(np.random.default_rng(3), COUNT).astype(int)
    samples = [np.repeat(np.flatnonzero(there), of_one[there]) for of_one in counts]
    assert len(samples) == RESAMPLES
    found = row(task, proxy)
    for estimate, function in (
        (found.tau, scipy.stats.kendalltau),
        (found.spearman, scipy.stats.spearmanr),
        (found.pearson, scipy.stats.pearsonr),
    ):
        expected = np.quantile([function(x[at], y[at]).statistic for at in samples], (0.025, 0.975))
        assert (estimate.low, estimate.high) == pytest.approx(tuple(expected), abs=1e-12)


def test_what_is_constant_ranks_nothing_and_what_has_no_score_is_not_judged() -> None:
    constant, fails = row("one", "constant"), row("two", "fails")
    assert (constant.tau.value, constant.spearman.value, constant.pearson.value, constant.binned) == (0, 0, 0, 0)
    assert (fails.n, fails.unscored) == (0, int((~np.isnan(TABLE.accuracies["two"])).sum()))
    numbers = [fails.tau.value, fails.tau.low, fails.spearman.value, fails.pearson.high, fails.partial, fails.binned]
    assert all(math.isnan(value) for value in (*numbers, *fails.regret))
    assert fails.rank == len(TABLE.proxies)  # last, below what ranks backwards


def test_missing_scores_are_counted_and_never_zero() -> None:
    x, _, _ = pair("two", "partly")
    labelled = int((~np.isnan(TABLE.accuracies["two"])).sum())
    found = row("two", "partly")
    assert (found.n, found.unscored) == (len(x), labelled - len(x))
    assert 0 < found.n < labelled


def test_rows_are_sorted_by_rank_and_ranks_follow_tau() -> None:
    for task in TABLE.accuracies:
        of_task = [found for found in ROWS if found.task == task]
        assert [found.rank for found in of_task] == sorted(found.rank for found in of_task)
        taus = [-found.tau.value if not math.isnan(found.tau.value) else 2 for found in of_task]
        assert [found.rank for found in of_task] == list(scipy.stats.rankdata(taus))


def test_means_are_means_over_tasks_with_an_interval_of_the_mean() -> None:
    for proxy in ("params", "good", "constant"):
        one, two, mean = (row(task, proxy) for task in ("one", "two", MEAN))
        assert mean.tau.value == pytest.approx((one.tau.value + two.tau.value) / 2)
        assert mean.rank == pytest.approx((one.rank + two.rank) / 2)
        assert mean.binned == pytest.approx((one.binned + two.binned) / 2)
        assert mean.regret == pytest.approx(tuple((a + b) / 2 for a, b in zip(one.regret, two.regret, strict=True)))
        assert mean.n == min(one.n, two.n)
    single = ScoreTable(TABLE.proxies, {"one": TABLE.accuracies["one"]}, {"one": TABLE.scores["one"]}, None)
    rows = rank_rows(single, seed=3)
    assert row(MEAN, "good", rows).tau == row("one", "good", rows).tau
    assert row("one", "good", rows).tau == row("one", "good").tau
    assert math.isnan(row("one", "good", rows).partial)  # no params in this table
    assert math.isnan(row(MEAN, "fails").tau.value)


def test_the_seed_decides_the_intervals() -> None:
    assert str(rank_rows(TABLE, seed=3)) == str(ROWS)
    assert row("one", "good", rank_rows(TABLE, seed=4)).tau != row("one", "good").tau


# --- resamples ---

values = st.lists(
    st.tuples(st.sampled_from([-2.0, 0.0, 0.1, 3.0, 1e20]), st.floats(-1e3, 1e3), st.integers(0, 3)),
    min_size=2,
    max_size=9,
)


@given(values)
def test_counted_resamples_are_copies(drawn: list[tuple[float, float, int]]) -> None:
    x, y, counts = (np.array(column) for column in zip(*drawn, strict=True))
    a, b = np.repeat(x, counts), np.repeat(y, counts)
    weights = counts[None].astype(float)
    spearman, pearson = resampled_spearmans(x, y, weights)[0], resampled_pearsons(x, y, weights)[0]
    if len(np.unique(a)) < 2 or len(np.unique(b)) < 2:
        assert spearman == pearson == 0
        return
    assert spearman == pytest.approx(scipy.stats.spearmanr(a, b).statistic, abs=1e-9)
    if np.ptp(b) > 1e-9 * max(np.abs(b).max(), 1):  # below, scipy warns of rounding
        assert pearson == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-6)


def test_what_is_constant_in_a_resample_has_no_correlation_there_whatever_its_rounding() -> None:
    y, counts = np.arange(8.0), np.array([[1.0] * 7 + [0.0]])
    for value in np.random.default_rng(0).random(50):
        x = np.array([value] * 7 + [3.0])
        assert resampled_pearsons(x, y, counts)[0] == resampled_spearmans(x, y, counts)[0] == 0.0


# --- bins ---


def test_bins_are_terciles_and_keep_equal_params_together() -> None:
    params = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9], dtype=float)
    assert params_bins(params, np.full(9, True)).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    alike = np.array([1, 1, 1, 1, 1, 1, 2, 2, 3], dtype=float)
    assert params_bins(alike, np.full(9, True)).tolist() == [0] * 6 + [2] * 3  # the middle one is empty
    judged = np.arange(9) < 3  # the terciles are those of the first three
    assert params_bins(params, judged).tolist() == [0, 1, 2, 2, 2, 2, 2, 2, 2]


def test_tau_within_bins_weighs_them_by_size() -> None:
    bins = np.array([0] * 4 + [1] * 3 + [2] * 3)
    y = np.array([1, 2, 3, 4, 1, 2, 3, 5, 5, 5], dtype=float)
    x = np.array([1, 2, 3, 4, 3, 2, 1, 1, 2, 3], dtype=float)
    assert binned_tau(x, y, bins) == (pytest.approx((4 * 1 + 3 * -1) / 7), 2)  # the last has one accuracy only
    assert binned_tau(np.where(bins == 1, 0, x), y, bins) == (pytest.approx(4 / 7), 2)  # constant there: 0
    found, used = binned_tau(x[:2], y[:2], bins[:2])
    assert math.isnan(found)
    assert used == 0


def test_bins_do_not_depend_on_what_a_proxy_scores() -> None:
    params = np.arange(12.0)
    y = np.array([0, 1, 2, 3, 3, 2, 1, 0, 0, 1, 0, 3], dtype=float)
    x = np.where(params < 4, NAN, params)  # the terciles of the rest would cut elsewhere
    (found, *_) = rank_rows(ScoreTable(("x",), {"t": y}, {"t": x[None]}, params))
    assert found.n == 8
    assert (found.binned, found.bins) == (pytest.approx((-1 + 3 / np.sqrt(5 * 6)) / 2), 2)


def test_a_proxy_that_is_params_has_no_tau_within_bins_of_equal_params() -> None:
    params = np.repeat([1.0, 2.0, 3.0], 10)
    y = np.random.default_rng(0).normal(size=30)
    assert binned_tau(params, y, params_bins(params, np.full(30, True))) == (0.0, BINS)


# --- regret ---


def test_regret_by_hand() -> None:
    x = np.array([5, 4, 3, 2, NAN, 9], dtype=float)
    y = np.array([70, 75, 60, 80, 90, NAN], dtype=float)
    assert [regret(x, y, top) for top in (1, 2, 3, 4, 10)] == [20, 15, 15, 10, 10]
    tied = np.array([1, 1, 0], dtype=float)
    assert regret(tied, np.array([50.0, 60.0, 80.0]), 1) == 80 - 55
    assert regret(tied, np.array([50.0, 60.0, 80.0]), 2) == 20


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=7),
    st.sampled_from([1, 2, 3, 5]),
)
def test_regret_with_ties_is_the_mean_over_all_orders(drawn: list[tuple[int, int]], top: int) -> None:
    x, y = (np.array(column, dtype=float) for column in zip(*drawn, strict=True))
    best = []
    for order in itertools.permutations(range(len(x))):
        ranked = sorted(order, key=lambda i: -x[i])  # stable: equal ones as the permutation has them
        best.append(max(y[i] for i in ranked[:top]))
    assert regret(x, y, top) == pytest.approx(y.max() - np.mean(best), abs=1e-9)


def test_regret_of_more_is_not_larger() -> None:
    for found in ROWS:
        if not math.isnan(found.regret[0]):
            assert list(found.regret) == sorted(found.regret, reverse=True)
            assert len(found.regret) == len(TOPS)


# --- proxies among themselves ---


def test_correlations_between_proxies_are_scipys_where_both_have_scores() -> None:
    between = correlations(TABLE)
    values = dict(zip(TABLE.proxies, TABLE.scores["one"], strict=True))
    for i, j in itertools.product(range(len(between.proxies)), repeat=2):
        x, y = values[between.proxies[i]], values[between.proxies[j]]
        there = ~np.isnan(x) & ~np.isnan(y)
        if {"constant", "fails"} & {between.proxies[i], between.proxies[j]}:
            assert math.isnan(between.kendall[i, j])
            assert math.isnan(between.spearman[i, j])
            continue
        assert between.kendall[i, j] == pytest.approx(scipy.stats.kendalltau(x[there], y[there]).statistic)
        assert between.spearman[i, j] == pytest.approx(scipy.stats.spearmanr(x[there], y[there]).statistic)


def test_correlations_are_symmetric_and_those_of_each_pair_alone() -> None:
    """Rows that miss the same numbers are ranked together; two proxies alone are ranked for themselves."""
    rng = np.random.default_rng(7)
    scores = np.round(rng.normal(0, 2, (8, 30)))
    scores[1:3, :4] = scores[4, 20:] = scores[5, 2:] = NAN  # two alike, one other, and one with two numbers
    table = ScoreTable(tuple("abcdefgh"), {"one": rng.normal(0, 1, 30)}, {"one": scores}, None)
    between = correlations(table)
    for matrix in (between.kendall, between.spearman):
        np.testing.assert_array_equal(matrix, matrix.T)
        assert np.isnan(matrix).sum() == 15  # all with f
    for pair in itertools.combinations_with_replacement(table.proxies, 2):
        alone, places = correlations(table.of_proxies(pair)), [table.proxies.index(proxy) for proxy in pair]
        np.testing.assert_allclose(between.kendall[np.ix_(places, places)], alone.kendall, atol=1e-15)
        np.testing.assert_allclose(between.spearman[np.ix_(places, places)], alone.spearman, atol=1e-15)


def test_correlations_are_means_over_networks_that_differ() -> None:
    first, second = made(0), made(1)
    both = ScoreTable(
        first.proxies,
        {"a": first.accuracies["one"], "b": first.accuracies["one"], "c": first.accuracies["two"]},
        {"a": first.scores["one"], "b": first.scores["one"], "c": second.scores["one"]},
        first.params,
    )
    mean = (correlations(first).spearman + correlations(second).spearman) / 2
    np.testing.assert_allclose(correlations(both).spearman, mean)


def test_parts_of_a_table() -> None:
    part = TABLE.of_architectures(np.array([2, 5, 7])).of_proxies(["good", "params"])
    assert part.proxies == ("good", "params")
    assert part.params is not None
    assert part.params.tolist() == TABLE.params[[2, 5, 7]].tolist()  # type: ignore[index]
    assert part.scores["two"].tolist() == TABLE.scores["two"][[1, 0]][:, [2, 5, 7]].tolist()
    assert part.accuracies["one"].tolist() == TABLE.accuracies["one"][[2, 5, 7]].tolist()
    assert part.scores["one"] is part.scores["two"]  # still one network for both tasks


def test_fitted_structure_is_a_row_and_what_is_left_given_it() -> None:
    rng = np.random.default_rng(5)
    fitted = {task: np.nan_to_num(y) + rng.normal(0, 5, COUNT) for task, y in TABLE.accuracies.items()}
    rows = rank_rows(replace(TABLE, fitted=fitted), seed=3)
    for task, y in TABLE.accuracies.items():
        own, there = row(task, "good", rows), ~np.isnan(y)
        x, z = TABLE.scores[task][TABLE.proxies.index("good")][there], fitted[task][there]
        xy, xz, yz = (scipy.stats.kendalltau(*pair).statistic for pair in ((x, y[there]), (x, z), (y[there], z)))
        assert own.given_fitted == pytest.approx((xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2)))
        assert row(task, "fitted structure", rows).tau.value == pytest.approx(yz)
        assert np.isnan(row(task, "fitted structure", rows).given_fitted)
    words = verdict(replace(TABLE, fitted=fitted), rows, seed=3)
    assert words.startswith("good, the best of ")
    assert "no better than structure" in words
    assert "params, the strongest of 2 baselines" in words
    assert verdict(TABLE, ()) == ""


def test_a_product_of_sizes_is_what_proxies_are_compared_with() -> None:
    """The zoo has depth × width under a name; as the best "proxy" it would be called better than structure."""
    names = tuple("depth-times-width" if name == "good" else name for name in TABLE.proxies)
    table = replace(TABLE, proxies=names)
    words = verdict(table, rank_rows(table, seed=3), seed=3)
    assert words.startswith("coarse, the best of 3 proxies here")
    assert ", the strongest of 2 baselines" in words  # params is the other
