"""LargeScorer: large networks, scored exactly one by one; estimates come from samples that are held in memory."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.benchmarks.task_input import Network
from autoprox.bench_cache.runtime.devices import CPU
from autoprox.bench_cache.runtime.submit import results
from autoprox.bench_cache.statistics.networks import NetworkScorer
from autoprox.bench_cache.statistics.number_store import NumberStore, scope
from autoprox.bench_cache.statistics.protocol import rounded
from autoprox.bench_cache.statistics.subject import Subject
from autoprox.bench_cache.statistics.version import statistics_version
from autoprox.bench_cache.statistics.worker import NetworkTask, is_built, reduce_network, statistics_cache
from autoprox.primitives.evaluate import Layout, finish, is_readable, requirements, slot_parts
from autoprox.primitives.formula import Formula

#: Every so many rows and columns are held in memory, to tell early which formulas are hopeless.
STRIDE = 8
#: Bytes of parts' numbers that a scorer remembers; what was used longest ago is computed again when needed.
REMEMBERED = 2**28


class LargeScorer(NetworkScorer):
    """Scores of networks that are read one by one.

    Every single-slot reduction is computed once for each architecture, whatever formulas, roles or generations it
    appears in. Statistics of the architectures in `kept` stay on disk, all without it; the others' are read from the
    network when they are needed, which gives the same numbers. With `sampled` only samples stay. Other
    arguments are those of `NetworkScorer`.
    """

    stride = STRIDE

    def __init__(
        self,
        benchmark: Benchmark,
        root: Path,
        *,
        network: Network | None = None,
        batch: int = 2,
        seed: int = 0,
        kept: Iterable[int] | None = None,
        sampled: bool = False,
        executor: Executor | None = None,
        device: str = CPU,
    ) -> None:
        super().__init__(benchmark, root, network=network, batch=batch, seed=seed, executor=executor, device=device)
        self.sampled = sampled
        self._kept = set() if sampled else set(range(len(benchmark)) if kept is None else (int(i) for i in kept))
        self.store = NumberStore(root / statistics_version(self.space))
        self._parts: dict[Formula, np.ndarray] = {}  # part → architectures × blocks, NaN where not computed
        self._net: dict[str, np.ndarray] = {}

    @property
    def kept(self) -> set[int]:
        """The architectures whose statistics stay on disk."""
        return self._kept

    def _fitting(self, like: Subject, kept: Sequence[Subject], missing: list[NetworkTask]) -> list[NetworkTask]:
        """Return the tasks of what is missing, if each takes as much as `like`.

        Statistics take half of the disk's room at most: of the networks beyond, only samples are kept, and the rest is
        read from the network each time.
        """
        store = statistics_cache(str(self.root))
        if self.sampled:
            self._check_room(store.size(like, self.stride), len(missing))
            return missing
        size, free = store.size(like), shutil.disk_usage(self.root).free
        used = sum(map(store.size, kept))
        fitting = max(0, ((free + used) // 2 - used) // size)
        beyond = [replace(task, keep=False) for task in missing[fitting:]]
        places = {subject.key: i for i, subject in enumerate(self.subjects)}
        self._kept -= {places[task.subject.key] for task in beyond}
        return [*missing[:fitting], *(task for task in beyond if not is_built(task))]

    def scores(self, formulas: Sequence[Formula], indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return scores, formulas × indices, float64, to 40 bits (see `rounded`); NaN where layers lack."""
        self._refuse_columns(formulas)
        indices = np.asarray(indices, dtype=int)
        result = np.full((len(formulas), len(indices)), np.nan)
        readable = [row for row, formula in enumerate(formulas) if is_readable(formula, self.convolutional)]
        if readable and len(indices):
            result[readable] = self._scores([formulas[row] for row in readable], indices)
        return result

    def _scores(self, formulas: Sequence[Formula], indices: np.ndarray) -> np.ndarray:
        parts = list(dict.fromkeys(part for formula in formulas for part in _parts(formula, self.convolutional)))
        numbers = sorted({name for name, _ in requirements(formulas) if _is_net(formulas, name)})
        self._compute(parts, numbers, indices)
        order = np.argsort(self.depths[indices], kind="stable")
        result = np.empty((len(formulas), len(indices)))
        result[:, order] = self._finish(formulas, indices[order])
        self._forget()
        return rounded(result)

    def _forget(self) -> None:
        """Drop the parts that were used longest ago, beyond what is remembered."""
        size = sum(numbers.nbytes for numbers in self._parts.values())
        while size > REMEMBERED:
            size -= self._parts.pop(next(iter(self._parts))).nbytes

    def _finish(self, formulas: Sequence[Formula], indices: np.ndarray) -> np.ndarray:
        """Return scores, formulas × indices; networks are in the order of their depths."""
        depths = self.depths[indices]
        whose, blocks = np.repeat(indices, depths), np.concatenate([np.arange(depth) for depth in depths])

        def layers(node: Formula) -> Tensor:
            columns = [self._parts[part][whose, blocks] for part in slot_parts(node, self.convolutional)]
            return torch.from_numpy(np.stack(columns, axis=-1))

        def net(name: str) -> Tensor:
            return torch.from_numpy(self._net[name][indices])[:, None]

        layout = Layout(depths.tolist())
        return np.stack([finish(formula, layers, net, layout).numpy() for formula in formulas])

    def _compute(self, parts: Sequence[Formula], numbers: Sequence[str], indices: np.ndarray) -> None:
        """Fill in what is missing of the parts and numbers at the indices."""
        self._recall(parts)
        for name in numbers:
            self._net.setdefault(name, np.full(len(self.subjects), np.nan))
        tasks, places = [], []
        for i in indices:
            lacking = tuple(part for part in parts if np.isnan(self._parts[part][i, 0]))
            absent = tuple(name for name in numbers if np.isnan(self._net[name][i]))
            if lacking or absent:
                subject, keep = self.subjects[i], int(i) in self.kept
                tasks.append(NetworkTask(str(self.root), subject, lacking, absent, keep, home=self._home(subject)))
                places.append(i)
        done = 0
        try:
            for done, (number, (rows, net)) in enumerate(results(self.executor, reduce_network, tasks), 1):
                i = places[number]
                for part, row in zip(tasks[number].parts, rows, strict=True):
                    self._parts[part][i, : len(row)] = row
                for name, value in net.items():
                    self._net[name][i] = value
                self.reading(done, len(tasks))
        finally:  # what was computed before an interruption is kept too
            fresh = dict.fromkeys(part for task in tasks for part in task.parts if part.args and part.built_in)
            self.store.write(self._scope, {part.text: self._parts[part] for part in fresh} if done else {})

    def _recall(self, parts: Sequence[Formula]) -> None:
        """Put the parts last in the order of use, and fill new ones with what earlier runs have stored."""
        shape = (len(self.subjects), int(self.depths.max()))
        new = [part.text for part in parts if part.args and part.built_in and part not in self._parts]
        stored = self.store.read(self._scope, new, shape) if new else {}
        for part in parts:
            known = self._parts.pop(part, None)
            if known is None and part.built_in:  # of others the store does not know what they compute
                known = stored.get(part.text)
            self._parts[part] = np.full(shape, np.nan) if known is None else known

    @cached_property
    def _scope(self) -> str:
        return scope(subject.key for subject in self.subjects)


def _parts(formula: Formula, convolutional: bool) -> Iterator[Formula]:
    """Yield the single-slot reductions and layer statistics of a formula."""
    for node in formula.nodes():
        if node.kind.level == "layer" and (not node.args or any(arg.kind.level == "matrix" for arg in node.args)):
            yield from slot_parts(node, convolutional)


def _is_net(formulas: Iterable[Formula], name: str) -> bool:
    return any(t.statistic.name == name and t.kind.level == "net" for f in formulas for t in f.terminals())
