"""Evolve a formula that ranks untrained vision transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from autoprox.bench_cache.benchmarks.library import DEFAULT_BENCHMARK, load_benchmarks
from autoprox.bench_cache.runtime.dask_pool import DaskPool
from autoprox.bench_cache.runtime.files import advising
from autoprox.bench_cache.runtime.local_pool import close_pool
from autoprox.cli.options import (
    given_options,
    meanings,
    next_directory,
    numbered_directories,
    operations_option,
    spaces_option,
    workers_option,
)
from autoprox.cli.root import INTERRUPTED
from autoprox.display.evolution import EvolutionScreen, networks_read, print_result, resume_command, weighted_tasks
from autoprox.display.terminal import make_console, say
from autoprox.evolution import JOURNAL, read_settings, run_evolution, start_evolution, stored_benchmarks
from autoprox.evolve import COMBINATIONS, GRAMMARS, REFINEMENTS, STRATEGIES, TABULAR, EvolutionSettings, SettingsError
from autoprox.vocabulary import as_options, vocabulary

_DEFAULTS = EvolutionSettings((), ())


@click.command("evolve")
@click.option(
    "--bench",
    "benches",
    multiple=True,
    metavar="NAME|FILE",
    help=f"Benchmark to evolve on; repeatable.  [default: {DEFAULT_BENCHMARK}, which is embedded]",
)
@click.option(
    "--tasks",
    default="",
    metavar="A,B=2,...",
    help="Tasks, `*` allowed, such as '*_kd'. `NAME=2` gives a weight in the joint fitness and the report's mean: "
    "'*,pets=2' are all tasks, pets with weight 2.  [default: all, weight 1]",
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
@click.option("--generations", type=int, default=_DEFAULTS.generations, show_default=True, help="How many to evolve.")
@click.option(
    "--population", type=int, default=_DEFAULTS.population, show_default=True, help="Formulas of a generation."
)
@click.option("--seed", type=int, default=_DEFAULTS.seed, show_default=True, help="Same seed, same result.")
@click.option(
    "--grammar",
    type=click.Choice([*GRAMMARS, TABULAR]),
    default=_DEFAULTS.grammar,
    show_default=True,
    help="typed: the language (see --costly); auto-prox: the genotype of the paper; tabular: over columns of a table.",
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
    show_default=True,
    help=f"What is tried on the population after each generation. {meanings(REFINEMENTS)}",
)
@click.option(
    "--retries",
    type=int,
    default=_DEFAULTS.retries,
    show_default=True,
    help="How often a rejected child is varied again.",
)
@click.option("--batch", type=int, default=_DEFAULTS.batch, show_default=True, help="Samples that the networks run on.")
@click.option("--costly", is_flag=True, help="Also evolve with singular values and Gram matrices: much slower.")
@operations_option
@spaces_option
@workers_option
@click.option("--dask", metavar="ADDRESS", help="A Dask cluster's scheduler, tcp://HOST:PORT, instead of --workers.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Run directory.  [default: runs/NUMBER]")
@click.option("--resume", is_flag=True, help="Go on with the run in --out (the last one in runs/ without it).")
@click.pass_context
def command(context: click.Context, benches: Sequence[str], tasks: str, out: Path | None, resume: bool, workers: int,
           dask: str | None, spaces: Sequence[str], operations: Sequence[str],
           leave_out_tasks: Sequence[str], leave_out_benches: Sequence[str], **choices: Any) -> int:  # fmt: skip
    """Evolve a formula that ranks untrained vision transformers as training would.

    Fitness is Kendall's tau-b on the evolve split, over all tasks at once. The validation split chooses among the
    finalists. The test split is used once, at the end. Ctrl-C ends early with the best so far.
    """
    console, known, own = make_console(), vocabulary(operations), as_options(spaces, operations)
    if resume:
        out = out or _last_run()
        generations = _agreed(context, out, [*benches, tasks, *leave_out_tasks, *leave_out_benches], choices)
        executor = _cluster(context, dask, read_settings(out).grammar)
    else:
        executor = _cluster(context, dask, choices["grammar"])  # before there is a run
        out = out or next_directory(Path("runs"))
        benches = benches or [DEFAULT_BENCHMARK]
        benchmarks = load_benchmarks([*benches, *leave_out_benches], spaces)
        evolved, held_out = benchmarks[: len(benches)], benchmarks[len(benches) :]
        patterns = [name for part in tasks.split(",") if (name := part.strip())]
        with advising("the run needs a folder that can be written and has room; or choose another --out"):
            start_evolution(evolved, patterns, out, known, leave_out_tasks, held_out, **choices)
        generations = None
    settings = read_settings(out)
    say(console, Text.assemble(("autoprox evolve", "bold"), _heading(settings, out, generations)))
    for line in networks_read(settings, stored_benchmarks(out, settings, spaces)):
        say(console, line)
    try:
        with (
            advising(f"nothing that was finished is lost; when this is mended, go on with {resume_command(out, own)}"),
            EvolutionScreen(console, settings.generations if generations is None else generations) as screen,
        ):
            result = run_evolution(
                out,
                operations=known,
                spaces=spaces,
                generations=generations,
                workers=workers,
                executor=executor,
                watch=screen.watch(),
            )
    except KeyboardInterrupt:
        say(console, f"Nothing that was finished is lost. Go on with: {resume_command(out, own)}")
        raise
    print_result(console, result, settings, out, spaces, operations)
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


def _agreed(context: click.Context, out: Path, judged_on: Sequence[str], choices: Mapping[str, Any]) -> int:
    """Return the generation to resume to; refuse options that would change the run's result half-way.

    `judged_on` has the values of the options that name benchmarks and tasks.
    """
    stored = asdict(read_settings(out))
    given = given_options(context) & choices.keys()
    for name in sorted(given - {"generations"}):
        if choices[name] != stored[name]:
            raise SettingsError(f"the run in {out} has --{name} {stored[name]}; resume it without --{name}")
    if any(judged_on):
        raise SettingsError(
            f"the run in {out} has its benchmarks and tasks; resume it without --bench and --tasks, and without "
            "--leave-out-task and --leave-out-bench"
        )
    return choices["generations"] if "generations" in given else stored["generations"]


def _last_run() -> Path:
    runs = [path for path in numbered_directories(Path("runs")) if (path / JOURNAL).exists()]
    if not runs:
        raise SettingsError("there is no run in runs/ to resume; name its directory with --out")
    return runs[-1]


def _heading(settings: EvolutionSettings, out: Path, generations: int | None) -> str:
    refine = "" if settings.refine == "none" else f"refine {settings.refine}, "
    held_out = f"held out whole: {', '.join(settings.held_out)}\n" if settings.held_out else ""
    return (
        f" → {out}\n"
        f"tasks {', '.join(weighted_tasks(settings))}\n"
        f"{held_out}"
        f"grammar {settings.grammar}, strategy {settings.strategy}, joint {settings.joint}, "
        f"{refine}population {settings.population}, "
        f"generations {settings.generations if generations is None else generations}, "
        f"seed {settings.seed}"
    )
