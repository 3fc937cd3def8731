"""Rank correlation: Kendall's tau-b, exact, of one score or of many with the same accuracies, and in resamples.

It is our own because scipy's `kendalltau` takes .7 ms for 1,000 items, most of it before it counts, and ranks the
accuracies anew for each score. Here 1,000 scores take .04 ms each. The tests hold both against each other, bit for bit.

How discordant pairs are counted. Items stand in the order of the accuracies, and r is their place in the order of the
scores; a discordant pair is an inversion of r. Places are cut into blocks of about √n, on both sides. Two items that
share no block are an inversion if their blocks are, which a table of blocks × blocks tells. Items that share a block
are compared in pairs, one comparison for the blocks of all scores at once. That is O(n √n) with simple steps, which for
100 to 10,000 items is less than an O(n log n) that numpy has to be led through.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

#: The fewest accuracies for which `kendall` is defined.
FEWEST = 3
#: Scores are taken so many numbers at a time, so that what they need stays in the processor's cache.
AT_ONCE = 2**16
#: So many comparisons or fewer are made of all pairs at once, because few items are not worth a table of blocks.
FEW = 2**19
#: Counts in resamples are taken so many numbers at a time.
CELLS = 2**22


def tau_b(x: np.ndarray, y: np.ndarray) -> float:
    """Return Kendall's tau-b of two vectors, bit for bit that of `scipy.stats.kendalltau`.

    τ_b = (C − D) / √((P − T_x)(P − T_y)), with C concordant and D discordant pairs of all P, and T tied ones. It is NaN
    where either is constant or has a NaN, and for fewer than two items.
    """
    if np.isnan(y).any():
        return float("nan")
    return float(FixedRanks(y).taus(np.asarray(x)[None])[0])


def kendall(scores: np.ndarray, accuracies: np.ndarray) -> float:
    """Return Kendall's tau-b over the architectures whose accuracy is not missing.

    It is NaN where scores or accuracies are constant, where a score is NaN, and for fewer than 3 accuracies.
    """
    return float(FixedRanks(accuracies).taus(scores[None])[0]) if _enough(accuracies) else float("nan")


def kendalls(scores: np.ndarray, accuracies: np.ndarray) -> np.ndarray:
    """Return `kendall` of each row of scores: formulas × architectures."""
    return FixedRanks(accuracies).taus(scores) if _enough(accuracies) else np.full(len(scores), np.nan)


def mean_ranks(values: np.ndarray) -> np.ndarray:
    """Return the rank of each value of a vector, from 1; equal ones share their mean rank, and NaN has NaN.

    It is scipy's `rankdata(values, nan_policy="omit")`; importing that takes two seconds.
    """
    there = ~np.isnan(values)
    _, group, sizes = np.unique(values[there], return_inverse=True, return_counts=True)
    ranks = np.full(len(values), np.nan)
    ranks[there] = (np.cumsum(sizes) - (sizes - 1) / 2)[group]
    return ranks


def _enough(accuracies: np.ndarray) -> bool:
    return int(np.count_nonzero(~np.isnan(accuracies))) >= FEWEST


class FixedRanks:
    """Accuracies that many scores are compared with. They are ranked once; what is NaN is left out."""

    def __init__(self, accuracies: np.ndarray) -> None:
        there = np.flatnonzero(~np.isnan(accuracies))
        self._places = there[np.argsort(accuracies[there], kind="stable")]
        ordered = accuracies[self._places]
        same = ordered[1:] == ordered[:-1]
        self._tied = int(_pairs_in_runs(same[None])[0])
        self._group = np.concatenate([[0], np.cumsum(~same)])[: len(ordered)]

    def taus(self, scores: np.ndarray) -> np.ndarray:
        """Return the tau-b of each row of scores, which has a number for each accuracy: see `tau_b`."""
        taus, n = np.full(len(scores), np.nan), len(self._places)
        if n < 2 or self._tied == n * (n - 1) // 2:
            return taus
        for rows in _parts(len(scores), n):
            x = scores[rows][:, self._places].astype(np.float64, copy=False)  # a copy
            missing = np.isnan(x.sum(axis=1)) & np.isnan(x).any(axis=1)  # infinities of both signs have no sum
            x[missing] = 0.0
            taus[rows] = np.where(missing, np.nan, self._of_numbers(x))
        return taus

    def _of_numbers(self, x: np.ndarray) -> np.ndarray:
        """Return the tau-b of rows in the order of the accuracies, none of which is NaN."""
        n = x.shape[1]
        pairs = n * (n - 1) // 2
        order, tied, tied_in_both = self._ordered(x)
        ranks = _inverse(order)
        if (
            self._tied
        ):  # within equal accuracies in the order of the scores, so that none of their pairs is an inversion
            base = self._group * n
            ranks = np.sort(base + ranks, axis=1) - base
            order = _inverse(ranks)
        difference = pairs - tied - self._tied + tied_in_both - 2 * _inversions(ranks, order)
        varies = tied < pairs
        spread = np.sqrt(np.where(varies, pairs - tied, 1))
        return np.where(varies, np.clip(difference / spread / np.sqrt(pairs - self._tied), -1.0, 1.0), np.nan)

    def _ordered(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the order of each row, equal numbers in that of the accuracies; its tied pairs; those tied in both."""
        order, same = _by_key(x) or _by_number(x)
        tied = tied_in_both = np.zeros(len(x), dtype=np.int64)
        rows = np.flatnonzero(same.any(axis=1))
        if len(rows):
            groups = self._group[order[rows]]
            both = same[rows] & (groups[:, 1:] == groups[:, :-1])
            tied, tied_in_both = tied.copy(), tied_in_both.copy()
            tied[rows], tied_in_both[rows] = _pairs_in_runs(same[rows]), _pairs_in_runs(both)
        return order, tied, tied_in_both


def _by_key(x: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return what `_by_number` does, if the numbers of a row have room for their places: scores that are `rounded` do.

    A number and its place are one integer key, whose order is that of the numbers. Sorting keys takes a third of what
    it takes to sort places by numbers.
    """
    room = 2 ** (x.shape[1] - 1).bit_length() - 1
    bits = (x + 0.0).view(np.int64)  # no negative zero
    if (bits & room).any():
        return None
    upwards = bits ^ (bits >> 63 & np.iinfo(np.int64).max)  # negative numbers turned round
    keys = np.sort(upwards & ~room | np.arange(x.shape[1]), axis=1)
    return keys & room, (keys[:, 1:] ^ keys[:, :-1]) & ~room == 0


def _by_number(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the order of each row, equal numbers by place, and of each but the first if it equals the one before."""
    order = np.argsort(x, axis=1)  # by far the fastest of numpy's, but equal numbers come as they like
    ordered = np.take_along_axis(x, order, axis=1)
    same = ordered[:, 1:] == ordered[:, :-1]
    rows = np.flatnonzero(same.any(axis=1))
    if len(rows):
        dense = np.zeros((len(rows), x.shape[1]), dtype=np.int64)
        np.cumsum(~same[rows], axis=1, out=dense[:, 1:])
        order[rows] = np.sort(dense * x.shape[1] + order[rows], axis=1) % x.shape[1]
    return order, same


def tied_fractions(scores: np.ndarray) -> np.ndarray:
    """Return the fraction of pairs with equal numbers in each row; 1 for fewer than two items, which rank nothing."""
    n = scores.shape[1]
    if n < 2:
        return np.ones(len(scores))
    tied = np.zeros(len(scores), dtype=np.int64)
    for rows in _parts(len(scores), n):
        ordered = np.sort(scores[rows], axis=1)
        same = ordered[:, 1:] == ordered[:, :-1]
        if same.any():
            tied[rows] = _pairs_in_runs(same)
    return tied / (n * (n - 1) // 2)


def _parts(rows: int, size: int) -> Iterator[slice]:
    """Yield the rows of a size, as many at a time as are worked on at once."""
    step = max(1, AT_ONCE // max(size, 1))
    return (slice(first, first + step) for first in range(0, rows, step))


def _pairs_in_runs(same: np.ndarray) -> np.ndarray:
    """Return how many pairs of each row are in one run; `same` says of each item but the first if it goes on with one.

    An item pairs with all before it in its run.
    """
    places = np.arange(1, same.shape[1] + 1)
    starts = np.maximum.accumulate(np.where(same, 0, places), axis=1)
    return (places - starts).sum(axis=1)


def _inverse(orders: np.ndarray) -> np.ndarray:
    """Return the inverse of the permutation in each row."""
    rows, n = orders.shape
    inverse = np.empty(orders.size, dtype=orders.dtype)
    inverse[(orders + n * np.arange(rows)[:, None]).ravel()] = np.tile(np.arange(n, dtype=orders.dtype), rows)
    return inverse.reshape(rows, n)


def _inversions(ranks: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return how many pairs i < j of each row have r_i > r_j, given permutations and their inverses."""
    rows, n = ranks.shape
    small = np.int16 if n < 2**15 else np.int32
    if rows * n * n <= FEW:
        few: np.ndarray = ranks.astype(small)
        larger = few[:, :, None] > few[:, None, :]
        return np.count_nonzero(larger & ~np.tri(n, dtype=bool), axis=(1, 2))
    width = int(np.clip(2 ** round(np.log2(n) / 2 - (rows < AT_ONCE // n)), 8, 256))  # few rows: fewer, larger steps
    blocks = -(-n // width)
    found = _within_blocks(ranks.astype(small), width, np.iinfo(small).max)
    of_order = order // width
    smaller = np.uint8 if blocks < 2**8 else np.int32
    found += _within_blocks(of_order.astype(smaller), width, np.iinfo(smaller).max)
    cells = ranks // width
    cells += (np.arange(n) // width) * blocks
    cells += np.arange(rows)[:, None] * (blocks * blocks)
    table = np.bincount(cells.ravel(), minlength=rows * blocks * blocks).reshape(rows, blocks, blocks)
    below, before = np.zeros_like(table), np.zeros_like(table)
    np.cumsum(table[:, :, :-1], axis=2, out=below[:, :, 1:])  # items of lower blocks by rank
    np.cumsum(table[:, :-1], axis=1, out=before[:, 1:])  # items of lower blocks by place
    return found + (below * before).sum(axis=(1, 2))


def _within_blocks(values: np.ndarray, width: int, last: int) -> np.ndarray:
    """Return how many pairs i < j of each row are in one block of `width` places and have v_i > v_j."""
    rows, n = values.shape
    blocks = -(-n // width)
    padded = np.full((rows, blocks * width), last, dtype=values.dtype)
    padded[:, :n] = values
    by_place = np.ascontiguousarray(padded.reshape(rows * blocks, width).T)
    found = np.zeros(rows * blocks, dtype=np.uint16)
    for place in range(width - 1):
        larger = by_place[place] > by_place[place + 1 :]
        found += np.add.reduce(larger.view(np.uint8), axis=0, dtype=np.uint8)
    return found.reshape(rows, blocks).sum(axis=1, dtype=np.int64)


# --- resamples ---


def resampled_taus(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return Kendall's tau-b of x and y in each resample; 0 where either is constant, or has a NaN.

    `counts` says how often each item is in each resample: whole numbers, resamples × items. With A and B the signs of
    x_i − x_j and y_i − y_j, and c the counts: Σ c_i c_j A_ij B_ij / √(Σ c_i c_j A_ij² · Σ c_i c_j B_ij²).
    """
    taus = np.zeros(len(counts))
    if not counts.shape[1] or np.isnan(x).any() or np.isnan(y).any():
        return taus
    width = int(max(64, 2 ** round(np.log2(counts.shape[1]) / 2)))
    sides = _Side.of(x, width), _Side.of(y, width)
    cells = sides[0].blocks * sides[1].blocks + counts.shape[1]
    for rows in _parts(len(counts), AT_ONCE * cells // CELLS):
        drawn = np.ascontiguousarray(counts[rows].T, dtype=np.float32)  # exact: they are whole, and sums below 2²⁴
        scale = np.sqrt(_untied_pairs(sides[0], drawn) * _untied_pairs(sides[1], drawn))
        taus[rows] = np.divide(_agreement(*sides, drawn), scale, out=np.zeros_like(scale), where=scale > 0)
    return taus


class _Side:
    """One of two vectors: its order, and the blocks that items are in. A block has whole groups of equal numbers.

    `group` and `block` are of each item. A group of more than `width` items is a block of its own.
    """

    def __init__(self, order: np.ndarray, group: np.ndarray, block: np.ndarray) -> None:
        self.order, self.group, self.block = order, group, block
        self.blocks = int(block.max()) + 1
        self.starts = np.searchsorted(group[order], np.arange(int(group.max()) + 1))

    @classmethod
    def of(cls, values: np.ndarray, width: int) -> _Side:
        """Return the side of a vector."""
        order = np.argsort(values, kind="stable")
        _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
        starts = np.cumsum(sizes) - sizes
        large = sizes > width
        begins = np.r_[True, (starts[1:] // width != starts[:-1] // width) | large[1:] | large[:-1]]
        return cls(order, group, (np.cumsum(begins) - 1)[group])


def _untied_pairs(side: _Side, drawn: np.ndarray) -> np.ndarray:
    """Return Σ c_i c_j over pairs of different numbers, each in both orders, in each resample (items × resamples)."""
    sizes = _sums(drawn, side.order, side.starts)
    return sizes.sum(0, dtype=np.float64) ** 2 - np.einsum("gr,gr->r", sizes, sizes, dtype=np.float64)


def _sums(drawn: np.ndarray, order: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return the sums of groups of rows, which start at these places of the order."""
    ordered = drawn[order]
    if len(starts) == len(order):
        return ordered
    upto = np.cumsum(ordered, axis=0)[np.append(starts[1:], len(order)) - 1]  # numpy's reduceat takes ten times longer
    upto[1:] -= upto[:-1].copy()
    return upto


def _agreement(x: _Side, y: _Side, drawn: np.ndarray) -> np.ndarray:
    """Return Σ c_i c_j A_ij B_ij over all pairs, in both orders, in each resample; counts are items × resamples.

    Items that share no block agree as their blocks do. Those that share one are compared pair by pair.
    """
    cells = x.block * y.blocks + y.block
    order = np.argsort(cells, kind="stable")
    filled, starts = np.unique(cells[order], return_index=True)
    table = np.zeros((x.blocks * y.blocks, drawn.shape[1]), dtype=np.float32)
    table[filled] = _sums(drawn, order, starts)
    signs = [(np.tri(side.blocks, k=-1) - np.tri(side.blocks, k=-1).T).astype(np.float32) for side in (x, y)]
    across = (signs[0] @ table.reshape(x.blocks, -1)).reshape(x.blocks, y.blocks, -1)
    found = np.einsum("cr,cr->r", table, np.matmul(signs[1], across).reshape(table.shape), dtype=np.float64)
    return found + _sharing(x, y, drawn, x) + _sharing(x, y, drawn, y)


def _sharing(x: _Side, y: _Side, drawn: np.ndarray, side: _Side) -> np.ndarray:
    """Return the part of pairs that share a block of one side; those that share one of both count with that of x."""
    found, ordered = np.zeros(drawn.shape[1]), drawn[side.order]
    bounds = np.searchsorted(side.block[side.order], np.arange(side.blocks + 1))
    for first, end in pairwise(bounds):
        items = side.order[first:end]
        if side.group[items[0]] == side.group[items[-1]]:
            continue  # all are equal
        signs = np.sign(x.group[items][:, None] - x.group[items]) * np.sign(y.group[items][:, None] - y.group[items])
        if side is y:
            signs *= x.block[items][:, None] != x.block[items]
        here = ordered[first:end]
        found += np.einsum("ir,ir->r", signs.astype(np.float32) @ here, here, dtype=np.float64)
    return found
