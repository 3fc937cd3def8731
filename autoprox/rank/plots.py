"""Plots of a ranking, as PNG and SVG: taus with intervals, and correlations between proxies.

They need matplotlib, which the extra `plot` installs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from autoprox.bench_cache.benchmarks.table import STRUCTURE
from autoprox.evolve import MEAN
from autoprox.evolve.report import FITTED
from autoprox.pictures import LINE, Bar, check_matplotlib, shortened, tau_bars
from autoprox.rank.stats import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def tau_figure(rows: Sequence[Row], title: str) -> Figure:
    """Return a figure with a panel for each task and for their mean: a bar for each proxy's tau, with its interval.

    Proxies are in the order of their mean rank, the best on top. The dashed line marks the tau of params.

    Raises:
        DrawingError: matplotlib is not installed.
    """
    tasks = list(dict.fromkeys(row.task for row in rows))
    if len(tasks) == 2:  # one task, which is its own mean
        tasks.remove(MEAN)
    names = [row.proxy for row in rows if row.task == MEAN]
    panels = {}
    for task in tasks:
        of_task = {row.proxy: row.tau for row in rows if row.task == task}
        panels["mean over tasks" if task == MEAN else task] = [
            Bar(name, of_task[name].value, of_task[name].low, of_task[name].high, name in (*STRUCTURE, FITTED))
            for name in names
        ]
    return tau_bars(panels, title)


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
    labels = [shortened(names[i]) for i in order]
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
        axes.text(j, i, text, ha="center", va="center", fontsize=5.5, color="white" if abs(value) > 0.6 else LINE)
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
    # Here, because only pictures need them, and they take a second.
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    distance = 1 - np.nan_to_num(matrix)
    np.fill_diagonal(distance, 0)
    condensed = squareform(np.clip((distance + distance.T) / 2, 0, None), checks=False)
    return [int(i) for i in leaves_list(linkage(condensed, "average", optimal_ordering=True))]
