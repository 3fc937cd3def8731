"""Validation plan: a ranking of a proxy beside structural baselines, and its repeats with other seeds and images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from autoprox.bench_cache.benchmarks.table import STRUCTURE, Benchmark
from autoprox.bench_cache.runtime.devices import CPU
from autoprox.evolve.report import DEPTH_WIDTH, FITTED
from autoprox.primitives import OPERATIONS, Vocabulary
from autoprox.proxy import Proxy
from autoprox.rank.caption import probes_of
from autoprox.rank.plan import MergedRanks, RankError, RankPlan, make_plan
from autoprox.rank.scores import runs_networks
from autoprox.validation.origin import Origin

#: Samples of a batch where a benchmark comes with images, and where it does not: those of docs/results.md.
WITH_IMAGES, WITHOUT_IMAGES = 16, 2
#: What a proxy is compared with.
BASELINES = (*STRUCTURE, DEPTH_WIDTH, FITTED)
#: What a repeat varies.
WEIGHTS, IMAGES = "weights", "images"


@dataclass(frozen=True, eq=False)
class ValidationPlan:
    """All that a validation's result depends on, apart from what is known of the proxy's origin.

    `ranking` scores the proxy called `proxy` and the baselines. `seeds` sets of initial weights are compared, those of
    the ranking's seed first, and `batches` disjoint batches of the benchmark's images.
    """

    ranking: RankPlan
    proxy: str
    seeds: int
    batches: int

    @property
    def text(self) -> str:
        """Return the proxy's formula, or its name where it is a function."""
        proxy = next(each for each in self.ranking.proxies if each.name == self.proxy)
        return proxy.name if isinstance(proxy, MergedRanks) else proxy.text

    def repeats(self) -> dict[str, tuple[RankPlan, ...]]:
        """Return the rankings that differ in the initial weights only, and those that differ in the images only.

        Where the benchmark has no images, the seed gives the Gaussian samples too. Nothing is repeated that cannot
        differ: a formula of sizes has one score, and one of weights reads no images.
        """
        plan, found = self.ranking, {}
        if not runs_networks(plan):
            return {}
        if self.seeds > 1:
            found[WEIGHTS] = tuple(replace(plan, seed=plan.seed + step) for step in range(self.seeds))
        fewest = min((len(given.images) for given in images_of(plan).values()), default=0)
        size = min(plan.batch, fewest // self.batches)
        if self.batches > 1 and size and "data" in probes_of(plan):
            found[IMAGES] = tuple(replace(plan, batch=size, draw=draw) for draw in range(self.batches))
        return found

    def rankings(self) -> dict[str, RankPlan]:
        """Return every ranking that is run, by the name of its folder; the first is `ranking`."""
        plans = [self.ranking, *(plan for of_kind in self.repeats().values() for plan in of_kind)]
        return {folder_of(plan): plan for plan in plans}

    def baselines(self) -> list[str]:
        """Return the structural baselines, without the proxy itself."""
        return [name for name in BASELINES if name != self.proxy]

    def record(self) -> dict[str, Any]:
        """Return the plan as JSON."""
        return {**self.ranking.record(), "proxy": self.proxy, "seeds": self.seeds, "batches": self.batches}


def images_of(plan: RankPlan) -> dict[str, Any]:
    """Return the images that come with the plan's tasks; on the other tasks networks read Gaussian samples."""
    return {task: plan.benchmark.inputs[task] for task in plan.tasks if task in plan.benchmark.inputs}


def folder_of(plan: RankPlan) -> str:
    """Return the name of the folder of a ranking: what repeats differ in."""
    return f"seed{plan.seed}-batch{plan.batch}-draw{plan.draw}"


def make_validation_plan(
    benchmark: Benchmark,
    origin: Origin,
    *,
    tasks: Sequence[str] = (),
    split: str = "test",
    sample: int | None = None,
    max_params: float | None = None,
    batch: int | None = None,
    seed: int = 0,
    seeds: int = 3,
    batches: int = 2,
    device: str = CPU,
    operations: Vocabulary = OPERATIONS,
) -> ValidationPlan:
    """Return the plan of the validation of a proxy; the choices up to `seed`, and `device`, are those of
    `make_plan`.

    By default the networks run on as many samples as in docs/results.md: 16 where the benchmark comes with images,
    else 2.

    Raises:
        RankError, BenchmarkError, ProxyError, FormulaError: as `make_plan` does; or there are no seeds or batches.
    """
    if seeds < 1 or batches < 1:
        raise RankError(f"seeds is {seeds} and batches {batches}; both must be at least 1")
    plan = make_plan(
        benchmark,
        tasks=tasks,
        proxies=[origin.ref],
        split=split,
        sample=sample,
        max_params=max_params,
        batch=(WITH_IMAGES if benchmark.inputs else WITHOUT_IMAGES) if batch is None else batch,
        seed=seed,
        device=device,
        operations=operations,
    )
    proxy = str(origin.ref) if origin.ref in STRUCTURE else plan.proxies[-1].name
    return ValidationPlan(replace(plan, proxies=tuple(_beside(plan))), proxy, seeds, batches)


def _beside(plan: RankPlan) -> Iterator[Any]:
    """Yield the plan's proxies, and depth × width where both are known without building a network."""
    if {"depth", "width"} <= plan.benchmark.structure().keys():
        yield Proxy.from_formula("depth * width", DEPTH_WIDTH)
    yield from plan.proxies
