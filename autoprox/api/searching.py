"""Search: the architectures that a proxy scores highest, as one function that Python and the command line call."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from rich.text import Text

from autoprox.api.arguments import (
    ArgumentError,
    BenchmarkLike,
    Operations,
    check_functions,
    checked_workers,
    known_operations,
)
from autoprox.api.results import KeptResult
from autoprox.api.search_plan import make_plan, resumed_plan
from autoprox.bench_cache.runtime.devices import agreed_device
from autoprox.bench_cache.runtime.local_pool import Workers
from autoprox.bench_cache.spaces.registry import get_space
from autoprox.display.front import save_front
from autoprox.display.search import SearchScreen, heading, search_parts
from autoprox.display.terminal import progress_console, say
from autoprox.pictures import DrawingError
from autoprox.primitives import Vocabulary
from autoprox.proxy import ProxyLike
from autoprox.search.batch import Batch
from autoprox.search.candidate import Candidate
from autoprox.search.networks import NETWORKS
from autoprox.search.on_benchmark import Verdict, of_one_network
from autoprox.search.run import (
    JOURNAL,
    RESULTS_CSV,
    RESULTS_JSON,
    SearchOutcome,
    SearchPlan,
    ordered,
    result_rows,
    run_search,
    start_search,
)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Search(KeptResult):
    """What `autoprox.search` returns.

    Attributes:
        plan: all that the result depends on; see `SearchPlan`.
        outcome: what was scored, in that order, and on a benchmark the verdicts.
        top: how many architectures are shown.
        out: the directory of the search, which has files whose names are `saved`; None where nothing is kept.
        problem: why there is no picture of the front among them; empty where there is, or where there is no front.
    """

    plan: SearchPlan
    outcome: SearchOutcome
    top: int = 10
    out: Path | None = None
    saved: tuple[str, ...] = ()
    problem: str = ""

    @property
    def ranked(self) -> tuple[Candidate, ...]:
        """The architectures that were scored, best first, as `Candidate`s with score and size.

        With several objectives, those of the front come first, the best in the first objective at the head.
        """
        return ordered(self.plan, self.outcome.result)

    @property
    def front(self) -> tuple[Candidate, ...]:
        """The architectures that no other one beats in all objectives; none where there is one objective."""
        return self.outcome.result.front(self.plan.settings.objectives) if self.plan.of_several else ()

    @property
    def best(self) -> Candidate:
        """The first of `ranked`."""
        return self.ranked[0]

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """On a benchmark, how good what the proxy chose is, on each task; see `Verdict`."""
        return self.outcome.verdicts

    @property
    def finished(self) -> bool:
        """Whether the whole budget was used; False after KeyboardInterrupt."""
        return self.outcome.result.finished

    def build(self, rank: int = 1, seed: int = 0) -> torch.nn.Module:
        """Return the untrained network of the architecture on a place of `ranked`, 1 for the best.

        Raises:
            ArgumentError: there is no such place, or the benchmark is a table, whose networks cannot be built.
        """
        if not 1 <= rank <= len(self.ranked):
            raise ArgumentError(f"rank is {rank}; it must be from 1 to {len(self.ranked)}")
        benchmark = None if self.plan.benchmark is None else of_one_network(self.plan.benchmark, self.plan.tasks)
        name, spec = (self.plan.space, self.plan.spec) if benchmark is None else (benchmark.space, benchmark.spec)
        if name is None or spec is None:
            raise ArgumentError("this search is on a table, whose networks cannot be built")
        return get_space(name).build(self.ranked[rank - 1].arch, spec, seed)

    def parts(self) -> Iterator[str | Text | Table]:
        """Yield a table of the best, or of the front, what to know of it, and on a benchmark the verdict."""
        return search_parts(self.plan, self.outcome, self.top)

    def records(self) -> list[dict[str, Any]]:
        """Return a line for each architecture of `ranked`: score, size, latency if measured, and the genes (`arch`)."""
        return result_rows(self.plan, self.outcome)

    def record(self) -> dict[str, Any]:
        """Return settings, all that was scored, best first, and on a benchmark the verdicts, as JSON values."""
        return {
            "settings": self.plan.record(),
            "finished": self.finished,
            "architectures": self.records(),
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
            "out": None if self.out is None else str(self.out),
            "saved": list(self.saved),
        }

    def __repr__(self) -> str:
        found = f"{len(self.outcome.result.candidates)} scored, best={self.best.key!r}"
        return f"Search({found}{'' if self.finished else ', finished=False'})"


#: Arguments of `search` that say how it is carried out, and have no part in its result.
_HOW = frozenset({"operations", "workers", "top", "out", "resume", "progress"})


def search(
    space: str | None = None, proxy: ProxyLike | Sequence[ProxyLike] | None = None, *,
    benchmark: BenchmarkLike | None = None,
    tasks: str | Sequence[str] | None = None, split: str | None = None,
    budget: int | None = None, seed: int | None = None, strategy: str | None = None,
    population: int | None = None, tournament: int | None = None,
    pareto: bool | None = None, objectives: str | Sequence[str] | None = None,
    min_params: float | None = None, max_params: float | None = None,
    min_flops: float | None = None, max_flops: float | None = None,
    min_activations: float | None = None, max_activations: float | None = None,
    max_latency: float | None = None, latency_device: str | None = None, latency_batch: int | None = None,
    latency_threads: int | None = None,
    batch: int | None = None, batch_norm: str | None = None, device: str | None = None,
    images: str | os.PathLike[str] | Batch | None = None, image_size: int | None = None,
    channels: int | None = None, classes: int | None = None, patch_size: int | None = None,
    operations: Operations = (), workers: Workers = 1, top: int = 10,
    out: str | os.PathLike[str] | None = None, resume: bool = False, progress: bool = True,
) -> Search:  # fmt: skip
    """Search the architectures that a proxy scores highest, under limits on their size, training nothing.

    `space` is a name or a space of your own, FILE.py:NAME. With a `benchmark` (itself, a name or a file), the search is
    among its architectures of the `split`, and the choice is judged on the `tasks`. `proxy` is what PROXY means on the
    command line, or an object: a `Proxy`, a formula, a function of an untrained network; a list of them votes by rank.
    `budget` (500) architectures are scored.

    `pareto` True finds a front of two objectives or more (score, params, flops, activations, latency). `max_latency` is
    in seconds; latency is measured on `latency_device` with `latency_batch` images and `latency_threads` threads.

    The probes read `batch` (2) samples, or `images`: a folder, an .npz file, or a `Batch` of arrays; `batch_norm` is as
    in `Proxy.score`, and `device` as in `rank`. `image_size`, `channels`, `classes` and `patch_size` are those of the
    networks. Other choices are those of `SearchSettings`. `workers` are processes of this machine, or an executor; a
    script with several needs `if __name__ == "__main__":`.

    With a directory `out` everything is kept there, and with `resume` the search there goes on, up to `budget` if it is
    given. KeyboardInterrupt ends early with what was scored. `progress` False prints nothing.

    Raises:
        SearchError, ArgumentError: an argument cannot be, nothing is within the limits, or nothing has a score.
        DeviceError: there is no such device, or it has no memory left.
        ProxyError, FormulaError, BenchmarkError, ArchitectureError, OperationError: what is named is not there.
        JournalError: there is no search in `out` to resume, or its files are damaged.
    """
    given = {name: value for name, value in locals().items() if name not in _HOW and value is not None}
    checked_workers(workers)
    if device is not None:
        given["device"] = agreed_device(device, workers)
    known, _ = known_operations(operations)
    folder = None if out is None else Path(out).expanduser()
    plan = _resumed(folder, given, known) if resume else _begun(folder, given, known, workers)
    return _carried_out(plan, folder, top, workers, silent=not progress)


def _begun(out: Path | None, given: Mapping[str, Any], operations: Vocabulary, workers: Workers) -> SearchPlan:
    """Return the plan of a new search, which is kept in `out` if there is one."""
    plan = make_plan(given, operations)
    check_functions(plan.proxies, workers)
    if out is not None:
        start_search(plan, out)
    return plan


def _resumed(out: Path | None, given: Mapping[str, Any], operations: Vocabulary) -> SearchPlan:
    """Return the plan of the search in `out`."""
    if out is None:
        raise ArgumentError("--resume goes on with the search in --out DIR; name it")
    return resumed_plan(out, given, operations)


def _carried_out(plan: SearchPlan, out: Path | None, top: int, workers: Workers, *, silent: bool) -> Search:
    """Show the heading and the progress of a search, and return its result."""
    console = progress_console(silent=silent)
    say(console, heading(plan, out))
    with SearchScreen(console, plan) as screen:
        outcome = run_search(plan, out, top=top, workers=workers, on_progress=screen.progress, on_notice=screen.notice)
    saved, problem = [] if out is None else [RESULTS_JSON, RESULTS_CSV, f"{NETWORKS}/", JOURNAL], ""
    if out is not None and plan.of_several and outcome.result.front(plan.settings.objectives):
        try:
            saved += save_front(outcome.result, plan.settings.objectives, out)
        except DrawingError as error:
            problem = str(error)
    return Search(plan=plan, outcome=outcome, top=top, out=out, saved=tuple(saved), problem=problem)
