"""Train run: architectures of a space trained on data sets, from a journal that goes on where it was killed."""

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
from autoprox.bench_cache.runtime.local_pool import one_thread, opened_pool
from autoprox.bench_cache.runtime.submit import results
from autoprox.bench_cache.runtime.versions import versions
from autoprox.bench_cache.spaces.registry import get_space
from autoprox.bench_cache.training.dataset import Dataset
from autoprox.bench_cache.training.trainer import Recipe, train

TrainingProgress = Callable[[int, int], None]

#: How many images come with a task, for the probe `data`.
PROBE_IMAGES = 16
#: What journals from before a choice was there were begun with.
_UNSAID = {"first_seed": 0}
#: How to go on after a worker was lost.
GO_ON = "call the same command again"


class TrainingJournal(Journal):
    """The journal of a training run: one line for each architecture on each data set, in the order they ended."""

    FORMAT: ClassVar[str] = "autoprox-training"
    COUNTER: ClassVar[str] = "number"


@dataclass(frozen=True)
class TrainingPlan:
    """What is trained: `archs` architectures drawn from the space by `sample_seed`, each on every data set.

    `seeds` are how many trainings there are of each, with the seeds `first_seed` to first_seed + seeds − 1.

    Raises:
        BenchmarkError: a number that cannot be, two data sets of one name, a space that has fewer architectures or
            cannot read a data set.
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
        space = get_space(self.space)
        for data in self.datasets:
            space.params(space.sample(Random(0)), data.spec)  # refuses an input that the space cannot read

    def architectures(self) -> tuple[Any, ...]:
        """The architectures, each once, in the order they were drawn."""
        space, rng = get_space(self.space), Random(self.sample_seed)
        drawn: dict[str, Any] = {}
        for _ in range(100 * self.archs):
            arch = space.sample(rng)
            drawn.setdefault(space.key(arch), arch)
            if len(drawn) == self.archs:
                return tuple(drawn.values())
        raise BenchmarkError(f"found only {len(drawn)} architectures in space {self.space}; ask for fewer")

    def facts(self) -> dict[str, Any]:
        """All that the accuracies follow from, as the journal's first line has it."""
        return {
            "space": self.space,
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
    """What a complete run found: by data set, architectures × seeds, percent; and the seconds of one core it took.

    `begun_with` are the versions that the run was begun with, empty in a journal from before they were recorded.
    """

    plan: TrainingPlan
    accuracies: dict[str, np.ndarray]
    seconds: float
    begun_with: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingJob:
    """One architecture on one data set."""

    space: str
    arch: Any
    data: Dataset
    recipe: Recipe
    seeds: int
    first_seed: int = 0


def run_job(job: TrainingJob) -> tuple[list[float], float]:
    """The accuracy for each seed, and the seconds of one core. Runs on one thread, so that workers do not contend."""
    began, seeds = time.process_time(), range(job.first_seed, job.first_seed + job.seeds)
    with one_thread():
        accuracies = train(get_space(job.space), job.arch, job.data.spec, job.data, job.recipe, seeds)
    return accuracies, time.process_time() - began


def begin(path: Path, plan: TrainingPlan) -> int:
    """Start the journal, or find that it can be gone on with; how many of the trainings are done.

    Raises JournalError for a journal of another plan: it names the first difference.
    """
    if not path.exists():
        TrainingJournal.create(path, plan.facts())
        return 0
    journal = TrainingJournal.open(path)
    _check_same(path, journal.settings, plan.facts())
    return len(journal.records)


def _check_same(path: Path, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for name, value in wanted.items():
        if stored.get(name, _UNSAID.get(name)) != value and name != "versions":  # of which `carry_out` gives notice
            raise JournalError(
                f"{path} was begun with another {name} ({stored.get(name)!r:.80}, now {value!r:.80}); "
                "go on with the same options, or choose another --out"
            )


def carry_out(
    path: Path,
    plan: TrainingPlan,
    workers: int,
    progress: TrainingProgress | None = None,
    on_notice: Callable[[str], None] = lambda line: None,
) -> TrainingResult:
    """Carry the run of a journal to its end, from wherever it ends.

    Raises JournalError as `begin` does and while another process goes on with it, WorkerError if a worker dies.
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
    """The benchmark's name: the given one, or that of its file. Raises BenchmarkError if it cannot be one."""
    return check_name(path.stem if name is None else name, "benchmark")


def make_benchmark(trained: TrainingResult, name: str, command: str = "") -> Benchmark:
    """The benchmark of a complete run: a task for each data set, labelled by the mean accuracy over the seeds.

    With each task come the networks' input, `PROBE_IMAGES` training images for the probe `data` (drawn ones where a
    licence does not let them be passed on), every seed's accuracy, and a data card.
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
