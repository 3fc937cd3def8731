"""The benchmark micro-vit: how its table is made, and what its labels are worth.

    python benchmarks/micro_vit.py photos FILE OUT       make OUT, the photographs it trains on (photos.npz), of an .npz
                                                         file of CIFAR-10 (x_train, y_train, x_test, y_test; uint8)
    python benchmarks/micro_vit.py make PHOTOS JOURNAL   train everything, write bench_cache/data/micro-vit.json; the
                                                         further seeds have JOURNAL.more
    python benchmarks/micro_vit.py check PHOTOS JOURNAL  train 24 architectures again and with four other seeds
    python benchmarks/micro_vit.py long PHOTOS JOURNAL   train a tenth of them at three times the epochs
    python benchmarks/micro_vit.py show [TABLE]          trainable networks, and what fitted genes tell of the ranking

All that trains goes on where it was stopped. It needs pip install 'autoprox[datasets]', and Fashion-MNIST's files.
"""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from common import table
from rich.progress import Progress

from autoprox import Benchmark
from autoprox.bench_cache.benchmarks.chance import TIMES_CHANCE, trainable
from autoprox.bench_cache.benchmarks.fitted_structure import fitted_structure
from autoprox.bench_cache.benchmarks.library import EMBEDDED_DIR
from autoprox.bench_cache.benchmarks.reliability import reliability
from autoprox.bench_cache.rank_correlation import tau_b
from autoprox.bench_cache.spaces.registry import get_space
from autoprox.bench_cache.training.by_reference import load_dataset
from autoprox.bench_cache.training.run import TrainingPlan, TrainingResult, begin, carry_out, make_benchmark
from autoprox.bench_cache.training.trainer import Recipe

TABLE = EMBEDDED_DIR / "micro-vit.json"
COMMAND = (
    "autoprox bench train --space micro-vit --dataset digits --dataset fashion --dataset pines --dataset photos.npz "
    "--archs 300 --epochs 8 --batch 32 --seeds 4 --lr 0.003 --train-images 1500 --test-images 2000 --out micro-vit.json"
)
MORE_COMMAND = (
    "autoprox bench train --space micro-vit --dataset pines --archs 300 --epochs 8 --batch 32 --seeds 8 --first-seed 4 "
    "--lr 0.003 --train-images 1500 --test-images 2000 --out micro-vit-more.json"
)
#: Tasks whose labels are the mean over further seeds: neighbouring architectures are closer there than their seeds.
MORE_SEEDS = {"pines": 8}
PHOTOS = (
    "5,000 and 2,000 photographs of CIFAR-10, 32 x 32, 10 classes (Krizhevsky 2009): trained on, not passed on; "
    "the images here are coloured clouds of our own"
)
LIMITS = (
    "24 channels, four blocks, 1,000 to 1,500 training images: results need not carry over to large networks",
    "no augmentation, one recipe for all: an architecture that needs another learning rate counts as a bad one",
    "genes are drawn alike for all blocks by even chances: a part of the ranking follows from the genes alone",
)
CHECKED, OTHER_SEEDS, LONGER = 24, 4, 3


def plan(photos: Path) -> TrainingPlan:
    """What `COMMAND` trains."""
    datasets = tuple(load_dataset(name).limited(1500, 2000) for name in ("digits", "fashion", "pines"))
    pictures = load_dataset(str(photos)).limited(1500, 2000)
    if pictures.name != "photos":
        raise SystemExit(f"{photos}: the file is to be called photos.npz, because tasks have the names of files")
    return TrainingPlan(
        "micro-vit", (*datasets, pictures), archs=300, seeds=4, recipe=Recipe(epochs=8, batch=32, lr=3e-3)
    )


def trained(wanted: TrainingPlan, journal: Path) -> TrainingResult:
    """Carry out a training from wherever its journal ends."""
    done = begin(journal, wanted)
    with Progress() as bars:
        bar = bars.add_task("training", total=wanted.archs * len(wanted.datasets), completed=done)
        return carry_out(journal, wanted, os.cpu_count() or 1, lambda ended, _: bars.update(bar, completed=ended))


# --- photographs ---


def photos(source: Path, out: Path) -> None:
    """Write the photographs as `bench train` reads them, with pictures of our own for the probe `data`.

    No licence is stated for the photographs: they may be trained on here, and nothing of them is passed on.
    """
    with np.load(source, allow_pickle=False) as file:
        arrays = {name: file[name] for name in ("x_train", "y_train", "x_test", "y_test")}
    pictures = clouds(32)
    np.savez(out, **arrays, probe_images=pictures, probe_labels=np.arange(len(pictures)) % 10)


def clouds(count: int, size: int = 32) -> np.ndarray:
    """Coloured clouds, uint8, count × size × size × 3: noise whose amplitude falls as 1 / frequency; seeded.

    Natural images have that spectrum (Field 1987, doi 10.1364/JOSAA.4.002379), and colours that go together: the three
    channels have a pattern in common, and a weaker one of their own.
    """
    rng = np.random.default_rng(0)
    across = np.fft.fftfreq(size)
    frequency = np.hypot(across[:, None], across)
    frequency[0, 0] = np.inf
    noise = np.fft.fft2(rng.normal(size=(count, 4, size, size))) / frequency
    patterns = np.fft.ifft2(noise).real
    patterns /= patterns.std((2, 3), keepdims=True)
    mixed = 0.8 * patterns[:, :1] + 0.6 * patterns[:, 1:]
    return np.clip(120 + 60 * mixed, 0, 255).round().astype(np.uint8).transpose(0, 2, 3, 1)


# --- training ---


def make(pictures: Path, journal: Path) -> None:
    """Carry out the training, with the further seeds of `MORE_SEEDS`, and write the table."""
    wanted = plan(pictures)
    first = make_benchmark(trained(wanted, journal), "micro-vit", COMMAND)
    runs, hours = dict(first.seeds), first.card["core_hours"]
    for task, seeds in MORE_SEEDS.items():
        data = tuple(each for each in wanted.datasets if each.name == task)
        further = replace(wanted, datasets=data, seeds=seeds, first_seed=wanted.seeds)
        found = trained(further, journal.with_name(f"{journal.name}.more"))
        runs[task] = np.hstack([runs[task], found.accuracies[task]])
        hours += found.seconds / 3600
    card = {
        **first.card,
        "more_seeds": MORE_SEEDS,
        "more_command": MORE_COMMAND,
        "core_hours": round(hours, 2),
        "limits": list(LIMITS),
    }
    card["datasets"]["photos"]["source"] = PHOTOS
    replace(
        first,
        tasks={task: each.mean(1) for task, each in runs.items()},
        seeds=runs,
        inputs={**first.inputs, "photos": replace(first.inputs["photos"], source=PHOTOS)},
        card=card,
    ).save(TABLE)


def check(pictures: Path, journal: Path) -> bool:
    """Train the first architectures with the recorded seeds and with others; whether the recorded ones are reproduced.

    On the version of torch and the kind of processor of the card these must be equal. They are trained together, as
    they were: with more seeds in a batched network, sums are rounded in another order, and training takes other ways
    where it is unstable. The other seeds have JOURNAL.other; their means are compared with the recorded ones.
    """
    recorded, wanted = Benchmark.load(TABLE), replace(plan(pictures), archs=CHECKED)
    others = replace(wanted, seeds=OTHER_SEEDS, first_seed=wanted.seeds)
    again, with_others = trained(wanted, journal), trained(others, journal.with_name(f"{journal.name}.other"))
    same = recorded.card["versions"] == wanted.facts()["versions"]
    rows, furthest = [], 0.0
    for task, runs in again.accuracies.items():
        before = recorded.seeds[task][:CHECKED, : wanted.seeds]
        difference = float(np.abs(runs - before).max())
        furthest = max(furthest, difference)
        other = with_others.accuracies[task].mean(1)
        spread = np.median(np.abs(other - before.mean(1)))
        rows.append([task, f"{difference:.3f}", tau(before.mean(1), other), f"{spread:.2f}"])
    title = f"{CHECKED} architectures again ({'the same' if same else 'another'} torch and processor)"
    table(title, ("task", "largest difference", "tau, other seeds", "median distance, points"), rows)
    return furthest == 0 or not same


def long(pictures: Path, journal: Path) -> None:
    """Train the first tenth at three times the epochs, and compare the rankings."""
    recorded, wanted = Benchmark.load(TABLE), plan(pictures)
    count = wanted.archs // 10
    recipe = replace(wanted.recipe, epochs=LONGER * wanted.recipe.epochs)
    rows = []
    for task, runs in trained(replace(wanted, archs=count, recipe=recipe), journal).accuracies.items():
        short, longer = recorded.seeds[task][:count, : wanted.seeds], runs.mean(1)
        ceilings = [reliability(each).halves for each in (short, runs)]
        gain = np.median(longer - short.mean(1))
        learnt = above_chance(recorded, task)[:count]
        both = tau(short.mean(1), longer), tau(short.mean(1)[learnt], longer[learnt])
        rows.append([task, *both, *(f"{each:+.3f}" for each in ceilings), f"{gain:+.1f}"])
    columns = ("task", "tau", "trainable", "halves, short", "halves, long", "median gain, points")
    table(f"{count} architectures at {recipe.epochs} epochs in place of {wanted.recipe.epochs}", columns, rows)


# --- what the labels are worth ---


def show(path: Path) -> None:
    """Print how many networks are trainable, how far halves of the seeds agree, and what the genes tell."""
    benchmark = Benchmark.load(path)
    rows = []
    for task, accuracy in benchmark.tasks.items():
        learnt = above_chance(benchmark, task)
        halves = [reliability(benchmark.seeds[task][kept]).halves for kept in (slice(None), learnt)]
        low, mid, high = np.quantile(accuracy, (0, 0.5, 1))
        cells = [f"{int((~learnt).sum())}", f"{low:.1f}", f"{mid:.1f}", f"{high:.1f}"]
        rows.append([task, *cells, *(f"{each:+.3f}" for each in halves), *fitted(benchmark, task, learnt)])
    columns = (
        "task", "at chance", "lowest", "median", "highest", "halves", "trainable", "fitted", "trainable", "forest",
        "trainable",
    )  # fmt: skip
    notes = (
        f"at chance: mean accuracy below {TIMES_CHANCE} times chance; halves: tau between halves of the seeds",
        "fitted, forest: tau on the test split of fitted structure, and of a random forest of the genes",
        "trainable: the number before it, over the networks above chance alone",
        *structure_notes(benchmark),
    )
    table(f"{benchmark.name}: {len(benchmark)} architectures", columns, rows, notes)


def above_chance(benchmark: Benchmark, task: str) -> np.ndarray:
    """Whether each network does better than chance."""
    mask = trainable(benchmark, task)
    assert mask is not None  # every task has images and their classes
    return mask


def structure_notes(benchmark: Benchmark) -> Iterator[str]:
    """What the structure says: nothing, where each is one number for all."""
    for network in benchmark.networks():
        for fact, values in benchmark.structure(network.spec).items():
            if len(np.unique(values)) > 1:
                yield f"{fact} is not one number for all on {', '.join(network.tasks)}"


def fitted(benchmark: Benchmark, task: str, learnt: np.ndarray) -> list[str]:
    """Tau on the test split of two models of the genes, each over all networks and over the trainable ones."""
    from sklearn.ensemble import RandomForestRegressor

    def forest(leaf: int) -> np.ndarray:
        model = RandomForestRegressor(300, min_samples_leaf=leaf, max_features=0.5, random_state=0)
        return model.fit(genes[splits["evolve"]], accuracy[splits["evolve"]]).predict(genes)

    def on_validation(predicted: np.ndarray) -> float:
        held = splits["validation"]
        return tau_b(predicted[held], accuracy[held])

    genes, accuracy, splits = one_hot(benchmark), benchmark.tasks[task], benchmark.splits()
    ridge = fitted_structure(benchmark, task)
    assert ridge is not None
    cells, test = [], splits["test"]
    for predicted in (ridge.predicted, max(map(forest, (1, 3, 10)), key=on_validation)):
        kept = test[learnt[test]]
        cells += [tau(predicted[test], accuracy[test]), tau(predicted[kept], accuracy[kept])]
    return cells


def one_hot(benchmark: Benchmark) -> np.ndarray:
    """For each gene and choice: whether each block has it, and in how many blocks it is. Float64, architectures × …"""
    space = get_space(str(benchmark.space))
    columns = []
    for gene, choices in space.choices().items():
        values = np.array([getattr(arch, gene) for arch in benchmark.architectures])
        for choice in choices:
            has = (values == choice).astype(np.float64)
            columns += [has, has.sum(1, keepdims=True)]
    return np.concatenate(columns, axis=1)


def tau(a: np.ndarray, b: np.ndarray) -> str:
    """Kendall's tau-b as a table has it."""
    return f"{tau_b(a, b):+.3f}"


if __name__ == "__main__":
    commands: dict[str, Callable[[Path, Path], object]] = {
        "photos": photos, "make": make, "check": check, "long": long
    }  # fmt: skip
    match sys.argv[1:]:
        case [name, first, second] if name in commands:
            sys.exit(1 if commands[name](Path(first), Path(second)) is False else 0)
        case ["show", *path]:
            show(Path(path[0]) if path else TABLE)
        case _:
            sys.exit(__doc__)
