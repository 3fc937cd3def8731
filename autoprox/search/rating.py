"""Rating: a proxy's score of architectures, from closed forms or from the networks, by one or more processes."""

from __future__ import annotations

import io
import math
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autoprox.bench_cache.benchmarks.table import STRUCTURE, Benchmark
from autoprox.bench_cache.runtime.local_pool import (
    close_pool,
    give_back_memory,
    local_pool,
    one_thread,
)
from autoprox.bench_cache.runtime.submit import results_in_order
from autoprox.bench_cache.spaces.registry import InputSpec, Space
from autoprox.bench_cache.statistics.columns import TabularScorer
from autoprox.primitives import Formula, Reading, evaluate, statistic
from autoprox.primitives.statistics import Terminal
from autoprox.proxy import Proxy, ProxyError, resolve
from autoprox.scoring import AnyProxy, Layers, gaussian_batch

#: What can be scored by: a proxy, what `resolve` finds one by, or any function of an untrained network.
ScoreFunction = Callable[[torch.nn.Module], float]
Scoring = AnyProxy | Formula | ScoreFunction | str | os.PathLike

#: Gives candidates their scores, each as soon as it and those before it are known; see `Rater`.
Rating = Callable[[Sequence["Candidate"]], Iterator["Candidate"]]

#: The seed of the initial weights. They follow from it and the architecture, so a score is the same in every search.
WEIGHTS_SEED = 0

#: How to go on after a worker was lost.
GO_ON = (
    "go on with --resume, and with fewer workers if memory is short; "
    "a script must keep its search under `if __name__ == '__main__':`"
)


class SearchError(ValueError):
    """A search that cannot be: its settings, its limits, its batch or its score; one line says why."""


@dataclass(frozen=True)
class Candidate:
    """An architecture with its closed forms (NaN where a table lacks one) and, once it is rated, its score.

    `key` is the space's line of text for it. The score is None before it is rated, and where it has none, in which
    case `problem` says why.
    """

    arch: Any
    key: str
    params: float
    flops: float
    depth: float
    width: float
    score: float | None = None
    problem: str = ""


def candidate(space: Space, arch: Any, spec: InputSpec) -> Candidate:
    """An architecture of a space, not yet rated."""
    sizes = space.params(arch, spec), space.flops(arch, spec)
    return Candidate(arch, space.key(arch), *sizes, space.depth(arch), space.width(arch))


@dataclass(frozen=True, eq=False)
class Batch:
    """What the networks are run on: images with their classes, or `samples` Gaussian ones.

    With `images` (float32, samples × channels × size × size) and `targets` (integers, samples) a formula may read
    the probe `data`; `samples` is then their number.

    Raises SearchError for arrays that do not go together.
    """

    samples: int = 2
    images: np.ndarray | None = None
    targets: np.ndarray | None = None

    def __post_init__(self) -> None:
        if type(self.samples) is not int or self.samples < 1:
            raise SearchError(f"a batch has {self.samples!r} samples; it must be a whole number of at least 1")
        if (self.images is None) != (self.targets is None):
            raise SearchError("a batch has both images and targets, or neither")
        if self.images is None or self.targets is None:
            return
        images, targets = self.images, self.targets
        if images.dtype != np.float32 or images.ndim != 4 or not len(images) or not np.isfinite(images).all():
            raise SearchError(
                "images must be finite float32 of shape samples × channels × size × size, "
                f"not {images.dtype} of shape {images.shape}"
            )
        if targets.dtype.kind not in "iu" or targets.shape != images.shape[:1]:
            raise SearchError(
                f"targets must be {len(images)} class numbers, not {targets.dtype} of shape {targets.shape}"
            )
        object.__setattr__(self, "samples", len(images))

    @classmethod
    def from_bytes(cls, data: bytes) -> Batch:
        """The batch in the bytes of an .npz file with the arrays `images` and `targets`; nothing else is read."""
        try:
            arrays = np.load(io.BytesIO(data), allow_pickle=False)
            if isinstance(arrays, np.ndarray):
                raise SearchError("it is one array; save both with numpy.savez(FILE, images=..., targets=...)")
            return cls(images=arrays["images"], targets=arrays["targets"])
        except KeyError:
            raise SearchError("it lacks images or targets; numpy.savez(FILE, images=..., targets=...)") from None
        except SearchError:
            raise
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise SearchError(f"it is no .npz file of plain arrays, or cut off ({error!s:.80})") from None

    def check(self, spec: InputSpec) -> None:
        """Raise SearchError if the networks built for `spec` cannot be run on the images."""
        if self.images is None or self.targets is None:
            return
        shape = (spec.in_channels, spec.image_size, spec.image_size)
        if self.images.shape[1:] != shape:
            found = " × ".join(map(str, self.images.shape[1:]))
            raise SearchError(f"the images are {found}, but the networks read {' × '.join(map(str, shape))}")
        if not 0 <= self.targets.min() <= self.targets.max() < spec.num_classes:
            raise SearchError(
                f"the targets go from {self.targets.min()} to {self.targets.max()}, "
                f"but the networks have the classes 0 to {spec.num_classes - 1}"
            )

    def tensors(self, spec: InputSpec) -> tuple[Tensor, Tensor]:
        """Return inputs and targets for a proxy: the images with their classes, or what `gaussian_batch` draws."""
        if self.images is None or self.targets is None:
            inputs, targets = gaussian_batch(spec, self.samples, WEIGHTS_SEED)
        else:
            inputs, targets = self.images, self.targets
        return torch.from_numpy(inputs), torch.from_numpy(targets.astype(np.int64))


@dataclass(frozen=True)
class PlainFunction:
    """A function of an untrained network that gives a number, as a proxy."""

    function: ScoreFunction
    probes: tuple[str, ...] = ()
    as_formula: None = None
    halves_batch: bool = False
    training_free: bool = True

    @property
    def name(self) -> str:
        """The function's name."""
        return getattr(self.function, "__name__", type(self.function).__name__)

    @property
    def text(self) -> str:
        """The function's name, which is all there is to record."""
        return self.name

    @property
    def provenance(self) -> Mapping[str, object]:
        """Nothing is known of it."""
        return {}

    def score(
        self,
        model: torch.nn.Module,
        inputs: Tensor | None = None,
        targets: Tensor | None = None,
        *,
        layers: Layers = None,
        seed: int = 0,
    ) -> float:
        """Return what the function gives. Raises ProxyError unless it is finite."""
        found = self.function(model)
        score = float(found.detach() if isinstance(found, Tensor) else found)
        if not math.isfinite(score):
            raise ProxyError(f"the score is {score}")
        return score


def scoring(score: Scoring, batch: Batch) -> AnyProxy:
    """Return the proxy that is meant.

    A formula can say `noise` where there are no images, so that one that reads `data` is refused without; a function
    cannot, and reads the Gaussian samples and random classes of `Batch.tensors`.

    Raises:
        ProxyError, FormulaError: where `resolve` does.
        SearchError: for a formula that the batch is not for: it reads the probe `data`, and there are no images, or
            halves of the batch, and there is no half.
    """
    proxy = _meant(score)
    formula = proxy.as_formula
    if formula is not None and batch.images is None and "data" in proxy.probes:
        raise SearchError(
            "the formula reads images (the probe 'data'), which a search does not have. Use Gaussian noise instead: "
            f"{_on_noise(formula)}; or give it a batch of images (--batch-file)"
        )
    if proxy.halves_batch and batch.samples % 2:
        raise SearchError(f"weight_grad_batches halves the batch: it needs an even number, not {batch.samples}")
    return proxy


def _meant(score: Scoring) -> AnyProxy:
    if isinstance(score, Formula):
        return Proxy(score)
    if isinstance(score, str | os.PathLike):
        return resolve(score)
    return PlainFunction(score) if callable(score) else score


def _on_noise(formula: Formula) -> Formula:
    """The same formula with the probe `noise` wherever it has `data`."""
    replaced = {}
    for node in formula.nodes():
        if isinstance(node.head, Terminal) and node.head.probe == "data":
            roles = [node.head.role] if node.head.statistic.takes_role else []
            replaced[node] = statistic(node.head.statistic.name, *roles, "noise")
    return formula.rebuilt(replaced)


def reads_structure_only(proxy: AnyProxy) -> bool:
    """Return whether a score follows from params, FLOPs, depth and width, so that no network is needed."""
    formula = proxy.as_formula
    return formula is not None and all(t.statistic.name in STRUCTURE for t in formula.terminals())


def reads_columns(proxy: AnyProxy) -> bool:
    """Return whether a score is a formula over columns of a table."""
    formula = proxy.as_formula
    return formula is not None and any(t.statistic.column for t in formula.terminals())


def table_rating(benchmark: Benchmark, formula: Formula) -> Rating:
    """Scores of a benchmark's architectures from its table; where a number is missing, there is a problem instead.

    Raises BenchmarkError for a formula that reads something else.
    """
    found = TabularScorer(benchmark).scores([formula], np.arange(len(benchmark)))[0]
    scores = {benchmark.key(arch): float(score) for arch, score in zip(benchmark.architectures, found, strict=True)}

    def rate(candidates: Sequence[Candidate]) -> Iterator[Candidate]:
        for entry in candidates:
            if math.isnan(scores[entry.key]):
                yield replace(entry, problem="a number that the formula reads is missing in the table")
            else:
                yield replace(entry, score=scores[entry.key])

    return rate


class Rater:
    """Scores of candidates, in their order; the same for any number of workers.

    `space` and `spec` build the networks; they may be None for a proxy that `reads_structure_only`. Use it in a
    `with` statement, which ends the worker processes.
    """

    def __init__(
        self,
        score: AnyProxy,
        space: Space | None,
        spec: InputSpec | None,
        batch: Batch,
        workers: int = 1,
    ) -> None:
        if type(workers) is not int or workers < 1:
            raise SearchError(f"workers is {workers!r}; it must be a whole number of at least 1")
        if spec is not None:
            batch.check(spec)
        self.score, self.space, self.spec, self.batch = score, space, spec, batch
        self.workers = 1 if reads_structure_only(score) else workers
        if self.workers > 1:
            _check_sendable(score)
        self.executor: Executor | None = None

    def __enter__(self) -> Rater:
        self.executor = local_pool(self.workers)
        return self

    def __exit__(self, *exception: object) -> None:
        close_pool(self.executor)

    def __call__(self, candidates: Sequence[Candidate]) -> Iterator[Candidate]:
        """The candidates with their scores, each as soon as it and those before it are known."""
        if self.score.as_formula is not None and reads_structure_only(self.score):
            yield from (_rated_by_structure(self.score.as_formula, entry) for entry in candidates)
            return
        jobs = [_Job(self.score, self.space, entry.arch, self.spec, self.batch) for entry in candidates]
        outcomes = results_in_order(self.executor, _rate_network, jobs, GO_ON)
        for entry, (score, problem) in zip(candidates, outcomes, strict=True):
            yield replace(entry, score=score, problem=problem)


def _check_sendable(score: AnyProxy) -> None:
    try:
        pickle.dumps(score)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise SearchError(
            f"the score cannot be sent to other processes ({error!s:.80}): "
            "define its functions at the top level of a module, or use one worker"
        ) from None


def _rated_by_structure(formula: Formula, entry: Candidate) -> Candidate:
    facts = {name: float(getattr(entry, name)) for name in STRUCTURE}
    missing = [t.statistic.name for t in formula.terminals() if math.isnan(facts[t.statistic.name])]
    if missing:
        return replace(entry, problem=f"its {missing[0]} is missing")
    return replace(entry, score=evaluate(formula, Reading(net=facts)))


@dataclass(frozen=True)
class _Job:
    """What one worker does for one architecture."""

    score: AnyProxy
    space: Space | None
    arch: Any
    spec: InputSpec | None
    batch: Batch


def _rate_network(job: _Job) -> tuple[float | None, str]:
    """The score, or None and why there is none. On one thread, so that sums are added in one order."""
    assert job.space is not None
    assert job.spec is not None
    with one_thread():
        model = job.space.build(job.arch, job.spec, WEIGHTS_SEED)
        try:
            return job.score.score(model, *job.batch.tensors(job.spec)), ""
        except ProxyError as error:
            return None, str(error)
        finally:
            del model
            give_back_memory()
