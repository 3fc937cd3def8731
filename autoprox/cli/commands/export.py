"""Write a proxy as text, LaTeX, a picture, Python, ..."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from autoprox.bench_cache.runtime.files import write_atomically
from autoprox.cli.options import operations_option
from autoprox.cli.output import Output, output_options
from autoprox.export import FORMATS, export
from autoprox.proxy import resolve
from autoprox.scoring import AnyProxy, few_step_note
from autoprox.vocabulary import vocabulary


@click.command("export")
@click.argument("proxy")
@click.option(
    "--to",
    "form",
    type=click.Choice(list(FORMATS)),
    help="The form to write it in.  [default: by the ending of --out, such as .tex or .png]",
)
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="Write a file.  [default: standard output]"
)
@operations_option
@output_options
def command(proxy: str, form: str | None, out: Path | None, operations: Sequence[str], output: Output) -> None:
    """Write PROXY in another form.

    PROXY is a run directory, a proxy file, a shipped name (`autoprox proxies`) or the formula itself.

    python is one file with a function `score` that needs only torch; json is a proxy file; latex is for math mode;
    dot is for Graphviz; svg and png are pictures of the computation graph. With --json, what was written is the field
    text of an object, or base64 if it is a png.
    """
    if out is not None and out.is_dir():
        raise click.UsageError(f"--out {out} is a directory; name a file in it")
    found, form = resolve(proxy, vocabulary(operations)), form or _by_ending(out)
    written = export(found, form)
    note = few_step_note(found.probes)
    if note:
        output.notice(f"The formula {note}.")
    if out is None or str(out) == "-":
        if output.as_json:
            output.print((), lambda: _record(found, form, written, None))
        else:
            click.echo(_bytes(written), nl=False)
        return
    if out.exists() and not out.is_file():
        out.write_bytes(_bytes(written))  # a device or a pipe, which must not be replaced
    else:
        write_atomically(out.resolve(), _bytes(written))
    output.print((), lambda: _record(found, form, written, out))


def _bytes(written: str | bytes) -> bytes:
    return written.encode() if isinstance(written, str) else written


def _record(proxy: AnyProxy, form: str, written: str | bytes, out: Path | None) -> dict[str, Any]:
    """Return what was written, as JSON values."""
    content = {"text": written} if isinstance(written, str) else {"base64": base64.b64encode(written).decode()}
    saved = None if out is None else str(out)
    return {"proxy": proxy.name or proxy.text, "formula": proxy.text, "to": form, "saved": saved, **content}


def _by_ending(out: Path | None) -> str:
    """Return the form that a file's ending means."""
    endings = {known: name for name, form in FORMATS.items() for known in form.endings}
    ending = "" if out is None else out.suffix.lower()
    if ending not in endings:
        raise click.UsageError(
            f"name the form with --to ({', '.join(FORMATS)}), or a file with --out that ends in one of "
            f"{', '.join(endings)}"
        )
    return endings[ending]
