"""Search on a benchmark: the choice is judged by accuracies that are known."""

import random
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import synthetic
import torch

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.benchmarks.tabular import TabularArchitecture
from autoprox.bench_cache.benchmarks.tasks import task_names
from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.bench_cache.spaces.registry import InputSpec, get_space
from autoprox.proxy import Proxy
from autoprox.search.candidate import SearchError
from autoprox.search.limits import Limits
from autoprox.search.loop import SearchResult
from autoprox.search.on_benchmark import Verdict, judge, of_one_network, offered, search_benchmark
from autoprox.search.strategies import SearchSettings

SPEC = InputSpec(image_size=24, num_classes=10, patch_size=8)
SMALL = Limits(max_params=500_000)
PIT = get_space("pit-vb101")


def norm_of_head(model: torch.nn.Module) -> torch.Tensor:
    """A user's own score, importable by name; still a part of the graph of gradients."""
    return model.head.weight.square().sum()  # type: ignore[union-attr, operator]


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
        of_one_network(bench, ())
    large = of_one_network(bench, ("large",))
    assert (large.spec, tuple(large.tasks), tuple(large.inputs)) == (bench.inputs["large"].spec, ("large",), ("large",))
    assert large.architectures == bench.architectures
    whole = synthetic.benchmark(6)
    assert of_one_network(whole, ("size_kd",)).to_bytes() == whole.to_bytes()
