"""Search on a benchmark: a proxy chooses among architectures whose accuracy is known, so the choice can be judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np

from autoprox.bench_cache.benchmarks.table import SPLITS, STRUCTURE, Benchmark
from autoprox.bench_cache.benchmarks.tasks import task_names
from autoprox.bench_cache.spaces.registry import get_space
from autoprox.bench_cache.statistics.columns import TabularScorer
from autoprox.scoring import AnyProxy
from autoprox.search.rating import (
    Batch,
    Candidate,
    Rater,
    Scoring,
    SearchError,
    reads_columns,
    reads_structure_only,
    scoring,
    table_rating,
)
from autoprox.search.strategies import (
    DRAWN_TOGETHER,
    Known,
    Limits,
    Progress,
    SearchResult,
    SearchSettings,
    explore,
    value,
)

#: Which architectures of a benchmark are offered to a search.
OFFERS = ("all", *SPLITS)


@dataclass(frozen=True)
class Choice:
    """One way to choose among the architectures, and what came of it on one task.

    `rank` is 1 + the number of better accuracies among all architectures offered; `regret` is the best accuracy minus
    `accuracy`, in points. Where `tied` architectures are first alike, accuracy and rank are their means.
    """

    by: str
    accuracy: float
    rank: float
    regret: float
    tied: int = 1


@dataclass(frozen=True)
class Verdict:
    """The choices on one task: by the proxy and by size among the architectures that were scored, and at random.

    `labelled` architectures of those offered have an accuracy; `judged` of these were scored; `best` is the best
    accuracy of all labelled ones. `top_missing` tells that the architecture of the highest score has no accuracy
    here, so that the choice is the next best. Without any judged one there is only the choice at random.
    """

    task: str
    labelled: int
    judged: int
    best: float
    choices: tuple[Choice, ...]
    top_missing: bool = False


def offered(benchmark: Benchmark, split: str, limits: Limits) -> list[Candidate]:
    """The benchmark's architectures of a split (or `all`) within limits, in the benchmark's order.

    Raises SearchError if there are none, naming the smallest value where an upper bound is below it.
    """
    if split not in OFFERS:
        raise SearchError(f"split is '{split:.40}'; it must be one of {', '.join(OFFERS)}")
    structure, missing = benchmark.structure(), np.full(len(benchmark), np.nan)
    params, flops, depth, width = (structure.get(name, missing).tolist() for name in STRUCTURE)
    for fact, low, high in limits.bounds():
        if (low or high) and np.isnan(structure.get(fact, missing)).all():
            raise SearchError(f"benchmark {benchmark.name} does not say the {fact} of its architectures: no limits")
    indices = np.arange(len(benchmark)) if split == "all" else benchmark.splits()[split]
    architectures = {int(i): benchmark.architectures[i] for i in indices}
    entries = [
        Candidate(arch, benchmark.key(arch), params[i], flops[i], depth[i], width[i])
        for i, arch in architectures.items()
    ]
    sizes = {fact: np.array([getattr(entry, fact) for entry in entries]) for fact, _, _ in limits.bounds()}
    known = {fact: values[~np.isnan(values)] for fact, values in sizes.items()}
    limits.check(
        f"benchmark {benchmark.name} ({split})", {f: float(v.min()) if len(v) else np.nan for f, v in known.items()}
    )
    within = [entry for entry in entries if not limits.violation(entry)]
    if not within:
        raise SearchError(f"no architecture of benchmark {benchmark.name} ({split}) has {limits}; widen the limits")
    return within


def search_benchmark(
    benchmark: Benchmark,
    score: Scoring,
    settings: SearchSettings,
    *,
    split: str = "all",
    batch: Batch | None = None,
    workers: int = 1,
    known: Sequence[Known] = (),
    on_scored: Callable[[Candidate], None] = lambda entry: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> SearchResult:
    """Score `settings.budget` of the benchmark's architectures, or all, in an order drawn by `settings.seed`.

    The only strategy is `random`: hardly any mutant of an architecture is in the benchmark too. The other arguments
    are those of `search`. A proxy that reads columns is scored from the table. On a tabular benchmark no other can be,
    but for those that read params, flops, depth and width, as far as the table has them.

    Raises SearchError for another strategy, limits that leave nothing, and a score that cannot be had; BenchmarkError
    for a formula that reads columns and something that the table does not have.
    """
    batch = batch or Batch()
    order = check_benchmark(benchmark, score, settings, split, batch)
    Random(f"search/{settings.seed}").shuffle(order)

    def propose(history: Sequence[Candidate]) -> list[Candidate]:
        return order[len(history) : len(history) + DRAWN_TOGETHER]

    budget, proxy = min(settings.budget, len(order)), scoring(score, batch)
    if proxy.as_formula is not None and reads_columns(proxy):
        return explore(propose, table_rating(benchmark, proxy.as_formula), budget, known, on_scored, on_progress)
    space = None if benchmark.space is None else get_space(benchmark.space)
    with Rater(proxy, space, benchmark.spec, batch, workers) as rate:
        return explore(propose, rate, budget, known, on_scored, on_progress)


def check_benchmark(
    benchmark: Benchmark, score: Scoring, settings: SearchSettings, split: str, batch: Batch
) -> list[Candidate]:
    """The architectures that `search_benchmark` would score, or what it would raise before it scores any."""
    if settings.strategy != "random":
        raise SearchError(f"on a benchmark the strategy is random, not {settings.strategy}: mutants are not in it")
    _check_computable(benchmark, scoring(score, batch))
    if benchmark.spec is not None:
        batch.check(benchmark.spec)
    return offered(benchmark, split, settings.limits)


def _check_computable(benchmark: Benchmark, proxy: AnyProxy) -> None:
    formula = proxy.as_formula
    if formula is not None and reads_columns(proxy):
        TabularScorer(benchmark).check([formula])
        return
    if benchmark.space is not None:
        return
    facts = ", ".join(benchmark.structure()) or "none of them"
    if formula is None or not reads_structure_only(proxy):
        read = formula.text if formula is not None else "a function"
        raise SearchError(
            f"benchmark {benchmark.name} is tabular: its networks cannot be built to score '{read:.80}' on them; "
            f"a formula may read {facts}"
        )
    for terminal in formula.terminals():
        if terminal.statistic.name not in benchmark.structure():
            raise SearchError(
                f"benchmark {benchmark.name} is tabular and has no {terminal.statistic.name}; "
                f"a formula may read {facts}"
            )


def one_network(benchmark: Benchmark, patterns: Sequence[str]) -> Benchmark:
    """The benchmark as far as one network stands for its tasks: with the tasks that are searched for, and their input.

    Raises SearchError where the tasks have networks of their own, BenchmarkError for a pattern that names nothing.
    """
    tasks = task_names(benchmark, patterns)
    networks = [network for network in benchmark.networks() if set(network.tasks) & set(tasks)]
    if len(networks) > 1:
        raise SearchError(
            f"the tasks {', '.join(tasks)} of {benchmark.name} have a network each: search for one with --tasks"
        )
    kept = networks[0].tasks

    def of_kept(values: Mapping[str, Any]) -> dict[str, Any]:
        return {task: value for task, value in values.items() if task in kept}

    return replace(
        benchmark,
        spec=networks[0].spec,
        tasks=of_kept(benchmark.tasks),
        inputs=of_kept(benchmark.inputs),
        seeds=of_kept(benchmark.seeds),
    )


def judge(
    benchmark: Benchmark, result: SearchResult, tasks: Sequence[str], settings: SearchSettings, split: str = "all"
) -> tuple[Verdict, ...]:
    """What the proxy's choice of a `search_benchmark` is worth on each task, beside a choice by size and by chance."""
    keys = {entry.key for entry in offered(benchmark, split, settings.limits)}
    ranked = result.ranked
    return tuple(_verdict(benchmark, keys, ranked, task) for task in tasks)


def _verdict(benchmark: Benchmark, keys: set[str], ranked: Sequence[Candidate], task: str) -> Verdict:
    pairs = zip(benchmark.architectures, benchmark.tasks[task], strict=True)
    by_key = ((benchmark.key(arch), float(accuracy)) for arch, accuracy in pairs)
    accuracy = {key: a for key, a in by_key if key in keys and not np.isnan(a)}
    if not accuracy:
        return Verdict(task, 0, 0, float("nan"), ())
    everything = np.array(list(accuracy.values()))
    judged = [entry for entry in ranked if entry.key in accuracy and entry.score is not None]

    def choice(by: str, first: Sequence[float] | np.ndarray, tied: int) -> Choice:
        rank = float(np.mean([1 + np.sum(everything > a) for a in first]))
        return Choice(by, float(np.mean(first)), rank, float(everything.max() - np.mean(first)), tied)

    choices = [choice("chance", everything, 1)]
    for by, worth in (("params", _params), ("proxy", value)) if judged else ():
        highest = max(map(worth, judged))
        first = [accuracy[entry.key] for entry in judged if worth(entry) == highest]
        choices.append(choice(by, first, len(first)))
    top_missing = bool(ranked) and ranked[0].key not in accuracy
    return Verdict(task, len(accuracy), len(judged), float(everything.max()), tuple(reversed(choices)), top_missing)


def _params(entry: Candidate) -> float:
    return entry.params if entry.params == entry.params else -np.inf
