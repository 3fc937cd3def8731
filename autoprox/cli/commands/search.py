"""Search the architectures that a proxy scores highest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from autoprox.api.search_plan import DEFAULTS, OF_NSGA2, own_space
from autoprox.api.searching import search
from autoprox.bench_cache.spaces.registry import SPACES
from autoprox.cli.front_options import front_options
from autoprox.cli.model_options import patch_size_option
from autoprox.cli.options import (
    Count,
    batch_norm_option,
    chosen_workers,
    dask_option,
    device_option,
    given_options,
    meanings,
    operations_option,
    tasks_of,
    typed_command,
    workers_option,
)
from autoprox.cli.output import Output, output_options
from autoprox.cli.root import INTERRUPTED
from autoprox.display.search import going_on, next_steps
from autoprox.search.on_benchmark import OFFERS
from autoprox.search.run import JOURNAL
from autoprox.search.strategies import STRATEGIES, SearchSettings
from autoprox.vocabulary import as_options

_POPULATION = SearchSettings().population


@click.command("search")
@click.option(
    "--space",
    metavar="NAME|FILE.py:NAME",
    help=f"Space to search: {', '.join(SPACES)}, or one of your own; with --bench, that of your own which it is of.",
)
@click.option("--bench", metavar="NAME|FILE", help="Search among the architectures of a benchmark, and judge it.")
@click.option(
    "--proxy",
    metavar="PROXY",
    multiple=True,
    help="Run directory, proxy file, shipped name, or formula. Repeatable: several vote by rank.",
)
@click.option("--max-params", type=Count(), help="Such as 6e6 or 6M.")
@click.option("--min-params", type=Count(), help="Such as 4e6 or 4M.")
@click.option("--max-flops", type=Count(), help="Multiply-adds of one image, such as 1.4G.")
@click.option("--min-flops", type=Count(), help="Multiply-adds of one image, such as 0.8G.")
@click.option("--max-activations", type=Count(), help="Outputs of convolutions and linears for one image, such as 9M.")
@click.option("--min-activations", type=Count(), help="Outputs of convolutions and linears for one image, such as 6M.")
@front_options
@click.option("--budget", type=int, default=DEFAULTS["budget"], show_default=True, help="Architectures to score.")
@click.option("--seed", type=int, default=DEFAULTS["seed"], show_default=True, help="Same seed, same result.")
@click.option(
    "--strategy",
    type=click.Choice(list(STRATEGIES)),
    show_default="evolution; nsga2 for several objectives; random on a benchmark",
    help=f"How the next architectures are chosen. {meanings(STRATEGIES)}",
)
@click.option(
    "--population", type=int, show_default=f"{SearchSettings().population}; {OF_NSGA2} in nsga2", help="Its size."
)
@click.option("--tournament", type=int, default=DEFAULTS["tournament"], show_default=True, help="Size, in evolution.")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Architectures to print and save.")
@tasks_of("Tasks of the benchmark, `*` allowed.  [default: all]")
@click.option("--split", type=click.Choice(OFFERS), default="all", show_default=True, help="Part of the benchmark.")
@click.option("--batch", type=int, default=DEFAULTS["batch"], show_default=True, help="Samples of the probes.")
@batch_norm_option
@device_option
@click.option(
    "--images",
    "--batch-file",
    type=click.Path(exists=True, path_type=Path),
    metavar="FOLDER|FILE.npz",
    help="Images for the probe data: a folder, with one for each class in it, or arrays images and targets.",
)
@click.option("--image-size", type=int, default=DEFAULTS["image_size"], show_default=True, help="Pixels of a side.")
@click.option("--classes", type=int, default=DEFAULTS["classes"], show_default=True, help="Outputs of a network.")
@click.option("--channels", type=int, default=DEFAULTS["channels"], show_default=True, help="Channels of an image.")
@patch_size_option("Pixels of a patch's side.")
@operations_option
@workers_option
@dask_option
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Keep journal and results here.")
@click.option("--resume", is_flag=True, help="Go on with the search in --out; a larger --budget goes further.")
@click.pass_context
@output_options
def command(context: click.Context, bench: str | None, out: Path | None, resume: bool, top: int, workers: int,
            dask: str | None, operations: Sequence[str], output: Output, **choices: Any) -> int:  # fmt: skip
    """Search the architectures that a proxy scores highest, under limits on their size, training nothing.

    On a space: regularised evolution (Real et al., 2019) or random search. On a benchmark: random search among its
    architectures, with the trained accuracy of what the proxy chooses, its rank and its regret.
    """
    own = as_options(own_space(choices["space"]), operations)
    given = {name: choices[name] for name in given_options(context) & choices.keys()}
    try:
        result = search(
            **given,
            benchmark=bench,
            operations=operations,
            workers=chosen_workers(context, workers, dask),
            top=top,
            out=out,
            resume=resume,
            progress=output.progress,
        )
    except KeyboardInterrupt:
        if out is None or (out / JOURNAL).exists():
            output.notice(going_on(out, own))
        raise
    of_space = as_options(own_space(choices["space"]), ())
    output.result(result, next_steps(result, typed_command(context), own, of_space))
    return 0 if result.finished else INTERRUPTED
