"""Search run: one search from its plan to its results, in a directory from which a killed search goes on.

The directory holds `journal.jsonl` (the settings, then one line for each architecture scored), copies of what the
search reads (`proxy.json`, `benchmark.json`, `batch.npz`), and the results: the best architectures in
`architectures.json` and, each with a Python file that builds it, in `networks/`; all that were scored in
`architectures.csv`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import orjson

from autoprox import __version__
from autoprox.bench_cache.benchmarks.table import STRUCTURE, Benchmark
from autoprox.bench_cache.benchmarks.tasks import task_names
from autoprox.bench_cache.runtime.devices import CPU
from autoprox.bench_cache.runtime.files import write_atomically, write_csv
from autoprox.bench_cache.runtime.journal import Journal, JournalError
from autoprox.bench_cache.runtime.local_pool import Workers
from autoprox.bench_cache.spaces.registry import (
    InputSpec,
    get_space,
    pinned,
    recorded_space,
    space_record,
)
from autoprox.primitives import OPERATIONS, Vocabulary
from autoprox.primitives.batch_norms import RUNNING
from autoprox.proxy import PROXY_FILE, Proxy, named_proxy
from autoprox.scoring import AnyProxy
from autoprox.search.batch import Batch
from autoprox.search.candidate import Candidate, SearchError
from autoprox.search.latency import LatencySetup
from autoprox.search.limits import Limits
from autoprox.search.loop import SearchProgress, SearchResult, StoredScore
from autoprox.search.networks import write_networks
from autoprox.search.on_benchmark import Verdict, check_benchmark, judge, of_one_network, search_benchmark
from autoprox.search.on_space import check_space, search
from autoprox.search.strategies import SearchSettings

JOURNAL = "journal.jsonl"
BENCHMARK_FILE = "benchmark.json"
BATCH_FILE = "batch.npz"
RESULTS_JSON, RESULTS_CSV = "architectures.json", "architectures.csv"
RESULTS_FORMAT, VERSION = "autoprox-architectures", 1


class SearchJournal(Journal):
    """The journal of a search: one line for each architecture, in the order of scoring.

    The lines have no number: a search that goes on proposes the same architectures again and compares their keys. A
    proxy that reads structure only scores thousands of architectures a second, so the lines of a second are synced
    to the disk together.
    """

    FORMAT: ClassVar[str] = "autoprox-search"
    COUNTER: ClassVar[str] = ""
    SETTINGS: ClassVar[str] = "plan"
    RUN: ClassVar[str] = "search"
    TITLE: ClassVar[str] = "a search's journal"
    SYNC_EVERY: ClassVar[float] = 1.0


@dataclass(frozen=True)
class SearchPlan:
    """All that a search's result depends on: the proxy, the settings, and a space with its `spec`, or a benchmark.

    With `others`, these proxies and `proxy` vote by rank (see `votes`).
    `tasks` (patterns) and `split` belong to a benchmark. `batch_data` are the bytes of a file of images (see
    `Batch.from_bytes`). Without them, the networks run on `samples` images of the benchmark, or Gaussian samples, with
    `batch_norm` as in `Proxy.score`, on `device`, which has a part in the last bits. `latency` says what latencies are
    measured with, where the settings name them; else it is None.

    Raises:
        SearchError: both or neither of space and benchmark are given, or `search` or `search_benchmark` would raise
            it before they score anything.
        BenchmarkError: the formula reads a column that the benchmark lacks, or a pattern names no task.
        ArchitectureError: the space is unknown.
    """

    proxy: AnyProxy
    settings: SearchSettings
    space: str | None = None
    spec: InputSpec | None = None
    benchmark: Benchmark | None = None
    tasks: tuple[str, ...] = ()
    split: str = "all"
    samples: int = 2
    batch_data: bytes | None = field(default=None, repr=False)
    latency: LatencySetup | None = None
    others: tuple[AnyProxy, ...] = ()
    batch_norm: str = RUNNING
    device: str = CPU

    def __post_init__(self) -> None:
        if (self.space is None) == (self.benchmark is None):
            raise SearchError("a search is of a space or of a benchmark: name one of them")
        measured = (self.latency or LatencySetup()) if self.settings.measures_latency else None
        object.__setattr__(self, "latency", measured)
        if self.space is not None:
            if self.tasks or self.split != "all":
                raise SearchError("tasks and split are a benchmark's, and a space has none")
            object.__setattr__(self, "spec", self.spec or InputSpec())
            object.__setattr__(self, "space", pinned(self.space))
            check_space(get_space(self.space), self.proxies, self.settings, self.spec or InputSpec(), self.batch)
        if self.benchmark is not None:
            if self.spec is not None:
                raise SearchError("a benchmark says what its networks read: leave out image size, channels, classes")
            check_benchmark(
                of_one_network(self.benchmark, self.tasks), self.proxies, self.settings, self.split, self.batch
            )

    def with_budget(self, budget: int) -> SearchPlan:
        """Return the plan of the same search with another budget."""
        return replace(self, settings=replace(self.settings, budget=budget))

    @property
    def proxies(self) -> tuple[AnyProxy, ...]:
        """The proxy, or all that vote."""
        return self.proxy, *self.others

    @property
    def of_several(self) -> bool:
        """Whether there are several objectives, and so a front."""
        return len(self.settings.objectives) > 1

    @property
    def batch(self) -> Batch:
        """What the networks run on: the images that were given, else the benchmark's own, else Gaussian samples."""
        return replace(self._samples, batch_norm=self.batch_norm)

    @property
    def _samples(self) -> Batch:
        if self.batch_data is not None:
            return Batch.from_bytes(self.batch_data)
        inputs = {} if self.benchmark is None else of_one_network(self.benchmark, self.tasks).inputs
        if not inputs:
            return Batch(self.samples)
        given = next(iter(inputs.values()))  # the tasks of one network have one input
        return Batch(images=given.images[: self.samples].copy(), targets=given.targets[: self.samples].copy())

    def record(self) -> dict[str, Any]:
        """Return all that the result depends on, as JSON; large data by its SHA-256."""
        benchmark = self.benchmark
        return {
            "space": None if self.space is None else space_record(self.space),
            "spec": None if self.spec is None else asdict(self.spec),
            "benchmark": None if benchmark is None else [benchmark.name, _sha256(benchmark.to_bytes())],
            "tasks": list(self.tasks),
            "split": self.split,
            "proxy": self.proxy.text,
            **({"others": [each.text for each in self.others]} if self.others else {}),
            "samples": self.samples,
            "batch": None if self.batch_data is None else _sha256(self.batch_data),
            "settings": asdict(self.settings),
            **({"batch_norm": self.batch_norm} if self.batch_norm != RUNNING else {}),
            **({"device": self.device} if self.device != CPU else {}),
            **({} if self.latency is None else {"latency": asdict(self.latency)}),
        }


@dataclass(frozen=True)
class SearchOutcome:
    """The result of a search and, on a benchmark, the verdict on each task."""

    result: SearchResult
    verdicts: tuple[Verdict, ...] = ()


def start_search(plan: SearchPlan, out: Path) -> None:
    """Create the directory of a search, with its journal and copies of what the search reads.

    Raises:
        SearchError: there is something in the directory already, which would be overwritten.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        held = "a search" if (out / JOURNAL).exists() else "other files"
        resume = "go on with --resume, or " if (out / JOURNAL).exists() else ""
        raise SearchError(f"{out} already holds {held}; {resume}choose another --out")
    for number, proxy in enumerate(plan.proxies):
        if isinstance(proxy, Proxy):  # a function of the zoo is known by its name
            proxy.save(out / _proxy_file(number))
    if plan.benchmark is not None:
        plan.benchmark.save(out / BENCHMARK_FILE)
    if plan.batch_data is not None:
        write_atomically(out / BATCH_FILE, plan.batch_data)
    SearchJournal.create(out / JOURNAL, plan.record())  # last, because a directory with a journal is a search


def read_plan(out: Path, spaces: Sequence[str] = (), operations: Vocabulary = OPERATIONS) -> SearchPlan:
    """Return the plan of the search in a directory.

    `spaces` name the user's space that it is of, FILE.py:NAME, and `operations` has those of its formula.

    Raises:
        ArchitectureError: the space is missing, or has changed since.
        JournalError: there is no search in the directory, or its journal cannot be read.
        SearchError: a file that the search reads is not the one that it was started with.
    """
    stored = SearchJournal.open(out / JOURNAL).settings
    try:
        choices = dict(stored["settings"])
        limits = Limits(**choices.pop("limits"))
        spec, benchmark, batch = stored["spec"], stored["benchmark"], stored["batch"]
        plan = SearchPlan(
            proxy=_stored_proxy(out, 0, stored["proxy"], operations),
            settings=SearchSettings(limits=limits, **choices),
            space=None if stored["space"] is None else recorded_space(stored["space"], spaces),
            spec=None if spec is None else InputSpec(**spec),
            benchmark=None if benchmark is None else Benchmark.load(out / BENCHMARK_FILE, spaces),
            tasks=tuple(stored["tasks"]),
            split=stored["split"],
            samples=stored["samples"],
            batch_data=None if batch is None else (out / BATCH_FILE).read_bytes(),
            latency=LatencySetup(**stored["latency"]) if "latency" in stored else None,
            batch_norm=stored.get("batch_norm", RUNNING),
            device=stored.get("device", CPU),
            others=tuple(
                _stored_proxy(out, number, text, operations) for number, text in enumerate(stored.get("others", ()), 1)
            ),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise JournalError(f"{out / JOURNAL}: the plan on line 1 cannot be read ({error!r:.80})") from None
    now = plan.record()
    files = {"proxy": PROXY_FILE, "others": _proxy_file(1), "benchmark": BENCHMARK_FILE, "batch": BATCH_FILE}
    for name, file in files.items():
        if now.get(name) != stored.get(name):
            raise SearchError(f"{out / file} is not what the search was started with; start again with another --out")
    return plan


def _proxy_file(number: int) -> str:
    """Return the name of the file of a proxy: proxy.json, and of further ones proxy_2.json and so on."""
    return PROXY_FILE if number == 0 else PROXY_FILE.replace(".", f"_{number + 1}.")


def _stored_proxy(out: Path, number: int, text: str, operations: Vocabulary) -> AnyProxy:
    """Return the function that the journal names, or else the formula in the directory's file of the proxy."""
    named = named_proxy(text)
    if named is not None and named.as_formula is None:
        return named
    return Proxy.load(out / _proxy_file(number), operations)


def run_search(
    plan: SearchPlan,
    out: Path | None = None,
    *,
    top: int = 10,
    workers: Workers = 1,
    on_progress: Callable[[SearchProgress], None] = lambda progress: None,
    on_notice: Callable[[str], None] = lambda line: None,
) -> SearchOutcome:
    """Carry a search from where the journal of its directory ends to its end, and write the results there.

    Without a directory nothing is kept. After KeyboardInterrupt the results are those found so far. `on_notice` is
    told, in one line, when the search was started with other versions of autoprox, torch or numpy.

    Raises:
        JournalError: there is no search in the directory, its journal is damaged, or another process carries it on.
        SearchError: the journal has more architectures than the budget, or `search` or `search_benchmark` raises it.
    """
    if out is None:
        return _carry_on(plan, workers, (), lambda candidate: None, on_progress)
    with SearchJournal.held(out / JOURNAL, on_notice) as journal:
        stored = _stored_scores(journal)
        if len(stored) > plan.settings.budget:
            raise SearchError(f"budget is {plan.settings.budget}, but the search in {out} has scored {len(stored)}")

        def append(candidate: Candidate) -> None:
            latency = {} if candidate.latency is None else {"latency": candidate.latency}
            votes = {"votes": candidate.votes} if candidate.votes else {}
            line = {"key": candidate.key, "score": candidate.score, "problem": candidate.problem}
            journal.append({**line, **latency, **votes})

        outcome = _carry_on(plan, workers, stored, append, on_progress)
        write_results(plan, outcome, out, top)
    return outcome


def _carry_on(
    plan: SearchPlan,
    workers: Workers,
    stored: Sequence[StoredScore],
    on_scored: Callable[[Candidate], None],
    on_progress: Callable[[SearchProgress], None],
) -> SearchOutcome:
    how: dict[str, Any] = {"workers": workers, "stored": stored, "on_scored": on_scored, "on_progress": on_progress}
    how |= {"batch": plan.batch, "device": plan.device, "latency": plan.latency}
    if plan.benchmark is not None:
        benchmark = of_one_network(plan.benchmark, plan.tasks)
        result = search_benchmark(benchmark, plan.proxies, plan.settings, split=plan.split, **how)
        tasks = task_names(benchmark, plan.tasks)
        return SearchOutcome(result, judge(benchmark, result, tasks, plan.settings, plan.split))
    assert plan.space is not None
    return SearchOutcome(search(plan.space, plan.proxies, plan.settings, spec=plan.spec, **how))


def _stored_scores(journal: SearchJournal) -> tuple[StoredScore, ...]:
    """Return the scores in the journal's lines."""
    stored = []
    for number, record in enumerate(journal.records, 2):
        try:
            stored.append(StoredScore(**record))
        except TypeError as error:
            raise JournalError(
                f"{journal.path}: line {number} is damaged ({error!s:.80}); start again with another --out"
            ) from None
    return tuple(stored)


def write_results(plan: SearchPlan, outcome: SearchOutcome, out: Path, top: int) -> None:
    """Write the `top` best, with plan and verdicts, in `architectures.json`, and all scored in `architectures.csv`.

    Each of the best has its own files in `networks/` (see `write_networks`). With several objectives, the architectures
    of the front are the best: they come first, and all of them are written.
    """
    rows = result_rows(plan, outcome)
    shown = sum(row.get("front", False) for row in rows) or top
    record = {
        "format": RESULTS_FORMAT,
        "version": VERSION,
        "autoprox": __version__,
        **plan.record(),
        "provenance": dict(plan.proxy.provenance),
        "finished": outcome.result.finished,
        "scored": len(rows),
        "architectures": [{key: row[key] for key in row if key != "problem" or row[key]} for row in rows[:shown]],
        "verdicts": [asdict(verdict) for verdict in outcome.verdicts],
    }
    spec = plan.spec if plan.benchmark is None else of_one_network(plan.benchmark, plan.tasks).spec
    write_networks(out, _space_name(plan), spec, [found.arch for found in ordered(plan, outcome.result)[:shown]])
    data = orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    write_atomically(out / RESULTS_JSON, data)
    write_csv(out / RESULTS_CSV, [{**row, "arch": orjson.dumps(row["arch"]).decode()} for row in rows])


def ordered(plan: SearchPlan, result: SearchResult) -> tuple[Candidate, ...]:
    """Return what was scored, best first; with several objectives, the architectures of the front come first."""
    front = result.front(plan.settings.objectives) if plan.of_several else ()
    first = {found.key for found in front}
    return (*front, *(each for each in result.ranked if each.key not in first))


def _space_name(plan: SearchPlan) -> str | None:
    return plan.space if plan.benchmark is None else plan.benchmark.space


def result_rows(plan: SearchPlan, outcome: SearchOutcome) -> list[dict[str, Any]]:
    """Return a row for each architecture that was scored, in the order of `ordered`."""
    name = _space_name(plan)
    front = outcome.result.front(plan.settings.objectives) if plan.of_several else ()
    rows = []
    for rank, found in enumerate(ordered(plan, outcome.result), 1):
        arch = dict(found.arch) if name is None else get_space(name).to_json(found.arch)
        facts = {fact: _plain(getattr(found, fact)) for fact in STRUCTURE}
        if plan.latency is not None:
            facts["latency"] = found.latency
        if plan.of_several:
            facts["front"] = rank <= len(front)
        rows.append({"rank": rank, "score": found.score, **facts, "arch": arch, "problem": found.problem})
    return rows


def _plain(number: float) -> float | None:
    """Return a number as JSON writes it: null for NaN, 192 for 192.0."""
    if math.isnan(number):
        return None
    return int(number) if float(number).is_integer() else number


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
