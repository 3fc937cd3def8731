"""Table: a benchmark, which is architectures with their trained accuracies, and the JSON file that keeps it.

The file is one JSON object (docs/benchmark-format.md describes every field):

    {"format": "autoprox-benchmark", "version": 1, "name": ..., "space": NAME, {..} or null,
     "spec": {"image_size": .., "in_channels": .., "num_classes": .., "patch_size": ..} or null,
     "source": ..., "tasks": [..],
     "inputs": {task: {"spec": {..}, "images": [[[[..]]]], "targets": [..], "source": ..}},
     "card": {..},
     "records": [{"arch": {..}, "accuracy": {task: percent or null}, "columns": {name: number or null},
                  "seeds": {task: [percent, ..]}, "groups": {name: label or null}}, ..]}

Accuracies are percentages. A missing accuracy is null in the file and NaN in memory. A file is read whole or refused
whole: the error names the first bad record, counted from 0.
"""

import hashlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import orjson

from autoprox.bench_cache.benchmarks.file_fields import as_pinned, checked_runs, object_in
from autoprox.bench_cache.benchmarks.groups import check_label, checked_groups
from autoprox.bench_cache.benchmarks.record import Record, read_record
from autoprox.bench_cache.benchmarks.tabular import TabularArchitecture, tabular_structure
from autoprox.bench_cache.benchmarks.task_input import (
    Network,
    TaskInput,
    inputs_to_json,
    networks_of,
    read_spec,
    read_task_inputs,
)
from autoprox.bench_cache.runtime.checks import (
    MAX_BYTES,
    BenchmarkError,
    check_fields,
    check_name,
    check_number,
    check_plain,
    parse_json,
    quoted,
    read_bounded,
)
from autoprox.bench_cache.runtime.files import write_atomically
from autoprox.bench_cache.spaces.listed import ListedSpace
from autoprox.bench_cache.spaces.registry import (
    ArchitectureError,
    InputSpec,
    get_space,
    pinned,
    recorded_space,
    space_record,
)

FORMAT = "autoprox-benchmark"
VERSION = 1
MAX_TASKS = 256
SPLITS = ("evolve", "validation", "test")
#: What is known of an architecture without building it: each is a statistic of the language.
STRUCTURE = ("params", "flops", "activations", "depth", "width")


@dataclass(frozen=True, eq=False)
class Benchmark:
    """Architectures of one space, or of none, with their accuracies on one or more tasks.

    Attributes:
        name: what commands and its file call it; letters, digits, `.`, `_` and `-`, at most 64.
        space: name of the search space, or None for a tabular benchmark, whose architectures cannot be built; a user's
            space is kept as `spaces.registry.pinned` writes it.
        spec: the input and classes that its networks are built for; None exactly when `space` is.
        source: where it comes from, on one line.
        architectures: all different; of the space's type, or `TabularArchitecture`.
        tasks: accuracy in percent by task, float64 of shape (architectures,), NaN where missing.
        columns: further numbers of a tabular benchmark (proxies, sizes), of the same shape, NaN where missing.
        inputs: by task, for those tasks whose networks read another input than `spec`, or that come with images.
        seeds: by task, the accuracies of single trainings, architectures × seeds; `tasks` has their mean.
        card: how it was made, as plain JSON values, for people to read.
        groups: by what is grouped, such as `depth`, the group of each architecture as text, "" for none. Taus are
            reported within these groups too.

    Raises:
        BenchmarkError: an architecture is not in the space, or is there twice; an accuracy is outside [0, 100]; an
            array has another length; or a name cannot be one.
    """

    name: str
    space: str | None
    spec: InputSpec | None
    source: str
    architectures: tuple[Any, ...]
    tasks: Mapping[str, np.ndarray]
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    inputs: Mapping[str, TaskInput] = field(default_factory=dict)
    seeds: Mapping[str, np.ndarray] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)
    groups: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name(self.name, "benchmark")
        if (self.space is None) != (self.spec is None):
            raise BenchmarkError("a benchmark has a space and a spec or, when tabular, neither")
        if not self.architectures or not self.tasks:
            raise BenchmarkError("a benchmark has at least one record and one task")
        if len(self.tasks) > MAX_TASKS:
            raise BenchmarkError(f"{len(self.tasks)} tasks; a benchmark has at most {MAX_TASKS}")
        if not self.source.isprintable():
            raise BenchmarkError(f"source {quoted(self.source)} is not one line of text")
        object.__setattr__(self, "architectures", tuple(self.architectures))
        object.__setattr__(self, "space", None if self.space is None else as_pinned(pinned, self.space))
        for part, highest in (("tasks", 100.0), ("columns", math.inf)):
            arrays = {name: self._checked(name, values, highest) for name, values in getattr(self, part).items()}
            object.__setattr__(self, part, MappingProxyType(arrays))
        object.__setattr__(self, "groups", checked_groups(self.groups, len(self.architectures)))
        self._check_inputs()
        self._check_architectures()

    def _checked(self, name: str, values: Any, highest: float) -> np.ndarray:
        """Return a read-only float64 copy of a task's or column's values; refuse those that are out of range."""
        check_name(name, "task or column")
        array = np.array(values, dtype=np.float64)
        if array.shape != (len(self.architectures),):
            raise BenchmarkError(f"{name} has shape {array.shape} for {len(self.architectures)} architectures")
        lowest = 0.0 if math.isfinite(highest) else -math.inf
        for record in np.flatnonzero(np.isinf(array) | (array < lowest) | (array > highest)):
            check_number(float(array[record]), f"record {record}: {name}", lowest, highest)
        array.setflags(write=False)
        return array

    def _check_inputs(self) -> None:
        """Refuse inputs and seeds of an unknown task, inputs of a table, and seeds that are no array of percentages."""
        for part in ("inputs", "seeds"):
            object.__setattr__(self, part, MappingProxyType(dict(getattr(self, part))))
            for task in getattr(self, part):
                if task not in self.tasks:
                    raise BenchmarkError(
                        f"{part} of {quoted(task)}, which is no task; the tasks are {', '.join(self.tasks)}"
                    )
        if self.inputs and self.space is None:
            raise BenchmarkError("a tabular benchmark has no networks, and so no inputs")
        seeds = {task: np.array(runs, dtype=np.float64) for task, runs in self.seeds.items()}
        object.__setattr__(self, "seeds", MappingProxyType(seeds))
        for task, runs in seeds.items():
            runs.setflags(write=False)
            if runs.ndim != 2 or len(runs) != len(self.architectures) or not runs.shape[1]:
                raise BenchmarkError(f"seeds of {task} have shape {runs.shape}, not architectures × seeds")
            if not np.all((runs >= 0) & (runs <= 100)):
                raise BenchmarkError(f"seeds of {task} are not all percentages")

    def _check_architectures(self) -> None:
        """Refuse architectures that are not in the space or are there twice, and inputs that the space cannot read."""
        seen: dict[str, int] = {}
        specs = set(self._closed_forms())
        for number, arch in enumerate(self.architectures):
            try:
                if self.space is not None:
                    get_space(self.space).validate(arch)
                    for spec in specs:
                        get_space(self.space).check_input(arch, spec)
                elif not isinstance(arch, TabularArchitecture):
                    raise ArchitectureError(f"without a space, expected TabularArchitecture, got {type(arch).__name__}")
            except ArchitectureError as error:
                raise BenchmarkError(f"record {number}: {error}") from error
            first = seen.setdefault(self.key(arch), number)
            if first != number:
                raise BenchmarkError(f"record {number}: the same architecture as record {first}: {quoted(arch)}")

    def _closed_forms(self) -> tuple[InputSpec, ...]:
        """Return the specs for which the space has closed forms; none for a table, and for a list of networks."""
        if self.space is None or isinstance(get_space(self.space), ListedSpace):
            return ()
        return tuple(network.spec for network in self.networks() if network.spec is not None)

    def __len__(self) -> int:
        return len(self.architectures)

    def __repr__(self) -> str:
        return f"Benchmark({self.name!r}, architectures={len(self)}, tasks={list(self.tasks)})"

    def __reduce__(self) -> tuple[Callable[..., "Benchmark"], tuple[Any, ...]]:
        # Read-only mappings cannot be sent to worker processes, so the benchmark is sent in its file format.
        return Benchmark.from_bytes, (self.to_bytes(), () if self.space is None else (self.space,))

    def of_architectures(self, places: Sequence[int]) -> "Benchmark":
        """Return the benchmark of some of its architectures, those at `places`; each keeps its split.

        Raises:
            BenchmarkError: a place is there twice, or there is none.
        """
        at = np.asarray(places, dtype=int)
        parts: dict[str, Any] = {
            part: {name: values[at] for name, values in getattr(self, part).items()}
            for part in ("tasks", "columns", "seeds", "groups")
        }
        return replace(self, architectures=tuple(self.architectures[i] for i in at), **parts)

    @property
    def space_name(self) -> str | None:
        """The name of the space, for people to read."""
        return None if self.space is None else get_space(self.space).name

    def key(self, arch: Any) -> str:
        """Return one line of text for an architecture: two are equal exactly if the architectures are."""
        return arch.key() if self.space is None else get_space(self.space).key(arch)

    def genes(self, arch: Any) -> dict[str, Any]:
        """Return an architecture's genes as JSON values; without a space, the settings that the table has of it."""
        return dict(arch) if self.space is None else get_space(self.space).to_json(arch)

    def splits(self) -> Mapping[str, np.ndarray]:
        """Return the indices of the `evolve`, `validation` and `test` architectures: about 50, 20 and 30 %.

        They follow from u, the first 8 bytes of the SHA-256 of the architecture's key as a fraction of 2^64: evolve if
        u < .5, validation if u < .7, else test. So an architecture has the same split in every benchmark.
        """
        digests = [hashlib.sha256(self.key(arch).encode()).digest() for arch in self.architectures]
        fractions = [int.from_bytes(digest[:8], "big") / 2**64 for digest in digests]
        which = np.digitize(fractions, (0.5, 0.7))
        return MappingProxyType({name: np.flatnonzero(which == split) for split, name in enumerate(SPLITS)})

    def networks(self) -> tuple[Network, ...]:
        """Return what is built for each architecture: one network for each input that the tasks have.

        Tasks without an input of their own share the network of `spec`. Tasks with the same input share one too.
        """
        return networks_of(self.spec, self.tasks, self.inputs)

    def structure(self, spec: InputSpec | None = None) -> Mapping[str, np.ndarray]:
        """Return the facts of `STRUCTURE` of every architecture, float64 of shape (architectures,).

        They are those of the space at `spec`, or at the benchmark's own spec if none is given, without what the space
        does not have, such as the width of convolutional networks. A tabular benchmark, and one of a list of networks,
        has only those that its table has.
        """
        spec = spec or self.spec
        if self.space is None or spec is None or not self._closed_forms():
            genes = [self.genes(arch) for arch in self.architectures]
            return MappingProxyType(tabular_structure(genes, self.columns))
        space = get_space(self.space)
        rows = [space.structure(arch, spec) for arch in self.architectures]
        facts = zip(STRUCTURE, np.array(rows, dtype=np.float64).T, strict=True)
        return MappingProxyType({fact: values for fact, values in facts if not np.isnan(values).all()})

    @classmethod
    def from_records(
        cls,
        name: str,
        space: str | None,
        spec: InputSpec | None,
        source: str,
        tasks: Sequence[str],
        records: Sequence[Record],
        inputs: Mapping[str, TaskInput] | None = None,
        card: Mapping[str, Any] | None = None,
    ) -> "Benchmark":
        """Return the benchmark that unchecked records describe.

        The columns are those of the first record. Where a record lacks a task or column, its value is missing.

        Raises:
            BenchmarkError: a record cannot be used; the message has the number of the first such record, and why.
        """
        read_arch = _arch_reader(space)
        columns = tuple(records[0].columns) if records else ()
        by_seed = tuple(records[0].seeds) if records else ()
        by_group = tuple(records[0].groups) if records else ()
        architectures, accuracies, others, labels = [], [], [], []
        runs: dict[str, list[list[float]]] = {task: [] for task in by_seed}
        for number, record in enumerate(records):
            try:
                architectures.append(read_arch(check_plain(record.arch, "arch")))
                check_fields(record.accuracy, (), tasks)
                check_fields(record.columns, (), columns)
                accuracies.append([check_number(record.accuracy.get(t), t, 0, 100) for t in tasks])
                others.append([check_number(record.columns.get(c), c) for c in columns])
                check_fields(record.groups, (), by_group)
                labels.append([check_label(record.groups.get(name), f"group {name}") for name in by_group])
                check_fields(record.seeds, by_seed, ())
                for task in by_seed:
                    runs[task].append(checked_runs(record.seeds[task], task, runs[task]))
            except (BenchmarkError, ArchitectureError) as error:
                raise BenchmarkError(f"record {number}: {error}") from error
        by_task = dict(zip(tasks, np.array(accuracies).T, strict=False))
        by_column = dict(zip(columns, np.array(others).T, strict=False))
        seeds = {task: np.array(values) for task, values in runs.items()}
        groups = dict(zip(by_group, zip(*labels, strict=True), strict=False))
        facts = (inputs or {}, seeds, card or {}, groups)
        return cls(name, space, spec, source, tuple(architectures), by_task, by_column, *facts)

    def to_bytes(self) -> bytes:
        """Return the bytes of the benchmark's file: JSON with one record a line, and every float to its last bit."""
        head: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "space": None if self.space is None else space_record(self.space),
            "spec": None if self.spec is None else asdict(self.spec),
            "source": self.source,
            "tasks": list(self.tasks),
        }
        if self.inputs:
            head["inputs"] = inputs_to_json(self.inputs)
        if self.card:
            head["card"] = dict(self.card)
        lines = [
            orjson.dumps(
                {
                    "arch": self.genes(arch),
                    "accuracy": {task: _or_null(values[row]) for task, values in self.tasks.items()},
                    "columns": {column: _or_null(values[row]) for column, values in self.columns.items()},
                    **(
                        {"seeds": {task: runs[row].tolist() for task, runs in self.seeds.items()}} if self.seeds else {}
                    ),
                    **(
                        {"groups": {name: str(of[row]) or None for name, of in self.groups.items()}}
                        if self.groups
                        else {}
                    ),
                }
            )
            for row, arch in enumerate(self.architectures)
        ]
        return orjson.dumps(head)[:-1] + b',"records":[\n' + b",\n".join(lines) + b"\n]}\n"

    @classmethod
    def from_bytes(cls, data: bytes, spaces: Sequence[str] = (), *, changed: bool = False) -> "Benchmark":
        """Return the benchmark in a file's bytes.

        `spaces` name users' spaces, FILE.py:NAME: code of a user runs only if it is named. With `changed`, the source
        of the space may be another than when the file was written.

        Raises:
            BenchmarkError: they are no JSON or have another format or version, a record cannot be used, or the space is
                missing or has changed.
        """
        head = parse_json(data)
        if not isinstance(head, dict) or head.get("format") != FORMAT:
            raise BenchmarkError(f'not a benchmark of autoprox: there is no "format": "{FORMAT}"')
        if head.get("version") != VERSION:
            raise BenchmarkError(f"format version {quoted(head.get('version'))}; this autoprox reads version {VERSION}")
        required = ("format", "version", "name", "space", "spec", "source", "tasks", "records")
        check_fields(head, required, ("inputs", "card"))
        if not isinstance(head["space"], str | dict | None) or not isinstance(head["source"], str):
            raise BenchmarkError("space is a name, an object or null, and source a text")
        if not isinstance(head["tasks"], list) or not isinstance(head["records"], list):
            raise BenchmarkError("tasks and records are arrays")
        tasks = [check_name(task, "task") for task in head["tasks"]]
        if len(set(tasks)) < len(tasks):
            raise BenchmarkError("a task is named twice")
        records = [read_record(number, record) for number, record in enumerate(head["records"])]
        inputs = read_task_inputs(object_in(head, "inputs"))
        spec, card = read_spec(head["spec"]), object_in(head, "card")
        space = None if head["space"] is None else as_pinned(recorded_space, head["space"], spaces, changed=changed)
        return cls.from_records(head["name"], space, spec, head["source"], tasks, records, inputs, card)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the benchmark to `path`, atomically.

        Raises:
            BenchmarkError: the file would be larger than what `load` reads.
        """
        data = self.to_bytes()
        if len(data) > MAX_BYTES:
            raise BenchmarkError(
                f"{path}: {self.name} takes {len(data) / 2**20:.0f} MiB, and a benchmark's file at most "
                f"{MAX_BYTES // 2**20}; " + ("keep fewer images" if self.inputs else "split it")
            )
        write_atomically(Path(path), data)

    @classmethod
    def load(cls, path: str | os.PathLike[str], spaces: Sequence[str] = ()) -> "Benchmark":
        """Return the benchmark that `save` wrote to `path`; `spaces` are those of `from_bytes`.

        Raises:
            BenchmarkError: as `from_bytes` does; the message names the file.
            OSError: the file cannot be read.
        """
        try:
            return cls.from_bytes(read_bounded(path), spaces)
        except BenchmarkError as error:
            raise BenchmarkError(f"{path}: {error}") from error


def _arch_reader(space: str | None) -> Callable[[dict[str, Any]], Any]:
    if space is None:
        return lambda plain: TabularArchitecture(tuple(plain.items()))
    return get_space(as_pinned(pinned, space)).from_json


def _or_null(value: np.float64) -> float | None:
    return None if math.isnan(value) else float(value)
