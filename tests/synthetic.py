"""A small benchmark made up for the tests of evolution: PiTs that build in milliseconds, accuracies by known rules."""

from pathlib import Path
from random import Random

import numpy as np

from autoprox.bench_cache.benchmarks.table import SPLITS, Benchmark
from autoprox.bench_cache.benchmarks.task_input import TaskInput
from autoprox.bench_cache.spaces.pit import PitArch
from autoprox.bench_cache.spaces.registry import InputSpec, get_space
from autoprox.bench_cache.statistics.scorer import network_scorer
from autoprox.evolve import Judge, Task

SPEC = InputSpec(image_size=24, num_classes=10, patch_size=8)
LARGEST = 300_000  # parameters


def architectures(count: int, seed: int = 0) -> list[PitArch]:
    """Draw distinct small PiTs, half of them in the evolve split, a fifth (of six at most) in validation."""
    space = get_space("pit-vb101")
    small = [arch for arch in space.architectures() if space.params(arch, SPEC) < LARGEST]  # type: ignore[attr-defined]
    small = Random(seed).sample(small, len(small))
    splits = Benchmark("all", space.name, SPEC, "", tuple(small), {"task": np.zeros(len(small))}).splits()
    evolve, validation, test = (list(splits[split]) for split in SPLITS)
    first = [*evolve[: count - count // 2], *validation[: count // 5]]
    return [small[i] for i in Random(seed).sample([*first, *test[: count - len(first)]], count)]


def benchmark(count: int = 36, name: str = "small", seed: int = 0) -> Benchmark:
    """Make a benchmark of three tasks: `size_kd` follows the parameters, `shape_kd` depth against width, and `rare`
    follows both and is missing for a fifth of the architectures."""
    space, chosen, noise = get_space("pit-vb101"), architectures(count, seed), np.random.default_rng(seed)
    facts = np.array([(np.log(space.params(a, SPEC)), space.depth(a), space.width(a)) for a in chosen])
    params, depth, width = ((facts - facts.mean(0)) / facts.std(0)).T
    tasks = {
        "size_kd": 60 + 8 * params + 2 * depth + noise.normal(0, 2, count),
        "shape_kd": 50 + 5 * depth - 3 * width + noise.normal(0, 2, count),
        "rare": np.where(noise.random(count) < 0.2, np.nan, 70 + 4 * params + 3 * depth + noise.normal(0, 3, count)),
    }
    return Benchmark(name, "pit-vb101", SPEC, "made up by the tests", tuple(chosen), tasks)


def judge(root: Path, *benchmarks: Benchmark, tasks: tuple[str, ...] = ("size_kd", "shape_kd")) -> Judge:
    """Make a judge of the tasks, with the statistics under `root`."""
    scorers = [network_scorer(b, root, kept=b.splits()["evolve"]) for b in benchmarks]
    return Judge(scorers, [Task(number, name) for number in range(len(benchmarks)) for name in tasks])


def mini(count: int) -> Benchmark:
    """Make a benchmark of small ViTs: two tasks with an input and images each, labelled by width and depth."""
    space, rng, noise = get_space("mini-vit"), Random(0), np.random.default_rng(0)
    chosen = list({space.key(arch): arch for arch in (space.sample(rng) for _ in range(4 * count))}.values())[:count]
    widths, depths = (np.array([getattr(a, gene) for a in chosen], float) for gene in ("embed_dim", "depth"))
    specs = {"small": InputSpec(8, 1, 10, 2), "large": InputSpec(12, 2, 4, 4)}
    seeds = {task: 50 + 0.5 * widths[:, None] + depths[:, None] + noise.normal(0, 2, (count, 2)) for task in specs}
    inputs = {
        task: TaskInput(
            spec,
            noise.normal(size=(4, spec.in_channels, spec.image_size, spec.image_size)),
            np.arange(4) % spec.num_classes,
            "made up by the tests",
        )
        for task, spec in specs.items()
    }
    labels = {task: runs.mean(1) for task, runs in seeds.items()}
    return Benchmark(
        "mini",
        space.name,
        specs["small"],
        "made up by the tests",
        tuple(chosen),
        labels,
        {},
        inputs,
        seeds,
        {"epochs": 1},
    )
