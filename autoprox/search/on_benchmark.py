"""Search on a benchmark: a proxy chooses among architectures whose accuracy is known, so the choice can be judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np

from autoprox.bench_cache.benchmarks.table import SPLITS, STRUCTURE, Benchmark
from autoprox.bench_cache.benchmarks.tasks import task_names
from autoprox.bench_cache.runtime.devices import CPU
from autoprox.bench_cache.runtime.local_pool import Workers
from autoprox.bench_cache.spaces.registry import get_space
from autoprox.bench_cache.statistics.columns import TabularScorer
from autoprox.scoring import AnyProxy
from autoprox.search.batch import Batch
from autoprox.search.candidate import Candidate, SearchError
from autoprox.search.latency import Clock, LatencySetup, timed_scorer
from autoprox.search.limits import Limits
from autoprox.search.loop import SearchProgress, SearchResult, StoredScore, score_proposals
from autoprox.search.proxies import ProxyLike, as_proxies, reads_columns, reads_structure_only
from autoprox.search.scorer import CandidateScorer, network_scorer, table_scorer
from autoprox.search.strategies import DRAWN_TOGETHER, SearchSettings
from autoprox.search.votes import voting_scorer

#: Which architectures of a benchmark a search may look at: all, or those of a split.
OFFERS = ("all", *SPLITS)


@dataclass(frozen=True)
class Choice:
    """The architecture that one rule (`by`) chooses on a task, and how good its accuracy is.

    `rank` is 1 + the number of better accuracies among all architectures offered; `regret` is the best accuracy minus
    `accuracy`, in points. Where the rule finds `tied` architectures equally good, accuracy and rank are their means.
    """

    by: str
    accuracy: float
    rank: float
    regret: float
    tied: int = 1


@dataclass(frozen=True)
class Verdict:
    """The choices on one task: by the proxy, by size, and at random.

    Of the architectures offered, `labelled` have an accuracy, and `judged` of these were scored. The proxy and the
    size choose among the judged ones, chance among all labelled ones; with none judged, only chance is left. `best`
    is the best accuracy of the labelled ones. `top_missing` tells that the architecture with the highest score has no
    accuracy here, so that the proxy's choice is the next best.
    """

    task: str
    labelled: int
    judged: int
    best: float
    choices: tuple[Choice, ...]
    top_missing: bool = False


def offered(benchmark: Benchmark, split: str, limits: Limits) -> list[Candidate]:
    """Return the benchmark's architectures of a split (or `all`) within limits, in the benchmark's order.

    Raises:
        SearchError: there are none, or the benchmark does not say the size that is limited. Where an upper bound is
            below the smallest architecture, the message names that architecture's size.
    """
    if split not in OFFERS:
        raise SearchError(f"split is '{split:.40}'; it must be one of {', '.join(OFFERS)}")
    structure, missing = benchmark.structure(), np.full(len(benchmark), np.nan)
    known_of = {name: structure.get(name, missing).tolist() for name in STRUCTURE}
    for fact, low, high in limits.bounds():
        if (low or high) and np.isnan(structure.get(fact, missing)).all():
            raise SearchError(f"benchmark {benchmark.name} does not say the {fact} of its architectures: no limits")
    indices = np.arange(len(benchmark)) if split == "all" else benchmark.splits()[split]
    architectures = {int(i): benchmark.architectures[i] for i in indices}
    candidates = [
        Candidate(arch, benchmark.key(arch), **{name: values[i] for name, values in known_of.items()})
        for i, arch in architectures.items()
    ]
    sizes = {fact: np.array([getattr(each, fact) for each in candidates]) for fact, _, _ in limits.bounds()}
    known = {fact: values[~np.isnan(values)] for fact, values in sizes.items()}
    limits.check(
        f"benchmark {benchmark.name} ({split})", {f: float(v.min()) if len(v) else np.nan for f, v in known.items()}
    )
    within = [candidate for candidate in candidates if not limits.violation(candidate)]
    if not within:
        raise SearchError(f"no architecture of benchmark {benchmark.name} ({split}) has {limits}; widen the limits")
    return within


def search_benchmark(
    benchmark: Benchmark,
    proxy: ProxyLike | Sequence[ProxyLike],
    settings: SearchSettings,
    *,
    split: str = "all",
    batch: Batch | None = None,
    workers: Workers = 1,
    device: str = CPU,
    latency: LatencySetup | None = None,
    stored: Sequence[StoredScore] = (),
    on_scored: Callable[[Candidate], None] = lambda candidate: None,
    on_progress: Callable[[SearchProgress], None] = lambda progress: None,
) -> SearchResult:
    """Score `settings.budget` of the benchmark's architectures, or all, in an order drawn by `settings.seed`.

    The only strategy is `random`: hardly any mutant of an architecture is in the benchmark too. The other arguments
    are those of `search`. A formula that reads columns is scored from the table. A tabular benchmark has no networks:
    there, a formula may read its columns, and what the table has of params, FLOPs, activations, depth and width.

    Raises:
        SearchError: the strategy is another one, nothing is within the limits, or the proxy has no score here.
        BenchmarkError: a formula reads columns, and something that the table does not have.
        ProxyError: no such proxy is found.
        FormulaError: a formula cannot be read.
    """
    batch = batch or Batch()
    order = check_benchmark(benchmark, proxy, settings, split, batch)
    Random(f"search/{settings.seed}").shuffle(order)

    def propose(history: Sequence[Candidate]) -> list[Candidate]:
        return order[len(history) : len(history) + DRAWN_TOGETHER]

    budget = min(settings.budget, len(order))
    space = None if benchmark.space is None else get_space(benchmark.space)

    with ExitStack() as stack:

        def scorer_of(found: AnyProxy) -> CandidateScorer:
            if found.as_formula is not None and reads_columns(found):
                return table_scorer(benchmark, found.as_formula)
            return network_scorer(stack, found, space, benchmark.spec, batch, workers, device)

        chosen = voting_scorer([scorer_of(found) for found in as_proxies(proxy, batch)])
        if settings.measures_latency and space is not None and benchmark.spec is not None:
            clock = Clock(space, benchmark.spec, latency or LatencySetup())
            chosen = timed_scorer(chosen, clock, settings.limits.max_latency)
        return score_proposals(propose, chosen, budget, stored, on_scored, on_progress)


def check_benchmark(
    benchmark: Benchmark,
    proxy: ProxyLike | Sequence[ProxyLike],
    settings: SearchSettings,
    split: str,
    batch: Batch,
) -> list[Candidate]:
    """Return the architectures that `search_benchmark` would score, or raise what it would raise before it scores."""
    if settings.strategy != "random":
        raise SearchError(f"on a benchmark the strategy is random, not {settings.strategy}: mutants are not in it")
    for found in as_proxies(proxy, batch):
        _check_computable(benchmark, found)
    _check_objectives(benchmark, settings)
    if benchmark.spec is not None:
        batch.check(benchmark.spec)
    return offered(benchmark, split, settings.limits)


def _check_objectives(benchmark: Benchmark, settings: SearchSettings) -> None:
    """Check that the benchmark has what the objectives need.

    Raises:
        SearchError: it has no networks whose latency could be measured, or does not say a size.
    """
    if settings.measures_latency and benchmark.space is None:
        raise SearchError(f"benchmark {benchmark.name} is tabular: it has no networks whose latency could be measured")
    for name in settings.objectives:
        if name in STRUCTURE and name not in benchmark.structure():
            raise SearchError(f"benchmark {benchmark.name} does not say the {name} of its architectures: no objective")


def _check_computable(benchmark: Benchmark, proxy: AnyProxy) -> None:
    """Check that the proxy can be computed on the benchmark, which may have no networks or lack a column.

    Raises:
        SearchError: the benchmark is tabular, and the proxy needs a network or a number that the table lacks.
        BenchmarkError: a formula reads columns, and something that the table does not have.
    """
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


def of_one_network(benchmark: Benchmark, patterns: Sequence[str]) -> Benchmark:
    """Return the benchmark with those tasks only that share the network of the tasks named by `patterns`.

    Tasks with different input have networks of their own, and a search builds one network for each architecture.

    Raises:
        SearchError: the named tasks have different networks.
        BenchmarkError: a pattern names no task.
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
    """Return, for each task, what the proxy's choice is worth beside the choices by size and by chance.

    `result` is that of `search_benchmark` with the same benchmark, settings and split.
    """
    keys = {candidate.key for candidate in offered(benchmark, split, settings.limits)}
    ranked = result.ranked
    return tuple(_verdict(benchmark, keys, ranked, task) for task in tasks)


def _verdict(benchmark: Benchmark, keys: set[str], ranked: Sequence[Candidate], task: str) -> Verdict:
    pairs = zip(benchmark.architectures, benchmark.tasks[task], strict=True)
    by_key = ((benchmark.key(arch), float(accuracy)) for arch, accuracy in pairs)
    accuracy = {key: a for key, a in by_key if key in keys and not np.isnan(a)}
    if not accuracy:
        return Verdict(task, 0, 0, float("nan"), ())
    everything = np.array(list(accuracy.values()))
    judged = [candidate for candidate in ranked if candidate.key in accuracy and candidate.score is not None]

    def choice(by: str, first: Sequence[float] | np.ndarray, tied: int) -> Choice:
        rank = float(np.mean([1 + np.sum(everything > a) for a in first]))
        return Choice(by, float(np.mean(first)), rank, float(everything.max() - np.mean(first)), tied)

    choices = [choice("chance", everything, 1)]
    for by, worth in (("params", _params), ("proxy", _fitness)) if judged else ():
        highest = max(map(worth, judged))
        first = [accuracy[candidate.key] for candidate in judged if worth(candidate) == highest]
        choices.append(choice(by, first, len(first)))
    top_missing = bool(ranked) and ranked[0].key not in accuracy
    return Verdict(task, len(accuracy), len(judged), float(everything.max()), tuple(reversed(choices)), top_missing)


def _params(candidate: Candidate) -> float:
    return -np.inf if np.isnan(candidate.params) else candidate.params


def _fitness(candidate: Candidate) -> float:
    return candidate.fitness
