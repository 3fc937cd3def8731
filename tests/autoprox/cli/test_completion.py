"""`autoprox completion`: one command installs it, and the shell completes commands and options."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from autoprox.cli.commands.completion import SHELLS
from autoprox.cli.root import main, root


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    for name in ("XDG_CONFIG_HOME", "ZDOTDIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def completed(*arguments: str, incomplete: str) -> list[str]:
    found = ShellComplete(root, {}, "autoprox", "_AUTOPROX_COMPLETE").get_completions(list(arguments), incomplete)
    return [item.value for item in found]


def test_commands_and_options_are_completed() -> None:
    assert completed(incomplete="ex") == ["explain", "export"]
    assert completed("bench", incomplete="im") == ["images", "import"]
    assert "--max-params" in completed("search", incomplete="--max")
    assert completed("export", "--to", incomplete="p") == ["png", "python"]


def test_completing_a_command_imports_none() -> None:
    code = "import sys; from autoprox.cli.root import main\ntry: main([])\nfinally: assert 'torch' not in sys.modules"
    asked = {"COMP_WORDS": "autoprox ex", "COMP_CWORD": "1", "_AUTOPROX_COMPLETE": "bash_complete"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | asked, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["plain,explain", "plain,export"]


@pytest.mark.parametrize("shell", SHELLS)
def test_it_is_installed_once(shell: str, home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    start = home / f".{shell}rc"
    start.write_text("alias ll='ls -l'")
    for _ in range(2):
        assert main(["completion", shell]) == 0
    scripts = [path for path in home.rglob("*") if path.is_file() and path != start]
    assert len(scripts) == 1
    assert "_AUTOPROX_COMPLETE" in scripts[0].read_text()
    lines = start.read_text().splitlines()
    assert lines[0] == "alias ll='ls -l'"
    assert len(lines) == (1 if shell == "fish" else 2)
    assert str(scripts[0]) in capfd.readouterr().out
    assert main(["completion", shell, "--print"]) == 0
    assert capfd.readouterr().out.strip() == scripts[0].read_text().strip()


@pytest.mark.parametrize("shell", [shell for shell in SHELLS if shutil.which(shell)])
def test_the_shell_reads_the_script(shell: str, home: Path) -> None:
    assert main(["completion", shell]) == 0
    script = next(path for path in home.rglob("*completion*") if path.is_file()) if shell != "fish" else None
    read = [shell, "-n", str(script or next(home.rglob("*.fish")))]
    done = subprocess.run(read, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_shell_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch, home: Path, capfd) -> None:
    monkeypatch.setenv("SHELL", "/usr/bin/bash")
    assert main(["completion"]) == 0
    assert (home / ".bashrc").exists()
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    assert main(["completion"]) == 2
    assert "which shell? Name one of bash, zsh, fish" in capfd.readouterr().err
