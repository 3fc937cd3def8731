"""Train what a search found."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from autoprox.api.devices import DEVICES, chosen_device
from autoprox.bench_cache.training.built_in import BUILT_IN
from autoprox.bench_cache.training.trainer import Recipe
from autoprox.cli.options import NamesOptions, given_options
from autoprox.display.terminal import make_console, say, show
from autoprox.display.training import TrainScreen, heading, training_parts
from autoprox.train.found import chosen_rows, read_found
from autoprox.train.plan import BAND, DataChoice, TrainPlan, make_plan, read_plan
from autoprox.train.run import run_training, start_training
from autoprox.vocabulary import as_options

_RECIPE = Recipe()
#: How many seeds each network is trained from: alone, and in a comparison.
_ALONE, _COMPARED = 1, 5


class Rows(click.ParamType):
    """Rows of a result: 1, 1-5 or 1,3,7-9."""

    name = "rows"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the rows, in the order in which they are named."""
        if not re.fullmatch(r"\d{1,6}(-\d{1,6})?(,\d{1,6}(-\d{1,6})?)*", str(value)):
            self.fail(f"'{value!s:.40}' are no rows; write 1, 1-5 or 1,3,7-9", param, ctx)
        found: list[int] = []
        for part in str(value).split(","):
            first, _, last = part.partition("-")
            rows = range(int(first), int(last or first) + 1)
            if not 0 < len(rows) <= 1000:
                self.fail(f"'{part}' has no rows, or more than 1,000", param, ctx)
            found += rows
        return tuple(found)


@click.command("train", cls=NamesOptions)
@click.argument("result", required=False, type=click.Path(path_type=Path))
@click.option("--rows", "--row", type=Rows(), default="1", show_default=True, help="Rows of RESULT: 1, 1-5 or 1,3.")
@click.option(
    "--dataset",
    metavar="NAME|FOLDER|FILE",
    help=f"{', '.join(BUILT_IN)}, a folder of images by class, or an .npz file.",
)
@click.option(
    "--against",
    type=click.Choice(["random"]),
    help="Train a random architecture of the same size for each row too, and say whether search helped.",
)
@click.option(
    "--band",
    type=float,
    default=100 * BAND,
    show_default=True,
    help="Percent by which the parameters of a random architecture may differ from the row's.",
)
@click.option("--epochs", type=int, default=_RECIPE.epochs, show_default=True, help="Passes over the training images.")
@click.option("--batch", type=int, default=_RECIPE.batch, show_default=True, help="Images of a training step.")
@click.option("--lr", type=float, default=_RECIPE.lr, show_default=True, help="Highest learning rate of AdamW.")
@click.option("--seed", type=int, default=0, show_default=True, help="First seed. Same seed, same result.")
@click.option("--seeds", type=int, show_default=f"{_ALONE}; {_COMPARED} with --against", help="Trainings of a network.")
@click.option("--device", default="auto", show_default=True, metavar="DEVICE", help=f"{DEVICES}.")
@click.option("--train-images", type=int, help="About how many to train on, classes in proportion.  [default: all]")
@click.option("--test-images", type=int, help="About how many to test on, classes in proportion.  [default: all]")
@click.option("--image-size", type=int, help="Pixels that images of a folder are scaled to.  [default: the search's]")
@click.option("--patch-size", type=int, help="Pixels of a patch.  [default: the data set's; of a folder, the search's]")
@click.option("--space", metavar="FILE.py:NAME", help="Space of your own that the result is of.")
@click.option("--out", type=click.Path(path_type=Path), help="Directory of the training.  [default: trained/NUMBER]")
@click.option("--resume", is_flag=True, help="Go on with the training in --out; it needs no other option.")
@click.pass_context
def command(
    context: click.Context, result: Path | None, resume: bool, out: Path | None, space: str | None, **choices: Any
) -> None:
    """Train architectures of RESULT, the directory of a search, from scratch, and tell their test accuracy.

    It is the trainer that makes benchmarks: AdamW, warm-up and cosine, no augmentation; mixed precision on a GPU. With
    --against random, networks of the same size are trained alike. The test accuracy is that of the last epoch.
    """
    console, own = make_console(), [space] if space else []
    if resume:
        plan, searched, out = _resumed(given_options(context) & choices.keys(), result, out, own), None, out or Path()
    else:
        plan, searched = _plan(result, own, choices)
        out = _fresh() if out is None else out
        start_training(plan, out)
    show(console, heading(plan, out, searched))
    try:
        with TrainScreen(console, plan) as screen:
            trained = run_training(plan, out, on_progress=screen.progress, on_notice=screen.notice)
    except KeyboardInterrupt:
        again = f"autoprox train --resume --out {shlex.quote(str(out))}{as_options(own, ())}"
        say(console, f"The epochs up to the last checkpoint are kept.\nNext: {again}")
        raise
    show(console, training_parts(plan, trained, out))


def _resumed(given: set[str], result: Path | None, out: Path | None, own: list[str]) -> TrainPlan:
    if out is None:
        raise click.UsageError("--resume goes on with the training in --out DIR; name it")
    if given or result is not None:
        named = f"--{min(given).replace('_', '-')}" if given else "RESULT"
        raise click.UsageError(f"{out} has its own settings; resume it without {named}")
    return read_plan(out, own)


def _plan(result: Path | None, own: list[str], choices: Mapping[str, Any]) -> tuple[TrainPlan, Any]:
    """Return the plan that the options describe, and what the networks of the search read."""
    if result is None:
        raise click.UsageError("train what? Name RESULT, the directory of a search (`autoprox search --out DIR`)")
    if choices["dataset"] is None:
        raise click.UsageError(f"train on what? Name a --dataset: {', '.join(BUILT_IN)}, a folder, or an .npz file")
    found, against = read_found(result, own), choices["against"] is not None
    options = ("image_size", "patch_size", "train_images", "test_images")
    plan = make_plan(
        found,
        chosen_rows(found, choices["rows"]),
        DataChoice(choices["dataset"], **{name: choices[name] for name in options}),
        Recipe(choices["epochs"], choices["batch"], choices["lr"]),
        seeds=choices["seeds"] if choices["seeds"] is not None else _COMPARED if against else _ALONE,
        seed=choices["seed"],
        device=str(chosen_device(choices["device"])),
        band=choices["band"] / 100 if against else None,
    )
    return plan, found.spec


def _fresh() -> Path:
    """Return the first of trained/001, trained/002, ... that is not there."""
    number = 1
    while Path(f"trained/{number:03}").exists():
        number += 1
    return Path(f"trained/{number:03}")
