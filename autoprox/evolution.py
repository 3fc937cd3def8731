"""Evolution: one run from benchmarks to a proxy with its report, in a directory that can be resumed.

A run directory holds `journal.jsonl` (everything the result depends on), `benchmarks/` (copies, so that the run stands
alone), `proxy.json` (the best formula so far, rewritten every generation), `generations.csv`, and at the end
`report.json`, `report.csv` and `scores.csv`, and `looks.jsonl`, which counts the looks at the test split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from autoprox import __version__
from autoprox.bench_cache.benchmarks.table import SPLITS, Benchmark
from autoprox.bench_cache.runtime.files import discard_drafts, write_atomically, write_csv, write_new
from autoprox.bench_cache.runtime.local_pool import close_pool, local_pool
from autoprox.bench_cache.statistics.networks import NetworkScorer
from autoprox.bench_cache.statistics.protocol import Scorer
from autoprox.bench_cache.statistics.scorer import network_scorer
from autoprox.bench_cache.statistics.together import shard_homes
from autoprox.evolve import (
    FORMULA,
    REFINEMENTS,
    TABULAR,
    Breeder,
    EvolutionSettings,
    Journal,
    JournalError,
    Judge,
    Report,
    Row,
    SettingsError,
    add_look,
    check_generations,
    choose_tasks,
    evolve,
    leave_out,
    looks_so_far,
    report,
    restore,
)
from autoprox.evolve.assembly import (
    assembled_grammar,
    assembled_judge,
    check_fitness,
    check_grammar,
    check_joint,
    check_operations,
    check_sendable,
    defaults,
    held_out_judge,
    kept_statistics,
    own_operations,
)
from autoprox.evolve.choosing import Choice, FrontRow, choose
from autoprox.evolve.predictions import predictions
from autoprox.primitives import OPERATIONS, Vocabulary
from autoprox.proxy import PROXY_FILE, Proxy

JOURNAL, SCORES = "journal.jsonl", "scores.csv"


@dataclass(frozen=True)
class EvolutionWatcher:
    """The functions that a run calls while it works.

    `building` gets how many networks' statistics are built, and of how many; `judging` how many generations are in the
    journal before more are judged; `generation` the record of each. `reporting` is called when the finalists are
    judged, for which large networks are read once more: `reading` gets how many, and of how many. `notice` gets a line
    that the user should read.
    """

    building: Callable[[int, int], None] = lambda done, of: None
    generation: Callable[[Mapping[str, Any]], None] = lambda record: None
    reporting: Callable[[], None] = lambda: None
    notice: Callable[[str], None] = lambda text: None
    judging: Callable[[int], None] = lambda done: None
    reading: Callable[[int, int], None] = lambda done, of: None


@dataclass(frozen=True)
class EvolutionResult:
    """The result of a run.

    `report` has no test split where the run was interrupted. `fittest` is the best formula on the evolve split; the
    validation split may have chosen another one (see `choose`), which is the formula of `proxy`. `looks` says how often
    test was looked at over the run's life. `held_out` is the report on the test split of the tasks that were left out,
    None where none was, or the run was interrupted. `history` has a line for each generation (`generation_lines`), and
    `front` the best formula of each size that no smaller one equals.
    """

    proxy: Proxy
    report: Report
    finished: bool
    generations: int
    fittest: str
    looks: str = ""
    held_out: Report | None = None
    history: tuple[Mapping[str, Any], ...] = ()
    front: tuple[FrontRow, ...] = ()


def start_evolution(
    benchmarks: Sequence[Benchmark],
    tasks: Sequence[str],
    out: Path,
    operations: Vocabulary = OPERATIONS,
    leave_out_tasks: Sequence[str] = (),
    leave_out_benchmarks: Sequence[Benchmark] = (),
    **choices: Any,
) -> EvolutionSettings:
    """Make a run directory: write the settings into its journal, and copies of the benchmarks beside it.

    `tasks` are names or patterns (see `choose_tasks`). Those that `leave_out_tasks` names, and all tasks of
    `leave_out_benchmarks`, are held out: evolution never sees them, and the report judges the result on their test
    split. `operations` is the vocabulary that evolution draws from: the
    built-in one, or one that `OPERATIONS.extended` made. `choices` are further fields of EvolutionSettings; where these
    say nothing, some follow from the grammar and the size of the networks (`defaults`).

    Raises:
        JournalError: the directory holds a run already.
        SettingsError: a setting has a value that cannot be, or the grammar does not use one of the operations.
        BenchmarkError: a benchmark has none of the tasks, or does not go with the grammar or
            the joint fitness.
    """
    evolved, benchmarks = benchmarks, [*benchmarks, *leave_out_benchmarks]
    names = [benchmark.name for benchmark in benchmarks]
    if len(set(names)) < len(names):
        raise SettingsError(f"two benchmarks are called {max(names, key=names.count)}")
    choices = {**defaults(choices.get("grammar", EvolutionSettings.grammar), evolved), **choices}
    settings = EvolutionSettings((), (), own_operations=own_operations(operations), **choices)
    check_grammar(settings, benchmarks)
    check_operations(settings, benchmarks, operations)
    chosen, held = leave_out(evolved, choose_tasks(evolved, tasks), leave_out_tasks)
    whole = choose_tasks(leave_out_benchmarks, ()) if leave_out_benchmarks else []
    check_joint(settings, evolved, chosen)
    settings = replace(
        settings,
        benchmarks=tuple((benchmark.name, _digest(benchmark)) for benchmark in benchmarks),
        tasks=tuple(f"{names[task.benchmark]}:{task.name}" for task in chosen),
        weights=tuple(task.weight for task in chosen),
        held_out=(
            *(f"{names[task.benchmark]}:{task.name}" for task in held),
            *(f"{names[len(evolved) + task.benchmark]}:{task.name}" for task in whole),
        ),
    )
    check_fitness(settings, evolved)
    Journal.check_absent(out / JOURNAL)
    for benchmark in benchmarks:
        _save_copy(benchmark, benchmark_copy(out, benchmark.name))
    Journal.create(out / JOURNAL, asdict(settings))  # last: with it, there is a run
    return settings


def benchmark_copy(out: Path, name: str) -> Path:
    """Return the file in which the run in a directory has its copy of a benchmark."""
    return out / "benchmarks" / f"{name}.json"


def _save_copy(benchmark: Benchmark, path: Path) -> None:
    """Save a benchmark, but never over another one: a second run may be starting here at the same moment."""
    data = benchmark.to_bytes()
    if not write_new(path, data) and path.read_bytes() != data:
        raise JournalError(f"{path} is another benchmark; remove it, or choose another --out")


def read_settings(out: Path) -> EvolutionSettings:
    """Return the settings of the run in a directory.

    Raises:
        JournalError: there is no run, or its settings cannot be read.
    """
    stored = Journal.open(out / JOURNAL).settings
    try:
        return EvolutionSettings(**{name: _tupled(value) for name, value in stored.items()})
    except (TypeError, AttributeError) as error:
        raise JournalError(f"{out / JOURNAL}: the settings on line 1 cannot be read ({error})") from None


def run_evolution(
    out: Path,
    *,
    operations: Vocabulary = OPERATIONS,
    spaces: Sequence[str] = (),
    generations: int | None = None,
    workers: int = 1,
    executor: Executor | None = None,
    watch: EvolutionWatcher | None = None,
) -> EvolutionResult:
    """Run the evolution in a directory to its end, from wherever its journal ends.

    `operations` is the vocabulary that the run was started with, and `spaces` the users' spaces of its benchmarks
    (FILE.py:NAME). `generations` replaces the number in the settings.
    The work is done by `workers` local processes, or by any `executor` (concurrent.futures.Executor) whose workers can
    import autoprox; the executor stays open. The result does not depend on who does the work. An interrupted run
    (KeyboardInterrupt) keeps the generations that are complete, and reports without a look at the test split.

    Raises:
        JournalError: there is no run, its journal or its benchmarks are damaged, or another process goes on with it.
        SettingsError: the run has more generations already, or was started with other operations.
        WorkerError: a worker process died.
        DeviceError: the run's device is not here, or has no memory left.
    """
    settings = read_settings(out)
    _check_same_operations(out, settings, operations)
    if executor or workers > 1:
        check_sendable(operations)
    if generations is not None:
        settings = replace(settings, generations=generations)
    watch = watch or EvolutionWatcher()
    looks_so_far(out)  # a damaged count is told now, and not when everything is done
    with Journal.held(out / JOURNAL, watch.notice) as journal:
        discard_drafts(out, but_of=JOURNAL)  # a second start may be writing its journal, and will then be refused
        check_generations(journal)
        if len(journal.records) > settings.generations + 1:
            done = len(journal.records) - 1
            raise SettingsError(f"generations is {settings.generations}, but the run in {out} has {done} already")
        benchmarks = stored_benchmarks(out, settings, spaces)
        needs_no_pool = executor or settings.grammar == TABULAR  # a table takes no time to read
        pool = None if needs_no_pool else local_pool(workers, preload=[network_scorer.__module__])
        try:
            judge = assembled_judge(settings, benchmarks, executor or pool)
            grammar, sums = assembled_grammar(settings, benchmarks, operations), REFINEMENTS[settings.refine].sums
            breeder = Breeder(grammar, judge, settings.max_nodes, keeps_pieces=sums)
            write_generations(out, journal.records)
            held_out = held_out_judge(settings, benchmarks, executor or pool)
            return _carry_on(out, settings, journal, breeder, operations, watch, held_out)
        finally:
            close_pool(pool)


def _check_same_operations(out: Path, settings: EvolutionSettings, operations: Vocabulary) -> None:
    """Check that the vocabulary has the names that the journal records; what their functions do, it does not record."""
    given = own_operations(operations)
    if given != settings.own_operations:
        begun = ", ".join(settings.own_operations) or "none"
        raise SettingsError(
            f"the run in {out} was started with operations of its own ({begun}), and now has others "
            f"({', '.join(given) or 'none'}); call run_evolution(..., operations=...) with the same vocabulary, "
            "or add the same --operations"
        )


def _carry_on(
    out: Path,
    settings: EvolutionSettings,
    journal: Journal,
    breeder: Breeder,
    operations: Vocabulary,
    watch: EvolutionWatcher,
    held_out: Judge | None,
) -> EvolutionResult:
    judge = breeder.judge
    records = list(journal.records)

    def written(record: dict[str, Any]) -> None:
        records.append(record)
        write_generations(out, records)
        _save_best(out, settings, record, operations)
        watch.generation(record)

    finished = True
    try:
        wanted = kept_statistics(breeder.grammar)
        # Every generation looks at these two splits.
        looked_at = [[judge.architectures(n, split) for n in range(len(judge.scorers))] for split in SPLITS[:2]]
        homes = {key: name for each in looked_at for key, name in shard_homes(judge.scorers, each).items()}
        for scorer, *both in zip(judge.scorers, *looked_at, strict=True):
            scorer.prepare(wanted, np.concatenate(both), watch.building, homes)
            if not settings.sampled:
                _tell_of_room(scorer, both[0], watch)
        watch.judging(len(records))
        population = evolve(breeder, settings, journal, written)
    except KeyboardInterrupt:
        if not records:
            raise
        finished = False
        population = restore(breeder, records)
    watch.reporting()
    for scorer in [*judge.scorers, *(held_out.scorers if held_out else ())]:
        if isinstance(scorer, NetworkScorer):
            scorer.reading = watch.reading
    choice = choose(breeder, population, operations)
    chosen = choice.formula
    verdict = report(judge, chosen, SPLITS if finished else SPLITS[:2])
    left_out = report(held_out, chosen, SPLITS[2:]) if held_out and finished else None
    proxy = _proxy(settings, choice, verdict, records[-1])
    proxy.save(out / PROXY_FILE)
    save_report(out, settings, choice, verdict, left_out)
    write_csv(out / SCORES, list(predictions(judge, chosen, SPLITS if finished else SPLITS[:2])))
    looks = add_look(out, "evolve", _names(settings), chosen.text) if finished else looks_so_far(out)
    fittest = records[-1]["best"]["formula"]
    history = tuple(generation_lines(records))
    return EvolutionResult(proxy, verdict, finished, len(records) - 1, fittest, looks, left_out, history, choice.front)


def _names(settings: EvolutionSettings) -> list[str]:
    return [name for name, _ in settings.benchmarks]


def _tell_of_room(scorer: Scorer, evolve: np.ndarray, watch: EvolutionWatcher) -> None:
    """Say so where the disk has no room for all networks' statistics: the others run again in every generation."""
    again = sum(int(i) not in scorer.kept for i in evolve)
    if again:
        watch.notice(
            f"no room for the statistics of {again:,} of the {len(evolve):,} networks of {scorer.benchmark.name} that "
            "evolution looks at: they run again in every generation; set AUTOPROX_HOME to a folder on a larger disk"
        )


def stored_benchmarks(out: Path, settings: EvolutionSettings, spaces: Sequence[str] = ()) -> list[Benchmark]:
    """Return the run's copies of its benchmarks.

    Raises:
        JournalError: a copy is not the benchmark that the run was started with, or lacks one of the run's tasks.
    """
    benchmarks = []
    for name, digest in settings.benchmarks:
        path = benchmark_copy(out, name)
        benchmarks.append(Benchmark.load(path, spaces))
        if _digest(benchmarks[-1]) != digest:
            raise JournalError(
                f"{path} is not the benchmark that the run was started with; start again with another --out"
            )
    tasks = {f"{benchmark.name}:{task}" for benchmark in benchmarks for task in benchmark.tasks}
    if not tasks.issuperset((*settings.tasks, *settings.held_out)):
        raise JournalError(f"{out / JOURNAL}: not all the tasks on line 1 are in the run's benchmarks")
    return benchmarks


def _digest(benchmark: Benchmark) -> str:
    return hashlib.sha256(benchmark.to_bytes()).hexdigest()


def _tupled(value: Any) -> Any:
    return tuple(_tupled(item) for item in value) if isinstance(value, list) else value


def _save_best(out: Path, settings: EvolutionSettings, record: Mapping[str, Any], operations: Vocabulary) -> None:
    """Save the best formula so far, so that a run leaves a proxy however it is stopped."""
    best = record["best"]
    provenance = _provenance(settings, record)
    provenance["joint"] = {"evolve": best["joint"], "validation": best["validation"]}
    sampled = ", by samples" if settings.sampled else ""
    provenance["note"] = f"best so far on the evolve split{sampled}; the run has not finished"
    Proxy.from_formula(best["formula"], "evolved", provenance, operations).save(out / PROXY_FILE)


def _proxy(settings: EvolutionSettings, choice: Choice, verdict: Report, last: Mapping[str, Any]) -> Proxy:
    provenance = {**_provenance(settings, last), "tried": choice.tried, "finalists": choice.finalists}
    rows = [row for row in verdict.rows if row.predictor == FORMULA]
    provenance["tau"] = {
        split: {_task_name(row): round(row.tau, 4) for row in rows if row.split == split}
        for split in dict.fromkeys(row.split for row in rows)
    }
    return Proxy(choice.formula, "evolved", provenance)


def _provenance(settings: EvolutionSettings, last: Mapping[str, Any]) -> dict[str, Any]:
    """Return what it takes to repeat and judge the run; benchmarks by name, as their digests are in the journal."""
    facts = asdict(settings)
    evolved_on = {task.split(":", 1)[0] for task in settings.tasks}
    facts["benchmarks"] = [name for name, _ in settings.benchmarks if name in evolved_on]
    return {**facts, "generations": last["generation"], "tried": last["unique"], "version": __version__}


def _task_name(row: Row) -> str:
    return f"{row.benchmark}:{row.task}" if row.benchmark else row.task


def save_report(
    out: Path, settings: EvolutionSettings, choice: Choice, verdict: Report, held_out: Report | None = None
) -> None:
    """Write `report.json` and `report.csv`: every row, and in the first the front, the leads, and what was held out."""
    rows = [asdict(row) for row in verdict.rows]
    record = {
        "formula": choice.formula.text,
        "front": [asdict(row) for row in choice.front],
        "settings": asdict(settings),
        "rows": rows,
        "leads": [asdict(lead) for lead in verdict.leads],
        "within": [asdict(found) for found in verdict.within],
    }
    if held_out:
        record["held_out"] = {
            "rows": [asdict(row) for row in held_out.rows],
            "leads": [asdict(lead) for lead in held_out.leads],
        }
    write_atomically(out / "report.json", orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    write_csv(out / "report.csv", rows)


def generation_lines(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a line for each generation of the journal: its number, formulas tried until then, the best formula."""
    return [{"generation": r["generation"], "unique": r["unique"], **r["best"]} for r in records]


def write_generations(out: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write `generations.csv`: one line for each generation of the journal."""
    if rows := generation_lines(records):
        write_csv(out / "generations.csv", rows)
