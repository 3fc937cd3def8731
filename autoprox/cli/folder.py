"""A group of commands that follows from the files of a folder: to add a command, write its file there."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import pkgutil
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import click
from click.shell_completion import CompletionItem


class FolderGroup(click.Group):
    """A group whose commands are the modules of a package.

    A module's name is its command's name. An underscore at its end, for a name that Python reserves, is left out. The
    module's constant `command` is the command, and the first line of its docstring is its line in the group's help.

    A module is imported only when its command is called, because importing torch takes more than a second. The help
    reads the docstrings without importing the modules.

    The commands in `order` come first, as they stand there. The others follow by name.
    """

    def __init__(self, *arguments: Any, package: str, order: Sequence[str] = (), **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.package, self.order = package, tuple(order)

    def modules(self) -> dict[str, str]:
        """Return the full names of the modules, by the names of their commands, in the order of the help."""
        folder = importlib.import_module(self.package).__path__
        found = {module.name.rstrip("_"): f"{self.package}.{module.name}" for module in pkgutil.iter_modules(folder)}
        first = [name for name in self.order if name in found]
        return {name: found[name] for name in [*first, *sorted(found.keys() - first)]}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of the help."""
        return list(self.modules())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command; None if there is none of this name."""
        module = self.modules().get(cmd_name)
        return _imported(module).command if module else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments begin with; the error for an unknown one names the closest."""
        names = list(self.modules())
        if args[0] not in names and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], names, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(names)}."
            ctx.fail(f"no command '{args[0][:40]}'; {hint}")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands that begin with what is typed, and the options, without importing any command."""
        modules = self.modules().items()
        found = [
            CompletionItem(name, help=_first_line(module)) for name, module in modules if name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; the errors of autoprox name its options as they are typed."""
        try:
            return super().invoke(ctx)
        except ValueError as error:
            command = self.get_command(ctx, ctx.invoked_subcommand or "")
            if command is not None and type(error).__module__.startswith("autoprox.") and len(error.args) == 1:
                error.args = (as_typed(str(error), command.params),)
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands for the help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _first_line(module)) for name, module in self.modules().items()])


def as_typed(message: str, options: Sequence[click.Parameter]) -> str:
    """Return a message with options in place of the names of the library: `--max-params` for `max_params`.

    A name that is an English word too is one where the message says what it is: `--sample is 2` for `sample is 2`.
    """
    for option in options:
        name, typed = option.name or "", option.opts[0]
        if name and typed.startswith("--"):
            followed = r"(?!\w)" if "_" in name else r"(?= is [-\d'])"
            message = re.sub(rf"(?<![\w-]){name}{followed}", typed, message)
    return message


def _imported(module: str) -> ModuleType:
    """Import a module; meanwhile a terminal says why nothing happens yet, because torch takes seconds."""
    if module in sys.modules or not sys.stderr.isatty():
        return importlib.import_module(module)
    click.echo("loading …", nl=False, err=True)
    try:
        return importlib.import_module(module)
    finally:
        click.echo("\r\x1b[K", nl=False, err=True)  # the line is empty again


def _first_line(module: str) -> str:
    """Return the first line of a module's docstring without importing the module."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    with Path(spec.origin).open(encoding="utf-8") as file:
        line = file.readline().rstrip()
        if line.startswith('"""'):  # parsing all the files takes as long as starting Python
            return line[3:].removesuffix('"""')
        return (ast.get_docstring(ast.parse(line + "\n" + file.read())) or "").partition("\n")[0]
