"""Latency: how long a forward pass of an architecture's network takes, measured on this machine."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch

from autoprox.bench_cache.runtime.devices import wait_for
from autoprox.bench_cache.runtime.local_pool import give_back_memory
from autoprox.bench_cache.spaces.listed import input_of
from autoprox.bench_cache.spaces.registry import InputSpec, Space
from autoprox.search.candidate import Candidate, SearchError
from autoprox.search.scorer import WEIGHTS_SEED, CandidateScorer

#: Passes before the clock starts: the first ones allocate memory and choose kernels.
WARM_UP = 3
#: Passes that are timed at most; fewer, but not below `FEWEST`, once they have taken `SECONDS` together.
RUNS, FEWEST, SECONDS = 20, 5, 1.0
#: Architectures that are timed before they are scored together. Nothing is scored while one is timed.
TOGETHER = 8


@dataclass(frozen=True)
class LatencySetup:
    """What a latency is measured with: the device, images in a batch, and threads of the CPU.

    `machine` is the name of the processor or GPU. Left empty, it is that of this machine.

    Raises:
        SearchError: a number is no whole number of at least 1.
    """

    device: str = "cpu"
    batch: int = 1
    threads: int = 1
    machine: str = ""

    def __post_init__(self) -> None:
        for name in ("batch", "threads"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise SearchError(f"latency_{name} is {value!r}; it must be a whole number of at least 1")
        object.__setattr__(self, "machine", self.machine or machine_name(self.device))

    def __str__(self) -> str:
        """Return in words how a latency is measured."""
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        images = f"batch {self.batch}"
        return f"the median of up to {RUNS} warm forward passes on {self.device} ({self.machine}), {images}, {threads}"


def machine_name(device: str) -> str:
    """Return the name of the GPU, or of the processor."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def milliseconds(seconds: float) -> str:
    """Return a latency with its unit: `12.3 ms`."""
    return f"{1e3 * seconds:.3g} ms"


def measured(model: torch.nn.Module, spec: InputSpec, setup: LatencySetup) -> float:
    """Return the median seconds of a forward pass, in evaluation mode and without gradients, after a warm-up."""
    device = torch.device(setup.device)
    before = torch.get_num_threads()
    torch.set_num_threads(setup.threads)
    try:
        model.eval().to(device)
        shape = (setup.batch, spec.in_channels, spec.image_size, spec.image_size)
        images = torch.zeros(shape, device=device)
        with torch.inference_mode():
            for _ in range(WARM_UP):
                model(images)
            return statistics.median(_passes(lambda: model(images), device))
    finally:
        torch.set_num_threads(before)


def _passes(run: Callable[[], object], device: torch.device) -> list[float]:
    """Return the seconds of each pass; a GPU has ended its work before the clock is read."""
    taken: list[float] = []
    while len(taken) < FEWEST or (len(taken) < RUNS and sum(taken) < SECONDS):
        wait_for(device)
        began = time.perf_counter()
        run()
        wait_for(device)
        taken.append(time.perf_counter() - began)
    return taken


@dataclass(frozen=True)
class Clock:
    """Measures the latency of architectures, in this process.

    Raises:
        SearchError: the search was begun on another machine, whose latencies cannot be compared with those here.
    """

    space: Space
    spec: InputSpec
    setup: LatencySetup

    def __call__(self, candidate: Candidate) -> float:
        """Return the seconds of a forward pass of a candidate's network."""
        here = machine_name(self.setup.device)
        if here != self.setup.machine:
            raise SearchError(f"latencies were measured on {self.setup.machine}, and this is {here}: go on there")
        model = self.space.build(candidate.arch, self.spec, WEIGHTS_SEED)
        try:
            return measured(model, input_of(self.space, candidate.arch, self.spec), self.setup)
        finally:
            del model
            give_back_memory()


def timed_scorer(
    scorer: CandidateScorer, clock: Callable[[Candidate], float], most: float | None = None
) -> CandidateScorer:
    """Return a scorer that measures the latency of each candidate before `scorer` scores it.

    Candidates above `most` seconds are not scored: their problem says how slow they are. No worker scores anything
    while one is measured, so that the number of workers has no part in a latency.
    """

    def timed(candidates: Sequence[Candidate]) -> Iterator[Candidate]:
        waiting = iter(candidates)
        while part := list(islice(waiting, TOGETHER)):
            known = [replace(candidate, latency=clock(candidate)) for candidate in part]
            within = [candidate for candidate in known if most is None or (candidate.latency or 0) <= most]
            scored = scorer(within)
            for candidate in known:
                if most is not None and candidate.latency is not None and candidate.latency > most:
                    slow, limit = milliseconds(candidate.latency), milliseconds(most)
                    yield replace(candidate, problem=f"its latency of {slow} is above max_latency {limit}")
                else:
                    yield next(scored)

    return timed
