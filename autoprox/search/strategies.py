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
from autoprox.search.pareto import OBJECTIVES, Placed, sorted_into_fronts
from autoprox.search.pruning import pruned_draws
from autoprox.search.region import Region

#: How many architectures `random` proposes at a time. The result does not depend on it, only how busy workers are.
DRAWN_TOGETHER = 64


@dataclass(frozen=True)
class SearchSettings:
    """What a search's result depends on, besides the space, its input, the batch and the proxy.

    `budget` is the number of distinct architectures to score. `population`, `tournament`, `children` and `crossover`
    belong to `regularised_evolution`; `nsga2` takes all of them but `tournament`, `pruning` takes `population`, and
    `random` none. `objectives` name what is wanted; with several, the result has a front (see `pareto`).

    Raises:
        SearchError: the strategy or an objective is unknown, or a value is out of its range.
    """

    strategy: str = "evolution"
    budget: int = 500
    seed: int = 0
    limits: Limits = field(default_factory=Limits)
    population: int = 50
    tournament: int = 10
    children: int = 8
    crossover: float = 0.25
    objectives: tuple[str, ...] = ("score",)

    @property
    def measures_latency(self) -> bool:
        """Whether the result depends on latencies."""
        return "latency" in self.objectives or self.limits.max_latency is not None

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
        object.__setattr__(self, "objectives", tuple(self.objectives))
        for name in self.objectives:
            if name not in OBJECTIVES:
                close = suggestion(name, OBJECTIVES)
                raise SearchError(f"objective '{name:.40}'{close}: it must be one of {listed(OBJECTIVES)}")
        if not self.objectives or len(set(self.objectives)) < len(self.objectives):
            raise SearchError(f"objectives are {', '.join(self.objectives) or 'none'}; name each of them once")


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


def nsga2(history: Sequence[Candidate], region: Region, settings: SearchSettings) -> list[Candidate]:
    """Return the next children of NSGA-II (Deb et al., 2002, doi 10.1109/4235.996017), for several objectives.

    ::

        history ← `population` random architectures
        repeat: population ← the best `population` of the history: front by front, of the last front the most spread
                children times: parent ← the better of two random ones of the population: by front, then by spread
                                child ← mutate(parent), or with odds `crossover` cross(parent, another such)
                score the children together;  history ← history + children

    The paper has as many children as parents. With fewer, a child's own children come sooner. The population is taken
    from the whole history, and not from the last population, so that nothing good is ever lost. An architecture of
    which an objective is not known has no children.
    """
    missing = settings.population - len(history)
    if missing > 0:
        return _new(region.draw, min(missing, DRAWN_TOGETHER))
    population = sorted_into_fronts(history, settings.objectives)[: settings.population]
    if not population:
        return _new(region.draw, settings.children)

    def parent() -> Any:
        pair = region.rng.sample(population, min(2, len(population)))
        return min(pair, key=_by_front).candidate.arch

    def child() -> Candidate | None:
        crossed = region.rng.random() < settings.crossover
        return (region.child(parent(), parent()) if crossed else region.mutant(parent())) or region.draw()

    return _new(child, settings.children)


def pruning(history: Sequence[Candidate], region: Region, settings: SearchSettings) -> list[Candidate]:
    """Return the next round of dynamic distribution pruning, of `population` architectures: see `pruned_draws`."""
    return pruned_draws(history, region, settings.population)


def _by_front(placed: Placed) -> tuple[int, float]:
    return placed.front, -placed.spread


#: The strategies by name.
STRATEGIES: Mapping[str, Strategy] = MappingProxyType(
    {
        "evolution": Strategy(regularised_evolution, "vary the best of the youngest; the oldest leave"),
        "nsga2": Strategy(nsga2, "vary those that no other one beats in all objectives"),
        "random": Strategy(random_draws, "draw at random"),
        "pruning": Strategy(pruning, "draw each gene from a distribution, and leave out weak options"),
    }
)
