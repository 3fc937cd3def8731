"""Write a proxy as text, LaTeX, a picture, Python, ..."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from autoprox.bench_cache.runtime.files import write_atomically
from autoprox.cli.options import operations_option
from autoprox.export import FORMATS, export
from autoprox.proxy import resolve
from autoprox.vocabulary import vocabulary


@click.command("export")
@click.argument("proxy")
@click.option("--to", "form", type=click.Choice(list(FORMATS)), required=True, help="The form to write it in.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="Write a file.  [default: standard output]"
)
@operations_option
def command(proxy: str, form: str, out: Path | None, operations: Sequence[str]) -> None:
    """Write PROXY in another form.

    PROXY is a run directory, a proxy file, a shipped name (`autoprox proxies`) or the formula itself.

    python is one file with a function `score` that needs only torch; json is a proxy file; latex is for math mode;
    dot is for Graphviz.
    """
    text = export(resolve(proxy, vocabulary(operations)), form)
    if out is None or str(out) == "-":
        click.echo(text, nl=False)
    elif out.exists() and not (out.is_file() or out.is_dir()):
        out.write_text(text, encoding="utf-8")  # a device or a pipe, which must not be replaced
    elif out.is_dir():
        raise click.UsageError(f"--out {out} is a directory; name a file in it")
    else:
        write_atomically(out.resolve(), text.encode())
