"""SmallScorer: many small networks, held in memory and scored together, stacked in shards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoprox.bench_cache.statistics.networks import NetworkScorer
from autoprox.bench_cache.statistics.subject import Subject
from autoprox.bench_cache.statistics.together import stacked_scores
from autoprox.bench_cache.statistics.worker import NetworkTask, statistics_cache
from autoprox.primitives.formula import Formula


class SmallScorer(NetworkScorer):
    """Scores of small networks, whose statistics all stay on disk and are held in memory (see shards.py)."""

    stride = 1

    @property
    def kept(self) -> range:
        """All architectures."""
        return range(len(self.subjects))

    def _fitting(self, like: Subject, kept: Sequence[Subject], missing: list[NetworkTask]) -> list[NetworkTask]:
        self._check_room(statistics_cache(str(self.root)).size(like), len(missing))
        return missing

    def scores(self, formulas: Sequence[Formula], indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return scores, formulas × indices, float64, to 40 bits (see `rounded`)."""
        self._refuse_columns(formulas)
        return stacked_scores([self.held], formulas, [np.asarray(indices, dtype=int)])[0]
