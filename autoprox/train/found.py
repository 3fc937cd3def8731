"""What a search found, as training reads it; and random architectures of the same size, to compare with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import orjson

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.spaces.listed import ListedSpace
from autoprox.bench_cache.spaces.registry import InputSpec, get_space, recorded_space
from autoprox.search.candidate import SearchError
from autoprox.search.limits import Limits
from autoprox.search.region import Region
from autoprox.search.run import BENCHMARK_FILE, RESULTS_FORMAT, RESULTS_JSON


class TrainError(ValueError):
    """A training that cannot be: of its result, its rows, its data or its directory; one line says why."""


@dataclass(frozen=True)
class Network:
    """An architecture to train: its name, such as `row 1`, and its genes as the space has them."""

    name: str
    arch: Any


@dataclass(frozen=True)
class Found:
    """What a search found: the space as `pinned` gives it, what its networks read, and the architectures, best first.

    `spec` is None where the networks of a benchmark's tasks read different things.
    """

    space: str
    spec: InputSpec | None
    archs: tuple[Any, ...]


def read_found(ref: Path, spaces: Sequence[str] = ()) -> Found:
    """Return what is in the directory of a search, or in its architectures.json.

    `spaces` name the user's space that it is of, FILE.py:NAME.

    Raises:
        TrainError: there is no result, it is none of a search, or its architectures have no networks.
        ArchitectureError: the space is not there, or an architecture is not in it.
    """
    file = ref / RESULTS_JSON if ref.is_dir() else ref
    if not file.is_file():
        raise TrainError(f"{ref} holds no result of a search (no {RESULTS_JSON}); make one: autoprox search --out DIR")
    try:
        record = orjson.loads(file.read_bytes())
        if record["format"] != RESULTS_FORMAT:
            raise KeyError("format")
        space, spec = _space(file, record, spaces)
        known = get_space(space)
        archs = tuple(known.from_json(row["arch"]) for row in record["architectures"])
        return Found(space, spec, archs)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise TrainError(f"{file} is no result of a search, or cut off ({error!s:.60})") from None


def _space(file: Path, record: Mapping[str, Any], spaces: Sequence[str]) -> tuple[str, InputSpec | None]:
    if record["space"] is not None:
        return recorded_space(record["space"], spaces), InputSpec(**record["spec"])
    benchmark = Benchmark.load(file.with_name(BENCHMARK_FILE), spaces)
    if benchmark.space is None:
        raise TrainError(f"benchmark {benchmark.name} is tabular: its architectures have no networks to train")
    return benchmark.space, benchmark.spec


def chosen_rows(found: Found, rows: Sequence[int]) -> tuple[Network, ...]:
    """Return the networks of rows, counted from 1.

    Raises:
        TrainError: the result has no such row.
    """
    for row in rows:
        if not 1 <= row <= len(found.archs):
            have = f"rows 1 to {len(found.archs)}" if found.archs else "no rows"
            raise TrainError(f"row {row} is not in the result, which has {have}; `autoprox search --top` keeps more")
    return tuple(Network(f"row {row}", found.archs[row - 1]) for row in dict.fromkeys(rows))


def rivals(space: str, spec: InputSpec, rows: Sequence[Network], band: float, seed: int) -> tuple[Network, ...]:
    """Return a random architecture for each row, whose parameters differ from the row's by `band` of them at most.

    They are drawn as a search draws within limits (see `Region`), and all differ from the rows and among themselves.

    Raises:
        TrainError: none is found.
    """
    known, rng = get_space(space), Random(f"train/{seed}")
    if isinstance(known, ListedSpace):
        raise TrainError(f"the networks of {known.name} are a list: random ones of the same size cannot be drawn")
    taken = {known.key(row.arch) for row in rows}
    drawn = []
    for row in rows:
        params = known.params(row.arch, spec)
        try:
            region = Region(known, spec, Limits((1 - band) * params or None, (1 + band) * params), rng)
            region.seen = set(taken)
            candidate = region.draw()
        except SearchError:
            candidate = None
        if candidate is None:
            raise TrainError(
                f"no further architecture of {known.name} is found within {band:.0%} of the {params:,} parameters of "
                f"{row.name}; widen --band, or train fewer rows"
            )
        taken.add(candidate.key)
        drawn.append(Network(row.name.replace("row", "random for row"), candidate.arch))
    return tuple(drawn)
