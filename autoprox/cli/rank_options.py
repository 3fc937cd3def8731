"""Options that say which architectures of a benchmark are ranked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from autoprox.cli.options import Count
from autoprox.rank.plan import OFFERS

sample_option = click.option("--sample", type=int, metavar="N", help="Rank N of them, drawn at random.  [default: all]")
max_params_option = click.option(
    "--max-params", type=Count(), help="Rank networks of at most so many, such as 90e6 or 90M."
)


def split_option(default: str) -> Callable[..., Any]:
    """Return the option that chooses the split, `default` where none is given."""
    return click.option(
        "--split", type=click.Choice(OFFERS), default=default, show_default=True, help="Architectures to rank."
    )
