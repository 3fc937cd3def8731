"""The report: every number against scipy or by hand, on the splits that were asked for and no other."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import synthetic

from autoprox.bench_cache.benchmarks.fitted_structure import fitted_structure
from autoprox.bench_cache.benchmarks.table import SPLITS, STRUCTURE, Benchmark
from autoprox.evolve import FORMULA, Judge, Report, Task, report
from autoprox.evolve.report import DEPTH_WIDTH, FITTED, partial_tau
from autoprox.primitives import Formula, parse

BENCHMARK = synthetic.benchmark(50)
OTHER = synthetic.benchmark(44, "other", seed=1)
FORMULA_TEXT = parse("flops")


class Given:
    """Stands in for a scorer: the scores are given, and who asks for which architectures is noted."""

    def __init__(self, benchmark: Benchmark, scores: np.ndarray) -> None:
        self.benchmark, self._scores = benchmark, scores
        self.network, self.structure = benchmark.networks()[0], benchmark.structure()
        self.kept = range(len(benchmark))
        self.asked: set[int] = set()

    def held(self, indices: np.ndarray) -> None:
        """Say that no networks are held in memory."""

    def scores(self, formulas: Sequence[Formula], indices: np.ndarray) -> np.ndarray:
        self.asked |= {int(i) for i in indices}
        return np.array([self._scores[indices] for _ in formulas])


def noisy(benchmark: Benchmark, seed: int = 0) -> np.ndarray:
    """Scores that follow depth and a little chance."""
    structure = benchmark.structure()
    return structure["depth"] * 1e5 + structure["params"] + np.random.default_rng(seed).normal(0, 1e5, len(benchmark))


def judge(tasks: Sequence[Task], *scores: np.ndarray) -> Judge:
    given = zip((BENCHMARK, OTHER), scores or (noisy(BENCHMARK), noisy(OTHER, 1)), strict=False)
    return Judge([Given(*pair) for pair in given], tasks)  # type: ignore[misc]


TASKS = (Task(0, "size_kd"), Task(0, "rare", weight=2.0), Task(1, "shape_kd"))
JUDGE = judge(TASKS)
MADE = report(JUDGE, FORMULA_TEXT)


def there(task: Task, split: str) -> np.ndarray:
    """The architectures of a split that have an accuracy."""
    benchmark = (BENCHMARK, OTHER)[task.benchmark]
    at = benchmark.splits()[split]
    return at[~np.isnan(benchmark.tasks[task.name][at])]


def predictions(predictor: str, task: Task) -> np.ndarray:
    benchmark = (BENCHMARK, OTHER)[task.benchmark]
    structure = benchmark.structure()
    if predictor == FITTED:
        fitted = fitted_structure(benchmark, task.name)
        assert fitted is not None
        return fitted.predicted
    if predictor == DEPTH_WIDTH:
        return structure["depth"] * structure["width"]
    return noisy(benchmark, task.benchmark) if predictor == FORMULA else structure[predictor]


def scipy_tau(predictor: str, task: Task, split: str) -> float:
    at = there(task, split)
    truth = (BENCHMARK, OTHER)[task.benchmark].tasks[task.name]
    return float(scipy.stats.kendalltau(predictions(predictor, task)[at], truth[at]).statistic)


every_split = pytest.mark.parametrize("split", SPLITS)
every_predictor = pytest.mark.parametrize("predictor", [FORMULA, *STRUCTURE, DEPTH_WIDTH, FITTED])


# --- tau ---


@every_split
@every_predictor
def test_taus_are_scipys(predictor: str, split: str) -> None:
    taus = []
    for task in TASKS:
        row = MADE.row(predictor, split, task.name, ("small", "other")[task.benchmark])
        assert row.tau == pytest.approx(scipy_tau(predictor, task, split), abs=1e-12)
        assert row.architectures == len(there(task, split))
        taus.append(row.tau)
    assert MADE.row(predictor, split).tau == pytest.approx((taus[0] + 2 * taus[1] + taus[2]) / 4)
    assert MADE.row(predictor, split).architectures == sum(len(b.splits()[split]) for b in (BENCHMARK, OTHER))


def test_missing_accuracies_are_left_out() -> None:
    splits = {split: len(there(TASKS[1], split)) for split in SPLITS}
    assert sum(splits.values()) == np.count_nonzero(~np.isnan(BENCHMARK.tasks["rare"])) < len(BENCHMARK)


def test_there_is_one_row_for_each_name() -> None:
    names = [(row.predictor, row.split, row.benchmark, row.task) for row in MADE.rows]
    assert len(names) == len(set(names)) == 3 * 8 * 4
    with pytest.raises(KeyError):
        MADE.row("luck", "test")
    with pytest.raises(KeyError):
        MADE.lead("train")


def test_a_constant_predictor_has_no_correlation() -> None:
    constant = report(judge(TASKS[:2], np.ones(len(BENCHMARK))), FORMULA_TEXT)
    for split in SPLITS:
        row = constant.row(FORMULA, split)
        assert (row.tau, row.low, row.high, row.partial) == (0, 0, 0, 0)


# --- the partial tau ---


def test_partial_tau_by_hand() -> None:
    assert partial_tau(0.5, 0.3, 0.4) == pytest.approx(0.38 / np.sqrt(0.91 * 0.84))
    assert partial_tau(0.5, 0.0, 0.0) == 0.5
    assert partial_tau(0.12, 0.3, 0.4) == pytest.approx(0.0)
    assert partial_tau(0.4, 1.0, 0.4) == 0.0  # the proxy is params in other words
    assert partial_tau(-0.4, -1.0, 0.4) == 0.0


def test_partial_tau_is_the_correlation_of_concordance() -> None:
    """Kendall's own definition: the phi coefficient of the 2 × 2 table of pairs, with and against the order of z."""
    rng = np.random.default_rng(4)
    x, y, z = rng.permutation(30), rng.permutation(30), rng.permutation(30)
    upper = np.triu_indices(30, 1)
    x_with_z, y_with_z = (
        (np.sign(np.subtract.outer(values, values)) * np.sign(np.subtract.outer(z, z)))[upper] for values in (x, y)
    )
    xy, xz, yz = (scipy.stats.kendalltau(a, b).statistic for a, b in ((x, y), (x, z), (y, z)))
    table = np.array([[np.sum((x_with_z == a) & (y_with_z == b)) for b in (1, -1)] for a in (1, -1)], dtype=float)
    phi = np.linalg.det(table) / np.sqrt(np.prod(table.sum(0)) * np.prod(table.sum(1)))
    assert partial_tau(xy, xz, yz) == pytest.approx(phi)


@pytest.mark.parametrize(("given_name", "field"), [("params", "partial"), (FITTED, "given_fitted")])
@every_split
@every_predictor
def test_partial_taus_given_a_baseline(predictor: str, split: str, given_name: str, field: str) -> None:
    partials = []
    for task in TASKS:
        row = MADE.row(predictor, split, task.name, ("small", "other")[task.benchmark])
        if predictor == given_name:
            assert getattr(row, field) is None
            continue
        at = there(task, split)
        sizes = predictions(given_name, task)[at]
        xz = scipy.stats.kendalltau(predictions(predictor, task)[at], sizes).statistic
        expected = partial_tau(row.tau, xz, scipy_tau(given_name, task, split))
        assert getattr(row, field) == pytest.approx(expected)
        partials.append(getattr(row, field))
    mean = getattr(MADE.row(predictor, split), field)
    assert mean == (pytest.approx(np.average(partials, weights=[1, 2, 1])) if partials else None)


# --- the bootstrap ---


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # scipy's tau of a resample that is all ties
@pytest.mark.parametrize("predictor", [FORMULA, "depth"])
def test_the_interval_is_scipys(predictor: str) -> None:
    task, split = TASKS[0], "evolve"
    at = there(task, split)
    expected = scipy.stats.bootstrap(
        (predictions(predictor, task)[at], BENCHMARK.tasks[task.name][at]),
        lambda x, y: scipy.stats.kendalltau(x, y).statistic,
        paired=True, vectorized=False, n_resamples=1500, method="percentile", rng=np.random.default_rng(3),
    ).confidence_interval  # fmt: skip
    row = MADE.row(predictor, split, task.name, "small")
    assert (row.low, row.high) == pytest.approx(tuple(expected), abs=0.04)
    assert row.high - row.low > 0.1


def test_intervals_hold_the_estimate_and_widen_with_fewer_architectures() -> None:
    for row in MADE.rows:
        assert -1 <= row.low <= row.tau <= row.high <= 1, row
    wide, narrow = (MADE.row(FORMULA, split, "size_kd", "small") for split in ("validation", "evolve"))
    assert wide.high - wide.low > narrow.high - narrow.low


def test_the_seed_decides_the_resamples() -> None:
    assert report(JUDGE, FORMULA_TEXT) == MADE
    other = report(JUDGE, FORMULA_TEXT, seed=1)
    assert [row.tau for row in other.rows] == [row.tau for row in MADE.rows]
    assert [row.low for row in other.rows] != [row.low for row in MADE.rows]


def test_the_mean_weighs_the_tasks_in_its_interval_too() -> None:
    made = report(judge([TASKS[0], replace(TASKS[1], weight=1e9)]), FORMULA_TEXT, ("evolve",))
    mean, heavy = made.row(FORMULA, "evolve"), made.row(FORMULA, "evolve", "rare", "small")
    assert (mean.tau, mean.low, mean.high) == pytest.approx((heavy.tau, heavy.low, heavy.high), abs=1e-6)


# --- the lead over the baselines ---


@pytest.mark.parametrize("baseline", [*STRUCTURE, DEPTH_WIDTH, FITTED])
@every_split
def test_the_lead_is_the_difference_of_the_means(split: str, baseline: str) -> None:
    lead = MADE.lead(split, baseline)
    assert lead.difference == pytest.approx(MADE.row(FORMULA, split).tau - MADE.row(baseline, split).tau)
    assert lead.low <= lead.difference <= lead.high


@every_split
def test_the_strongest_baseline_has_the_highest_mean(split: str) -> None:
    strongest = MADE.strongest(split)
    assert strongest is not None
    means = {name: MADE.row(name, split).tau for name in (*STRUCTURE, DEPTH_WIDTH, FITTED)}
    assert means[strongest.baseline] == max(means.values())
    assert MADE.strongest("train") is None


def test_params_have_no_lead_over_themselves() -> None:
    same = report(judge(TASKS[:2], BENCHMARK.structure()["params"] * 2.0), FORMULA_TEXT)
    for split in SPLITS:
        lead = same.lead(split)
        assert (lead.difference, lead.low, lead.high) == pytest.approx((0, 0, 0), abs=1e-12)


def test_the_lead_is_paired() -> None:
    """A formula that nearly is params leads by a little, surely or not; the two intervals alone would not tell."""
    near = BENCHMARK.structure()["params"] + np.random.default_rng(0).normal(0, 2000, len(BENCHMARK))
    found = report(judge(TASKS[:1], near), FORMULA_TEXT)
    row, lead = found.row(FORMULA, "evolve"), found.lead("evolve")
    assert lead.high - lead.low < (row.high - row.low) / 2


# --- what is looked at ---


@pytest.mark.parametrize("splits", [SPLITS[:2], SPLITS[:1], ("test",)])
def test_only_the_splits_asked_for_are_looked_at(splits: Sequence[str]) -> None:
    watched = judge(TASKS)
    made = report(watched, FORMULA_TEXT, splits)
    assert {row.split for row in made.rows} == {lead.split for lead in made.leads} == set(splits)
    for scorer in watched.scorers:
        allowed = {int(i) for split in splits for i in scorer.benchmark.splits()[split]}
        assert scorer.asked == allowed  # type: ignore[attr-defined]
    # The truth elsewhere does not matter, but to fitted structure that of the two splits which it is fitted on.
    unseeing = report(_judge_of(splits), FORMULA_TEXT, splits)
    assert _unfitted(unseeing) == _unfitted(made)
    assert report(_judge_of({*splits, *SPLITS[:2]}), FORMULA_TEXT, splits) == made


def _judge_of(splits: Collection[str]) -> Judge:
    """A judge that knows the truth of these splits alone."""
    blind = [replace(b, tasks={t: _blinded(b, t, splits) for t in b.tasks}) for b in (BENCHMARK, OTHER)]
    return Judge([Given(b, noisy(b, n)) for n, b in enumerate(blind)], TASKS)  # type: ignore[misc]


def _unfitted(made: Report) -> Report:
    """A report without fitted structure."""
    rows = tuple(replace(row, given_fitted=None) for row in made.rows if row.predictor != FITTED)
    return Report(rows, tuple(lead for lead in made.leads if lead.baseline != FITTED))


def _blinded(benchmark: Benchmark, task: str, splits: Collection[str]) -> np.ndarray:
    values = np.full(len(benchmark), 12.5)
    for split in splits:
        at = benchmark.splits()[split]
        values[at] = benchmark.tasks[task][at]
    return values


def test_a_real_formula_on_real_networks(tmp_path_factory: pytest.TempPathFactory) -> None:
    small = synthetic.benchmark(16)
    real = synthetic.judge(tmp_path_factory.mktemp("statistics"), small)
    made: Report = report(real, parse("params"), ("evolve",))
    for task in ("size_kd", "shape_kd"):
        formula, params = (made.row(name, "evolve", task, "small") for name in (FORMULA, "params"))
        assert (formula.tau, formula.low, formula.high) == (params.tau, params.low, params.high)
        assert formula.partial == 0
