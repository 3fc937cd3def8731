"""Reliability of labels: tau between seeds by hand, and the noise ceiling against simulated truth."""

import numpy as np
import pytest
from scipy.stats import kendalltau

from autoprox.bench_cache.benchmarks import reliability as module
from autoprox.bench_cache.benchmarks.reliability import noise_ceiling, reliability


def runs(count: int, seeds: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    truth = rng.normal(60, 6, count)
    return truth, truth[:, None] + rng.normal(0, noise, (count, seeds))


def test_taus_between_halves_and_between_single_seeds() -> None:
    _, four = runs(30, 4, 4)
    found = reliability(four)
    tau = lambda a, b: kendalltau(four[:, a].mean(1), four[:, b].mean(1)).statistic  # noqa: E731
    halves = [([0, 1], [2, 3]), ([0, 2], [1, 3]), ([0, 3], [1, 2])]
    assert found.halves == pytest.approx(np.mean([tau(*pair) for pair in halves]))
    assert found.single == pytest.approx(np.mean([tau([a], [b]) for a in range(4) for b in range(a + 1, 4)]))
    assert found.seeds == 4
    assert found.spread == pytest.approx(four.mean(1).std(ddof=1))
    assert found.noise == pytest.approx(np.sqrt(four.var(1, ddof=1).mean()))


def test_two_seeds_have_one_pair_of_halves() -> None:
    _, two = runs(30, 2, 4)
    found = reliability(two)
    assert found.halves == found.single == pytest.approx(kendalltau(two[:, 0], two[:, 1]).statistic)


@pytest.mark.parametrize("of", [1, 6])
def test_the_ceiling_is_what_the_true_expectations_reach(of: int) -> None:
    truth, measured = runs(400, 6, 5)
    fresh = np.random.default_rng(9)
    reached = [
        kendalltau(truth, truth + fresh.normal(0, 5, (400, of)).mean(1)).statistic for _ in range(40)
    ]  # fmt: skip
    assert noise_ceiling(measured, of) == pytest.approx(np.mean(reached), abs=0.02)


def test_without_noise_the_ceiling_is_one_and_without_spread_there_is_none() -> None:
    truth, _ = runs(20, 1, 0)
    assert noise_ceiling(np.repeat(truth[:, None], 3, 1), 1) == pytest.approx(1)
    assert np.isnan(noise_ceiling(np.ones((5, 3)), 1))


def test_one_seed_says_nothing_of_reliability() -> None:
    found = reliability(runs(10, 1, 3)[1])
    assert np.isnan([found.halves, found.single, found.noise, found.ceiling_one, found.ceiling_mean]).all()


def test_it_is_the_same_every_time() -> None:
    _, six = runs(40, 6, 4)
    assert reliability(six) == reliability(six)


def test_what_cannot_be_told_is_nan_and_said_without_warnings() -> None:
    one_seed = runs(10, 1, 3)[1]
    assert reliability(one_seed).spread == pytest.approx(one_seed.std(ddof=1))
    assert np.isnan(noise_ceiling(one_seed, 1))
    one_architecture = reliability(np.array([[50.0, 52.0, 57.0]]))
    assert one_architecture.noise == pytest.approx(np.sqrt(13))
    assert np.isnan(
        [getattr(one_architecture, name) for name in ("halves", "single", "spread", "ceiling_one", "ceiling_mean")]
    ).all()
    constant = reliability(np.full((5, 4), 50.0))
    assert (constant.spread, constant.noise) == (0, 0)
    assert np.isnan([constant.halves, constant.single, constant.ceiling_one, constant.ceiling_mean]).all()


def test_means_that_vary_no_more_than_noise_makes_them_have_no_ceiling() -> None:
    same = np.array([[40.0, 60.0], [61.0, 39.0], [50.0, 50.5]])
    assert np.isnan(noise_ceiling(same, 1))


def test_a_ceiling_by_hand() -> None:
    """Two architectures so far apart that no seed changes their order, and one seed that ties them."""
    assert noise_ceiling(np.array([[40.0, 41.0], [60.0, 61.0]]), 1) == 1
    near = np.array([[49.0, 51.0], [50.0, 52.0], [90.0, 90.0]])  # the first two change places in a quarter of the draws
    within, between = near.var(1, ddof=1).mean(), near.mean(1).var(ddof=1)
    gap, step = np.sqrt(1 - within / (2 * between)), np.sqrt(2)
    assert gap < 2 * step
    assert noise_ceiling(near, 1) == pytest.approx(1 - 0.25 * 2 / 3, abs=0.04)


@pytest.mark.parametrize(("seeds", "pairs"), [(2, 1), (3, 3), (4, 3), (5, 15), (6, 10)])
def test_every_way_to_halve_the_seeds_counts_once(monkeypatch: pytest.MonkeyPatch, seeds: int, pairs: int) -> None:
    compared: list[float] = []
    monkeypatch.setattr(module, "tau_b", lambda a, b: compared.append(float(np.sum(np.abs(a - b)))) or 0.5)
    assert module._mean_tau(runs(9, seeds, 4)[1], seeds // 2) == 0.5
    assert len(set(compared)) == len(compared) == pairs
