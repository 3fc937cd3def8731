"""`autoprox export` and `autoprox proxies`: a proxy in another form, and the shipped ones."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from autoprox.bench_cache.runtime.files import write_atomically
from autoprox.export import FORMATS, export
from autoprox.proxy import resolve
from autoprox.zoo import ZOO


@click.command("export")
@click.argument("proxy")
@click.option("--to", "form", type=click.Choice(list(FORMATS)), required=True, help="The form to write it in.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="Write a file.  [default: standard output]"
)
def export_command(proxy: str, form: str, out: Path | None) -> None:
    """Write PROXY in another form.

    PROXY is a run directory, a proxy file, a shipped name (`autoprox proxies`) or the formula itself.

    python is one file with a function `score` that needs only torch; json is a proxy file; latex is for math mode;
    dot is for Graphviz.
    """
    text = export(resolve(proxy), form)
    if out is None or str(out) == "-":
        click.echo(text, nl=False)
    elif out.exists() and not (out.is_file() or out.is_dir()):
        out.write_text(text, encoding="utf-8")  # a device or a pipe, which must not be replaced
    elif out.is_dir():
        raise click.UsageError(f"--out {out} is a directory; name a file in it")
    else:
        write_atomically(out.resolve(), text.encode())


@click.command()
def proxies() -> None:
    """List the proxies that are shipped: their formulas (LaTeX where it is a function), sources and costs."""
    console = Console(width=None if Console().is_terminal else 140)
    table = Table(box=None, header_style="dim", padding=(0, 2, 1, 0))
    table.add_column("name", no_wrap=True)
    table.add_column("formula", overflow="fold", ratio=1)
    table.add_column("source and note", overflow="fold", ratio=1)
    for proxy in ZOO.values():
        about = Text.assemble(proxy.source, ".\n", (f"{proxy.cost}: {proxy.reads}; {proxy.note}", "dim"))
        table.add_row(Text(proxy.name, "bold"), Text(proxy.formula or proxy.latex), about)
    console.print(table)
