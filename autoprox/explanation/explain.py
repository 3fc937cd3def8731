"""Explain: scores of a proxy, of its parts, and of what is left without them, on the networks of a benchmark."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from autoprox.bench_cache.benchmarks.table import STRUCTURE, Benchmark
from autoprox.bench_cache.benchmarks.tasks import task_names
from autoprox.bench_cache.rank_correlation import kendall, mean_ranks
from autoprox.bench_cache.statistics.columns import known
from autoprox.explanation.explained import (
    IN_ONE_NUMBER,
    SPLITS,
    Example,
    Explained,
    ExplainedPart,
    Numbers,
    Without,
    mean_of,
)
from autoprox.explanation.leave_out import LeftOut, leave_outs
from autoprox.primitives import OPERATIONS, Formula, apply
from autoprox.primitives.words import Part, parts_of
from autoprox.proxy import Proxy
from autoprox.rank.plan import Ranked, RankPlan
from autoprox.rank.scores import compute
from autoprox.rank.stats import FEWEST, ScoreTable
from autoprox.scoring import AnyProxy

#: The name of the proxy's own row.
_WHOLE = "score"


class ExplainError(ValueError):
    """An explanation that cannot be: its architectures or settings do not fit the benchmark; one line says why."""


@dataclass(frozen=True)
class Setting:
    """On what a proxy is explained.

    `tasks` are names or patterns; none means all. `examples` are the numbers of two or more architectures; none means
    the ones with the lowest and the highest accuracy, by their mean rank over the tasks. `sample` draws so many
    architectures of evolve and validation. The networks run on `batch` samples; `seed` gives their weights.
    """

    tasks: tuple[str, ...] = ()
    examples: tuple[int, ...] = ()
    sample: int | None = None
    batch: int = 2
    seed: int = 0


def explain(
    proxy: AnyProxy,
    benchmark: Benchmark,
    setting: Setting,
    *,
    workers: int = 1,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
) -> Explained:
    """Explain a proxy on the evolve and validation splits of a benchmark.

    Raises:
        ExplainError: there are too few architectures, no architecture has the number of an example, or the benchmark
            has no networks and not what the proxy reads.
        BenchmarkError: a pattern names no task.
        RankError: the benchmark's images are fewer than the batch.
        WorkerError: a worker process died.
    """
    _check_computable(proxy, benchmark)
    tasks = task_names(benchmark, setting.tasks)
    splits = _looked_at(benchmark, tasks, setting)
    examples = setting.examples or _worst_and_best(benchmark, tasks, splits)
    formula = proxy.as_formula
    parts = () if formula is None else parts_of(formula)
    left = leave_outs(parts) if parts else ()
    architectures = sorted({*(i for indices in splits.values() for i in indices), *examples})
    plan = RankPlan(
        benchmark, tasks, tuple(_rows(proxy, parts, left)), tuple(architectures), batch=setting.batch, seed=setting.seed
    )
    scores = _Scores(benchmark, plan, compute(plan, workers=workers, on_progress=on_progress).table, splits, examples)
    whole = scores.numbers(plan.proxies[0].name)
    without = [_without(each, whole, scores.numbers(f"without {each.what}")) for each in left]
    return Explained(
        proxy=proxy,
        benchmark=benchmark.name,
        tasks=tasks,
        batch=setting.batch,
        seed=setting.seed,
        counts={split: len(indices) for split, indices in splits.items()},
        examples=tuple(_example(benchmark, tasks, splits, number) for number in examples),
        whole=whole,
        parts=tuple(
            ExplainedPart(part, IN_ONE_NUMBER[part.formula.kind.level], scores.numbers(part.name)) for part in parts
        ),
        without=tuple(sorted(without, key=lambda each: -np.nan_to_num(each.cost, nan=-9.0))),
    )


def _check_computable(proxy: AnyProxy, benchmark: Benchmark) -> None:
    """Check that what the proxy reads is there: networks, or for a formula of columns, all of it in the table."""
    formula = proxy.as_formula
    terminals = () if formula is None else formula.terminals()
    if benchmark.space is not None and not any(terminal.statistic.column for terminal in terminals):
        return
    there = known(benchmark)
    missing = [str(terminal) for terminal in terminals if str(terminal) not in there]
    if formula is None or missing:
        lacking = missing[0] if missing else "networks to run a function on"
        raise ExplainError(
            f"the table of {benchmark.name} does not have {lacking}; name another --bench, or a formula of "
            f"{', '.join(there)}"
        )


def _without(left: LeftOut, whole: Numbers, numbers: Numbers) -> Without:
    cost = whole.accuracy["evolve"] - numbers.accuracy["evolve"]
    return Without(left.what, left.formula.text, left.formula.size, numbers, cost)


def _looked_at(benchmark: Benchmark, tasks: Sequence[str], setting: Setting) -> dict[str, list[int]]:
    """Return the architectures of each split that have an accuracy on any of the tasks, or a sample of them."""
    labelled = ~np.all([np.isnan(benchmark.tasks[task]) for task in tasks], axis=0)
    splits = {split: [int(i) for i in benchmark.splits()[split] if labelled[i]] for split in SPLITS}
    together = [i for indices in splits.values() for i in indices]
    if setting.sample is not None:
        if not 2 * FEWEST <= setting.sample <= len(together):
            raise ExplainError(
                f"sample is {setting.sample}; it must be from {2 * FEWEST} to {len(together)}, the number of "
                f"architectures of evolve and validation of {benchmark.name} that have an accuracy"
            )
        drawn = set(Random(setting.seed).sample(together, setting.sample))
        splits = {split: [i for i in indices if i in drawn] for split, indices in splits.items()}
    if len(splits["evolve"]) < FEWEST:
        raise ExplainError(
            f"{benchmark.name} has {len(splits['evolve'])} architectures with an accuracy in its evolve split; an "
            f"explanation needs {FEWEST}"
        )
    outside = [number for number in setting.examples if not 0 <= number < len(benchmark)]
    if outside:
        raise ExplainError(
            f"no architecture of {benchmark.name} has the number {outside[0]}; they count from 0 to "
            f"{len(benchmark) - 1}"
        )
    return splits


def _worst_and_best(benchmark: Benchmark, tasks: Sequence[str], splits: Mapping[str, Sequence[int]]) -> tuple[int, ...]:
    at = [i for indices in splits.values() for i in indices]
    ranks = np.array([mean_ranks(benchmark.tasks[task][at]) for task in tasks])
    mean = np.where(np.isnan(ranks), np.nanmean(ranks), ranks).mean(axis=0)
    return at[int(mean.argmin())], at[int(mean.argmax())]


def _rows(proxy: AnyProxy, parts: Sequence[Part], left: Sequence[LeftOut]) -> list[Ranked]:
    """Return what is scored: the proxy, one number for each part, and the formulas that are left without them."""
    if not parts:
        return [proxy]
    rows: list[Ranked] = [Proxy(parts[-1].formula, _WHOLE)]
    rows += [Proxy(_one_number(part.formula), part.name) for part in parts]
    return [*rows, *(Proxy(each.formula, f"without {each.what}") for each in left)]


def _one_number(formula: Formula) -> Formula:
    """Return a part as one number for the network, see `IN_ONE_NUMBER`."""
    steps = {"matrix": ("l1_mean", "mean"), "layer": ("mean",), "net": ()}[formula.kind.level]
    for step in steps:
        formula = apply(OPERATIONS[step], formula)
    return formula


def _example(benchmark: Benchmark, tasks: Sequence[str], splits: Mapping[str, Sequence[int]], number: int) -> Example:
    looked_at = any(number in indices for indices in splits.values())
    structure = {name: float(values[number]) for name, values in benchmark.structure().items()}
    accuracies = {task: float(benchmark.tasks[task][number]) for task in tasks} if looked_at else {}
    return Example(number, structure, accuracies)


@dataclass(frozen=True)
class _Scores:
    """The scores of all rows, and what they are compared with."""

    benchmark: Benchmark
    plan: RankPlan
    table: ScoreTable
    splits: Mapping[str, Sequence[int]]
    examples: Sequence[int]

    def numbers(self, name: str) -> Numbers:
        """Return the numbers of a row."""
        row, place = self.table.proxies.index(name), {i: n for n, i in enumerate(self.plan.architectures)}
        of_task = {task: scores[row] for task, scores in self.table.scores.items()}
        at = {split: [place[i] for i in indices] for split, indices in self.splits.items()}
        first, together = of_task[self.plan.tasks[0]], [n for places in at.values() for n in places]
        facts = self.benchmark.structure()
        tasks = {
            split: {task: _tau(of_task[task][places], self.table.accuracies[task][places]) for task in self.plan.tasks}
            for split, places in at.items()
        }
        return Numbers(
            values=tuple(float(first[place[number]]) for number in self.examples),
            structure={
                fact: _tau(first[together], facts[fact][[self.plan.architectures[n] for n in together]])
                for fact in STRUCTURE
                if fact in facts
            },
            accuracy={split: mean_of(list(taus.values())) for split, taus in tasks.items()},
            tasks=tasks,
        )


def _tau(scores: np.ndarray, others: np.ndarray) -> float:
    """Return Kendall's tau-b where both are there; NaN where either is constant or fewer than 3 are there."""
    there = ~np.isnan(scores)
    return kendall(scores[there], others[there])
