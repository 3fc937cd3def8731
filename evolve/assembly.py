"""Assembly: the judge and the grammar of an evolution, made of its settings and benchmarks."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from autoprox.bench_cache.benchmarks.table import SPLITS, Benchmark
from autoprox.bench_cache.benchmarks.task_input import Network
from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.bench_cache.runtime.devices import CPU
from autoprox.bench_cache.runtime.home import statistics_home
from autoprox.bench_cache.spaces.registry import LISTED, get_space
from autoprox.bench_cache.statistics.columns import TabularScorer, common_statistics
from autoprox.bench_cache.statistics.protocol import Scorer
from autoprox.bench_cache.statistics.scorer import are_small, network_scorer
from autoprox.evolve.fitness import Judge, Task, fitted_to
from autoprox.evolve.grammar import TABULAR, Grammar, grammar, tabular
from autoprox.evolve.joint import COMBINATIONS
from autoprox.evolve.refinements import REFINEMENTS
from autoprox.evolve.settings import EXACT, EvolutionSettings, SettingsError
from autoprox.primitives.formula import Formula, apply, statistic
from autoprox.primitives.operations import OPERATIONS, Vocabulary

#: What is set where nothing is said and the networks of every benchmark are small and of one size.
OF_ONE_SIZE: Mapping[str, Any] = MappingProxyType(
    {"batch": 16, "costly": True, "refine": "sums", "founders": 10, "generations": 60}
)


def defaults(grammar: str, benchmarks: Sequence[Benchmark]) -> Mapping[str, Any]:
    """Return the settings that follow from the networks, where nothing is said: `OF_ONE_SIZE`, or none.

    What ranks networks of one size are ranks and patterns over samples, which need several samples and spectra. Where
    sizes differ they cost much and find no better formulas (docs/results.md); of large networks they would take hours.
    """
    if grammar != "typed" or any(each.space is None or each.space in LISTED for each in benchmarks):
        return {}
    params = [_params(each, network) for each in benchmarks for network in each.networks()]
    one_size = all(are_small(sizes) and sizes.min() == sizes.max() for sizes in params)
    return OF_ONE_SIZE if one_size else {}


def _params(benchmark: Benchmark, network: Network) -> np.ndarray:
    """Return the parameters of the architectures, built for one input of the benchmark."""
    return benchmark.structure(network.spec or benchmark.spec)["params"]


def check_grammar(settings: EvolutionSettings, benchmarks: Sequence[Benchmark]) -> None:
    """Check that the grammar goes with the benchmarks, and the other settings with the grammar.

    Raises:
        BenchmarkError: the grammar reads networks, and a benchmark is a table or a list of networks of many kinds; or
            it reads tables, and these have no column in common.
        SettingsError: a setting is about running networks, and the grammar runs none.
    """
    if REFINEMENTS[settings.refine].sums and settings.grammar not in (TABULAR, "typed"):
        raise SettingsError(
            f"the grammar {settings.grammar} has no weighted sums; leave out --refine {settings.refine}"
        )
    if settings.grammar == TABULAR:
        common_statistics(benchmarks)
        unread = {"steps": 0, "device": CPU, "fitness": EXACT}
        others = [f"--{name}" for name, default in unread.items() if getattr(settings, name) != default]
        if settings.costly or settings.batch != EvolutionSettings.batch or others:
            *options, last = ["--costly", "--batch", *others]
            raise SettingsError(f"--grammar tabular runs no networks; leave out {', '.join(options)} and {last}")
        return
    for benchmark in benchmarks:
        if benchmark.space is not None and benchmark.space in LISTED:
            raise BenchmarkError(
                f"the networks of benchmark {benchmark.name} are of many kinds, and evolution reads the same "
                "statistics of all: use --grammar tabular, or compare proxies with `autoprox rank`"
            )
        if benchmark.space is None:
            raise BenchmarkError(
                f"benchmark {benchmark.name} is tabular: its networks cannot be built and probed; "
                "use --grammar tabular, which combines the columns of its table"
            )


def check_fitness(settings: EvolutionSettings, evolved: Sequence[Benchmark]) -> None:
    """Check that fitness of samples has something to sample: of small networks it is exact anyway.

    Raises:
        SettingsError: the networks of all tasks to evolve on are small.
    """
    if settings.sampled and all(are_small(_params(*each)) for each in _networks(settings, evolved)):
        raise SettingsError(
            f"the networks of {' and '.join(each.name for each in evolved)} are small, and their matrices are read "
            "whole; leave out --fitness sampled"
        )


def check_joint(settings: EvolutionSettings, benchmarks: Sequence[Benchmark], tasks: Sequence[Task]) -> None:
    """Check that the joint fitness goes with the tasks.

    Raises:
        BenchmarkError: it is given structure, and none can be fitted to a task.
    """
    if COMBINATIONS[settings.joint].given_structure:
        for task in tasks:
            for split in SPLITS[:2]:
                fitted_to(benchmarks[task.benchmark], task.name, split)


def own_operations(operations: Vocabulary) -> tuple[str, ...]:
    """Return the names of the vocabulary's operations that are not built in.

    Raises:
        SettingsError: a built-in operation is missing, or another operation has its name.
    """
    for name, operation in OPERATIONS.items():
        if not operations.has(operation):
            raise SettingsError(
                f"the vocabulary has no built-in operation '{name}'; make it with OPERATIONS.extended(...)"
            )
    return tuple(name for name in operations if name not in OPERATIONS)


def check_operations(settings: EvolutionSettings, benchmarks: Sequence[Benchmark], operations: Vocabulary) -> None:
    """Check that the grammar can write every operation that is not built in.

    Raises:
        SettingsError: the grammar has no place for one of them.
    """
    if not settings.own_operations:
        return
    written = assembled_grammar(settings, benchmarks, operations)
    for name in settings.own_operations:
        if not written.uses(name):
            left_out = operations[name].costly and not settings.costly
            fix = "start with costly=True" if left_out else "start with another grammar, or without the operation"
            raise SettingsError(f"the grammar {settings.grammar} does not use the operation '{name}'; {fix}")


def check_sendable(operations: Vocabulary) -> None:
    """Check that the operations that are not built in can be sent to worker processes.

    Raises:
        SettingsError: the function of one cannot be found again by its name.
    """
    for name in own_operations(operations):
        try:
            pickle.dumps(operations[name])
        except (pickle.PicklingError, AttributeError, TypeError):
            raise SettingsError(
                f"the operation '{name}' cannot be sent to worker processes; define its function at the top level of "
                "a module, or run with one worker"
            ) from None


def assembled_grammar(
    settings: EvolutionSettings, benchmarks: Sequence[Benchmark], operations: Vocabulary = OPERATIONS
) -> Grammar:
    """Return the grammar that the settings name, over what the benchmarks' networks or tables have.

    Its draws depend on the order of the operations: the built-in ones come first, in their own order.
    """
    ordered = {**OPERATIONS, **operations}
    if settings.grammar == TABULAR:
        return tabular(common_statistics(benchmarks), ordered)
    kinds = {get_space(benchmark.space).convolutional for benchmark in benchmarks if benchmark.space}
    probe = probe_of(settings, benchmarks)
    return grammar(
        settings.grammar,
        ordered,
        costly=settings.costly,
        probe=probe,
        steps=settings.steps,
        convolutional=sorted(kinds),
    )


def assembled_judge(settings: EvolutionSettings, benchmarks: Sequence[Benchmark], pool: Executor | None) -> Judge:
    """Return the judge of the settings' tasks, whose networks run in the pool; without one, in this process."""
    scorers = [_scorer(settings, benchmark, network, pool) for benchmark, network in _networks(settings, benchmarks)]
    numbers = {benchmark.name: number for number, benchmark in enumerate(benchmarks)}
    places = (text.split(":", 1) for text in settings.tasks)
    tasks = [Task(numbers[name], task, weight) for (name, task), weight in zip(places, settings.weights, strict=True)]
    return Judge(scorers, tasks, settings.joint, sampled=settings.sampled)


def held_out_judge(settings: EvolutionSettings, benchmarks: Sequence[Benchmark], pool: Executor | None) -> Judge | None:
    """Return the judge of the tasks that evolution never sees, as `assembled_judge` does; None where there are none."""
    if not settings.held_out:
        return None
    names = {task.split(":", 1)[0] for task in settings.held_out}
    of_them = replace(settings, tasks=settings.held_out, weights=(), held_out=(), joint=EvolutionSettings.joint)
    return assembled_judge(of_them, [benchmark for benchmark in benchmarks if benchmark.name in names], pool)


def _scorer(settings: EvolutionSettings, benchmark: Benchmark, network: Network, pool: Executor | None) -> Scorer:
    if settings.grammar == TABULAR:
        return TabularScorer(benchmark, network=network)
    root, kept = statistics_home(), benchmark.splits()["evolve"]  # fitness is judged on that split
    how: dict[str, Any] = {"batch": settings.batch, "device": settings.device, "executor": pool}
    return network_scorer(benchmark, root, network=network, kept=kept, sampled=settings.sampled, **how)


def probe_of(settings: EvolutionSettings, benchmarks: Sequence[Benchmark]) -> str:
    """Return the probe that evolution reads: `data` where the networks of all its tasks have images, else `noise`."""
    return "data" if all(network.input for _, network in _networks(settings, benchmarks)) else "noise"


def _networks(settings: EvolutionSettings, benchmarks: Sequence[Benchmark]) -> list[tuple[Benchmark, Network]]:
    """Return the networks of the settings' tasks; of all tasks, where the settings name none yet."""
    return [
        (benchmark, network)
        for benchmark in benchmarks
        for network in benchmark.networks()
        if not settings.tasks or any(f"{benchmark.name}:{task}" in settings.tasks for task in network.tasks)
    ]


def kept_statistics(written: Grammar) -> list[Formula]:
    """Return a formula for each statistic that is built before evolution and kept; a table has everything already."""
    return [_reading(name, probe) for name, probe in written.matrices]


def _reading(name: str, probe: str) -> Formula:
    """Return a formula that reads this statistic of all layers."""
    return apply(OPERATIONS["sum"], apply(OPERATIONS["sum"], statistic(name, *filter(None, [probe]))))
