"""Damaged statistics are built again, in the middle of a run and between two."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from durable import (
    BENCHMARKS,
    GENERATIONS,
    TASKS,
    Started,
    Whole,
    Wholes,
    assert_same,
    choices,
    fresh_process,
    one_line,
)

from autoprox.cli.root import FAILED
from autoprox.evolution import EvolutionWatcher, run_evolution, start_evolution


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[-1 - len(data) // 3] ^= 4
    path.write_bytes(data)


def _replaced_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "file").write_text("in the way")


DAMAGES: list[Callable[[Path], Any]] = [
    lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    _flipped,
    lambda path: path.write_bytes(b""),
    _replaced_by_a_folder,
    lambda path: path.unlink(),
]


def damage_all(home: Path, turn: int) -> int:
    """Damage every file of the statistics, each in another way than last time; how many there were."""
    files = sorted(path for path in (home / "statistics").glob("*/*/*") if path.is_file())
    for number, path in enumerate(files):
        DAMAGES[(number + turn) % len(DAMAGES)](path)
    return len(files)


@pytest.mark.parametrize("name", ["small", "mini"])
@pytest.mark.slow
def test_statistics_damaged_in_the_middle_of_a_run_and_between_two(tmp_path: Path, wholes: Wholes, name: str) -> None:
    """Of networks that are scored one by one, and of shards: what these hold is sound, what they read later is not."""
    out, home = tmp_path / "run", tmp_path / "home"
    shutil.copytree(wholes[name].home, home)
    damaged = []

    def generation(record: Mapping[str, Any]) -> None:
        damaged.append(damage_all(home, len(damaged)))
        if record["generation"] == 3 and len(damaged) == 4:
            raise KeyboardInterrupt

    fresh_process()
    start_evolution([BENCHMARKS[name]], [TASKS[name]], out, generations=GENERATIONS, population=5, seed=2)
    assert not run_evolution(out, watch=EvolutionWatcher(generation=generation)).finished
    fresh_process()
    assert run_evolution(out).finished
    assert len(damaged) == 4
    assert min(damaged) > 20
    assert_same(out, wholes[name].out)


@pytest.mark.slow
def test_statistics_that_workers_cannot_replace_are_told_in_one_line(tmp_path: Path, whole: Whole) -> None:
    """A file where a network's folder belongs: the worker's error arrives, without its traceback."""
    out, home = tmp_path / "run", tmp_path / "home"
    [version] = (whole.home / "statistics").iterdir()
    for folder in version.iterdir():
        (home / "statistics" / version.name).mkdir(parents=True, exist_ok=True)
        (home / "statistics" / version.name / folder.name).write_text("in the way")
    first, *_ = (home / "statistics" / version.name).iterdir()
    first.unlink()
    code, error = Started([*choices(whole.bench), "--workers", "2", "--out", str(out)], home).end()
    assert code == FAILED
    assert one_line(error).startswith(f"{home / 'statistics' / version.name}/")
    shutil.rmtree(home)
    assert Started(["--resume", "--workers", "2", "--out", str(out)], home).end() == (0, "")
    assert_same(out, whole.out)
