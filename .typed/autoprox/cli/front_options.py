"""Options of a search for several objectives: the objectives, the limit on the latency, and how it is measured."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import click

from autoprox.cli.devices import DEVICES, chosen_device
from autoprox.cli.options import meanings
from autoprox.search.latency import LatencySetup
from autoprox.search.pareto import OBJECTIVES
from autoprox.search.run import SearchPlan

#: The objectives of --pareto where none are named.
_TWO = ("score", "params")
_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
_DEFAULTS = LatencySetup(machine="any")


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
            default="",
            metavar="A,B,...",
            help=f"What is wanted, for --pareto.  [default: {','.join(_TWO)}]  {meanings(OBJECTIVES)}",
        ),
        click.option("--max-latency", type=Seconds(), help="Of a forward pass on this machine, such as 12ms."),
        click.option("--latency-device", metavar="DEVICE", default="cpu", show_default=True, help=f"{DEVICES}."),
        click.option("--latency-batch", type=int, default=_DEFAULTS.batch, show_default=True, help="Images at a time."),
        click.option("--latency-threads", type=int, default=_DEFAULTS.threads, show_default=True, help="Of the CPU."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def chosen_objectives(choices: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the objectives that the options name.

    Raises:
        click.UsageError: a front is wanted, and there is one objective only.
    """
    named = tuple(name.strip() for name in choices["objectives"].split(",") if name.strip())
    if choices["pareto"] and len(named) == 1:
        raise click.UsageError(f"--pareto needs at least two --objectives, such as {','.join(_TWO)}")
    return named or (_TWO if choices["pareto"] else ("score",))


def chosen_latency(choices: Mapping[str, Any]) -> LatencySetup:
    """Return what the options say on how latencies are measured."""
    device = str(chosen_device(choices["latency_device"]))
    return LatencySetup(device, choices["latency_batch"], choices["latency_threads"])


def stored_front_choices(plan: SearchPlan) -> dict[str, Any]:
    """Return the options that a plan was made from, by their names."""
    found = plan.latency or _DEFAULTS
    return {
        "pareto": plan.of_several,
        "objectives": ",".join(plan.settings.objectives),
        "latency_device": found.device,
        "latency_batch": found.batch,
        "latency_threads": found.threads,
    }
