"""Fronts of several objectives, by hand and by brute force, and NSGA-II."""

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprox.bench_cache.spaces.registry import InputSpec, get_space
from autoprox.search.candidate import Candidate, SearchError
from autoprox.search.limits import Limits
from autoprox.search.on_space import search
from autoprox.search.pareto import OBJECTIVES, pareto_front, sorted_into_fronts, worth
from autoprox.search.strategies import SearchSettings, nsga2

SPEC = InputSpec(image_size=24, num_classes=10, patch_size=8)
BOTH = ("score", "params")


def candidates(points: Sequence[tuple[float | None, float]]) -> list[Candidate]:
    """Candidates of these scores and parameters; their keys are their numbers."""
    return [Candidate(n, str(n), params, 0, 0, 0, 0, score) for n, (score, params) in enumerate(points)]


def keys(found: Sequence[Candidate]) -> list[str]:
    return [candidate.key for candidate in found]


def test_a_small_front_by_hand() -> None:
    """0 has the best score, 3 the fewest parameters, 2 stands between; 1 is beaten by 0, 4 by 2, and 5 has no score."""
    points = [(9, 70), (8, 80), (6, 50), (1, 10), (5, 50), (None, 1)]
    assert keys(pareto_front(candidates(points), BOTH)) == ["0", "2", "3"]
    assert keys(pareto_front(candidates(points), ("params", "score"))) == ["3", "2", "0"]
    assert keys(pareto_front(candidates(points), ("score",))) == ["0"]


def test_fronts_and_spreads_by_hand() -> None:
    """Of the four on the first front, 2 has neighbours at (9, 70) and (3, 20); scores go from 1 to 9, params to 70."""
    placed = {
        entry.candidate.key: (entry.front, entry.spread)
        for entry in sorted_into_fronts(candidates([(9, 70), (8, 80), (6, 50), (1, 10), (5, 50), (3, 20)]), BOTH)
    }
    assert {key: front for key, (front, _) in placed.items()} == {"0": 0, "2": 0, "3": 0, "5": 0, "1": 1, "4": 1}
    assert placed["0"][1] == placed["3"][1] == float("inf")
    # DEAP divides by the number of objectives too
    assert placed["2"][1] == pytest.approx(((9 - 3) / 8 + (70 - 20) / 60) / 2)
    assert placed["5"][1] == pytest.approx(((6 - 1) / 8 + (50 - 10) / 60) / 2)


def test_the_most_spread_stand_first() -> None:
    found = sorted_into_fronts(candidates([(9, 70), (8.9, 69), (6, 50), (1, 10)]), BOTH)
    assert [entry.candidate.key for entry in found] == ["0", "3", "2", "1"]


def test_equal_ones_are_both_on_the_front() -> None:
    assert keys(pareto_front(candidates([(5, 10), (5, 10), (5, 11)]), BOTH)) == ["0", "1"]


def test_nothing_known_is_no_front() -> None:
    assert pareto_front(candidates([(None, 1), (None, 2)]), BOTH) == ()
    assert pareto_front(candidates([(1, float("nan"))]), BOTH) == ()
    assert pareto_front((), BOTH) == ()


number = st.one_of(st.integers(0, 4), st.floats(-1e6, 1e6)).map(float)
found_candidates = st.lists(
    st.builds(
        lambda score, params, flops, activations: Candidate(None, "", params, flops, activations, 0, 0, score),
        st.none() | number,
        number,
        number,
        number,
    ),
    max_size=30,
).map(lambda found: [replace(candidate, key=str(n)) for n, candidate in enumerate(found)])


@given(found_candidates, st.sets(st.sampled_from(["score", "params", "flops", "activations"]), min_size=1))
def test_nothing_on_the_front_is_beaten_and_all_else_is(found: list[Candidate], names: set[str]) -> None:
    objectives = sorted(names)
    known = {c.key: value for c in found if (value := worth(c, objectives)) is not None}

    def beaten(key: str) -> bool:
        mine = known[key]
        return any(all(a >= b for a, b in zip(other, mine, strict=True)) and other != mine for other in known.values())

    front = keys(pareto_front(found, objectives))
    assert sorted(front) == sorted(key for key in known if not beaten(key))
    best = [worth(candidate, objectives) for candidate in pareto_front(found, objectives)]
    assert all(a >= b for a, b in pairwise(best))  # type: ignore[operator]
    placed = sorted_into_fronts(found, objectives)
    assert sorted(entry.candidate.key for entry in placed) == sorted(known)
    assert [entry.front for entry in placed] == sorted(entry.front for entry in placed)


# NSGA-II


class Recorder:
    """A region that remembers the parents."""

    def __init__(self) -> None:
        self.rng, self.parents, self.count = random.Random(0), [], 1000

    def draw(self) -> Candidate:
        self.count += 1
        return Candidate(self.count, str(self.count), 0, 0, 0, 0, 0)

    def mutant(self, parent: int) -> Candidate:
        self.parents.append(parent)
        return self.draw()

    def child(self, a: int, b: int) -> Candidate:
        self.parents += [a, b]
        return self.draw()


def test_parents_are_of_the_best_fronts_of_the_whole_history() -> None:
    """The oldest stay as long as nothing beats them; what has no score is no parent."""
    history = candidates([(9, 70), (6, 50), (1, 10), (1, 99), (2, 98), (None, 1), (3, 97), (4, 96)])
    region = Recorder()
    choices = SearchSettings("nsga2", population=4, children=300, crossover=0.5, objectives=BOTH)
    nsga2(history, region, choices)  # type: ignore[arg-type]
    assert set(region.parents) == {0, 1, 2}  # 7 is on the second front, and loses whenever it is drawn
    assert region.parents.count(1) < region.parents.count(0)  # 0 and 2, the ends, lose to nothing


def hypervolume(found: Sequence[Candidate]) -> float:
    """The area that a front of score and params beats, from a score of 100 and up to 12 million parameters."""
    area, score = 0.0, 100.0
    for candidate in reversed(pareto_front(found, BOTH)):
        assert candidate.score is not None
        area += (candidate.score - score) * (12e6 - candidate.params)
        score = candidate.score
    return area


def test_it_finds_a_better_front_than_random_search() -> None:
    """At the same budget, from every seed."""
    for seed in range(3):
        settings = SearchSettings("nsga2", 250, seed, population=20, objectives=BOTH)
        found, drawn = (
            search("autoformer-tiny", "flops / params", replace(settings, strategy=strategy)).candidates
            for strategy in ("nsga2", "random")
        )
        assert hypervolume(found) > hypervolume(drawn)


def test_objectives_are_checked() -> None:
    with pytest.raises(SearchError, match=r"objective 'parms'.*did you mean params"):
        SearchSettings(objectives=("score", "parms"))
    with pytest.raises(SearchError, match="name each of them once"):
        SearchSettings(objectives=("score", "score"))
    with pytest.raises(SearchError, match="objectives are none"):
        SearchSettings(objectives=())
    assert SearchSettings(objectives=["score", "params"]).objectives == BOTH  # type: ignore[arg-type]


def test_limits_hold() -> None:
    space = get_space("pit-vb101")
    limits = Limits(max_params=400_000)
    result = search(
        space, "depth", SearchSettings("nsga2", 60, limits=limits, population=10, objectives=BOTH), spec=SPEC
    )
    assert max(entry.params for entry in result.candidates) <= 400_000


def test_every_objective_has_a_meaning() -> None:
    assert all(objective.meaning for objective in OBJECTIVES.values())
