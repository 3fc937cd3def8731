"""TabularScorer: formulas' values from what a benchmark's table says of its architectures; no network is built."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from autoprox.bench_cache.benchmarks.table import STRUCTURE, Benchmark
from autoprox.bench_cache.benchmarks.task_input import Network
from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.bench_cache.spaces.registry import InputSpec
from autoprox.bench_cache.statistics.protocol import BuildProgress, Held
from autoprox.bench_cache.statistics.vectors import Vectors
from autoprox.primitives.formula import Formula, statistic
from autoprox.primitives.operations import MAX
from autoprox.primitives.statistics import COLUMN


def known(benchmark: Benchmark, spec: InputSpec | None = None) -> Mapping[str, np.ndarray]:
    """Return what is known of every architecture without its network, by the name of the statistic.

    It is the facts of `STRUCTURE` as far as the benchmark has them, and `column[NAME]` for each column; NaN where a
    value is missing.
    """
    columns = {str(statistic(COLUMN, name)): values for name, values in benchmark.columns.items()}
    return {**benchmark.structure(spec), **columns}


def common_statistics(benchmarks: Sequence[Benchmark]) -> tuple[Formula, ...]:
    """Return the statistics that every benchmark knows of each of its architectures: structure, then columns, in order.

    A statistic that lacks a value anywhere is left out, so that no formula chooses the architectures it is judged on.
    So is a column that repeats the structure. Where no column is left, formulas are of sizes alone.

    Raises:
        BenchmarkError: nothing is left.
    """
    tables = [known(benchmark) for benchmark in benchmarks]
    complete = [
        name for name in tables[0] if all(name in table and not np.isnan(table[name]).any() for table in tables)
    ]
    if not complete:
        names = ", ".join(benchmark.name for benchmark in benchmarks)
        raise BenchmarkError(
            f"neither a size nor a column has a value for every architecture of {names}: there is nothing that "
            "--grammar tabular combines"
        )
    facts = [name for name in STRUCTURE if name in complete]
    columns = [name for name in complete if name not in STRUCTURE]
    new = [c for c in columns if not any(all(np.array_equal(table[c], table[f]) for table in tables) for f in facts)]
    return tuple([statistic(name) for name in facts] + [_column(name) for name in new])


def _column(name: str) -> Formula:
    return statistic(COLUMN, name.removeprefix(f"{COLUMN}[").removesuffix("]"))


#: On how many splits a scorer keeps the vectors of formulas: evolution looks at two.
_GRAPHS = 2


class TabularScorer:
    """Formulas' scores on the architectures of one benchmark, from its columns and structure.

    The benchmark may have a space: its columns are then read beside the structure
    that the space computes for `network`, one of `Benchmark.networks`.
    """

    def __init__(self, benchmark: Benchmark, *, network: Network | None = None) -> None:
        self.benchmark = benchmark
        self.network = network or benchmark.networks()[0]
        self.structure = benchmark.structure(self.network.spec)
        self.known = known(benchmark, self.network.spec)
        # Operations are total on numbers only: what is missing is put back into the scores.
        self._numbers = {name: np.clip(np.nan_to_num(values), -MAX, MAX) for name, values in self.known.items()}
        self._graphs: dict[bytes, Vectors] = {}
        self._gaps = {name: np.isnan(values) for name, values in self.known.items() if np.isnan(values).any()}

    def check(self, formulas: Iterable[Formula]) -> None:
        """Check that the formulas read nothing but the benchmark's table.

        Raises:
            BenchmarkError: a formula reads something else.
        """
        for formula in formulas:
            for terminal in formula.terminals():
                if str(terminal) not in self.known:
                    raise BenchmarkError(
                        f"'{formula.text:.80}' reads {terminal}, which the table of benchmark {self.benchmark.name} "
                        f"does not have; there are {', '.join(self.known) or 'none'}"
                    )

    @property
    def kept(self) -> range:
        """All architectures: a table is read without any network."""
        return range(len(self.benchmark))

    def held(self, indices: np.ndarray) -> Held | None:
        """Return None: a table has no networks."""
        return None

    def prepare(
        self,
        formulas: Iterable[Formula],
        indices: Iterable[int],
        progress: BuildProgress | None = None,
        homes: Mapping[str, str] | None = None,
    ) -> None:
        """Check the formulas: there is nothing to build."""
        self.check(formulas)

    def scores(self, formulas: Sequence[Formula], indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return scores, formulas × indices, float64, to 40 bits (see `rounded`).

        Numbers are read within ±MAX, the range of the operations. A score is NaN, which is missing, exactly where a
        number that the formula reads is.

        Raises:
            BenchmarkError: as for `check`.
        """
        indices = np.asarray(indices, dtype=int)
        try:
            scores = self._vectors(indices).of(formulas)
        except KeyError:
            self.check(formulas)
            raise
        for formula, row in zip(formulas, scores, strict=True) if self._gaps else ():
            gaps = [self._gaps[str(terminal)] for terminal in formula.terminals() if str(terminal) in self._gaps]
            row[np.any(gaps, axis=0)[indices] if gaps else []] = np.nan
        return scores

    def _vectors(self, indices: np.ndarray) -> Vectors:
        """Return the graph of formulas on these architectures; those of the last few splits are kept."""
        key = indices.tobytes()
        found = self._graphs.pop(key, None) or Vectors(lambda node: self._numbers[node.text][indices], len(indices))
        self._graphs[key] = found
        if len(self._graphs) > _GRAPHS:
            self._graphs.pop(next(iter(self._graphs)))
        return found
