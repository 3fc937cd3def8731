"""ListedSpace: networks that somebody else wrote, known by name: they can be built and ranked, but not varied.

A listed space has no closed forms. What is known of its networks' sizes stands in the table of a benchmark.
"""

from __future__ import annotations

from random import Random
from typing import Any, NoReturn

from autoprox.bench_cache.spaces.base import Arch, ArchitectureError, InputSpec, Space


class ListedSpace(Space[Arch]):
    """A space whose architectures are names in a library, each with an input size of its own."""

    def input_spec(self, arch: Arch, spec: InputSpec) -> InputSpec:
        """Return what the network of an architecture reads, where a benchmark's networks are built for `spec`."""
        raise NotImplementedError

    def mutate(self, arch: Arch, rng: Random) -> Arch:
        """Raise ArchitectureError: a name has no genes to change."""
        self._refuse("its networks cannot be mutated, because they are a list and have no genes")

    def crossover(self, a: Arch, b: Arch, rng: Random) -> Arch:
        """Raise ArchitectureError: two names have no common genes."""
        self._refuse("its networks cannot be crossed, because they are a list and have no genes")

    def params(self, arch: Arch, spec: InputSpec) -> int:
        """Raise ArchitectureError: there is no closed form."""
        self._no_closed_form("params")

    def flops(self, arch: Arch, spec: InputSpec) -> int:
        """Raise ArchitectureError: there is no closed form."""
        self._no_closed_form("flops")

    def activations(self, arch: Arch, spec: InputSpec) -> int:
        """Raise ArchitectureError: there is no closed form."""
        self._no_closed_form("activations")

    def depth(self, arch: Arch) -> int:
        """Raise ArchitectureError: there is no closed form."""
        self._no_closed_form("depth")

    def width(self, arch: Arch) -> float:
        """Raise ArchitectureError: there is no closed form."""
        self._no_closed_form("width")

    def min_params(self, spec: InputSpec) -> int:
        """Raise ArchitectureError: there is no closed form."""
        self._no_closed_form("params")

    def min_flops(self, spec: InputSpec) -> int:
        """Raise ArchitectureError: there is no closed form."""
        self._no_closed_form("flops")

    def min_activations(self, spec: InputSpec) -> int:
        """Raise ArchitectureError: there is no closed form."""
        self._no_closed_form("activations")

    def _no_closed_form(self, fact: str) -> NoReturn:
        self._refuse(f"{fact} does not follow from the name of a network; read it from a benchmark's table")

    def _refuse(self, reason: str) -> NoReturn:
        raise ArchitectureError(f"{self.name}: {reason}")


def input_of(space: Space[Any], arch: Any, spec: InputSpec) -> InputSpec:
    """Return what the network of an architecture reads: `spec`, unless the space is a list of networks."""
    return space.input_spec(arch, spec) if isinstance(space, ListedSpace) else spec
