"""Remove cached statistics."""

from __future__ import annotations

import click

from autoprox.bench_cache.runtime.home import statistics_home
from autoprox.bench_cache.statistics.store import clear
from autoprox.display.terminal import make_console, say


@click.command("clean")
@click.option("--all", "everything", is_flag=True, help="Also what the installed version would use again.")
def command(everything: bool) -> None:
    """Remove cached statistics: those of other versions of autoprox or torch, or all of them."""
    root = statistics_home()
    freed = clear(root, everything=everything)
    say(make_console(), f"freed {freed / 1e9:.1f} GB in {root}")
