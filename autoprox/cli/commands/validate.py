"""Guard against self-deception: one proxy, one benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from autoprox.api.arguments import next_directory
from autoprox.api.validating import validate
from autoprox.cli.options import device_option, operations_option, spaces_option, tasks_option, workers_option
from autoprox.cli.output import Output, output_options, telling_how_to_go_on
from autoprox.cli.rank_options import max_params_option, sample_option, split_option
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
@device_option
@operations_option
@spaces_option
@workers_option
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Run directory.  [default: validations/NUMBER]"
)
@click.option("--resume", is_flag=True, help="Go on with the same command, whose scores are in --out.")
@click.pass_context
@output_options
def command(
    context: click.Context, proxy: str, bench: str, tasks: str, split: str, sample: int | None,
    max_params: float | None, batch: int | None, seed: int, seeds: int, batches: int, tried: int | None, device: str,
    output: Output, operations: Sequence[str], spaces: Sequence[str], workers: int, out: Path | None, resume: bool,
) -> None:  # fmt: skip
    """Judge PROXY on a benchmark, with guards against self-deception, and print a verdict.

    PROXY is a shipped name, a run directory, a proxy file, a formula, or a column of a table. It is set beside params,
    FLOPs, activations, depth, width, depth × width and fitted structure, on shuffled labels, on the trainable networks,
    with other initial weights and images, and against the number of formulas that were tried. The same command with
    --resume goes on with a run that was stopped.
    """
    folder = out or next_directory(Path("validations"))
    with telling_how_to_go_on(context, output, folder):
        result = validate(
            proxy, bench, tasks=tasks, split=split, sample=sample, max_params=max_params,
            batch=batch, seed=seed, seeds=seeds, batches=batches, tried=tried, device=device, operations=operations,
            space=spaces, workers=workers, out=folder, resume=resume, progress=output.progress,
        )  # fmt: skip
    output.result(result, [f"Saved in {result.out}: {CSV}, {JSON}, {SCORES}/"])
