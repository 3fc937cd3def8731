"""Dynamic distribution pruning: weak options go, good ones stay, and the search is repeatable and goes on."""

from dataclasses import replace
from random import Random

from autoprox.bench_cache.spaces.registry import InputSpec, get_space
from autoprox.primitives import parse
from autoprox.search.limits import Limits
from autoprox.search.loop import StoredScore
from autoprox.search.on_space import search
from autoprox.search.pruning import Options
from autoprox.search.region import Region
from autoprox.search.strategies import STRATEGIES, SearchSettings

SPEC = InputSpec(8, 1, 10, 2)


def test_weak_options_are_left_out_once_enough_speaks_against_them() -> None:
    few = Options()
    few.tried.update({"good": 3, "bad": 3})
    few.better.update({"good": 3})
    few.prune()
    assert few.alive == ["good", "bad"]
    many = Options()
    many.tried.update({"fair": 20, "good": 20, "bad": 20})
    many.better.update({"fair": 10, "good": 12, "bad": 5})
    many.prune()
    many.prune()  # what is left differs by less than a standard error
    assert many.alive == ["fair", "good"]
    drawn = [many.draw(Random(number)) for number in range(300)]
    assert {option: drawn.count(option) for option in many.alive}.keys() == {"fair", "good"}
    assert drawn.count("good") > drawn.count("fair")


def test_it_finds_what_random_search_does_not() -> None:
    """A score that rewards one value of every gene: the number of values that are right, of 24."""
    space = get_space("micro-vit")
    wanted = {"mixer": "pool", "activation": "relu", "norm": "pre", "skip": 1.0, "layer_scale": 1.0, "init": "large"}

    def right(candidate) -> float:
        return sum(value == wanted[gene] for gene, values in space.to_json(candidate.arch).items() for value in values)

    best = {}
    for strategy in ("pruning", "random"):
        settings = SearchSettings(strategy, budget=400, population=50, seed=3)
        history: list = []
        region = Region(space, SPEC, Limits(), Random(1))
        while len(history) < settings.budget:
            for each in STRATEGIES[strategy].function(history, region, settings):
                history.append(replace(each, score=right(each)))
        best[strategy] = max(each.score for each in history)
        assert len({each.key for each in history}) == len(history)
    assert best["pruning"] >= best["random"] + 5


def test_it_is_repeatable_keeps_the_limits_and_goes_on() -> None:
    space, proxy = get_space("mini-vit"), parse("params / depth")
    settings = SearchSettings("pruning", budget=120, population=20, limits=Limits(max_params=60_000))
    whole = search(space, proxy, settings, spec=SPEC)
    assert all(each.params <= 60_000 for each in whole.candidates)
    stored = [StoredScore(each.key, each.score) for each in whole.candidates[:47]]
    again = search(space, proxy, settings, spec=SPEC, stored=stored)
    assert again == whole


def test_a_small_space_is_exhausted() -> None:
    tight = SearchSettings("pruning", budget=500, population=5, limits=Limits(max_params=2300))
    found = search(get_space("mini-vit"), parse("params"), tight, spec=SPEC)
    assert found.exhausted
    assert len({each.key for each in found.candidates}) == len(found.candidates)
