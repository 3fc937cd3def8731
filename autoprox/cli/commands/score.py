"""Score models by proxies, and rank them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from autoprox.api.samples import COUNT
from autoprox.api.scoring_models import score
from autoprox.bench_cache.runtime.devices import DEVICES
from autoprox.cli.model_options import MODELS_HELP, model_options
from autoprox.cli.options import batch_norm_option, given_options, operations_option
from autoprox.cli.output import Output, output_options


@click.command(
    "score",
    help=f"""Score untrained models by proxies and rank them, best first.

    A MODEL has a colon. What has none is a PROXY, which --proxy names too. Every score is higher for better models.

    \b
    autoprox score snip 'sum(fro(weight))' timm:vit_tiny_patch16_224 timm:deit_small_patch16_224
    autoprox score my_models.py:small my_models.py:large --proxy runs/001 --images photos/
    autoprox score my_models.py:backbone --proxy snip --readout last_hidden_state --device cpu

    {MODELS_HELP}
    """,
)
@click.argument("names", nargs=-1, metavar="PROXY... MODEL...")
@click.option(
    "--proxy",
    "proxies",
    multiple=True,
    metavar="PROXY",
    help="Run directory, proxy file, shipped name, or formula; may be repeated.",
)
@model_options
@click.option("--batch", type=click.IntRange(1), default=COUNT, show_default=True, help="Number of samples.")
@click.option(
    "--images",
    type=click.Path(exists=True, path_type=Path),
    metavar="FOLDER|FILE.npz",
    help="Images instead of Gaussian samples: a folder, with one for each class in it, or arrays images and targets.",
)
@batch_norm_option
@click.option("--device", default="auto", show_default=True, metavar="DEVICE", help=f"{DEVICES}; auto is a GPU if any.")
@click.option(
    "--readout",
    metavar="NAME",
    help="What stands for class scores in the output of a model without a head, such as last_hidden_state.",
)
@click.option(
    "--layers",
    metavar="FILE.py:FUNCTION",
    help="Function of a model that names its layers, [{'qkv': NAME, ...}, ...].  [default: they are found]",
)
@click.option(
    "--as-built",
    is_flag=True,
    help="No score where layers that start at 0 stop every gradient.  [default: a copy with other weights is scored]",
)
@operations_option
@click.pass_context
@output_options
def command(
    context: click.Context,
    names: Sequence[str],
    proxies: Sequence[str],
    settings: Sequence[tuple[str, Any]],
    readout: str | None,
    layers: str | None,
    as_built: bool,
    device: str,
    output: Output,
    operations: Sequence[str],
    **shape: Any,
) -> None:
    """Print a table for each proxy: the models, best first, with their size and the seconds that each score took."""
    models, proxies = _told_apart(names, proxies)
    result = score(
        proxies,
        models,
        settings=dict(settings),
        seed=shape["seed"],
        device=device,
        readout=readout,
        layers=layers,
        as_built=as_built,
        operations=operations,
        progress=output.progress,
        **{name: shape[name] for name in given_options(context) & (shape.keys() - {"seed"})},
    )
    output.result(result)


def _told_apart(names: Sequence[str], proxies: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the models and the proxies. With --proxy all names are models; else those that have a colon."""
    models = [name for name in names if proxies or ":" in name]
    return models, [*proxies, *(name for name in names if name not in models)]
