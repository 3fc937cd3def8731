"""Region: the architectures of a space within limits, from which a strategy draws, mutates and crosses."""

from __future__ import annotations

from random import Random
from typing import Any

from autoprox.bench_cache.spaces.registry import InputSpec, Space
from autoprox.search.candidate import Candidate, SearchError, unscored
from autoprox.search.limits import Limits

#: After so many draws in a row outside the limits, the region walks towards them instead.
DRAWS = 2000
#: How many walks are tried before the region gives up, and how many mutations each walk may take.
WALKS, STEPS = 20, 500
#: How many mutations in a row are tried for a new child within the limits, and how many of them may be outside.
ATTEMPTS, OUTSIDE = 100, 3


class Region:
    """The architectures of a space within limits; each is given out at most once.

    A random architecture is drawn uniformly from the space, again and again until one is within the limits. Tight
    limits make this hopeless: after DRAWS failures in a row the region takes a random architecture and mutates it
    towards the limits, step by step, and never further away. Such architectures are no longer uniform draws.

    Raises:
        SearchError: an upper bound is below the smallest architecture of the space.
    """

    def __init__(self, space: Space, spec: InputSpec, limits: Limits, rng: Random) -> None:
        smallest = {
            "params": space.min_params(spec),
            "flops": space.min_flops(spec),
            "activations": space.min_activations(spec),
        }
        limits.check(f"{space.name} ({describe_spec(spec)})", smallest)
        self.space, self.spec, self.limits, self.rng = space, spec, limits, rng
        self.seen: set[str] = set()
        self._walking = False
        self._closest: tuple[float, Candidate] | None = None

    def draw(self) -> Candidate | None:
        """Return a new random architecture within the limits, or None if no further one is found.

        With uniform draws, the number of tries is so large that a last remaining architecture is missed once in 10⁸
        cases. A walk takes a thousand times as long as a draw, so fewer walks are tried.

        Raises:
            SearchError: no architecture within the limits has been found at all.
        """
        for _ in range((20 if self._walking else 200) + (2 if self._walking else 20) * len(self.seen)):
            found = self._drawn() if not self._walking else self._walked()
            if found is None:
                return None
            if found.key not in self.seen:
                return self._noted(found)
        return None

    def mutant(self, parent: Any) -> Candidate | None:
        """Return a new architecture within the limits, mutated from `parent`, or None if none is found.

        It takes as few mutations as possible. A mutant that is within the limits but not new is mutated again. So is
        one outside the limits, up to OUTSIDE times, because two mutations can balance each other's size: within tight
        limits, this is the only way from one architecture to another. After that it starts again from the parent.
        """
        arch, outside = parent, 0
        for _ in range(ATTEMPTS):
            arch = self.space.mutate(arch, self.rng)
            found = unscored(self.space, arch, self.spec)
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
        """Return the cross of two parents; where it is not new or not within the limits, return a mutant of it."""
        crossed = self.space.crossover(a, b, self.rng)
        found = unscored(self.space, crossed, self.spec)
        if found.key in self.seen or self.limits.violation(found):
            return self.mutant(crossed)
        return self._noted(found)

    def given(self, arch: Any) -> Candidate | None:
        """Return the candidate of an architecture of the space; None where it is not new or not within the limits."""
        found = unscored(self.space, arch, self.spec)
        return None if found.key in self.seen or self.limits.violation(found) else self._noted(found)

    def _noted(self, found: Candidate) -> Candidate:
        self.seen.add(found.key)
        return found

    def _drawn(self) -> Candidate | None:
        for _ in range(DRAWS):
            found = unscored(self.space, self.space.sample(self.rng), self.spec)
            if not self._violation(found):
                return found
        self._walking = True
        return self._walked()

    def _walked(self) -> Candidate | None:
        for _ in range(WALKS):
            here = unscored(self.space, self.space.sample(self.rng), self.spec)
            away = self._violation(here)
            for _ in range(STEPS):
                if not away:
                    return here
                there = unscored(self.space, self.space.mutate(here.arch, self.rng), self.spec)
                if (distance := self._violation(there)) <= away:
                    here, away = there, distance
        if self.seen:
            return None
        assert self._closest is not None
        closest = self._closest[1]
        raise SearchError(
            f"found no architecture of {self.space.name} with {self.limits}, in {DRAWS:,} random draws and {WALKS} "
            f"walks of {STEPS} mutations towards the limits; the closest has {closest.params:,.0f} parameters, "
            f"{closest.flops:,.0f} FLOPs and {closest.activations:,.0f} activations: widen the limits"
        )

    def _violation(self, candidate: Candidate) -> float:
        """Return how far an architecture is outside the limits, and remember the closest for the error message."""
        away = self.limits.violation(candidate)
        if self._closest is None or away < self._closest[0]:
            self._closest = away, candidate
        return away


def describe_spec(spec: InputSpec) -> str:
    """Return what the networks read, in words: `224 px, 3 channels, 1,000 classes`."""
    return f"{spec.image_size} px, {spec.in_channels} channels, {spec.num_classes:,} classes"
