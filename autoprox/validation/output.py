"""Output of a validation: validation.json with all that was found, and validation.csv with the rows of its table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import orjson

from autoprox.bench_cache.runtime.files import write_atomically, write_csv
from autoprox.rank.output import flat
from autoprox.validation.plan import ValidationPlan
from autoprox.validation.run import CSV, JSON, Findings, Judged
from autoprox.validation.verdict import Guard


def record(plan: ValidationPlan, found: Findings, asked: Sequence[Guard], verdict: str) -> dict[str, Any]:
    """Return all that was found as JSON; what is not defined is null."""
    return _plain(
        {
            "settings": plan.record(),
            "formula": plan.text,
            "verdict": verdict,
            "guards": [asdict(guard) for guard in asked],
            "all": _judged(found.over_all, found.seconds),
            "trainable": None if found.trainable is None else _judged(found.trainable, found.seconds),
            "repeats": {kind: asdict(each) for kind, each in found.repeats.items()},
            "shuffled_labels": found.shuffled,
            "of_many": found.of_many,
            "origin": list(found.origin),
            "looks": found.looks,
            "failures": [asdict(failure) for failure in found.failures],
        }
    )


def _judged(judged: Judged, seconds: Mapping[str, float]) -> dict[str, Any]:
    rows = [flat(row, seconds[row.proxy]) for row in judged.rows]
    return {"rows": rows, "given_fitted": judged.given, "comparison": judged.comparison}


def _plain(value: Any) -> Any:
    """Return dataclasses as objects, and null for a number that is not finite."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def save_validation(out: Path, found: Findings, written: Mapping[str, Any]) -> list[str]:
    """Write the rows and the record into a directory, and return the files' names."""
    write_csv(out / CSV, [flat(row, found.seconds[row.proxy]) for row in found.over_all.rows])
    write_atomically(out / JSON, orjson.dumps(written, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    return [CSV, JSON]
