"""Pictures: how figures are saved, and the check for matplotlib.

It is an extra (`plot`), and is imported only when a picture is drawn.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprox.bench_cache.runtime.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class DrawingError(ValueError):
    """A picture that cannot be drawn."""


def check_matplotlib() -> None:
    """Check that matplotlib is installed.

    Raises:
        DrawingError: it is not; the message says how to install it.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise DrawingError("a picture needs matplotlib: pip install 'autoprox[plot]'") from None


def save_figure(figure: Figure, path: Path) -> list[str]:
    """Write `path` as .png and .svg, and return the files' names. Equal figures give equal bytes."""
    import matplotlib

    settings: Any = {"svg.hashsalt": "autoprox", "svg.fonttype": "path"}
    with matplotlib.rc_context(settings):
        for ending, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            file = io.BytesIO()
            figure.savefig(file, format=ending, dpi=150, metadata=metadata)
            write_atomically(path.with_suffix(f".{ending}"), file.getvalue())
    return [f"{path.name}.png", f"{path.name}.svg"]
