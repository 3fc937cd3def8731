"""List benchmarks: embedded, yours, and to download."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from autoprox.bench_cache.benchmarks.catalogue import CATALOGUE
from autoprox.bench_cache.benchmarks.library import EMBEDDED_DIR, Installed, benchmarks_dir, installed
from autoprox.cli.output import Output, output_options
from autoprox.display.terminal import make_table, names


@click.command("list")
@output_options
def command(output: Output) -> None:
    """List the benchmarks that come with autoprox, yours, and the public ones that can be downloaded."""
    embedded, here = installed(EMBEDDED_DIR), installed()
    own = (
        _installed_table("imported, downloaded or trained", here) if here else f"\nno others in {benchmarks_dir()} yet"
    )
    parts = [_installed_table("embedded", embedded), own, _public_table({entry.name for entry in here})]
    output.print(parts, lambda: _record(embedded, here))


def _record(embedded: Sequence[Installed], here: Sequence[Installed]) -> dict[str, Any]:
    return {
        "embedded": [_entry(entry) for entry in embedded],
        "installed": [_entry(entry) for entry in here],
        "to_download": [
            {
                "name": source.name,
                "benchmarks": [file.benchmark for file in source.files],
                "bytes": sum(file.size for file in source.files),
                "about": source.about,
                "licence": source.licence,
            }
            for source in CATALOGUE
        ],
    }


def _entry(entry: Installed) -> dict[str, Any]:
    facts: dict[str, Any] = {"name": entry.name, "file": entry.path}
    if entry.benchmark is None:
        return {**facts, "problem": entry.problem}
    found = entry.benchmark
    return {**facts, "space": found.space_name, "architectures": len(found), "tasks": list(found.tasks)}


def _installed_table(title: str, entries: Sequence[Installed]) -> Table:
    table = make_table(title, names("name"), names("space"), "architectures", "size", "tasks", ruled=False)
    for entry in entries:
        size = _kilobytes(entry.path.stat().st_size)
        if entry.benchmark is None:
            table.add_row(entry.name, "", "", size, Text(f"cannot be read: {entry.problem}", style="red"))
        else:
            space, tasks = entry.benchmark.space_name or "tabular", ", ".join(entry.benchmark.tasks)
            table.add_row(entry.name, space, str(len(entry.benchmark)), size, tasks)
    return table


def _public_table(here: set[str]) -> Table:
    columns = (names("name"), names("benchmarks (✓ yours)"), "size", "what", "licence")
    table = make_table("to download", *columns, ruled=False)
    for source in CATALOGUE:
        members = "\n".join(f"{file.benchmark}{' ✓' if file.benchmark in here else ''}" for file in source.files)
        sizes = "\n".join(_kilobytes(file.size) for file in source.files)
        table.add_row(source.name, members, sizes, source.about, source.licence)
    return table


def _kilobytes(size: int) -> str:
    return f"{size / 1000:,.0f} kB"
