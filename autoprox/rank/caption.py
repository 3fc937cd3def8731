"""Caption of a ranking: what its numbers mean, and what the networks ran on."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from autoprox.bench_cache.benchmarks.table import STRUCTURE, Benchmark
from autoprox.bench_cache.benchmarks.tabular import SOURCES
from autoprox.bench_cache.runtime.devices import CPU
from autoprox.primitives.batch_norms import RUNNING
from autoprox.primitives.kinds import steps_of
from autoprox.rank.plan import MergedRanks, RankPlan

_NUMBERS = (
    "τ: Kendall's tau-b, ρ: Spearman, r: Pearson with accuracy, with 95 % bootstrap intervals; τ|params: partial "
    "τ given params; τ|fitted: given fitted structure, which saw the labels of other architectures; τ bins: τ within "
    "params terciles; lost@k: points of accuracy lost by training only the proxy's best k; s: seconds an "
    "architecture. docs/ranking.md defines each number."
)


def caption(plan: RankPlan) -> str:
    """Return what the numbers mean, in short (docs/ranking.md defines them), and what the networks ran on."""
    return "\n".join([_NUMBERS, *(_columns(plan) if plan.benchmark.space is None else _networks(plan))])


def _columns(plan: RankPlan) -> Iterator[str]:
    sources = {name: next((c for c in SOURCES[name] if c in plan.benchmark.columns), "") for name in STRUCTURE}
    renamed = [f"{name} is the column {source}" for name, source in sources.items() if source not in ("", name)]
    yield "; ".join(["The proxies are the table's columns, higher taken for better", *renamed]) + "."


def _networks(plan: RankPlan) -> Iterator[str]:
    """Yield what the networks ran on: a line for each probe; for `data`, a line for each kind of batch."""
    probes = probes_of(plan)
    if not probes:
        yield "No network was run: every score follows from structure or from the initial weights."
    if "data" in probes:
        yield from data_inputs(plan.benchmark, plan.tasks, plan.batch, plan.seed)
    yield from made_inputs(probes, plan.seed)
    yield from norms_line(probes, plan.batch_norm)
    if plan.device != CPU:
        yield f"The networks ran on {plan.device}, whose last bits are not those of a CPU."


def norms_line(probes: Collection[str], batch_norm: str) -> Iterator[str]:
    """Yield a line where batch norms did not normalise by their running statistics."""
    if batch_norm != RUNNING and set(probes) - {"synflow"}:
        yield "Batch norms normalised by what they were given, as in training, and not under the probe `synflow`."


def made_inputs(probes: Collection[str], seed: int) -> Iterator[str]:
    """Yield a line for each of the probes whose input is made up, whatever the batch holds."""
    if "noise" in probes:
        yield f"The probe `noise` read Gaussian input of the batch's shape and random classes of its own (seed {seed})."
    if "synflow" in probes:
        yield "The probe `synflow` read one input of ones, with every parameter replaced by its magnitude."
    for probe in sorted(filter(steps_of, probes), key=steps_of):
        yield (
            f"The probe `{probe}` read made-up images, after {steps_of(probe)} steps of training on others of the kind "
            f"(seed {seed}): not zero-cost."
        )


def data_inputs(benchmark: Benchmark, tasks: Sequence[str], count: int, seed: int) -> Iterator[str]:
    """Yield what the probe `data` read on these tasks, of a batch of `count`: a line for each kind of batch."""
    given = {task: benchmark.inputs[task] for task in tasks if task in benchmark.inputs}
    without = [task for task in tasks if task not in given]
    for random, classes in ((False, "their classes"), (True, "random classes")):
        of_kind = {task: found.short_digest for task, found in given.items() if found.random_targets is random}
        if of_kind:
            first = "image" if count == 1 else f"{count} images"
            yield (
                f"On {_listed(list(of_kind))} the probe `data` read the first {first} that the benchmark has of the "
                f"task, with {classes} (SHA-256 of its images: {_digests(of_kind)})."
            )
    if without:
        start = f"On {_listed(without)} no" if given else "No"
        samples = "sample with a random class" if count == 1 else "samples with random classes"
        yield (
            f"{start} images come with this benchmark: the probe `data` read {count} Gaussian {samples} (seed {seed})."
        )


def _listed(tasks: Sequence[str]) -> str:
    return ", ".join(tasks) if len(tasks) <= 8 else f"{', '.join(tasks[:3])} and {len(tasks) - 3} other tasks"


def _digests(of_task: Mapping[str, str]) -> str:
    """Return each digest with its tasks, or the digest alone where all tasks have one."""
    tasks: dict[str, list[str]] = {}
    for task, digest in of_task.items():
        tasks.setdefault(digest, []).append(task)
    if len(tasks) == 1:
        return next(iter(tasks))
    return ", ".join(f"{digest} for {_listed(names)}" for digest, names in tasks.items())


def probes_of(plan: RankPlan) -> frozenset[str]:
    """Return the probes that some proxy of the plan runs the networks under."""
    proxies = (proxy for proxy in plan.proxies if not isinstance(proxy, MergedRanks))
    return frozenset(probe for proxy in proxies for probe in proxy.probes)
