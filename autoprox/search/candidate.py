"""Candidate: an architecture that a search considers, with its size and, once a proxy has scored it, its score."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from autoprox.bench_cache.spaces.registry import InputSpec, Space


class SearchError(ValueError):
    """A search that cannot run because of its settings, limits, batch or proxy; one line says why."""


@dataclass(frozen=True)
class Candidate:
    """An architecture with its size (NaN where a table lacks a number) and its score.

    `key` is the space's line of text for the architecture. `score` is None before the candidate is scored. It stays
    None where the proxy has no score for the architecture; `problem` then says why. `latency` are the seconds of a
    forward pass, where a search measures them. Where several proxies vote, `votes` are their scores (see `votes`).
    """

    arch: Any
    key: str
    params: float
    flops: float
    activations: float
    depth: float
    width: float
    score: float | None = None
    problem: str = ""
    latency: float | None = None
    votes: tuple[float, ...] = ()

    @property
    def fitness(self) -> float:
        """The score, or −∞ where there is none: candidates are compared by it."""
        return -math.inf if self.score is None else self.score


def unscored(space: Space, arch: Any, spec: InputSpec) -> Candidate:
    """Return the candidate of an architecture of a space, with its size and without a score."""
    return Candidate(arch, space.key(arch), *space.structure(arch, spec))
