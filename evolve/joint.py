"""Joint fitness: the ways to make one number of a formula's taus on all tasks. To add one, add its record here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import mul

import numpy as np


@dataclass(frozen=True)
class Combination:
    """One way to make a joint fitness, higher is better.

    `function` takes the taus and the weights of the tasks, in one order. `meaning` completes the sentence "the joint
    fitness is …" for `--help`. `weighted` says whether the function uses the weights; if not, weights are refused.
    With `given_structure` the taus that it takes are Kendall's partial taus given fitted structure.
    """

    function: Callable[[Sequence[float], Sequence[float]], float]
    meaning: str
    weighted: bool = True
    given_structure: bool = False


def weighted_mean(taus: Sequence[float], weights: Sequence[float]) -> float:
    """Return Σ w τ / Σ w."""
    return sum(map(mul, weights, taus), 0.0) / sum(weights, 0.0)


def worst(taus: Sequence[float], weights: Sequence[float]) -> float:
    """Return the lowest tau."""
    return float(min(taus))


def mean_minus_spread(taus: Sequence[float], weights: Sequence[float]) -> float:
    """Return the weighted mean minus the (unweighted) standard deviation of the taus."""
    return weighted_mean(taus, weights) - float(np.std(taus))


#: The ways by name.
COMBINATIONS: dict[str, Combination] = {
    "mean": Combination(weighted_mean, "the weighted mean over the tasks"),
    "min": Combination(worst, "the worst task", weighted=False),
    "mean-spread": Combination(mean_minus_spread, "the weighted mean minus the standard deviation over the tasks"),
    "given-structure": Combination(
        weighted_mean,
        "the weighted mean of the partial taus given fitted structure, so that a count of sizes earns nothing",
        given_structure=True,
    ),
}


def combined(taus: Sequence[float], weights: Sequence[float], combination: str) -> float:
    """Return the joint fitness of taus by the named combination.

    Raises:
        ValueError: there is no combination of this name.
    """
    if combination not in COMBINATIONS:
        raise ValueError(f"joint is '{combination}'; it must be one of {', '.join(COMBINATIONS)}")
    return COMBINATIONS[combination].function(taus, weights)
