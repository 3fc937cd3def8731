"""The embedded benchmark: how its table was made, and a check that trainings still reproduce it.

    python benchmarks/mini_vit.py make JOURNAL    train everything (about an hour on two cores; goes on where it
                                                  was stopped) and write bench_cache/data/mini-vit.json
    python benchmarks/mini_vit.py check [N]       train N architectures again (2) and compare with the table

Both need the data sets: pip install 'autoprox[datasets]', and the files of Fashion-MNIST.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from autoprox import Benchmark
from autoprox.bench_cache.benchmarks.library import EMBEDDED_DIR
from autoprox.bench_cache.training.by_reference import load_dataset
from autoprox.bench_cache.training.run import TrainingJob, TrainingPlan, begin, carry_out, make_benchmark, run_job
from autoprox.bench_cache.training.trainer import Recipe

TABLE = EMBEDDED_DIR / "mini-vit.json"
TASKS = ("digits", "fashion", "pines")
COMMAND = (
    "autoprox bench train --space mini-vit --dataset digits --dataset fashion --dataset pines --archs 200 --epochs 7 "
    "--seeds 6 --lr 0.004 --train-images 1000 --test-images 2000 --out mini-vit.json"
)
LIMITS = (
    "small grey images and one hyperspectral scene: results need not carry over to natural colour images",
    "1,000 training images and 7 epochs: the networks are far from converged, and the labels rank how fast they learn",
    "width explains most of the ranking, and all three tasks rank alike: a formula that only finds the width does well",
    "digits has 797 test images: accuracies closer than about a point are one label",
)


def plan() -> TrainingPlan:
    """What `COMMAND` trains."""
    datasets = tuple(load_dataset(name).limited(1000, 2000) for name in TASKS)
    return TrainingPlan("mini-vit", datasets, archs=200, seeds=6, recipe=Recipe(epochs=7, batch=64, lr=4e-3))


def make(journal: Path) -> None:
    """Carry out the training and write the table."""
    wanted = plan()
    done = begin(journal, wanted)
    with Progress() as bars:
        bar = bars.add_task("training", total=wanted.archs * len(TASKS), completed=done)
        trained = carry_out(journal, wanted, os.cpu_count() or 1, lambda ended, _: bars.update(bar, completed=ended))
    benchmark = make_benchmark(trained, "mini-vit", COMMAND)
    replace(benchmark, card={**benchmark.card, "limits": list(LIMITS)}).save(TABLE)


def check(count: int) -> bool:
    """Train the first architectures again, all seeds, and compare with the table; whether they agree.

    On the version of torch and the kind of processor of the card the accuracies must be equal; elsewhere the means
    over the seeds may differ as those of other seeds would: by at most 4 standard errors.
    """
    table, wanted = Benchmark.load(TABLE), plan()
    same = table.card["versions"] == wanted.facts()["versions"]
    shown = Table(title=f"trained again, {'the same' if same else 'other'} version: recorded and new mean accuracy")
    for column in ("architecture", "task", "recorded", "new", "largest difference of a seed", "verdict"):
        shown.add_column(column)
    agree = True
    for number, arch in enumerate(wanted.architectures()[:count]):
        for data in wanted.datasets:
            recorded = table.seeds[data.name][number]
            found, _ = run_job(TrainingJob(wanted.space, arch, data, wanted.recipe, wanted.seeds))
            furthest = float(np.abs(recorded - found).max())
            noise = np.sqrt(table.seeds[data.name].var(1, ddof=1).mean() / wanted.seeds)
            verdict = "exact" if furthest == 0 else "within noise"
            if furthest and abs(recorded.mean() - np.mean(found)) > 4 * noise * np.sqrt(2):
                verdict, agree = "differs", False
            shown.add_row(
                str(number), data.name, f"{recorded.mean():.3f}", f"{np.mean(found):.3f}", f"{furthest:.3f}", verdict
            )
    Console().print(shown)
    return agree


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", journal]:
            make(Path(journal))
        case ["check", *count]:
            sys.exit(0 if check(int(count[0]) if count else 2) else 1)
        case _:
            sys.exit(__doc__)
