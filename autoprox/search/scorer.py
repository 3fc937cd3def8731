"""Scorers: they give candidates their scores, from a benchmark's table or from the architectures themselves."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from autoprox.bench_cache.benchmarks.table import STRUCTURE, Benchmark
from autoprox.bench_cache.runtime.devices import CPU, chosen_device, computing
from autoprox.bench_cache.runtime.local_pool import Workers, give_back_memory, opened_pool
from autoprox.bench_cache.runtime.submit import results_in_order
from autoprox.bench_cache.spaces.listed import ListedSpace, input_of
from autoprox.bench_cache.spaces.registry import ArchitectureError, InputSpec, Space
from autoprox.bench_cache.statistics.columns import TabularScorer
from autoprox.primitives import Formula, LayerError, Reading, evaluate
from autoprox.primitives.batch_norms import batch_norms_by
from autoprox.proxy import ProxyError
from autoprox.scoring import AT_LIMIT, AnyProxy, is_at_limit
from autoprox.search.batch import Batch
from autoprox.search.candidate import Candidate, SearchError
from autoprox.search.proxies import reads_structure_only

#: Takes candidates and yields them with their scores, in order, each as soon as it and those before it are scored.
CandidateScorer = Callable[[Sequence[Candidate]], Iterator[Candidate]]

#: The seed of the initial weights. They follow from it and the architecture, so a score is the same in every search.
WEIGHTS_SEED = 0

#: Tells the user how to go on after a worker process was lost.
GO_ON = (
    "go on with --resume, and with fewer workers if memory is short; "
    "a script must keep its search under `if __name__ == '__main__':`"
)


def table_scorer(benchmark: Benchmark, formula: Formula) -> CandidateScorer:
    """Return the scorer that reads a benchmark's table instead of its networks.

    An architecture without a number that the formula reads has a problem instead of a score, and so has one whose value
    is where formulas stop.

    Raises:
        BenchmarkError: the formula reads something that the table does not have.
    """
    found = TabularScorer(benchmark).scores([formula], np.arange(len(benchmark)))[0]
    scores = {benchmark.key(arch): float(score) for arch, score in zip(benchmark.architectures, found, strict=True)}

    def scored(candidates: Sequence[Candidate]) -> Iterator[Candidate]:
        for candidate in candidates:
            if math.isnan(scores[candidate.key]):
                yield replace(candidate, problem="a number that the formula reads is missing in the table")
            elif is_at_limit(scores[candidate.key]):
                yield replace(candidate, problem=AT_LIMIT)
            else:
                yield replace(candidate, score=scores[candidate.key])

    return scored


class ArchitectureScorer:
    """The scorer that builds each architecture's network and runs the proxy on it, in one process or several.

    `space` and `spec` build the networks, which run on `device`. Both may be None for a proxy that reads structure
    only: then no network is built. Scores are the same for any number of workers. Use it in a `with` statement, which
    ends the processes; an executor stays open.

    Raises:
        SearchError: `workers` is no whole number of at least 1, the batch does not fit the networks, or the proxy
            cannot be sent to other processes.
    """

    def __init__(
        self,
        proxy: AnyProxy,
        space: Space | None,
        spec: InputSpec | None,
        batch: Batch,
        workers: Workers = 1,
        device: str = CPU,
    ) -> None:
        if not isinstance(workers, Executor) and (type(workers) is not int or workers < 1):
            raise SearchError(f"workers is {workers!r}; it must be a whole number of at least 1")
        if spec is not None:
            batch.check(spec)
        self.proxy, self.space, self.spec, self.batch, self.device = proxy, space, spec, batch, device
        self.workers: Workers = 1 if reads_structure_only(proxy) else workers
        if self.workers != 1:
            _check_sendable(proxy)
        self.executor: Executor | None = None
        self._open = ExitStack()

    def __enter__(self) -> ArchitectureScorer:
        self.executor = self._open.enter_context(opened_pool(self.workers, preload=[__name__]))
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()

    def __call__(self, candidates: Sequence[Candidate]) -> Iterator[Candidate]:
        """Yield the candidates with their scores, each as soon as it and those before it are scored."""
        if self.proxy.as_formula is not None and reads_structure_only(self.proxy):
            yield from (_scored_by_structure(self.proxy.as_formula, candidate) for candidate in candidates)
            return
        given = self.spec, self.batch, self.device
        jobs = [_Job(self.proxy, self.space, candidate.arch, *given) for candidate in candidates]
        outcomes = results_in_order(self.executor, _score_network, jobs, GO_ON)
        for candidate, (score, problem) in zip(candidates, outcomes, strict=True):
            yield replace(candidate, score=score, problem=problem)


def network_scorer(
    stack: ExitStack,
    proxy: AnyProxy,
    space: Space | None,
    spec: InputSpec | None,
    batch: Batch,
    workers: Workers,
    device: str,
) -> CandidateScorer:
    """Return the scorer of a proxy, whose processes end with the stack."""
    return stack.enter_context(ArchitectureScorer(proxy, space, spec, batch, workers, device))


def _check_sendable(proxy: AnyProxy) -> None:
    try:
        pickle.dumps(proxy)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise SearchError(
            f"the score cannot be sent to other processes ({error!s:.80}): "
            "define its functions at the top level of a module, or use one worker"
        ) from None


def _scored_by_structure(formula: Formula, candidate: Candidate) -> Candidate:
    facts = {name: float(getattr(candidate, name)) for name in STRUCTURE}
    missing = [t.statistic.name for t in formula.terminals() if math.isnan(facts[t.statistic.name])]
    if missing:
        return replace(candidate, problem=f"its {missing[0]} is missing")
    score = evaluate(formula, Reading(net=facts))
    return replace(candidate, problem=AT_LIMIT) if is_at_limit(score) else replace(candidate, score=score)


@dataclass(frozen=True)
class _Job:
    """What a worker needs to score one architecture."""

    proxy: AnyProxy
    space: Space | None
    arch: Any
    spec: InputSpec | None
    batch: Batch
    device: str


def _score_network(job: _Job) -> tuple[float | None, str]:
    """Return the score and "", or None and why there is none.

    Weights and inputs are drawn on the CPU, so that they are the same on every device.

    Raises:
        DeviceError: there is no such device here, or it has no memory left.
    """
    assert job.space is not None
    assert job.spec is not None
    spec, model, device = input_of(job.space, job.arch, job.spec), None, chosen_device(job.device)
    with computing(), batch_norms_by(job.batch.batch_norm):
        try:
            if isinstance(job.space, ListedSpace):
                job.batch.check(spec)
            model = job.space.build(job.arch, job.spec, WEIGHTS_SEED)
            layers = job.space.layers(job.arch, model)
            inputs, targets = (tensor.to(device) for tensor in job.batch.tensors(spec))
            return job.proxy.score(model.to(device), inputs, targets, layers=layers), ""
        except ProxyError as error:
            return None, str(error)
        except (ArchitectureError, LayerError, SearchError) as error:
            if not isinstance(job.space, ListedSpace):
                raise
            return None, str(error)  # networks that somebody else wrote: each may lack something of its own
        finally:
            del model
            give_back_memory()
