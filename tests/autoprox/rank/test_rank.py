"""Rank: what is ranked, runs that go on to the same scores, failures counted."""

import dataclasses
from pathlib import Path

import numpy as np
import orjson
import pytest
import synthetic
import torch
from small_zoo import FORMULAS, SMALL

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.benchmarks.tabular import TabularArchitecture
from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.bench_cache.spaces.registry import get_space
from autoprox.bench_cache.statistics.protocol import rounded
from autoprox.evolve import JournalError
from autoprox.proxy import Proxy, ProxyError
from autoprox.rank.plan import MergedRanks, RankError, RankPlan, from_record, make_plan, network_setups, proxies_to_rank
from autoprox.rank.scores import SCORES, Scores, collect, load
from autoprox.rank.stats import rank_rows
from autoprox.search.candidate import Candidate
from autoprox.search.votes import counted
from autoprox.zoo import ZOO
from autoprox.zoo.az_nas import log_rank_sum, mean_rank

BENCHMARK = synthetic.benchmark(8)


def tabular(count: int = 12) -> Benchmark:
    rng = np.random.default_rng(0)
    architectures = tuple(TabularArchitecture((("layer_num", n), ("embed_dim", 48))) for n in range(count))
    columns = {"snip": rng.normal(size=count), "gap": np.where(np.arange(count) < 3, np.nan, rng.normal(size=count))}
    columns["m_size"] = np.arange(count) + 100.0
    return Benchmark("table", None, None, "made up", architectures, {"oa": 50 + rng.normal(size=count)}, columns)


def put_in_place(patched: pytest.MonkeyPatch) -> None:
    for module in ("rank.plan", "proxy"):
        patched.setattr(f"autoprox.{module}.ZOO", SMALL)


@pytest.fixture
def zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small zoo in place of the zoo: formulas, a function, a function that trains."""
    put_in_place(monkeypatch)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scores, bytes]:
    """The scores and the journal of `small_plan`."""
    out = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patched:
        put_in_place(patched)
        return collect(small_plan(), out), (out / SCORES).read_bytes()


def written(out: Path, journal: bytes) -> Path:
    out.mkdir()
    (out / SCORES).write_bytes(journal)
    return out


def values(scores: Scores, task: str = "size_kd") -> dict[str, np.ndarray]:
    return dict(zip(scores.table.proxies, scores.table.scores[task], strict=True))


# --- what is ranked ---


def test_structure_comes_first_and_all_is_the_training_free_zoo(zoo: None) -> None:
    found = proxies_to_rank(BENCHMARK, ["all"])
    assert [p.name for p in found] == ["params", "flops", "activations", "depth", "width", *FORMULAS, "fails"]
    assert [p.name for p in proxies_to_rank(BENCHMARK, ["steps", "params"])][5:] == ["steps"]


def test_own_formulas_files_and_runs_are_ranked(tmp_path: Path) -> None:
    proxy = Proxy.from_formula("mean(std(weight[mlp]))", "evolved")
    proxy.save(tmp_path / "run" / "proxy.json")
    refs = [str(tmp_path / "run"), str(tmp_path / "run" / "proxy.json"), "sum(fro( weight ))", "snip"]
    found = proxies_to_rank(BENCHMARK, refs)[5:]
    assert [(p.name, p.text) for p in found] == [
        (refs[0], proxy.formula.text),
        (refs[1], proxy.formula.text),
        ("sum(fro(weight))", "sum(fro(weight))"),
        ("snip", ZOO["snip"].formula),
    ]
    with pytest.raises(ProxyError, match=r"did you mean 'synflow'\?"):
        proxies_to_rank(BENCHMARK, ["synflo"])


def test_a_tables_proxies_are_its_columns() -> None:
    table = tabular()
    assert [p.name for p in proxies_to_rank(table, ["all"])] == ["params", "depth", "width", "snip", "gap", "m_size"]
    assert [p.name for p in proxies_to_rank(table, ["gap"])] == ["params", "depth", "width", "gap"]
    with pytest.raises(RankError, match=r"^table is tabular: .* no column 'synflow'; there are snip, gap, m_size$"):
        proxies_to_rank(table, ["synflow"])


def test_architectures_are_those_with_an_accuracy_of_the_split_or_a_sample_of_them() -> None:
    rare = make_plan(BENCHMARK, tasks=["rare"], proxies=["snip"])
    assert list(rare.architectures) == list(np.flatnonzero(~np.isnan(BENCHMARK.tasks["rare"])))
    assert make_plan(BENCHMARK, proxies=["snip"]).architectures == tuple(range(8))
    evolve = make_plan(BENCHMARK, proxies=["snip"], split="evolve").architectures
    assert set(evolve) == set(BENCHMARK.splits()["evolve"])
    drawn = [make_plan(BENCHMARK, proxies=["snip"], sample=4, seed=seed).architectures for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 4
    for choices, message in (
        ({"sample": 9}, r"sample is 9; it must be from 3 to 8, .* of small \(all\)"),
        ({"sample": 2}, "sample is 2"),
        ({"split": "rest"}, "no split is called 'rest'; there are all, evolve, validation, test"),
        ({"batch": 0}, "batch is 0"),
        ({"split": "validation"}, r"too few to rank"),
    ):
        with pytest.raises(RankError, match=message):
            make_plan(BENCHMARK, proxies=["snip"], **choices)  # type: ignore[arg-type]
    with pytest.raises(BenchmarkError, match="no task is called 'none'"):
        make_plan(BENCHMARK, tasks=["none"])


# --- a run ---


def small_plan(**choices: object) -> RankPlan:
    return make_plan(BENCHMARK, tasks=["*_kd"], proxies=["all"], batch=2, **choices)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_runs_scores_are_those_of_its_networks(tmp_path: Path, zoo: None) -> None:
    plan = small_plan(seed=5)
    progress: list[tuple[int, int]] = []
    scores = collect(plan, tmp_path / "run", on_progress=lambda done, of: progress.append((done, of)))
    assert progress == [(n, 8) for n in range(1, 9)]
    found = values(scores)
    assert set(found) == {"params", "flops", "activations", "depth", "width", *FORMULAS, "fails"}
    for name, closed in BENCHMARK.structure().items():
        np.testing.assert_array_equal(found[name], closed)
    np.testing.assert_allclose(found["closed"], found["depth"] * found["width"])
    inputs, targets = network_setups(plan)[0].tensors()
    model = get_space("pit-vb101").build(BENCHMARK.architectures[2], synthetic.SPEC, 5)
    alone = Proxy.from_formula(FORMULAS["snip"]).score(model, inputs, targets, seed=5)
    assert found["snip"][2] == rounded(np.array(alone))
    assert scores.seconds["params"] == 0.0
    assert scores.seconds["snip"] > 0


def test_failures_are_counted_by_reason_and_not_scored(finished: tuple[Scores, bytes]) -> None:
    scores = finished[0]
    depths = BENCHMARK.structure()["depth"]
    missing = np.isnan(values(scores)["fails"])
    np.testing.assert_array_equal(missing, (depths > 12) | (depths == 11))
    assert missing.any()
    assert not missing.all()
    counts = {failure.reason: failure.count for failure in scores.failures}
    assert all(failure.proxy == "fails" for failure in scores.failures)
    assert sum(counts.values()) == missing.sum()
    deep = [count for reason, count in counts.items() if reason.endswith("blocks are too many")]
    assert deep == [int((depths > 12).sum())]  # one line, though the numbers in the reasons differ
    row = next(row for row in rank_rows(scores.table) if (row.task, row.proxy) == ("size_kd", "fails"))
    assert (row.n, row.unscored) == (8 - missing.sum(), missing.sum())


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_to_the_same_scores(
    tmp_path: Path, zoo: None, finished: tuple[Scores, bytes]
) -> None:
    plan, whole = small_plan(), finished[0]
    lines = finished[1].splitlines(keepends=True)
    for kept in (4, 8, 9):
        torn = lines[kept][:20] if kept < 9 else b""
        out = written(tmp_path / str(kept), b"".join(lines[:kept]) + torn)
        begun: list[int] = []
        scores = collect(plan, out, on_progress=lambda done, of, begun=begun: begun.append(done))
        assert begun == list(range(kept, 9))
        np.testing.assert_array_equal(scores.table.scores["size_kd"], whole.table.scores["size_kd"])
        assert scores.failures == whole.failures
        assert (out / SCORES).read_bytes().count(b"\n") == 9


@pytest.mark.slow
def test_two_workers_find_the_same(tmp_path: Path) -> None:
    plan = make_plan(BENCHMARK, tasks=["*_kd"], proxies=["snip", "synflow"], batch=2, sample=5)
    one, two = (collect(plan, tmp_path / str(workers), workers=workers) for workers in (1, 2))
    np.testing.assert_array_equal(one.table.scores["size_kd"], two.table.scores["size_kd"])


@pytest.mark.slow
def test_another_run_in_the_directory_is_refused(tmp_path: Path, zoo: None) -> None:
    collect(small_plan(), tmp_path / "run")
    with pytest.raises(
        RankError, match=r"holds a run with another setting: seed is 0 there and 1 here; choose another"
    ):
        collect(small_plan(seed=1), tmp_path / "run")
    with pytest.raises(RankError, match="another setting: benchmark is"):
        collect(make_plan(synthetic.benchmark(8, seed=1), tasks=["*_kd"], batch=2), tmp_path / "run")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(RankError, match="already holds other files"):
        collect(small_plan(), tmp_path / "other")


def test_a_line_of_something_else_is_refused(tmp_path: Path, zoo: None, finished: tuple[Scores, bytes]) -> None:
    lines = finished[1].splitlines()
    record = orjson.loads(lines[3])
    del record["networks"][0]["snip"]
    lines[3] = orjson.dumps(record)
    written(tmp_path / "run", b"\n".join(lines) + b"\n")
    with pytest.raises(JournalError, match=r"a line is not what this plan scores \(KeyError\('snip'\)\)"):
        collect(small_plan(), tmp_path / "run")


def test_a_finished_run_is_loaded_with_its_plan(tmp_path: Path, zoo: None, finished: tuple[Scores, bytes]) -> None:
    plan = small_plan()
    found, again = load(BENCHMARK, written(tmp_path / "run", finished[1]))
    assert (found.tasks, found.proxies, found.architectures) == (plan.tasks, plan.proxies, plan.architectures)
    np.testing.assert_array_equal(again.table.scores["size_kd"], finished[0].table.scores["size_kd"])
    with pytest.raises(RankError, match="holds scores of another benchmark than this small"):
        load(synthetic.benchmark(8, seed=1), tmp_path / "run")
    written(tmp_path / "part", b"".join(finished[1].splitlines(keepends=True)[:3]))
    with pytest.raises(RankError, match="has scored 2 of 8 architectures; go on with autoprox rank --resume --out "):
        load(BENCHMARK, tmp_path / "part")


def test_a_table_is_ranked_without_building_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoprox.rank.scores.score_network", None)
    table = tabular()
    scores = collect(make_plan(table), tmp_path / "run", workers=2)
    found = values(scores, "oa")
    np.testing.assert_array_equal(found["gap"], table.columns["gap"])
    np.testing.assert_array_equal(found["params"], table.columns["m_size"])
    assert [(f.proxy, f.reason, f.count) for f in scores.failures] == [("gap", "missing in the table", 3)]
    stopped = collect(make_plan(table, proxies=["params * 1e29"]), tmp_path / "stopped")
    assert [(f.reason, f.count) for f in stopped.failures] == [("the value is 1e30, where formulas stop", 12)]
    assert np.isnan(values(stopped, "oa")["params * 1e+29"]).all()
    assert np.isnan(scores.seconds["snip"])
    assert load(table, tmp_path / "run")[1].table.proxies == scores.table.proxies


def test_the_batch_is_gaussian_seeded_and_not_that_of_the_probe_noise() -> None:
    first, again, other = (
        network_setups(make_plan(BENCHMARK, proxies=["snip"], seed=s, batch=64))[0] for s in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.inputs, again.inputs)
    assert not np.array_equal(first.inputs, other.inputs)
    assert first.inputs.shape == (64, 3, 24, 24)
    assert abs(first.inputs.mean()) < 0.01
    assert abs(first.inputs.std() - 1) < 0.01
    assert set(first.targets) == set(range(10))
    for batch, distinct in ((1, 1), (2, 2), (3, 2), (4, 2), (7, 4), (8, 4)):
        targets = network_setups(make_plan(BENCHMARK, proxies=["snip"], batch=batch))[0].targets
        assert (len(targets), len(set(targets))) == (batch, distinct)
    noise = torch.randn(first.inputs.shape, generator=torch.Generator().manual_seed(0)).numpy()
    assert not np.allclose(noise, first.inputs)


def test_az_nas_merges_the_ranks_by_its_parts(tmp_path: Path) -> None:
    plan = make_plan(BENCHMARK, tasks=["*_kd"], proxies=["az-nas"], sample=5)
    assert [p.name for p in plan.proxies][5:] == ["az-expressivity", "az-trainability", "az-complexity", "az-nas"]
    scores = collect(plan, tmp_path / "run")
    found = values(scores)
    parts = [found[name] for name in ("az-expressivity", "az-trainability", "az-complexity")]
    np.testing.assert_allclose(found["az-nas"], log_rank_sum(parts))
    np.testing.assert_array_equal(found["az-complexity"], found["flops"])
    assert scores.seconds["az-nas"] == scores.seconds["az-expressivity"] + scores.seconds["az-trainability"]
    again = load(BENCHMARK, tmp_path / "run")[1]
    np.testing.assert_array_equal(again.table.scores["size_kd"], scores.table.scores["size_kd"])


def test_a_vote_is_the_mean_rank_as_in_a_search(tmp_path: Path) -> None:
    plan = make_plan(BENCHMARK, tasks=["*_kd"], proxies=["snip", "az-nas", "params"], sample=6, vote=True)
    assert plan.proxies[-1] == MergedRanks("vote", ("snip", "az-nas", "params"), "mean")
    scores = collect(plan, tmp_path / "run")
    found = values(scores)
    candidates = [
        Candidate(None, "", 0, 0, 0, 0, 0, votes=tuple(float(found[name][n]) for name in ("snip", "az-nas", "params")))
        for n in range(6)
    ]
    in_search = [candidate.score for candidate in counted(candidates)]
    np.testing.assert_allclose((found["vote"] * 6 - 1) / 5, in_search)  # a search counts ranks from 0 to 1
    assert scores.seconds["vote"] == scores.seconds["snip"] + scores.seconds["az-nas"] + scores.seconds["params"]
    again = load(BENCHMARK, tmp_path / "run")[1]
    np.testing.assert_array_equal(again.table.scores["size_kd"], scores.table.scores["size_kd"])


def test_who_has_no_score_by_one_proxy_has_no_vote_and_moves_no_other() -> None:
    nan = float("nan")
    first, second = [1.0, 2.0, nan, 4.0], [40.0, 10.0, 20.0, 30.0]
    np.testing.assert_allclose(mean_rank([first, second]), [2 / 3, 1 / 2, nan, 5 / 6])


def test_a_score_at_the_limit_has_no_vote(tmp_path: Path) -> None:
    plan = make_plan(BENCHMARK, tasks=["*_kd"], proxies=["square(exp(params))", "depth"], sample=6, vote=True)
    scores = collect(plan, tmp_path / "run")
    assert np.isnan(values(scores)["square(exp(params))"]).all()
    assert np.isnan(values(scores)["vote"]).all()


def test_who_votes() -> None:
    everyone = proxies_to_rank(BENCHMARK, ["all"], vote=True)[-1]
    assert isinstance(everyone, MergedRanks)
    assert {"snip", "az-expressivity"} <= set(everyone.parts)
    assert "az-nas" not in everyone.parts
    for refs in (["snip"], ["snip", "snip"], ["az-nas"]):
        with pytest.raises(RankError, match="a vote takes two proxies or more; name them with --proxies"):
            proxies_to_rank(BENCHMARK, refs, vote=True)
    own = Proxy.from_formula("sum(fro(weight))", "vote")
    with pytest.raises(RankError, match="a proxy is called 'vote', as the row of the vote is"):
        proxies_to_rank(BENCHMARK, ["snip", own], vote=True)


def test_proxies_are_recorded_by_their_text() -> None:
    made = proxies_to_rank(BENCHMARK, ["snip", "grasp", "sum(fro(weight))", "az-nas"])
    plan = RankPlan(BENCHMARK, ("size_kd",), made, (0, 1, 2))
    records = orjson.loads(orjson.dumps(plan.record()["proxies"]))
    assert records[5:8] == [
        {"name": "snip", "proxy": "sum(l1(weight * weight_grad))"},
        {"name": "grasp", "proxy": "grasp"},
        {"name": "sum(fro(weight))", "proxy": "sum(fro(weight))"},
    ]
    assert tuple(from_record(record) for record in records) == made
    assert isinstance(made[-1], MergedRanks)


def test_each_draw_has_the_next_images_and_after_the_last_the_first_again() -> None:
    benchmark = synthetic.mini(6)
    given = benchmark.inputs["small"]
    plan = make_plan(benchmark, tasks=["small"], proxies=["snip"], batch=3)
    assert "draw" not in plan.record()
    for draw, at in ((0, [0, 1, 2]), (1, [3, 0, 1]), (2, [2, 3, 0])):
        drawn = dataclasses.replace(plan, draw=draw)
        np.testing.assert_array_equal(network_setups(drawn)[0].inputs, given.images[at])
        np.testing.assert_array_equal(network_setups(drawn)[0].targets, given.targets[at])
    assert drawn.record()["draw"] == 2
