"""Taus on labels that mean nothing, intervals that know how many formulas were tried, and repeats of a ranking."""

import numpy as np
import pytest
import scipy.stats

from autoprox.rank.resampled import given_fitted, mean_taus
from autoprox.rank.stats import ScoreTable, rank_rows
from autoprox.validation.chance import best_by_chance, shuffled_labels, widened
from autoprox.validation.repeats import compared, noise_share

NAN = float("nan")
COUNT = 60


def made(seed: int = 0) -> ScoreTable:
    """A table of a proxy that follows the labels, and of one that does not; the second task lacks some accuracies."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=COUNT)
    scores = np.array([y + rng.normal(size=COUNT), rng.normal(size=COUNT)])
    accuracies = {"one": 50 + y, "two": np.where(np.arange(COUNT) < 10, NAN, 50 + y + rng.normal(size=COUNT))}
    fitted = {task: np.nan_to_num(values) + rng.normal(size=COUNT) for task, values in accuracies.items()}
    return ScoreTable(("good", "blind"), accuracies, dict.fromkeys(accuracies, scores), None, {}, fitted)


def test_on_shuffled_labels_tau_is_0_with_the_spread_of_theory() -> None:
    found = shuffled_labels(made(), "good")
    assert found is not None
    assert abs(found.mean) < 0.01
    # the two tasks resemble each other, so the spread is that of one task or less
    alone = np.sqrt(2 * (2 * COUNT + 5) / (9 * COUNT * (COUNT - 1)))
    assert 0.75 * alone < found.spread < 1.1 * alone
    assert found.low < -alone
    assert found.high > alone
    assert found.p == pytest.approx(1 / 1000)


def test_a_proxy_that_means_nothing_is_no_better_than_chance() -> None:
    blind = shuffled_labels(made(), "blind", shuffles=299)
    assert blind is not None
    table = made()
    tau = np.mean([row.tau.value for row in rank_rows(table) if (row.proxy, row.task) == ("blind", "mean")])
    assert blind.p == pytest.approx(scipy.stats.norm.sf(tau / blind.spread), abs=0.05)
    assert shuffled_labels(made(), "blind", shuffles=299) == blind


def test_of_one_formula_the_interval_is_the_usual_one() -> None:
    table = made()
    row = next(row for row in rank_rows(table) if (row.proxy, row.task) == ("good", "mean"))
    low, high = widened(row.tau.value, mean_taus(table, "good"), 1)
    assert (low, high) == (pytest.approx(row.tau.low, abs=0.03), pytest.approx(row.tau.high, abs=0.03))


def test_the_interval_of_the_best_of_many_covers() -> None:
    """Of 50 formulas with one true value, the best is chosen: the usual interval misses, the widened one does not."""
    rng, tried, spread = np.random.default_rng(0), 50, 0.1
    resampled = np.tanh(rng.normal(0.3, spread, 2000))
    covered = {1: 0, tried: 0}
    for _ in range(400):
        best = float(np.tanh(rng.normal(0.3, spread, tried).max()))
        for number in covered:
            low, high = widened(best, resampled, number)
            covered[number] += low <= np.tanh(0.3) <= high
    assert covered[1] / 400 < 0.4
    assert covered[tried] / 400 == pytest.approx(0.975, abs=0.025)  # the best misses on one side only


def test_the_best_of_many_by_chance() -> None:
    rng = np.random.default_rng(0)
    best = rng.normal(0, 0.1, (4000, 30)).max(1)
    assert best_by_chance(0.1, 30) == pytest.approx(np.quantile(best, 0.95), abs=0.01)
    assert best_by_chance(0.1, 1) == pytest.approx(0.1645, abs=1e-3)


def test_noise_is_what_repeats_change() -> None:
    rng = np.random.default_rng(0)
    ranks = np.arange(200.0)
    assert noise_share(np.array([ranks, ranks])) == 0
    assert noise_share(rng.permuted(np.array([ranks] * 4), axis=1)) > 0.9
    # a signal of variance 1 and noise of variance 1/3: a quarter of the variance
    signal = rng.normal(size=2000)
    repeats = signal + rng.normal(0, np.sqrt(1 / 3), (5, 2000))
    assert noise_share(repeats) == pytest.approx(0.25, abs=0.02)


def test_repeats_by_hand() -> None:
    table = made()
    other = ScoreTable(table.proxies, table.accuracies, {t: -s for t, s in table.scores.items()}, None)
    same, reverse = compared([table, table], "good", 4), compared([table, other], "good", 4)
    assert same is not None
    assert reverse is not None
    tau = next(row.tau.value for row in rank_rows(table) if (row.proxy, row.task) == ("good", "mean"))
    assert same.taus == (pytest.approx(tau), pytest.approx(tau))
    assert (same.agreement, same.noise, same.spread, same.averaged) == (1, 0, 0, pytest.approx(tau))
    assert reverse.taus == (pytest.approx(tau), pytest.approx(-tau))
    assert (reverse.agreement, reverse.noise, reverse.averaged) == (-1, 1, 0)


def test_what_has_too_few_scores_has_no_numbers() -> None:
    table = made()
    empty = ScoreTable(table.proxies, table.accuracies, {t: s * NAN for t, s in table.scores.items()}, None)
    assert shuffled_labels(empty, "good") is None
    assert compared([table, empty], "good", 4) is None
    assert np.isnan(given_fitted(empty, "good").value)
