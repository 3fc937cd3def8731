"""Page: headings, text, tables and figures as one self-contained HTML file.

The page loads nothing: styles, scripts and pictures are in it, and its policy forbids every request. All text of a run
is escaped.
"""

from __future__ import annotations

import html
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from autoprox.report.figures import as_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure


@dataclass(frozen=True)
class Figure:
    """A picture, with its caption and a sentence that says what it shows to a reader who cannot see it.

    `name` is that of its files, such as `taus` for taus.svg. `draw` makes it. A picture that is `on_paper` keeps its
    white background where the page is dark.
    """

    name: str
    caption: str
    alternative: str
    draw: Callable[[], MatplotlibFigure]
    on_paper: bool = False

    def _repr_html_(self) -> str:
        """Return the picture with its caption, as a notebook shows it."""
        body = as_svg(self.draw, on_paper=self.on_paper)
        paper = ' style="background:white;color:black"' if self.on_paper else ""
        return f"<div{paper}>{_with_caption(self, body, f'n{zlib.crc32(body.encode()):08x}-')}</div>"


@dataclass(frozen=True)
class Table:
    """A table that a click on a head sorts. Cells that read as numbers are sorted as such and stand at the right.

    A table that is `folded` shows its caption alone until the reader opens it.
    """

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    folded: bool = False


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Code:
    """Text that is copied as it is, such as a formula or a command; `label` says what it is."""

    label: str
    text: str


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    parts: Sequence[Figure | Table | Text | Code]


@dataclass(frozen=True)
class Page:
    """A page: its title, a line below it, the sentences that matter most, and the sections."""

    title: str
    subtitle: str
    summary: Sequence[str]
    sections: Sequence[Section]

    def figures(self) -> list[Figure]:
        """Return all figures in order."""
        return [part for section in self.sections for part in section.parts if isinstance(part, Figure)]


def to_html(page: Page) -> str:
    """Return the page as HTML."""
    figure = iter(range(1, len(page.figures()) + 1))
    sections = []
    for number, section in enumerate(page.sections, 1):
        parts = [_figure(part, next(figure)) if isinstance(part, Figure) else _part(part) for part in section.parts]
        title = html.escape(section.title)
        sections.append(
            f'<section aria-labelledby="s{number}"><h2 id="s{number}">{title}</h2>{"".join(parts)}</section>'
        )
    links = "".join(
        f'<li><a href="#s{number}">{html.escape(section.title)}</a></li>'
        for number, section in enumerate(page.sections, 1)
    )
    summary = "".join(f"<p>{html.escape(line)}</p>" for line in page.summary)
    title = html.escape(page.title)
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<style>\n{_asset('page.css')}</style>\n</head>\n<body>\n"
        f"<header><h1>{title}</h1><p>{html.escape(page.subtitle)}</p></header>\n"
        f'<nav aria-label="Contents"><ul>{links}</ul></nav>\n<main>\n<div class="summary">{summary}</div>\n'
        + "\n".join(sections)
        + f"\n</main>\n<script>\n{_asset('page.js')}</script>\n</body>\n</html>\n"
    )


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _part(part: Table | Text | Code) -> str:
    if isinstance(part, Text):
        return f"<p>{html.escape(part.text)}</p>"
    if isinstance(part, Code):
        label, text = html.escape(part.label), html.escape(part.text)
        return f'<p class="label">{label}</p><pre tabindex="0" role="region" aria-label="{label}">{text}</pre>'
    return _table(part)


def _table(table: Table) -> str:
    caption = html.escape(table.caption)
    numeric = [all(_is_number(row[column]) for row in table.rows) for column in range(len(table.heads))]
    classes = [' class="number"' if each else "" for each in numeric]
    heads = "".join(
        f'<th scope="col"{kind} aria-sort="none"><button type="button">{html.escape(head)}</button></th>'
        for head, kind in zip(table.heads, classes, strict=True)
    )
    rows = "".join(
        "<tr>"
        + "".join(f"<td{kind}>{html.escape(cell)}</td>" for cell, kind in zip(row, classes, strict=True))
        + "</tr>"
        for row in table.rows
    )
    body = (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}"><table aria-label="{caption}">'
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
    if table.folded:
        return f"<details><summary>{caption}</summary>{body}</details>"
    return f'<p class="label">{caption}</p>{body}'


def _is_number(cell: str) -> bool:
    """Whether a cell starts with a number, which may be followed by its interval; a dash stands for none."""
    return cell in ("", "–") or re.match(r"[+−-]?[\d.,]", cell) is not None


def _figure(figure: Figure, number: int) -> str:
    return _with_caption(figure, as_svg(figure.draw, on_paper=figure.on_paper), f"f{number}-")


def _with_caption(figure: Figure, svg: str, prefix: str) -> str:
    body = _embedded(svg, prefix)
    paper = " paper" if figure.on_paper else ""
    caption, alternative = html.escape(figure.caption), html.escape(figure.alternative)
    return (
        f'<figure><div class="scroll picture{paper}" tabindex="0" role="img" aria-label="{alternative}">{body}</div>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _embedded(svg: str, prefix: str) -> str:
    """Return SVG that can stand in a page beside others: no header, and names that no other picture has."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="', f'id="{prefix}', body)
    return re.sub(r'(url\(#|href="#)', rf"\1{prefix}", body)
