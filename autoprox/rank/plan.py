"""Rank plan: which architectures are ranked, by which proxies, on which tasks, and what their networks run on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from types import MappingProxyType
from typing import Any

import numpy as np

from autoprox import __version__
from autoprox.bench_cache.benchmarks.table import SPLITS, STRUCTURE, Benchmark
from autoprox.bench_cache.benchmarks.task_input import TaskInput
from autoprox.bench_cache.benchmarks.tasks import task_names
from autoprox.bench_cache.runtime.checks import quoted
from autoprox.bench_cache.runtime.devices import CPU
from autoprox.bench_cache.statistics.columns import known
from autoprox.bench_cache.statistics.version import statistics_version
from autoprox.collection import COLLECTION
from autoprox.primitives import OPERATIONS, Formula, Vocabulary, statistic
from autoprox.primitives.batch_norms import BATCH_NORMS, RUNNING
from autoprox.primitives.statistics import COLUMN
from autoprox.proxy import Proxy, ProxyError, ProxyLike, any_proxy, resolve
from autoprox.rank.network import NetworkSetup
from autoprox.rank.stats import FEWEST
from autoprox.scoring import AnyProxy, gaussian_batch
from autoprox.zoo import ZOO
from autoprox.zoo.az_nas import LOGARITHMS, MEAN_RANK

#: Which architectures can be ranked: all, or those of a split.
OFFERS = ("all", *SPLITS)
ALL = "all"
#: What names every column of a benchmark's table.
COLUMNS = "columns"


class RankError(ValueError):
    """A ranking that cannot run because of its proxies, its architectures or its settings; one line says why."""


@dataclass(frozen=True)
class MergedRanks:
    """A score that exists only among several architectures, of their ranks by the proxies `parts`.

    `rule` is a name of `RULES`: Σ log(rank / n), or the mean of rank / n, by which proxies vote in a search.
    """

    name: str
    parts: tuple[str, ...]
    rule: str = LOGARITHMS


#: What the row of all the given proxies together is called.
VOTE = "vote"

#: A row of the table. Its `name` is how the table calls it; a column of a tabular benchmark is a formula.
Ranked = AnyProxy | MergedRanks

#: name → the proxies of the zoo whose ranks are merged.
MERGED = MappingProxyType({"az-nas": ("az-expressivity", "az-trainability", "az-complexity")})


@dataclass(frozen=True, eq=False)
class RankPlan:
    """All that a ranking's result depends on.

    `architectures` are indices of the benchmark, ascending. The networks run on `batch` samples. `seed` gives the
    initial weights, the Gaussian samples where the benchmark has no images, and the sample of architectures. `draw`
    says which images are the batch: the first `batch` ones for 0, the next for 1, and after the last the first again.
    `batch_norm` is that of `Proxy.score`. The networks run on `device`, which has a part in the last bits.
    """

    benchmark: Benchmark
    tasks: tuple[str, ...]
    proxies: tuple[Ranked, ...]
    architectures: tuple[int, ...]
    split: str = ALL
    batch: int = 2
    seed: int = 0
    draw: int = 0
    batch_norm: str = RUNNING
    device: str = CPU

    def record(self) -> dict[str, Any]:
        """Return all that the scores depend on, as JSON."""
        digest = hashlib.sha256(self.benchmark.to_bytes()).hexdigest()
        return {
            "benchmark": [self.benchmark.name, digest],
            "tasks": list(self.tasks),
            "proxies": [_to_record(proxy) for proxy in self.proxies],
            "architectures": list(self.architectures),
            "split": self.split,
            "batch": self.batch,
            "seed": self.seed,
            **({"draw": self.draw} if self.draw else {}),  # `autoprox rank` knows the first batch only
            "batch_norm": self.batch_norm,
            "device": self.device,
            "autoprox": __version__,
            "code": statistics_version(self.benchmark.space) if self.benchmark.space else "",
        }


def make_plan(
    benchmark: Benchmark,
    *,
    tasks: Sequence[str] = (),
    proxies: Sequence[ProxyLike] = (ALL,),
    split: str = ALL,
    sample: int | None = None,
    max_params: float | None = None,
    batch: int = 2,
    seed: int = 0,
    batch_norm: str = RUNNING,
    device: str = CPU,
    vote: bool = False,
    operations: Vocabulary = OPERATIONS,
) -> RankPlan:
    """Return the plan of the ranking that these choices describe.

    `tasks` are names or patterns; none means all. `proxies` are what `proxies_to_rank` takes. The architectures are
    those of the split that have an accuracy on any of the tasks, and at most `max_params` parameters; `sample` draws so
    many of them at random. `device` is what `agreed_device` returns. With `vote`, a further row has the mean rank by
    all the proxies that were named. `operations` are those that formulas may have.

    Raises:
        RankError: a choice is out of its range, or fewer than 3 architectures have an accuracy.
        BenchmarkError: there is no such task.
        ProxyError: there is no such proxy.
        FormulaError: a formula cannot be read.
    """
    if batch < 1 or seed < 0:
        raise RankError(f"batch is {batch} and seed {seed}; they must be at least 1 and 0")
    if batch_norm not in BATCH_NORMS:
        raise RankError(f"batch_norm is {quoted(batch_norm)}; it must be {' or '.join(BATCH_NORMS)}")
    if split not in OFFERS:
        raise RankError(f"no split is called {quoted(split)}; there are {', '.join(OFFERS)}")
    chosen = task_names(benchmark, tasks)
    among = np.arange(len(benchmark)) if split == ALL else benchmark.splits()[split]
    labelled = [int(i) for i in among if any(not np.isnan(benchmark.tasks[task][i]) for task in chosen)]
    if max_params is not None:
        labelled = _up_to(benchmark, labelled, max_params)
    if sample is not None:
        if not FEWEST <= sample <= len(labelled):
            raise RankError(
                f"sample is {sample}; it must be from {FEWEST} to {len(labelled)}, the number of architectures of "
                f"{benchmark.name} ({split}) that have an accuracy"
            )
        labelled = sorted(Random(seed).sample(labelled, sample))
    if len(labelled) < FEWEST:
        raise RankError(
            f"{benchmark.name} ({split}) has {len(labelled)} architectures with an accuracy; too few to rank, "
            f"which needs {FEWEST}"
        )
    ranked = proxies_to_rank(benchmark, proxies, operations, vote=vote)
    at = tuple(labelled)
    return RankPlan(benchmark, chosen, ranked, at, split, batch, seed, batch_norm=batch_norm, device=device)


def _up_to(benchmark: Benchmark, indices: Sequence[int], max_params: float) -> list[int]:
    """Return the indices of the architectures with at most `max_params` parameters."""
    params = benchmark.structure().get("params")
    if params is None:
        raise RankError(f"{benchmark.name} does not know the number of parameters; leave out --max-params")
    return [i for i in indices if params[i] <= max_params]


def proxies_to_rank(
    benchmark: Benchmark, refs: Sequence[ProxyLike], operations: Vocabulary = OPERATIONS, *, vote: bool = False
) -> tuple[Ranked, ...]:
    """Return the facts of `STRUCTURE` that the benchmark has, and then the proxies that are meant.

    A proxy is the name of one of the benchmark's columns, or what `any_proxy` takes: a name of the zoo, a run
    directory, a proxy file, a formula, a function of an untrained network. On a tabular benchmark it may read columns
    and structure only, because there are no networks. `columns` is every column, and so is `all` on a tabular
    benchmark; elsewhere `all` is every training-free proxy of the zoo. With `vote`, the mean of the ranks by all that
    are meant comes last.

    Raises:
        RankError: a proxy reads what the benchmark does not have, two different proxies have one name, or fewer than
            two are to vote.
        ProxyError: there is no such proxy.
        FormulaError: a formula cannot be read.
    """
    found: dict[str, Ranked] = {name: Proxy.from_formula(name, name) for name in benchmark.structure()}
    voters: dict[str, None] = {}
    for ref in map(_plain, refs):
        merged = _is_merged(benchmark, ref)  # then its parts do not vote
        for proxy in _meant(benchmark, ref, operations):
            if found.setdefault(proxy.name, proxy) != proxy:
                raise RankError(f"two proxies are called {quoted(proxy.name)}; give one another name")
            if isinstance(proxy, MergedRanks) == merged:
                voters[proxy.name] = None
    if vote:
        if len(voters) < 2:
            raise RankError("a vote takes two proxies or more; name them with --proxies")
        if VOTE in found:
            raise RankError(f"a proxy is called {quoted(VOTE)}, as the row of the vote is; give it another name")
        found[VOTE] = MergedRanks(VOTE, tuple(voters), MEAN_RANK)
    return tuple(found.values())


def _plain(ref: ProxyLike) -> ProxyLike:
    """Return a path as its text, and anything else as it is."""
    return os.fspath(ref) if isinstance(ref, os.PathLike) else ref


def _is_merged(benchmark: Benchmark, ref: ProxyLike) -> bool:
    """Return whether a name is that of merged ranks."""
    return isinstance(ref, str) and ref in MERGED and benchmark.space is not None


def _meant(benchmark: Benchmark, ref: ProxyLike, operations: Vocabulary) -> Iterator[Ranked]:
    if not isinstance(ref, str):
        yield _given(benchmark, any_proxy(ref))
    elif _is_merged(benchmark, ref):
        yield from (_proxy(benchmark, name, operations) for name in MERGED[ref])
        yield MergedRanks(ref, MERGED[ref])
    elif ref == COLUMNS or (ref == ALL and benchmark.space is None):
        if not benchmark.columns:
            raise RankError(f"{benchmark.name} has no columns; name other proxies")
        yield from (_proxy(benchmark, name, operations) for name in benchmark.columns)
    elif ref != ALL:
        yield _proxy(benchmark, ref, operations)
    else:
        yield from (_proxy(benchmark, name, operations) for name, entry in ZOO.items() if entry.training_free)
        yield from (MergedRanks(name, parts) for name, parts in MERGED.items() if ZOO.keys() >= set(parts))


def _proxy(benchmark: Benchmark, ref: str, operations: Vocabulary) -> AnyProxy:
    """Return the proxy that is meant, with the name of its row; scores do not depend on its provenance."""
    if ref in STRUCTURE and ref in benchmark.structure():
        return Proxy.from_formula(ref, ref)
    if ref in benchmark.columns:
        return Proxy(statistic(COLUMN, ref), ref)
    proxy = _readable(
        benchmark, resolve(ref, operations) if benchmark.space is not None else _of_table(benchmark, ref, operations)
    )
    formula = proxy.as_formula
    if formula is None:
        return proxy
    if ref in ZOO or ref in COLLECTION:
        return Proxy(formula, ref)
    return Proxy(formula, os.path.normpath(ref) if os.path.exists(os.path.expanduser(ref)) else formula.text)


def _given(benchmark: Benchmark, proxy: AnyProxy) -> AnyProxy:
    """Return a proxy that was given as an object, with the name of its row: its own, or the text of its formula."""
    formula = _readable(benchmark, proxy).as_formula
    return proxy if formula is None else Proxy(formula, proxy.name or formula.text)


def _readable(benchmark: Benchmark, proxy: AnyProxy) -> AnyProxy:
    """Return the proxy, which must read what the benchmark has."""
    formula = proxy.as_formula
    if benchmark.space is None:
        _check_table(benchmark, proxy)
    elif formula is not None and any(t.statistic.column for t in formula.terminals()) and _missing(benchmark, formula):
        raise RankError(
            f"'{formula.text:.80}' reads columns of a table, and {benchmark.name} is ranked by its networks"
        )
    return proxy


def _of_table(benchmark: Benchmark, ref: str, operations: Vocabulary) -> Proxy:
    """Return the proxy that is meant for a tabular benchmark: a formula of its columns and structure."""
    try:
        proxy = resolve(ref, operations)
    except ProxyError:
        if os.path.exists(os.path.expanduser(ref)):
            raise
        proxy = None
    if not isinstance(proxy, Proxy) or ref in ZOO:
        raise RankError(
            f"{benchmark.name} is tabular: its networks cannot be built, and it has no column {quoted(ref)}; "
            f"there are {', '.join(benchmark.columns)}"
        )
    return proxy


def _check_table(benchmark: Benchmark, proxy: AnyProxy) -> None:
    """Check that a proxy is a formula of what the table of a benchmark has."""
    if (formula := proxy.as_formula) is None:
        raise RankError(f"{benchmark.name} is tabular: its networks cannot be built, so {proxy.name} cannot score them")
    if missing := _missing(benchmark, formula):
        raise RankError(
            f"'{proxy.text:.80}' reads {missing[0]}, which the table of {benchmark.name} does not have; there are "
            f"{', '.join(known(benchmark))}"
        )


def _missing(benchmark: Benchmark, formula: Formula) -> list[str]:
    """Return what a formula reads that is neither a column nor the structure of the benchmark."""
    there = known(benchmark)
    return [str(terminal) for terminal in formula.terminals() if str(terminal) not in there]


def _to_record(proxy: Ranked) -> dict[str, Any]:
    if isinstance(proxy, MergedRanks):
        by = {} if proxy.rule == LOGARITHMS else {"by": proxy.rule}
        return {"name": proxy.name, "merged": list(proxy.parts), **by}
    return {"name": proxy.name, "proxy": proxy.text}


def from_record(record: Mapping[str, Any], operations: Vocabulary = OPERATIONS) -> Ranked:
    """Return the proxy that `RankPlan.record` wrote; `operations` are those that formulas may have.

    Raises:
        KeyError: the record lacks a field.
        FormulaError: the formula cannot be read.
    """
    if "merged" in record:
        return MergedRanks(record["name"], tuple(record["merged"]), record.get("by", LOGARITHMS))
    text = record["proxy"]
    if text in ZOO and ZOO[text].as_formula is None:
        return ZOO[text]
    return Proxy.from_formula(text, record["name"], operations=operations)


def network_setups(plan: RankPlan) -> tuple[NetworkSetup, ...]:
    """Return what the networks are built for and run on: one set-up for each kind of network, all tasks together.

    A task that comes with images has a network of its own, which runs on those of the plan's draw. All other tasks
    share a network, which runs on Gaussian samples with random classes. These are not the samples of the probe `noise`,
    which are drawn from another seed.

    Raises:
        RankError: the batch is larger than the number of images.
    """
    found = []
    for network in plan.benchmark.networks():
        tasks = tuple(task for task in plan.tasks if task in network.tasks)
        if network.spec is not None and tasks:
            given = network.input
            samples = gaussian_batch(network.spec, plan.batch, plan.seed) if given is None else _images(plan, given)
            found.append(NetworkSetup(network.spec, *samples, tasks, images=given is not None))
    return tuple(found)


def _images(plan: RankPlan, given: TaskInput) -> tuple[np.ndarray, np.ndarray]:
    if len(given.images) < plan.batch:
        raise RankError(
            f"a batch of {plan.batch} images, but the benchmark has {len(given.images)}; use a smaller --batch"
        )
    at = (np.arange(plan.batch) + plan.draw * plan.batch) % len(given.images)
    return given.images[at], given.targets[at]
