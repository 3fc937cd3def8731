"""The root of the command line: the group `autoprox`, and how a user's error becomes one line and an exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

import click

from autoprox import __version__
from autoprox.cli.ahead import start_ahead
from autoprox.cli.folder import FolderGroup

INTERRUPTED = 128 + signal.SIGINT
FAILED = 2

# Since click 8.2 a group without arguments fails with its help as the message; before, it printed it.
_NO_ARGUMENTS: type[click.UsageError] | tuple[()] = getattr(click.exceptions, "NoArgsIsHelpError", ())


@click.group(
    cls=FolderGroup,
    package="autoprox.cli.commands",
    order=(
        "evolve",
        "search",
        "train",
        "report",
        "rank",
        "libra",
        "validate",
        "score",
        "layers",
        "explain",
        "export",
        "proxies",
        "bench",
        "completion",
    ),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="autoprox", message="%(prog)s %(version)s")
def root() -> None:
    """Evolve zero-cost proxies for vision transformers, export them, and search architectures with them.

    Where a command takes a PROXY, it is a run directory, a proxy file, a shipped name, or the formula itself.
    Where a command takes a MODEL, it is timm:NAME, torchvision:NAME, hf:CONFIG, space:NAME:ARCH.json, FILE.py:FUNCTION
    or MODULE:FUNCTION.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: 0, 2 after an error of the user's, 130 after Ctrl-C.

    An error of the user's is one line on stderr that begins with `error: `. Such errors are wrong usage, files that
    cannot be read or written, and every ValueError that autoprox defines. An error of a file ends with the advice that
    was noted on it. Any other error is a defect of autoprox and keeps its traceback.
    """
    typed = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if arguments is None:  # a process that runs this command and ends
            start_ahead(typed)
        code = root.main(typed, prog_name="autoprox", standalone_mode=False, obj=typed)
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
