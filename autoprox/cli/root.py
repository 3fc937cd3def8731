"""Command line: the root of `autoprox`, which imports a command when it is called, and says errors in one line."""

from __future__ import annotations

import difflib
import importlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import click

from autoprox import __version__

INTERRUPTED = 128 + signal.SIGINT
FAILED = 2

# Since click 8.2 a group without arguments fails with its help as the message; before, it printed it.
_NO_ARGUMENTS: type[click.UsageError] | tuple[()] = getattr(click.exceptions, "NoArgsIsHelpError", ())


@dataclass(frozen=True)
class Entry:
    """A command: the module and the attribute that hold it, and its line in `autoprox --help`."""

    module: str
    attribute: str
    help: str


#: name → command. To add one, write its module and its line here.
COMMANDS: Mapping[str, Entry] = MappingProxyType(
    {
        "bench": Entry("autoprox.cli.bench", "bench", "Benchmarks: import, show, download, list, clean."),
        "evolve": Entry("autoprox.cli.evolve", "evolve", "Evolve a formula that ranks untrained vision transformers."),
        "search": Entry("autoprox.cli.search", "search", "Search the architectures that a proxy scores highest."),
        "rank": Entry("autoprox.cli.rank", "rank", "Rank the proxies of the literature on a benchmark."),
        "libra": Entry("autoprox.cli.libra", "libra", "Choose three proxies by LIBRA, merge and judge them."),
        "export": Entry(
            "autoprox.cli.export", "export_command", "Write a proxy as text, LaTeX, a picture, Python, ..."
        ),
        "proxies": Entry("autoprox.cli.export", "proxies", "List the proxies that are shipped."),
    }
)


class LazyGroup(click.Group):
    """A group that imports a command only when it is called: torch alone takes a second or two."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now; None if there is none of this name."""
        entry = COMMANDS.get(cmd_name)
        return getattr(importlib.import_module(entry.module), entry.attribute) if entry else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments begin with; an error names the closest one."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], list(COMMANDS), n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(COMMANDS)}."
            ctx.fail(f"no command '{args[0][:40]}'; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands in the help, from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="autoprox", message="%(prog)s %(version)s")
def root() -> None:
    """Evolve zero-cost proxies for vision transformers, export them, and search architectures with them.

    Where a command takes a PROXY, it is a run directory, a proxy file, a shipped name, or the formula itself.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return the exit code: 0, 2 after an error of the user's, 130 after Ctrl-C.

    What the user can mend is `error: ...` on stderr: wrong usage, files that cannot be read or written, with the
    advice that was noted on the error, and every ValueError that autoprox defines. Anything else is a defect of ours
    and keeps its traceback.
    """
    try:
        code = root.main(arguments, prog_name="autoprox", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.Abort:
        return _failed("interrupted", INTERRUPTED)
    except _NO_ARGUMENTS as error:
        return _failed(error.format_message())
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "autoprox"
        return _failed(f"error: {error.format_message()}\nSee '{command} --help'.")
    except click.ClickException as error:
        return _failed(f"error: {error.format_message()}")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains when it flushes
        return 1
    except OSError as error:
        refused = f"{error.filename or 'input or output'}: {error.strerror}" if error.strerror else str(error)
        return _failed("; ".join([f"error: {refused}", *getattr(error, "__notes__", ())]))
    except ValueError as error:
        if not type(error).__module__.startswith("autoprox."):
            raise
        return _failed(f"error: {error}")


def _failed(message: str, code: int = FAILED) -> int:
    click.echo(message, err=True)
    return code
