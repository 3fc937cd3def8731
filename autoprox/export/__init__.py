"""Export: a proxy as text, LaTeX, JSON, a graph for Graphviz, a picture, or a Python file that needs only torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from autoprox.export.drawing import to_png, to_svg
from autoprox.export.standalone import to_python
from autoprox.primitives import Operation
from autoprox.proxy import Proxy
from autoprox.scoring import AnyProxy


class ExportError(ValueError):
    """An export that cannot be: the format does not exist, or the proxy is a function and has no formula."""


def to_text(proxy: Proxy) -> str:
    """Return the formula as `autoprox` reads it."""
    return proxy.formula.text + "\n"


def to_latex(proxy: Proxy) -> str:
    """Return the formula for LaTeX's math mode."""
    return proxy.formula.latex + "\n"


def to_json(proxy: Proxy) -> str:
    """Return the proxy's file, as `Proxy.save` writes it."""
    return proxy.to_json().decode()


def to_dot(proxy: Proxy) -> str:
    """Return the computation graph for Graphviz: data flows upwards, arguments stand from left to right.

    Where the order of the arguments matters, the edges carry their numbers.
    """
    heads = [node.head for node in proxy.formula.nodes()]
    graph = proxy.formula.graph()
    lines = [f"digraph {_dot_text(proxy.name or 'proxy')} {{"]
    lines += ["  rankdir=BT;", "  ordering=in;", '  node [shape=box, style=rounded, fontname="sans-serif"];']
    for number, data in graph.nodes(data=True):
        lines.append(f"  {number} [label={_dot_text(data['label'])}, tooltip={_dot_text(data['kind'])}];")
    places = [(end, place, start) for start, end, data in graph.edges(data=True) for place in data["position"]]
    for end, place, start in sorted(places):
        head = heads[end]
        ordered = isinstance(head, Operation) and head.arity > 1 and not head.commutative
        lines.append(f"  {start} -> {end}" + (f" [label={place + 1}];" if ordered else ";"))
    return "\n".join([*lines, "}\n"])


def _dot_text(text: str) -> str:
    visible = "".join(c if c.isprintable() else " " for c in text)
    return '"' + visible.replace("\\", "\\\\").replace('"', '\\"') + '"'


@dataclass(frozen=True)
class Format:
    """A form of export: the function that writes it, as text or bytes, and the endings of files that have it."""

    write: Callable[[Proxy], str | bytes]
    endings: tuple[str, ...]


#: The forms by name. To add one, write its function above and its line here.
FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "text": Format(to_text, (".txt",)),
        "latex": Format(to_latex, (".tex",)),
        "json": Format(to_json, (".json",)),
        "dot": Format(to_dot, (".dot", ".gv")),
        "svg": Format(to_svg, (".svg",)),
        "png": Format(to_png, (".png",)),
        "python": Format(to_python, (".py",)),
    }
)


def export(proxy: AnyProxy, to: str) -> str | bytes:
    """Return the proxy in one of FORMATS, png as bytes; the same proxy gives the same, byte for byte.

    Raises:
        ExportError: the format is unknown, or the proxy is a function of the zoo.
        DrawingError: the format is `svg` or `png`, and matplotlib is not installed.
        SourceError: the format is `python`, and an operation has no source that can be written into the file, or the
            formula reads columns of a table.
    """
    if to not in FORMATS:
        raise ExportError(f"cannot export to '{to:.40}': the formats are {', '.join(FORMATS)}")
    if not isinstance(proxy, Proxy):
        raise ExportError(
            f"'{proxy.name}' is a function and not a formula, so that there is nothing to export: "
            f"call autoprox.resolve('{proxy.name}').score(model, inputs, targets)"
        )
    return FORMATS[to].write(proxy)
