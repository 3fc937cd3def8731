"""Dynamic distribution pruning: a distribution over the options of each gene, from which weak ones are taken away."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from random import Random
from typing import Any

from autoprox.bench_cache.spaces.registry import ArchitectureError, Space
from autoprox.search.candidate import Candidate
from autoprox.search.region import Region

#: A gene: its name and, in a list, the place of a value or LENGTH.
Gene = tuple[str, int]
ALONE, LENGTH = -1, -2
#: An option is weak if it is worse than the best one by so many standard errors, after so many tries.
ERRORS, TRIED = 1.0, 4
#: Draws for one architecture before the search takes a mutant of the best one instead.
DRAWS = 200


@dataclass
class Options:
    """How often each option of a gene was tried, and how often it was in the better half; and those that are left out.

    Options are in the order in which they were first seen, so that the same history gives the same draws.
    """

    tried: Counter[Hashable] = field(default_factory=Counter)
    better: Counter[Hashable] = field(default_factory=Counter)
    pruned: set[Hashable] = field(default_factory=set)

    @property
    def alive(self) -> list[Hashable]:
        """The options that may be drawn."""
        return [option for option in self.tried if option not in self.pruned]

    def rate(self, option: Hashable) -> float:
        """Return the share of tries in the better half, as if there had been one more try in each half."""
        return (self.better[option] + 1) / (self.tried[option] + 2)

    def prune(self) -> None:
        """Leave out the worst option, if it is weak and not the last."""
        alive = self.alive
        best, worst = max(alive, key=self.rate), min(alive, key=self.rate)
        error = math.sqrt(0.25 / self.tried[best] + 0.25 / self.tried[worst])
        if self.tried[worst] >= TRIED and self.rate(best) - self.rate(worst) > ERRORS * error:
            self.pruned.add(worst)

    def draw(self, rng: Random) -> Hashable:
        """Return an option, each with odds as its rate."""
        alive = self.alive
        return rng.choices(alive, [self.rate(option) for option in alive])[0]


def pruned_draws(history: Sequence[Candidate], region: Region, count: int) -> list[Candidate]:
    """Return the next round of dynamic distribution pruning (DDPNAS; Zheng et al., arXiv 1905.13543).

    ::

        every option of every gene has the same odds
        repeat: draw `count` architectures, each gene alone;  score them
                an option's odds ← the share of architectures with it that were in the better half of their round
                of each gene, leave out the worst option, if it is worse than the best one by a standard error

    The paper leaves out an option in every period; the condition keeps what too few tries speak against. Genes are the
    values of `Space.to_json`, each place of a list for itself, and the lengths of lists.
    """
    rounds = [history[start : start + count] for start in range(0, len(history) - count + 1, count)]
    if not rounds:
        return list(islice(iter(region.draw, None), count - len(history)))
    genes = _learnt(region.space, rounds)
    best = max(history, key=lambda candidate: candidate.fitness).arch

    def child() -> Candidate | None:
        for _ in range(DRAWS):
            arch = _drawn(region, genes)
            found = None if arch is None else region.given(arch)
            if found is not None:
                return found
        return region.mutant(best) or region.draw()

    return list(islice(iter(child, None), count - len(history) % count))


def _learnt(space: Space[Any], rounds: Sequence[Sequence[Candidate]]) -> dict[Gene, Options]:
    """Return the options of every gene after the rounds."""
    genes: dict[Gene, Options] = {}
    for entries in rounds:
        ordered = sorted(entries, key=lambda candidate: -candidate.fitness)
        for place, candidate in enumerate(ordered):
            for gene, option in _genes(space.to_json(candidate.arch)):
                options = genes.setdefault(gene, Options())
                options.tried[option] += 1
                options.better[option] += place < len(ordered) // 2
        for options in genes.values():
            options.prune()
    return genes


def _genes(record: Mapping[str, Any]) -> Iterator[tuple[Gene, Hashable]]:
    for name, value in record.items():
        if isinstance(value, list):
            yield (name, LENGTH), len(value)
            yield from (((name, place), _frozen(each)) for place, each in enumerate(value))
        else:
            yield (name, ALONE), value


def _frozen(value: Any) -> Hashable:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _drawn(region: Region, genes: Mapping[Gene, Options]) -> Any | None:
    """Return an architecture with every value drawn; None where a random one has a length that is left out.

    It begins as a random architecture, so that lists that go together have one length.
    """
    record = region.space.to_json(region.space.sample(region.rng))
    for gene, option in list(_genes(record)):
        options, (name, place) = genes.get(gene), gene
        if options is None:
            continue
        if place == LENGTH:
            odds = max(options.rate(each) for each in options.alive)
            if option in options.pruned or region.rng.random() * odds > options.rate(option):
                return None
        elif place == ALONE:
            record[name] = options.draw(region.rng)
        else:
            record[name][place] = options.draw(region.rng)
    try:
        return region.space.from_json(record)
    except ArchitectureError:  # values that do not go together
        return None
