"""Make a benchmark by training architectures."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console

from autoprox.bench_cache.runtime.local_pool import Workers
from autoprox.bench_cache.spaces.registry import SPACES, get_space
from autoprox.bench_cache.training.built_in import BUILT_IN
from autoprox.bench_cache.training.by_reference import load_dataset
from autoprox.bench_cache.training.run import (
    TrainingPlan,
    TrainingResult,
    begin,
    carry_out,
    check_output,
    make_benchmark,
)
from autoprox.bench_cache.training.trainer import Recipe
from autoprox.cli.options import chosen_workers, dask_option, typed_command, workers_option
from autoprox.cli.output import Output, output_options, telling_how_to_go_on
from autoprox.display.benchmark import too_few
from autoprox.display.terminal import Counting, progress_console, say, summary
from autoprox.vocabulary import as_options

_RECIPE = Recipe()


@click.command("train")
@click.option(
    "--space",
    default="mini-vit",
    show_default=True,
    metavar="NAME|FILE.py:NAME",
    help=f"One of {', '.join(SPACES)}, or one of your own.",
)
@click.option(
    "--dataset",
    "datasets",
    multiple=True,
    required=True,
    metavar="NAME|FOLDER|FILE",
    help=f"{', '.join(BUILT_IN)}, a folder of images by class, or an .npz file; repeatable: a task each.",
)
@click.option("--archs", type=int, default=200, show_default=True, help="Architectures, the same on every data set.")
@click.option("--epochs", type=int, default=_RECIPE.epochs, show_default=True, help="Epochs of each training.")
@click.option("--seeds", type=int, default=4, show_default=True, help="Trainings of each architecture.")
@click.option(
    "--first-seed", type=int, default=0, show_default=True, help="Seed of the first training; the others count up."
)
@click.option("--batch", type=int, default=_RECIPE.batch, show_default=True, help="Images of a training step.")
@click.option("--lr", type=float, default=_RECIPE.lr, show_default=True, help="Highest learning rate of AdamW.")
@click.option("--train-images", type=int, help="About how many to train on, classes in proportion.  [default: all]")
@click.option("--test-images", type=int, help="About how many to test on, classes in proportion.  [default: all]")
@click.option("--image-size", type=int, help="Pixels that images of a folder are scaled to.  [default: 32]")
@click.option("--patch-size", type=int, help="Pixels of a patch.  [default: the data set's, or a quarter of the image]")
@click.option("--sample-seed", type=int, default=0, show_default=True, help="Seed that draws the architectures.")
@workers_option
@dask_option
@click.option("--name", help="Name of the benchmark.  [default: that of the file]")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The benchmark, JSON.")
@click.option("--resume", is_flag=True, help="Go on with the same command, whose trainings are in OUT.journal.")
@click.pass_context
@output_options
def command(
    context: click.Context,
    space: str,
    datasets: Sequence[str],
    archs: int,
    epochs: int,
    seeds: int,
    first_seed: int,
    batch: int,
    lr: float,
    train_images: int | None,
    test_images: int | None,
    image_size: int | None,
    patch_size: int | None,
    sample_seed: int,
    workers: int,
    dask: str | None,
    name: str | None,
    out: Path,
    resume: bool,
    output: Output,
) -> None:
    """Train architectures of a space from scratch, and write their accuracies as a benchmark.

    Each training that has ended is noted in a journal, OUT.journal. After a kill, the same command with --resume goes
    on with it. Data sets are checked before anything is trained.
    """
    console = progress_console(silent=output.quiet)
    journal = out.with_name(out.name + ".journal")
    if journal.exists() and not resume:
        raise click.UsageError(f"{journal} holds a run already; go on with --resume, or choose another --out")
    loaded = [
        load_dataset(ref, patch_size=patch_size, image_size=image_size).limited(train_images, test_images)
        for ref in datasets
    ]
    plan = TrainingPlan(space, tuple(loaded), archs, seeds, Recipe(epochs, batch, lr), sample_seed, first_seed)
    name = check_output(out, name)
    with telling_how_to_go_on(context, output, out):
        trained = _trained(console, plan, journal, chosen_workers(context, workers, dask))
    benchmark = make_benchmark(trained, name, typed_command(context).replace(" --resume", ""))
    benchmark.save(out)
    own = as_options([space] if ":" in space else [], ())
    hints = [
        f"{summary(benchmark)}, {trained.seconds / 3600:.1f} hours of one core; written to {out}",
        *(f"{line}; train more: a larger --archs, and another --out" for line in too_few(benchmark)),
        f"Next: autoprox bench show {shlex.quote(str(out))}{own}",
    ]
    record = {"benchmark": name, "architectures": len(benchmark), "tasks": list(benchmark.tasks), "out": out}
    output.print((), lambda: {**record, "seconds": trained.seconds}, hints)


def _trained(console: Console, plan: TrainingPlan, journal: Path, workers: Workers) -> TrainingResult:
    """Train what the journal does not have yet, with a progress bar, or a line now and then without a terminal."""
    done, total = begin(journal, plan), plan.archs * len(plan.datasets)
    say(
        console,
        f"{plan.archs} architectures of {get_space(plan.space).name} on "
        f"{', '.join(data.name for data in plan.datasets)}, {plan.seeds} seeds each: "
        f"{total} trainings, {done} done; journal {journal}",
    )
    with Counting(console, "training") as count:
        count(done, total)
        return carry_out(journal, plan, workers, count, lambda line: say(console, line))
