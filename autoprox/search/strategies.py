"""Strategies: which architectures a search scores next, given those that it has scored.

To add a strategy, write a function of the history, the region and the settings, and add its record to STRATEGIES.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from types import MappingProxyType
from typing import Any

from autoprox.bench_cache.spaces.base import listed, suggestion
from autoprox.search.candidate import Candidate, SearchError
from autoprox.search.limits import Limits
from autoprox.search.region import Region

#: How many architectures `random` proposes at a time. The result does not depend on it, only how busy workers are.
DRAWN_TOGETHER = 64


@dataclass(frozen=True)
class SearchSettings:
    """What a search's result depends on, besides the space, its input, the batch and the proxy.

    `budget` is the number of distinct architectures to score. `population`, `tournament`, `children` and `crossover`
    belong to `regularised_evolution`; other strategies ignore them.

    Raises:
        SearchError: the strategy is unknown, or a value is out of its range.
    """

    strategy: str = "evolution"
    budget: int = 500
    seed: int = 0
    limits: Limits = field(default_factory=Limits)
    population: int = 50
    tournament: int = 10
    children: int = 8
    crossover: float = 0.25

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            close = suggestion(self.strategy, STRATEGIES)
            raise SearchError(f"strategy '{self.strategy:.40}'{close}: it must be one of {listed(STRATEGIES)}")
        lowest = {"budget": 1, "seed": 0, "population": 2, "tournament": 1, "children": 1}
        for name, least in lowest.items():
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise SearchError(f"{name} is {value!r}; it must be a whole number of at least {least}")
        if type(self.crossover) not in (int, float) or not 0 <= self.crossover <= 1:
            raise SearchError(f"crossover is {self.crossover!r}; it must be a chance from 0 to 1")


@dataclass(frozen=True)
class Strategy:
    """One way to choose the architectures to score next.

    `function` takes the history, the region and the settings, and returns the next architectures; none ends the search.
    `meaning` says in a few words what the strategy does, for `--help`.
    """

    function: Callable[[Sequence[Candidate], Region, SearchSettings], list[Candidate]]
    meaning: str


def random_draws(history: Sequence[Candidate], region: Region, settings: SearchSettings) -> list[Candidate]:
    """Return new architectures drawn at random."""
    return _new(region.draw, DRAWN_TOGETHER)


def _new(make: Callable[[], Candidate | None], count: int) -> list[Candidate]:
    """Return `count` new architectures, or fewer where `make` finds no more."""
    return list(islice(iter(make, None), count))


def regularised_evolution(history: Sequence[Candidate], region: Region, settings: SearchSettings) -> list[Candidate]:
    """Return the next children of aging evolution (Real et al., AAAI 2019, arXiv 1802.01548).

    ::

        history ← `population` random architectures
        repeat: population ← the last `population` of the history, so that the oldest leave, however good
                children times: parent ← the best of `tournament` random ones of the population
                                child ← mutate(parent), or with odds `crossover` cross(parent, another such)
                score the children together;  history ← history + children

    With `children` = 1 and no crossover, this is the paper's loop. With more children, all parents are chosen before
    any child is scored. So `children` workers are busy at once, and the result does not depend on which of them ends
    first. Every child is new. A parent without a new mutant within the limits is replaced by a random architecture.
    """
    missing = settings.population - len(history)
    if missing > 0:
        return _new(region.draw, min(missing, DRAWN_TOGETHER))
    population = history[-settings.population :]

    def parent() -> Any:
        entrants = region.rng.sample(population, min(settings.tournament, len(population)))
        return max(entrants, key=lambda candidate: candidate.fitness).arch

    def child() -> Candidate | None:
        crossed = region.rng.random() < settings.crossover
        return (region.child(parent(), parent()) if crossed else region.mutant(parent())) or region.draw()

    return _new(child, settings.children)


#: The strategies by name.
STRATEGIES: Mapping[str, Strategy] = MappingProxyType(
    {
        "evolution": Strategy(regularised_evolution, "vary the best of the youngest; the oldest leave"),
        "random": Strategy(random_draws, "draw at random"),
    }
)
