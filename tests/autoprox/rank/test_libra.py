"""LIBRA: what it chooses, by hand and against entropies counted out; how it merges; and that test decides nothing."""

import math
from collections import Counter

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from autoprox.rank.libra import LIBRA, ROLES, choose, classes, discretised, information_gain, merged_table
from autoprox.rank.plan import RankError
from autoprox.rank.stats import ScoreTable, rank_rows
from autoprox.zoo.az_nas import log_rank_sum

NAN = float("nan")
COUNT = 60


def table(scores: dict[str, np.ndarray], y: np.ndarray, params: np.ndarray | None) -> ScoreTable:
    return ScoreTable(tuple(scores), {"task": y}, {"task": np.array(list(scores.values()))}, params)


def drawn(seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Proxies that follow a hidden quality and size to different degrees."""
    rng = np.random.default_rng(seed)
    params, quality = rng.normal(size=COUNT), rng.normal(size=COUNT)
    y = 70 + quality + params
    scores = {
        "noise": rng.normal(size=COUNT),
        "base": y + rng.normal(0, 0.5, COUNT),
        "sized": y + 2.0 * params,
        "quality": y + quality * 0.8,
        "alike": y + rng.normal(0, 0.55, COUNT),
    }
    scores["twin"] = np.exp(scores["base"] - 70)
    return scores, y, params


# --- what is chosen ---


def test_the_three_are_those_of_algorithm_1() -> None:
    scores, y, params = drawn()
    choice = choose(table(scores, y, params), "task")
    rho = {name: scipy.stats.spearmanr(x, y).statistic for name, x in scores.items()}
    base = max(rho, key=lambda name: rho[name])
    assert choice.chosen[0] == base
    within = {name for name in scores if rho[name] > rho[base] - 0.1}
    assert {candidate.proxy for candidate in choice.candidates} == within
    assert "noise" not in within
    by_name = {candidate.proxy: candidate for candidate in choice.candidates}
    for name, candidate in by_name.items():
        assert candidate.rho == pytest.approx(rho[name])
        assert candidate.bias == pytest.approx(scipy.stats.spearmanr(scores[name], params).statistic)
        assert candidate.gain == pytest.approx(information_gain(y, scores[base], scores[name], choice.bins))
    assert choice.bias == pytest.approx(scipy.stats.spearmanr(y, params).statistic)
    rankings = {name: tuple(scipy.stats.rankdata(scores[name])) for name in within}
    second = [name for name in within if rankings[name] != rankings[base]]
    assert choice.chosen[1] == min(second, key=lambda name: by_name[name].gain)
    third = [name for name in second if rankings[name] != rankings[choice.chosen[1]]]
    assert choice.chosen[2] == min(third, key=lambda name: abs(choice.bias - by_name[name].bias))


def test_a_twin_of_a_chosen_proxy_is_not_chosen() -> None:
    rng = np.random.default_rng(1)
    y, params = rng.normal(size=COUNT), rng.normal(size=COUNT)
    choice = choose(table({"a": y, "twin": np.exp(y), "b": y + rng.normal(0, 0.1, COUNT)}, y, params), "task")
    assert choice.chosen == ("a", "b")  # and there is no third


def test_what_lacks_a_score_or_is_constant_is_left_out_and_said_so() -> None:
    scores, y, params = drawn()
    gap = np.where(np.arange(COUNT) == 3, NAN, y)
    choice = choose(table({**scores, "gap": gap, "flat": np.zeros(COUNT)}, y, params), "task")
    assert choice.left_out == ("gap", "flat")
    assert "gap" not in choice.chosen
    unlabelled = np.where(np.arange(COUNT) == 3, NAN, y)
    choice = choose(table({**scores, "gap": gap}, unlabelled, params), "task")
    assert choice.left_out == ()  # what has no label needs no score
    assert choice.chosen[0] == "gap"
    assert choice.architectures == COUNT - 1


def test_what_libra_cannot_do_without() -> None:
    scores, y, params = drawn()
    with pytest.raises(RankError, match="needs the number of parameters"):
        choose(table(scores, y, None), "task")
    with pytest.raises(RankError, match="no proxy has scores of all 60 architectures"):
        choose(table({"gap": np.where(y > y.mean(), NAN, y)}, y, params), "task")
    with pytest.raises(RankError, match="has 2 accuracies to choose proxies by"):
        choose(table(scores, np.where(np.arange(COUNT) < 2, y, NAN), params), "task")


# --- information ---


def test_classes_leave_five_architectures_for_a_cell() -> None:
    assert [classes(n) for n in (3, 70, 134, 135, 319, 320, 1400)] == [2, 2, 2, 3, 3, 4, 6]


def test_classes_are_equally_large_and_keep_equal_values_together() -> None:
    assert discretised(np.array([5.0, 1.0, 3.0, 2.0, 9.0, 7.0]), 3).tolist() == [1, 0, 1, 0, 2, 2]
    assert discretised(np.array([1.0, 1.0, 1.0, 1.0, 2.0]), 2).tolist() == [0, 0, 0, 0, 1]
    assert discretised(np.arange(5.0), 2).tolist() == [0, 0, 1, 1, 1]


def entropy_by_counting(*columns: np.ndarray) -> float:
    counts = Counter(zip(*(column.tolist() for column in columns), strict=True))
    total = sum(counts.values())
    return -sum(count / total * math.log2(count / total) for count in counts.values())


@given(st.lists(st.tuples(*[st.integers(0, 5)] * 3), min_size=3, max_size=30), st.integers(2, 4))
def test_information_gain_is_the_difference_of_conditional_entropies(
    rows: list[tuple[int, int, int]], bins: int
) -> None:
    y, base, z = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    a, b, c = (discretised(values, bins) for values in (y, base, z))
    given_base = entropy_by_counting(a, b) - entropy_by_counting(b)
    given_both = entropy_by_counting(a, b, c) - entropy_by_counting(b, c)
    found = information_gain(y, base, z, bins)
    assert found == pytest.approx(given_base - given_both, abs=1e-9)
    assert found >= 0
    assert information_gain(y, base, base, bins) == pytest.approx(0, abs=1e-9)


def test_information_gain_by_hand() -> None:
    y, base, z = (np.array(column, dtype=float) for column in ([0, 1, 0, 1], [0, 0, 1, 1], [0, 1, 0, 1]))
    assert information_gain(y, base, z, 2) == 1.0  # base says nothing of y, z all
    assert information_gain(y, z, base, 2) == 0.0


# --- merging ---


def test_the_merged_ranking_is_judged_beside_its_three_and_structure() -> None:
    scores, y, params = drawn()
    whole = table({**scores, "params": params}, y, params)
    choosing, judging = np.arange(40), np.arange(40, COUNT)
    choice = choose(whole.of_architectures(choosing), "task")
    judged = merged_table(whole.of_architectures(judging), {"task": choice}, ["params"])
    assert judged.proxies == (LIBRA, *ROLES, "params")
    three = [scores[name][judging] for name in choice.chosen]
    np.testing.assert_allclose(judged.scores["task"], [log_rank_sum(three), *three, params[judging]])
    taus = {row.proxy: row.tau.value for row in rank_rows(judged) if row.task == "task"}
    assert taus[LIBRA] == pytest.approx(scipy.stats.kendalltau(log_rank_sum(three), y[judging]).statistic)


def test_a_role_that_nothing_fills_has_no_scores() -> None:
    rng = np.random.default_rng(1)
    y, params = rng.normal(size=COUNT), rng.normal(size=COUNT)
    whole = table({"a": y, "b": -y}, y, params)
    choice = choose(whole, "task")
    assert choice.chosen == ("a",)
    judged = merged_table(whole, {"task": choice}, [])
    assert np.isnan(judged.scores["task"][2:]).all()
    np.testing.assert_allclose(scipy.stats.rankdata(judged.scores["task"][0]), scipy.stats.rankdata(y))
