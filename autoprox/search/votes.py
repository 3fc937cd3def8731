"""Votes: several proxies score each candidate, and their ranks among all that was scored make one score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from autoprox.bench_cache.rank_correlation import mean_ranks
from autoprox.search.candidate import Candidate
from autoprox.search.scorer import CandidateScorer

#: Candidates that every proxy scores before any of them is told.
TOGETHER = 8


def voting_scorer(scorers: Sequence[CandidateScorer]) -> CandidateScorer:
    """Return a scorer that keeps the scores of all scorers as a candidate's votes; `counted` makes scores of them.

    A candidate without a score of each has no votes, and the first reason is its problem. A scorer alone is returned
    as it is.
    """
    if len(scorers) == 1:
        return scorers[0]

    def voted(candidates: Sequence[Candidate]) -> Iterator[Candidate]:
        waiting = iter(candidates)
        while part := list(islice(waiting, TOGETHER)):
            scored = [list(scorer(part)) for scorer in scorers]
            for candidate, own in zip(part, zip(*scored, strict=True), strict=True):
                votes = tuple(each.score for each in own if each.score is not None)
                if len(votes) == len(scorers):
                    yield replace(candidate, votes=votes)
                else:
                    yield replace(candidate, problem=next(each.problem for each in own if each.score is None))

    return voted


def counted(history: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates with the scores that their votes make: the mean of their ranks by each proxy, from 0 to 1.

    A rank is the share of the others with votes that a candidate is above; of equal ones, each has the mean. So a score
    depends on what else was scored. Without votes, the candidates stay as they are.
    """
    voters = [place for place, candidate in enumerate(history) if candidate.votes]
    if not voters:
        return list(history)
    votes = np.array([history[place].votes for place in voters])
    ranks = (np.array([mean_ranks(of_proxy) for of_proxy in votes.T]) - 1) / max(1, len(voters) - 1)
    found = list(history)
    for place, score in zip(voters, ranks.mean(0), strict=True):
        found[place] = replace(history[place], score=float(score))
    return found
