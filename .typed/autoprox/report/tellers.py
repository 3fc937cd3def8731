"""Tellers: the kinds of runs that a report can tell, found from the files `of_KIND.py` of this folder."""

from __future__ import annotations

import csv
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from autoprox.report.page import Page


class ReportError(ValueError):
    """A run that cannot be told, and why."""


@dataclass(frozen=True)
class Teller:
    """How one kind of run is told: `file` is what only its directories have, and `tell` makes the page of one."""

    kind: str
    file: str
    tell: Callable[[Path], Page]


def tell(run: Path) -> Page:
    """Return the page of the run in a directory.

    Raises:
        ReportError: the directory holds no run that has a result, or a file of it cannot be read.
    """
    for teller in _tellers().values():
        if (run / teller.file).is_file():
            try:
                return teller.tell(run)
            except (KeyError, TypeError, ValueError, IndexError, OSError) as error:
                if isinstance(error, ReportError):
                    raise
                problem = str(error) or type(error).__name__
                raise ReportError(
                    f"{run}: the run of autoprox {teller.kind} cannot be read ({problem:.200})"
                ) from error
    kinds = "; ".join(f"autoprox {teller.kind} writes {teller.file}" for teller in _tellers().values())
    raise ReportError(f"{run} holds no run with a result: {kinds}")


def _tellers() -> Mapping[str, Teller]:
    from autoprox import report

    modules = sorted(module.name for module in pkgutil.iter_modules(report.__path__) if module.name.startswith("of_"))
    found = [pkgutil.resolve_name(f"{report.__name__}.{module}").TELLER for module in modules]
    return {teller.kind: teller for teller in found}


# --- what tellers read with ---


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file of a run."""
    value = orjson.loads(path.read_bytes())
    if not isinstance(value, dict):
        raise ReportError(f"{path} holds no JSON object")
    return value


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file of a run, none where it is absent."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def as_number(text: str | None) -> float:
    """Return a cell as a number, NaN where it is empty."""
    return float(text) if text else float("nan")


def shown(value: float | None, digits: int = 3) -> str:
    """Return a number as tables have it; a dash where it is not defined."""
    return "–" if value is None or value != value else f"{value:.{digits}f}"


def with_interval(value: float | None, low: float | None, high: float | None) -> str:
    """Return a number with its interval."""
    if value is None or value != value or low is None or high is None:
        return shown(value)
    return f"{value:.3f} ({low:.2f} to {high:.2f})"


def settings_rows(settings: Mapping[str, Any]) -> list[list[str]]:
    """Return a table's rows of the settings of a run, but not the empty ones."""
    return [
        [name.replace("_", " "), _as_text(value)] for name, value in settings.items() if value not in ([], "", None)
    ]


def _as_text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_as_text(each)}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(map(_as_text, value))
    return str(value)
