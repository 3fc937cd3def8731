"""Explain: what a proxy is made of and what carries its ranking, as one function for Python and the command line."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autoprox.api.arguments import BenchmarkLike, Operations, benchmarks, checked_workers, known_operations, texts
from autoprox.api.results import Result
from autoprox.bench_cache.benchmarks.library import DEFAULT_BENCHMARK, file_of
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.display.explanation import explanation_parts
from autoprox.display.terminal import Counting, progress_console, say
from autoprox.evolution import benchmark_copy
from autoprox.explanation.explain import Setting
from autoprox.explanation.explain import explain as explain_on
from autoprox.explanation.explained import Explained
from autoprox.proxy import ProxyLike, any_proxy
from autoprox.scoring import AnyProxy


@dataclass(frozen=True, repr=False, kw_only=True, eq=False)
class Explanation(Result):
    """What `autoprox.explain` returns: `found` has the numbers of all parts, see `Explained`."""

    found: Explained

    def parts(self) -> Iterator[str | Text | Table]:
        """Yield the parts in words, their numbers, and what carries the ranking."""
        return explanation_parts(self.found)

    def record(self) -> dict[str, Any]:
        """Return all of it as JSON values, as `autoprox explain --json` prints it."""
        return self.found.record()

    def records(self) -> list[dict[str, Any]]:
        """Return a line for each part: its words, its values in the example networks, and its taus."""
        record = self.found.record()
        return [_flat(part) for part in record["parts"] or [{"part": record["proxy"], **record["score"]}]]

    def __repr__(self) -> str:
        return f"Explanation({self.found.proxy.text!r}, {len(self.found.parts)} parts, on {self.found.benchmark!r})"


def _flat(part: dict[str, Any]) -> dict[str, Any]:
    words = {name: value for name, value in part.items() if isinstance(value, str)}
    values = {f"value_{number}": value for number, value in enumerate(part["values"])}
    structure = {f"tau_{fact}": tau for fact, tau in part["structure"].items()}
    return {**words, **values, **structure, **{f"tau_{split}": tau for split, tau in part["accuracy"].items()}}


def explain(
    proxy: ProxyLike,
    benchmark: BenchmarkLike | None = None,
    *,
    tasks: str | Sequence[str] = (),
    architectures: Sequence[int] = (),
    sample: int | None = None,
    batch: int = 2,
    seed: int = 0,
    operations: Operations = (),
    space: str | Sequence[str] = (),
    workers: int = 1,
    progress: bool = True,
) -> Explanation:
    """Explain a proxy: its parts in words and in numbers, and what its ranking loses without each.

    `proxy` is a proxy or what names one. `benchmark` is by default the one that it was evolved on, else mini-vit. Only
    the evolve and validation splits are looked at, or `sample` of their architectures. `architectures` are the numbers
    of the example networks; none means those with the lowest and the highest accuracy. The networks run on `batch`
    samples; `seed` gives their weights. `progress` False prints nothing.

    Raises:
        ExplainError, BenchmarkError, RankError, ArgumentError: an argument cannot be.
        ProxyError, FormulaError: there is no such proxy.
        OperationError, ArchitectureError: the user's own operations or spaces cannot be loaded.
    """
    checked_workers(workers)
    known, _ = known_operations(operations)
    found = any_proxy(proxy, known)
    where = _benchmark(proxy, found, benchmark, texts(space))
    setting = Setting(tuple(texts(tasks)) or _own_tasks(found, where), tuple(architectures), sample, batch, seed)
    console = progress_console(silent=not progress)
    return Explanation(found=_with_progress(console, found, where, setting, workers))


def _with_progress(
    console: Console, proxy: AnyProxy, benchmark: Benchmark, setting: Setting, workers: int
) -> Explained:
    say(console, f"autoprox explain on {benchmark.name}: scoring the proxy and its parts on its networks")
    with Counting(console, "scoring networks") as count:
        return explain_on(proxy, benchmark, setting, workers=workers, on_progress=count)


def _benchmark(ref: ProxyLike, proxy: AnyProxy, given: BenchmarkLike | None, spaces: Sequence[str]) -> Benchmark:
    """Return the benchmark that is given, else the first one that the proxy was evolved on, else mini-vit."""
    if given is not None:
        return benchmarks(given, spaces)[0]
    for name in _evolved_on(proxy):
        if isinstance(ref, str | os.PathLike) and (copy := benchmark_copy(Path(ref).expanduser(), name)).is_file():
            return benchmarks(copy, spaces)[0]
        if file_of(name) is not None:
            return benchmarks(name, spaces)[0]
    return benchmarks(DEFAULT_BENCHMARK, spaces)[0]


def _evolved_on(proxy: AnyProxy) -> list[str]:
    names = proxy.provenance.get("benchmarks", [])
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _own_tasks(proxy: AnyProxy, benchmark: Benchmark) -> tuple[str, ...]:
    """Return the tasks of the benchmark that the proxy was evolved on; none, which means all, where it was not."""
    named = proxy.provenance.get("tasks", [])
    return tuple(task for task in benchmark.tasks if isinstance(named, list) and f"{benchmark.name}:{task}" in named)
