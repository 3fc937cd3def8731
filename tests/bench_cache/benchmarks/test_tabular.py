"""Formulas over the columns of a table: their text, their scores without networks, and evolution over them."""

import json
from collections.abc import Sequence
from pathlib import Path

import homes
import numpy as np
import pytest
import scipy.stats
import synthetic
import torch
from hypothesis import given
from hypothesis import strategies as st
from public_files import reference
from tiny_vit import TinyVit, batch

from autoprox.bench_cache.benchmarks.table import SPLITS, STRUCTURE, Benchmark
from autoprox.bench_cache.benchmarks.tabular import TabularArchitecture
from autoprox.bench_cache.runtime.checks import BenchmarkError, check_name
from autoprox.bench_cache.statistics import vectors
from autoprox.bench_cache.statistics.columns import TabularScorer, common_statistics
from autoprox.bench_cache.statistics.protocol import rounded
from autoprox.bench_cache.statistics.scorer import network_scorer
from autoprox.cli.root import main
from autoprox.evolution import JOURNAL, run_evolution, start_evolution
from autoprox.evolve import FITTED, FORMULA, TABULAR, Breeder, Invalid, Judge, Judgement, Task, tabular
from autoprox.evolve.variation import generator
from autoprox.export import export
from autoprox.export.sources import SourceError
from autoprox.primitives import (
    Formula,
    FormulaError,
    LayerError,
    Reading,
    canonical,
    evaluate,
    from_json,
    parse,
    statistic,
)
from autoprox.primitives.evaluate import Layout, finish
from autoprox.primitives.operations import MAX, OPERATIONS, Operation
from autoprox.proxy import PROXY_FILE, Proxy, ProxyError
from autoprox.search.on_benchmark import search_benchmark
from autoprox.search.strategies import SearchSettings

COUNT = 120
CHOICES = {"grammar": TABULAR, "generations": 4, "population": 8, "seed": 3}
FILES = (JOURNAL, PROXY_FILE, "report.json", "report.csv", "generations.csv")


def table(name: str = "table", count: int = COUNT, **columns: np.ndarray) -> Benchmark:
    """A table whose accuracies follow `good` over `scale`, beside a useless column and a parameter count."""
    rng = np.random.default_rng(len(name))
    good, scale, noise = rng.uniform(1, 9, count), rng.uniform(1, 9, count), rng.normal(size=count)
    found = {"good": good, "scale": scale, "no.use-1_x": noise, "m_size": good * 100 + rng.normal(0, 200, count)}
    accuracies = {"oa": 50 + 40 * np.tanh(good / scale / 4) + rng.normal(0, 0.1, count)}
    architectures = tuple(
        TabularArchitecture((("number", number), ("embed_dim", 48 + number % 7))) for number in range(count)
    )
    return Benchmark(name, None, None, "made up", architectures, accuracies, {**found, **columns})


TABLE = table()


@pytest.fixture(autouse=True)
def _in_a_folder_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPROX_HOME", str(homes.made(tmp_path / "home")))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)


# --- the language ---


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True))
def test_a_column_is_written_and_read_back(name: str) -> None:
    assert check_name(name, "column") == name  # what a benchmark's column can be called, a formula can read
    text = f"log(column[{name}]) * 2 - column[{name}] / params"
    formula = parse(text)
    assert formula.text == text
    assert parse(canonical(formula).text) == canonical(formula)
    assert from_json(json.loads(json.dumps(formula.to_json()))) == formula
    assert {str(t) for t in formula.terminals()} == {f"column[{name}]", "params"}
    assert Proxy.from_formula(text).formula == formula


def test_how_a_column_is_shown() -> None:
    formula = parse("column[grad_norm] - column [ snip ]")
    assert formula.text == "column[grad_norm] - column[snip]"
    assert formula.latex == r"\mathrm{grad\_norm} - \mathrm{snip}"
    assert formula.to_json()["nodes"][0] == {"statistic": "column", "marks": ["grad_norm"]}
    assert "column[grad_norm]" in export(Proxy(formula), "dot")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 + column", "write column\\[NAME\\] \\(column 5\\)"),
        ("column[]", "takes the name of a column"),
        ("column[a b]", "takes the name of a column"),
        ("column[.a]", "takes the name of a column"),
        (f"column[{'a' * 65}]", "takes the name of a column"),
        ("column[a", "write column\\[NAME\\]"),
        ("column(a)", "unknown operation 'column'"),
        ("sum(column[a])", "'sum' takes a matrix or numbers per layer, not Net"),
    ],
)
def test_what_is_no_column(text: str, message: str) -> None:
    with pytest.raises(FormulaError, match=message):
        parse(text)
    with pytest.raises(FormulaError, match="name of one column"):
        statistic("column")


def test_a_model_has_no_columns() -> None:
    told = r"^the formula reads column\[snip\], which is of a benchmark's table; a model has none$"
    with pytest.raises((LayerError, ProxyError), match=told):
        Proxy.from_formula("column[snip] * sum(fro(weight))").score(TinyVit(), *batch())
    with pytest.raises(LayerError, match=told):
        evaluate(parse("column[snip] + params"), Reading(net={"params": 1.0}))
    with pytest.raises(
        SourceError, match=r"reads column\[snip\], .* cannot compute it from a model; export it to text"
    ):
        export(Proxy.from_formula("column[snip]"), "python")
    small = synthetic.benchmark(16)
    with pytest.raises(BenchmarkError, match=r"column\[snip\] is of a table; the networks of small have none"):
        network_scorer(small, Path("statistics")).scores([parse("column[snip]")], [0])


# --- scores ---


def test_scores_are_those_of_numpy() -> None:
    made, at = TabularScorer(TABLE), np.arange(3, COUNT, 2)
    good, scale, params = (TABLE.columns[name][at] for name in ("good", "scale", "m_size"))
    width = np.array([48.0 + i % 7 for i in at])
    wanted = {
        "column[good] / column[scale]": good / scale,
        "log(params) - sqrt(column[no.use-1_x])": np.log(np.maximum(params, 1e-30))
        - np.sign(TABLE.columns["no.use-1_x"][at]) * np.sqrt(np.abs(TABLE.columns["no.use-1_x"][at])),
        "maximum(column[good], 3) * width": np.maximum(good, 3) * width,
    }
    found = made.scores([parse(text) for text in wanted], at)
    np.testing.assert_allclose(found, np.array(list(wanted.values())), rtol=1e-11)
    assert set(made.structure) == {"params", "width"}


def one_by_one(made: TabularScorer, formula: Formula, at: np.ndarray) -> np.ndarray:
    """The plain evaluator: one formula, node by node."""

    def net(name: str) -> torch.Tensor:
        return torch.from_numpy(np.clip(made.known[name][at], -MAX, MAX))[:, None]

    layout = Layout([1] * len(at))
    return rounded(
        finish(formula, lambda node: pytest.fail(f"{node} is no number of the network"), net, layout).numpy()
    )


@pytest.mark.parametrize(("kept", "at_once"), [(2**26, 512), (0, 7)])
def test_formulas_together_are_those_one_by_one(kept: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "KEPT", kept)
    monkeypatch.setattr(vectors, "AT_ONCE", at_once)
    huge, minute = (TABLE.columns["no.use-1_x"] * scale for scale in (1e200, 1e-31))
    made = TabularScorer(table(huge=huge, minute=minute))
    breeder, rng = Breeder(tabular(common_statistics([made.benchmark])), Judge([], [])), generator("vectors")
    formulas = [breeder.founder(rng).formula for _ in range(300)]
    used = {node.head.name for formula in formulas for node in formula.nodes() if isinstance(node.head, Operation)}
    assert used == {name for name in OPERATIONS if breeder.grammar.uses(name)}
    for part in (formulas[:200], formulas[100:], formulas):  # a second time, from what was kept
        for at in (np.arange(3, COUNT, 2), np.arange(COUNT)):
            expected = [one_by_one(made, formula, at) for formula in part]
            np.testing.assert_array_equal(made.scores(part, at), expected)


def test_what_is_missing_has_no_score() -> None:
    gaps = np.where(np.arange(COUNT) % 10 == 4, np.nan, TABLE.columns["scale"])
    made = TabularScorer(table(gaps=gaps))
    formulas = [parse(text) for text in ("column[good] / column[gaps]", "1 / column[gaps]", "column[good]")]
    found = made.scores(formulas, np.arange(COUNT))
    assert (np.isnan(found) == [np.isnan(gaps), np.isnan(gaps), [False] * COUNT]).all()
    judged = Judge([made], [Task(0, "oa")]).judge(formulas, "evolve")
    missing = int(np.isnan(gaps[made.benchmark.splits()["evolve"]]).sum())
    whole = len(made.benchmark.splits()["evolve"])
    assert missing > 0
    assert judged[:2] == [Invalid(f"no score for {missing} of {whole} architectures of table")] * 2
    assert isinstance(judged[2], Judgement)


def test_numbers_beyond_the_language_are_read_as_its_largest() -> None:
    made = TabularScorer(table(huge=np.full(COUNT, 1e300), low=np.full(COUNT, -1e300)))
    found = made.scores([parse("column[huge] * 2"), parse("column[low]")], [0, 1])
    np.testing.assert_allclose(found, [[1e30] * 2, [-1e30] * 2], rtol=1e-11)


@pytest.mark.parametrize("text", ["column[snip]", "flops", "column[good] + sum(fan_in)", "sum(fro(weight))"])
def test_what_the_table_does_not_have_is_refused(text: str) -> None:
    with pytest.raises(
        BenchmarkError, match=r"which the table of benchmark table does not have; there are params, width"
    ):
        TabularScorer(TABLE).scores([parse(text)], [0])


def test_the_columns_of_a_benchmark_with_a_space() -> None:
    small = synthetic.benchmark(16)
    both = Benchmark(
        "both", small.space, small.spec, "", small.architectures, small.tasks, {"x": np.arange(16.0)}, small.inputs
    )
    found = TabularScorer(both).scores([parse("column[x] + params")], [5, 7])
    np.testing.assert_allclose(found[0], both.structure()["params"][[5, 7]] + [5, 7])


def test_common_statistics_are_complete_and_not_the_structure_again() -> None:
    gaps = np.where(np.arange(COUNT) == 4, np.nan, 1.0)
    first, second = table("first", gaps=np.ones(COUNT), only=np.ones(COUNT)), table("second", gaps=gaps)
    found = [formula.text for formula in common_statistics([first, second])]
    assert found == ["params", "width", "column[good]", "column[scale]", "column[no.use-1_x]"]


def test_sizes_alone_are_combined_where_no_column_is_common() -> None:
    small = synthetic.benchmark(16)
    assert [formula.text for formula in common_statistics([small])] == list(STRUCTURE)
    assert [formula.text for formula in common_statistics([TABLE, small])] == ["params", "width"]
    other = nameless("other")
    with pytest.raises(BenchmarkError, match=r"neither a size nor a column has a value for .* of small, other: "):
        common_statistics([small, other])


def nameless(name: str) -> Benchmark:
    """A tabular benchmark of which nothing is known but the accuracies."""
    bare = tuple(TabularArchitecture((("name", f"net-{number}"),)) for number in range(COUNT))
    return Benchmark(name, None, None, "", bare, TABLE.tasks, {})


def test_a_formula_of_sizes_is_evolved_where_networks_could_be_built() -> None:
    start_evolution([synthetic.benchmark(16)], ["size_kd"], Path("sizes"), **CHOICES)
    result = run_evolution(Path("sizes"))
    assert result.finished
    assert {str(terminal) for terminal in result.proxy.formula.terminals()} <= set(STRUCTURE)


# --- evolution ---


def test_the_grammar_writes_formulas_over_its_statistics() -> None:
    made, read = tabular(common_statistics([TABLE])), set()
    judge = Judge([TabularScorer(TABLE)], [Task(0, "oa")])
    rng, breeder = generator("tabular"), Breeder(made, judge)
    for _ in range(300):
        parent = breeder.founder(rng)
        for formula in (parent.formula, breeder.mutant(parent, rng).formula):
            assert formula.is_complete
            assert parse(formula.text) == formula
            assert all(node.kind.level == "net" for node in formula.nodes())
            read |= {str(t) for t in formula.terminals()}
    assert read == {formula.text for formula in common_statistics([TABLE])}


def begin(out: Path, *benchmarks: Benchmark) -> Path:
    start_evolution(benchmarks or [TABLE], [], out, **CHOICES)
    return out


def test_evolution_finds_what_the_accuracies_follow() -> None:
    result = run_evolution(begin(Path("run")))
    assert result.finished
    test = TABLE.splits()["test"]
    (scores,) = TabularScorer(TABLE).scores([result.proxy.formula], test)
    row = result.report.row(FORMULA, "test")
    assert row.tau == pytest.approx(scipy.stats.kendalltau(scores, TABLE.tasks["oa"][test]).statistic)
    assert row.tau > max(result.report.row(name, "test").tau for name in ("params", "width")) + 0.1
    assert {r.predictor for r in result.report.rows} == {FORMULA, "params", "width", FITTED}
    assert [lead.split for lead in result.report.leads if lead.baseline == "params"] == list(SPLITS)


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_the_same_seed_gives_the_same_run(workers: int) -> None:
    whole, other = begin(Path("whole"), TABLE, table("other")), begin(Path("other"), TABLE, table("other"))
    run_evolution(whole)
    run_evolution(other, generations=2, workers=workers)
    run_evolution(other, generations=CHOICES["generations"], workers=workers)  # resumed
    for name in FILES:
        assert (whole / name).read_bytes() == (other / name).read_bytes(), name


def test_a_table_without_params_has_no_lead(capsys: pytest.CaptureFixture[str]) -> None:
    columns = {name: values for name, values in TABLE.columns.items() if name != "m_size"}
    bare = nameless("bare")
    Benchmark("bare", None, None, "", bare.architectures, TABLE.tasks, columns).save(Path("bare.json"))
    assert evolve("--bench", "bare.json") == 0
    out = capsys.readouterr().out
    assert "Nothing is known of the architectures' structure, so there is nothing to compare with." in out
    assert "Next: autoprox search --bench runs/001/benchmarks/bare.json --proxy runs/001" in out
    rows = json.loads(Path("runs/001/report.json").read_bytes())
    assert {row["predictor"] for row in rows["rows"]} == {FORMULA}
    assert {row["partial"] for row in rows["rows"]} == {None}
    assert rows["leads"] == []


def evolve(*arguments: str) -> int:
    small = ("--generations", "2", "--population", "6", "--workers", "1")
    return main(["evolve", "--grammar", TABULAR, *small, *arguments])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--bench", "table.json", "--grammar", "typed"), "cannot be built and probed; use --grammar tabular"),
        (("--bench", "bare.json"), "neither a size nor a column has a value for every architecture of bare"),
        (("--bench", "table.json", "--costly"), "--grammar tabular runs no networks; leave out --costly and --batch"),
        (("--bench", "table.json", "--batch", "4"), "--grammar tabular runs no networks"),
    ],
)
def test_what_cannot_be_evolved_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: Sequence[str], message: str
) -> None:
    TABLE.save(Path("table.json"))
    nameless("bare").save(Path("bare.json"))
    assert evolve(*arguments) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert message in error
    assert "\n" not in error
    assert not Path("runs").exists()


# --- what else takes a formula ---


def test_a_search_is_scored_from_the_table() -> None:
    gaps = np.where(np.arange(COUNT) % 10 == 4, np.nan, TABLE.columns["scale"])
    made = table(gaps=gaps)
    result = search_benchmark(
        made, parse("column[good] / column[gaps]"), SearchSettings(strategy="random", budget=COUNT)
    )
    best = max((i for i in range(COUNT) if not np.isnan(gaps[i])), key=lambda i: made.columns["good"][i] / gaps[i])
    assert result.ranked[0].key == made.key(made.architectures[best])
    problems = [entry for entry in result.candidates if entry.score is None]
    assert len(problems) == np.isnan(gaps).sum()
    assert {entry.problem for entry in problems} == {"a number that the formula reads is missing in the table"}
    with pytest.raises(BenchmarkError, match=r"reads column\[none\], which the table of benchmark table does not have"):
        search_benchmark(made, parse("column[none]"), SearchSettings(strategy="random", budget=5))


def test_rank_says_that_it_ranks_by_networks(capsys: pytest.CaptureFixture[str]) -> None:
    synthetic.benchmark(16).save(Path("small.json"))
    assert main(["rank", "--bench", "small.json", "--proxies", "column[a]"]) == 2
    assert "'column[a]' reads columns of a table, and small is ranked by its networks" in capsys.readouterr().err


@pytest.mark.slow
def test_evolution_on_hytas(capsys: pytest.CaptureFixture[str]) -> None:
    for scene in ("indian", "houston"):
        assert main(["bench", "import", str(reference("hytas", f"{scene}.csv"))]) == 0
    assert evolve("--bench", "hytas-indian", "--bench", "hytas-houston", "--generations", "1") == 0
    assert main(["search", "--bench", "hytas-indian", "--proxy", "runs/001", "--budget", "50", "--out", "found"]) == 0
    assert "The best 10 of 50" in capsys.readouterr().out
