"""Limits: bounds on the parameters, FLOPs and activations of the architectures that a search looks at."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from autoprox.search.candidate import Candidate, SearchError

#: What messages call the bounded sizes.
WORDS = MappingProxyType({"params": "parameters", "flops": "FLOPs", "activations": "activations"})


@dataclass(frozen=True)
class Limits:
    """Bounds on an architecture's parameters, and on the multiply-adds, activations and seconds of one forward pass.

    None is no bound. Activations are the output elements of convolutions and linears. All but `max_latency` are known
    before a network is built, so nothing outside them is proposed. The latency is measured before a network is scored.

    Raises:
        SearchError: a bound is no positive number, or a lower bound is above the upper one.
    """

    min_params: float | None = None
    max_params: float | None = None
    min_flops: float | None = None
    max_flops: float | None = None
    min_activations: float | None = None
    max_activations: float | None = None
    max_latency: float | None = None

    def __post_init__(self) -> None:
        for fact, low, high in self.bounds():
            _check_bound(f"min_{fact}", low)
            _check_bound(f"max_{fact}", high)
            if low is not None and high is not None and low > high:
                raise SearchError(f"min_{fact} {low:,.0f} is above max_{fact} {high:,.0f}; no architecture is both")
        _check_bound("max_latency", self.max_latency)

    def bounds(self) -> tuple[tuple[str, float | None, float | None], ...]:
        """Return (size, lower bound, upper bound) for each size of `WORDS`."""
        return tuple((fact, getattr(self, f"min_{fact}"), getattr(self, f"max_{fact}")) for fact in WORDS)

    def violation(self, candidate: Candidate) -> float:
        """Return how far an architecture is outside the limits on its size: the sum of relative excesses, 0 inside.

        An architecture whose size is unknown (NaN) is infinitely far outside any bound on that size.
        """
        excess = 0.0
        for fact, low, high in self.bounds():
            value = getattr(candidate, fact)
            if (low or high) and math.isnan(value):
                return math.inf
            excess += max(0.0, value / high - 1) if high else 0.0
            excess += max(0.0, 1 - value / low) if low else 0.0
        return excess

    def check(self, name: str, smallest: Mapping[str, float]) -> None:
        """Check the upper bounds against the smallest sizes that there are in the space or benchmark `name`.

        Raises:
            SearchError: an upper bound is below the smallest size, which the message names.
        """
        for fact, _, high in self.bounds():
            if high is not None and smallest[fact] > high:
                raise SearchError(
                    f"no architecture of {name} has at most {high:,.0f} {WORDS[fact]}: "
                    f"the smallest has {smallest[fact]:,.0f}; raise max_{fact} to that or more"
                )

    def __str__(self) -> str:
        """Return the limits in words: `parameters ≤ 6,000,000, 1,000 ≤ FLOPs ≤ 2,000`, or `no limits`."""
        shown = []
        for fact, low, high in self.bounds():
            if low is not None and high is not None:
                shown.append(f"{low:,.0f} ≤ {WORDS[fact]} ≤ {high:,.0f}")
            elif low is not None or high is not None:
                sign, bound = ("≤", high) if low is None else ("≥", low)
                shown.append(f"{WORDS[fact]} {sign} {bound:,.0f}")
        if self.max_latency is not None:
            shown.append(f"latency ≤ {1e3 * self.max_latency:.4g} ms")
        return ", ".join(shown) or "no limits"


def _check_bound(name: str, bound: object) -> None:
    if bound is None or (isinstance(bound, int | float) and not isinstance(bound, bool) and 0 < bound < math.inf):
        return
    raise SearchError(f"{name} is {bound!r}; it must be a positive number")
