"""Figures of a report: curves, and scatters of scores against accuracy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autoprox.pictures import BASELINE, LINE, PROXY, check_matplotlib, drawn, repeatable, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: A colour that no picture uses: text and axes have it while a picture is drawn, and then get the page's own.
_INK = "#010203"
_INKED = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
_CURVES = (PROXY, BASELINE, "#5a9a5a", "#9467bd")
#: Colours of size bands, from the smallest networks to the largest.
_BANDS = ("#6fb1d8", "#d98b3a", "#a86cc1")
#: Files that a figure is written to, for a paper.
ENDINGS = ("svg", "pdf", "png")


def as_svg(draw: Callable[[], Figure], *, on_paper: bool = False) -> str:
    """Return a figure as SVG for a page: its texts are text, and follow the page's colour unless it is `on_paper`."""
    inked: Any = {} if on_paper else dict.fromkeys(_INKED, _INK)
    check_matplotlib()
    import matplotlib

    with repeatable(svg_fonttype="none"), matplotlib.rc_context(inked):
        text = drawn(draw(), "svg", transparent=True).decode()
    return text if on_paper else text.replace(_INK, "currentColor").replace(LINE, "currentColor")


def save_figures(figures: Mapping[str, Callable[[], Figure]], folder: Path) -> list[str]:
    """Write each figure to the folder as SVG, PDF and PNG, and return the files' names."""
    folder.mkdir(parents=True, exist_ok=True)
    return [file for name, draw in figures.items() for file in save_figure(draw(), folder / name, ENDINGS)]


def curves(x: Sequence[float], lines: Mapping[str, Sequence[float]], x_label: str, y_label: str) -> Figure:
    """Return a figure of lines over the same x."""
    check_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    for (name, values), colour in zip(lines.items(), _CURVES, strict=False):
        axes.plot(x, values, color=colour, linewidth=1.8, label=name, drawstyle="steps-post")
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(color="#999999", linewidth=0.4, alpha=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def points(x: np.ndarray, y: np.ndarray, marked: np.ndarray, x_label: str, y_label: str) -> Figure:
    """Return a figure of points; those that are `marked` stand out."""
    check_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.scatter(x[~marked], y[~marked], s=14, color=PROXY, alpha=0.6, linewidths=0)
    axes.scatter(x[marked], y[marked], s=34, color=BASELINE, marker="D", linewidths=0, zorder=3)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


@dataclass(frozen=True)
class Cloud:
    """Points of a scatter: networks by score and accuracy. `sizes` are their parameter counts, None where unknown."""

    title: str
    score: np.ndarray
    accuracy: np.ndarray
    sizes: np.ndarray | None = None


def scatters(clouds: Sequence[Cloud], x_label: str, y_label: str = "accuracy, %") -> Figure:
    """Return a figure with a panel for each cloud; colours are thirds of the networks by size, where sizes differ."""
    check_matplotlib()
    from matplotlib.figure import Figure

    columns = min(3, len(clouds))
    lines = -(-len(clouds) // columns)
    figure = Figure(figsize=(3.4 * columns, 3.1 * lines + 0.4), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).flatten()
    handles: dict[str, Any] = {}
    for cloud, axes in zip(clouds, panels, strict=False):
        for (label, inside), colour in zip(_size_bands(cloud).items(), _BANDS, strict=False):
            handles[label] = axes.scatter(
                cloud.score[inside], cloud.accuracy[inside], s=13, color=colour, alpha=0.8, linewidths=0
            )
        axes.set_title(cloud.title, fontsize=10)
        axes.set_xlabel(x_label, fontsize=8)
        axes.set_ylabel(y_label, fontsize=8)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(clouds) :]:
        axes.set_axis_off()
    if len(handles) > 1:
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def _size_bands(cloud: Cloud) -> dict[str, np.ndarray]:
    """Return which points are in which third by size; all in one where sizes are unknown or the same."""
    everything = {"": np.ones(len(cloud.score), bool)}
    if cloud.sizes is None or np.isnan(cloud.sizes).any():
        return everything
    low, high = np.quantile(cloud.sizes, (1 / 3, 2 / 3))
    if not cloud.sizes.min() < low < high:
        return everything
    bands = {
        "smallest third by params": cloud.sizes < low,
        "middle third": (cloud.sizes >= low) & (cloud.sizes < high),
        "largest third": cloud.sizes >= high,
    }
    return {label: inside for label, inside in bands.items() if inside.any()}
