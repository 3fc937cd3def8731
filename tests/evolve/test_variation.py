"""Variation: our operators are DEAP's, draw by draw, but for the generator that they draw from."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from deap import gp, tools

from autoprox.evolve import Breeder, Grammar, grammar, tabular
from autoprox.evolve.grammar import is_constant
from autoprox.evolve.variation import (
    SUBTREE_HEIGHTS,
    generator,
    grow,
    insert,
    number,
    replace,
    shrink,
    subtree,
    tournament,
)
from autoprox.primitives import parse, statistic

MADE = {name: grammar(name) for name in ("typed", "auto-prox")}


@pytest.fixture(autouse=True)
def _the_global_generator_as_it_was() -> Iterator[None]:
    state = random.getstate()
    yield
    random.setstate(state)


def deaps_subtree(tree: gp.PrimitiveTree, made: Grammar) -> tuple[Any, ...]:
    def expr(pset: Any, type_: type) -> list[Any]:
        return grow(made, type_, *SUBTREE_HEIGHTS, random)  # type: ignore[arg-type]

    return gp.mutUniform(tree, expr, made.pset)


PAIRS: dict[str, tuple[Callable, Callable]] = {
    "subtree": (subtree, deaps_subtree),
    "replace": (replace, lambda tree, made: gp.mutNodeReplacement(tree, made.pset)),
    "insert": (insert, lambda tree, made: gp.mutInsert(tree, made.pset)),
    "shrink": (shrink, lambda tree, made: gp.mutShrink(tree)),
}


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
@pytest.mark.parametrize("name", PAIRS)
def test_a_mutation_is_deaps_under_the_same_seed(name: str, made: Grammar) -> None:
    ours, deaps = PAIRS[name]
    rng, changed = generator(name), 0
    for seed in range(400):
        tree = gp.PrimitiveTree(grow(made, made.pset.ret, 0, 6, rng))
        before, own = list(tree), random.Random(seed)
        found = ours(tree, made, own)
        assert list(tree) == before  # ours changes a copy
        random.seed(seed)
        (expected,) = deaps(gp.PrimitiveTree(tree), made)
        assert list(found) == list(expected)
        assert own.getstate() == random.getstate()  # and has drawn as often
        changed += list(found) != before
    assert changed > 100 or (made.name == "auto-prox" and name in ("insert", "shrink"))


def test_a_tournament_is_deaps_under_the_same_seed() -> None:
    breeder, rng = Breeder(MADE["typed"], None), generator(0)  # type: ignore[arg-type]
    individuals = [breeder.founder(rng) for _ in range(30)]
    for place, individual in enumerate(individuals):
        if place % 5:
            individual.fitness.values = (rng.choice((0.1, 0.2, 0.3)), 5.0)  # ties, and some without a fitness
    for seed in range(50):
        own = random.Random(seed)
        found = tournament(individuals, 30, 3, own)
        random.seed(seed)
        expected = tools.selTournament(individuals, 30, 3)
        assert [id(one) for one in found] == [id(one) for one in expected]
        assert own.getstate() == random.getstate()


def test_a_number_is_scaled_and_nothing_else_changes() -> None:
    made, rng, factors = tabular([statistic("params"), statistic("depth")]), generator("numbers"), []
    tree = gp.PrimitiveTree(made.tree(parse("params + depth * 13")) or [])
    place = [is_constant(node) for node in tree].index(True)
    for _ in range(400):
        found = number(tree, made, rng)
        assert [node for n, node in enumerate(found) if n != place] == [n for k, n in enumerate(tree) if k != place]
        assert len(found[place].name.lstrip("-0.").replace(".", "").split("e")[0].rstrip("0")) <= 2  # two digits
        factors.append(float(found[place].name) / 13)
    assert tree[place].name == "13"  # ours changes a copy
    assert 0.05 < np.mean(np.array(factors) < 0) < 0.15  # one in ten turns its sign
    assert np.median(np.abs(factors)) == pytest.approx(1, abs=0.15)
    assert np.std(np.log(np.abs(factors))) == pytest.approx(1, abs=0.15)


def test_a_number_stays_in_range_and_a_tree_without_one_gets_a_node() -> None:
    made, rng = tabular([statistic("params")]), generator("range")
    large = gp.PrimitiveTree(made.tree(parse("params * 9e+29")) or [])
    assert all(abs(float(number(large, made, rng)[-1].name)) <= 1e30 for _ in range(50))
    assert len(number(made.read(["params"]), made, rng)) > 1


def test_a_tree_of_one_node_has_nothing_to_replace_or_shrink() -> None:
    tree = MADE["typed"].read([str(statistic("params"))])
    for change in (replace, shrink):
        assert list(change(tree, MADE["typed"], generator(0))) == list(tree)
