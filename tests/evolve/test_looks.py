"""The count of looks at the test split, in a run's directory."""

from pathlib import Path

import pytest

from autoprox.bench_cache.runtime.journal import JournalError
from autoprox.evolve.looks import LOOKS, LooksJournal, add_look, count_looks, looks_so_far


def test_each_look_adds_one_line(tmp_path: Path) -> None:
    assert count_looks(tmp_path) == 0
    assert looks_so_far(tmp_path) == "Over the life of this run, test was looked at 0 times."
    assert add_look(tmp_path, "evolve", ["a"], "width").endswith("test was looked at 1 time (evolve 1).")
    add_look(tmp_path, "rank", ["a"], "width")
    said = add_look(tmp_path, "rank", ["a", "b"], "depth")
    assert (
        said == looks_so_far(tmp_path) == ("Over the life of this run, test was looked at 3 times (evolve 1, rank 2).")
    )
    assert count_looks(tmp_path) == 3
    assert LooksJournal.open(tmp_path / LOOKS).records[2] == {
        "look": 2, "command": "rank", "benchmarks": ["a", "b"], "formula": "depth",
    }  # fmt: skip


def test_a_look_that_was_torn_off_is_not_counted(tmp_path: Path) -> None:
    add_look(tmp_path, "evolve", ["a"], "width")
    with open(tmp_path / LOOKS, "ab") as file:
        file.write(b'{"look": 1, "comm')
    assert count_looks(tmp_path) == 1
    add_look(tmp_path, "rank", ["a"], "width")
    assert [record["command"] for record in LooksJournal.open(tmp_path / LOOKS).records] == ["evolve", "rank"]


def test_a_damaged_count_is_one_line(tmp_path: Path) -> None:
    add_look(tmp_path, "evolve", ["a"], "width")
    with open(tmp_path / LOOKS, "ab") as file:
        file.write(b"x\n")
    with pytest.raises(JournalError, match=r"looks\.jsonl: line 3 is damaged"):
        count_looks(tmp_path)
