"""Command line: commands load when called, the user's errors are one message and exit code 2, defects keep theirs."""

import importlib
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner
from places import ROOT

from autoprox import __version__
from autoprox.cli import commands
from autoprox.cli.folder import FolderGroup
from autoprox.cli.root import main, root
from autoprox.export import FORMATS, export
from autoprox.proxy import Proxy, resolve
from autoprox.zoo import ZOO

MODULES = root.modules()
FILES = {path.stem for path in Path(commands.__file__).parent.iterdir()} - {"__init__", "__pycache__"}


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run this Python from the root of the repository."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def command(monkeypatch, body: Callable[[], object]) -> None:
    """Add a command `try` that runs the body."""
    name = "autoprox.cli.commands.try_"
    module = ModuleType(name)
    module.command = click.command("try")(lambda: body())  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(FolderGroup, "modules", lambda group: {**MODULES, "try": name})


def raising(error: BaseException) -> Callable[[], object]:
    def body() -> object:
        raise error

    return body


def test_help_lists_every_command() -> None:
    for arguments in (["--help"], ["-h"]):
        shown = CliRunner().invoke(root, arguments)
        assert shown.exit_code == 0
        names = [line.split()[0] for line in shown.output.split("Commands:\n")[1].splitlines()]
        assert len(names) == len(FILES)
        assert set(names) == FILES
        assert names[0] == "evolve"


def every_command() -> Iterator[tuple[FolderGroup, str]]:
    """Return the commands with their groups, those of groups inside groups too."""
    waiting: list[FolderGroup] = [root]
    for group in waiting:
        for name in group.modules():
            yield group, name
            if isinstance(found := group.get_command(click.Context(group), name), FolderGroup):
                waiting.append(found)


@pytest.mark.parametrize(("group", "name"), [pytest.param(g, n, id=f"{g.name} {n}") for g, n in every_command()])
def test_every_command_loads_and_has_help(group: FolderGroup, name: str) -> None:
    loaded = group.get_command(click.Context(group), name)
    assert loaded is not None
    assert loaded.name == name
    shown = CliRunner().invoke(group, ["--help"]).output
    (line,) = re.findall(rf"^  {name} +(.*)$", shown.partition("Commands:\n")[2], re.MULTILINE)
    assert line.endswith(".")
    assert len(line) < 60
    assert CliRunner().invoke(group, [name, "--help"]).exit_code == 0


def test_a_command_is_one_new_file(tmp_path: Path, monkeypatch) -> None:
    """Its name and its line of help follow from the file, which the help does not import."""
    body = "import click\n\n@click.command()\ndef command():\n    click.echo('done')\n"
    (tmp_path / "import_.py").write_text(f'"""Bring it in.\n\nMore.\n"""\n{body}')
    (tmp_path / "aside.py").write_text('"""Stand aside."""\nraise RuntimeError("imported")\n')
    monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(tmp_path)])
    lines = CliRunner().invoke(root, ["--help"]).output.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in lines[-2:]] == ["aside", "import"]
    assert len(lines) == len(FILES) + 2
    assert [line.split(maxsplit=1)[1] for line in lines[-2:]] == ["Stand aside.", "Bring it in."]
    assert CliRunner().invoke(root, ["import"]).output == "done\n"
    monkeypatch.delitem(sys.modules, "autoprox.cli.commands.import_")


def test_help_and_version_are_quick() -> None:
    """They import neither torch nor anything else that is slow."""
    code = (
        "import sys; from autoprox.cli.root import main; "
        "code = main(['bench', '--help']) or main(['--help']) or main(['--version']); "
        "slow = {'torch', 'numpy', 'scipy', 'rich', 'deap', 'matplotlib', 'networkx'} & set(sys.modules); "
        "sys.exit(f'imported {slow}' if slow else code)"
    )
    done = python("-c", code)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"autoprox {__version__}\n")


def test_the_module_is_the_command() -> None:
    done = python("-m", "autoprox", "exprt")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: no command 'exprt'; did you mean 'export'?\nSee 'autoprox --help'.\n"


@pytest.mark.slow
def test_a_picture_is_the_same_in_another_process() -> None:
    done = python("-m", "autoprox", "export", "auto-prox", "--to", "svg", PYTHONHASHSEED="7")
    assert done.returncode == 0, done.stderr
    assert done.stdout == export(resolve("auto-prox"), "svg")


def test_a_reader_that_stops_reading_is_no_error() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "autoprox", "--help"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 1


# Errors


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--bogus"], "error: No such option '--bogus'.\nSee 'autoprox --help'.\n"),
        (
            ["nothing"],
            "error: no command 'nothing'; there are evolve, search, ",
        ),
        (["export"], "error: Missing argument 'PROXY'.\nSee 'autoprox export --help'.\n"),
        (["export", "snip"], "error: name the form with --to (text, latex, json, dot, svg, png, python), or a"),
        (["export", "snip", "--to", "onnx"], "error: Invalid value for '--to': 'onnx' is not one of"),
        (["export", "snpi", "--to", "text"], "did you mean 'snip'?\n"),
        (["export", "sum(l1(weigt))", "--to", "text"], "(column 8)\n  sum(l1(weigt))\n         ^^^^^\n"),
        (["export", "", "--to", "text"], "error: the formula is empty"),
        (["export", "/", "--to", "text"], "error: /: this directory holds no proxy.json"),
        (["export", "snip", "--to", "text", "--out", "/"], "error: --out / is a directory; name a file in it\n"),
        (["export", "snip", "--to", "text", "--out", "/dev/null/x"], "error: /dev/null"),
    ],
)
def test_an_error_of_the_users_is_a_message_and_exit_code_2(arguments: list[str], says: str, capfd) -> None:
    assert main(arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert says in err
    assert "Traceback" not in err


def test_without_arguments_there_is_help_and_exit_code_2(capfd) -> None:
    assert main([]) == 2
    assert "Commands:\n" in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (FileNotFoundError(2, "No such file or directory", "a.json"), "error: a.json: No such file or directory\n"),
        (PermissionError(13, "Permission denied", "b.json"), "error: b.json: Permission denied\n"),
        (OSError(28, "No space left on device"), "error: input or output: No space left on device\n"),
        (OSError("the connection is gone"), "error: the connection is gone\n"),
        (click.ClickException("no terminal"), "error: no terminal\n"),
        (click.BadParameter("too small", param_hint="--size"), "error: Invalid value for --size: too small\n"),
    ],
)
def test_errors_of_files_and_of_click(error: Exception, says: str, monkeypatch, capfd) -> None:
    command(monkeypatch, raising(error))
    assert main(["try"]) == 2
    assert capfd.readouterr().err.startswith(says)


def test_every_value_error_of_autoprox_is_the_users(monkeypatch, capfd) -> None:
    """Whatever module of ours defines it, and now or later."""
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts)
             for folder in ("autoprox", "primitives", "evolve", "bench_cache")
             for path in sorted((ROOT / folder).rglob("*.py")) if not path.stem.startswith("__")]  # fmt: skip
    found: set[type] = set()
    for name in names:
        module = importlib.import_module(name if name.startswith("autoprox.") else f"autoprox.{name}")
        found |= {v for v in vars(module).values() if isinstance(v, type) and v.__module__ == module.__name__}
    errors = [kind for kind in found if issubclass(kind, ValueError)]
    assert len(errors) > 8
    for kind in errors:
        command(monkeypatch, raising(kind("what is wrong")))
        assert main(["try"]) == 2
        assert capfd.readouterr().err == "error: what is wrong\n"


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), RuntimeError("x"), AssertionError(), TypeError()])
def test_a_defect_keeps_its_traceback(error: Exception, monkeypatch) -> None:
    command(monkeypatch, raising(error))
    with pytest.raises(type(error)):
        main(["try"])


def test_an_interruption_is_one_line_and_exit_code_130(monkeypatch, capfd) -> None:
    command(monkeypatch, raising(KeyboardInterrupt()))
    assert main(["try"]) == 130
    assert capfd.readouterr().err.strip() == "interrupted"


@pytest.mark.parametrize(("body", "code"), [(lambda: None, 0), (lambda: click.get_current_context().exit(5), 5)])
def test_exit_codes_of_commands(body: Callable[[], object], code: int, monkeypatch) -> None:
    command(monkeypatch, body)
    assert main(["try"]) == code


# The commands


def test_proxies_lists_the_zoo_in_full() -> None:
    shown = CliRunner().invoke(root, ["proxies"])
    assert shown.exit_code == 0
    printed = shown.output.splitlines()
    head, *lines = printed[next(number for number, line in enumerate(printed) if "source and note" in line) :]
    start, end = head.index("formula"), head.index("source and note")
    found: dict[str, str] = {}
    name = ""
    for line in filter(str.strip, lines):
        name = line[:start].strip() or name
        found[name] = found.get(name, "") + line[start:end]
    assert list(found) == list(ZOO)
    for name, formula in found.items():
        assert "".join(formula.split()) == "".join((ZOO[name].formula or ZOO[name].latex).split())


@pytest.mark.parametrize("form", FORMATS)
def test_export_prints_or_writes_the_same(form: str, tmp_path) -> None:
    written = export(resolve("dss"), form)
    expected = written.encode() if isinstance(written, str) else written
    for arguments in ([], ["--out", "-"]):
        shown = CliRunner().invoke(root, ["export", "dss", "--to", form, *arguments])
        assert (shown.exit_code, shown.stdout_bytes) == (0, expected)
    path = tmp_path / "new" / "file"
    shown = CliRunner().invoke(root, ["export", "dss", "--to", form, "--out", str(path)])
    assert (shown.exit_code, shown.output, path.read_bytes()) == (0, "", expected)
    assert os.listdir(path.parent) == ["file"]
    if form == "svg":
        ElementTree.parse(path)
    for ending in FORMATS[form].endings:  # and --to is guessed from it
        path = tmp_path / f"file{ending.upper()}"
        assert CliRunner().invoke(root, ["export", "dss", "--out", str(path)]).exit_code == 0
        assert path.read_bytes() == expected


def test_export_to_another_ending_says_how_to_name_the_form(capsys) -> None:
    assert main(["export", "dss", "--out", "dss.docx"]) == 2
    assert "a file with --out that ends in one of .txt, .tex," in capsys.readouterr().err


def test_export_takes_whatever_names_a_proxy(tmp_path) -> None:
    proxy = Proxy.from_formula("sum(fro(weight)) / depth", "found", {"seed": 5})
    proxy.save(tmp_path / "proxy.json")
    for ref in (str(tmp_path), str(tmp_path / "proxy.json"), "sum(fro(weight))/depth"):
        assert CliRunner().invoke(root, ["export", ref, "--to", "text"]).output == proxy.formula.text + "\n"
    shown = CliRunner().invoke(root, ["export", str(tmp_path), "--to", "json"])
    assert json.loads(shown.output)["provenance"] == {"seed": 5}
    negative = CliRunner().invoke(root, ["export", "--to", "text", "--", "-params"])
    assert negative.output == "neg(params)\n"


def test_export_goes_through_links_and_into_devices(tmp_path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    assert main(["export", "params", "--to", "text", "--out", str(link)]) == 0
    assert link.is_symlink()
    assert target.read_text() == "params\n"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert main(["export", "params", "--to", "text", "--out", str(pipe)]) == 0
        assert os.read(reader, 100) == b"params\n"
    finally:
        os.close(reader)


def test_a_failed_export_leaves_the_old_file(tmp_path) -> None:
    path = tmp_path / "proxy.py"
    path.write_text("old")
    assert main(["export", "snpi", "--to", "python", "--out", str(path)]) == 2
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["proxy.py"]
