"""Scores of a ranking: every proxy's score of every architecture, kept as they come in, so that a killed run goes on.

A run directory holds `scores.jsonl`: the settings, then one line for each architecture. `autoprox.rank.stats` makes
the table of them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from autoprox.bench_cache.benchmarks.chance import groups_of_tasks
from autoprox.bench_cache.benchmarks.fitted_structure import held_out_structure
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.runtime.checks import quoted
from autoprox.bench_cache.runtime.devices import CPU
from autoprox.bench_cache.runtime.local_pool import Workers, opened_pool
from autoprox.bench_cache.runtime.submit import results_in_order
from autoprox.bench_cache.spaces.registry import InputSpec
from autoprox.bench_cache.statistics.columns import known
from autoprox.evolve import Journal, JournalError
from autoprox.evolve.report import FITTED
from autoprox.primitives import OPERATIONS, Formula, FormulaError, Reading, Vocabulary, evaluate
from autoprox.primitives.batch_norms import RUNNING
from autoprox.rank.network import NetworkJob, score_network
from autoprox.rank.plan import ALL, MergedRanks, Ranked, RankError, RankPlan, from_record, network_setups
from autoprox.rank.stats import ScoreTable
from autoprox.scoring import AT_LIMIT, AnyProxy, is_at_limit
from autoprox.zoo.az_nas import RULES

SCORES = "scores.jsonl"
#: Settings that may differ when a run goes on: they are versions, and `collect` gives notice when versions differ.
OF_VERSIONS = ("autoprox", "code")
#: Tells the user how to go on after a worker process was lost.
GO_ON = "go on with --resume, and with fewer --workers if memory is short"


@dataclass(frozen=True)
class Failure:
    """Why a proxy has no score of `count` networks; `reason` is that of the first of them."""

    proxy: str
    reason: str
    count: int


@dataclass(frozen=True, eq=False)
class Scores:
    """What a run found.

    `seconds[proxy]` is the mean over the networks; NaN for a column of a table, which was computed elsewhere.
    """

    table: ScoreTable
    seconds: Mapping[str, float]
    failures: tuple[Failure, ...]


class ScoresJournal(Journal):
    """The journal of a ranking: one line for each architecture. Two equal runs differ in the seconds only."""

    FORMAT: ClassVar[str] = "autoprox-scores"
    RUN: ClassVar[str] = "ranking"
    COUNTER: ClassVar[str] = "number"


def begin(plan: RankPlan, out: Path, *, resume: bool = True) -> int:
    """Begin the run of a plan in a directory, or find it there; return how many architectures are scored already.

    Raises:
        RankError: the directory holds other files, or a run with another setting, which the message names.
        JournalError: there is a run already, and not to `resume`; or its journal cannot be read.
    """
    path = out / SCORES
    if path.exists() and not resume:
        raise ScoresJournal.present(path)
    if not path.exists():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise RankError(f"{out} already holds other files; choose another --out")
        ScoresJournal.create(path, plan.record())
        return 0
    journal = ScoresJournal.open(path)
    _check_same(plan, journal, out)
    return len(journal.records)


def _check_same(plan: RankPlan, journal: Journal, out: Path) -> None:
    settings = {"batch_norm": RUNNING, "device": CPU, **journal.settings}  # older runs do not say it
    for name, value in plan.record().items():
        stored = settings.get(name)
        if stored != value and name not in OF_VERSIONS:
            raise RankError(
                f"{out} holds a run with another setting: {name} is {quoted(stored)} there and {quoted(value)} here; "
                "choose another --out"
            )


def collect(
    plan: RankPlan,
    out: Path,
    *,
    workers: Workers = 1,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
    on_notice: Callable[[str], None] = lambda line: None,
) -> Scores:
    """Score every architecture from where the journal in the directory ends, and return all scores.

    Raises:
        RankError: as for `begin`.
        JournalError: the journal cannot be read, or another process goes on with the run.
        WorkerError: a worker process died.
    """
    begin(plan, out)
    with ScoresJournal.held(out / SCORES, on_notice) as journal:
        _check_same(plan, journal, out)
        records = list(journal.records)
        for record in _computed(plan, len(records), workers, GO_ON, on_progress):
            journal.append(record)
            records.append(record)
    return _scores(plan, records, out)


def compute(
    plan: RankPlan, *, workers: Workers = 1, on_progress: Callable[[int, int], None] = lambda done, of: None
) -> Scores:
    """Score every architecture and return all scores; nothing is kept.

    Raises:
        WorkerError: a worker process died.
    """
    advice = "run it again, with fewer --workers if memory is short"
    return _scores(plan, list(_computed(plan, 0, workers, advice, on_progress)), Path())


def _computed(
    plan: RankPlan, done: int, workers: Workers, advice: str, on_progress: Callable[[int, int], None]
) -> Iterator[dict[str, Any]]:
    """Yield the journal's line of each architecture after the first `done`, and tell of it once it is used."""
    jobs = _jobs(plan)
    missing = jobs[done:]
    chosen = min(workers, max(len(missing), 1)) if isinstance(workers, int) else workers
    with opened_pool(chosen, preload=[NetworkJob.__module__]) as pool:
        for number, scores in enumerate(results_in_order(pool, score_network, missing, advice), done):
            networks = [{name: asdict(score) for name, score in of_one.items()} for of_one in scores]
            yield {"number": number, "architecture": plan.architectures[number], "networks": networks}
            on_progress(number + 1, len(jobs))


def load(benchmark: Benchmark, out: Path, operations: Vocabulary = OPERATIONS) -> tuple[RankPlan, Scores]:
    """Return the plan and the scores of a finished run on a benchmark; `operations` are those of its formulas.

    Raises:
        JournalError: there is no run in the directory, it cannot be read, or it is of other operations.
        RankError: the run is on another benchmark, or has not finished.
    """
    plan, journal = stored_plan(benchmark, out, operations), ScoresJournal.open(out / SCORES)
    wanted = len(_jobs(plan))
    if len(journal.records) < wanted:
        raise RankError(
            f"the run in {out} has scored {len(journal.records)} of {wanted} architectures; go on with "
            f"autoprox rank --resume --out {out}"
        )
    return plan, _scores(plan, journal.records, out)


def stored_benchmark(out: Path) -> str:
    """Return the name of the benchmark that the run in a directory is on.

    Raises:
        JournalError: there is no run in the directory, or it cannot be read.
    """
    try:
        return str(ScoresJournal.open(out / SCORES).settings["benchmark"][0])
    except (KeyError, TypeError, IndexError):
        raise JournalError(f"{out / SCORES}: line 1 does not say the benchmark") from None


def stored_plan(benchmark: Benchmark, out: Path, operations: Vocabulary = OPERATIONS) -> RankPlan:
    """Return the plan of the run in a directory; raise as `load` does, but for what has not finished."""
    stored = ScoresJournal.open(out / SCORES).settings
    try:
        plan = RankPlan(
            benchmark,
            tuple(stored["tasks"]),
            tuple(from_record(record, operations) for record in stored["proxies"]),
            tuple(stored["architectures"]),
            stored["split"],
            stored["batch"],
            stored["seed"],
            stored.get("draw", 0),
            stored.get("batch_norm", RUNNING),
            stored.get("device", CPU),
        )
    except FormulaError as error:
        raise JournalError(
            f"{out / SCORES}: {str(error).splitlines()[0]}; add the --operations that it was run with"
        ) from None
    except (KeyError, TypeError) as error:
        raise JournalError(f"{out / SCORES}: the settings on line 1 cannot be read ({error!r:.80})") from None
    if plan.record()["benchmark"] != stored.get("benchmark"):
        raise RankError(f"{out} holds scores of another benchmark than this {benchmark.name}")
    return plan


def _jobs(plan: RankPlan) -> list[NetworkJob]:
    """Return a job for each architecture, or none where no proxy needs a network."""
    space = plan.benchmark.space
    if space is None or not runs_networks(plan):
        return []
    setups, proxies = network_setups(plan), _by_network(plan)
    architectures = (plan.benchmark.architectures[i] for i in plan.architectures)
    return [NetworkJob(space, arch, setups, plan.seed, proxies, plan.batch_norm, plan.device) for arch in architectures]


def runs_networks(plan: RankPlan) -> bool:
    """Return whether some proxy of the plan needs a network: a closed form of the space does not, nor does a column."""
    return plan.benchmark.space is not None and bool(_by_network(plan))


def _by_network(plan: RankPlan) -> tuple[AnyProxy, ...]:
    """Return the proxies that need a network."""
    return tuple(p for p in plan.proxies if not isinstance(p, MergedRanks) and _table_formula(plan, p) is None)


def _table_formula(plan: RankPlan, proxy: Ranked) -> Formula | None:
    """Return the formula of a proxy that reads only what the benchmark knows: structure and columns."""
    formula = None if isinstance(proxy, MergedRanks) else proxy.as_formula
    if formula is None:
        return None
    structure = plan.benchmark.structure()  # a list of networks lacks depth and width, which the networks show
    known_there = (t.statistic.name in structure or t.statistic.column for t in formula.terminals())
    return formula if all(known_there) else None


def _scores(plan: RankPlan, records: Sequence[Mapping[str, Any]], out: Path) -> Scores:
    """Return the arrays, from the journal's lines and from what the benchmark knows itself."""
    benchmark, at = plan.benchmark, list(plan.architectures)
    names = tuple(proxy.name for proxy in plan.proxies)
    by_network = _by_network(plan)
    setups = network_setups(plan) if by_network or len(benchmark.networks()) > 1 else (None,)
    scores: dict[str, np.ndarray] = {}
    failures: list[tuple[str, str]] = []
    spent: dict[str, list[float]] = {proxy.name: [] for proxy in by_network}
    try:
        for number, setup in enumerate(setups):
            networks = [record["networks"][number] for record in records] if by_network else []
            found = _found(plan, networks, setup.spec if setup else None)
            failures += _failures(plan, networks, found)
            for name in spent:
                spent[name].extend(each[name]["seconds"] for each in networks)
            values = np.array([np.where(np.isinf(found[name]), float("nan"), found[name]) for name in names])
            scores.update(dict.fromkeys(setup.tasks if setup else plan.tasks, values))
    except (KeyError, IndexError, TypeError) as error:
        raise JournalError(f"{out / SCORES}: a line is not what this plan scores ({error!r:.80})") from None
    accuracies = {task: benchmark.tasks[task][at] for task in plan.tasks}
    ordered = {task: scores[task] for task in plan.tasks}
    params = benchmark.structure().get("params")
    groups = {
        task: {name: labels[at] for name, labels in of_task.items()}
        for task, of_task in groups_of_tasks(benchmark).items()
        if task in plan.tasks
    }
    table = ScoreTable(names, accuracies, ordered, None if params is None else params[at], groups, _fitted(plan))
    return Scores(table, _seconds(plan, spent), _counted(failures))


def _fitted(plan: RankPlan) -> dict[str, np.ndarray]:
    """Return what fitted structure says of the architectures on each task, or nothing where a task has too few."""
    split = None if plan.split == ALL else plan.split
    found = {task: held_out_structure(plan.benchmark, task, split) for task in plan.tasks}
    known = {task: values[list(plan.architectures)] for task, values in found.items() if values is not None}
    return known if len(known) == len(plan.tasks) else {}


def _found(plan: RankPlan, networks: Sequence[Mapping[str, Any]], spec: InputSpec | None) -> dict[str, np.ndarray]:
    """Return every proxy's scores of the architectures by name; NaN where it has none, or ∞ (see `_from_table`)."""
    at = list(plan.architectures)
    facts = {name: values[at] for name, values in known(plan.benchmark, spec).items()}
    found: dict[str, np.ndarray] = {}
    for proxy in plan.proxies:
        formula = _table_formula(plan, proxy)
        if formula is not None:
            found[proxy.name] = _from_table(formula, facts)
        elif not isinstance(proxy, MergedRanks):
            found[proxy.name] = np.array([_value(each[proxy.name]) for each in networks])
    for proxy in plan.proxies:
        if isinstance(proxy, MergedRanks):
            parts = [found[part] for part in proxy.parts]  # a score at the limit is none
            found[proxy.name] = RULES[proxy.rule]([np.where(np.isinf(part), np.nan, part) for part in parts])
    return found


def _value(score: Mapping[str, Any]) -> float:
    return float("nan") if score["value"] is None else score["value"]


def _from_table(formula: Formula, facts: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the formula's values for the architectures: NaN where a number is missing, ∞ where formulas stop."""
    names = [str(terminal) for terminal in formula.terminals()]
    rows = [dict(zip(names, map(float, row), strict=True)) for row in zip(*(facts[n] for n in names), strict=True)]
    values = [evaluate(formula, Reading(net=row)) if _complete(row) else float("nan") for row in rows]
    computes = bool(formula.args)  # a number of the table is as it is
    return np.array([float("inf") if computes and is_at_limit(value) else value for value in values])


def _complete(row: Mapping[str, float]) -> bool:
    return not any(map(math.isnan, row.values()))


def _failures(
    plan: RankPlan, networks: Sequence[Mapping[str, Any]], found: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, str]]:
    """Yield a proxy's name and the reason for each architecture of which it has no score."""
    for proxy in plan.proxies:
        missing = int(np.isnan(found[proxy.name]).sum())
        if isinstance(proxy, MergedRanks):
            yield from [(proxy.name, "one of its parts has no score")] * missing
        elif _table_formula(plan, proxy) is not None:
            yield from [(proxy.name, "missing in the table")] * missing
            yield from [(proxy.name, AT_LIMIT)] * int(np.isinf(found[proxy.name]).sum())
        else:
            reasons = (each[proxy.name]["problem"] for each in networks if each[proxy.name]["value"] is None)
            yield from ((proxy.name, reason) for reason in reasons)


def _seconds(plan: RankPlan, spent: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the mean seconds: 0 for structure, fitted or not, NaN for a column, merged ranks have the sum of parts."""
    seconds = {FITTED: 0.0} | {name: float(np.mean(of_one)) for name, of_one in spent.items()}
    for proxy in plan.proxies:
        formula = _table_formula(plan, proxy)
        if formula is not None:
            reads_column = any(terminal.statistic.column for terminal in formula.terminals())
            seconds[proxy.name] = float("nan") if reads_column else 0.0
    for proxy in plan.proxies:
        if isinstance(proxy, MergedRanks):
            seconds[proxy.name] = sum(seconds[part] for part in proxy.parts)
    return seconds


def _counted(failures: Sequence[tuple[str, str]]) -> tuple[Failure, ...]:
    """Return the reasons with their counts; reasons that differ in numbers only are counted as one."""
    counts = Counter((proxy, _without_numbers(reason)) for proxy, reason in failures)
    first: dict[tuple[str, str], str] = {}
    for proxy, reason in failures:
        first.setdefault((proxy, _without_numbers(reason)), reason)
    return tuple(Failure(proxy, first[proxy, kind], count) for (proxy, kind), count in counts.items())


def _without_numbers(text: str) -> str:
    return "".join("#" if character.isdigit() else character for character in text)
