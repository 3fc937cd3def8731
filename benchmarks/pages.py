"""Pages: the part of a page of docs/ that a script writes, between two marks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"


def marks(script: str) -> tuple[str, str]:
    """Return the lines between which a script writes."""
    return f"<!-- made by benchmarks/{script}: begin -->", f"<!-- made by benchmarks/{script}: end -->"


def write_part(page: Path, script: str, lines: Iterable[str]) -> None:
    """Write the lines between the marks of a script; the rest of the page stays as it is.

    Raises:
        ValueError: the page does not have both marks.
    """
    begin, end = marks(script)
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, found_too, after = rest.partition(end)
    if not (found and found_too):
        raise ValueError(f"{page}: there is no '{begin}' with an end")
    text = "\n".join(lines)
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")
