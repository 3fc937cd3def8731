"""Fetch the files of a public benchmark."""

from __future__ import annotations

import click
from rich.progress import TaskID

from autoprox.bench_cache.benchmarks.catalogue import RAW_GITHUB, PublicFile
from autoprox.bench_cache.benchmarks.download import download, get_source
from autoprox.bench_cache.benchmarks.library import benchmarks_dir
from autoprox.cli.output import Output, output_options
from autoprox.display.terminal import download_bars, progress_console, summary


@click.command("download")
@click.argument("source")
@click.option("--base", default=RAW_GITHUB, show_default=True, help="Address of a mirror with the same paths.")
@output_options
def command(source: str, base: str, output: Output) -> None:
    """Fetch the public files of SOURCE (see `bench list`), check them, and add them to your benchmarks."""
    found = get_source(source)
    output.notice(f"fetching {len(found.files)} files from {base}")
    with download_bars(progress_console(silent=output.quiet)) as bars:
        tasks: dict[str, TaskID] = {}

        def progress(file: PublicFile, here: int, problem: str) -> None:
            if file.filename not in tasks:  # a benchmark may have several files
                tasks[file.filename] = bars.add_task(file.benchmark, total=file.size, problem="")
            bars.update(tasks[file.filename], completed=here, problem=f"{problem}; again" if problem else "")

        benchmarks = download(found, progress, base)
    hints = [*map(summary, benchmarks), f"in {benchmarks_dir()}; licence of the files: {found.licence}"]
    output.print((), lambda: {"benchmarks": [each.name for each in benchmarks], "folder": benchmarks_dir()}, hints)
