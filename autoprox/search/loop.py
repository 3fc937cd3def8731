"""The loop of every search: propose architectures, score them, go on until the budget is used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from autoprox.search.candidate import Candidate, SearchError
from autoprox.search.pareto import pareto_front
from autoprox.search.scorer import CandidateScorer
from autoprox.search.votes import counted


@dataclass(frozen=True)
class StoredScore:
    """A line of a search's journal: an architecture's key, and its score or why it has none (see `Candidate`)."""

    key: str
    score: float | None
    problem: str = ""
    latency: float | None = None
    votes: tuple[float, ...] = ()


@dataclass(frozen=True)
class SearchProgress:
    """How far a search is: `done` of `budget` architectures scored; `best` is None while none has a score."""

    done: int
    budget: int
    best: Candidate | None


@dataclass(frozen=True)
class SearchResult:
    """What a search scored, in that order.

    `finished` is False if the search was interrupted. `exhausted` is True if it ended before its budget was used,
    because no further architecture within the limits was found.
    """

    candidates: tuple[Candidate, ...]
    finished: bool = True
    exhausted: bool = False

    @property
    def ranked(self) -> tuple[Candidate, ...]:
        """The candidates, best first; equal scores in the order of scoring; those without a score last."""
        return tuple(sorted(self.candidates, key=lambda candidate: -candidate.fitness))

    def front(self, objectives: Sequence[str]) -> tuple[Candidate, ...]:
        """The candidates that no other one beats in all objectives, the best in the first objective first."""
        return pareto_front(self.candidates, objectives)


def score_proposals(
    propose: Callable[[Sequence[Candidate]], list[Candidate]],
    scorer: CandidateScorer,
    budget: int,
    stored: Sequence[StoredScore],
    on_scored: Callable[[Candidate], None],
    on_progress: Callable[[SearchProgress], None],
) -> SearchResult:
    """Score what `propose` proposes, given the history, until the budget is used or nothing is proposed.

    The first scores are taken from `stored`; `on_scored` is told the others.

    Raises:
        SearchError: no architecture has a score, or `stored` is not this search's.
    """
    history: list[Candidate] = []
    best: Candidate | None = None
    try:
        while len(history) < budget:
            so_far = counted(history)
            proposals = propose(so_far)[: budget - len(history)]
            if not proposals:
                return SearchResult(tuple(so_far), exhausted=True)
            recalled = _recalled(proposals, stored[len(history) :], len(history))
            for number, candidate in enumerate((*recalled, *scorer(proposals[len(recalled) :]))):
                if number >= len(recalled):
                    on_scored(candidate)
                history.append(candidate)
                best = candidate if best is None or candidate.fitness > best.fitness else best
                on_progress(SearchProgress(len(history), budget, best if best.score is not None else None))
            if all(candidate.score is None and not candidate.votes for candidate in history):
                raise SearchError(f"none of the first {len(history)} architectures has a score: {history[0].problem}")
    except KeyboardInterrupt:
        if not history:
            raise
        return SearchResult(tuple(counted(history)), finished=False)
    return SearchResult(tuple(counted(history)))


def _recalled(proposals: Sequence[Candidate], stored: Sequence[StoredScore], before: int) -> list[Candidate]:
    """Return the first proposals with their stored scores, as many as have one; `before` numbers the error message."""
    pairs = list(zip(proposals, stored, strict=False))  # as many as the shorter has
    for number, (proposal, known) in enumerate(pairs, before + 1):
        if proposal.key != known.key:
            raise SearchError(
                f"architecture {number} of the stored history is not what this search would score; "
                "was it written with other settings or by another version of autoprox? Start a new search"
            )
    return [
        replace(
            proposal,
            score=known.score,
            problem=known.problem,
            latency=known.latency,
            votes=tuple(known.votes),
        )
        for proposal, known in pairs
    ]
