"""What is imported at the start: help needs nothing heavy, and an evolution only what it uses."""

import io
import subprocess
import sys
from pathlib import Path

import pytest

from autoprox.cli import folder
from autoprox.cli.root import main

HEAVY = {"torch", "numpy", "scipy", "networkx", "deap", "rich", "matplotlib", "dask"}


def imported(script: str) -> set[str]:
    """The heavy packages that a script has imported at its end."""
    told = f"{script}\nimport sys\nprint(*({HEAVY!r} & sys.modules.keys()), file=sys.stderr)"
    ran = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    return set(ran.stderr.split())


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["bench", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    assert imported(f"from autoprox.cli.root import main\nmain({arguments!r})") == set()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_is_told_that_a_command_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "autoprox.cli.commands.completion", raising=False)
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert main(["completion", "--help"]) == 0
    told = sys.stderr.getvalue()
    assert told == "loading …\r\x1b[K"
    assert main(["completion", "--help"]) == 0
    assert sys.stderr.getvalue() == told  # it is loaded by now


@pytest.mark.parametrize(("more", "told"), [([], "loading …\n"), (["--quiet"], "")])
def test_what_is_no_terminal_is_told_where_loading_takes_long(
    more: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["import time", "import click", "time.sleep(0.2)", "command = click.Command('slow', callback=lambda: 0)"]
    (tmp_path / "commands_of_a_test").mkdir()
    (tmp_path / "commands_of_a_test" / "slow.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(folder, "TOLD_AFTER", 0.05)
    group = folder.FolderGroup(package="commands_of_a_test")
    group.main(["slow"], standalone_mode=False, obj=["slow", *more])
    assert capsys.readouterr().err == told
    group.main(["slow"], standalone_mode=False, obj=["slow"])
    assert capsys.readouterr().err == ""  # it is loaded by now
    monkeypatch.delitem(sys.modules, "commands_of_a_test.slow")


def test_an_evolution_imports_no_scipy() -> None:
    found = imported("import autoprox.cli.commands.evolve")
    assert {"torch", "deap"} <= found  # what is not imported later either
    assert not found & {"scipy", "networkx", "matplotlib", "dask"}
