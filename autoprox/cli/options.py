"""Options that commands share, and how the values of options are read."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

import click

from autoprox.api.arguments import split_outside_brackets
from autoprox.bench_cache.runtime.dask_pool import DaskPool
from autoprox.bench_cache.runtime.devices import CPU, DEVICES
from autoprox.bench_cache.runtime.local_pool import Workers, close_pool
from autoprox.primitives.batch_norms import BATCH_NORMS, RUNNING

_Command = TypeVar("_Command", bound=Callable[..., Any])
_SUFFIXES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9}


def _at_least_one(context: click.Context, option: click.Parameter, value: int) -> int:
    if value < 1:
        raise click.ClickException(f"--workers is {value}; it must be at least 1")
    return value


#: How many processes a command works with.
workers_option = click.option(
    "--workers",
    type=int,
    default=os.cpu_count() or 1,
    show_default="one a core",
    callback=_at_least_one,
    help="Processes.",
)

#: On the workers of which cluster a command works.
dask_option = click.option(
    "--dask", metavar="ADDRESS", help="A Dask cluster's scheduler, tcp://HOST:PORT, instead of --workers."
)


#: Where the networks of a command run, and its formulas are evaluated.
device_option = click.option(
    "--device",
    default=CPU,
    show_default=True,
    metavar="DEVICE",
    help=f"Where networks run: {DEVICES}; auto is a GPU if any. Its last bits are not those of a CPU. All --workers "
    "share it, and each takes some of its memory; on a cluster, each uses its own machine's.",
)


def chosen_workers(context: click.Context, workers: int, dask: str | None) -> Workers:
    """Return the number of processes, or the workers of a cluster, which are let go when the command ends.

    Raises:
        click.UsageError: both are named.
        ClusterError: the cluster cannot be used.
    """
    if dask is None:
        return workers
    if "workers" in given_options(context):
        raise click.UsageError("--dask uses the workers of its cluster; leave out --workers")
    pool = DaskPool(dask)
    context.call_on_close(lambda: close_pool(pool))
    return pool


def _some_tasks(context: click.Context, option: click.Parameter, value: str) -> str:
    source = context.get_parameter_source(option.name or "")
    if source is click.core.ParameterSource.COMMANDLINE and not split_outside_brackets(value):
        raise click.UsageError(f"{option.opts[0]} '{value}' names no task; leave it out for all of them")
    return value


def tasks_of(meaning: str, metavar: str = "A,B,...") -> Callable[[_Command], _Command]:
    """Return the option --tasks, which names tasks of a benchmark; a list without any is refused."""
    return click.option("--tasks", default="", metavar=metavar, callback=_some_tasks, help=meaning)


#: On which tasks of a benchmark a command works.
tasks_option = tasks_of("Tasks, `*` allowed, such as '*_kd'.  [default: all]")


#: By what batch norms normalise while a network is probed.
batch_norm_option = click.option(
    "--batch-norm",
    type=click.Choice(BATCH_NORMS),
    default=RUNNING,
    show_default=True,
    help="By what batch norms normalise: their running statistics, or the batch, as in training, which gradients of "
    "untrained convolutional networks need. SynFlow's input always has the former.",
)

#: Users' spaces that the benchmarks of a command may be of.
spaces_option = click.option(
    "--space",
    "spaces",
    multiple=True,
    metavar="FILE.py:NAME",
    help="Space of your own that the benchmark is of. Code of yours runs only where it is named.",
)

#: Users' operations that formulas may have.
operations_option = click.option(
    "--operations",
    multiple=True,
    metavar="FILE.py|NAME",
    help="Operations of your own: a file, FILE.py:NAME, or what an installed package offers. Repeatable.",
)


class Count(click.ParamType):
    """A large number: 6000000, 6e6, 6M; K, M and G (or B) are 10³, 10⁶ and 10⁹."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number, rounded to a whole one."""
        match = re.fullmatch(r"(\d[\d_]*\.?\d*(?:e\+?\d{1,2})?)([KMGB]?)", str(value).strip(), re.IGNORECASE)
        if match is None:
            self.fail(f"'{value!s:.40}' is no number such as 6000000, 6e6, 6M or 1.4G", param, ctx)
        return round(float(match[1]) * _SUFFIXES[match[2].upper()])


class Explained(Protocol):
    """A record that says in a few words what it means."""

    @property
    def meaning(self) -> str: ...


def meanings(records: Mapping[str, Explained]) -> str:
    """Return what each choice of an option means, read from the records, as a sentence for the help."""
    return "; ".join(f"{name}: {record.meaning}" for name, record in records.items()) + "."


def given_options(context: click.Context) -> set[str]:
    """Return the names of the options that stand on the command line, of which some may have their default value."""
    source = click.core.ParameterSource.COMMANDLINE
    return {name for name in context.params if context.get_parameter_source(name) is source}


def typed_command(context: click.Context) -> str:
    """Return the command as it was typed, without the path of the program."""
    return shlex.join(["autoprox", *(context.find_object(list) or [])])
