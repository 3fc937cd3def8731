"""Rank: proxies' scores of a benchmark's architectures, kept as they come in, so that a killed run goes on.

A run directory holds `scores.jsonl`: the settings, then one line for each architecture. `rank_stats` makes the table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from autoprox.bench_cache.benchmarks.table import STRUCTURE, Benchmark
from autoprox.bench_cache.runtime.checks import quoted
from autoprox.bench_cache.runtime.local_pool import opened_pool
from autoprox.bench_cache.runtime.submit import results_in_order
from autoprox.evolve import Journal, JournalError
from autoprox.primitives import Formula, Reading, evaluate, parse
from autoprox.rank.network import NetworkJob, score_network
from autoprox.rank.plan import Contender, RankError, RankPlan, network_setups
from autoprox.rank.stats import Contest
from autoprox.zoo.az_nas import log_rank_sum

SCORES = "scores.jsonl"
#: Settings that do not keep a run from going on: `collect` gives notice when versions differ.
OF_VERSIONS = ("autoprox", "code")
#: How to go on after a worker was lost.
GO_ON = "run the same command again with the same --out, and with fewer --workers if memory is short"


@dataclass(frozen=True)
class Failure:
    """Why a proxy has no score, and of how many networks; `reason` is that of the first."""

    proxy: str
    reason: str
    count: int


@dataclass(frozen=True, eq=False)
class Scores:
    """What a run found. `seconds[proxy]`: the mean over networks, NaN for a column, which was not computed here."""

    contest: Contest
    seconds: Mapping[str, float]
    failures: tuple[Failure, ...]


class ScoresJournal(Journal):
    """The journal of a ranking: one line for each architecture. Its seconds differ between two equal runs."""

    FORMAT: ClassVar[str] = "autoprox-scores"
    COUNTER: ClassVar[str] = "number"


def begin(plan: RankPlan, out: Path) -> int:
    """Begin the run of a plan in a directory, or find it there; how many architectures it has scored already.

    Raises RankError where the directory holds another run, naming the first setting that differs.
    """
    path = out / SCORES
    if not path.exists():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise RankError(f"{out} already holds other files; choose another --out")
        ScoresJournal.create(path, plan.record())
        return 0
    journal = ScoresJournal.open(path)
    _check_same(plan, journal, out)
    return len(journal.records)


def _check_same(plan: RankPlan, journal: Journal, out: Path) -> None:
    for name, value in plan.record().items():
        stored = journal.settings.get(name)
        if stored != value and name not in OF_VERSIONS:
            raise RankError(
                f"{out} holds a run with another setting: {name} is {quoted(stored)} there and {quoted(value)} here; "
                "choose another --out"
            )


def collect(
    plan: RankPlan,
    out: Path,
    *,
    workers: int = 1,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
    on_notice: Callable[[str], None] = lambda line: None,
) -> Scores:
    """The scores of every architecture, from wherever the journal in the directory ends.

    Raises what `begin` does, JournalError while another process goes on with the run, and WorkerError if a worker
    process dies.
    """
    begin(plan, out)
    with ScoresJournal.held(out / SCORES, on_notice) as journal:
        _check_same(plan, journal, out)
        records = list(journal.records)
        jobs = _jobs(plan)
        missing = jobs[len(records) :]
        with opened_pool(min(workers, max(len(missing), 1)), preload=[score_network.__module__]) as pool:
            for scores in results_in_order(pool, score_network, missing, GO_ON):
                networks = [{name: asdict(score) for name, score in of_one.items()} for of_one in scores]
                number = len(records)
                record = {"number": number, "architecture": plan.architectures[number], "networks": networks}
                journal.append(record)
                records.append(record)
                on_progress(len(records), len(jobs))
    return _scores(plan, records, out)


def load(benchmark: Benchmark, out: Path) -> tuple[RankPlan, Scores]:
    """The plan and the scores of a finished run on a benchmark.

    Raises JournalError if there is none, RankError if it is of another benchmark or has not finished.
    """
    journal = ScoresJournal.open(out / SCORES)
    stored = journal.settings
    try:
        plan = RankPlan(
            benchmark,
            tuple(stored["tasks"]),
            tuple(Contender(**{**contender, "merged": tuple(contender["merged"])}) for contender in stored["proxies"]),
            tuple(stored["architectures"]),
            stored["split"],
            stored["batch"],
            stored["seed"],
        )
    except (KeyError, TypeError) as error:
        raise JournalError(f"{out / SCORES}: the settings on line 1 cannot be read ({error!r:.80})") from None
    if plan.record()["benchmark"] != stored.get("benchmark"):
        raise RankError(f"{out} holds scores of another benchmark than this {benchmark.name}")
    wanted = len(_jobs(plan))
    if len(journal.records) < wanted:
        raise RankError(
            f"the run in {out} has scored {len(journal.records)} of {wanted} architectures; go on with `autoprox rank`"
        )
    return plan, _scores(plan, journal.records, out)


def _jobs(plan: RankPlan) -> list[NetworkJob]:
    """One for each architecture; none where no network is needed."""
    benchmark = plan.benchmark
    formulas = {c.name: parse(c.formula) for c in plan.contenders if c.formula}
    read = {name: formula for name, formula in formulas.items() if not _is_structure(formula)}
    functions = tuple(c.function for c in plan.contenders if c.function)
    if benchmark.space is None or not (read or functions):
        return []
    settings = network_setups(plan)
    return [
        NetworkJob(benchmark.space, benchmark.architectures[i], settings, plan.seed, read, functions)
        for i in plan.architectures
    ]


def _is_structure(formula: Formula) -> bool:
    return all(t.statistic.name in STRUCTURE for t in formula.terminals())


def _scores(plan: RankPlan, records: Sequence[Mapping[str, Any]], out: Path) -> Scores:
    """The arrays, from the journal's lines and from what the benchmark knows itself."""
    benchmark, at = plan.benchmark, list(plan.architectures)
    structure = {name: values[at] for name, values in benchmark.structure().items()}
    names = tuple(contender.name for contender in plan.contenders)
    known, seconds = {}, dict.fromkeys(names, float("nan"))
    structural: dict[str, Formula] = {}
    for contender in plan.contenders:
        if contender.column:
            known[contender.name] = benchmark.columns[contender.column][at]
        elif contender.formula and _is_structure(parse(contender.formula)):
            structural[contender.name] = parse(contender.formula)
            seconds[contender.name] = 0.0
    merged = {contender.name: contender.merged for contender in plan.contenders if contender.merged}
    needed = len(known) + len(structural) + len(merged) < len(names)
    settings = network_setups(plan) if needed or len(benchmark.networks()) > 1 else (None,)
    scores: dict[str, np.ndarray] = {}
    failures: list[tuple[str, str]] = []
    spent: dict[str, list[float]] = {}
    try:
        for number, setting in enumerate(settings):
            networks = [record["networks"][number] for record in records] if needed else []
            facts = {
                name: values[at] for name, values in benchmark.structure(setting.spec if setting else None).items()
            }
            known |= {name: _of_structure(formula, facts) for name, formula in structural.items()}
            found = {
                name: known[name] if name in known else np.array([_value(each[name]) for each in networks])
                for name in names
                if name not in merged
            }
            found |= {name: log_rank_sum([found[part] for part in parts]) for name, parts in merged.items()}
            values = np.array([found[name] for name in names])
            for name in names:
                if name in merged:
                    failures += [(name, "one of its parts has no score")] * int(np.isnan(found[name]).sum())
                elif name in known:
                    failures += [(name, "missing in the table")] * int(np.isnan(known[name]).sum())
                else:
                    failures += [(name, each[name]["problem"]) for each in networks if each[name]["value"] is None]
                    spent.setdefault(name, []).extend(each[name]["seconds"] for each in networks)
            scores.update(dict.fromkeys(setting.tasks if setting else plan.tasks, values))
    except (KeyError, IndexError, TypeError) as error:
        raise JournalError(f"{out / SCORES}: a line is not what this plan scores ({error!r:.80})") from None
    seconds |= {name: float(np.mean(of_one)) for name, of_one in spent.items()}
    seconds |= {name: sum(seconds[part] for part in parts) for name, parts in merged.items()}
    accuracies = {task: benchmark.tasks[task][at] for task in plan.tasks}
    ordered = {task: scores[task] for task in plan.tasks}
    return Scores(Contest(names, accuracies, ordered, structure.get("params")), seconds, _counted(failures))


def _value(score: Mapping[str, Any]) -> float:
    return float("nan") if score["value"] is None else score["value"]


def _of_structure(formula: Formula, structure: Mapping[str, np.ndarray]) -> np.ndarray:
    facts = zip(*structure.values(), strict=True)
    rows = (dict(zip(structure, map(float, row), strict=True)) for row in facts)
    return np.array([float("nan") if _lacks(formula, row) else evaluate(formula, Reading(net=row)) for row in rows])


def _lacks(formula: Formula, facts: Mapping[str, float]) -> bool:
    return any(np.isnan(facts[t.statistic.name]) for t in formula.terminals())


def _counted(failures: Sequence[tuple[str, str]]) -> tuple[Failure, ...]:
    """Reasons with counts; those that differ in numbers only are one."""
    counts = Counter((proxy, _without_numbers(reason)) for proxy, reason in failures)
    first: dict[tuple[str, str], str] = {}
    for proxy, reason in failures:
        first.setdefault((proxy, _without_numbers(reason)), reason)
    return tuple(Failure(proxy, first[proxy, kind], count) for (proxy, kind), count in counts.items())


def _without_numbers(text: str) -> str:
    return "".join("#" if character.isdigit() else character for character in text)
