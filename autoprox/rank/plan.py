"""Rank plan: what is ranked by what: architectures, tasks, proxies, and what their networks run on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from random import Random
from types import MappingProxyType
from typing import Any

import numpy as np

from autoprox import __version__
from autoprox.bench_cache.benchmarks.table import SPLITS, STRUCTURE, Benchmark
from autoprox.bench_cache.benchmarks.task_input import TaskInput
from autoprox.bench_cache.benchmarks.tasks import task_names
from autoprox.bench_cache.runtime.checks import quoted
from autoprox.bench_cache.statistics.version import statistics_version
from autoprox.primitives import parse
from autoprox.proxy import Proxy
from autoprox.rank.network import NetworkSetup
from autoprox.rank.stats import FEWEST
from autoprox.scoring import gaussian_batch
from autoprox.zoo import ZOO

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
class RankPlan:
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
            "code": statistics_version(self.benchmark.space) if self.benchmark.space else "",
        }


def make_plan(
    benchmark: Benchmark,
    *,
    tasks: Sequence[str] = (),
    proxies: Sequence[str] = (ALL,),
    split: str = ALL,
    sample: int | None = None,
    batch: int = 2,
    seed: int = 0,
) -> RankPlan:
    """The ranking that is meant.

    `tasks` are names or patterns (all without), `proxies` what `contenders` takes. Of the split's architectures that
    have an accuracy in any task, `sample` are drawn at random from the seed, or all are ranked.

    Raises RankError, SearchError for a task that there is not, ProxyError or FormulaError for a proxy.
    """
    if batch < 1 or seed < 0:
        raise RankError(f"batch is {batch} and seed {seed}; they must be at least 1 and 0")
    if split not in OFFERS:
        raise RankError(f"no split is called {quoted(split)}; there are {', '.join(OFFERS)}")
    chosen = task_names(benchmark, tasks)
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
    return RankPlan(benchmark, chosen, contenders(benchmark, proxies), tuple(labelled), split, batch, seed)


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
    proxy = Proxy.load(ref)
    text = proxy.formula.text
    if any(terminal.statistic.column for terminal in proxy.formula.terminals()):
        raise RankError(f"'{text:.80}' reads columns of a table, and {benchmark.name} is ranked by its networks")
    if proxy.name and not os.path.exists(os.path.expanduser(ref)):
        return Contender(proxy.name, formula=text)
    return Contender(os.path.normpath(ref) if os.path.exists(os.path.expanduser(ref)) else text, formula=text)


def network_setups(plan: RankPlan) -> tuple[NetworkSetup, ...]:
    """What the networks are built for and run on; together they have all tasks.

    A task that comes with images has a network of its own, which runs on the first of these. The others have one
    network, and one Gaussian batch with classes at random. It is not the batch of the probe `noise`, which has a seed
    of its own.

    Raises RankError for a batch larger than the images that there are.
    """
    found = []
    for network in plan.benchmark.networks():
        tasks = tuple(task for task in plan.tasks if task in network.tasks)
        if network.spec is not None and tasks:
            images = (
                gaussian_batch(network.spec, plan.batch, plan.seed)
                if network.input is None
                else _images(plan, network.input)
            )
            found.append(NetworkSetup(network.spec, *images, tasks))
    return tuple(found)


def _images(plan: RankPlan, given: TaskInput) -> tuple[np.ndarray, np.ndarray]:
    if len(given.images) < plan.batch:
        raise RankError(
            f"a batch of {plan.batch} images, but the benchmark has {len(given.images)}; use a smaller --batch"
        )
    return given.images[: plan.batch].copy(), given.targets[: plan.batch].copy()
