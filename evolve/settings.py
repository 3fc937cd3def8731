"""Settings: everything that the result of an evolution depends on, checked once and saved with the run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from autoprox.bench_cache.runtime.devices import CPU
from autoprox.evolve.grammar import GRAMMARS, MAX_NODES, TABULAR
from autoprox.evolve.joint import COMBINATIONS
from autoprox.evolve.refinements import REFINEMENTS
from autoprox.evolve.strategies import STRATEGIES
from autoprox.primitives.kinds import MOST_STEPS


class SettingsError(ValueError):
    """A setting of an evolution that cannot be; the message names it and what is allowed."""


#: What formulas are judged on in evolution: whole matrices, or a sample of each.
EXACT, SAMPLED = "exact", "sampled"


@dataclass(frozen=True)
class EvolutionSettings:
    """The settings of an evolution: what its result depends on, and nothing else.

    `benchmarks` are names, each with a digest of the benchmark's contents; `tasks` are `benchmark:task`. `weights` has
    the weight of each task in the joint fitness and in the report's means, all 1 where none are given. `retries` says
    how often a rejected child is varied again, and `batch` how many samples the probes have. `costly` admits operations
    that are cubic in the width (singular values, Gram matrices). `own_operations` names the vocabulary's operations
    that are not built in. `held_out` are further tasks, `benchmark:task`, on which the result alone is judged, at the
    end; `benchmarks` has theirs too. `refine` names what is tried on a population after each generation.
    `max_nodes` is how many nodes a tree has at most. The first population is the best of `founders` times as many
    random formulas. With `steps`, formulas may read the networks after so many steps of training too, and are then
    no zero-cost proxies. The networks run on `device`, where formulas are evaluated too; its kind has a part in the
    last bits. With `fitness` sampled, evolution judges formulas by a sample of each matrix of large networks; the
    finalists and the report are exact.

    Raises:
        SettingsError: a setting has a value that cannot be.
    """

    benchmarks: tuple[tuple[str, str], ...]
    tasks: tuple[str, ...]
    generations: int = 200
    population: int = 30
    seed: int = 0
    grammar: str = "typed"
    strategy: str = "elitist"
    joint: str = "mean"
    retries: int = 1
    batch: int = 2
    costly: bool = False
    weights: tuple[float, ...] = ()
    own_operations: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    refine: str = "none"
    max_nodes: int = MAX_NODES
    founders: int = 1
    steps: int = 0
    device: str = CPU
    fitness: str = EXACT

    @property
    def sampled(self) -> bool:
        """Whether evolution judges formulas by samples."""
        return self.fitness == SAMPLED

    def __post_init__(self) -> None:
        for name, lowest in (
            ("generations", 0),
            ("population", 4),
            ("seed", 0),
            ("retries", 0),
            ("batch", 1),
            ("max_nodes", 3),
            ("steps", 0),
        ):
            value = getattr(self, name)
            if type(value) is not int or value < lowest:
                raise SettingsError(f"{name} is {value!r}; it must be a whole number of at least {lowest}")
        if self.steps > MOST_STEPS:
            raise SettingsError(f"steps is {self.steps}; it must be {MOST_STEPS} at most")
        for name, known in (
            ("grammar", (*GRAMMARS, TABULAR)),
            ("strategy", tuple(STRATEGIES)),
            ("joint", tuple(COMBINATIONS)),
            ("refine", tuple(REFINEMENTS)),
            ("fitness", (EXACT, SAMPLED)),
        ):
            if getattr(self, name) not in known:
                raise SettingsError(f"{name} is '{getattr(self, name)}'; it must be one of {', '.join(known)}")
        object.__setattr__(self, "weights", self.weights or (1.0,) * len(self.tasks))
        self._check_weights()

    def _check_weights(self) -> None:
        """Check that every task has a positive weight, and that the joint fitness uses weights where not all are 1."""
        numbers = all(type(weight) is float and 0 < weight < math.inf for weight in self.weights)
        if not numbers or len(self.weights) != len(self.tasks):
            raise SettingsError(f"weights is {list(self.weights)}; it must be one positive number for each task")
        if not COMBINATIONS[self.joint].weighted and set(self.weights) - {1.0}:
            heeding = ", ".join(name for name, combination in COMBINATIONS.items() if combination.weighted)
            raise SettingsError(f"joint is '{self.joint}', which heeds no weights; leave them out, or use {heeding}")
