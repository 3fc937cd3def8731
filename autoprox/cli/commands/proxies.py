"""List the proxies that are shipped, or show one in full."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import click
from rich.table import Column, Table
from rich.text import Text

from autoprox.bench_cache.runtime import plug_ins
from autoprox.cli.output import Output, output_options
from autoprox.collection import COLLECTION
from autoprox.display.collection import collection_tables, shipped_parts
from autoprox.display.terminal import make_table, names
from autoprox.primitives import FormulaError
from autoprox.proxy import ProxyError, resolve
from autoprox.scoring import few_step_note
from autoprox.zoo import ZOO, ZooProxy


@click.command("proxies")
@click.argument("name", required=False)
@output_options
def command(name: str | None, output: Output) -> None:
    """List the proxies that are shipped, or show the one that is called NAME in full.

    First come the formulas that were evolved with autoprox, with their Kendall's tau; then those of the literature:
    their formulas (LaTeX where it is a function), sources and costs. Those of installed packages come last.
    """
    if name is None:
        listed = [*COLLECTION, *ZOO, *plug_ins.plug_in_names(plug_ins.PROXIES)]
        parts: list[Any] = [*collection_tables(COLLECTION.values()), _zoo_table()]
        output.print(parts, lambda: {"proxies": [_listed(each) for each in listed]})
    else:
        found = shipped_parts(COLLECTION[name]) if name in COLLECTION else _entry_parts(name)
        output.print(found, lambda: _record(name))


def _record(name: str) -> dict[str, Any]:
    """Return all that is known of a proxy as JSON values."""
    if name in COLLECTION:
        return {"kind": "evolved with autoprox", **asdict(COLLECTION[name])}
    if name in ZOO:
        facts = ("name", "source", "cost", "reads", "note", "latex", "direction", "training_free", "probes")
        entry = ZOO[name]
        return {
            "kind": "of the literature",
            "formula": entry.formula or None,
            **{fact: getattr(entry, fact) for fact in facts},
        }
    return {"kind": "other", "name": name, "formula": resolve(name).text}


def _listed(name: str) -> dict[str, Any]:
    """Return the record of a proxy in the list; of one of a package that cannot be used, why."""
    try:
        return _record(name)
    except (ProxyError, FormulaError) as error:
        return {"kind": "other", "name": name, "problem": str(error)}


def _zoo_table() -> Table:
    """Return the table of the zoo, and then of the proxies of installed packages."""
    halves = (Column(head, overflow="fold", ratio=1) for head in ("formula", "source and note"))
    table = make_table("of the literature", names("name"), *halves, ruled=False)
    table.padding = (0, 2, 1, 0)  # an empty line after each proxy
    for proxy in ZOO.values():
        about = Text.assemble(proxy.source, ".\n", (f"{proxy.cost}: {proxy.reads}; {proxy.note}", "dim"))
        table.add_row(Text(proxy.name, "bold"), Text(proxy.formula or proxy.latex), about)
    for name in plug_ins.plug_in_names(plug_ins.PROXIES):
        package = plug_ins.plug_in_package(plug_ins.PROXIES, name)
        try:
            table.add_row(Text(name, "bold"), Text(resolve(name).text), f"of the package {package}")
        except (ProxyError, FormulaError) as error:
            table.add_row(Text(name, "bold"), "", Text(f"cannot be used: {error}"))
    return table


def _entry_parts(name: str) -> Iterator[Text]:
    """Yield all that is known of a proxy of the zoo or of an installed package."""
    proxy = ZOO.get(name) or resolve(name)
    yield Text.assemble((name, "bold"), f"\n\nformula  {proxy.text}")
    note = few_step_note(proxy.probes)
    if note:
        yield Text(f"cost  {note}")
    if isinstance(proxy, ZooProxy):
        yield Text(
            f"LaTeX  {proxy.latex}\nsource  {proxy.source}\ncost  {proxy.cost}: {proxy.reads}\nnote  {proxy.note}"
        )
