"""Evolve a formula that ranks untrained vision transformers."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import click

from autoprox.api.arguments import run_directory
from autoprox.api.evolving import RUNS, check_resumed, evolve
from autoprox.bench_cache.benchmarks.library import DEFAULT_BENCHMARK
from autoprox.bench_cache.runtime.dask_pool import DaskPool
from autoprox.bench_cache.runtime.local_pool import close_pool
from autoprox.cli.options import (
    device_option,
    given_options,
    meanings,
    operations_option,
    spaces_option,
    tasks_of,
    workers_option,
)
from autoprox.cli.output import Output, output_options
from autoprox.cli.root import INTERRUPTED
from autoprox.display.evolution import next_steps, resume_command
from autoprox.evolution import JOURNAL, read_settings
from autoprox.evolve import (
    COMBINATIONS,
    EXACT,
    GRAMMARS,
    REFINEMENTS,
    SAMPLED,
    STRATEGIES,
    TABULAR,
    EvolutionSettings,
    SettingsError,
)
from autoprox.evolve.assembly import OF_ONE_SIZE
from autoprox.vocabulary import as_options

_DEFAULTS = EvolutionSettings((), ())
_ONE_SIZE = "small networks of one size, as those of micro-vit"


def _default(name: str) -> str:
    """Return what an option is where nothing is said, as its help tells it."""
    return f"[default: {getattr(_DEFAULTS, name)}; {OF_ONE_SIZE[name]} for {_ONE_SIZE}]"


@click.command("evolve")
@click.option(
    "--bench",
    "benches",
    multiple=True,
    metavar="NAME|FILE",
    help=f"Benchmark to evolve on; repeatable.  [default: {DEFAULT_BENCHMARK}, which is embedded]",
)
@tasks_of(
    "Tasks, `*` allowed, such as '*_kd'. `NAME=2` gives a weight in the joint fitness and the report's mean: "
    "'*,pets=2' are all tasks, pets with weight 2.  [default: all, weight 1]",
    "A,B=2,...",
)
@click.option(
    "--leave-out-task",
    "leave_out_tasks",
    multiple=True,
    metavar="T",
    help="Hold this task out whole, `*` allowed: evolution never sees it, and the report judges the formula on it. "
    "Repeatable.",
)
@click.option(
    "--leave-out-bench",
    "leave_out_benches",
    multiple=True,
    metavar="NAME|FILE",
    help="Hold this benchmark out whole, in the same way. Repeatable.",
)
@click.option(
    "--generations", type=int, default=_DEFAULTS.generations, help=f"How many to evolve.  {_default('generations')}"
)
@click.option(
    "--population", type=int, default=_DEFAULTS.population, show_default=True, help="Formulas of a generation."
)
@click.option("--seed", type=int, default=_DEFAULTS.seed, show_default=True, help="Same seed, same result.")
@click.option(
    "--grammar",
    type=click.Choice([*GRAMMARS, TABULAR]),
    default=_DEFAULTS.grammar,
    show_default=True,
    help="typed: the language (see --costly); auto-prox: the genotype of the paper; tabular: over sizes and columns "
    "of a table, without a network.",
)
@click.option(
    "--strategy",
    type=click.Choice(list(STRATEGIES)),
    default=_DEFAULTS.strategy,
    show_default=True,
    help=f"How a generation becomes the next. {meanings(STRATEGIES)}",
)
@click.option(
    "--joint",
    type=click.Choice(list(COMBINATIONS)),
    default=_DEFAULTS.joint,
    show_default=True,
    help=f"What the fitness is, of the taus of all tasks. {meanings(COMBINATIONS)}",
)
@click.option(
    "--refine",
    type=click.Choice(list(REFINEMENTS)),
    default=_DEFAULTS.refine,
    help=f"What is tried on the population after each generation. {meanings(REFINEMENTS)}  {_default('refine')}",
)
@click.option(
    "--max-nodes", type=int, default=_DEFAULTS.max_nodes, show_default=True, help="Nodes of a formula at most."
)
@click.option(
    "--founders",
    type=int,
    default=_DEFAULTS.founders,
    help="The first population is the best of so many times as many random formulas, which are low if more than 1."
    f"  {_default('founders')}",
)
@click.option(
    "--retries",
    type=int,
    default=_DEFAULTS.retries,
    show_default=True,
    help="How often a rejected child is varied again.",
)
@click.option(
    "--batch",
    type=int,
    default=_DEFAULTS.batch,
    help=f"Samples that the networks run on.  {_default('batch')}",
)
@click.option(
    "--costly/--no-costly",
    help="Evolve with ranks, patterns, singular values and Gram matrices too: much slower.  "
    f"[default: for {_ONE_SIZE}]",
)
@click.option(
    "--steps",
    type=int,
    default=_DEFAULTS.steps,
    show_default=True,
    metavar="K",
    help="Read the networks after K steps of training on made-up images too: seconds a network, and no zero-cost "
    "proxy.",
)
@click.option(
    "--fitness",
    type=click.Choice([EXACT, SAMPLED]),
    default=_DEFAULTS.fitness,
    show_default=True,
    help="What formulas are judged on while they evolve. exact: whole matrices; sampled: every eighth row and column "
    "of those of large networks, in much less time and disk. The finalists and the report are exact.",
)
@device_option
@operations_option
@spaces_option
@workers_option
@click.option("--dask", metavar="ADDRESS", help="A Dask cluster's scheduler, tcp://HOST:PORT, instead of --workers.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Run directory.  [default: runs/NUMBER]")
@click.option("--resume", is_flag=True, help="Go on with the run in --out (the last one in runs/ without it).")
@click.pass_context
@output_options
def command(context: click.Context, benches: Sequence[str], tasks: str, out: Path | None, resume: bool, workers: int,
           dask: str | None, spaces: Sequence[str], operations: Sequence[str],
           leave_out_tasks: Sequence[str], leave_out_benches: Sequence[str], output: Output,
           **choices: Any) -> int:  # fmt: skip
    """Evolve a formula that ranks untrained vision transformers as training would.

    Fitness is Kendall's tau-b on the evolve split, over all tasks at once. The validation split chooses among the
    finalists. The test split is used once, at the end. Ctrl-C ends early with the best so far.
    """
    given = {name: choices[name] for name in given_options(context) & choices.keys()}
    folder, own = run_directory(RUNS, JOURNAL, out, resume), as_options(spaces, operations)
    if resume:
        checked = {name: value for name, value in given.items() if name != "device"}  # `evolve` knows what auto means
        check_resumed(folder, checked, [*benches, tasks, *leave_out_tasks, *leave_out_benches])
    grammar = read_settings(folder).grammar if resume else choices["grammar"]
    try:
        result = evolve(
            benches,
            tasks=tasks,
            leave_out_tasks=leave_out_tasks,
            leave_out_benchmarks=leave_out_benches,
            operations=operations,
            space=spaces,
            workers=workers,
            executor=_cluster(context, dask, grammar),
            out=folder,
            resume=resume,
            progress=output.progress,
            **given,
        )
    except KeyboardInterrupt:
        if (folder / JOURNAL).exists():
            output.notice(f"Nothing that was finished is lost. Go on with: {resume_command(folder, own)}")
        raise
    output.result(result, next_steps(result, result.settings, folder, spaces, operations))
    return 0 if result.finished else INTERRUPTED


def _cluster(context: click.Context, address: str | None, grammar: str) -> Executor | None:
    """Return the workers of a cluster, until the command ends; without an address None, which means local processes."""
    if address is None:
        return None
    if "workers" in given_options(context):
        raise SettingsError("--dask uses the workers of its cluster; leave out --workers")
    if grammar == TABULAR:
        raise SettingsError("--grammar tabular runs no networks; leave out --dask")
    pool = DaskPool(address)
    context.call_on_close(lambda: close_pool(pool))
    return pool
