"""The protocol of scorers: formulas' scores on a benchmark's architectures, wherever they come from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.benchmarks.task_input import Network
from autoprox.bench_cache.statistics.subject import Subject
from autoprox.primitives.formula import Formula

#: Told of work as it is done: how many networks, of how many.
BuildProgress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Held:
    """Networks that workers hold in memory, stacked in shards: every `stride`-th row and column of their matrices.

    From stride 1 come scores, from a larger one estimates. `depths` has the number of layers of each subject.
    """

    root: Path
    executor: Executor | None
    stride: int
    subjects: tuple[Subject, ...]
    depths: np.ndarray


class Scorer(Protocol):
    """Formulas' scores on the architectures of one benchmark, built for `network`, one of its inputs.

    `structure` has what is known of the architectures without building them.
    """

    benchmark: Benchmark
    network: Network
    structure: Mapping[str, np.ndarray]

    @property
    def kept(self) -> Collection[int]:
        """The architectures that are scored from what is stored; the others' networks run again each time."""
        ...

    def prepare(
        self,
        formulas: Iterable[Formula],
        indices: Iterable[int],
        progress: BuildProgress | None = None,
        homes: Mapping[str, str] | None = None,
    ) -> None:
        """Do ahead what scores of the formulas on these architectures will need; see `NetworkScorer.prepare`."""
        ...

    def scores(self, formulas: Sequence[Formula], indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return scores, formulas × indices, float64, to 40 bits (see `rounded`); NaN where there is none."""
        ...

    def held(self, indices: np.ndarray) -> Held | None:
        """Return the networks of these architectures as they are held in memory; None where there are no networks."""
        ...


#: How many bits of a mantissa `rounded` drops.
_DROPPED = 13


def rounded(scores: np.ndarray) -> np.ndarray:
    """Return scores to 40 of their 53 bits, about 12 digits.

    The last bits of a function such as pow depend on the place of a number in its vector. They must not tell apart
    two networks that are equal to a formula: where it cannot rank, it has a tie.
    """
    scores = np.asarray(scores, dtype=np.float64)
    bits = scores.view(np.int64)  # sign, exponent, mantissa: a carry goes where it should
    half = (bits >> _DROPPED & 1) + (2 ** (_DROPPED - 1) - 1)  # of two as near, the even one
    found = (bits + half & -(2**_DROPPED)).view(np.float64)
    minute = (np.abs(scores) < np.finfo(np.float64).tiny) & (scores != 0)  # whose mantissas begin further down
    if minute.any():
        mantissa, exponent = np.frexp(scores[minute])
        found[minute] = np.ldexp(np.rint(mantissa * 2.0 ** (53 - _DROPPED)), exponent - (53 - _DROPPED))
    return found
