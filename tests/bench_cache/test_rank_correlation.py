"""Kendall's tau-b is scipy's, bit for bit, and the taus of resamples are those that a loop over resamples finds."""

import warnings

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from autoprox.bench_cache import rank_correlation
from autoprox.bench_cache.rank_correlation import FixedRanks, kendall, kendalls, mean_ranks, resampled_taus, tau_b

#: Numbers of items: few, around powers of two, and enough for many blocks.
COUNTS = st.one_of(st.integers(2, 70), st.sampled_from([127, 128, 255, 256, 257, 500, 1000]))
#: To how many digits numbers are rounded, and so how many of them are tied.
DIGITS = st.sampled_from([0, 1, 9])


def scipys(x: np.ndarray, y: np.ndarray) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # p-values of two items
        return float(scipy.stats.kendalltau(x, y, method="asymptotic" if len(x) > 2 else "auto").statistic)


@given(COUNTS, DIGITS, DIGITS, st.integers(0, 2**32 - 1))
def test_taus_are_scipys_bit_for_bit(count: int, of_x: int, of_y: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = np.round(rng.normal(size=count), of_y)
    scores = np.round(y + rng.normal(size=(3, count)), of_x)
    hard = [np.zeros(count), y, -y, np.where(rng.random(count) < 0.5, np.inf, -0.0), np.where(y > 1, np.nan, y)]
    scores = np.concatenate([scores, hard])
    expected = [scipys(row, y) for row in scores]
    np.testing.assert_array_equal(FixedRanks(y).taus(scores), expected)
    np.testing.assert_array_equal([tau_b(row, y) for row in scores], expected)


@pytest.mark.parametrize("few", [0, 10**9])
@pytest.mark.parametrize("at_once", [1, 10**9])
def test_taus_do_not_depend_on_how_they_are_counted(few: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_correlation, "FEW", few)
    monkeypatch.setattr(rank_correlation, "AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    for count in (9, 64, 300):
        y, scores = rng.normal(size=count).round(1), rng.normal(size=(4, count)).round(1)
        np.testing.assert_array_equal(kendalls(scores, y), [scipys(row, y) for row in scores])


@pytest.mark.slow
def test_a_tau_of_very_many_is_scipys() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 100_000)).round(3)
    assert tau_b(x, x + y) == scipys(x, x + y)


@given(
    st.integers(3, 40).flatmap(
        lambda n: st.tuples(
            st.lists(st.lists(st.integers(-4, 4), min_size=n, max_size=n), min_size=1, max_size=4),
            st.lists(st.one_of(st.none(), st.integers(0, 5)), min_size=n, max_size=n),
        )
    )
)
def test_missing_accuracies_are_left_out(drawn: tuple[list[list[int]], list[int | None]]) -> None:
    scores = np.array(drawn[0], dtype=float)
    accuracies = np.array([np.nan if value is None else value for value in drawn[1]], dtype=float)
    there = ~np.isnan(accuracies)
    expected = [scipys(row[there], accuracies[there]) if there.sum() > 2 else np.nan for row in scores]
    np.testing.assert_array_equal(kendalls(scores, accuracies), expected)
    np.testing.assert_array_equal([kendall(row, accuracies) for row in scores], expected)


@given(st.lists(st.one_of(st.none(), st.integers(-4, 4)), max_size=30))
def test_ranks_are_scipys(values: list[int | None]) -> None:
    numbers = np.array([np.nan if value is None else value for value in values], dtype=float)
    expected = scipy.stats.rankdata(numbers, nan_policy="omit") if len(numbers) else numbers
    np.testing.assert_array_equal(mean_ranks(numbers), expected)


def test_few_items_have_no_tau() -> None:
    for count in (0, 1):
        assert np.isnan(tau_b(np.arange(float(count)), np.arange(float(count))))
    assert np.isnan(tau_b(np.arange(3.0), np.array([1.0, np.nan, 2.0])))


def pair_by_pair(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The formula of `resampled_taus` as it stands there: items × items for each sum."""
    a, b = (np.sign(values[:, None] - values[None, :]) for values in (x, y))
    agreement, of_x, of_y = (((counts @ pairs) * counts).sum(1) for pairs in (a * b, a * a, b * b))
    scale = np.sqrt(of_x * of_y)
    return np.divide(agreement, scale, out=np.zeros_like(scale), where=scale > 0)


@pytest.mark.parametrize("cells", [1, 2**22])
@pytest.mark.parametrize("count", [1, 2, 3, 64, 200, 531])
@pytest.mark.parametrize("digits", [0, 1, 9])
def test_resamples_are_those_of_the_formula(
    count: int, digits: int, cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_correlation, "CELLS", cells)
    rng = np.random.default_rng(count)
    x = rng.normal(size=count).round(digits)
    y = (x + rng.normal(size=count)).round(digits)
    counts = np.array([np.bincount(rng.integers(0, count, count), minlength=count) for _ in range(7)], dtype=float)
    for values in (x, -y, np.where(rng.random(count) < 0.4, 0.5, x), np.zeros(count)):
        np.testing.assert_array_equal(resampled_taus(values, y, counts), pair_by_pair(values, y, counts))


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=20))
def test_the_taus_of_resamples_are_tau_b(pairs: list[tuple[int, int]]) -> None:
    x, y = np.array(pairs, dtype=float).T
    draws = np.random.default_rng(0).integers(0, len(x), (5, len(x)))
    counts = np.array([np.bincount(draw, minlength=len(x)) for draw in draws])
    for draw, found in zip(draws, resampled_taus(x, y, counts), strict=True):
        if len(set(x[draw])) == 1 or len(set(y[draw])) == 1:
            assert found == 0
        else:
            assert found == pytest.approx(scipys(x[draw], y[draw]), abs=1e-12)


def test_what_is_not_a_number_has_tau_0_in_resamples() -> None:
    assert resampled_taus(np.array([1.0, np.nan, 2.0]), np.arange(3.0), np.ones((2, 3))).tolist() == [0, 0]
