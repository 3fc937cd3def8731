"""Install completion of commands and options in your shell."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click
import platformdirs
from click.shell_completion import get_completion_class

from autoprox.bench_cache.runtime.files import write_atomically
from autoprox.cli.output import Output, output_options

SHELLS = ("bash", "zsh", "fish")
_PROGRAM, _VARIABLE = "autoprox", "_AUTOPROX_COMPLETE"
#: What zsh needs before a script may say what it completes.
_ZSH = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }\n"


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS), required=False)
@click.option("--print", "only_print", is_flag=True, help="Print the script instead of installing it.")
@click.pass_context
@output_options
def command(context: click.Context, shell: str | None, only_print: bool, output: Output) -> None:
    """Install completion of commands and options, so that the tab key completes them.

    SHELL is bash, zsh or fish; without it, that of $SHELL. The script is written to your folder of data, and for bash
    and zsh one line in .bashrc or .zshrc reads it. Doing it again replaces the script and leaves the line. Commands are
    completed at once; options take as long as the command needs to start.
    """
    shell = shell or Path(os.environ.get("SHELL", "")).name
    if shell not in SHELLS:
        raise click.UsageError(f"which shell? Name one of {', '.join(SHELLS)}")
    made = get_completion_class(shell)
    assert made is not None  # these three come with click
    script = (_ZSH if shell == "zsh" else "") + made(context.find_root().command, {}, _PROGRAM, _VARIABLE).source()
    if only_print and not output.as_json:
        click.echo(script)  # as it is: a console would break its lines
        return
    if only_print:
        output.print((), lambda: {"shell": shell, "script": script})
        return
    path = _script_path(shell)
    write_atomically(path, script.encode())
    lines = [f"Saved {path}"]
    if shell != "fish":  # which reads what is in its folder
        lines += _read_by(_start_file(shell), path)
    lines.append(f"Start a new {shell}, and type: {_PROGRAM} <TAB>")
    output.print((), lambda: {"shell": shell, "saved": path}, lines)


def _script_path(shell: str) -> Path:
    """Return where the script of a shell is kept."""
    if shell == "fish":
        configuration = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
        return Path(configuration).expanduser() / "fish" / "completions" / f"{_PROGRAM}.fish"
    return platformdirs.user_data_path(_PROGRAM) / f"completion.{shell}"


def _start_file(shell: str) -> Path:
    """Return the file that an interactive shell reads when it starts."""
    folder = os.environ.get("ZDOTDIR", "~") if shell == "zsh" else "~"
    return Path(folder).expanduser() / f".{shell}rc"


def _read_by(start: Path, script: Path) -> list[str]:
    """Add the line that reads the script to a shell's file, unless it is there, and return what to say of it."""
    quoted = shlex.quote(str(script))
    line = f"[ -f {quoted} ] && . {quoted}  # completion of {_PROGRAM}"
    before = start.read_text(encoding="utf-8") if start.exists() else ""
    if line in before.splitlines():
        return []
    with open(start, "a", encoding="utf-8") as file:  # a link stays a link
        file.write(("" if before.endswith("\n") or not before else "\n") + line + "\n")
    return [f"Added to {start}: {line}"]
