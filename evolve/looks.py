"""Looks: how often the test split was looked at over the life of a run, counted in the run's directory.

Each look that somebody learns from spends a little of the test split. Whoever picks the best of several runs by its
test tau has chosen on that split.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from autoprox.bench_cache.runtime.journal import Journal, JournalError

LOOKS = "looks.jsonl"


class LooksJournal(Journal):
    """The looks at a run's formulas on test architectures, one line for each command that showed such numbers."""

    FORMAT: ClassVar[str] = "autoprox-looks"
    COUNTER: ClassVar[str] = "look"
    TITLE: ClassVar[str] = "a count of looks"


def add_look(run: Path, command: str, benchmarks: Sequence[str], formula: str) -> str:
    """Count a look at the test split, and return a sentence with the number of looks so far, this one included.

    `benchmarks` are the names of those whose test split was looked at.

    Raises:
        JournalError: the count is damaged, or another process is adding to it.
        OSError: the directory cannot be written.
    """
    path = run / LOOKS
    if not path.exists():
        with contextlib.suppress(JournalError):  # another process began the count at the same moment
            LooksJournal.create(path, {})
    with LooksJournal.held(path) as journal:
        number = len(journal.records)
        journal.append({"look": number, "command": command, "benchmarks": list(benchmarks), "formula": formula})
    return looks_so_far(run)


def looks_so_far(run: Path) -> str:
    """Return a sentence with the number of looks at the test split by the run's report and by other commands."""
    commands = Counter(_commands(run))
    parts = f" ({', '.join(f'{name} {count}' for name, count in commands.items())})" if commands else ""
    times = "1 time" if commands.total() == 1 else f"{commands.total()} times"
    return f"Over the life of this run, test was looked at {times}{parts}."


def count_looks(run: Path) -> int:
    """Return how often the test split was looked at over the life of the run in a directory."""
    return len(_commands(run))


def formulas_looked_at(run: Path) -> int:
    """Return how many different formulas of the run were judged on the test split."""
    return len({str(record.get("formula", "")) for record in _records(run)})


def _commands(run: Path) -> list[str]:
    return [str(record.get("command", "")) for record in _records(run)]


def _records(run: Path) -> list[dict[str, Any]]:
    return LooksJournal.open(run / LOOKS).records if (run / LOOKS).exists() else []
