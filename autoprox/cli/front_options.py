"""Options of a search for several objectives: the objectives, the limit on the latency, and how it is measured."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click

from autoprox.api.search_plan import DEFAULTS, TWO_OBJECTIVES
from autoprox.bench_cache.runtime.devices import DEVICES
from autoprox.cli.options import meanings
from autoprox.search.pareto import OBJECTIVES

_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}


class Seconds(click.ParamType):
    """A time with its unit, such as 12ms."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds."""
        match = re.fullmatch(r"(\d+\.?\d*|\.\d+) ?(s|ms|us)", str(value).strip())
        if match is None:
            self.fail(f"'{value!s:.40}' is no time such as 12ms, 0.5s or 800us", param, ctx)
        return float(match[1]) * _UNITS[match[2]]


def front_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command."""
    options = (
        click.option(
            "--pareto", is_flag=True, help="Find the architectures that no other one beats in all objectives."
        ),
        click.option(
            "--objectives",
            metavar="A,B,...",
            help=f"What is wanted, for --pareto.  [default: {','.join(TWO_OBJECTIVES)}]  {meanings(OBJECTIVES)}",
        ),
        click.option("--max-latency", type=Seconds(), help="Of a forward pass on this machine, such as 12ms."),
        click.option("--latency-device", metavar="DEVICE", show_default=DEFAULTS["latency_device"], help=f"{DEVICES}."),
        click.option("--latency-batch", type=int, show_default=str(DEFAULTS["latency_batch"]), help="Images at once."),
        click.option("--latency-threads", type=int, show_default=str(DEFAULTS["latency_threads"]), help="Of the CPU."),
    )
    for option in reversed(options):
        command = option(command)
    return command
