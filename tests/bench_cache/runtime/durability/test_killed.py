"""Killed at any moment, a run loses nothing that was finished, and ends as if it had not been killed."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
from durable import Started, Whole, assert_same, choices, evolve, lines

from autoprox.evolution import JOURNAL
from autoprox.evolve import Journal


def kept(home: Path) -> int:
    """How many files of statistics there are."""
    return len(list((home / "statistics").glob("*/*/[!.]*")))


@dataclass(frozen=True)
class Pace:
    """What a run in one go left, and how long it took for each generation."""

    out: Path
    statistics: int
    lines: int
    generation: float


def wait_for(process: Started, condition: Callable[[], bool]) -> float:
    """Wait until it holds; the time then. The process must not end before."""
    deadline = time.monotonic() + 180
    while not condition():
        assert process.poll() is None, process.end()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return time.monotonic()


class Victim:
    """A run that is killed again and again, and goes on each time."""

    def __init__(self, bench: Path, folder: Path, *options: str) -> None:
        self.bench, self.options = bench, options
        self.pauses = [0.01, 0.1, 3.0]  # what starts the workers takes about 3 seconds
        self.out, self.home = folder / "run", folder / "home"
        self.killed: list[Started] = []

    def go_on(self, generations: int) -> Started:
        """The same command again while there is no run, and then --resume."""
        arguments = ["--resume"] if lines(self.out) else choices(self.bench, generations)
        return Started([*arguments, *self.options, "--out", str(self.out)], self.home)

    def pace(self, generations: int) -> Pace:
        """Let it run to its end, and see how long it takes."""
        process = self.go_on(generations)
        built = wait_for(process, lambda: lines(self.out) > 1)
        last = wait_for(process, lambda: lines(self.out) > generations + 1)
        assert process.end() == (0, "")
        return Pace(self.out, kept(self.home), lines(self.out), (last - built) / generations)

    def phase(self, pace: Pace) -> str:
        """What the run is at, from what it has left."""
        if not lines(self.out):
            return "start"
        if lines(self.out) == 1 and kept(self.home) < pace.statistics:
            return "building"
        return "evolution" if lines(self.out) < pace.lines else "report"

    def kill(self, pace: Pace, rng: Random, group: bool, building: bool) -> str:
        """Go on, and kill at a random moment of what comes next, or in evolution; the phase that this hit."""
        process = self.go_on(pace.lines - 2)
        if building and self.phase(pace) in ("start", "building"):
            more = kept(self.home) + rng.randint(1, max(1, (pace.statistics - kept(self.home)) // 3))
            wait_for(process, lambda: kept(self.home) >= more)
            time.sleep(rng.choice(self.pauses) * rng.random())
        else:
            more = max(lines(self.out), 1) + rng.randint(1, 2)
            wait_for(process, lambda: lines(self.out) >= min(more, pace.lines))
            time.sleep(rng.random() * pace.generation)
        return self._kill(process, pace, group)

    def _kill(self, process: Started, pace: Pace, group: bool) -> str:
        assert process.poll() is None, process.end()
        if group:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            os.kill(process.pid, signal.SIGKILL)
        while process.poll() is None:
            time.sleep(0.002)
        self.killed.append(process)  # its workers may still be at work when the run goes on
        return self.phase(pace)

    def finish(self, pace: Pace) -> None:
        """Go on to the end, and compare; nothing of the killed processes is left."""
        assert self.go_on(pace.lines - 2).end() == (0, "")
        assert_same(self.out, pace.out)
        assert [process.end()[0] for process in self.killed] == [-signal.SIGKILL] * len(self.killed)


def kills(
    paces: Mapping[Path, Pace], folder: Path, number: int, each: int, rng: Random, *options: str
) -> Counter[tuple[str, bool]]:
    """Kill runs `number` times, `each` run as often or until it is at its report, and compare what comes of each.

    The first half of a run's kills is meant for the time when its statistics are built, the rest for evolution. The
    kills are counted by the phase that they hit, and by whether the whole group was killed, as it is every second time.
    """
    found: Counter[tuple[str, bool]] = Counter()
    for run in range(number):
        bench = list(paces)[run % len(paces)]
        victim, pace = Victim(bench, folder / str(run), *options), paces[bench]
        for kill in range(min(each, number - sum(found.values()))):
            if victim.phase(pace) != "report":
                group = sum(found.values()) % 2 == 0
                found[victim.kill(pace, rng, group, building=kill < each // 2), group] += 1
        victim.finish(pace)
        if sum(found.values()) == number:
            break
    return found


def of_phase(found: Counter[tuple[str, bool]], phase: str) -> int:
    """How many kills hit a phase."""
    return found[phase, True] + found[phase, False]


@pytest.mark.slow
def test_killed_at_fifty_random_moments(benches: Path, tmp_path: Path) -> None:
    """On two workers, which are to notice themselves that only the process was killed that gives them work."""
    options = ("--workers", "2")
    paces = {
        benches / f"{name}.json": Victim(benches / f"{name}.json", tmp_path / name, *options).pace(generations)
        for name, generations in (("small", 40), ("mini", 200))
    }
    found = kills(paces, tmp_path, 50, 10, Random(1), *options)
    print(found)
    assert sum(found.values()) == 50, found
    for phase in ("building", "evolution"):
        assert of_phase(found, phase) >= 10, found
        assert min(found[phase, True], found[phase, False]) >= 3, found


def test_killed_while_the_journal_is_begun(tmp_path: Path, whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed at any call of the system leaves no run or a whole one, never half a first line."""

    class Killed(BaseException):
        pass

    monkeypatch.setenv("AUTOPROX_HOME", str(whole.home))
    for name in ("fsync", "link", "unlink"):

        def die(*arguments: Any, **options: Any) -> None:
            raise Killed

        out = tmp_path / name
        with monkeypatch.context() as patched:
            patched.setattr(os, name, die)
            with pytest.raises(Killed):
                Journal.create(out / JOURNAL, {})
        assert (out / JOURNAL).exists() == (name == "unlink")
        if name != "unlink":
            assert evolve(*choices(whole.bench, 0), "--out", out) == 0
