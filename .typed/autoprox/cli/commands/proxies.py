"""List the proxies that are shipped."""

from __future__ import annotations

import click
from rich.table import Column
from rich.text import Text

from autoprox.bench_cache.runtime import plug_ins
from autoprox.display.terminal import make_console, make_table, names
from autoprox.primitives import FormulaError
from autoprox.proxy import ProxyError, resolve
from autoprox.zoo import ZOO


@click.command("proxies")
def command() -> None:
    """List the proxies that are shipped: their formulas (LaTeX where it is a function), sources and costs.

    Those of installed packages come last.
    """
    halves = (Column(head, overflow="fold", ratio=1) for head in ("formula", "source and note"))
    table = make_table("", names("name"), *halves, ruled=False)
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
    make_console().print(table)
