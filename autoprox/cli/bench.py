"""`autoprox bench`: import, download, list and show benchmarks."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from autoprox.bench_cache.benchmarks.catalogue import CATALOGUE, RAW_GITHUB, PublicFile
from autoprox.bench_cache.benchmarks.describe import Description, describe
from autoprox.bench_cache.benchmarks.download import download, get_source
from autoprox.bench_cache.benchmarks.library import (
    EMBEDDED_DIR,
    Installed,
    benchmarks_dir,
    install,
    installed,
    load_benchmark,
)
from autoprox.bench_cache.benchmarks.readers import read_benchmark
from autoprox.bench_cache.benchmarks.table import SPLITS, STRUCTURE, Benchmark
from autoprox.bench_cache.runtime.home import data_home
from autoprox.bench_cache.statistics.store import clear
from autoprox.cli.train import train


@click.group()
def bench() -> None:
    """Import, download, list and show benchmarks: architectures with their trained accuracies."""


bench.add_command(train)


@bench.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write here, not to your own benchmarks.")
@click.option("--name", help="Name to give it, in place of the file's own or the public benchmark's.")
def import_(file: Path, out: Path | None, name: str | None) -> None:
    """Convert FILE (ViT-Bench-101 .pth, OoD-ViT-NAS .json, HyTAS .csv, or our JSON) to the JSON format of autoprox.

    Without --out it becomes one of your benchmarks, which every --bench finds by name.
    """
    benchmark = read_benchmark(file, name)
    if out is None:
        out = install(benchmark)
    else:
        benchmark.save(out)
    _console().print(f"{_summary(benchmark)}, written to {out}", soft_wrap=True)


@bench.command("show")
@click.argument("benchmark")
def show(benchmark: str) -> None:
    """Print what there is to know of BENCHMARK, a file or a name, and warn of labels that look shuffled."""
    description = describe(load_benchmark(benchmark))
    console = _console()
    console.print(_heading(description), soft_wrap=True)
    tables = (_accuracy_table, _missing_table, _reliability_table, _structure_table, _between_table, _card_table)
    for table in (draw(description) for draw in tables):
        if table.rows:
            console.print(table)
    for warning in description.warnings:
        console.print(Text(f"\nwarning: {warning}", style="bold yellow"), soft_wrap=True)


@bench.command("download")
@click.argument("source")
@click.option("--base", default=RAW_GITHUB, show_default=True, help="Address of a mirror with the same paths.")
def download_(source: str, base: str) -> None:
    """Fetch the public files of SOURCE (see `bench list`), check them, and add them to your benchmarks."""
    found = get_source(source)
    console = _console()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TextColumn("{task.fields[problem]}"))
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def progress(file: PublicFile, here: int, problem: str) -> None:
            if file.benchmark not in tasks:
                tasks[file.benchmark] = bars.add_task(file.benchmark, total=file.size, problem="")
            bars.update(tasks[file.benchmark], completed=here, problem=f"{problem}; again" if problem else "")

        benchmarks = download(found, progress, base)
    for benchmark in benchmarks:
        console.print(_summary(benchmark), soft_wrap=True)
    console.print(f"in {benchmarks_dir()}; licence of the files: {found.licence}", soft_wrap=True)


@bench.command("list")
def list_() -> None:
    """List the benchmarks that come with autoprox, yours, and the public ones that can be downloaded."""
    console, here = _console(), installed()
    console.print(_benchmarks_table("embedded", installed(EMBEDDED_DIR)))
    mine = _benchmarks_table("imported, downloaded or trained", here)
    console.print(mine if here else f"\nno others in {benchmarks_dir()} yet", soft_wrap=not here)
    public = _words_table("to download", "name", "benchmarks (✓ yours)", "size", "what", "licence")
    names = {entry.name for entry in here}
    for source in CATALOGUE:
        members = "\n".join(f"{f.benchmark}{' ✓' if f.benchmark in names else ''}" for f in source.files)
        sizes = "\n".join(f"{file.size / 1000:,.0f} kB" for file in source.files)
        public.add_row(source.name, members, sizes, source.about, source.licence)
    console.print(public)


def _benchmarks_table(title: str, entries: Sequence[Installed]) -> Table:
    table = _words_table(title, "name", "space", "architectures", "size", "tasks")
    for entry in entries:
        size = f"{entry.path.stat().st_size / 1000:,.0f} kB"
        if entry.benchmark is None:
            table.add_row(entry.name, "", "", size, Text(f"cannot be read: {entry.problem}", style="red"))
        else:
            space, tasks = entry.benchmark.space or "tabular", ", ".join(entry.benchmark.tasks)
            table.add_row(entry.name, space, str(len(entry.benchmark)), size, tasks)
    return table


@bench.command()
@click.option("--all", "everything", is_flag=True, help="Also what the installed version would use again.")
def clean(everything: bool) -> None:
    """Remove cached statistics: those of other versions of autoprox or torch, or all of them."""
    root = data_home() / "statistics"
    freed = clear(root, everything=everything)
    _console().print(f"freed {freed / 1e9:.1f} GB in {root}", soft_wrap=True)


def _words_table(title: str, *columns: str) -> Table:
    table = _plain_table(title)
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=number < 2, overflow="fold")
    return table


def _console() -> Console:
    """Return a console for what commands print: names and paths as they are, never read as markup."""
    return Console(markup=False, highlight=False, emoji=False)


def _summary(benchmark: Benchmark) -> str:
    return f"{benchmark.name}: {len(benchmark)} architectures, tasks {', '.join(benchmark.tasks)}"


def _heading(description: Description) -> str:
    spec = description.spec
    built = "tabular: its networks cannot be built"
    if spec is not None:
        built = (
            f"space {description.space}, built for {spec.image_size} px, {spec.in_channels} channels, "
            f"{spec.num_classes} classes, patches of {spec.patch_size}"
        )
    sizes = ", ".join(f"{description.splits[split]} {split}" for split in SPLITS)
    head = f"{description.name}: {description.architectures} architectures ({sizes})"
    return f"{head}\n{built}\nfrom {description.source}"


def _accuracy_table(description: Description) -> Table:
    table = _table("accuracy in percent", "task", "labelled", "lowest", "median", "highest", "distinct", "tied")
    for facts in description.tasks:
        range_ = (_decimal(value) for value in (facts.lowest, facts.median, facts.highest))
        table.add_row(facts.task, str(facts.labelled), *range_, str(facts.distinct), str(facts.tied))
    return table


def _missing_table(description: Description) -> Table:
    table = _table("missing, and labelled by split", "task", "missing", *SPLITS)
    for facts in description.tasks:
        if facts.missing:
            table.add_row(facts.task, str(facts.missing), *(str(facts.splits[split]) for split in SPLITS))
    return table


def _reliability_table(description: Description) -> Table:
    """What the seeds say of the labels; see `reliability.Reliability`."""
    title = "reliability of the labels, between seeds: tau-b, and deviations in percent points"
    columns = ("seeds", "halves", "single", "spread", "noise", "ceiling, 1 seed", "ceiling, mean")
    table = _table(title, "task", *columns)
    for facts in description.tasks:
        if (found := facts.reliability) is not None:
            taus = (_tau(found.halves), _tau(found.single))
            ceilings = (_tau(found.ceiling_one), _tau(found.ceiling_mean))
            table.add_row(facts.task, str(found.seeds), *taus, _decimal(found.spread), _decimal(found.noise), *ceilings)
    return table


def _card_table(description: Description) -> Table:
    """The data card, one line for each fact, nested facts by their path."""
    table = _plain_table("data card")
    table.add_column("fact", no_wrap=True)
    table.add_column("", overflow="fold")  # a narrow terminal breaks what is long; it cuts nothing off
    for path, value in _facts(description.card):
        table.add_row(path, Text(value))
    return table


def _facts(card: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in card.items():
        if isinstance(value, Mapping):
            yield from _facts(value, f"{above}{name}.")
        elif isinstance(value, list):
            yield from ((f"{above}{name}" if not number else "", str(entry)) for number, entry in enumerate(value))
        else:
            yield f"{above}{name}", str(value)


def _structure_table(description: Description) -> Table:
    table = _table("Kendall's tau-b with structure", "task", *STRUCTURE, "closest", "R²")
    for facts in description.tasks:
        taus = (_tau(facts.tau[fact]) if fact in facts.tau else "–" for fact in STRUCTURE)
        name = Text(facts.task, style="yellow" if facts.warning else "")
        table.add_row(name, *taus, facts.check.strongest or "–", _decimal(facts.check.r2))
    return table


def _between_table(description: Description) -> Table:
    names = [f"{number} {facts.task}" for number, facts in enumerate(description.tasks, start=1)]
    table = _table("Kendall's tau-b between tasks", "task", *(str(number) for number in range(1, len(names))))
    for row, facts in enumerate(description.tasks[1:], start=1):
        others = (other.task for other in description.tasks[:row])
        table.add_row(names[row], *(_tau(description.tau_between[other, facts.task]) for other in others))
    return table


def _table(title: str, first: str, *numbers: str) -> Table:
    table = _plain_table(title)
    table.add_column(first, no_wrap=True)
    for column in numbers:
        table.add_column(column, justify="right", overflow="fold")
    return table


def _plain_table(title: str) -> Table:
    width = len(title)  # at least, or the title would wrap
    return Table(
        title=f"\n{title}", title_justify="left", box=None, padding=(0, 2, 0, 0), pad_edge=False, min_width=width
    )


def _decimal(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def _tau(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:+.3f}"
