"""Comparison: whether the architectures of a search are better than random ones of their size, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

#: The share of intervals, over repetitions, that hold the true mean.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """An interval of a mean over `count` values; NaN where there is one value, which shows no spread."""

    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Comparison:
    """Test accuracies of rows minus those of random architectures of their size, in points.

    Attributes:
        difference: the mean over all pairs and seeds.
        over_seeds: the interval of the mean over seeds, for these pairs of architectures.
        over_pairs: the interval of the mean over pairs of architectures.
    """

    difference: float
    over_seeds: Interval
    over_pairs: Interval
    band: float

    @property
    def verdict(self) -> str:
        """`helped` or `harmed` where every interval that there is lies on one side of 0, with one at least; `open`."""
        known = [each for each in (self.over_seeds, self.over_pairs) if not math.isnan(each.low)]
        if known and all(each.low > 0 for each in known):
            return "helped"
        return "harmed" if known and all(each.high < 0 for each in known) else "open"

    def words(self) -> Iterator[str]:
        """Yield sentences: the verdict, the intervals, and what they do not say."""
        better = "better" if self.difference >= 0 else "worse"
        yield {
            "helped": "Search helped.",
            "harmed": "Search did not help: random architectures of the same size are better.",
            "open": "It is not shown that search helped.",
        }[self.verdict]
        size = f"random ones of the same size (parameters within {self.band:.3g} %)"
        pairs = f"pair{'s' if self.over_pairs.count > 1 else ''}"
        yield (
            f"Its architectures are {abs(self.difference):.2f} points {better} than {size}, as a mean over "
            f"{self.over_pairs.count} {pairs} and {self.over_seeds.count} seed{'s' * (self.over_seeds.count > 1)}."
        )
        for name, each in (("seeds", self.over_seeds), ("pairs of architectures", self.over_pairs)):
            if not math.isnan(each.low):
                yield f"95 % interval over {name}: {each.low:+.2f} to {each.high:+.2f} points."
        if math.isnan(self.over_seeds.low):
            yield "One seed shows no spread: give --seeds 5."
        if math.isnan(self.over_pairs.low):
            yield "One pair says nothing of other random architectures: give more rows, such as --rows 1-5."


def compared(rows: np.ndarray, rivals: np.ndarray, band: float) -> Comparison:
    """Return the comparison of accuracies in percent, each pairs × seeds; `band` is in percent of the parameters.

    The intervals are Student's: mean ± t · s / √n, over the n means of each seed or of each pair.
    """
    differences = rows - rivals
    return Comparison(
        float(differences.mean()), _interval(differences.mean(0)), _interval(differences.mean(1)), 100 * band
    )


def _interval(values: np.ndarray) -> Interval:
    count = len(values)
    if count < 2:
        return Interval(math.nan, math.nan, count)
    reach = stdtrit(count - 1, (1 + CONFIDENCE) / 2) * values.std(ddof=1) / math.sqrt(count)
    return Interval(float(values.mean() - reach), float(values.mean() + reach), count)
