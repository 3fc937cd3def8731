"""What is imported at the start: help needs nothing heavy, and an evolution only what it uses."""

import importlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from places import TESTS

from autoprox.bench_cache.runtime import fork_server
from autoprox.cli import ahead
from autoprox.cli.root import main

HEAVY = {"torch", "numpy", "scipy", "scipy.stats", "networkx", "deap", "rich", "matplotlib", "dask"}
HEAVY |= {"torch._dynamo", "sympy"}  # the compiler of torch, and what it needs
EVERY_COMMAND = """
import pkgutil
import autoprox.api.front
import autoprox.cli.commands as commands
for found in pkgutil.walk_packages(commands.__path__, commands.__name__ + "."):
    importlib.import_module(found.name)
"""
A_SCORE = f"""
sys.path.append({str(TESTS)!r})
import tiny_vit
autoprox.score(["snip", "flops"], tiny_vit.TinyVit(), image_size=8, device="cpu", progress=False)
"""


def imported(*scripts: str) -> Iterator[set[str]]:
    """The heavy packages that are imported after each script, one script after the other in one process."""
    tell = f"print(*({HEAVY!r} & sys.modules.keys()), file=sys.stderr)"
    told = "\n".join(["import importlib, sys", *(f"{script}\n{tell}" for script in scripts)])
    ran = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    return (set(line.split()) for line in ran.stderr.split("\n")[:-1])


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["bench", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    assert list(imported(f"from autoprox.cli.root import main\nmain({arguments!r})")) == [set()]


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


def test_an_evolution_imports_no_scipy_and_no_command_its_statistics() -> None:
    by_evolve, by_all, by_score = imported("import autoprox.cli.commands.evolve", EVERY_COMMAND, A_SCORE)
    assert {"torch", "deap"} <= by_evolve  # what is not imported later either
    assert not by_evolve & {"scipy", "networkx", "matplotlib", "dask"}
    assert "scipy" in by_all
    assert not by_all & {"scipy.stats", "matplotlib", "dask"}
    assert not by_score & {"torch._dynamo", "sympy"}  # 8 seconds and 90 MB, for counting FLOPs


@pytest.mark.parametrize(
    ("typed", "starts"),
    [
        ("evolve --generations 2", True),
        ("search PROXY --workers 2", True),
        ("evolve --workers 1", False),
        ("evolve --workers=1", False),
        ("rank --dask tcp://somewhere:1", False),
        ("rank --help", False),
        ("explain PROXY", False),
        ("", False),
    ],
)
def test_workers_that_a_command_will_have_start_ahead(
    typed: str, starts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(fork_server, "worker_context", started.append)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    ahead.start_ahead(typed.split())
    assert bool(started) is starts
    for module in [name for modules in started for name in modules]:
        importlib.import_module(module)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    ahead.start_ahead(typed.split())
    assert len(started) == starts
