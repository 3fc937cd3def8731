"""What a command prints: its result on stdout, as text or as JSON, and everything else on stderr."""

from __future__ import annotations

import functools
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
import orjson
from rich.table import Table
from rich.text import Text

from autoprox.api.results import Result
from autoprox.cli.options import given_options, typed_command
from autoprox.display.terminal import make_console, progress_console, say, show

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Output:
    """How a command prints: `--json` is one JSON object on stdout, `--quiet` leaves out all but the result."""

    as_json: bool = False
    quiet: bool = False

    @property
    def progress(self) -> bool:
        """Whether progress is shown, which is on stderr."""
        return not self.quiet

    def result(self, result: Result, hints: Iterable[str] = ()) -> None:
        """Print what a function of the Python API returned; `hints` say what was saved and what comes next."""
        self.print(result.parts(), result.record, hints)

    def print(
        self,
        parts: Iterable[str | Text | Table],
        record: Callable[[], Mapping[str, Any]],
        hints: Iterable[str] = (),
    ) -> None:
        """Print the parts of a result and then the hints, or the record as JSON, without hints."""
        if self.as_json:
            options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY
            click.echo(orjson.dumps(dict(record()), default=os.fspath, option=options))
        else:
            show(make_console(), (*parts, *(() if self.quiet else hints)))

    def notice(self, line: str) -> None:
        """Say on stderr what the user should know, unless all is quiet."""
        say(progress_console(silent=self.quiet), line)


@contextmanager
def telling_how_to_go_on(context: click.Context, output: Output, out: Path) -> Iterator[None]:
    """After Ctrl-C say which command goes on: the one that was typed, with --resume, and with --out if that is new."""
    try:
        yield
    except KeyboardInterrupt:
        given = given_options(context)
        more = [] if "resume" in given else ["--resume"]
        more += [] if "out" in given else ["--out", str(out)]
        again = " ".join([typed_command(context), *map(shlex.quote, more)])
        output.notice(f"Nothing that was finished is lost. Go on with: {again}")
        raise


def output_options(command: _Command) -> _Command:
    """Add `--json` and `--quiet` to a command, whose function gets them as `output`."""

    @functools.wraps(command)
    def called(*arguments: Any, as_json: bool, quiet: bool, **options: Any) -> Any:
        return command(*arguments, output=Output(as_json, quiet), **options)

    for option in (
        click.option("--quiet", "-q", is_flag=True, help="Print the result only: no progress, no hints."),
        click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object."),
    ):
        called = option(called)
    return called  # type: ignore[return-value]
