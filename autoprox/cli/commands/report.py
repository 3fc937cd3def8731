"""Make a page of a run."""

from __future__ import annotations

from pathlib import Path

import click

from autoprox.bench_cache.runtime.files import write_atomically
from autoprox.cli.output import Output, output_options
from autoprox.report.figures import save_figures
from autoprox.report.page import to_html
from autoprox.report.tellers import tell


@click.command("report")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="The page.  [default: RUN/report.html]")
@click.option(
    "--figures",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write SVG, PDF and PNG there too.",
)
@output_options
def command(run: Path, out: Path | None, figures: Path | None, output: Output) -> None:
    """Make a web page of RUN, a directory of evolve, rank, search or train.

    The page is one file that needs no network: verdict, pictures, tables that sort, the formula, and all settings. It
    reads the results in RUN and computes nothing anew. It needs the extra autoprox[plot].
    """
    page = tell(run)
    output.notice(f"autoprox report: drawing {len(page.figures())} figures of {run}")
    out = out or run / "report.html"
    write_atomically(out, to_html(page).encode())
    lines, saved = [f"Saved {out}: {page.title}, {len(page.figures())} figures"], [str(out)]
    if figures is not None:
        names = save_figures({figure.name: figure.draw for figure in page.figures()}, figures)
        lines.append(f"Saved in {figures}: {', '.join(names)}")
        saved += [str(figures / name) for name in names]
    output.print((), lambda: {"title": page.title, "saved": saved}, lines)
