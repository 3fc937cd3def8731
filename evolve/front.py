"""Front: of all formulas that an evolution has judged, the best of each size that no smaller one equals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Member:
    """A formula of the front: how many nodes its canonical form has, its joint fitness on evolve, its text."""

    size: int
    joint: float
    text: str


class Front:
    """A Pareto front of size against joint fitness: each member is fitter than all that are as small or smaller."""

    def __init__(self, members: Iterable[Member] = ()) -> None:
        self._members: list[Member] = []
        for member in members:
            self.add(member)

    def __iter__(self) -> Iterator[Member]:
        """Iterate over the members, the smallest first."""
        return iter(self._members)

    def __len__(self) -> int:
        """Return how many members there are."""
        return len(self._members)

    def add(self, new: Member) -> None:
        """Add a formula, unless one that is as small is as fit; drop those that are now beaten in both."""
        if any(old.size <= new.size and old.joint >= new.joint for old in self._members):
            return
        kept = [old for old in self._members if old.size < new.size or old.joint > new.joint]
        self._members = sorted([*kept, new], key=lambda member: member.size)
