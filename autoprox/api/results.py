"""Results: how what a run returns is shown on a terminal and in a notebook, and becomes a DataFrame or a page."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from autoprox.api.arguments import ArgumentError
from autoprox.bench_cache.runtime.files import write_atomically
from autoprox.display.terminal import Parts, as_html, as_text
from autoprox.report.page import Figure, Page, to_html
from autoprox.report.tellers import tell

if TYPE_CHECKING:
    import pandas


class FrameError(ValueError):
    """A result that cannot become a DataFrame, because pandas is not installed."""


class Result:
    """What a run returns: `print` and rich show it as tables, and so does a notebook."""

    def parts(self) -> Iterator[str | Text | Table]:
        """Yield what is shown, as texts and tables."""
        raise NotImplementedError

    def records(self) -> list[dict[str, Any]]:
        """Return the lines of the table that `to_frame` makes, with the same fields each."""
        raise NotImplementedError

    def record(self) -> dict[str, Any]:
        """Return all of it as values that JSON has, as the command prints them with --json."""
        return {"records": self.records()}

    def to_frame(self) -> pandas.DataFrame:
        """Return the result as a DataFrame, one line for each of `records()`.

        Raises:
            FrameError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise FrameError(
                "a DataFrame needs pandas: pip install 'autoprox[pandas]'; records() needs nothing"
            ) from None
        return pandas.DataFrame.from_records(self.records())

    def __str__(self) -> str:
        return as_text(self.__rich__())

    def __rich__(self) -> Parts:
        return Parts(self.parts())

    def _repr_html_(self) -> str:
        return as_html(self.__rich__())


class KeptResult(Result):
    """The result of a run that is kept in a directory, from which a report can be made."""

    out: Path | None

    def _page(self) -> Page:
        if self.out is None:
            raise ArgumentError("nothing of this run was kept: give it a directory, as in out='found'")
        return tell(self.out)

    def figures(self) -> dict[str, Figure]:
        """Return the figures of the report by name; a notebook shows them, and `draw()` gives matplotlib's figure.

        Raises:
            ArgumentError: the run was not kept in a directory.
            ReportError: the directory has changed since, and cannot be read.
        """
        return {figure.name: figure for figure in self._page().figures()}

    def save_report(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write the page that `autoprox report` writes, by default `report.html` in the run's directory; return it.

        Raises:
            ArgumentError, ReportError: as for `figures`.
            DrawingError: matplotlib is not installed.
        """
        page, folder = to_html(self._page()), self.out or Path()
        file = folder / "report.html" if path is None else Path(path).expanduser()
        write_atomically(file, page.encode())
        return file
