"""The loop on a judge of its own, which rolls dice by the text of a formula."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autoprox.evolve import (
    GRAMMARS,
    STRATEGIES,
    Breeder,
    EvolutionSettings,
    Invalid,
    Journal,
    Judgement,
    evolve,
    grammar,
)

MADE = {name: grammar(name) for name in GRAMMARS}


class Dice:
    """Stands in for a judge: a formula's taus, or that it has none, are drawn from its text."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.rivals: list[Sequence[Judgement]] = []  # of each call that has some

    def judge(self, formulas: Sequence[Any], split: str = "evolve", rivals: Sequence[Judgement] = ()) -> list[Any]:
        self.rivals += [rivals] if rivals else []
        self.calls += [(formula.text, split) for formula in formulas]
        return [self.outcome(formula.text, split) for formula in formulas]

    def outcome(self, text: str, split: str) -> Judgement | Invalid:
        drawn = random.Random(hashlib.sha256(f"{split} {text}".encode()).digest())
        if drawn.random() < 0.2:
            return Invalid("bad luck")
        taus = tuple(round(drawn.uniform(-1, 1), 2) for _ in range(2))
        return Judgement(taus, sum(taus) / 2)


def settings(**choices: Any) -> EvolutionSettings:
    return EvolutionSettings((), (), **{"generations": 12, "population": 8, "refine": "none", "founders": 1, **choices})


def run(path: Path, chosen: EvolutionSettings, until: int | None = None, judge: Any = None) -> Breeder:
    """Evolve as far as `until`, going on with what is at `path`."""
    if not path.exists():
        Journal.create(path, {})
    breeder = Breeder(MADE[chosen.grammar], judge or Dice())
    evolve(breeder, replace(chosen, generations=until) if until else chosen, Journal.open(path), lambda record: None)
    return breeder


def records(path: Path) -> list[dict[str, Any]]:
    return Journal.open(path).records


every_way = pytest.mark.parametrize("strategy", STRATEGIES)
both_grammars = pytest.mark.parametrize("written", GRAMMARS)
