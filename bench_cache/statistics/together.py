"""Scoring several benchmarks together: the networks that are held in memory, in shards of whatever benchmark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from autoprox.bench_cache.runtime.submit import results
from autoprox.bench_cache.statistics.in_memory import score_shard
from autoprox.bench_cache.statistics.protocol import Held, Scorer, rounded
from autoprox.bench_cache.statistics.shards import Members, ShardTask, packed, shard_name, shards
from autoprox.bench_cache.statistics.subject import Subject
from autoprox.primitives.formula import Formula


def scores_together(
    scorers: Sequence[Scorer], formulas: Sequence[Formula], wanted: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Return what each scorer's `scores` gives of its wanted indices; those scored from memory are scored at once."""
    return _scores(scorers, formulas, wanted, from_samples=False)


def sampled_scores(
    scorers: Sequence[Scorer], formulas: Sequence[Formula], wanted: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Return scores from a sample of each matrix of large networks, and exact ones of what is held whole."""
    return _scores(scorers, formulas, wanted, from_samples=True)


def estimates(
    scorers: Sequence[Scorer], formulas: Sequence[Formula], wanted: Sequence[np.ndarray]
) -> list[np.ndarray] | None:
    """Return scores from a sample of each matrix, which rank networks about alike and take much less time.

    None if scores of any benchmark take no longer than an estimate.
    """
    held = [scorer.held(indices) for scorer, indices in zip(scorers, wanted, strict=True)]
    if any(each is None or each.stride == 1 for each in held):
        return None
    return sampled_scores(scorers, formulas, wanted)


def _scores(
    scorers: Sequence[Scorer], formulas: Sequence[Formula], wanted: Sequence[np.ndarray], *, from_samples: bool
) -> list[np.ndarray]:
    """Return scores from memory where networks are held whole there, or as samples that may be used; else `scores`.

    Those of one stride are scored at once.
    """
    strides: dict[int, list[int]] = {}
    for number, scorer in enumerate(scorers):
        held = scorer.held(wanted[number])
        if held is not None and (from_samples or held.stride == 1):
            strides.setdefault(held.stride, []).append(number)
    found: dict[int, np.ndarray] = {}
    for numbers in strides.values():
        scores = stacked_scores([scorers[n].held for n in numbers], formulas, [wanted[n] for n in numbers])
        found.update(zip(numbers, scores, strict=True))
    return [found[n] if n in found else scorer.scores(formulas, wanted[n]) for n, scorer in enumerate(scorers)]


def shard_homes(scorers: Sequence[Scorer], wanted: Sequence[np.ndarray]) -> dict[str, str]:
    """Return the shards in which these networks, or samples of them, are held in memory, by their subjects' keys."""
    found = [scorer.held(np.unique(indices)) for scorer, indices in zip(scorers, wanted, strict=True) if len(indices)]
    held, homes = [each for each in found if each], {}
    for stride in sorted({each.stride for each in held}):
        subjects, groups = _grouped([each for each in held if each.stride == stride])
        for group in groups:
            name = shard_name([subjects[i] for i in group], stride)
            homes.update({subjects[i].key: name for i in group})
    return homes


def stacked_scores(
    networks: Sequence[Callable[[np.ndarray], Held | None]],
    formulas: Sequence[Formula],
    wanted: Sequence[np.ndarray],
) -> list[np.ndarray]:
    """Return scores from memory, formulas × indices, for each of the `Scorer.held` and its wanted indices."""
    distinct = [np.unique(indices) for indices in wanted]  # in an order of their own, whatever is asked for
    held = [each for of, indices in zip(networks, distinct, strict=True) if (each := of(indices))]
    if not formulas or not any(len(indices) for indices in wanted):
        return [np.empty((len(formulas), len(indices))) for indices in wanted]
    flat = rounded(_shard_by_shard(held, formulas))
    parts = np.split(flat, np.cumsum([len(indices) for indices in distinct])[:-1], axis=1)
    places = zip(parts, distinct, wanted, strict=True)
    return [part[:, np.searchsorted(indices, asked)] for part, indices, asked in places]


def _shard_by_shard(held: Sequence[Held], formulas: Sequence[Formula]) -> np.ndarray:
    """Return scores, formulas × all networks."""
    first, (members, groups, loads) = held[0], _placed(tuple(held))
    sent = packed(formulas) if first.executor else tuple(formulas)
    tasks = [ShardTask(of, sent, load) for of, load in zip(members, loads, strict=True)]
    found = np.empty((len(formulas), sum(map(len, groups))))
    for number, scores in results(first.executor, score_shard, tasks):
        found[:, groups[number]] = scores
    return found


@lru_cache(maxsize=16)
def _placed(held: tuple[Held, ...]) -> tuple[list[Members], list[np.ndarray], list[int]]:
    """Return the shards, which of all the networks each has, and how many layers; found once, not by every call."""
    first, (subjects, groups) = held[0], _grouped(held)
    depths = np.concatenate([each.depths for each in held])
    members = [Members.of(first.root, [subjects[i] for i in group], first.stride) for group in groups]
    return members, groups, [int(depths[group].sum()) for group in groups]


def _grouped(held: Sequence[Held]) -> tuple[list[Subject], list[np.ndarray]]:
    """Return all the networks, which are held with one stride, and which of them are a shard."""
    depths = np.concatenate([each.depths for each in held])
    return [subject for each in held for subject in each.subjects], shards(depths, held[0].stride)
