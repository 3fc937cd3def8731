"""The report of a run of `autoprox search`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from autoprox.report.figures import curves, points
from autoprox.report.page import Code, Figure, Page, Section, Table
from autoprox.report.tellers import Teller, as_number, read_json, read_rows, settings_rows, shown
from autoprox.search.run import JOURNAL, RESULTS_CSV, RESULTS_JSON, SearchJournal

#: Facts that a score is drawn against, where they differ among the architectures.
_COSTS = ("params", "flops", "latency")
#: Rows of the table of architectures.
_ROWS = 50


def tell(run: Path) -> Page:
    """Return the page of a search's directory."""
    record, rows = read_json(run / RESULTS_JSON), read_rows(run / RESULTS_CSV)
    journal = SearchJournal.open(run / JOURNAL)
    scored = [row for row in rows if row["score"]]
    name = _place(record)
    best = record["architectures"][0] if record["architectures"] else {"score": None}
    summary = [
        f"{record['scored']} architectures are scored, {len(rows) - len(scored)} of them without a score. "
        f"The best score is {shown(best['score'], 4)}.",
        "A score ranks networks and is no accuracy: train several of the best, and random ones of their size too.",
    ]
    if not record["finished"]:
        summary.append("The search was interrupted: these are the results so far.")
    sections = [
        Section("Scores and sizes", list(_sizes(scored, len(record["architectures"])))),
        Section("Progress", list(_progress(journal.records))),
        Section("Beside random choice", list(_verdicts(record))),
        Section("Architectures", [_table(scored)]),
        Section("Settings and versions", [_settings(record, journal), *_proxy(record)]),
    ]
    return Page(f"Search on {name}", "", summary, [section for section in sections if section.parts])


def _place(record: Mapping[str, Any]) -> str:
    for key in ("benchmark", "space"):
        value = record.get(key)
        if value:
            named = value[0] if isinstance(value, list) else value
            return str(named["name"] if isinstance(named, dict) else named)
    return "a space"


def _sizes(rows: Sequence[Mapping[str, str]], top: int) -> Iterator[Figure]:
    """Yield a picture of scores against each cost that differs; the best architectures are marked."""
    score = np.array([as_number(row["score"]) for row in rows])
    fronts = [row.get("front") for row in rows]
    pareto = any(fronts)
    best = np.array([each == "True" for each in fronts] if pareto else [int(row["rank"]) <= top for row in rows])
    marked = f"the {best.sum()} of the front" if pareto else f"the {top} best"
    for cost in _COSTS:
        values = np.array([as_number(row.get(cost)) for row in rows])
        if len(rows) > 1 and not np.isnan(values).any() and len(np.unique(values)) > 1:
            yield Figure(
                f"score-{cost}",
                f"Score against {cost} of everything that was scored; {marked} are marked.",
                f"Scatter of score against {cost} of {len(rows)} architectures. The best has {values[0]:,.0f} {cost}",
                partial(points, values, score, best, cost, "score"),
            )


def _progress(records: Sequence[Mapping[str, Any]]) -> Iterator[Figure]:
    scores = [-np.inf if record["score"] is None else record["score"] for record in records]
    best = list(itertools.accumulate(scores, max))
    while best and not np.isfinite(best[0]):
        best.pop(0)
    if len(best) > 1:
        first = len(records) - len(best) + 1
        yield Figure(
            "progress",
            "The best score so far after each architecture.",
            f"A curve that rises from {best[0]:.4g} to {best[-1]:.4g} over {len(records)} architectures.",
            lambda: curves(
                range(first, len(records) + 1), {"best score so far": best}, "architectures scored", "score"
            ),
        )


def _verdicts(record: Mapping[str, Any]) -> Iterator[Table]:
    verdicts = record.get("verdicts") or []
    if verdicts:
        heads = list(verdicts[0])
        rows = [[_cell(verdict[head]) for head in heads] for verdict in verdicts]
        yield Table("The benchmark's accuracies of what was found", [head.replace("_", " ") for head in heads], rows)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_cell(each)}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(map(_cell, value))
    return shown(value) if isinstance(value, float) else str(value)


def _table(rows: Sequence[Mapping[str, str]]) -> Table:
    heads = [head for head in rows[0] if head != "problem"] if rows else ["rank"]
    cells = [[_count(head, row[head]) for head in heads] for row in rows[:_ROWS]]
    return Table(f"The best {len(cells)} of {len(rows)}; architectures.csv has all", heads, cells)


def _count(head: str, cell: str) -> str:
    if head in ("arch", "rank") or not cell:
        return cell
    if head == "front":
        return "yes" if cell == "True" else "no"
    return f"{float(cell):,.0f}" if float(cell).is_integer() else f"{float(cell):.5g}"


def _settings(record: Mapping[str, Any], journal: SearchJournal) -> Table:
    told = ("architectures", "verdicts", "finished", "scored", "format", "version", "provenance", "proxy")
    rows = settings_rows({name: value for name, value in record.items() if name not in told})
    rows += [[name, str(version)] for name, version in journal.begun_with.items()]
    return Table("What the result depends on", ("setting", "value"), rows)


def _proxy(record: Mapping[str, Any]) -> Iterator[Code]:
    if "proxy" in record:
        proxy = record["proxy"]
        yield Code("Proxy", proxy if isinstance(proxy, str) else orjson.dumps(proxy).decode())


TELLER = Teller("search", RESULTS_JSON, tell)
