"""What is printed with: consoles, tables, progress bars, and the formats of numbers."""

from __future__ import annotations

import io
import math
import os
import time
from collections.abc import Iterable
from importlib.util import find_spec

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table
from rich.text import Text

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.runtime.devices import CPU

#: Columns of what is printed where neither a terminal nor $COLUMNS says how many there are.
WIDTH = 120
#: What stands for a number that is not defined.
UNDEFINED = "–"


#: How a notebook shows what would be printed.
_HTML = '<pre style="white-space:pre;overflow-x:auto;line-height:normal;font-family:monospace">{code}</pre>'


def make_console() -> Console:
    """Return the console of results, on stdout. It prints names and paths as they are and reads nothing as markup."""
    return _console(stderr=False)


def progress_console(*, silent: bool = False) -> Console:
    """Return the console of progress and notices, on stderr, so that stdout has results alone; nothing if `silent`."""
    if silent:
        return Console(file=io.StringIO(), quiet=True, force_terminal=False, force_jupyter=False)
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    there = Console(stderr=stderr)
    known = there.is_terminal or there.is_jupyter or "COLUMNS" in os.environ
    return Console(stderr=stderr, width=None if known else WIDTH, markup=False, highlight=False, emoji=False)


def on_device(device: str) -> str:
    """Return words for the end of a heading: where networks run; none for the CPU, which it is if nothing is said."""
    return "" if device == CPU else f", on {device}"


def redraws(console: Console) -> bool:
    """Return whether progress can be drawn in place: on a terminal, and in a notebook that has ipywidgets."""
    return console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)


def say(console: Console, text: str | Text, style: str = "") -> None:
    """Print text without breaking its lines, so that a command or a path in it can be copied."""
    console.print(text, style=style, soft_wrap=True)


def show(console: Console, parts: Iterable[str | Text | Table]) -> None:
    """Print texts and tables; lines of text are not broken."""
    for part in parts:
        if isinstance(part, Table):
            console.print(part)
        else:
            say(console, part)


class Parts:
    """Texts and tables as one thing that rich prints on any console; nothing in them is read as markup."""

    def __init__(self, parts: Iterable[str | Text | Table]) -> None:
        self.parts = tuple(parts)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Return the parts, one below the other."""
        plain = options.update(markup=False, highlight=False)
        for part in self.parts:
            yield from console.render(part, plain)


def as_text(shown: RenderableType) -> str:
    """Return what is printed, as plain text."""
    console = Console(width=WIDTH, file=io.StringIO(), force_terminal=False, force_jupyter=False)
    with console.capture() as captured:
        console.print(shown)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def as_html(shown: RenderableType) -> str:
    """Return what is printed, as HTML with its colours."""
    console = Console(width=WIDTH, file=io.StringIO(), record=True, force_jupyter=False)
    console.print(shown)
    return console.export_html(inline_styles=True, code_format=_HTML)


def summary(benchmark: Benchmark) -> str:
    """Return a benchmark's name, size and tasks."""
    return f"{benchmark.name}: {len(benchmark)} architectures, tasks {', '.join(benchmark.tasks)}"


# --- tables ---


def make_table(title: str, *columns: Column | str, ruled: bool = True, gap: int = 2) -> Table:
    """Return an empty table, with a line below its heads unless it is not `ruled`, and `gap` spaces between columns.

    A column that is given by its head alone holds text, and breaks what is too long for a narrow terminal.
    """
    return Table(
        *(Column(column, overflow="fold") if isinstance(column, str) else column for column in columns),
        title=title if ruled or not title else f"\n{title}",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD if ruled else None,
        padding=(0, gap - 1 if ruled else gap, 0, 0),  # the box has a space of its own between columns
        pad_edge=False,
        min_width=len(title),  # a narrower table would break the line of its title
    )


def names(head: str, style: str = "") -> Column:
    """Return a column of names, which are never broken."""
    return Column(head, no_wrap=True, style=style)


def numbers(*heads: str, style: str = "") -> list[Column]:
    """Return columns of numbers, which stand at the right and are never broken."""
    return [Column(head, justify="right", no_wrap=True, style=style) for head in heads]


# --- progress ---


def progress_bar(console: Console, what: str, *fields: str) -> Progress:
    """Return a bar that counts, with the time that has passed and that is left; nothing where it cannot be redrawn.

    `fields` are the names of the task's fields that stand behind the count, each as "name value".
    """
    shown: Iterable[ProgressColumn] = (TextColumn(f"{name} {{task.fields[{name}]}}") for name in fields)
    counted = (TextColumn(what), BarColumn(), MofNCompleteColumn(), *shown)
    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    return Progress(*counted, *times, console=console, disable=not redraws(console))


class Counting:
    """Progress of something that counts: a bar where it can be redrawn, elsewhere a line now and then.

    Call it with how many are done of how many.
    """

    #: Seconds between two lines.
    EVERY = 10.0

    def __init__(self, console: Console, what: str) -> None:
        self.console, self.what = console, what
        self.bars = progress_bar(console, what)
        self.task = self.bars.add_task("", total=None)
        self.told = time.monotonic()

    def __enter__(self) -> Counting:
        self.bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bars.stop()

    def __call__(self, done: int, of: int) -> None:
        """Show how far it is."""
        self.bars.update(self.task, completed=done, total=of)
        if not redraws(self.console) and time.monotonic() - self.told >= self.EVERY:
            self.told = time.monotonic()
            left = duration(self.bars.tasks[self.task].time_remaining)
            say(self.console, f"{self.what}: {done} of {of}, left {left}")


def download_bars(console: Console) -> Progress:
    """Return bars of files that are downloaded; the field `problem` of a task says why a part is fetched again."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TextColumn("{task.fields[problem]}"))
    return Progress(*columns, console=console)


# --- numbers ---


def number(value: float | None, form: str = ".3f") -> str:
    """Return a number in a format of Python's `format`; a dash where it is not defined."""
    return UNDEFINED if value is None or math.isnan(value) else format(value, form)


def correlation(value: float, digits: int = 3) -> str:
    """Return a correlation without its leading zero, as in .548; a dash where it is not defined."""
    text = number(value, f".{digits}f")
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def size(value: float) -> str:
    """Return a count with the suffix of its thousands, as in `5.987 M`; a dash where it is not defined."""
    for suffix, scale in (("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if value >= scale:
            return f"{value / scale:.3f} {suffix}"
    return number(value, ".4g")


def duration(seconds: float | None) -> str:
    """Return seconds as minutes:seconds; a dash where they are not known."""
    if seconds is None or math.isnan(seconds):
        return UNDEFINED
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
