"""Remove cached statistics."""

from __future__ import annotations

import click

from autoprox.bench_cache.runtime.home import statistics_home
from autoprox.bench_cache.statistics.store import clear
from autoprox.cli.output import Output, output_options


@click.command("clean")
@click.option("--all", "everything", is_flag=True, help="Also what the installed version would use again.")
@output_options
def command(everything: bool, output: Output) -> None:
    """Remove cached statistics: those of other versions of autoprox or torch, or all of them."""
    root = statistics_home()
    freed = clear(root, everything=everything)
    line = f"freed {freed / 1e9:.1f} GB in {root}"
    output.print((), lambda: {"freed": freed, "folder": root}, [line])
