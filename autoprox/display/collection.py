"""What is shown of the shipped formulas: a table of all, and one in full."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from rich.table import Column, Table
from rich.text import Text

from autoprox.collection import Figures, ShippedProxy
from autoprox.display.terminal import UNDEFINED, correlation, make_table, names, number, numbers

#: A number and its interval.
_Triple = Sequence[float] | None


def collection_tables(shipped: Collection[ShippedProxy]) -> list[Table]:
    """Return a table of the shipped formulas with their tau on each benchmark; none where there is no formula."""
    if not shipped:
        return []
    halves = (Column(head, overflow="fold", ratio=1) for head in ("formula", "what it is, and τ"))
    table = make_table("evolved with autoprox", names("name"), *halves, ruled=False)
    table.padding = (0, 2, 1, 0)  # an empty line after each
    for each in shipped:
        taus = "; ".join(f"{_place(found)} {_interval(found.tau)}" for found in each.figures)
        about = Text.assemble(each.summary, "\n", (taus, "dim"))
        table.add_row(Text(each.name, "bold"), Text(each.formula), about)
    return [table]


def shipped_parts(shipped: ShippedProxy) -> Iterator[str | Text | Table]:
    """Yield all that is known of a shipped formula: its reading, its provenance and its validation."""
    yield Text.assemble((shipped.name, "bold"), f": {shipped.summary}")
    yield Text.assemble(("\nformula  ", "bold"), shipped.formula)
    yield Text.assemble(("\nwhat it measures  ", "bold"), shipped.measures)
    yield Text.assemble(("\nwhen not to use it  ", "bold"), shipped.avoid)
    yield Text.assemble(("\nwhere it comes from  ", "bold"), " ".join(where_from(shipped)))
    yield validation_table(shipped.figures)
    yield from (f"{found.verdict}\n    {found.command}" for found in shipped.figures)
    yield f"\nAs a picture: autoprox export {shipped.name} --to svg --out {shipped.name}.svg (or --to dot)"


def where_from(shipped: ShippedProxy) -> Iterator[str]:
    """Yield sentences on the run that evolved a formula, and on its taus there."""
    known = shipped.provenance
    yield (
        f"Evolved on {', '.join(known['tasks'])} with autoprox {known['version']}: {known['generations']} generations, "
        f"seed {known['seed']}, {known['tried']:,} formulas tried."
    )
    if "note" in known:
        yield str(known["note"])
    taus = [
        f"{split} {number(of_task['mean'])}" for split, of_task in known.get("tau", {}).items() if "mean" in of_task
    ]
    if taus:
        yield f"Mean τ by split: {', '.join(taus)}."
    looks = known["looks"]
    yield f"Test was looked at for {looks} {'formula' if looks == 1 else 'formulas'} of its making."


def validation_table(figures: Iterable[Figures]) -> Table:
    """Return the table of a formula's validation: a line for each benchmark."""
    heads = numbers("n", "tasks", "τ", "given fitted", "trainable", "lead over structure", "noise")
    table = make_table("what `autoprox validate` found", "benchmark", *heads, "strongest structure", gap=1)
    for found in figures:
        noise = UNDEFINED if found.noise is None else f"{found.noise:.0%}"
        table.add_row(
            _place(found),
            str(found.networks),
            str(found.tasks),
            *(_interval(each) for each in (found.tau, found.given_fitted, found.trainable, found.lead)),
            noise,
            f"{found.baseline} {correlation(found.baseline_tau)}",
        )
        for task in found.by_task if len(found.by_task) > 1 else ():
            given = UNDEFINED if task.given_fitted is None else correlation(task.given_fitted)
            name = Text(f"  {task.task}{'' if task.seen else ' (not evolved on)'}", "dim")
            table.add_row(name, "", "", _interval(task.tau), given, _interval(task.trainable))
    return table


def _place(found: Figures) -> str:
    return found.benchmark if found.split == "all" else f"{found.benchmark} {found.split}"


def _interval(found: _Triple) -> str:
    if found is None:
        return UNDEFINED
    value, low, high = found
    return f"{correlation(value)} [{correlation(low, 2)},{correlation(high, 2)}]"
