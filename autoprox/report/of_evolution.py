"""The report of a run of `autoprox evolve`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autoprox.bench_cache.rank_correlation import kendall
from autoprox.evolution import JOURNAL, SCORES
from autoprox.evolve import FITTED, FORMULA, MEAN, Journal, Lead, Report, Row, looks_so_far, verdict
from autoprox.evolve.report import Within
from autoprox.export.drawing import draw
from autoprox.pictures import Bar, tau_bars
from autoprox.primitives.words import parts_of
from autoprox.proxy import PROXY_FILE, Proxy
from autoprox.report.figures import Cloud, curves, scatters
from autoprox.report.page import Code, Figure, Page, Section, Table, Text
from autoprox.report.tellers import Teller, as_number, read_json, read_rows, settings_rows, shown, with_interval
from autoprox.scoring import few_step_note

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

REPORT = "report.json"


def tell(run: Path) -> Page:
    """Return the page of a run's directory."""
    record = read_json(run / REPORT)
    proxy = Proxy.load(run / PROXY_FILE)
    report = _report(record)
    splits = list(dict.fromkeys(row.split for row in report.rows))
    settings, note = record["settings"], few_step_note(proxy.probes)
    formula = f"{proxy.formula.text}{f'; it {note}' if note else ''}"
    scores, generations = read_rows(run / SCORES), read_rows(run / "generations.csv")
    names = ", ".join(name for name, _ in settings["benchmarks"])
    chosen = "chosen on validation" if "test" in splits else "interrupted, so that test was not looked at"
    sections = [
        Section("Beside structure", [*_taus(report, splits[-1]), _means(report, splits), _all_rows(report)]),
        Section("Scores and accuracy", list(_scatter(scores, splits[-1]))),
        Section("The formula", list(_formula(proxy))),
        Section("Complexity and fitness", list(_front(record))),
        Section("Generations", list(_generations(generations))),
        Section("Settings and versions", list(_settings(run, settings))),
    ]
    return Page(
        f"Evolution on {names}",
        f"{len(generations) - 1} generations, population {settings['population']}, seed {settings['seed']}; {chosen}",
        [formula, *verdict(report, splits[-1]), *_held_out(record), looks_so_far(run)],
        [section for section in sections if section.parts],
    )


def _report(record: Mapping[str, Any]) -> Report:
    return Report(
        tuple(Row(**row) for row in record["rows"]),
        tuple(Lead(**lead) for lead in record["leads"]),
        tuple(Within(**found) for found in record.get("within", ())),
    )


def _held_out(record: Mapping[str, Any]) -> Iterator[str]:
    if "held_out" in record:
        yield f"Held out whole: {' '.join(verdict(_report(record['held_out']), 'test'))}"


def _taus(report: Report, split: str) -> Iterator[Figure]:
    """Yield the picture of each predictor's tau on a split, by task."""
    rows = [row for row in report.rows if row.split == split]
    means = {row.predictor: row.tau for row in rows if row.task == MEAN}
    order = sorted(means, key=lambda name: (name != FORMULA, -means[name]))
    panels: dict[str, list[Bar]] = {}
    for row in rows:
        head = "mean over tasks" if row.task == MEAN else f"{row.benchmark}: {row.task}"
        panels.setdefault(head, []).append(Bar(row.predictor, row.tau, row.low, row.high, row.predictor != FORMULA))
    if len(panels) == 2:  # one task, which is its own mean
        del panels["mean over tasks"]
    panels = {head: sorted(bars, key=lambda bar: order.index(bar.name)) for head, bars in panels.items()}
    spoken = ", ".join(f"{name} {shown(means[name])}" for name in order)
    yield Figure(
        "taus",
        f"Kendall's τ-b with accuracy on the {split} split, with 95 % bootstrap intervals over architectures.",
        f"Bars of τ on the {split} split. Means over tasks: {spoken}.",
        lambda: tau_bars(panels),
    )


def _means(report: Report, splits: Sequence[str]) -> Table:
    """Return the table of means over tasks: each predictor's tau on every split, and what is left of the last."""
    last = [row for row in report.rows if row.task == MEAN and row.split == splits[-1]]
    rows = []
    for row in sorted(last, key=lambda row: -row.tau):
        before = [shown(report.row(row.predictor, split).tau) for split in splits[:-1]]
        own = with_interval(row.tau, row.low, row.high)
        rows.append([row.predictor, *before, own, shown(row.partial), shown(row.given_fitted)])
    heads = ("predictor", *(f"τ, {split}" for split in splits[:-1]), f"τ, {splits[-1]} (95 % interval)")
    return Table(
        f"Means over tasks. τ given params and given {FITTED}: Kendall's partial τ on {splits[-1]}.",
        (*heads, "τ given params", "τ given fitted"),
        rows,
    )


def _all_rows(report: Report) -> Table:
    heads = ("split", "benchmark", "task", "predictor", "n", "τ (95 % interval)", "τ given params", "τ given fitted")
    rows = [
        [row.split, row.benchmark, row.task, row.predictor, str(row.architectures),
         with_interval(row.tau, row.low, row.high), shown(row.partial), shown(row.given_fitted)]
        for row in report.rows
    ]  # fmt: skip
    return Table("Every task and split", heads, rows, folded=True)


def _scatter(scores: Sequence[Mapping[str, str]], split: str) -> Iterator[Figure]:
    """Yield the picture of the formula's scores against accuracies, a panel for each task."""
    tasks = dict.fromkeys((row["benchmark"], row["task"]) for row in scores)
    clouds = []
    for benchmark, task in tasks:
        of_task = [row for row in scores if (row["benchmark"], row["task"], row["split"]) == (benchmark, task, split)]
        x, y = (np.array([as_number(row[name]) for row in of_task]) for name in (FORMULA, "accuracy"))
        sizes = np.array([as_number(row["params"]) for row in of_task]) if "params" in scores[0] else None
        clouds.append(Cloud(f"{benchmark}: {task}, τ {shown(kendall(x, y))}", x, y, sizes))
    if clouds:
        yield Figure(
            "scores",
            f"The formula's score of each architecture of the {split} split against its trained accuracy, by task.",
            f"Scatter of score against accuracy on {split}: {'; '.join(cloud.title for cloud in clouds)}.",
            lambda: scatters(clouds, "score of the formula"),
        )


def _formula(proxy: Proxy) -> Iterator[Figure | Table | Text | Code]:
    yield Code("As autoprox reads it", proxy.formula.text)
    yield Code("LaTeX", proxy.formula.latex)
    yield Figure(
        "formula",
        "The computation graph: statistics of the network below, the score on top.",
        f"The computation graph of {proxy.formula.text}",
        _graph(proxy),
        on_paper=True,
    )
    rows = [[part.name, part.short, part.kind, part.words] for part in parts_of(proxy.formula)]
    yield Table("The formula in words, part by part; the last part is the score", ("", "part", "is", "in words"), rows)


def _graph(proxy: Proxy) -> Callable[[], MatplotlibFigure]:
    def picture() -> MatplotlibFigure:
        from matplotlib.figure import Figure as MatplotlibFigure

        figure = MatplotlibFigure(dpi=72)
        draw(proxy, figure)
        return figure

    return picture


def _front(record: Mapping[str, Any]) -> Iterator[Figure | Table]:
    """Yield picture and table of the front: the best formula of each complexity that no simpler one equals."""
    rows = record.get("front", [])
    if not rows:
        return
    lines = {
        "joint τ on evolve": [row["evolve"] for row in rows],
        "joint τ on validation, of the same formula": [row["validation"] or float("nan") for row in rows],
    }
    yield Figure(
        "front",
        "The best formula of each complexity, in nodes, that no simpler one equals on evolve.",
        f"Curves over complexity: joint τ on evolve rises from {shown(rows[0]['evolve'])} with {rows[0]['complexity']} "
        f"nodes to {shown(rows[-1]['evolve'])} with {rows[-1]['complexity']}.",
        lambda: curves([row["complexity"] for row in rows], lines, "complexity (nodes)", "Kendall τ"),
    )
    cells = [
        [str(row["complexity"]), shown(row["evolve"]), shown(row["validation"]),
         f"{row['formula']}{'  ← the result' if row['formula'] == record['formula'] else ''}"]
        for row in rows
    ]  # fmt: skip
    yield Table("The front", ("complexity", "joint τ, evolve", "joint τ, validation", "formula"), cells)


def _generations(rows: Sequence[Mapping[str, str]]) -> Iterator[Figure | Table]:
    if len(rows) < 2:
        return
    numbers = [as_number(row["generation"]) for row in rows]
    lines = {
        "joint τ on evolve, which evolution sees": [as_number(row["joint"]) for row in rows],
        "τ on validation, of the same formula": [as_number(row["validation"]) for row in rows],
    }
    yield Figure(
        "generations",
        "The best formula so far after each generation.",
        f"Curves over {len(rows) - 1} generations: joint τ rises from {rows[0]['joint']:.5} to {rows[-1]['joint']:.5}, "
        f"validation τ from {rows[0]['validation']:.5} to {rows[-1]['validation']:.5}.",
        lambda: curves(numbers, lines, "generation", "Kendall τ"),
    )
    first = [number for number, row in enumerate(rows) if not number or rows[number - 1]["formula"] != row["formula"]]
    cells = [
        [row["generation"], shown(as_number(row["joint"])), shown(as_number(row["validation"])), row["formula"]]
        for row in (rows[number] for number in first)
    ]
    yield Table("Each new best formula", ("generation", "joint τ, evolve", "τ, validation", "formula"), cells)


def _settings(run: Path, settings: Mapping[str, Any]) -> Iterator[Table]:
    journal = Journal.open(run / JOURNAL)
    benchmarks = [f"{name} (sha256 {digest[:12]}…)" for name, digest in settings["benchmarks"]]
    rows = settings_rows({**settings, "benchmarks": benchmarks})
    rows += [[name, str(version)] for name, version in journal.begun_with.items()]
    yield Table("What the result depends on", ("setting", "value"), rows)


TELLER = Teller("evolve", REPORT, tell)
