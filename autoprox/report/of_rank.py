"""The report of a run of `autoprox rank`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from autoprox.bench_cache.benchmarks.table import STRUCTURE
from autoprox.bench_cache.rank_correlation import kendall
from autoprox.evolve import FITTED, MEAN
from autoprox.pictures import Bar, tau_bars
from autoprox.rank.output import JSON, POINTS
from autoprox.rank.plots import correlation_figure
from autoprox.report.figures import Cloud, scatters
from autoprox.report.page import Figure, Page, Section, Table
from autoprox.report.tellers import Teller, as_number, read_json, read_rows, settings_rows, shown, with_interval

#: Scores against accuracy are shown for so many of the best proxies.
_SHOWN = 2


def tell(run: Path) -> Page:
    """Return the page of a run's directory."""
    record = read_json(run / JSON)
    rows, settings = record["rows"], record["settings"]
    best = [row["proxy"] for row in _means(rows) if row["proxy"] not in (*STRUCTURE, FITTED)][:_SHOWN]
    sections = [
        Section("Beside structure", [*_taus(rows), *_tables(rows)]),
        Section("Scores and accuracy", list(_scatters(read_rows(run / POINTS), [*best, FITTED]))),
        Section("Proxies among themselves", list(_correlations(record))),
        Section("Proxies without a score", list(_failures(record))),
        Section("Settings and versions", [_settings(settings)]),
    ]
    name, count = settings["benchmark"][0], len(settings["architectures"])
    return Page(
        f"Proxies on {name}",
        f"{count} architectures of the split {settings['split']}, tasks {', '.join(settings['tasks'])}, "
        f"batch {settings['batch']}, seed {settings['seed']}",
        record.get("words", []),
        [section for section in sections if section.parts],
    )


def _means(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows of the mean over tasks, the best first."""
    found = [row for row in rows if row["task"] == MEAN]
    return sorted(found, key=lambda row: row["rank"] if row["rank"] is not None else np.inf)


def _taus(rows: Sequence[Mapping[str, Any]]) -> Iterator[Figure]:
    order = [row["proxy"] for row in _means(rows)]
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    if len(tasks) == 2:  # one task, which is its own mean
        tasks.remove(MEAN)
    panels = {}
    for task in tasks:
        of_task = {row["proxy"]: row for row in rows if row["task"] == task}
        panels["mean over tasks" if task == MEAN else task] = [_bar(of_task[name]) for name in order]
    spoken = ", ".join(f"{row['proxy']} {shown(row['tau'])}" for row in _means(rows)[:5])
    yield Figure(
        "taus",
        "Kendall's τ-b with accuracy, with 95 % bootstrap intervals over architectures; the best mean rank on top.",
        f"Bars of τ of {len(order)} predictors. The five best by mean rank: {spoken}.",
        lambda: tau_bars(panels),
    )


def _bar(row: Mapping[str, Any]) -> Bar:
    tau, low, high = (float("nan") if row[name] is None else row[name] for name in ("tau", "tau_low", "tau_high"))
    return Bar(row["proxy"], tau, low, high, row["proxy"] in (*STRUCTURE, FITTED))


def _tables(rows: Sequence[Mapping[str, Any]]) -> Iterator[Table]:
    heads = ("proxy", "rank", "n", "τ (95 % interval)", "τ given params", "τ given fitted", "ρ", "regret@10", "s/arch.")
    for task in dict.fromkeys([MEAN, *(row["task"] for row in rows)]):
        of_task = [row for row in rows if row["task"] == task]
        cells = [
            [row["proxy"], shown(row["rank"], 1), str(row["n"]),
             with_interval(row["tau"], row["tau_low"], row["tau_high"]), shown(row["partial_tau"]),
             shown(row["given_fitted"]), shown(row["spearman"]), shown(row["regret_10"], 2), shown(row["seconds"], 2)]
            for row in sorted(of_task, key=lambda row: row["rank"] if row["rank"] is not None else np.inf)
        ]  # fmt: skip
        yield Table("Mean over tasks" if task == MEAN else f"Task {task}", heads, cells, folded=task != MEAN)


def _scatters(points: Sequence[Mapping[str, str]], proxies: Sequence[str]) -> Iterator[Figure]:
    """Yield, for each of the proxies, the picture of its scores against accuracies, a panel for each task."""
    for number, proxy in enumerate(name for name in proxies if points and name in points[0]):
        clouds = []
        for task in dict.fromkeys(row["task"] for row in points):
            of_task = [row for row in points if row["task"] == task and row[proxy]]
            x, y = (np.array([as_number(row[name]) for row in of_task]) for name in (proxy, "accuracy"))
            sizes = np.array([as_number(row["size"]) for row in of_task]) if "size" in points[0] else None
            clouds.append(Cloud(f"{task}, τ {shown(kendall(x, y))}", x, y, sizes))
        yield Figure(
            f"scores-{number + 1}",
            f"{proxy} of each architecture against its trained accuracy, by task.",
            f"Scatter of {proxy} against accuracy: {'; '.join(cloud.title for cloud in clouds)}.",
            partial(scatters, clouds, proxy),
        )


def _correlations(record: Mapping[str, Any]) -> Iterator[Figure]:
    between = record["correlations"]
    names = between["proxies"]
    if len(names) < 2:
        return
    matrix = np.array(between["spearman"], dtype=float)
    yield Figure(
        "correlations",
        "Spearman's ρ between the proxies' scores; similar ones side by side, grey where it is not defined.",
        f"Heat map of correlations between {len(names)} proxies; rank.json has the numbers.",
        lambda: correlation_figure(names, matrix, "", "Spearman ρ between scores"),
        on_paper=True,
    )


def _failures(record: Mapping[str, Any]) -> Iterator[Table]:
    if record["failures"]:
        rows = [[each["proxy"], str(each["count"]), each["reason"]] for each in record["failures"]]
        yield Table("Networks without a score", ("proxy", "networks", "why, of the first"), rows)


def _settings(settings: Mapping[str, Any]) -> Table:
    shorter = {
        **settings,
        "benchmark": "{} (sha256 {:.12}…)".format(*settings["benchmark"]),
        "architectures": str(len(settings["architectures"])),
        "proxies": str(len(settings["proxies"])),
    }
    return Table("What the result depends on", ("setting", "value"), settings_rows(shorter))


TELLER = Teller("rank", JSON, tell)
