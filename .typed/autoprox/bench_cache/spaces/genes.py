"""Genes: what an own space chooses from, and the architectures that follow: how they are drawn, varied and checked."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any

import orjson

from autoprox.bench_cache.runtime.checks import MAX_LAYERS, Scalar, is_int
from autoprox.bench_cache.spaces.base import ArchitectureError, is_choice, listed, shown, suggestion

_EXAMPLE = "choices = {'width': [48, 64], 'depth': [2, 3], 'heads[depth]': [2, 4]}"
_NAME = re.compile(r"([A-Za-z][A-Za-z0-9_]*)(?:\[([A-Za-z0-9_]+)\])?")


class UnknownGeneError(KeyError, AttributeError):
    """A gene that an architecture does not have; the message lists those that it has."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class Genes(Mapping[str, Any]):
    """One architecture of an own space: a value for each gene, read as `arch["width"]` or `arch.width`."""

    pairs: tuple[tuple[str, Any], ...]

    def __getitem__(self, name: str) -> Any:
        for gene, value in self.pairs:
            if gene == name:
                return value
        known = [gene for gene, _ in self.pairs]
        raise UnknownGeneError(f"unknown gene '{name}'{suggestion(name, known)}; the genes are {', '.join(known)}")

    def __getattr__(self, name: str) -> Any:
        if name == "pairs" or name.startswith("_"):
            raise AttributeError(name)  # before `pairs` is there, when an architecture is unpickled
        return self[name]

    def __iter__(self) -> Iterator[str]:
        return (gene for gene, _ in self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __str__(self) -> str:
        return ", ".join(f"{gene} {shown(value)}" for gene, value in self.pairs)


@dataclass(frozen=True)
class Gene:
    """A gene with its choices; `count` is how many values it has: one for None, a number, or what another gene says."""

    name: str
    choices: tuple[Any, ...]
    count: str | int | None = None

    def other(self, value: Any, rng: Random) -> Any:
        """Return another choice."""
        return rng.choice([choice for choice in self.choices if choice is not value and not is_equal(choice, value)])


def is_equal(value: object, choice: object) -> bool:
    """Return whether a value is a choice: True is not 1, 192.0 is not 192, but 4 is 4.0; a list is a tuple."""
    if isinstance(value, bool) or isinstance(choice, bool):
        return value is choice
    if isinstance(choice, tuple):
        return isinstance(value, tuple | list) and len(value) == len(choice) and all(map(is_equal, value, choice))
    return is_choice(value, choice)


@dataclass(frozen=True)
class Choices:
    """The genes of a space, in their order."""

    space: str
    genes: tuple[Gene, ...]

    @cached_property
    def by_name(self) -> Mapping[str, Gene]:
        """The genes by name."""
        return {gene.name: gene for gene in self.genes}

    def sample(self, rng: Random) -> Genes:
        """Draw every value uniformly: first the genes of one value, then those with several."""
        found: dict[str, Any] = {gene.name: rng.choice(gene.choices) for gene in self.genes if gene.count is None}
        for gene in self.genes:
            if gene.count is not None:
                count = found[gene.count] if isinstance(gene.count, str) else gene.count
                found[gene.name] = tuple(rng.choice(gene.choices) for _ in range(count))
        return self._ordered(found)

    def mutate(self, arch: Genes, rng: Random) -> Genes:
        """Change one value of one gene, each gene with equal chances.

        Where the gene says how many values others have, these lose their last ones or get random ones at their end.
        """
        gene = rng.choice([gene for gene in self.genes if len(gene.choices) > 1])
        changed, value = dict(arch), arch[gene.name]
        if gene.count is None:
            changed[gene.name] = gene.other(value, rng)
            for longer in (other for other in self.genes if other.count == gene.name):
                missing = range(changed[gene.name] - len(arch[longer.name]))
                kept = arch[longer.name][: changed[gene.name]]
                changed[longer.name] = kept + tuple(rng.choice(longer.choices) for _ in missing)
        else:
            place = rng.randrange(len(value))
            changed[gene.name] = (*value[:place], gene.other(value[place], rng), *value[place + 1 :])
        return self._ordered(changed)

    def crossover(self, a: Genes, b: Genes, rng: Random) -> Genes:
        """Take every value from either parent; places that only one parent has come from that one."""
        found = {gene.name: rng.choice((a, b))[gene.name] for gene in self.genes if gene.count is None}
        for gene in self.genes:
            if gene.count is not None:
                count = found[gene.count] if isinstance(gene.count, str) else gene.count
                parents = [[p[gene.name] for p in (a, b) if place < len(p[gene.name])] for place in range(count)]
                found[gene.name] = tuple(rng.choice(have)[place] for place, have in enumerate(parents))
        return self._ordered(found)

    def _ordered(self, found: Mapping[str, Any]) -> Genes:
        return Genes(tuple((gene.name, found[gene.name]) for gene in self.genes))

    def read(self, record: object) -> Genes:
        """Return the architecture with the values of a record, each as the space writes it.

        Raises:
            ArchitectureError: it is no mapping, a gene is missing or unknown, or a value is not one of the choices.
        """
        if not isinstance(record, Mapping):
            raise ArchitectureError(
                f"{self.space}: an architecture is an object with {', '.join(self.by_name)}, "
                f"got {type(record).__name__}"
            )
        for name in record:
            if name not in self.by_name:
                known = ", ".join(self.by_name)
                raise ArchitectureError(
                    f"{self.space}: unknown gene {shown(name)}{suggestion(name, self.by_name)}; the genes are {known}"
                )
        found: dict[str, Any] = {}
        for gene in sorted(self.genes, key=lambda gene: gene.count is not None):
            if gene.name not in record:
                raise ArchitectureError(
                    f"{self.space}: gene {gene.name} is missing; the genes are {', '.join(self.by_name)}"
                )
            found[gene.name] = self._value(gene, record[gene.name], found)
        return self._ordered(found)

    def _value(self, gene: Gene, value: object, found: Mapping[str, Any]) -> Any:
        if gene.count is None:
            return self._choice(gene, gene.name, value)
        count = found[gene.count] if isinstance(gene.count, str) else gene.count
        if not isinstance(value, list | tuple) or len(value) != count:
            of = f" of {gene.count}" if isinstance(gene.count, str) else ""
            raise ArchitectureError(f"{self.space}: {gene.name} {shown(value)} has not one value for each{of}: {count}")
        return tuple(self._choice(gene, f"{gene.name}[{place}]", entry) for place, entry in enumerate(value))

    def _choice(self, gene: Gene, name: str, value: object) -> Any:
        for choice in gene.choices:
            if is_equal(value, choice):
                return choice
        raise ArchitectureError(f"{self.space}: {name} {shown(value)} is not one of {listed(gene.choices)}")

    def key(self, arch: Genes) -> str:
        """Return the values on one line: equal exactly for equal architectures."""
        return orjson.dumps(dict(arch), option=orjson.OPT_SORT_KEYS).decode()


def read_choices(space: str, choices: object) -> Choices:
    """Return the genes that a user writes as {'width': [48, 64], 'depth': [2, 3], 'heads[depth]': [2, 4]}.

    A gene `NAME[GENE]` or `NAME[NUMBER]` has a value for each of so many places, such as the layers.

    Raises:
        ArchitectureError: there are no choices, or they cannot be read; the message says which gene, and why.
    """
    if not isinstance(choices, Mapping) or not choices:
        raise ArchitectureError(
            f"{space}: choices is {shown(choices)}; it must be a dict of genes with their allowed values, such as "
            f"{_EXAMPLE}"
        )
    genes = [_gene(space, name, values) for name, values in choices.items()]
    names = [gene.name for gene in genes]
    if len(set(names)) < len(names):
        raise ArchitectureError(f"{space}: two genes are called {max(names, key=names.count)}")
    by_name = {gene.name: gene for gene in genes}
    for gene in genes:
        if isinstance(gene.count, str):
            _check_count(space, gene, by_name)
    if all(len(gene.choices) == 1 for gene in genes):
        raise ArchitectureError(f"{space}: no gene has more than one value, so there is nothing to choose")
    return Choices(space, tuple(genes))


def _gene(space: str, name: object, values: object) -> Gene:
    match = _NAME.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        raise ArchitectureError(
            f"{space}: {shown(name)} cannot be a gene; write NAME, or NAME[GENE] or NAME[NUMBER] for one value for "
            f"each of so many places, such as {_EXAMPLE}"
        )
    if not isinstance(values, list | tuple | range) or not len(values):
        raise ArchitectureError(f"{space}: the choices of {name} are {shown(values)}; they must be a list of values")
    count = int(match[2]) if match[2] and match[2].isdecimal() else match[2]
    if isinstance(count, int) and not 1 <= count <= MAX_LAYERS:
        raise ArchitectureError(f"{space}: {name} has {count} values; it must be from 1 to {MAX_LAYERS}")
    choices: list[Any] = []
    for value in values:
        choice = tuple(value) if isinstance(value, list) and count is None else value
        entries = choice if isinstance(choice, tuple) and count is None else (choice,)
        if not all(isinstance(each, Scalar) and not _is_endless(each) for each in entries):
            raise ArchitectureError(
                f"{space}: {shown(value)} of {name} cannot be a choice; choices are numbers, texts, True and False"
                + ("" if count is not None else ", or lists of them")
            )
        if any(is_equal(choice, before) for before in choices):
            raise ArchitectureError(f"{space}: {name} has the choice {shown(value)} twice")
        choices.append(choice)
    return Gene(match[1], tuple(choices), count)


def _is_endless(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _check_count(space: str, gene: Gene, genes: Mapping[str, Gene]) -> None:
    name = str(gene.count)
    written = f"{gene.name}[{name}]"
    if name not in genes:
        raise ArchitectureError(f"{space}: {written} needs a gene {name}{suggestion(name, genes)}")
    counting = genes[name]
    counts = counting.choices
    if counting.count is not None or not all(is_int(value) and 1 <= value <= MAX_LAYERS for value in counts):
        raise ArchitectureError(
            f"{space}: {written} has as many values as {name} says, so {name} must be one whole number from 1 to "
            f"{MAX_LAYERS}, not {listed(counts)}"
        )
