"""Search on a space: scores are those of the networks, whatever the workers, and a search goes on from any point."""

import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from autoprox.bench_cache.spaces.base import ArchitectureError
from autoprox.bench_cache.spaces.registry import SPACES, InputSpec, get_space
from autoprox.primitives import OPERATIONS, Operation, parse
from autoprox.proxy import Proxy, ProxyError
from autoprox.search.batch import Batch
from autoprox.search.candidate import Candidate, SearchError, unscored
from autoprox.search.limits import Limits
from autoprox.search.loop import SearchProgress, SearchResult, StoredScore, score_proposals
from autoprox.search.on_space import search
from autoprox.search.proxies import reads_structure_only
from autoprox.search.scorer import ArchitectureScorer
from autoprox.search.strategies import STRATEGIES, SearchSettings

SPEC = InputSpec(image_size=24, num_classes=10, patch_size=8)
SMALL = Limits(max_params=500_000)
PIT = get_space("pit-vb101")
#: The strategies; pruning, whose steps are long, in the slow suite.
SLOW_LAST = [pytest.param(name, marks=pytest.mark.slow) if name == "pruning" else name for name in STRATEGIES]


def stored(result: SearchResult) -> list[StoredScore]:
    return [StoredScore(entry.key, entry.score, entry.problem) for entry in result.candidates]


def rows(result: SearchResult) -> list[tuple[str, float | None]]:
    return [(entry.key, entry.score) for entry in result.candidates]


def stopping_after(count: int) -> Callable[[SearchProgress], None]:
    """Ctrl-C after so many architectures."""

    def on_progress(progress: SearchProgress) -> None:
        if progress.done == count:
            raise KeyboardInterrupt

    return on_progress


def norm_of_head(model: torch.nn.Module) -> torch.Tensor:
    """A user's own score, importable by name; still a part of the graph of gradients."""
    return model.head.weight.square().sum()  # type: ignore[union-attr, operator]


# Scores


def test_structure_is_scored_without_a_network(monkeypatch) -> None:
    """Closed forms give what the built network does, and nothing is built."""
    formulas = ["params", "flops", "depth", "width", "log(params) * depth - sqrt(flops) / width"]
    for name in SPACES:
        space, spec = get_space(name), InputSpec(32, 3, 7, 16)
        arch = min((space.sample(random.Random(seed)) for seed in range(9)), key=lambda a: space.params(a, spec))
        model = space.build(arch, spec)
        known = [
            text for text in formulas if "width" not in text or space.width(arch) > 0
        ]  # convolutions have no width
        for text in known:
            proxy = Proxy.from_formula(text)
            assert reads_structure_only(proxy)
            with ArchitectureScorer(proxy, space, spec, Batch()) as scorer, monkeypatch.context() as patch:
                patch.setattr(type(space), "build", None)
                (scored,) = scorer([unscored(space, arch, spec)])
            assert scored.score == proxy.score(model, torch.zeros(2, 3, 32, 32))


@pytest.mark.parametrize(
    "text", ["sum(fro(weight))", "sum(l1(weight * weight_grad[noise])) / depth", "mean(std(act[synflow]))"]
)
def test_scores_are_those_of_the_networks(text: str) -> None:
    result = search(PIT, text, SearchSettings("random", 3, limits=SMALL), spec=SPEC, batch=Batch(3))
    for entry in result.candidates:
        model = PIT.build(entry.arch, SPEC, seed=0)
        assert entry.score == Proxy.from_formula(text).score(model, torch.zeros(3, 3, 24, 24))


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing() -> None:
    choices = SearchSettings("evolution", 14, 3, SMALL, population=6, tournament=3, children=4)
    one, two = (
        search(PIT, "sum(l1(weight * weight_grad[noise]))", choices, spec=SPEC, workers=workers) for workers in (1, 2)
    )
    assert rows(one) == rows(two)
    assert one.finished


def test_a_function_of_the_model_is_a_score() -> None:
    result = search(PIT, norm_of_head, SearchSettings(budget=5, limits=SMALL), spec=SPEC)
    for entry in result.candidates:
        assert entry.score == norm_of_head(PIT.build(entry.arch, SPEC)).item()
    assert [e.score for e in result.ranked] == sorted((e.score for e in result.candidates), reverse=True)


def test_formulas_and_proxies_are_scores() -> None:
    choices = SearchSettings(budget=5)
    expected = rows(search(PIT, "params", choices))
    for score in (parse("params"), Proxy.from_formula("params")):
        assert rows(search(PIT, score, choices)) == expected
    with pytest.raises(ProxyError, match="did you mean 'synflow'"):
        search(PIT, "synfow", choices)
    with pytest.raises(ArchitectureError, match="did you mean"):
        search("pit-vb10", "params", choices)


def test_what_has_no_score_comes_last() -> None:
    values = iter([1.0, math.nan, 3.0, math.inf, 2.0])
    result = search(PIT, lambda model: next(values), SearchSettings("random", 5, limits=SMALL), spec=SPEC)
    assert [entry.score for entry in result.ranked] == [3.0, 2.0, 1.0, None, None]
    assert [entry.problem for entry in result.ranked[3:]] == ["the score is nan", "the score is inf"]


def test_no_score_at_all_is_an_error() -> None:
    with pytest.raises(SearchError, match="none of the first 6 architectures has a score: the score is nan"):
        search(PIT, lambda model: math.nan, SearchSettings(budget=9, population=6, limits=SMALL), spec=SPEC)


def test_a_score_that_cannot_travel_is_refused() -> None:
    with pytest.raises(SearchError, match="top level of a module, or use one worker"):
        search(PIT, lambda model: 1.0, SearchSettings(budget=9, limits=SMALL), spec=SPEC, workers=2)
    for workers in (0, 1.5, True):
        with pytest.raises(SearchError, match="workers is"):
            search(PIT, "params", SearchSettings(budget=9), workers=workers)  # type: ignore[arg-type]


def test_own_operations_are_scored() -> None:
    larger = OPERATIONS.extended(Operation("half", "map", half, r"\tfrac12 {0}", increasing=True))
    proxy = Proxy.from_formula("half(params)", operations=larger)
    result = search(PIT, proxy, SearchSettings(budget=3))
    assert [entry.score for entry in result.candidates] == [entry.params / 2 for entry in result.candidates]


def half(x: torch.Tensor) -> torch.Tensor:
    """x / 2"""
    return x / 2


@pytest.mark.slow
def test_a_function_of_the_zoo_searches_with_any_number_of_workers() -> None:
    choices = SearchSettings(strategy="random", budget=4, limits=SMALL)
    alone, both = (search(PIT, "grasp", choices, spec=SPEC, workers=workers) for workers in (1, 2))
    assert alone == both
    assert len({entry.score for entry in alone.candidates}) == 4
    with pytest.raises(ProxyError, match="did you mean"):
        search(PIT, "grsp", choices, spec=SPEC)


# Going on, and stopping


@pytest.mark.parametrize("strategy", SLOW_LAST)
def test_a_search_goes_on_from_any_point(strategy: str) -> None:
    choices = SearchSettings(strategy, 70, 2, Limits(max_params=5e6), population=20)
    whole = search(PIT, "depth * width", choices)
    for cut in (0, 1, 19, 20, 23, 69, 70):
        fresh: list[Candidate] = []
        again = search(PIT, "depth * width", choices, stored=stored(whole)[:cut], on_scored=fresh.append)
        assert again == whole
        assert fresh == list(whole.candidates[cut:])


@pytest.mark.parametrize("strategy", SLOW_LAST)
def test_a_larger_budget_goes_further(strategy: str) -> None:
    small, large = (SearchSettings(strategy, budget, 2, population=20) for budget in (43, 70))
    assert search(PIT, "params", large, stored=stored(search(PIT, "params", small))) == search(PIT, "params", large)


def test_another_searchs_history_is_refused() -> None:
    other = search(PIT, "params", SearchSettings(seed=1, budget=5))
    with pytest.raises(SearchError, match="architecture 1 of the stored history is not"):
        search(PIT, "params", SearchSettings(seed=0, budget=9), stored=stored(other))


def test_an_interrupted_search_keeps_what_it_has() -> None:
    choices = SearchSettings(budget=30, population=10)
    whole = search(PIT, "params", choices)
    for count in (1, 10, 13):
        partial = search(PIT, "params", choices, on_progress=stopping_after(count))
        assert not partial.finished
        assert partial.candidates == whole.candidates[:count]
        assert search(PIT, "params", choices, stored=stored(partial)) == whole

    def interrupted(model: torch.nn.Module) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(PIT, interrupted, replace(choices, limits=SMALL), spec=SPEC)


def test_progress_tells_the_best_so_far() -> None:
    told: list[SearchProgress] = []
    result = search(PIT, "params", SearchSettings(budget=30, population=10), on_progress=told.append)
    assert [progress.done for progress in told] == list(range(1, 31))
    assert {progress.budget for progress in told} == {30}
    bests = [progress.best for progress in told]
    assert bests == [max(result.candidates[:n], key=lambda entry: entry.fitness) for n in range(1, 31)]


def test_proposals_end_a_search() -> None:
    with ArchitectureScorer(Proxy.from_formula("params"), PIT, SPEC, Batch()) as scorer:
        result = score_proposals(lambda history: [], scorer, 5, (), lambda candidate: None, lambda progress: None)
    assert result == SearchResult((), exhausted=True)
