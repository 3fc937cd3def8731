"""NetworkScorer: what scorers of a benchmark's networks share, small or large; it builds the statistics ahead."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path

import numpy as np

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.benchmarks.task_input import Network
from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.bench_cache.runtime.devices import CPU
from autoprox.bench_cache.runtime.local_pool import LocalPool
from autoprox.bench_cache.runtime.submit import results
from autoprox.bench_cache.spaces.registry import InputSpec, get_space
from autoprox.bench_cache.statistics.protocol import BuildProgress, Held
from autoprox.bench_cache.statistics.subject import Subject
from autoprox.bench_cache.statistics.worker import NetworkTask, build, is_built
from autoprox.primitives.evaluate import is_readable, reductions
from autoprox.primitives.formula import Formula

#: Of how many sets of architectures a scorer remembers how they are held: splits, mostly.
REMEMBERED = 8


class NetworkScorer(ABC):
    """Formulas' scores on the networks of one benchmark, from statistics under `root`.

    `network` is one of `Benchmark.networks`, the first if it is not given. `batch`, `seed` and `device` are those of
    `Subject`; formulas are evaluated on the device too. `executor` is any concurrent.futures.Executor; None computes
    here. `reading` may be set to a function that is told how many large networks were read, of how many.

    Raises:
        BenchmarkError: the benchmark is tabular.
    """

    #: Every so many rows and columns of the matrices are held in memory.
    stride: int
    #: Whether only samples are kept: `prepare` builds them of all networks that it is given.
    sampled = False

    def __init__(
        self,
        benchmark: Benchmark,
        root: Path,
        *,
        network: Network | None = None,
        batch: int = 2,
        seed: int = 0,
        executor: Executor | None = None,
        device: str = CPU,
    ) -> None:
        self.space, spec = buildable(benchmark)
        self.benchmark = benchmark
        self.convolutional = get_space(self.space).convolutional
        self.network = network or benchmark.networks()[0]
        self.root = root
        self.executor = executor
        spec, given = self.network.spec or spec, self.network.input
        given = given and given.first(batch)  # no more images than are read go to the workers
        every = benchmark.architectures
        self.subjects = [Subject(self.space, arch, spec, batch, seed, given, device) for arch in every]
        self.structure = benchmark.structure(spec)
        self.depths = self.structure["depth"].astype(int)
        self._held: dict[bytes, Held] = {}
        self.homes: dict[str, str] = {}  # of subjects, by their keys: see `prepare`
        self.reading: BuildProgress = lambda done, of: None

    @property
    @abstractmethod
    def kept(self) -> Collection[int]:
        """The architectures whose statistics stay on disk."""

    @abstractmethod
    def _fitting(self, like: Subject, kept: Sequence[Subject], missing: list[NetworkTask]) -> list[NetworkTask]:
        """Return the tasks of what is missing for which the disk has room, if each takes as much as `like`."""

    def _check_room(self, size: int, count: int) -> None:
        """Check that the disk has room for what `count` networks take.

        Raises:
            BenchmarkError: it has not.
        """
        free = shutil.disk_usage(self.root).free
        if size * count > free:
            raise BenchmarkError(
                f"the statistics of {self.benchmark.name} need another {size * count / 1e9:.1f} GB in "
                f"{self.root}, where {free / 1e9:.1f} GB are free; set AUTOPROX_HOME to a folder on a larger disk"
            )

    @abstractmethod
    def scores(self, formulas: Sequence[Formula], indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return scores, formulas × indices, float64, to 40 bits (see `rounded`)."""

    def held(self, indices: np.ndarray) -> Held:
        """Return the networks of these architectures as they are held in memory: one object for the same ones."""
        key = np.asarray(indices, dtype=np.int64).tobytes()
        if key not in self._held:
            if len(self._held) == REMEMBERED:
                self._held.pop(next(iter(self._held)))
            subjects = tuple(self.subjects[i] for i in indices)
            self._held[key] = Held(self.root, self.executor, self.stride, subjects, self.depths[indices])
        return self._held[key]

    def prepare(
        self,
        formulas: Iterable[Formula],
        indices: Iterable[int],
        progress: BuildProgress | None = None,
        homes: Mapping[str, str] | None = None,
    ) -> None:
        """Build the cached statistics that the formulas read, for the architectures that are kept on disk.

        The workers of an executor that is not a LocalPool may have disks of their own. Each then builds what its disk
        lacks, under the same path; `homes` (see `shard_homes`) say which networks it will be asked for. The first
        network that is built shows how large the rest will be, on this disk; a worker's own disk is not looked at.
        Large networks for which there is no room leave `kept`, and only their samples are stored.

        Raises:
            BenchmarkError: there is no room for small ones, or for samples.
        """
        self.homes = dict(homes or {})
        readable = [formula for formula in formulas if is_readable(formula, self.convolutional)]
        parts, stride = tuple(reductions(readable, self.convolutional)), self.stride
        wanted = [(self.subjects[i], int(i) in self.kept) for i in indices]
        tasks = [
            NetworkTask(str(self.root), subject, parts, (), keep, stride, self._home(subject))
            for subject, keep in wanted
            if keep or self.sampled
        ]
        missing = [task for task in tasks if not is_built(task)]
        here = self.executor is None or isinstance(self.executor, LocalPool)
        first = missing[0] if missing else None if here or not tasks else tasks[0]
        if first:
            for _ in results(None if here else self.executor, build, [first]):
                pass
            one_disk = is_built(first)  # a worker built it, and it is seen here
            missing = [task for task in (missing if missing and one_disk else tasks) if task is not first]
            if missing and one_disk:
                missing = self._fitting(first.subject, [task.subject for task in tasks], missing)
        done = len(tasks) - len(missing)
        for now_done, _ in enumerate(results(self.executor, build, missing), done + 1):
            if progress:
                progress(now_done, len(tasks))

    def _home(self, subject: Subject) -> str:
        return self.homes.get(subject.key, subject.key)

    def _refuse_columns(self, formulas: Iterable[Formula]) -> None:
        for terminal in (t for formula in formulas for t in formula.terminals() if t.statistic.column):
            raise BenchmarkError(f"{terminal} is of a table; the networks of {self.benchmark.name} have none")


def buildable(benchmark: Benchmark) -> tuple[str, InputSpec]:
    """Return the space and input of a benchmark's networks.

    Raises:
        BenchmarkError: the benchmark is tabular, and has no networks.
    """
    if benchmark.space is None or benchmark.spec is None:
        raise BenchmarkError(f"benchmark {benchmark.name} is tabular: its networks cannot be built and probed")
    return benchmark.space, benchmark.spec
