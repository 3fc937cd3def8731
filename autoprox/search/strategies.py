"""Search: the architectures of a space that a proxy scores highest, under limits on parameters and FLOPs.

To add a strategy, write a function of the history and the region, and list it in STRATEGIES.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from random import Random
from types import MappingProxyType
from typing import Any

from autoprox.bench_cache.spaces.base import listed, suggestion
from autoprox.bench_cache.spaces.registry import InputSpec, Space, get_space
from autoprox.search.rating import Batch, Candidate, Rater, Rating, Scoring, SearchError, candidate, scoring

__all__ = [
    "STRATEGIES",
    "Batch",
    "Candidate",
    "Known",
    "Limits",
    "Progress",
    "SearchError",
    "SearchResult",
    "SearchSettings",
    "search",
]

#: Random architectures drawn in a row without one within the limits, before drawing is given up for walking.
DRAWS = 2000
#: Walks from a random architecture towards the limits, and the mutations of each, before all is given up.
WALKS, STEPS = 20, 500
#: Mutations in a row for a child that is within the limits and new, and how many of these may be outside.
ATTEMPTS, OUTSIDE = 100, 3
#: How many architectures `random` draws at a time; only how well many workers are used depends on it.
DRAWN_TOGETHER = 64


@dataclass(frozen=True)
class Limits:
    """Bounds on an architecture's parameters and on the multiply-adds of one forward pass; None where unbounded.

    Raises SearchError for a bound that is no positive number, and for a lower bound above the upper one.
    """

    min_params: float | None = None
    max_params: float | None = None
    min_flops: float | None = None
    max_flops: float | None = None

    def __post_init__(self) -> None:
        for fact, low, high in self.bounds():
            for side, bound in (("min", low), ("max", high)):
                number = isinstance(bound, int | float) and not isinstance(bound, bool) and math.isfinite(bound)
                if bound is not None and not (number and bound > 0):
                    raise SearchError(f"{side}_{fact} is {bound!r}; it must be a positive number")
            if low is not None and high is not None and low > high:
                raise SearchError(f"min_{fact} {low:,.0f} is above max_{fact} {high:,.0f}; no architecture is both")

    def bounds(self) -> tuple[tuple[str, float | None, float | None], ...]:
        """(fact, lower bound, upper bound) of parameters and FLOPs."""
        return ("params", self.min_params, self.max_params), ("flops", self.min_flops, self.max_flops)

    def violation(self, entry: Candidate) -> float:
        """By how much an architecture is outside, relative to the bounds, summed; 0 inside.

        An architecture whose size is unknown (NaN) is outside of any bound on it.
        """
        excess = 0.0
        for fact, low, high in self.bounds():
            value = getattr(entry, fact)
            if (low or high) and math.isnan(value):
                return math.inf
            excess += max(0.0, value / high - 1) if high else 0.0
            excess += max(0.0, 1 - value / low) if low else 0.0
        return excess

    def check(self, name: str, smallest: Mapping[str, float]) -> None:
        """Raise SearchError, naming the smallest possible value, if an upper bound leaves nothing of `name`."""
        for fact, _, high in self.bounds():
            if high is not None and smallest[fact] > high:
                raise SearchError(
                    f"no architecture of {name} has at most {high:,.0f} {WORDS[fact]}: "
                    f"the smallest has {smallest[fact]:,.0f}; raise max_{fact} to that or more"
                )

    def __str__(self) -> str:
        """`params ≤ 6,000,000, FLOPs 1,000 to 2,000`, or `no limits`."""
        shown = []
        for fact, low, high in self.bounds():
            if low is not None and high is not None:
                shown.append(f"{low:,.0f} ≤ {WORDS[fact]} ≤ {high:,.0f}")
            elif low is not None or high is not None:
                sign, bound = ("≤", high) if low is None else ("≥", low)
                shown.append(f"{WORDS[fact]} {sign} {bound:,.0f}")
        return ", ".join(shown) or "no limits"


WORDS = MappingProxyType({"params": "parameters", "flops": "FLOPs"})


@dataclass(frozen=True)
class SearchSettings:
    """What a search's result depends on, beside the space, its input, the batch and the score.

    `budget`: distinct architectures that are scored. `population`, `tournament`, `children` and `crossover` are those
    of `regularised_evolution`; other strategies take no notice of them.

    Raises SearchError for a value that cannot be.
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
class Known:
    """What an earlier search found of an architecture: see `Candidate`."""

    key: str
    score: float | None
    problem: str = ""


@dataclass(frozen=True)
class Progress:
    """How far a search is: architectures scored, its budget, and the best so far (None if none has a score)."""

    done: int
    budget: int
    best: Candidate | None


@dataclass(frozen=True)
class SearchResult:
    """What a search scored, in that order. `finished` is False if it was interrupted; `exhausted` says that it ended
    before its budget because no further architecture within the limits was found."""

    candidates: tuple[Candidate, ...]
    finished: bool = True
    exhausted: bool = False

    @property
    def ranked(self) -> tuple[Candidate, ...]:
        """Best first, at equal scores the one scored first; those without a score last."""
        return tuple(sorted(self.candidates, key=lambda entry: -value(entry)))


def value(entry: Candidate) -> float:
    """The score, or −∞ where there is none."""
    return -math.inf if entry.score is None else entry.score


class Region:
    """The architectures of a space within limits: draws and varies them, each at most once.

    Architectures are drawn from the space until one is within the limits. Once DRAWS in a row were not, a random
    architecture is walked towards the limits instead, by mutations that do not lead further away: uniform draws no
    longer, but of limits so tight that hardly any architecture is within.
    """

    def __init__(self, space: Space, spec: InputSpec, limits: Limits, rng: Random) -> None:
        smallest = {"params": space.min_params(spec), "flops": space.min_flops(spec)}
        limits.check(f"{space.name} ({describe_spec(spec)})", smallest)
        self.space, self.spec, self.limits, self.rng = space, spec, limits, rng
        self.seen: set[str] = set()
        self._walking = False
        self._closest: tuple[float, Candidate] | None = None

    def draw(self) -> Candidate | None:
        """A new architecture within the limits; None if a long row of draws gave only known ones, or nothing more.

        Among uniform draws the row is so long that it overlooks a last architecture once in 10⁸ times; walks, which
        take a thousand times as long, come in shorter rows. Raises SearchError if nothing is within the limits.
        """
        for _ in range((20 if self._walking else 200) + (2 if self._walking else 20) * len(self.seen)):
            found = self._drawn() if not self._walking else self._walked()
            if found is None:
                return None
            if found.key not in self.seen:
                return self._noted(found)
        return None

    def mutant(self, parent: Any) -> Candidate | None:
        """A new architecture within the limits, as few mutations from `parent` as were needed; None if none is found.

        A mutant that is within the limits but known is mutated again, and one that is outside too, a few times: two
        genes that make up for each other are a step within tight limits.
        """
        arch, outside = parent, 0
        for _ in range(ATTEMPTS):
            arch = self.space.mutate(arch, self.rng)
            found = candidate(self.space, arch, self.spec)
            if self.limits.violation(found):
                outside += 1
            elif found.key not in self.seen:
                return self._noted(found)
            else:
                outside = 0
            if outside > OUTSIDE:
                arch, outside = parent, 0
        return None

    def child(self, a: Any, b: Any) -> Candidate | None:
        """The cross of two parents; where that is known or outside the limits, a mutant of it."""
        crossed = self.space.crossover(a, b, self.rng)
        found = candidate(self.space, crossed, self.spec)
        if found.key in self.seen or self.limits.violation(found):
            return self.mutant(crossed)
        return self._noted(found)

    def _noted(self, found: Candidate) -> Candidate:
        self.seen.add(found.key)
        return found

    def _drawn(self) -> Candidate | None:
        for _ in range(DRAWS):
            found = candidate(self.space, self.space.sample(self.rng), self.spec)
            if not self._away(found):
                return found
        self._walking = True
        return self._walked()

    def _walked(self) -> Candidate | None:
        for _ in range(WALKS):
            here = candidate(self.space, self.space.sample(self.rng), self.spec)
            away = self._away(here)
            for _ in range(STEPS):
                if not away:
                    return here
                there = candidate(self.space, self.space.mutate(here.arch, self.rng), self.spec)
                if (distance := self._away(there)) <= away:
                    here, away = there, distance
        if self.seen:
            return None
        assert self._closest is not None
        closest = self._closest[1]
        raise SearchError(
            f"found no architecture of {self.space.name} with {self.limits}, in {DRAWS:,} random draws and {WALKS} "
            f"walks of {STEPS} mutations towards the limits; the closest has {closest.params:,.0f} parameters and "
            f"{closest.flops:,.0f} FLOPs: widen the limits"
        )

    def _away(self, entry: Candidate) -> float:
        away = self.limits.violation(entry)
        if self._closest is None or away < self._closest[0]:
            self._closest = away, entry
        return away


def describe_spec(spec: InputSpec) -> str:
    """`224 px, 3 channels, 1,000 classes`."""
    return f"{spec.image_size} px, {spec.in_channels} channels, {spec.num_classes:,} classes"


Strategy = Callable[[Sequence[Candidate], Region, SearchSettings], list[Candidate]]


def random_draws(history: Sequence[Candidate], region: Region, settings: SearchSettings) -> list[Candidate]:
    """New architectures drawn at random."""
    return _new(region.draw, DRAWN_TOGETHER)


def _new(make: Callable[[], Candidate | None], count: int) -> list[Candidate]:
    """As many new architectures as asked for, or fewer where there are no more."""
    return list(islice(iter(make, None), count))


def regularised_evolution(history: Sequence[Candidate], region: Region, settings: SearchSettings) -> list[Candidate]:
    """Aging evolution (Real et al., AAAI 2019, arXiv 1802.01548), some children at a time.

    ::

        history ← `population` random architectures
        repeat: population ← the last `population` of the history, so that the oldest leave, however good
                children times: parent ← the best of `tournament` random ones of the population
                                child ← mutate(parent), or with odds `crossover` cross(parent, another such)
                score the children together;  history ← history + children

    `children` = 1 without crossover is the paper's loop. With more, all are chosen from the population as it was
    before the first of them: so many workers are busy, and the result does not depend on which is ready first. Every
    child is new; where a parent has no new mutant within the limits, a random architecture takes its place.
    """
    missing = settings.population - len(history)
    if missing > 0:
        return _new(region.draw, min(missing, DRAWN_TOGETHER))
    population = history[-settings.population :]

    def parent() -> Any:
        return max(region.rng.sample(population, min(settings.tournament, len(population))), key=value).arch

    def child() -> Candidate | None:
        crossed = region.rng.random() < settings.crossover
        return (region.child(parent(), parent()) if crossed else region.mutant(parent())) or region.draw()

    return _new(child, settings.children)


#: name → strategy: proposes the next architectures, knowing those scored so far; none ends the search.
STRATEGIES: Mapping[str, Strategy] = MappingProxyType({"evolution": regularised_evolution, "random": random_draws})


def search(
    space: Space | str,
    score: Scoring,
    settings: SearchSettings | None = None,
    *,
    spec: InputSpec | None = None,
    batch: Batch | None = None,
    workers: int = 1,
    known: Sequence[Known] = (),
    on_scored: Callable[[Candidate], None] = lambda entry: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> SearchResult:
    """The architectures of a space that score highest, among the `settings.budget` that the strategy looks at.

    `score` is a proxy, what `resolve` finds one by, or any function of an untrained network (in training mode) that
    gives a number; higher is better. Networks are built for `spec` with weights that follow from the architecture
    alone, and run on `batch`. With several `workers` a function must be importable by name. The result is the same
    for any number of them.

    `known` is what an earlier search with the same arguments scored, in its order: it is taken as it is, and a larger
    budget goes on from there. `on_scored` is told every newly scored candidate, `on_progress` how far the search is.
    Interrupted (KeyboardInterrupt), it returns what it has, if anything.

    Raises SearchError for limits that leave nothing, a formula that reads images where there are none, a history that
    is not this search's, and if no architecture can be scored; ArchitectureError for an unknown space.
    """
    space = get_space(space) if isinstance(space, str) else space
    settings, spec, batch = settings or SearchSettings(), spec or InputSpec(), batch or Batch()
    region = _region(space, spec, settings)
    strategy = STRATEGIES[settings.strategy]
    with Rater(scoring(score, batch), space, spec, batch, workers) as rate:
        return explore(
            lambda history: strategy(history, region, settings), rate, settings.budget, known, on_scored, on_progress
        )


def check_space(space: Space, score: Scoring, settings: SearchSettings, spec: InputSpec, batch: Batch) -> None:
    """Raise what `search` would with these arguments before it scores anything."""
    scoring(score, batch)
    batch.check(spec)
    _region(space, spec, settings).draw()


def _region(space: Space, spec: InputSpec, settings: SearchSettings) -> Region:
    return Region(space, spec, settings.limits, Random(f"search/{settings.seed}"))


def explore(
    propose: Callable[[Sequence[Candidate]], list[Candidate]],
    rate: Rating,
    budget: int,
    known: Sequence[Known],
    on_scored: Callable[[Candidate], None],
    on_progress: Callable[[Progress], None],
) -> SearchResult:
    """Score what is proposed until the budget is used or nothing more is; see `search`."""
    history: list[Candidate] = []
    best: Candidate | None = None
    try:
        while len(history) < budget:
            proposals = propose(history)[: budget - len(history)]
            if not proposals:
                return SearchResult(tuple(history), exhausted=True)
            before = _recalled(proposals, known[len(history) :], len(history))
            for number, entry in enumerate((*before, *rate(proposals[len(before) :]))):
                if number >= len(before):
                    on_scored(entry)
                history.append(entry)
                best = entry if best is None or value(entry) > value(best) else best
                on_progress(Progress(len(history), budget, best if best.score is not None else None))
            if best is None or best.score is None:
                raise SearchError(f"none of the first {len(history)} architectures has a score: {history[0].problem}")
    except KeyboardInterrupt:
        if not history:
            raise
        return SearchResult(tuple(history), finished=False)
    return SearchResult(tuple(history))


def _recalled(proposals: Sequence[Candidate], known: Sequence[Known], before: int) -> list[Candidate]:
    """The proposals that have been scored already, with their scores."""
    pairs = list(zip(proposals, known, strict=False))  # as many as the shorter has
    for number, (proposal, stored) in enumerate(pairs, before + 1):
        if proposal.key != stored.key:
            raise SearchError(
                f"architecture {number} of the stored history is not what this search would score; "
                "was it written with other settings or by another version of autoprox? Start a new search"
            )
    return [replace(proposal, score=stored.score, problem=stored.problem) for proposal, stored in pairs]
