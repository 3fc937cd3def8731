"""Training run: architectures of a space trained on data sets; a journal lets a killed run continue."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import numpy as np

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.benchmarks.task_input import TaskInput
from autoprox.bench_cache.runtime.checks import BenchmarkError, check_name
from autoprox.bench_cache.runtime.journal import Journal, JournalError
from autoprox.bench_cache.runtime.local_pool import Workers, one_thread, opened_pool
from autoprox.bench_cache.runtime.submit import results
from autoprox.bench_cache.runtime.versions import versions
from autoprox.bench_cache.spaces.registry import get_space, pinned, space_record
from autoprox.bench_cache.training.dataset import Dataset
from autoprox.bench_cache.training.trainer import Recipe, train

#: Called with the number of trainings that are done, and the number of all.
TrainingProgress = Callable[[int, int], None]

#: The number of images that come with a task, for the probe `data`.
PROBE_IMAGES = 16
#: The values of settings in journals from before these settings existed.
_UNSAID = {"first_seed": 0}
#: What a user can do after a worker was lost.
GO_ON = "call the same command again with --resume"


class TrainingJournal(Journal):
    """The journal of a training run: one line for each architecture on each data set, in the order they ended."""

    FORMAT: ClassVar[str] = "autoprox-training"
    COUNTER: ClassVar[str] = "number"


@dataclass(frozen=True)
class TrainingPlan:
    """What is trained: `archs` architectures, drawn from the space with `sample_seed`, each on every data set.

    Each is trained `seeds` times, with the seeds from `first_seed` to first_seed + seeds − 1.

    Raises:
        BenchmarkError: a number is too small, or two data sets have the same name.
        ArchitectureError: the space is unknown, or cannot read a data set.
    """

    space: str
    datasets: tuple[Dataset, ...]
    archs: int
    seeds: int
    recipe: Recipe
    sample_seed: int = 0
    first_seed: int = 0

    def __post_init__(self) -> None:
        for name, lowest in (("archs", 1), ("seeds", 1), ("sample_seed", 0), ("first_seed", 0)):
            if getattr(self, name) < lowest:
                raise BenchmarkError(f"{name} is {getattr(self, name)}; it must be at least {lowest}")
        names = [data.name for data in self.datasets]
        if len(set(names)) < len(names):
            raise BenchmarkError(f"two data sets are called {max(names, key=names.count)}")
        object.__setattr__(self, "space", pinned(self.space))
        space = get_space(self.space)
        for data in self.datasets:
            space.params(space.sample(Random(0)), data.spec)  # raises for an input that the space cannot read

    def architectures(self) -> tuple[Any, ...]:
        """Return the architectures, all different, in the order in which they were drawn.

        Raises:
            BenchmarkError: the space has fewer, or so few that drawing did not find as many.
        """
        space, rng = get_space(self.space), Random(self.sample_seed)
        drawn: dict[str, Any] = {}
        for _ in range(100 * self.archs):
            arch = space.sample(rng)
            drawn.setdefault(space.key(arch), arch)
            if len(drawn) == self.archs:
                return tuple(drawn.values())
        raise BenchmarkError(f"found only {len(drawn)} architectures in space {space.name}; ask for fewer")

    def facts(self) -> dict[str, Any]:
        """Return all that the accuracies depend on, as the journal's first line has it."""
        return {
            "space": space_record(self.space),
            "archs": self.archs,
            "seeds": self.seeds,
            "sample_seed": self.sample_seed,
            "first_seed": self.first_seed,
            "recipe": asdict(self.recipe),
            "datasets": {
                data.name: {
                    "train_images": len(data.train_labels),
                    "test_images": len(data.test_labels),
                    "balanced": data.balanced,
                    "spec": asdict(data.spec),
                    "sha256": data.digest,
                    "source": data.source,
                }
                for data in self.datasets
            },
            "versions": versions(),
        }


@dataclass(frozen=True)
class TrainingResult:
    """The result of a complete run.

    Attributes:
        plan: what was trained.
        accuracies: by data set, in percent, architectures × seeds.
        seconds: how long it took on one core.
        begun_with: the versions that the run was begun with; empty in a journal from before they were recorded.
    """

    plan: TrainingPlan
    accuracies: dict[str, np.ndarray]
    seconds: float
    begun_with: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingJob:
    """The trainings of one architecture on one data set, one for each seed."""

    space: str
    arch: Any
    data: Dataset
    recipe: Recipe
    seeds: int
    first_seed: int = 0


def run_job(job: TrainingJob) -> tuple[list[float], float]:
    """Return the accuracy in percent for each seed, and the seconds of one core.

    It runs on one thread, so that workers do not compete for cores.
    """
    began, seeds = time.process_time(), range(job.first_seed, job.first_seed + job.seeds)
    with one_thread():
        accuracies = train(get_space(job.space), job.arch, job.data.spec, job.data, job.recipe, seeds)
    return accuracies, time.process_time() - began


def begin(path: Path, plan: TrainingPlan) -> int:
    """Start the journal, or check that one can be continued; return how many of the trainings are done.

    Raises:
        JournalError: the journal is damaged, or of another plan; then the message names the first difference.
    """
    if not path.exists():
        TrainingJournal.create(path, plan.facts())
        return 0
    journal = TrainingJournal.open(path)
    _check_same(path, journal.settings, plan.facts())
    return len(journal.records)


def _check_same(path: Path, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for name, value in wanted.items():
        if stored.get(name, _UNSAID.get(name)) != value and name != "versions":  # `carry_out` gives notice of these
            raise JournalError(
                f"{path} was begun with another {name} ({stored.get(name)!r:.80}, now {value!r:.80}); "
                "go on with the same options, or choose another --out"
            )


def carry_out(
    path: Path,
    plan: TrainingPlan,
    workers: Workers,
    progress: TrainingProgress | None = None,
    on_notice: Callable[[str], None] = lambda line: None,
) -> TrainingResult:
    """Do all trainings of the plan that the journal lacks, and return the result of the run.

    Raises:
        JournalError: as `begin` does, or another process is continuing the run.
        WorkerError: a worker died; what is in the journal is kept.
    """
    with TrainingJournal.held(path, on_notice) as journal:
        _check_same(path, journal.settings, plan.facts())
        architectures = plan.architectures()
        wanted = [(number, data.name) for number in range(plan.archs) for data in plan.datasets]
        done = {(record["arch"], record["dataset"]): record for record in journal.records}
        data = {each.name: each for each in plan.datasets}
        missing = [key for key in wanted if key not in done]
        jobs = [
            TrainingJob(plan.space, architectures[n], data[name], plan.recipe, plan.seeds, plan.first_seed)
            for n, name in missing
        ]
        with opened_pool(workers, preload=[__name__]) as pool:
            for number, (accuracies, seconds) in results(pool, run_job, jobs, GO_ON):
                arch, name = missing[number]
                spent = round(seconds, 2)
                record = {"number": len(done), "arch": arch, "dataset": name, "accuracy": accuracies, "seconds": spent}
                journal.append(record)
                done[arch, name] = record
                if progress:
                    progress(len(done), len(wanted))
        return _trained(plan, done, journal.begun_with)


def _trained(
    plan: TrainingPlan, done: dict[tuple[int, str], dict[str, Any]], begun_with: Mapping[str, str]
) -> TrainingResult:
    accuracies = {
        data.name: np.array([done[number, data.name]["accuracy"] for number in range(plan.archs)])
        for data in plan.datasets
    }
    return TrainingResult(plan, accuracies, sum(record["seconds"] for record in done.values()), begun_with)


def check_output(path: Path, name: str | None) -> str:
    """Return the benchmark's name: the given one or, without it, that of the file.

    Raises:
        BenchmarkError: it cannot name a benchmark.
    """
    return check_name(path.stem if name is None else name, "benchmark")


def make_benchmark(trained: TrainingResult, name: str, command: str = "") -> Benchmark:
    """Return the benchmark of a complete run: a task for each data set, labelled with the mean accuracy over the seeds.

    Each task also has the networks' input, `PROBE_IMAGES` images for the probe `data` (see `Dataset.probe_images`), and
    the accuracy of every seed. The benchmark's data card has all facts of the run.
    """
    plan = trained.plan
    card = {**plan.facts(), "command": command, "core_hours": round(trained.seconds / 3600, 2)}
    if trained.begun_with and dict(trained.begun_with) != versions():
        card["begun_with"] = dict(trained.begun_with)  # `versions` are those it ended with
    return Benchmark(
        name=name,
        space=plan.space,
        spec=plan.datasets[0].spec,
        source=f"trained by autoprox on {', '.join(data.name for data in plan.datasets)}, {plan.seeds} seeds",
        architectures=plan.architectures(),
        tasks={task: runs.mean(1) for task, runs in trained.accuracies.items()},
        inputs={
            data.name: TaskInput(data.spec, *data.probe_images(PROBE_IMAGES), data.source) for data in plan.datasets
        },
        seeds=trained.accuracies,
        card=card,
    )
