"""Plots of a ranking, as PNG and SVG: taus with intervals, and correlations between proxies.

They need matplotlib, which the extra `plot` installs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from autoprox.bench_cache.benchmarks.table import STRUCTURE
from autoprox.evolve import MEAN
from autoprox.evolve.report import FITTED
from autoprox.pictures import check_matplotlib
from autoprox.rank.stats import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PROXY, _BASELINE, _LINE = "#4878a8", "#d98b3a", "#444444"
#: Panels side by side.
_COLUMNS = 4
#: Characters of a proxy's name that are shown.
_LONGEST = 30


def tau_figure(rows: Sequence[Row], title: str) -> Figure:
    """Return a figure with a panel for each task and for their mean: a bar for each proxy's tau, with its interval.

    Proxies are in the order of their mean rank, the best on top. The dashed line marks the tau of params.

    Raises:
        DrawingError: matplotlib is not installed.
    """
    check_matplotlib()
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    tasks = list(dict.fromkeys(row.task for row in rows))
    if len(tasks) == 2:  # one task, which is its own mean
        tasks.remove(MEAN)
    names = [row.proxy for row in rows if row.task == MEAN]
    columns = min(len(tasks), _COLUMNS)
    lines = math.ceil(len(tasks) / columns)
    height = 0.2 * len(names) + 0.9
    figure = Figure(figsize=(2.4 + 2.9 * columns, lines * height + 0.8), layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flatten()
    figure.suptitle(title, fontsize=11)
    for task, axes in zip(tasks, panels, strict=False):
        of_task = {row.proxy: row for row in rows if row.task == task}
        _tau_panel(axes, [of_task[name] for name in names])
        axes.set_title("mean over tasks" if task == MEAN else task, fontsize=10)
    for axes in panels[len(tasks) :]:
        axes.set_axis_off()
    colours = {"proxies": _PROXY, "structure alone": _BASELINE}
    handles: list[Any] = [Patch(color=colour, label=label) for label, colour in colours.items()]
    handles.append(Line2D([], [], color=_BASELINE, linestyle="--", linewidth=1, label="params"))
    figure.legend(handles=handles, loc="outside lower right", ncols=3, fontsize=8, frameon=False)
    return figure


def _tau_panel(axes: Any, rows: Sequence[Row]) -> None:
    for place, row in enumerate(rows):
        tau = row.tau
        if math.isnan(tau.value):
            axes.text(0, place, " no tau", fontsize=7, va="center", color=_LINE)
            continue
        axes.barh(
            place, tau.value, height=0.72, color=_BASELINE if row.proxy in (*STRUCTURE, FITTED) else _PROXY, zorder=2
        )
        axes.plot([tau.low, tau.high], [place, place], color=_LINE, linewidth=1.1, zorder=3)
        if row.proxy == "params":
            axes.axvline(tau.value, color=_BASELINE, linewidth=1, linestyle="--", zorder=1)
    axes.axvline(0, color=_LINE, linewidth=0.8, zorder=2)
    axes.set_yticks(range(len(rows)), [_shortened(row.proxy) for row in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6, zorder=0)
    axes.set_xlabel("Kendall τ-b, 95 % interval", fontsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)


def correlation_figure(names: Sequence[str], matrix: np.ndarray, title: str, label: str) -> Figure:
    """Return a heat map of the correlations between proxies, similar ones side by side; grey is not defined.

    Raises:
        DrawingError: matplotlib is not installed.
    """
    check_matplotlib()
    import matplotlib
    from matplotlib.figure import Figure

    order = clustered(matrix)
    size, shown = len(names), matrix[np.ix_(order, order)]
    inches = max(3.6, 0.27 * size) + 2.2
    figure = Figure(figsize=(inches + 0.6, inches), layout="constrained")
    axes = figure.subplots()
    colours = matplotlib.colormaps["RdBu_r"].with_extremes(bad="#bbbbbb")
    image = axes.imshow(np.ma.masked_invalid(shown), cmap=colours, vmin=-1, vmax=1)
    labels = [_shortened(names[i]) for i in order]
    axes.set_xticks(range(size), labels, rotation=90, fontsize=8)
    axes.set_yticks(range(size), labels, fontsize=8)
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=0.8)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)
    for i, j in zip(*np.nonzero(~np.isnan(shown)), strict=True):
        value = shown[i, j]
        text = f"{value:.2f}".replace("0.", ".", 1).replace("-.00", ".00")
        axes.text(j, i, text, ha="center", va="center", fontsize=5.5, color="white" if abs(value) > 0.6 else _LINE)
    bar = figure.colorbar(image, ax=axes, shrink=0.6, pad=0.02)
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    axes.set_title(title, fontsize=11)
    return figure


def clustered(matrix: np.ndarray) -> list[int]:
    """Return an order of the proxies in which similar ones are neighbours: average linkage on 1 − correlation."""
    if len(matrix) < 3:
        return list(range(len(matrix)))
    distance = 1 - np.nan_to_num(matrix)
    np.fill_diagonal(distance, 0)
    condensed = squareform(np.clip((distance + distance.T) / 2, 0, None), checks=False)
    return [int(i) for i in leaves_list(linkage(condensed, "average", optimal_ordering=True))]


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"
