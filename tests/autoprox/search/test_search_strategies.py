"""Strategies of search: architectures are valid, new and within limits, and a seed is a result."""

import math
import random
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprox.bench_cache.spaces.registry import SPACES, InputSpec, get_space
from autoprox.search.candidate import Candidate, SearchError, unscored
from autoprox.search.limits import Limits
from autoprox.search.loop import SearchResult
from autoprox.search.on_space import search
from autoprox.search.region import Region
from autoprox.search.strategies import STRATEGIES, SearchSettings, random_draws, regularised_evolution

SPEC = InputSpec(image_size=24, num_classes=10, patch_size=8)
SMALL = Limits(max_params=500_000)
PIT = get_space("pit-vb101")
TINY = get_space("autoformer-tiny")


def rows(result: SearchResult) -> list[tuple[str, float | None]]:
    return [(entry.key, entry.score) for entry in result.candidates]


# Limits and settings


@pytest.mark.parametrize(
    "field", ["min_params", "max_params", "min_flops", "max_flops", "min_activations", "max_activations"]
)
@pytest.mark.parametrize("bad", [0, -1, math.nan, math.inf, "6M", True])
def test_a_bound_is_a_positive_number(field: str, bad: object) -> None:
    with pytest.raises(SearchError, match=f"{field} is .*positive number"):
        Limits(**{field: bad})  # type: ignore[arg-type]


def test_a_lower_bound_is_not_above_the_upper_one() -> None:
    with pytest.raises(SearchError, match="min_params 7,000,000 is above max_params 6,000,000"):
        Limits(min_params=7e6, max_params=6e6)
    Limits(min_params=6e6, max_params=6e6)


def test_limits_are_said_in_words() -> None:
    assert str(Limits()) == "no limits"
    assert str(Limits(max_params=6e6, min_flops=1e9)) == "parameters ≤ 6,000,000, FLOPs ≥ 1,000,000,000"
    assert str(Limits(1, 2)) == "1 ≤ parameters ≤ 2"
    assert str(Limits(max_activations=9e6)) == "activations ≤ 9,000,000"


@pytest.mark.parametrize(
    "wrong",
    [
        {"strategy": "evolutoin"},
        {"budget": 0},
        {"budget": 1.5},
        {"seed": -1},
        {"population": 1},
        {"tournament": 0},
        {"children": 0},
        {"crossover": 1.1},
        {"crossover": True},
    ],
)
def test_settings_are_checked(wrong: dict) -> None:
    with pytest.raises(SearchError, match=str(next(iter(wrong)))):
        SearchSettings(**wrong)


def test_an_impossible_limit_names_the_smallest_value() -> None:
    for name, space in SPACES.items():
        with pytest.raises(SearchError, match=f"{name}.*the smallest has {space.min_params(InputSpec()):,}"):
            search(space, "params", SearchSettings(limits=Limits(max_params=space.min_params(InputSpec()) - 1)))
        with pytest.raises(SearchError, match=f"FLOPs: the smallest has {space.min_flops(InputSpec()):,}"):
            search(space, "params", SearchSettings(limits=Limits(max_flops=space.min_flops(InputSpec()) - 1)))
        smallest = space.min_activations(InputSpec())
        with pytest.raises(SearchError, match=f"activations: the smallest has {smallest:,}; raise max_activations"):
            search(space, "params", SearchSettings(limits=Limits(max_activations=smallest - 1)))


def test_limits_that_nothing_meets_say_how_long_was_looked() -> None:
    for limits in (Limits(min_params=11e6), Limits(max_params=5.4e6, min_flops=1.3e9), Limits(7.00001e6, 7.00002e6)):
        with pytest.raises(SearchError, match=r"found no .* 2,000 random draws and 20 walks .* closest has [\d,]+ par"):
            search(TINY, "params", SearchSettings(limits=limits))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_tightest_possible_limit_is_met(strategy: str) -> None:
    least = TINY.min_params(InputSpec())
    result = search(TINY, "params", SearchSettings(strategy, limits=Limits(max_params=least)))
    assert [entry.params for entry in result.candidates] == [least]
    assert result.exhausted


# Strategies


@settings(max_examples=40)
@given(
    name=st.sampled_from(sorted(SPACES)),
    strategy=st.sampled_from(sorted(STRATEGIES)),
    seed=st.integers(0, 2**32),
    low=st.floats(0.0, 0.6),
    high=st.floats(0.15, 1.0),
    fact=st.sampled_from(["params", "flops", "activations"]),
    children=st.integers(1, 9),
    crossover=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_every_architecture_is_valid_new_and_within_the_limits(
    name: str, strategy: str, seed: int, low: float, high: float, fact: str, children: int, crossover: float
) -> None:
    space, spec, rng = get_space(name), InputSpec(), random.Random(seed)
    sizes = sorted(getattr(unscored(space, space.sample(rng), spec), fact) for _ in range(60))
    bounds = {f"min_{fact}": sizes[int(low * 30)], f"max_{fact}": sizes[min(59, int(low * 30) + int(high * 30))]}
    choices = SearchSettings(strategy, 40, seed, Limits(**bounds), 15, 4, children, crossover)
    formula = "depth + width / 24" if space.width(space.sample(rng)) > 0 else "depth"  # convolutions have no width
    result = search(space, formula, choices, spec=spec)
    assert len(result.candidates) == 40 or result.exhausted
    assert len({entry.key for entry in result.candidates}) == len(result.candidates) > 0
    for entry in result.candidates:
        space.validate(entry.arch)
        assert bounds[f"min_{fact}"] <= getattr(entry, fact) <= bounds[f"max_{fact}"]
        assert (entry.params, entry.flops) == (space.params(entry.arch, spec), space.flops(entry.arch, spec))
        assert entry.activations == space.activations(entry.arch, spec)
        assert entry.key == space.key(entry.arch)
        width = space.width(entry.arch) if "width" in formula else 0
        assert entry.score == pytest.approx(space.depth(entry.arch) + width / 24)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_seed_is_a_result(strategy: str) -> None:
    torch.manual_seed(5)
    before = random.getstate(), torch.get_rng_state()
    first, again, other = (
        rows(search("pit-vb101", "params", SearchSettings(strategy, 90, seed, Limits(max_params=5e6))))
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


@pytest.mark.parametrize("limits", [Limits(), Limits(max_params=9e6)])
def test_evolution_beats_random_search(limits: Limits) -> None:
    """At the same budget, from every seed, on a score that has a direction."""
    for seed in range(3):
        best = {
            strategy: search(TINY, "flops", SearchSettings(strategy, 300, seed, limits)).ranked[0].score
            for strategy in ("random", "evolution")
        }
        assert best["evolution"] > best["random"]


def test_a_whole_space_is_exhausted() -> None:
    found = search("pit-vb101", "params", SearchSettings("random", 2000))
    assert found.exhausted
    assert len(found.candidates) == 1600  # type: ignore[attr-defined]


class Recorder:
    """A region whose mutants tell their parents; draws are numbered."""

    def __init__(self) -> None:
        self.rng, self.parents, self.count = random.Random(0), [], 0

    def draw(self) -> Candidate:
        self.count += 1
        return Candidate(self.count, str(self.count), 0, 0, 0, 0, 0)

    def mutant(self, parent: int) -> Candidate:
        self.parents.append(parent)
        return self.draw()

    def child(self, a: int, b: int) -> Candidate:
        self.parents.append((a, b))
        return self.draw()


def history(scores: Sequence[float | None]) -> list[Candidate]:
    return [Candidate(number, str(number), 0, 0, 0, 0, 0, score) for number, score in enumerate(scores)]


def test_evolution_forgets_the_oldest_however_good() -> None:
    region = Recorder()
    choices = SearchSettings(population=4, tournament=4, children=3, crossover=0)
    children = regularised_evolution(history([99, 98, 1, 5, 3, None]), region, choices)  # type: ignore[arg-type]
    assert region.parents == [3, 3, 3]
    assert len(children) == 3


def test_evolution_begins_with_random_architectures() -> None:
    region = Recorder()
    choices = SearchSettings(population=4, tournament=2, children=3)
    assert len(regularised_evolution(history([1]), region, choices)) == 3  # type: ignore[arg-type]
    assert not region.parents


def test_evolution_crosses_and_selects_by_tournament() -> None:
    region = Recorder()
    choices = SearchSettings(population=20, tournament=10, children=200, crossover=0.5)
    regularised_evolution(history(list(range(20))), region, choices)  # type: ignore[arg-type]
    crossed = [pair for pair in region.parents if isinstance(pair, tuple)]
    assert 70 < len(crossed) < 130
    chosen = [p for entry in region.parents for p in (entry if isinstance(entry, tuple) else (entry,))]
    assert min(chosen) >= 9  # the best of ten is never among the nine worst
    assert 0.4 < chosen.count(19) / len(chosen) < 0.6  # and is the best of twenty half of the time


def test_a_mutant_is_a_step_away() -> None:
    """One gene differs as long as there are new ones: PiT has 24 such neighbours. Then two do."""
    region = Region(PIT, SPEC, Limits(), random.Random(0))
    parent = region.draw()
    assert parent is not None
    steps = []
    for _ in range(60):
        child = region.mutant(parent.arch)
        assert child is not None
        genes = zip(PIT.to_json(parent.arch).values(), PIT.to_json(child.arch).values(), strict=True)
        steps.append(sum(a != b for a, b in genes))
    assert steps[:5] == [1] * 5
    assert steps.count(1) <= 24
    assert max(steps) <= 3


def test_random_draws_are_uniform() -> None:
    """Depths and ratios of PiT are drawn as often as each other, also within limits that all of them meet."""
    region = Region(PIT, SPEC, Limits(), random.Random(0))
    drawn = [entry.arch for _ in range(10) for entry in random_draws((), region, SearchSettings())]
    counts = np.array([sum(arch.mlp_ratio == ratio for arch in drawn) for ratio in (2, 4, 6, 8)])
    assert counts.sum() == 640
    assert (abs(counts - 160) < 40).all()
