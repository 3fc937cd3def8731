"""Guard against self-deception: one proxy, one benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import orjson

from autoprox.api.validating import validate
from autoprox.cli.options import operations_option, spaces_option, tasks_option, workers_option
from autoprox.cli.rank_options import max_params_option, sample_option, split_option
from autoprox.display.terminal import make_console, say, show
from autoprox.validation.plan import WITH_IMAGES, WITHOUT_IMAGES
from autoprox.validation.run import CSV, JSON, SCORES


@click.command("validate")
@click.argument("proxy")
@click.option("--bench", required=True, metavar="NAME|FILE", help="Benchmark to judge it on.")
@tasks_option
@split_option("test")
@sample_option
@max_params_option
@click.option(
    "--batch",
    type=int,
    metavar="N",
    help=f"Samples that the networks run on.  [default: {WITH_IMAGES} images, or {WITHOUT_IMAGES} Gaussian samples "
    "where the benchmark has no images]",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Of the weights, the batch, the sample and the intervals."
)
@click.option(
    "--seeds", type=int, default=3, show_default=True, help="Sets of initial weights to compare; 1 compares none."
)
@click.option(
    "--batches", type=int, default=2, show_default=True, help="Disjoint batches of images to compare; 1 compares none."
)
@click.option(
    "--tried",
    type=int,
    metavar="N",
    help="Among how many formulas labels of this split chose the proxy.  [default: what its provenance says]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@operations_option
@spaces_option
@workers_option
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Run directory.  [default: validations/NUMBER]"
)
def command(proxy: str, bench: str, tasks: str, split: str, sample: int | None, max_params: float | None,
            batch: int | None, seed: int, seeds: int, batches: int, tried: int | None, as_json: bool,
            operations: Sequence[str], spaces: Sequence[str], workers: int, out: Path | None) -> None:  # fmt: skip
    """Judge PROXY on a benchmark, with guards against self-deception, and print a verdict.

    PROXY is a shipped name, a run directory, a proxy file, a formula, or a column of a table. It is set beside params,
    FLOPs, activations, depth, width, depth × width and fitted structure, on shuffled labels, on the trainable networks,
    with other initial weights and images, and against the number of formulas that were tried. The same command with
    the same --out goes on with a run that was stopped.
    """
    result = validate(
        proxy, bench, tasks=tasks, split=split, sample=sample, max_params=max_params,
        batch=batch, seed=seed, seeds=seeds, batches=batches, tried=tried, operations=operations, space=spaces,
        workers=workers, out=out, progress=not as_json,
    )  # fmt: skip
    if as_json:
        click.echo(orjson.dumps(result.record(), option=orjson.OPT_INDENT_2).decode())
        return
    console = make_console()
    show(console, result.parts())
    say(console, f"Saved in {result.out}: {CSV}, {JSON}, {SCORES}/")
