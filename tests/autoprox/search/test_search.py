"""Search: architectures are valid, distinct and within limits, the same for any workers, and a benchmark's verdict."""

import io
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import synthetic
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.benchmarks.tabular import TabularArchitecture
from autoprox.bench_cache.benchmarks.tasks import task_names
from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.bench_cache.spaces.base import ArchitectureError
from autoprox.bench_cache.spaces.registry import SPACES, InputSpec, get_space
from autoprox.primitives import OPERATIONS, Operation, parse
from autoprox.proxy import Proxy, ProxyError
from autoprox.search.on_benchmark import Verdict, judge, offered, one_network, search_benchmark
from autoprox.search.rating import Batch, Candidate, Rater, candidate, reads_structure_only, scoring
from autoprox.search.strategies import (
    STRATEGIES,
    Known,
    Limits,
    Progress,
    Region,
    SearchError,
    SearchResult,
    SearchSettings,
    explore,
    random_draws,
    regularised_evolution,
    search,
    value,
)

SPEC = InputSpec(image_size=24, num_classes=10, patch_size=8)
SMALL = Limits(max_params=500_000)
PIT = get_space("pit-vb101")
TINY = get_space("autoformer-tiny")


def known(result: SearchResult) -> list[Known]:
    return [Known(entry.key, entry.score, entry.problem) for entry in result.candidates]


def rows(result: SearchResult) -> list[tuple[str, float | None]]:
    return [(entry.key, entry.score) for entry in result.candidates]


def stopping_after(count: int) -> Callable[[Progress], None]:
    """Ctrl-C after so many architectures."""

    def on_progress(progress: Progress) -> None:
        if progress.done == count:
            raise KeyboardInterrupt

    return on_progress


def norm_of_head(model: torch.nn.Module) -> torch.Tensor:
    """A user's own score, importable by name; still a part of the graph of gradients."""
    return model.head.weight.square().sum()  # type: ignore[union-attr, operator]


# Limits and settings


@pytest.mark.parametrize("field", ["min_params", "max_params", "min_flops", "max_flops"])
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
    fact=st.sampled_from(["params", "flops"]),
    children=st.integers(1, 9),
    crossover=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_every_architecture_is_valid_new_and_within_the_limits(
    name: str, strategy: str, seed: int, low: float, high: float, fact: str, children: int, crossover: float
) -> None:
    space, spec, rng = get_space(name), InputSpec(), random.Random(seed)
    sizes = sorted(getattr(candidate(space, space.sample(rng), spec), fact) for _ in range(60))
    bounds = {f"min_{fact}": sizes[int(low * 30)], f"max_{fact}": sizes[min(59, int(low * 30) + int(high * 30))]}
    choices = SearchSettings(strategy, 40, seed, Limits(**bounds), 15, 4, children, crossover)
    result = search(space, "depth + width / 24", choices, spec=spec)
    assert len(result.candidates) == 40 or result.exhausted
    assert len({entry.key for entry in result.candidates}) == len(result.candidates) > 0
    for entry in result.candidates:
        space.validate(entry.arch)
        assert bounds[f"min_{fact}"] <= getattr(entry, fact) <= bounds[f"max_{fact}"]
        assert (entry.params, entry.flops) == (space.params(entry.arch, spec), space.flops(entry.arch, spec))
        assert entry.key == space.key(entry.arch)
        assert entry.score == pytest.approx(space.depth(entry.arch) + space.width(entry.arch) / 24)


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
    for seed in range(5):
        best = {
            strategy: search(TINY, "flops", SearchSettings(strategy, 300, seed, limits)).ranked[0].score
            for strategy in STRATEGIES
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
        return Candidate(self.count, str(self.count), 0, 0, 0, 0)

    def mutant(self, parent: int) -> Candidate:
        self.parents.append(parent)
        return self.draw()

    def child(self, a: int, b: int) -> Candidate:
        self.parents.append((a, b))
        return self.draw()


def history(scores: Sequence[float | None]) -> list[Candidate]:
    return [Candidate(number, str(number), 0, 0, 0, 0, score) for number, score in enumerate(scores)]


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


# Scores


def test_structure_is_scored_without_a_network(monkeypatch) -> None:
    """Closed forms give what the built network does, and nothing is built."""
    formulas = ["params", "flops", "depth", "width", "log(params) * depth - sqrt(flops) / width"]
    for name in SPACES:
        space, spec = get_space(name), InputSpec(32, 3, 7, 16)
        arch = min((space.sample(random.Random(seed)) for seed in range(9)), key=lambda a: space.params(a, spec))
        model = space.build(arch, spec)
        for text in formulas:
            proxy = Proxy.from_formula(text)
            assert reads_structure_only(proxy)
            with Rater(proxy, space, spec, Batch()) as rate, monkeypatch.context() as patch:
                patch.setattr(type(space), "build", None)
                (rated,) = rate([candidate(space, arch, spec)])
            assert rated.score == proxy.score(model, torch.zeros(2, 3, 32, 32))


@pytest.mark.parametrize(
    "text", ["sum(fro(weight))", "sum(l1(weight * weight_grad[noise])) / depth", "mean(std(act[synflow]))"]
)
def test_scores_are_those_of_the_networks(text: str) -> None:
    result = search(PIT, text, SearchSettings("random", 3, limits=SMALL), spec=SPEC, batch=Batch(3))
    for entry in result.candidates:
        model = PIT.build(entry.arch, SPEC, seed=0)
        assert entry.score == Proxy.from_formula(text).score(model, torch.zeros(3, 3, 24, 24))


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


# Batches


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def images(samples: int = 4) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(samples, 3, 24, 24)).astype(np.float32)


def test_the_probe_data_needs_images() -> None:
    with pytest.raises(SearchError, match=r"sum\(l1\(weight \* weight_grad\[noise\]\)\)"):
        scoring("snip", Batch())
    with pytest.raises(SearchError, match=r"sum\(std\(attn\[noise\]\)\) \+ sum\(fro\(act\[mlp, synflow\]\)\)"):
        scoring("sum(std(attn)) + sum(fro(act[mlp, synflow]))", Batch())
    scoring("synflow", Batch())
    scoring("snip", Batch(images=images(), targets=np.arange(4)))


def test_halves_need_an_even_number() -> None:
    with pytest.raises(SearchError, match="even number, not 3"):
        scoring("sum(fro(batch_std(weight_grad_batches[noise])))", Batch(3))


def test_images_are_what_the_networks_see() -> None:
    pixels, targets = images(), np.array([0, 9, 3, 3])
    batch = Batch.from_bytes(npz(images=pixels, targets=targets))
    result = search(PIT, "snip", SearchSettings(budget=2, limits=SMALL), spec=SPEC, batch=batch)
    for entry in result.candidates:
        model = PIT.build(entry.arch, SPEC)
        expected = Proxy.from_formula("sum(l1(weight * weight_grad))").score(
            model, torch.from_numpy(pixels), torch.from_numpy(targets)
        )
        assert entry.score == expected


class Hostile:
    def __reduce__(self):
        return print, ("this ran",)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "no .npz file"),
        (b"not a file", "no .npz file"),
        (npz(images=images(), targets=np.arange(4))[:-40], "no .npz file"),
        (npz(images=images()), "lacks images or targets"),
        (npz(images=np.array([Hostile()]), targets=np.arange(1)), "no .npz file of plain arrays"),
        (npz(images=images().astype(np.float64), targets=np.arange(4)), "finite float32"),
        (npz(images=images()[0], targets=np.arange(3)), "samples × channels"),
        (npz(images=images() * np.float32(np.nan), targets=np.arange(4)), "finite"),
        (npz(images=images(), targets=np.arange(3)), "4 class numbers"),
        (npz(images=images(), targets=np.ones(4)), "class numbers, not float64"),
    ],
)
def test_a_bad_file_of_images_is_refused(data: bytes, told: str, capsys) -> None:
    with pytest.raises(SearchError, match=told):
        Batch.from_bytes(data)
    assert "ran" not in capsys.readouterr().out


def test_one_array_is_no_batch() -> None:
    file = io.BytesIO()
    np.save(file, images())
    with pytest.raises(SearchError, match="one array"):
        Batch.from_bytes(file.getvalue())


def test_a_batch_fits_the_networks() -> None:
    with pytest.raises(SearchError, match="images are 3 × 24 × 24, but the networks read 3 × 32 × 32"):
        Batch(images=images(), targets=np.arange(4)).check(replace(SPEC, image_size=32))
    with pytest.raises(SearchError, match="targets go from 7 to 10, but the networks have the classes 0 to 9"):
        Batch(images=images(), targets=np.arange(7, 11)).check(SPEC)
    with pytest.raises(SearchError, match="0 samples"):
        Batch(0)
    with pytest.raises(SearchError, match="both images and targets"):
        Batch(images=images())


# Going on, and stopping


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_search_goes_on_from_any_point(strategy: str) -> None:
    choices = SearchSettings(strategy, 70, 2, Limits(max_params=5e6), population=20)
    whole = search(PIT, "depth * width", choices)
    for cut in (0, 1, 19, 20, 23, 69, 70):
        fresh: list[Candidate] = []
        again = search(PIT, "depth * width", choices, known=known(whole)[:cut], on_scored=fresh.append)
        assert again == whole
        assert fresh == list(whole.candidates[cut:])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_larger_budget_goes_further(strategy: str) -> None:
    small, large = (SearchSettings(strategy, budget, 2, population=20) for budget in (43, 70))
    assert search(PIT, "params", large, known=known(search(PIT, "params", small))) == search(PIT, "params", large)


def test_another_searchs_history_is_refused() -> None:
    other = search(PIT, "params", SearchSettings(seed=1, budget=5))
    with pytest.raises(SearchError, match="architecture 1 of the stored history is not"):
        search(PIT, "params", SearchSettings(seed=0, budget=9), known=known(other))


def test_an_interrupted_search_keeps_what_it_has() -> None:
    choices = SearchSettings(budget=30, population=10)
    whole = search(PIT, "params", choices)
    for count in (1, 10, 13):
        partial = search(PIT, "params", choices, on_progress=stopping_after(count))
        assert not partial.finished
        assert partial.candidates == whole.candidates[:count]
        assert search(PIT, "params", choices, known=known(partial)) == whole

    def interrupted(model: torch.nn.Module) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(PIT, interrupted, replace(choices, limits=SMALL), spec=SPEC)


def test_progress_tells_the_best_so_far() -> None:
    told: list[Progress] = []
    result = search(PIT, "params", SearchSettings(budget=30, population=10), on_progress=told.append)
    assert [progress.done for progress in told] == list(range(1, 31))
    assert {progress.budget for progress in told} == {30}
    bests = [progress.best for progress in told]
    assert bests == [max(result.candidates[:n], key=value) for n in range(1, 31)]


def test_proposals_end_a_search() -> None:
    with Rater(Proxy.from_formula("params"), PIT, SPEC, Batch()) as rate:
        result = explore(lambda history: [], rate, 5, (), lambda entry: None, lambda progress: None)
    assert result == SearchResult((), exhausted=True)


def test_random_draws_are_uniform() -> None:
    """Depths and ratios of PiT are drawn as often as each other, also within limits that all of them meet."""
    region = Region(PIT, SPEC, Limits(), random.Random(0))
    drawn = [entry.arch for _ in range(10) for entry in random_draws((), region, SearchSettings())]
    counts = np.array([sum(arch.mlp_ratio == ratio for arch in drawn) for ratio in (2, 4, 6, 8)])
    assert counts.sum() == 640
    assert (abs(counts - 160) < 40).all()


# Benchmarks


def benchmark(count: int = 40, missing: Sequence[int] = ()) -> Benchmark:
    """Small PiTs of different sizes; `up` grows with the parameters, `down` falls, and is missing where it is said."""
    by_size = {PIT.params(arch, SPEC): arch for arch in PIT.architectures()}  # type: ignore[attr-defined]
    chosen = random.Random(0).sample([arch for size, arch in by_size.items() if size < 500_000], count)
    order = np.argsort(np.argsort([PIT.params(arch, SPEC) for arch in chosen], kind="stable"))
    down = 90.0 - order
    down[list(missing)] = np.nan
    return Benchmark("small", "pit-vb101", SPEC, "made up", tuple(chosen), {"up": 10.0 + order, "down": down})


def verdicts(bench: Benchmark, score: str, *, split: str = "all", **choices) -> tuple[SearchResult, Iterator[Verdict]]:
    chosen = SearchSettings("random", **choices)
    result = search_benchmark(bench, score, chosen, split=split)
    return result, iter(judge(bench, result, task_names(bench, ()), chosen, split))


def test_a_benchmarks_architectures_are_each_scored_once() -> None:
    bench = benchmark()
    result, _ = verdicts(bench, "params", budget=500)
    assert {entry.arch for entry in result.candidates} == set(bench.architectures)
    assert not result.exhausted
    part, _ = verdicts(bench, "params", budget=7)
    assert part.candidates == result.candidates[:7]
    other, _ = verdicts(bench, "params", budget=7, seed=1)
    assert other.candidates != part.candidates


def test_a_choice_is_judged() -> None:
    """Against what is found by looking at the table."""
    bench = benchmark()
    params = bench.structure()["params"]
    result, (up, down) = verdicts(bench, "neg(params)", budget=15, seed=4)
    indices = [bench.architectures.index(entry.arch) for entry in result.candidates]
    smallest, largest = min(indices, key=params.__getitem__), max(indices, key=params.__getitem__)
    for verdict, task in ((up, "up"), (down, "down")):
        accuracy = bench.tasks[task]
        assert (verdict.task, verdict.labelled, verdict.judged, verdict.best) == (task, 40, 15, accuracy.max())
        assert [choice.by for choice in verdict.choices] == ["proxy", "params", "chance"]
        for choice, index in zip(verdict.choices, (smallest, largest), strict=False):
            assert choice.accuracy == accuracy[index]
            assert choice.rank == 1 + sum(accuracy > accuracy[index])
            assert choice.regret == pytest.approx(accuracy.max() - accuracy[index])
        assert verdict.choices[2].accuracy == pytest.approx(accuracy.mean())
        assert verdict.choices[2].rank == 20.5
        assert verdict.choices[2].regret == pytest.approx(accuracy.max() - accuracy.mean())


def test_a_perfect_proxy_has_no_regret() -> None:
    _, (up, down) = verdicts(benchmark(), "params", budget=40)
    assert (up.choices[0].rank, up.choices[0].regret) == (1, 0)
    assert down.choices[0].rank == 40


def test_a_tie_is_the_mean_of_all_that_are_first() -> None:
    bench = benchmark()
    _, (up, _) = verdicts(bench, "depth", budget=40)
    first = np.flatnonzero(bench.structure()["depth"] == bench.structure()["depth"].max())
    assert up.choices[0].tied == len(first) > 1
    assert up.choices[0].accuracy == pytest.approx(bench.tasks["up"][first].mean())
    assert up.choices[0].rank == pytest.approx(
        np.mean([1 + sum(bench.tasks["up"] > bench.tasks["up"][i]) for i in first])
    )


def test_an_architecture_without_accuracy_is_not_judged() -> None:
    bench = benchmark()
    by_params = np.argsort(bench.structure()["params"], kind="stable")
    gap = benchmark(missing=[int(by_params[-1]), int(by_params[0])])
    _, (up, down) = verdicts(gap, "params", budget=40)
    assert not up.top_missing
    assert down.top_missing
    assert (down.labelled, down.judged) == (38, 38)
    assert down.choices[0].accuracy == gap.tasks["down"][by_params[-2]]
    assert down.best == np.nanmax(gap.tasks["down"])


def test_nothing_judged_leaves_chance() -> None:
    bench = benchmark()
    result, _ = verdicts(bench, "params", budget=1)
    labelled = [number for number, arch in enumerate(bench.architectures) if arch != result.candidates[0].arch]
    gap = benchmark(missing=[n for n in range(40) if n not in labelled])
    _, (_, down) = verdicts(gap, "params", budget=1)
    assert (down.judged, [choice.by for choice in down.choices]) == (0, ["chance"])
    empty = benchmark(missing=range(40))
    _, (_, down) = verdicts(empty, "params", budget=1)
    assert (down.labelled, down.choices) == (0, ())


def test_splits_and_limits_say_what_is_offered() -> None:
    bench = benchmark()
    for split, indices in bench.splits().items():
        assert [entry.arch for entry in offered(bench, split, Limits())] == [bench.architectures[i] for i in indices]
    median = float(np.median(bench.structure()["params"]))
    within = offered(bench, "all", Limits(max_params=median))
    assert [entry.params for entry in within] == [p for p in bench.structure()["params"] if p <= median]
    _, (up, _) = verdicts(bench, "params", budget=40, limits=Limits(max_params=median))
    assert (up.labelled, up.choices[0].rank) == (len(within), 1)
    least = int(bench.structure()["params"].min())
    with pytest.raises(SearchError, match=f"benchmark small .*the smallest has {least:,}"):
        offered(bench, "all", Limits(max_params=least - 1))
    with pytest.raises(SearchError, match=r"no architecture of benchmark small .*widen"):
        offered(bench, "all", Limits(min_params=1e9))
    with pytest.raises(SearchError, match="split is 'tset'"):
        offered(bench, "tset", Limits())


def test_tasks_are_named_by_patterns() -> None:
    bench = benchmark()
    assert task_names(bench, ()) == ("up", "down")
    assert task_names(bench, ("d*",)) == ("down",)
    with pytest.raises(BenchmarkError, match="no task is called 'left'; there are up, down"):
        task_names(bench, ("up", "left"))


def test_networks_of_a_benchmark_are_scored_as_in_a_search() -> None:
    bench = benchmark(6)
    result = search_benchmark(bench, "sum(fro(weight))", SearchSettings("random", limits=SMALL))
    for entry in result.candidates:
        assert entry.score == Proxy.from_formula("sum(fro(weight))").score(PIT.build(entry.arch, SPEC))


def test_evolution_is_refused_on_a_benchmark() -> None:
    with pytest.raises(SearchError, match="strategy is random, not evolution"):
        search_benchmark(benchmark(), "params", SearchSettings())


def test_a_table_is_searched_by_what_it_says() -> None:
    archs = tuple(TabularArchitecture((("blocks", n),)) for n in range(8))
    sizes = np.array([5, 2, 9, np.nan, 4, 1, 7, 3]) * 1e6
    table = Benchmark("table", None, None, "made up", archs, {"oa": np.arange(8.0)}, {"params": sizes})
    result, (oa,) = verdicts(table, "params", budget=8)
    assert [entry.arch["blocks"] for entry in result.ranked][:2] == [2, 6]
    assert (result.ranked[-1].score, result.ranked[-1].problem) == (None, "its params is missing")
    assert (oa.judged, oa.choices[0].accuracy) == (7, 2)
    small, _ = verdicts(table, "params", budget=8, limits=Limits(max_params=3e6))
    assert sorted(entry.arch["blocks"] for entry in small.candidates) == [1, 5, 7]
    with pytest.raises(SearchError, match=r"table is tabular: .*'sum\(fro\(weight\)\)'.*may read params"):
        verdicts(table, "sum(fro(weight))")
    with pytest.raises(SearchError, match="has no depth; a formula may read params"):
        verdicts(table, "params / depth")
    with pytest.raises(SearchError, match="does not say the flops"):
        verdicts(table, "params", limits=Limits(max_flops=1e9))
    with pytest.raises(SearchError, match="a function"):
        search_benchmark(table, norm_of_head, SearchSettings("random"))


def test_tasks_with_networks_of_their_own_are_searched_one_at_a_time() -> None:
    bench = synthetic.mini(6)
    with pytest.raises(SearchError, match="the tasks small, large of mini have a network each"):
        one_network(bench, ())
    large = one_network(bench, ("large",))
    assert (large.spec, tuple(large.tasks), tuple(large.inputs)) == (bench.inputs["large"].spec, ("large",), ("large",))
    assert large.architectures == bench.architectures
    whole = synthetic.benchmark(6)
    assert one_network(whole, ("size_kd",)).to_bytes() == whole.to_bytes()


def test_a_function_of_the_zoo_searches_with_any_number_of_workers() -> None:
    choices = SearchSettings(strategy="random", budget=4, limits=SMALL)
    alone, both = (search(PIT, "grasp", choices, spec=SPEC, workers=workers) for workers in (1, 2))
    assert alone == both
    assert len({entry.score for entry in alone.candidates}) == 4
    with pytest.raises(ProxyError, match="did you mean"):
        search(PIT, "grsp", choices, spec=SPEC)
