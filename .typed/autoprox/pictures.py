"""Pictures: what all of them share. They need matplotlib, an extra (`plot`) that is imported only when one is drawn."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprox.bench_cache.runtime.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Colours of proxies, of structural baselines, and of lines and texts.
PROXY, BASELINE, LINE = "#4878a8", "#d98b3a", "#444444"
#: Panels side by side.
_COLUMNS = 4
#: Characters of a name that are shown.
_LONGEST = 30
#: Metadata that would differ between two equal figures: ending → what is left out.
_DATED: Mapping[str, Mapping[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}


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


@contextmanager
def repeatable(**settings: Any) -> Iterator[None]:
    """Let equal figures give equal bytes inside the block; `settings` are others of matplotlib, with _ for a dot."""
    import matplotlib

    further: Any = {name.replace("_", "."): value for name, value in settings.items()}
    fixed: Any = {"svg.hashsalt": "autoprox", "svg.fonttype": "path"}
    with matplotlib.rc_context(fixed | further):
        yield


def drawn(figure: Figure, ending: str, **options: Any) -> bytes:
    """Return a figure as PNG, SVG or PDF; equal figures give equal bytes inside `repeatable`."""
    file = io.BytesIO()
    figure.savefig(file, format=ending, dpi=150, metadata=_DATED[ending], **options)
    return file.getvalue()


def save_figure(figure: Figure, path: Path, endings: Sequence[str] = ("png", "svg")) -> list[str]:
    """Write `path` with each of the endings, and return the files' names. Equal figures give equal bytes."""
    with repeatable():
        for ending in endings:
            write_atomically(path.with_suffix(f".{ending}"), drawn(figure, ending))
    return [f"{path.name}.{ending}" for ending in endings]


@dataclass(frozen=True)
class Bar:
    """A predictor's tau with its interval; NaN where it has none. `baseline`: structure alone."""

    name: str
    value: float
    low: float
    high: float
    baseline: bool = False


def tau_bars(panels: Mapping[str, Sequence[Bar]], title: str = "") -> Figure:
    """Return a figure with a panel for each group of bars, all of the same names in the same order, the first on top.

    The dashed line marks the tau of params.

    Raises:
        DrawingError: matplotlib is not installed.
    """
    check_matplotlib()
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    columns = min(len(panels), _COLUMNS)
    lines = math.ceil(len(panels) / columns)
    height = 0.2 * max(map(len, panels.values())) + 0.9
    figure = Figure(figsize=(2.4 + 2.9 * columns, lines * height + 0.8), layout="constrained")
    places = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flatten()
    if title:
        figure.suptitle(title, fontsize=11)
    for (head, bars), axes in zip(panels.items(), places, strict=False):
        _bar_panel(axes, bars)
        axes.set_title(head, fontsize=10)
    for axes in places[len(panels) :]:
        axes.set_axis_off()
    handles: list[Any] = [Patch(color=PROXY, label="proxies"), Patch(color=BASELINE, label="structure alone")]
    handles.append(Line2D([], [], color=BASELINE, linestyle="--", linewidth=1, label="params"))
    figure.legend(handles=handles, loc="outside lower right", ncols=3, fontsize=8, frameon=False)
    return figure


def _bar_panel(axes: Any, bars: Sequence[Bar]) -> None:
    for place, bar in enumerate(bars):
        if math.isnan(bar.value):
            axes.text(0, place, " no tau", fontsize=7, va="center", color=LINE)
            continue
        axes.barh(place, bar.value, height=0.72, color=BASELINE if bar.baseline else PROXY, zorder=2)
        axes.plot([bar.low, bar.high], [place, place], color=LINE, linewidth=1.1, zorder=3)
        if bar.name == "params":
            axes.axvline(bar.value, color=BASELINE, linewidth=1, linestyle="--", zorder=1)
    axes.axvline(0, color=LINE, linewidth=0.8, zorder=2)
    axes.set_yticks(range(len(bars)), [shortened(bar.name) for bar in bars], fontsize=8)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6, zorder=0)
    axes.set_xlabel("Kendall τ-b, 95 % interval", fontsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)


def shortened(name: str) -> str:
    """Return a name that is short enough for a label."""
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"
