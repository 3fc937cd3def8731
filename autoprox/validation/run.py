"""Validation run: a plan's rankings in one directory, which goes on where it was stopped, and what they say.

A directory holds `validation.json`, `validation.csv` and, in `scores`, a run directory of `autoprox rank` for each
ranking.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoprox.evolve import MEAN
from autoprox.rank.plan import RankPlan
from autoprox.rank.resampled import given_fitted, mean_taus
from autoprox.rank.scores import Failure, Scores, begin
from autoprox.rank.stats import Estimate, Row, ScoreTable, rank_rows
from autoprox.rank.verdict import Comparison, beside_structure
from autoprox.validation.chance import OfMany, Shuffled, best_by_chance, shuffled_labels, widened
from autoprox.validation.origin import Origin
from autoprox.validation.plan import ValidationPlan, folder_of
from autoprox.validation.repeats import Repeats, compared

JSON, CSV, SCORES = "validation.json", "validation.csv", "scores"

#: Scores a plan in a directory, from where it was stopped.
Collect = Callable[[RankPlan, Path], Scores]


@dataclass(frozen=True, eq=False)
class Judged:
    """The numbers of a proxy on a set of architectures.

    Attributes:
        rows: those of `rank_rows`: the proxy and every baseline on each task, and on their mean.
        given: the mean partial tau given fitted structure, with its interval.
        comparison: the mean tau beside that of the strongest baseline; None where there is none, or where the proxy
            does not score every architecture.
    """

    proxy: str
    rows: tuple[Row, ...]
    given: Estimate
    comparison: Comparison | None

    @property
    def mean(self) -> Row:
        """Return the proxy's row of means over the tasks."""
        return self.on(MEAN)

    def on(self, task: str) -> Row:
        """Return the proxy's row of a task."""
        return next(row for row in self.rows if (row.task, row.proxy) == (task, self.proxy))


@dataclass(frozen=True, eq=False)
class Findings:
    """What a validation found.

    Attributes:
        over_all: on all architectures of the plan.
        trainable: on those that are not at chance; None where no network is, or chance is not known.
        repeats: what other weights and other images change, for each of the plan's repeats that could be compared.
        shuffled: the control on shuffled labels; None where the proxy has no tau.
        of_many: what is left after so many formulas were tried; None where the proxy has no tau.
        seconds, failures: those of the ranking; see `autoprox.rank.scores.Scores`.
        origin: what is known of where the proxy comes from, in words.
        looks: how often test was looked at, in words; empty where the proxy is of no run.
    """

    over_all: Judged
    trainable: Judged | None
    repeats: Mapping[str, Repeats]
    shuffled: Shuffled | None
    of_many: OfMany | None
    seconds: Mapping[str, float]
    failures: tuple[Failure, ...]
    origin: tuple[str, ...]
    looks: str


def begin_validation(plan: ValidationPlan, out: Path) -> tuple[int, int]:
    """Begin the rankings of a plan in a directory, or find them there; return how many networks are scored, and of all.

    Raises:
        RankError: the directory holds other files, or a run with another setting.
        JournalError: the journal of a ranking cannot be read.
    """
    rankings = plan.rankings()
    done = sum(begin(ranking, out / SCORES / name) for name, ranking in rankings.items())
    return done, sum(len(ranking.architectures) for ranking in rankings.values())


def run_validation(plan: ValidationPlan, origin: Origin, out: Path, collect: Collect, tried: int = 0) -> Findings:
    """Score all networks of a plan and return what it found; `tried` 0 is what the origin knows.

    Raises:
        RankError, JournalError, WorkerError: as `autoprox.rank.scores.collect` does.
    """
    found = {name: collect(ranking, out / SCORES / name) for name, ranking in plan.rankings().items()}
    ranking, scores = plan.ranking, found[folder_of(plan.ranking)]
    table, benchmark = scores.table, ranking.benchmark.name
    learnt = table.of_trainable()
    repeats = {
        kind: compared([found[folder_of(each)].table for each in plans], plan.proxy, plans[0].batch)
        for kind, plans in plan.repeats().items()
    }
    shuffled = shuffled_labels(table, plan.proxy, ranking.seed)
    looks = ""
    if ranking.split in ("test", "all"):
        looks = origin.looks(benchmark, plan.text, again=(out / JSON).exists())
    over_all = judged(table, plan.proxy, plan.baselines(), ranking.seed)
    chosen_among = tried or origin.tried(benchmark, ranking.split)
    return Findings(
        over_all=over_all,
        trainable=None if learnt is None else judged(learnt, plan.proxy, plan.baselines(), ranking.seed),
        repeats={kind: each for kind, each in repeats.items() if each is not None},
        shuffled=shuffled,
        of_many=_of_many(over_all, table, ranking.seed, shuffled, chosen_among),
        seconds=scores.seconds,
        failures=scores.failures,
        origin=tuple(origin.words(benchmark, ranking.tasks, ranking.split)),
        looks=looks,
    )


def judged(table: ScoreTable, proxy: str, baselines: Sequence[str], seed: int = 0) -> Judged:
    """Return the numbers of a proxy of a table beside those of the baselines."""
    rows = rank_rows(table, seed)
    return Judged(proxy, rows, given_fitted(table, proxy, seed), beside_structure(table, rows, proxy, seed, baselines))


def _of_many(over_all: Judged, table: ScoreTable, seed: int, shuffled: Shuffled | None, tried: int) -> OfMany | None:
    if shuffled is None:
        return None
    low, high = widened(over_all.mean.tau.value, mean_taus(table, over_all.proxy, seed), tried)
    return OfMany(tried, low, high, best_by_chance(shuffled.spread, tried))
