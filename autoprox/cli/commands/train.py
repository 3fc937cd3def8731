"""Train what a search found."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import orjson

from autoprox.api.arguments import next_directory
from autoprox.api.training import ALONE, COMPARED, DEFAULTS, train
from autoprox.bench_cache.runtime.devices import DEVICES
from autoprox.bench_cache.training.built_in import BUILT_IN
from autoprox.cli.options import given_options
from autoprox.cli.output import Output, output_options
from autoprox.display.training import next_steps, resume_command
from autoprox.train.run import JOURNAL, RESULT
from autoprox.vocabulary import as_options


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


@click.command("train")
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
    default=DEFAULTS["band"],
    show_default=True,
    help="Percent by which the parameters of a random architecture may differ from the row's.",
)
@click.option("--epochs", type=int, default=DEFAULTS["epochs"], show_default=True, help="Passes over the images.")
@click.option("--batch", type=int, default=DEFAULTS["batch"], show_default=True, help="Images of a training step.")
@click.option("--lr", type=float, default=DEFAULTS["lr"], show_default=True, help="Highest learning rate of AdamW.")
@click.option(
    "--seed", type=int, default=DEFAULTS["seed"], show_default=True, help="The first. Same seed, same result."
)
@click.option("--seeds", type=int, show_default=f"{ALONE}; {COMPARED} with --against", help="Trainings of a network.")
@click.option("--device", default=DEFAULTS["device"], show_default=True, metavar="DEVICE", help=f"{DEVICES}.")
@click.option("--train-images", type=int, help="About how many to train on, classes in proportion.  [default: all]")
@click.option("--test-images", type=int, help="About how many to test on, classes in proportion.  [default: all]")
@click.option("--image-size", type=int, help="Pixels that images of a folder are scaled to.  [default: the search's]")
@click.option("--patch-size", type=int, help="Pixels of a patch.  [default: the data set's; of a folder, the search's]")
@click.option("--space", metavar="FILE.py:NAME", help="Space of your own that the result is of.")
@click.option("--out", type=click.Path(path_type=Path), help="Directory of the training.  [default: trained/NUMBER]")
@click.option("--resume", is_flag=True, help="Go on with the training in --out; it needs no other option.")
@click.pass_context
@output_options
def command(
    context: click.Context, result: Path | None, resume: bool, out: Path | None, space: str | None, output: Output,
    **choices: Any,
) -> None:  # fmt: skip
    """Train architectures of RESULT, the directory of a search, from scratch, and tell their test accuracy.

    It is the trainer that makes benchmarks: AdamW, warm-up and cosine, no augmentation; mixed precision on a GPU. With
    --against random, networks of the same size are trained alike. The test accuracy is that of the last epoch.
    """
    folder = out or (Path() if resume else next_directory(Path("trained")))
    given = {name: choices[name] for name in given_options(context) & choices.keys()}
    try:
        trained = train(
            result, **given, space=space, out=out if resume else folder, resume=resume, progress=output.progress
        )
    except KeyboardInterrupt:
        if (folder / JOURNAL).exists():
            again = resume_command(folder, as_options([space] if space else [], ()))
            output.notice(f"The epochs up to the last checkpoint are kept. Go on with: {again}")
        raise
    output.print(
        trained.parts(),
        lambda: orjson.loads((trained.out / RESULT).read_bytes()),
        next_steps(trained.plan, trained.out),
    )
