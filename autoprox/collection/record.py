"""Record of a shipped formula: what it says, where it comes from, how it was validated; and the file of all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from autoprox.bench_cache.runtime.files import write_atomically

#: The file of all records.
FILE = Path(__file__).with_name("collection.json")
FORMAT, VERSION = "autoprox-collection", 1
#: The most nodes of a shipped formula: it is to be read.
MOST_NODES = 15


@dataclass(frozen=True)
class TaskFigures:
    """The same on one task: tau, the partial tau given fitted structure, tau over the trainable networks.

    `seen` says whether the evolution of the formula saw labels of the task.
    """

    task: str
    tau: tuple[float, float, float]
    given_fitted: float | None
    trainable: tuple[float, float, float] | None
    seen: bool


@dataclass(frozen=True)
class Figures:
    """What `autoprox validate` found on one benchmark, means over the tasks. Triples are a number and its interval.

    Attributes:
        benchmark, split, networks, tasks: on what; `networks` have an accuracy and a score on every task.
        tau: Kendall's tau-b.
        given_fitted: the partial tau given fitted structure; None where it is not known.
        trainable: tau over the networks that are not at chance; None where no network is.
        baseline, baseline_tau: the strongest structural baseline.
        lead: by how much the formula's tau is above it, with the paired interval.
        noise: the share of the variance of its ranks that other initial weights cause; None where they change nothing.
        of_many: the interval that knows how many formulas were tried on this split.
        held_out: whether the whole benchmark had no part in choosing the formula.
        verdict: what `validate` said.
        command: how to find the same again.
        by_task: the figures of each task.
    """

    benchmark: str
    split: str
    networks: int
    tasks: int
    tau: tuple[float, float, float]
    given_fitted: tuple[float, float, float] | None
    trainable: tuple[float, float, float] | None
    baseline: str
    baseline_tau: float
    lead: tuple[float, float, float]
    noise: float | None
    of_many: tuple[float, float]
    held_out: bool
    verdict: str
    command: str
    by_task: tuple[TaskFigures, ...] = ()


@dataclass(frozen=True)
class ShippedProxy:
    """A formula that was evolved with autoprox.

    Attributes:
        name, formula: what it is called, and its text, of at most `MOST_NODES` nodes.
        summary: what it is, in one line.
        measures: what it measures, in plain words.
        avoid: when not to use it.
        provenance: what its run recorded: `benchmarks`, `tasks`, `seed`, `generations`, `tried` (formulas that were
            judged), `tau` by split and task, `version`; and `looks`, at how many of its run's formulas test was looked.
        figures: how it was validated on each benchmark.
    """

    name: str
    formula: str
    summary: str
    measures: str
    avoid: str
    provenance: Mapping[str, Any] = field(hash=False)
    figures: tuple[Figures, ...] = ()

    @property
    def carried(self) -> dict[str, Any]:
        """Return the provenance of its `Proxy`: that of the run, and what it measures and when not to use it."""
        return {**self.provenance, "source": "the collection of autoprox", "note": f"{self.measures} {self.avoid}"}


def read_collection(path: Path) -> tuple[ShippedProxy, ...]:
    """Return the records of a file, which is part of autoprox and trusted."""
    stored = orjson.loads(path.read_bytes())
    return tuple(
        ShippedProxy(**{**each, "figures": tuple(_figures(found) for found in each["figures"])})
        for each in stored["proxies"]
    )


def _figures(found: Mapping[str, Any]) -> Figures:
    by_task = tuple(TaskFigures(**_tupled(each)) for each in found["by_task"])
    return Figures(**{**_tupled(found), "by_task": by_task})


def _tupled(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def write_collection(shipped: tuple[ShippedProxy, ...], path: Path) -> None:
    """Write all records, whole or not at all."""
    stored = {"format": FORMAT, "version": VERSION, "proxies": [asdict(each) for each in shipped]}
    write_atomically(path, orjson.dumps(stored, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
