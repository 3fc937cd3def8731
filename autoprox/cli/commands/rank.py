"""Rank the proxies of the literature on a benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from autoprox.api.arguments import run_directory
from autoprox.api.ranking import RANKS, rank
from autoprox.cli.options import (
    batch_norm_option,
    chosen_workers,
    dask_option,
    device_option,
    operations_option,
    spaces_option,
    tasks_option,
    workers_option,
)
from autoprox.cli.output import Output, output_options
from autoprox.cli.rank_options import max_params_option, sample_option, split_option
from autoprox.display.ranking import next_steps, resume_command
from autoprox.rank.plan import ALL
from autoprox.rank.scores import SCORES
from autoprox.vocabulary import as_options


@click.command("rank")
@click.option("--bench", metavar="NAME|FILE", help="Benchmark to rank on.")
@tasks_option
@click.option(
    "--proxies",
    multiple=True,
    metavar="all|PROXY,...",
    help="all: the training-free zoo, or a table's columns. Repeatable.  [default: all]",
)
@click.option("--vote", is_flag=True, help="Add a row of the mean rank by all --proxies, as they vote in a search.")
@split_option("all")
@sample_option
@max_params_option
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Of the weights, the batch, the sample and the intervals."
)
@click.option("--batch", type=int, default=2, show_default=True, help="Samples that the networks run on.")
@batch_norm_option
@device_option
@operations_option
@spaces_option
@workers_option
@dask_option
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Run directory.  [default: ranks/NUMBER]")
@click.option("--resume", is_flag=True, help="Go on with the run in --out (the last one in ranks/ without it).")
@click.pass_context
@output_options
def command(context: click.Context, bench: str | None, spaces: Sequence[str], operations: Sequence[str],
         tasks: str, proxies: Sequence[str], vote: bool, split: str, sample: int | None, max_params: float | None,
         seed: int, batch: int, batch_norm: str, device: str, workers: int, dask: str | None, out: Path | None,
         resume: bool, output: Output) -> None:  # fmt: skip
    """Rank architectures by proxies, and proxies by how well they do it.

    A PROXY is a name of the zoo, a run directory, a proxy file, or a formula; few-step proxies, which train, are
    ranked only by name. Where there is a table, a PROXY may be one of its columns, or `columns`, which are all of them.
    Params, FLOPs, activations, depth, width and fitted structure are always there. A run that was stopped goes on with
    --resume, which needs no other option.
    """
    folder = run_directory(RANKS, SCORES, out, resume)
    own = as_options(spaces, operations)
    try:
        result = rank(
            bench,
            proxies or ALL,
            tasks=tasks,
            split=split,
            sample=sample,
            max_params=max_params,
            batch=batch,
            batch_norm=batch_norm,
            seed=seed,
            device=device,
            vote=vote,
            operations=operations,
            space=spaces,
            workers=chosen_workers(context, workers, dask),
            out=folder,
            resume=resume,
            progress=output.progress,
        )
    except KeyboardInterrupt:
        if (folder / SCORES).exists():
            output.notice(f"Nothing that was scored is lost. Go on with: {resume_command(folder, own)}")
        raise
    output.result(result, next_steps(folder, result.saved, result.problem))
