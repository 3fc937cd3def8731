"""Drawing: the computation graph of a formula as a picture, in layers, without overlaps."""

from __future__ import annotations

import bisect
import io
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import networkx as nx

from autoprox.pictures import check_matplotlib
from autoprox.primitives import Operation
from autoprox.primitives.kinds import LEVELS
from autoprox.proxy import Proxy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FONT = "DejaVu Sans"  # matplotlib brings it along, so that a picture is the same everywhere
_SIZE = 10.0  # of the font; all lengths are points
_HEIGHT, _PADDING, _GAP_X, _GAP_Y, _MARGIN = 22.0, 16.0, 16.0, 34.0, 14.0
_PORTS = 40.0  # least width of a box that two edges enter
_BEND = 4.0  # width kept free where an edge passes between boxes
_LEGEND = 16.0  # height of a line of the legend
_SWEEPS = 24

#: The level of a value → the colour of its box.
_COLOURS = {"matrix": "#cfe3f7", "layer": "#d8efd3", "net": "#fde3c4"}


@dataclass(frozen=True)
class Layout:
    """A layout: where the boxes of a graph stand, and the way of each edge from an argument to its user.

    `centres` are those of the boxes, by number of the node. `edges` are (argument, user, position among the user's
    arguments, points on the way). y grows upwards, and the root is on top.
    """

    centres: Mapping[int, tuple[float, float]]
    edges: tuple[tuple[int, int, int, tuple[tuple[float, float], ...]], ...]
    size: tuple[float, float]


def to_svg(proxy: Proxy) -> str:
    """Return the computation graph as SVG: statistics below, the score on top, boxes coloured by kind.

    Where the order of the arguments matters, the edges carry their numbers.

    Raises:
        DrawingError: matplotlib is not installed.
    """
    return _drawn(proxy, "svg", {"Date": None, "Title": proxy.formula.text}).decode()


def to_png(proxy: Proxy) -> bytes:
    """Return the same picture as PNG, 200 dots per inch.

    Raises:
        DrawingError: matplotlib is not installed.
    """
    return _drawn(proxy, "png", {"Software": None, "Title": proxy.formula.text})


def _drawn(proxy: Proxy, form: str, metadata: Mapping[str, str | None]) -> bytes:
    check_matplotlib()
    import matplotlib
    from matplotlib.figure import Figure

    settings: Any = {"svg.hashsalt": "autoprox", "svg.fonttype": "path", "path.simplify": False}
    with matplotlib.rc_context(settings), io.BytesIO() as file:
        figure = Figure(dpi=72)
        draw(proxy, figure)
        figure.savefig(file, format=form, metadata=metadata, dpi=200 if form == "png" else "figure")
        return file.getvalue()


def draw(proxy: Proxy, figure: Figure) -> None:
    """Draw the graph on an empty figure, and give the figure its size."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    font = FontProperties(family=_FONT, size=_SIZE)
    graph = proxy.formula.graph()
    nodes = list(proxy.formula.nodes())
    levels = [node.kind.level for node in nodes]
    legend = [(colour, LEVELS[level]) for level, colour in _COLOURS.items() if level in levels]
    texts = [graph.nodes[number]["label"] for number in graph]
    extents = [TextPath((0, 0), text, prop=font).get_extents().width for text in [*texts, *(t for _, t in legend)]]
    widths = [
        max(extent + _PADDING, _PORTS * (len(node.args) > 1)) for extent, node in zip(extents, nodes, strict=False)
    ]
    plan = layout(graph, widths)
    width = max(plan.size[0], max(extents[len(texts) :]) + 2 * _LEGEND) + 2 * _MARGIN
    below = _MARGIN + _LEGEND * len(legend) + _MARGIN
    height = plan.size[1] + below + _MARGIN
    figure.set_size_inches(width / 72, height / 72)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    left = (width - plan.size[0]) / 2
    for _argument, user, place, points in plan.edges:
        head = nodes[user].head
        numbered = isinstance(head, Operation) and head.arity > 1 and not head.commutative
        shifted = [(x + left, y + below) for x, y in points]
        _draw_edge(axes, shifted, str(place + 1) if numbered else "", font)
    for number, (x, y) in plan.centres.items():
        _draw_box(axes, x + left, y + below, widths[number], _HEIGHT, _COLOURS[levels[number]])
        _draw_text(axes, x + left, y + below, texts[number], font, "center")
    for line, (colour, text) in enumerate(reversed(legend)):
        y = _MARGIN + _LEGEND * (line + 0.5)
        _draw_box(axes, _MARGIN + _LEGEND / 3, y, _LEGEND * 2 / 3, _LEGEND * 2 / 3, colour)
        _draw_text(axes, _MARGIN + _LEGEND, y, text, font, "left")


def _draw_box(axes, x: float, y: float, width: float, height: float, colour: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    corner, style = (x - width / 2, y - height / 2), "round,pad=0,rounding_size=3"
    axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle=style, facecolor=colour, edgecolor="#555", zorder=2))


def _draw_text(axes, x: float, y: float, text: str, font, side: str, size: float = _SIZE) -> None:
    axes.text(x, y, text, fontproperties=font, fontsize=size, ha=side, va="center_baseline", zorder=3, parse_math=False)


def _draw_edge(axes, points: Sequence[tuple[float, float]], number: str, font) -> None:
    """Draw a curve through the points. It leaves and enters every row vertically, to stay clear of the boxes."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    path, codes = [points[0]], [Path.MOVETO]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        path += [(x0, (y0 + y1) / 2), (x1, (y0 + y1) / 2), (x1, y1)]
        codes += [Path.CURVE4] * 3
    arrow = FancyArrowPatch(path=Path(path, codes), arrowstyle="-|>", mutation_scale=7, color="#555", linewidth=0.9)
    axes.add_patch(arrow)
    if number:
        (before, _), (x, y) = points[-2:]
        # The number stands on the side that the curve does not come from.
        _draw_text(axes, x + (4.5 if before < x else -4.5), y - 9, number, font, "center", size=7)


def layout(graph: nx.DiGraph, widths: Sequence[float]) -> Layout:
    """Return the layout of a formula's graph, whose last node is the root, with boxes of the given widths.

    It follows Sugiyama's scheme. The row of a node is its longest distance from the root. An edge over several rows
    gets a bend in each of them. The mean positions of a node's neighbours order the rows, and then place the nodes.

    It is our own because networkx's layout in layers does not order a row: over 226 formulas (the zoo's 26 and 200
    random ones) networkx 3's `multipartite_layout` has 396 crossings and 25 edges through boxes, this has 44 and none.
    """
    rows_of = _rows_of(graph)
    chains = _chains(graph, rows_of)
    size = {**{(node,): widths[node] for node in graph}, **{b: _BEND for *_, chain in chains for b in chain[1:-1]}}
    above: dict[tuple, list[tuple]] = {node: [] for node in size}
    below: dict[tuple, list[tuple]] = {node: [] for node in size}
    for _, _, _, chain in chains:
        for lower, upper in itertools.pairwise(chain):
            above[lower].append(upper)
            below[upper].append(lower)
    row_of = {node: node[1] if len(node) > 1 else rows_of[node[0]] for node in size}
    rows: list[list[tuple]] = [[] for _ in range(1 + max(row_of.values()))]
    root = (len(graph) - 1,)
    for node in nx.dfs_preorder_nodes(nx.DiGraph(below), root):
        rows[row_of[node]].append(node)
    rows = _untangled(rows, above, below)
    x = _positions(rows, above, below, size)
    low = min(x[node] - size[node] / 2 for node in size)
    high = max(x[node] + size[node] / 2 for node in size)
    height = len(rows) * _HEIGHT + (len(rows) - 1) * _GAP_Y

    def centre(node: tuple) -> tuple[float, float]:
        return x[node] - low, height - _HEIGHT / 2 - row_of[node] * (_HEIGHT + _GAP_Y)

    def points(chain: Sequence[tuple], shift: float) -> tuple[tuple[float, float], ...]:
        (x0, y0), (x1, y1) = centre(chain[0]), centre(chain[-1])
        bends = [(bx, by + end) for bx, by in map(centre, chain[1:-1]) for end in (-_HEIGHT / 2, _HEIGHT / 2)]
        return (x0, y0 + _HEIGHT / 2), *bends, (x1 + shift, y1 - _HEIGHT / 2)

    edges = []
    for argument, user, place, chain in chains:
        several = sum(end == user for _, end, _, _ in chains) > 1
        edges.append((argument, user, place, points(chain, widths[user] / 4 * (2 * place - 1) if several else 0.0)))
    return Layout({node: centre((node,)) for node in graph}, tuple(edges), (high - low, height))


def _rows_of(graph: nx.DiGraph) -> dict[int, int]:
    """Return the row of each node: 0 for the root, and for any other a row below all its users."""
    rows: dict[int, int] = {}
    for node in reversed(range(len(graph))):  # arguments have smaller numbers than their users
        rows[node] = 1 + max((rows[user] for user in graph.successors(node)), default=-1)
    return rows


def _chains(graph: nx.DiGraph, rows: Mapping[int, int]) -> list[tuple[int, int, int, list[tuple]]]:
    """Return (argument, user, place, chain) for each edge; a chain is (argument,), a bend in each row, (user,)."""
    chains = []
    for argument, user, data in graph.edges(data=True):
        for place in data["position"]:
            bends = [("bend", row, argument, user, place) for row in range(rows[argument] - 1, rows[user], -1)]
            chains.append((argument, user, place, [(argument,), *bends, (user,)]))
    return sorted(chains, key=lambda chain: (chain[1], chain[2]))


def _untangled(rows: list[list[tuple]], above: Mapping, below: Mapping) -> list[list[tuple]]:
    """Return the rows with few crossings: sweeps down and up order them by the mean place of the neighbours."""
    best, fewest = rows, _crossings(rows, above)
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        rows = [list(row) for row in rows]
        neighbours, order = (above, range(1, len(rows))) if sweep % 2 == 0 else (below, range(len(rows) - 2, -1, -1))
        for number in order:
            fixed = rows[number - 1 if sweep % 2 == 0 else number + 1]
            places = {node: place for place, node in enumerate(fixed)}
            own = {node: float(place) for place, node in enumerate(rows[number])}
            means = {node: _mean([places[n] for n in neighbours[node]], own[node]) for node in rows[number]}
            rows[number].sort(key=means.__getitem__)
        crossings = _crossings(rows, above)
        if crossings < fewest:
            best, fewest = rows, crossings
    return best


def _crossings(rows: Sequence[Sequence[tuple]], above: Mapping) -> int:
    count = 0
    for upper, lower in itertools.pairwise(rows):
        places = {node: place for place, node in enumerate(upper)}
        seen: list[int] = []
        for node in lower:
            ends = [places[end] for end in above[node]]
            count += sum(len(seen) - bisect.bisect_right(seen, end) for end in ends)
            for end in ends:
                bisect.insort(seen, end)
    return count


def _positions(rows: Sequence[Sequence[tuple]], above: Mapping, below: Mapping, size: Mapping) -> dict[tuple, float]:
    """Return the centres along each row: near those of the neighbours, and clear of each other."""
    x: dict[tuple, float] = {}
    for row in rows:
        x.update(_apart(row, [0.0] * len(row), size))
    for sweep in range(_SWEEPS):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            if sweep >= _SWEEPS - 8:  # the last sweeps heed the rows above and below
                wanted = [_mean([x[n] for n in [*above[node], *below[node]]], x[node]) for node in row]
            else:
                near = above if sweep % 2 == 0 else below
                wanted = [_mean([x[n] for n in near[node]], x[node]) for node in row]
            x.update(_apart(row, wanted, size))
    return x


def _apart(row: Sequence[tuple], wanted: Sequence[float], size: Mapping) -> dict[tuple, float]:
    """Return the places nearest to the wanted ones, by least squares, at which the boxes do not touch.

    Boxes do not touch where the difference between a box's place and its place in a packed row never falls along the
    row. Such differences are found by isotonic regression, which pools neighbours that would fall.
    """
    packed = [0.0]
    for left, right in itertools.pairwise(row):
        packed.append(packed[-1] + (size[left] + size[right]) / 2 + _GAP_X)
    pools: list[tuple[float, int]] = []  # mean, count
    for want, offset in zip(wanted, packed, strict=False):
        mean, count = want - offset, 1
        while pools and pools[-1][0] > mean:
            last, others = pools.pop()
            mean, count = (mean * count + last * others) / (count + others), count + others
        pools.append((mean, count))
    shifts = [mean for mean, count in pools for _ in range(count)]
    return {node: shift + offset for node, shift, offset in zip(row, shifts, packed, strict=False)}


def _mean(values: Iterable[float], default: float) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else default
