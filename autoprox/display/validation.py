"""What is shown of a validation: the proxy beside the baselines, the guards, and the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.table import Column, Table
from rich.text import Text

from autoprox.display.ranking import failure_tables, result_tables
from autoprox.display.terminal import make_table, names
from autoprox.rank.caption import caption
from autoprox.validation.plan import ValidationPlan
from autoprox.validation.run import Findings
from autoprox.validation.verdict import Guard

_HOLDS = {True: "yes", False: "no", None: ""}
_STYLES = {True: "green", False: "bold red", None: ""}


def validation_heading(plan: ValidationPlan, out: Path, done: int, of: int) -> str:
    """Return what is validated on which architectures, and how much of it is scored already."""
    ranking = plan.ranking
    going_on = f", of which {done} are scored already" if done else ""
    return (
        f"autoprox validate → {out}\n"
        f"{plan.proxy}\n"
        f"{ranking.benchmark.name}, split {ranking.split}: {len(ranking.architectures)} architectures, "
        f"tasks {', '.join(ranking.tasks)}\n"
        f"batch {ranking.batch}, seed {ranking.seed}, {plan.seeds} seeds, {plan.batches} batches\n"
        f"{of} networks to score{going_on}"
    )


def validation_parts(
    plan: ValidationPlan, found: Findings, asked: Sequence[Guard], verdict: str
) -> Iterator[str | Text | Table]:
    """Yield the tables of the proxy and the baselines, the guards, and the verdict."""
    yield from result_tables(found.over_all.rows, found.seconds)
    yield from failure_tables(found.failures)
    yield caption(plan.ranking)
    table = make_table(
        "guards against self-deception", names("guard"), names("holds"), Column("found", overflow="fold")
    )
    for guard in asked:
        table.add_row(guard.question, Text(_HOLDS[guard.holds], _STYLES[guard.holds]), Text(guard.found))
    yield table
    yield Text(verdict, "bold")
