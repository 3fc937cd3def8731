"""The front of a search for several objectives: its table, its words, and its picture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table
from rich.text import Text

from autoprox.display.terminal import make_table, number, numbers, size
from autoprox.pictures import check_matplotlib, save_figure
from autoprox.search.candidate import Candidate
from autoprox.search.latency import milliseconds
from autoprox.search.loop import SearchResult
from autoprox.search.pareto import OBJECTIVES, worth

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FRONT, _REST = "#4878a8", "#bbbbbb"
#: Objectives with their units, for the axes of the picture; and what the axes divide them by.
_AXES = {
    "score": ("score", 1.0),
    "params": ("parameters, millions", 1e6),
    "flops": ("FLOPs, billions", 1e9),
    "activations": ("activations, millions", 1e6),
    "latency": ("latency, ms", 1e-3),
}
PICTURE = "front"


def latency(value: float | None) -> str:
    """Return a latency with its unit; a dash where it was not measured."""
    return number(None) if value is None else milliseconds(value)


def front_table(result: SearchResult, objectives: Sequence[str], top: int) -> Table:
    """Return a table of at most `top` architectures of the front, spread evenly over it, the ends included."""
    front = result.front(objectives)
    shown = evenly(len(front), top)
    words = f"{', '.join(objectives[:-1])} and {objectives[-1]}"
    some = "" if len(shown) == len(front) else f"; {len(shown)} of them, spread over the front"
    title = (
        f"The front: {len(front)} of {len(result.candidates)} architectures that no other one beats in {words}{some}"
    )
    timed = ["latency"] if any(entry.latency is not None for entry in front) else []
    table = make_table(title, *numbers("rank", "score", "params", "FLOPs", "activations", *timed), "architecture")
    for place in shown:
        entry = front[place]
        sizes = [size(count) for count in (entry.params, entry.flops, entry.activations)]
        genes = Text(entry.key.partition(":")[2].replace("|", " | "))  # lines break at spaces
        times = [latency(entry.latency)] if timed else []
        table.add_row(str(place + 1), number(entry.score, ".7g"), *sizes, *times, genes)
    return table


def evenly(count: int, most: int) -> list[int]:
    """Return at most `most` of the numbers below `count`, evenly spread, the first and the last included."""
    if count <= most:
        return list(range(count))
    return sorted({round(place) for place in np.linspace(0, count - 1, most)}) if most > 1 else [0]


def front_figure(result: SearchResult, objectives: Sequence[str]) -> Figure:
    """Return a figure with a panel for each pair of objectives: all that was scored in grey, the front in blue.

    With two objectives, a line shows what the front leaves out of reach.

    Raises:
        DrawingError: matplotlib is not installed.
    """
    check_matplotlib()
    from matplotlib.figure import Figure

    front = result.front(objectives)
    known = [entry for entry in result.candidates if worth(entry, objectives) is not None]
    pairs = [(x, y) for y, x in combinations(objectives, 2)]
    columns = min(3, len(pairs))
    lines = -(-len(pairs) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.4 * lines + 0.4), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).flatten()
    for axes, (x, y) in zip(panels, pairs, strict=False):
        _panel(axes, known, front, x, y, stepped=len(objectives) == 2)
    for axes in panels[len(pairs) :]:
        axes.set_axis_off()
    figure.suptitle(f"{len(front)} of {len(known)} architectures are on the front", fontsize=11)
    return figure


def _panel(axes: Any, known: Sequence[Candidate], front: Sequence[Candidate], x: str, y: str, *, stepped: bool) -> None:
    for entries, colour, words in ((known, _REST, "scored"), (front, _FRONT, "front")):
        axes.scatter(_of(entries, x), _of(entries, y), s=14, color=colour, label=words, zorder=2 + (colour == _FRONT))
    if stepped:
        ordered = sorted(zip(_of(front, x), _of(front, y), strict=True))
        where = "pre" if OBJECTIVES[x].larger_is_better else "post"
        axes.step(*zip(*ordered, strict=True), where=where, color=_FRONT, linewidth=1, zorder=2)
    axes.set_xlabel(_AXES[x][0], fontsize=9)
    axes.set_ylabel(_AXES[y][0], fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(color="#dddddd", linewidth=0.6, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)


def _of(entries: Sequence[Candidate], name: str) -> list[float]:
    return [(OBJECTIVES[name].value(entry) or 0.0) / _AXES[name][1] for entry in entries]


def save_front(result: SearchResult, objectives: Sequence[str], out: Path) -> list[str]:
    """Draw the front, save it in the directory as PNG and SVG, and return the files' names.

    Raises:
        DrawingError: matplotlib is not installed.
    """
    return save_figure(front_figure(result, objectives), out / PICTURE)
