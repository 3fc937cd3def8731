"""Rank: proxies' scores of a benchmark's architectures, kept as they come in, so that a killed run goes on.

A run directory holds `scores.jsonl`: the settings, then one line for each architecture. `rank_stats` makes the table.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from autoprox import __version__
from autoprox.bench_cache.benchmark import SPLITS, STRUCTURE, Benchmark
from autoprox.bench_cache.cache import code_version
from autoprox.bench_cache.files import quoted
from autoprox.bench_cache.scorer import close_pool, interrupts_wait, local_pool
from autoprox.evolve import Journal, JournalError
from autoprox.primitives import Formula, Reading, evaluate, parse
from autoprox.proxy import resolve
from autoprox.rank_network import Job, Score, Setting, score_network
from autoprox.rank_stats import FEWEST, Contest
from autoprox.search_bench import choose_tasks
from autoprox.zoo import ZOO
from autoprox.zoo_az_nas import log_rank_sum

SCORES = "scores.jsonl"
#: Which architectures are ranked: those of a split, or all.
OFFERS = ("all", *SPLITS)
ALL = "all"


class RankError(ValueError):
    """A ranking that cannot be: its proxies, its architectures or its settings; one line says why."""


@dataclass(frozen=True)
class Contender:
    """A row of the table: a formula, a function of the zoo, a column of the benchmark's table, or ranks merged.

    `formula` is its text; `column` and `function` are names; `merged` are names of other rows.
    """

    name: str
    formula: str = ""
    function: str = ""
    column: str = ""
    merged: tuple[str, ...] = ()


#: Proxies that only several architectures have: the ranks by others, merged by Σ log(rank / n).
MERGED = MappingProxyType({"az-nas": ("az-expressivity", "az-trainability", "az-complexity")})


@dataclass(frozen=True, eq=False)
class Plan:
    """A ranking: what is ranked by what, on which architectures (indices of the benchmark, ascending).

    `batch` samples are what the networks run on, and `seed` gives these, the initial weights and the sample of
    architectures.
    """

    benchmark: Benchmark
    tasks: tuple[str, ...]
    contenders: tuple[Contender, ...]
    architectures: tuple[int, ...]
    split: str = ALL
    batch: int = 2
    seed: int = 0

    def record(self) -> dict[str, Any]:
        """All that the scores depend on, as JSON."""
        digest = hashlib.sha256(self.benchmark.to_bytes()).hexdigest()
        return {
            "benchmark": [self.benchmark.name, digest],
            "tasks": list(self.tasks),
            "proxies": [{**asdict(contender), "merged": list(contender.merged)} for contender in self.contenders],
            "architectures": list(self.architectures),
            "split": self.split,
            "batch": self.batch,
            "seed": self.seed,
            "autoprox": __version__,
            "code": code_version(),
        }


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


# --- plans ---


def make_plan(
    benchmark: Benchmark,
    *,
    tasks: Sequence[str] = (),
    proxies: Sequence[str] = (ALL,),
    split: str = ALL,
    sample: int | None = None,
    batch: int = 2,
    seed: int = 0,
) -> Plan:
    """The ranking that is meant.

    `tasks` are names or patterns (all without), `proxies` what `contenders` takes. Of the split's architectures that
    have an accuracy in any task, `sample` are drawn at random from the seed, or all are ranked.

    Raises RankError, SearchError for a task that there is not, ProxyError or FormulaError for a proxy.
    """
    if batch < 1 or seed < 0:
        raise RankError(f"batch is {batch} and seed {seed}; they must be at least 1 and 0")
    if split not in OFFERS:
        raise RankError(f"no split is called {quoted(split)}; there are {', '.join(OFFERS)}")
    chosen = choose_tasks(benchmark, tasks)
    among = np.arange(len(benchmark)) if split == ALL else benchmark.splits()[split]
    labelled = [int(i) for i in among if any(not np.isnan(benchmark.tasks[task][i]) for task in chosen)]
    if sample is not None:
        if not FEWEST <= sample <= len(labelled):
            raise RankError(
                f"sample is {sample}; it must be from {FEWEST} to {len(labelled)}, the number of architectures of "
                f"{benchmark.name} ({split}) that have an accuracy"
            )
        labelled = sorted(Random(seed).sample(labelled, sample))
    if len(labelled) < FEWEST:
        raise RankError(
            f"{benchmark.name} ({split}) has {len(labelled)} architectures with an accuracy; too few to rank"
        )
    return Plan(benchmark, chosen, contenders(benchmark, proxies), tuple(labelled), split, batch, seed)


def contenders(benchmark: Benchmark, refs: Sequence[str]) -> tuple[Contender, ...]:
    """Params, FLOPs, depth and width, where the benchmark has them, and then the proxies that are meant.

    A tabular benchmark's are its columns. Else `all` is every training-free proxy of the zoo; others are names of the
    zoo, and what `autoprox.proxy.resolve` takes: run directories, proxy files, formulas.

    Raises RankError for a name that there is not, or twice; ProxyError or FormulaError as `resolve`.
    """
    found = {name: Contender(name, formula=name) for name in benchmark.structure()}
    for ref in refs:
        for contender in _meant(benchmark, ref):
            same = found.setdefault(contender.name, contender)
            if same != contender:
                raise RankError(f"two proxies are called {quoted(contender.name)}; give one another name")
    return tuple(found.values())


def _meant(benchmark: Benchmark, ref: str) -> Iterator[Contender]:
    if ref in MERGED and benchmark.space is not None:
        yield from (_contender(benchmark, name) for name in MERGED[ref])
        yield Contender(ref, merged=MERGED[ref])
    elif ref != ALL:
        yield _contender(benchmark, ref)
    elif benchmark.space is None:
        yield from (_contender(benchmark, name) for name in benchmark.columns)
    else:
        yield from (_contender(benchmark, name) for name, entry in ZOO.items() if entry.training_free)
        yield from (Contender(name, merged=parts) for name, parts in MERGED.items() if ZOO.keys() >= set(parts))


def _contender(benchmark: Benchmark, ref: str) -> Contender:
    if ref in STRUCTURE and ref in benchmark.structure():
        return Contender(ref, formula=ref)
    if ref in benchmark.columns:
        return Contender(ref, column=ref)
    if benchmark.space is None:
        raise RankError(
            f"{benchmark.name} is tabular: its networks cannot be built, and it has no column {quoted(ref)}; "
            f"there are {', '.join(benchmark.columns)}"
        )
    if ref in ZOO:
        entry = ZOO[ref]
        return Contender(ref, function=ref) if entry.function else Contender(ref, formula=parse(entry.formula).text)
    proxy = resolve(ref)
    text = proxy.formula.text
    if proxy.name and not os.path.exists(os.path.expanduser(ref)):
        return Contender(proxy.name, formula=text)
    return Contender(os.path.normpath(ref) if os.path.exists(os.path.expanduser(ref)) else text, formula=text)


def settings_of(plan: Plan) -> tuple[Setting, ...]:
    """What the networks are built for and run on; together they have all tasks.

    Without images, one Gaussian batch with classes at random stands for every task. It is not the batch of the probe
    `noise`, which has a seed of its own. Classes come twice where the batch has room for two of them, because some
    proxies compare samples of one class.
    """
    spec = plan.benchmark.spec
    if spec is None:
        return ()
    rng = np.random.default_rng((plan.seed, 0))
    shape = (plan.batch, spec.in_channels, spec.image_size, spec.image_size)
    inputs = rng.standard_normal(shape, dtype=np.float32)
    distinct = min(max((plan.batch + 1) // 2, 2), spec.num_classes)
    targets = np.resize(rng.choice(spec.num_classes, distinct, replace=False), plan.batch)
    return (Setting(spec, inputs, targets, plan.tasks),)


# --- scores ---


def begin(plan: Plan, out: Path) -> int:
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


def _check_same(plan: Plan, journal: Journal, out: Path) -> None:
    for name, value in plan.record().items():
        stored = journal.settings.get(name)
        if stored != value:
            raise RankError(
                f"{out} holds a run with another setting: {name} is {quoted(stored)} there and {quoted(value)} here; "
                "choose another --out"
            )


def collect(
    plan: Plan, out: Path, *, workers: int = 1, on_progress: Callable[[int, int], None] = lambda done, of: None
) -> Scores:
    """The scores of every architecture, from wherever the journal in the directory ends.

    Raises what `begin` does, JournalError while another process goes on with the run, and RankError if a worker
    process dies.
    """
    begin(plan, out)
    with ScoresJournal.held(out / SCORES) as journal:
        _check_same(plan, journal, out)
        records = list(journal.records)
        jobs = _jobs(plan)
        for scores in _outcomes(jobs[len(records) :], workers):
            record = {"number": len(records), "architecture": plan.architectures[len(records)], "networks": scores}
            journal.append(record)
            records.append(record)
            on_progress(len(records), len(jobs))
    return _scores(plan, records, out)


def load(benchmark: Benchmark, out: Path) -> tuple[Plan, Scores]:
    """The plan and the scores of a finished run on a benchmark.

    Raises JournalError if there is none, RankError if it is of another benchmark or has not finished.
    """
    journal = ScoresJournal.open(out / SCORES)
    stored = journal.settings
    try:
        plan = Plan(
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


def _jobs(plan: Plan) -> list[Job]:
    """One for each architecture; none where no network is needed."""
    benchmark = plan.benchmark
    formulas = {c.name: parse(c.formula) for c in plan.contenders if c.formula}
    read = {name: formula for name, formula in formulas.items() if not _is_structure(formula)}
    functions = tuple(c.function for c in plan.contenders if c.function)
    if benchmark.space is None or not (read or functions):
        return []
    settings = settings_of(plan)
    return [
        Job(benchmark.space, benchmark.architectures[i], settings, plan.seed, read, functions)
        for i in plan.architectures
    ]


def _is_structure(formula: Formula) -> bool:
    return all(t.statistic.name in STRUCTURE for t in formula.terminals())


def _outcomes(jobs: Sequence[Job], workers: int) -> Iterator[list[dict[str, Any]]]:
    """The scores of each job, in order."""
    pool: Executor | None = local_pool(min(workers, max(len(jobs), 1)))
    futures: list[Future[list[dict[str, Score]]]] = []
    try:
        if pool is None:
            found: Iterator[list[dict[str, Score]]] = map(score_network, jobs)
        else:
            with interrupts_wait():
                futures += [pool.submit(score_network, job) for job in jobs]
            found = (future.result() for future in futures)
        for networks in found:
            yield [{name: asdict(score) for name, score in scores.items()} for scores in networks]
    except BrokenExecutor:
        raise RankError(
            "a worker process died: it was killed, or there was no memory left; nothing that was finished is lost: "
            "run the same command again with the same --out, and with fewer --workers if memory is short"
        ) from None
    finally:
        for future in futures:
            future.cancel()
        close_pool(pool)


def _scores(plan: Plan, records: Sequence[Mapping[str, Any]], out: Path) -> Scores:
    """The arrays, from the journal's lines and from what the benchmark knows itself."""
    benchmark, at = plan.benchmark, list(plan.architectures)
    structure = {name: values[at] for name, values in benchmark.structure().items()}
    names = tuple(contender.name for contender in plan.contenders)
    known, seconds = {}, dict.fromkeys(names, float("nan"))
    for contender in plan.contenders:
        if contender.column:
            known[contender.name] = benchmark.columns[contender.column][at]
        elif contender.formula and _is_structure(parse(contender.formula)):
            known[contender.name] = _of_structure(parse(contender.formula), structure)
            seconds[contender.name] = 0.0
    merged = {contender.name: contender.merged for contender in plan.contenders if contender.merged}
    settings = settings_of(plan) if len(known) + len(merged) < len(names) else (None,)
    scores: dict[str, np.ndarray] = {}
    failures: list[tuple[str, str]] = []
    spent: dict[str, list[float]] = {}
    try:
        for number, setting in enumerate(settings):
            networks = [record["networks"][number] for record in records] if setting else []
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
