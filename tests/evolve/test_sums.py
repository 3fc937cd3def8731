"""Weighted sums and the search of numbers: rated as judged, written and read back, and one seed is one result."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deap import gp

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.benchmarks.tabular import TabularArchitecture
from autoprox.evolution import JOURNAL, EvolutionWatcher, run_evolution, start_evolution
from autoprox.evolve import TABULAR, Breeder, EvolutionSettings, Judgement, SettingsError, grammar
from autoprox.evolve.assembly import assembled_grammar, assembled_judge
from autoprox.evolve.loop import found
from autoprox.evolve.pieces import FORMS
from autoprox.evolve.refinements import REFINEMENTS
from autoprox.evolve.sums import renumbered, weighted_sums
from autoprox.evolve.variation import generator, grow
from autoprox.primitives import FormulaError, parse
from autoprox.primitives.canonical import canonical

SIZES = {"generations": 5, "population": 6, "grammar": TABULAR}


def table(count: int = 80) -> Benchmark:
    """Make a table whose accuracies are a weighted sum of two columns, one of them 300 times as large."""
    rng = np.random.default_rng(0)
    small, large = rng.normal(size=count), 300 * rng.normal(size=count)
    rows = tuple(TabularArchitecture((("number", number),)) for number in range(count))
    accuracy = 50 + 5 * small - 3 * large / 300
    return Benchmark("table", None, None, "made up", rows, {"oa": accuracy}, {"small": small, "large": large})


def breeder() -> Breeder:
    settings = EvolutionSettings((("table", ""),), ("table:oa",), **SIZES)
    judge = assembled_judge(settings, [table()], None)
    return Breeder(assembled_grammar(settings, [table()]), judge, keeps_pieces=True)


def test_the_best_weight_is_found_whatever_the_scales() -> None:
    breeding = breeder()
    of_one = {n: breeding.individual(breeding.grammar.read([f"column[{n}]"])) for n in ("small", "large")}
    small, large = of_one["small"], of_one["large"]
    assert small is not None
    assert large is not None
    breeding.evaluate([small, large])
    made = [each for seed in range(12) for each in weighted_sums(small, breeding, random.Random(seed))]
    breeding.evaluate(made)
    assert isinstance(small.outcome, Judgement)
    best = max(each.outcome.joint for each in made if isinstance(each.outcome, Judgement))
    assert best > 0.9 > 0.7 > small.outcome.joint


def test_a_sum_is_rated_as_it_is_judged() -> None:
    breeding = breeder()
    population = found(breeding, 12, generator(0))
    rated: list[float] = []
    joint = breeding.judge.joint

    def watched(scores: Any, split: str = "evolve") -> np.ndarray:
        rated.append(float(joint(scores, split).max()))
        return joint(scores, split)

    breeding.judge.joint = watched  # type: ignore[method-assign]
    sums = [each for seed in range(10) for each in weighted_sums(population[0], breeding, generator(seed))[:1]]
    breeding.judge.joint = joint  # type: ignore[method-assign]
    breeding.evaluate(sums)
    judged = [each.outcome.joint for each in sums if isinstance(each.outcome, Judgement)]
    assert len(judged) > 4
    assert np.mean([rating == pytest.approx(value) for rating, value in zip(rated, judged, strict=False)]) > 0.7


def test_numbers_out_of_range_are_not_tried() -> None:
    """Sizes spread over many powers of ten: a weight that the language cannot write is passed over, not an error."""
    breeding = breeder()
    texts = ["9e+29 * column[large]", "1e-25 * column[small]"]
    trees = [breeding.grammar.tree(parse(text)) for text in texts]
    large, small = (breeding.individual(gp.PrimitiveTree(tree)) for tree in trees)
    assert large is not None
    assert small is not None
    breeding.evaluate([large, small])
    assert all(weighted_sums(large, breeding, random.Random(seed)) is not None for seed in range(6))
    assert {each.formula.text for each in renumbered(large, breeding)} == {
        f"column[large] * {number}" for number in ("4.5e+29", "7.2e+29", "-9e+29")
    }


def test_a_piece_that_ranks_nothing_alone_is_found_by_what_is_left_unexplained() -> None:
    breeding = breeder()
    names = ["column[large]", "square(column[large])", "column[small]", "sqrt(column[large])"]
    for name in names:
        breeding.pieces.add(parse(name))
    (large,) = breeding.judge.scores([parse("column[large]")], "evolve")
    terms = breeding.pieces.terms(large[0], breeding.judge, 5)
    assert terms[0].formula.text == "column[small]"
    assert terms[0].agreement > 0.9
    assert abs(terms[-1].agreement) < 0.3
    (small,) = breeding.judge.scores([parse("column[small]")], "evolve")
    assert terms[0].scores == pytest.approx(FORMS[terms[0].form](small[0]))


def test_every_formula_of_a_grammar_has_a_tree() -> None:
    for made in (grammar("typed", costly=True), breeder().grammar):
        rng, trees = generator("trees"), 0
        for _ in range(60):
            formula = made.formula(grow(made, made.pset.ret, 2, 6, rng))
            tree = made.tree(canonical(formula))
            trees += tree is not None
            assert tree is None or canonical(made.formula(made.read([node.name for node in tree]))) == canonical(
                formula
            )
        assert trees > 40


def test_numbers_are_written_and_read_back() -> None:
    breeding = breeder()
    tree = breeding.grammar.read(["add: Net, Net", "column[small]", "mul: Net, Constant", "column[large]", "-0.013"])
    individual = breeding.individual(tree)
    assert individual is not None
    assert individual.formula.text == "column[small] + column[large] * -0.013"
    assert [node.name for node in breeding.grammar.read([node.name for node in tree])] == [node.name for node in tree]
    changed = {each.formula.text for each in renumbered(individual, breeding)}
    assert {
        f"column[small] + column[large] * {n}" for n in ("-0.0065", "-0.01", "-0.016", "-0.026", "0.013")
    } == changed


@pytest.mark.parametrize("name", ["0.50", "1e400", "nan", "x", "1_0"])
def test_what_is_no_number_as_we_write_it_is_no_node(name: str) -> None:
    with pytest.raises(FormulaError, match=r"^grammar tabular has no node '"):
        breeder().grammar.read([name])


def test_a_grammar_without_constants_has_no_numbers() -> None:
    with pytest.raises(FormulaError, match=r"^grammar auto-prox has no node '0\.3'$"):
        grammar("auto-prox").number(0.3)


def test_sums_find_what_the_default_does_not(tmp_path: Path) -> None:
    best = {}
    for refine in ("none", "sums"):
        start_evolution([table()], [], tmp_path / refine, refine=refine, **{**SIZES, "generations": 15})
        result = run_evolution(tmp_path / refine)
        best[refine] = result.report.row("formula", "evolve").tau
    assert best["sums"] > best["none"]


@pytest.mark.parametrize("refine", REFINEMENTS)
def test_pieces_are_kept_for_sums_alone(tmp_path: Path, refine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    start_evolution([table()], [], tmp_path / "run", refine=refine, **{**SIZES, "generations": 2})
    breeders: list[Breeder] = []
    made = Breeder.__init__
    monkeypatch.setattr(Breeder, "__init__", lambda self, *a, **k: breeders.append(self) or made(self, *a, **k))
    run_evolution(tmp_path / "run")
    run_evolution(tmp_path / "run", generations=3)  # restored from the journal, and gone on with
    assert [bool(breeder.pieces.formulas) for breeder in breeders] == [refine == "sums"] * 2


@pytest.mark.parametrize("at", [1, 4])
def test_a_run_gone_on_with_is_the_run_in_one_go(tmp_path: Path, at: int) -> None:
    def interrupt(record: Mapping[str, Any]) -> None:
        if record["generation"] == at:
            raise KeyboardInterrupt

    for name in ("one", "two"):
        start_evolution([table()], [], tmp_path / name, refine="sums", strategy="niches", **SIZES)
    run_evolution(tmp_path / "one")
    assert not run_evolution(tmp_path / "two", watch=EvolutionWatcher(generation=interrupt)).finished
    run_evolution(tmp_path / "two")
    assert (tmp_path / "two" / JOURNAL).read_bytes() == (tmp_path / "one" / JOURNAL).read_bytes()


def test_a_grammar_without_sums_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^the grammar auto-prox has no weighted sums; leave out --refine sums$"):
        start_evolution([table()], [], tmp_path / "run", refine="sums", grammar="auto-prox")
    with pytest.raises(SettingsError, match=r"^refine is 'sum'; it must be one of none, sums$"):
        EvolutionSettings((), (), refine="sum")
