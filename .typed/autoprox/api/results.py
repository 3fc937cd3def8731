"""Results: how what a run returns is shown, on a terminal and in a notebook, and how it becomes a DataFrame."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from autoprox.display.terminal import Parts, as_html, as_text

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
