"""Pareto: objectives of a search, and the candidates that no other one beats in all of them.

To add an objective, add its record to OBJECTIVES.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from deap import base
from deap.tools.emo import assignCrowdingDist, sortLogNondominated, sortNondominated

from autoprox.search.candidate import Candidate


@dataclass(frozen=True)
class Objective:
    """One thing that a search wants much or little of.

    `value` is that of a candidate, None where it is not known. `meaning` says for `--help` what is wanted.
    """

    value: Callable[[Candidate], float | None]
    meaning: str
    larger_is_better: bool = False


#: The objectives by name.
OBJECTIVES: Mapping[str, Objective] = MappingProxyType(
    {
        "score": Objective(lambda found: found.score, "that of the proxy, large", larger_is_better=True),
        "params": Objective(lambda found: found.params, "parameters, few"),
        "flops": Objective(lambda found: found.flops, "multiply-adds of one image, few"),
        "activations": Objective(lambda found: found.activations, "outputs of convolutions and linears, few"),
        "latency": Objective(lambda found: found.latency, "of a forward pass on this machine, low"),
    }
)


def worth(candidate: Candidate, objectives: Sequence[str]) -> tuple[float, ...] | None:
    """Return a candidate's objectives, each with the sign that makes larger better; None if one is not known."""
    found = []
    for name in objectives:
        value = OBJECTIVES[name].value(candidate)
        if value is None or math.isnan(value):
            return None
        found.append(value if OBJECTIVES[name].larger_is_better else -value)
    return tuple(found)


@dataclass(frozen=True)
class Placed:
    """A candidate with the number of its front, 0 for the best, and how far its neighbours on that front are.

    `spread` is the crowding distance of NSGA-II: of each objective, the distance between both neighbours relative to
    the whole range, summed. It is infinite at the ends of a front.
    """

    candidate: Candidate
    front: int
    spread: float


class _Entry:
    """What DEAP sorts: a candidate with its fitness."""

    def __init__(self, candidate: Candidate, fitness: Any) -> None:
        self.candidate, self.fitness = candidate, fitness


def sorted_into_fronts(candidates: Sequence[Candidate], objectives: Sequence[str]) -> list[Placed]:
    """Return the candidates front by front, and on each front those with the largest spread first.

    The first front has those that no other candidate beats: none is at least as good in every objective and better in
    one. The next front has those that only the first one beats, and so on. Candidates of which an objective is not
    known are left out. The order of equal ones is that of `candidates`.
    """
    fitness = type("Fitness", (base.Fitness,), {"weights": (1.0,) * len(objectives)})
    entries = [
        _Entry(candidate, fitness(values))
        for candidate in candidates
        if (values := worth(candidate, objectives)) is not None
    ]
    if not entries:
        return []
    order = {id(entry): number for number, entry in enumerate(entries)}
    sort = sortLogNondominated if len(objectives) > 1 else sortNondominated
    found = []
    for number, front in enumerate(sort(entries, len(entries))):
        assignCrowdingDist(front)
        front.sort(key=lambda entry: (-entry.fitness.crowding_dist, order[id(entry)]))
        found += [Placed(entry.candidate, number, entry.fitness.crowding_dist) for entry in front]
    return found


def pareto_front(candidates: Sequence[Candidate], objectives: Sequence[str]) -> tuple[Candidate, ...]:
    """Return the candidates that no other one beats, the best in the first objective first.

    Equal ones in the first objective stand in the order of the second, and so on.
    """
    front = [placed.candidate for placed in sorted_into_fronts(candidates, objectives) if placed.front == 0]
    order = {candidate.key: number for number, candidate in enumerate(candidates)}
    return tuple(
        sorted(front, key=lambda found: (*(-value for value in worth(found, objectives) or ()), order[found.key]))
    )
