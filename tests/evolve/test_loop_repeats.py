"""One seed, one result: run at once, gone on with, interrupted, in another process."""

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from evolve_loop import Dice, both_grammars, every_way, records, run, settings
from places import TESTS

from autoprox.evolve import (
    GRAMMARS,
    STRATEGIES,
    Individual,
)
from autoprox.evolve.strategies import Strategy, elitist

# --- one seed, one result ---


@every_way
@both_grammars
def test_the_same_seed_gives_the_same_journal(tmp_path: Path, strategy: str, written: str) -> None:
    journals = []
    for number, seed in enumerate((5, 5, 6)):
        random.seed(number)
        before = random.getstate()
        run(tmp_path / str(number), settings(strategy=strategy, grammar=written, seed=seed))
        assert random.getstate() == before  # the global generator is as it was
        journals.append((tmp_path / str(number)).read_bytes())
    assert journals[0] == journals[1]
    assert journals[0] != journals[2]


@every_way
@both_grammars
@pytest.mark.parametrize("at", [1, 6, 11])
def test_a_run_gone_on_with_is_the_run_in_one_go(tmp_path: Path, strategy: str, written: str, at: int) -> None:
    chosen = settings(strategy=strategy, grammar=written)
    run(tmp_path / "one", chosen)
    run(tmp_path / "two", chosen, until=at)
    assert len(records(tmp_path / "two")) == at + 1
    run(tmp_path / "two", chosen)
    assert (tmp_path / "two").read_bytes() == (tmp_path / "one").read_bytes()


@every_way
@pytest.mark.parametrize("call", [0, 3, 20])
def test_a_run_interrupted_anywhere_goes_on_to_the_same_result(tmp_path: Path, strategy: str, call: int) -> None:
    class Interrupted(Dice):
        left = call

        def judge(self, *args: Any, **others: Any) -> list[Any]:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return super().judge(*args, **others)

    chosen = settings(strategy=strategy)
    run(tmp_path / "one", chosen)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "two", chosen, judge=Interrupted())
    run(tmp_path / "two", chosen)
    assert (tmp_path / "two").read_bytes() == (tmp_path / "one").read_bytes()


def test_every_generation_has_draws_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def watched(*args: Any) -> list[Individual]:
        states.append(args[-1].getstate())
        return elitist(*args)

    states: list[object] = []
    monkeypatch.setitem(STRATEGIES, "elitist", Strategy(watched, ""))
    for seed in (0, 1, 11):
        run(tmp_path / str(seed), settings(seed=seed))
    assert len(set(states)) == len(states) == 36


def test_a_finished_run_is_left_alone(tmp_path: Path) -> None:
    chosen, dice = settings(), Dice()
    run(tmp_path / "journal", chosen)
    before = (tmp_path / "journal").read_bytes()
    run(tmp_path / "journal", chosen, judge=dice)
    assert not dice.calls
    assert (tmp_path / "journal").read_bytes() == before


_ALONE = """
import importlib, os, sys
from pathlib import Path
sys.path[:0] = sys.argv[1].split(os.pathsep)
for name in sys.argv[3:]:
    importlib.import_module(name)
import evolve_loop
for strategy in evolve_loop.STRATEGIES:
    for written in evolve_loop.GRAMMARS:
        chosen = evolve_loop.settings(strategy=strategy, grammar=written, generations=10)
        evolve_loop.run(Path(sys.argv[2]) / f"{strategy} {written}", chosen)
"""


def test_neither_hashes_nor_imports_change_the_result(tmp_path: Path) -> None:
    started, folders = [], os.pathsep.join((str(TESTS), str(Path(__file__).parent)))
    for number, modules in enumerate(([], ["email.mime.text", "xml.dom.minidom", "sqlite3", "scipy.optimize"])):
        (tmp_path / str(number)).mkdir()
        command = [sys.executable, "-c", _ALONE, folders, str(tmp_path / str(number)), *modules]
        hashes = {**os.environ, "PYTHONHASHSEED": str(number + 1)}
        started.append(subprocess.Popen(command, env=hashes, stderr=subprocess.PIPE, text=True))
    for process in started:
        assert process.communicate(timeout=120)[1] == ""
        assert process.returncode == 0
    for journal in sorted((tmp_path / "0").iterdir()):
        assert journal.read_bytes() == (tmp_path / "1" / journal.name).read_bytes()
    assert len(list((tmp_path / "1").iterdir())) == len(STRATEGIES) * len(GRAMMARS)
