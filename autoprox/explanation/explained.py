"""What an explanation says: numbers of each part of a proxy, and of the proxy without it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from autoprox.primitives.words import Part
from autoprox.scoring import AnyProxy, few_step_note

#: The splits that an explanation looks at. Test is looked at once, at the end of a run.
SPLITS = ("evolve", "validation")
#: How one number is made of a part's values in a network, by its level.
IN_ONE_NUMBER = {
    "matrix": "mean magnitude of the entries, mean over the layers",
    "layer": "mean over the layers",
    "net": "its value",
}


@dataclass(frozen=True)
class Example:
    """An architecture of the benchmark: its number there, structure, and accuracies (none of the test split)."""

    number: int
    structure: Mapping[str, float]
    accuracies: Mapping[str, float]


@dataclass(frozen=True)
class Numbers:
    """What is known of one number of each network: of a part, or of the proxy.

    Attributes:
        values: it in each of the example networks, NaN where it has none.
        structure: Kendall's tau-b with each structural fact, over the architectures of evolve and validation.
        accuracy: Kendall's tau-b with the accuracies, by split: the mean over the tasks.
        tasks: the same by split and task.
    """

    values: tuple[float, ...]
    structure: Mapping[str, float]
    accuracy: Mapping[str, float]
    tasks: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class ExplainedPart:
    """A part with its numbers; `in_one_number` says how a number was made of its values in a network."""

    part: Part
    in_one_number: str
    numbers: Numbers


@dataclass(frozen=True)
class Without:
    """The proxy without one part or step: the formula that is left, its size and numbers, and what that costs.

    `cost` is the mean tau on evolve of the whole, minus that of what is left.
    """

    what: str
    formula: str
    size: int
    numbers: Numbers
    cost: float


@dataclass(frozen=True, eq=False)
class Explained:
    """An explanation of a proxy on a benchmark.

    Attributes:
        proxy: the proxy.
        benchmark, tasks: on what.
        batch, seed: what the networks ran on, and of what weights.
        counts: how many architectures each split has.
        examples: the example networks.
        whole: the numbers of the proxy's score.
        parts: its parts, in order; none of a function.
        without: what is left without each part, the most costly first.
    """

    proxy: AnyProxy
    benchmark: str
    tasks: tuple[str, ...]
    batch: int
    seed: int
    counts: Mapping[str, int]
    examples: tuple[Example, ...]
    whole: Numbers
    parts: tuple[ExplainedPart, ...]
    without: tuple[Without, ...]

    def record(self) -> dict[str, Any]:
        """Return it as JSON values; a number that is not defined is None."""
        formula = self.proxy.as_formula
        record = {
            "proxy": self.proxy.name or self.proxy.text,
            "formula": None if formula is None else formula.text,
            "latex": latex_of(self.proxy),
            "about": dict(about(self.proxy)),
            "benchmark": self.benchmark,
            "tasks": list(self.tasks),
            "batch": self.batch,
            "seed": self.seed,
            "architectures": dict(self.counts),
            "examples": [asdict(example) for example in self.examples],
            "score": asdict(self.whole),
            "parts": [
                {
                    "part": each.part.name,
                    "text": each.part.formula.text,
                    "short": each.part.short,
                    "kind": each.part.kind,
                    "words": each.part.words,
                    "in_one_number": each.in_one_number,
                    **asdict(each.numbers),
                }
                for each in self.parts
            ],
            "without": [
                {
                    "what": each.what,
                    "formula": each.formula,
                    "size": each.size,
                    "cost": each.cost,
                    **asdict(each.numbers),
                }
                for each in self.without
            ],
        }
        return _plain(record)


def latex_of(proxy: AnyProxy) -> str:
    """Return the proxy as LaTeX: that of its formula, or the one that a function's record has."""
    formula = proxy.as_formula
    return formula.latex if formula is not None else getattr(proxy, "latex", "")


def about(proxy: AnyProxy) -> list[tuple[str, str]]:
    """Return what is known of a proxy: source, what is read and a note, and the cost of one that trains networks."""
    known = {name: getattr(proxy, name, "") or proxy.provenance.get(name, "") for name in ("source", "reads", "note")}
    known["cost"] = few_step_note(proxy.probes) if proxy.as_formula is not None else ""
    return [(name, value) for name, value in known.items() if value and isinstance(value, str)]


def mean_of(taus: Sequence[float]) -> float:
    """Return the mean of the taus of several tasks, NaN where one is not defined."""
    return float(np.mean(taus)) if taus else float("nan")


def _plain(value: Any) -> Any:
    """Return the value with None in place of numbers that JSON does not have."""
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
