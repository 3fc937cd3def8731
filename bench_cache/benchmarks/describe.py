"""Describe: facts of a benchmark to know before evolving on it, and a test whether its labels belong to it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from types import MappingProxyType
from typing import Any

import numpy as np

from autoprox.bench_cache.benchmarks.chance import chance_level, trainable
from autoprox.bench_cache.benchmarks.groups import WithinTau, within_tau
from autoprox.bench_cache.benchmarks.reliability import Reliability, reliability
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.benchmarks.task_input import Network
from autoprox.bench_cache.rank_correlation import mean_ranks, tau_b
from autoprox.bench_cache.runtime.checks import is_number
from autoprox.bench_cache.spaces.registry import InputSpec

ALPHA = 0.001
PERMUTATIONS = 4999
FEWEST = 20  # with fewer architectures, only a perfect relation could be told from chance
_CHUNK = 2**19  # shuffled labels in memory at once
_STAGES = 4  # a gene that has at most so many values in every architecture becomes one feature a stage


@dataclass(frozen=True)
class StructureCheck:
    """Whether anything in the architectures explains a task's accuracies; see `check_structure`.

    Attributes:
        architectures: the number of labelled ones.
        strongest: the structural feature that correlates most with accuracy; "" if there is none.
        rho: Spearman's correlation of the two; 0 where `strongest` is "".
        r2: the share of the variance of the accuracies' ranks that all features explain together.
        p_value: the chance that shuffled labels look at least as well explained; 1 if the labels are constant.
    """

    architectures: int
    strongest: str
    rho: float
    r2: float
    p_value: float

    @property
    def verdict(self) -> str:
        """One of `explained`, `unexplained`, and `too few` (architectures to tell)."""
        if self.architectures < FEWEST:
            return "too few"
        return "explained" if self.p_value <= ALPHA else "unexplained"


@dataclass(frozen=True)
class TrainableFacts:
    """The architectures of a task that do better than chance; see `chance.trainable`.

    Attributes:
        chance: the accuracy of a guess, in percent.
        untrainable: how many architectures do not do better.
        splits: how many of each split do.
        halves: `Reliability.halves` over the trainable ones; NaN where single seeds are not known.
    """

    chance: float
    untrainable: int
    splits: Mapping[str, int]
    halves: float


@dataclass(frozen=True)
class TaskFacts:
    """The facts of one task.

    Attributes:
        task: its name.
        labelled, missing: the numbers of architectures with and without an accuracy.
        lowest, median, highest: accuracies in percent, NaN if no architecture has one.
        distinct: the number of different accuracies.
        tied: the number of architectures that share their accuracy with another.
        splits: the number of labelled architectures of each split.
        tau: Kendall's tau-b of the accuracy with each size in the structure; NaN where one of the two is constant.
        within: by what is grouped, that tau within the benchmark's groups, for each size; see `within_tau`.
        check: whether the labels belong to their architectures.
        reliability: that of the labels; None where the accuracies of single seeds are not known.
        trainable: which of them are trainable; None where chance is not known.
    """

    task: str
    labelled: int
    missing: int
    lowest: float
    median: float
    highest: float
    distinct: int
    tied: int
    splits: Mapping[str, int]
    tau: Mapping[str, float]
    within: Mapping[str, Mapping[str, WithinTau]]
    check: StructureCheck
    reliability: Reliability | None
    trainable: TrainableFacts | None

    @property
    def warning(self) -> str | None:
        """What is suspicious about the labels, as one line; None if nothing is."""
        check = self.check
        if self.distinct < 2:
            return f"{self.task}: {'all accuracies are equal' if self.labelled else 'no architecture has an accuracy'}"
        if check.verdict != "unexplained":
            return None
        return (
            f"{self.task}: nothing structural explains it (closest: {check.strongest or 'nothing'}, "
            f"ρ = {check.rho:.2f}; all together R² = {check.r2:.2f}; p = {check.p_value:.2g}). Labels shuffled against "
            f"their architectures look like this, and so does pure noise: check its source before evolving on it."
        )


@dataclass(frozen=True)
class Description:
    """The facts of a benchmark.

    They are the sizes of its splits, the facts of each task, tau-b of each pair of tasks, the networks of those tasks
    that come with images, and its data card.
    """

    name: str
    space: str | None
    spec: InputSpec | None
    source: str
    architectures: int
    splits: Mapping[str, int]
    tasks: tuple[TaskFacts, ...]
    tau_between: Mapping[tuple[str, str], float]
    with_images: tuple[Network, ...]
    card: Mapping[str, Any]

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warnings of all tasks."""
        return tuple(facts.warning for facts in self.tasks if facts.warning)


def describe(benchmark: Benchmark) -> Description:
    """Return the facts of a benchmark; they are the same each time."""
    splits, features = benchmark.splits(), structural_features(benchmark)
    structures = {task: benchmark.structure(network.spec) for network in benchmark.networks() for task in network.tasks}
    tasks = []
    for task, accuracy in benchmark.tasks.items():
        there = ~np.isnan(accuracy)
        labels = accuracy[there]
        _, counts = np.unique(labels, return_counts=True)
        lowest, median, highest = np.quantile(labels, (0, 0.5, 1)) if len(labels) else (np.nan,) * 3
        tasks.append(
            TaskFacts(
                task=task,
                labelled=len(labels),
                missing=int(np.sum(~there)),
                lowest=float(lowest),
                median=float(median),
                highest=float(highest),
                distinct=len(counts),
                tied=int(counts[counts > 1].sum()),
                splits=MappingProxyType({split: int(there[rows].sum()) for split, rows in splits.items()}),
                tau=MappingProxyType({fact: _tau(values, accuracy) for fact, values in structures[task].items()}),
                within=MappingProxyType(
                    {
                        group: {fact: within_tau(values, accuracy, of) for fact, values in structures[task].items()}
                        for group, of in benchmark.groups.items()
                    }
                ),
                check=check_structure(labels, {name: values[there] for name, values in features.items()}),
                reliability=reliability(benchmark.seeds[task]) if task in benchmark.seeds else None,
                trainable=_trainable_facts(benchmark, task),
            )
        )
    return Description(
        name=benchmark.name,
        space=benchmark.space_name,
        spec=benchmark.spec,
        source=benchmark.source,
        architectures=len(benchmark),
        splits=MappingProxyType({split: len(rows) for split, rows in splits.items()}),
        tasks=tuple(tasks),
        tau_between=MappingProxyType(
            {(a, b): _tau(benchmark.tasks[a], benchmark.tasks[b]) for a, b in combinations(benchmark.tasks, 2)}
        ),
        with_images=tuple(network for network in benchmark.networks() if network.input is not None),
        card=benchmark.card,
    )


def _trainable_facts(benchmark: Benchmark, task: str) -> TrainableFacts | None:
    chance, learnt = chance_level(benchmark, task), trainable(benchmark, task)
    if chance is None or learnt is None:
        return None
    labelled = int(np.sum(~np.isnan(benchmark.tasks[task])))
    splits = {split: int(learnt[rows].sum()) for split, rows in benchmark.splits().items()}
    halves = reliability(benchmark.seeds[task][learnt]).halves if task in benchmark.seeds else math.nan
    return TrainableFacts(chance, labelled - int(learnt.sum()), MappingProxyType(splits), halves)


def structural_features(benchmark: Benchmark) -> dict[str, np.ndarray]:
    """Return what is known of every architecture without building it, by name, each of shape (architectures,).

    That is `Benchmark.structure`, and the genes that are numbers. A gene with one number is one feature. A gene with a
    number for each stage is one feature a stage. A gene with a number for each layer is two: their mean and their sum.
    """
    genes = [benchmark.genes(arch) for arch in benchmark.architectures]
    features = dict(benchmark.structure())
    for gene in genes[0]:
        lists: list[list[Any]] = [
            list(value) if isinstance(value := arch.get(gene), list | tuple) else [value] for arch in genes
        ]
        if not all(values and all(map(is_number, values)) for values in lists):
            continue
        lengths = {len(values) for values in lists}
        if lengths == {1}:
            features[gene] = np.array(lists, dtype=np.float64)[:, 0]
        elif len(lengths) == 1 and lengths <= set(range(_STAGES + 1)):
            stages = np.array(lists, dtype=np.float64).T
            features |= {f"{gene}[{stage}]": values for stage, values in enumerate(stages)}
        else:
            features[f"mean {gene}"] = np.array([np.mean(values) for values in lists])
            features[f"sum {gene}"] = np.array([np.sum(values) for values in lists])
    return features


def check_structure(labels: np.ndarray, features: Mapping[str, np.ndarray]) -> StructureCheck:
    """Test whether labels belong to their architectures: a permutation test of two statistics on ranks.

    `labels` are accuracies, float64 of shape (n,), none missing; `features` are named arrays of the same shape. With r
    the ranks of the labels, and f those of a feature, both centred and of unit length:

        s₁ = max_f |r · f|  over the features, and over each one's distance from its median rank (a best in the middle)
        s₂ = ‖Qᵀ r‖²        with Q an orthonormal basis of the features: R² of the best linear fit

    s₁ sees one gene that matters alone; s₂ sees several that matter together. Each is compared with its values on
    `PERMUTATIONS` shuffles of the labels: p = (1 + the number of values at least as large) / (1 + `PERMUTATIONS`). The
    reported p is twice the smaller of the two (Bonferroni). If the labels are shuffled, p ≤ `ALPHA` in at most `ALPHA`
    of the cases, whatever the ties: one shuffled column in a thousand escapes.

    The other error is a warning about labels that are right. How often it happens depends on how strong the relation
    is, and on how many architectures there are. Measured on the public tasks: with 100 architectures or more, no task
    with a correlation above .45 is warned of. With 50 drawn from those 100, no task with a correlation above .6 is
    warned of, but nine in ten with a correlation of .46 are. So a task of a small benchmark that is real but weak is
    warned of too, and the warning claims no more than that.
    """
    columns = {name: unit for name, values in features.items() if (unit := _unit_ranks(values)) is not None}
    ranks = _unit_ranks(labels)
    if ranks is None or not columns:
        return StructureCheck(len(labels), "", 0.0, 0.0, 1.0)
    each = np.stack(list(columns.values()))
    r2, p_value = _permutation_test(ranks, each)
    correlations = each @ ranks
    strongest = int(np.argmax(np.abs(correlations)))
    return StructureCheck(
        architectures=len(labels),
        strongest=list(columns)[strongest],
        rho=float(correlations[strongest]),
        r2=r2,
        p_value=p_value,
    )


def _permutation_test(ranks: np.ndarray, each: np.ndarray) -> tuple[float, float]:
    """Return s₂ and the p-value of `check_structure`; `each` has the unit ranks of one feature a row."""
    folded = [unit for column in each if (unit := _unit_ranks(np.abs(column - np.median(column)))) is not None]
    single = np.stack([*each, *folded])
    _, sizes, basis = np.linalg.svd(each, full_matrices=False)
    basis = basis[sizes > 1e-9 * sizes[0]]

    def statistics(rows: np.ndarray) -> np.ndarray:
        return np.stack([np.abs(rows @ single.T).max(axis=1), np.square(rows @ basis.T).sum(axis=1)])

    found = statistics(ranks[None])
    larger = np.zeros(2, dtype=int)
    rng = np.random.default_rng(0)
    for count in _chunks(PERMUTATIONS, max(1, _CHUNK // len(ranks))):
        shuffled = rng.permuted(np.tile(ranks, (count, 1)), axis=1)
        larger += (statistics(shuffled) >= found - 1e-12).sum(axis=1)
    return float(found[1, 0]), min(1.0, 2 * (1 + int(larger.min())) / (1 + PERMUTATIONS))


def _unit_ranks(values: np.ndarray) -> np.ndarray | None:
    """Return the ranks, with ties averaged, centred and of unit length; None if all values are equal."""
    ranks = mean_ranks(values) if len(values) else np.zeros(0)
    centred = ranks - ranks.mean() if len(ranks) else ranks
    length = np.linalg.norm(centred)
    return centred / length if length > 0 else None


def _chunks(total: int, size: int) -> list[int]:
    """Return the sizes of the parts of `total` things, taken `size` at a time."""
    return [min(size, total - start) for start in range(0, total, size)]


def _tau(a: np.ndarray, b: np.ndarray) -> float:
    """Return Kendall's tau-b over the architectures that have both values; NaN where it is undefined."""
    both = ~(np.isnan(a) | np.isnan(b))
    return tau_b(a[both], b[both])
