"""Grammars: whatever is drawn, crossed or mutated is one complete, well-typed formula within the limits."""

import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from deap import gp

from autoprox.evolve import GRAMMARS, Breeder, Grammar, grammar
from autoprox.evolve.grammar import (
    MAX_HEIGHT,
    MAX_NODES,
    NET_TERMINALS,
    crossover,
    other_role,
    terminals,
)
from autoprox.evolve.loop import seeded
from autoprox.primitives import OPERATIONS, Formula, FormulaError, canonical, parse
from autoprox.primitives.kinds import ROLES
from autoprox.primitives.operations import AUTO_PROX_BINARIES, AUTO_PROX_UNARIES

MADE = {name: grammar(name) for name in GRAMMARS}
COSTLY = {name: grammar(name, costly=True) for name in GRAMMARS}
every_grammar = pytest.mark.parametrize("made", [*MADE.values(), *COSTLY.values()], ids=lambda made: made.name)


@pytest.fixture(autouse=True)
def _same_draws(request: pytest.FixtureRequest) -> Iterator[None]:
    """Grammars draw from the global generator: each test has draws of its own, and leaves no trace."""
    with seeded(request.node.name):
        yield


def names_of(tree: Any) -> list[str]:
    return [node.name for node in tree]


def checked(made: Grammar, tree: Any) -> Formula:
    """Check a tree from the outside: by types, as a saved one, and as a formula."""
    again = made.read(names_of(tree))
    assert list(again) == list(tree)
    found = made.formula(tree)
    assert found.is_complete
    assert parse(found.text) == found
    assert made.formula(again) == found
    return found


def drawn(made: Grammar, count: int) -> list[gp.PrimitiveTree]:
    return [gp.PrimitiveTree(made.grow(made.pset.ret, 2, 6)) for _ in range(count)]


# --- random trees ---


@every_grammar
def test_random_trees_are_complete_formulas(made: Grammar) -> None:
    found = {checked(made, tree).text for tree in drawn(made, 800)}
    assert len(found) > 700


@pytest.mark.parametrize("name", GRAMMARS)
def test_trees_grow_between_the_given_heights(name: str) -> None:
    made = MADE[name]
    lowest = made.heights[made.pset.ret]
    assert lowest == min(tree.height for tree in drawn(made, 300)) or name == "typed"
    for low, high in ((0, 0), (1, 2), (3, 3), (5, 7)):
        for _ in range(100):
            tree = gp.PrimitiveTree(made.grow(made.pset.ret, low, high))
            assert tree.height <= max(high, lowest)


@every_grammar
def test_every_type_can_be_grown_and_is_of_use(made: Grammar) -> None:
    types = {made.pset.ret}
    waiting = [made.pset.ret]
    while waiting:
        for primitive in made.pset.primitives[waiting.pop()]:
            waiting += [arg for arg in primitive.args if arg not in types]
            types.update(primitive.args)
    assert {kind for kind, nodes in made.pset.primitives.items() if nodes} <= types
    assert {kind for kind, nodes in made.pset.terminals.items() if nodes} <= types
    for kind in types:
        tree = gp.PrimitiveTree(made.grow(kind, 0, 0))
        assert tree.root.ret is kind
        assert tree.height == made.heights[kind]


def test_the_whole_language_is_within_reach() -> None:
    used = {name.split(":")[0] for name in COSTLY["typed"].pset.mapping}
    assert set(OPERATIONS) - used == {"identity"}  # which does nothing
    cheap = {name.split(":")[0] for name in MADE["typed"].pset.mapping}
    assert used - cheap == {name for name, operation in OPERATIONS.items() if operation.costly}
    read = {node for tree in drawn(MADE["typed"], 1500) for node in MADE["typed"].formula(tree).terminals()}
    assert {(t.statistic.name, t.probe) for t in read} >= {*terminals("noise"), *((name, "") for name in NET_TERMINALS)}
    assert {t.role for t in read} >= set(ROLES)


def test_an_operation_of_ones_own_is_used() -> None:
    own = OPERATIONS.extended(
        OPERATIONS["tanh"].__class__("halve", "map", lambda x: x / 2, r"\tfrac12 {0}", increasing=True)
    )
    assert any(name.startswith("halve") for name in grammar("typed", own).pset.mapping)


def test_an_unknown_grammar_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^unknown grammar 'cubist'; there are typed, auto-prox$"):
        grammar("cubist")


# --- saved by names ---


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "is not a whole tree"),
        (["params", "params"], "is not one tree"),
        (["add: Net, Net", "params"], "is not a whole tree"),
        (["weight[msa]"], "is not one tree"),
        (["no such node"], "has no node 'no such node'"),
        (["__import__('os').system('true')"], "has no node '__import__"),
        (["x" * 10_000], "has no node 'xxx"),
    ],
)
def test_names_that_are_no_tree_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(FormulaError, match=message) as caught:
        MADE["typed"].read(names)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("name", GRAMMARS)
def test_a_tree_with_a_node_more_or_less_or_another_is_refused_or_typed(name: str) -> None:
    made = MADE[name]
    every = list(made.pset.mapping)
    for tree in drawn(made, 60):
        names = names_of(tree)
        for changed in (names[:-1], [*names, names[-1]]):
            with pytest.raises(FormulaError):
                made.read(changed)
        names[random.randrange(len(names))] = random.choice(every)
        try:
            read = made.read(names)
        except FormulaError:
            continue
        assert made.formula(read).is_complete


# --- variation ---


@every_grammar
def test_crosses_are_formulas(made: Grammar) -> None:
    trees = drawn(made, 80)
    before = [names_of(tree) for tree in trees]
    changed = 0
    for _ in range(1500):
        first, second = random.choice(trees), random.choice(trees)
        child = crossover(first, second)
        checked(made, child)
        assert set(names_of(child)) <= set(names_of(first)) | set(names_of(second))
        changed += names_of(child) != names_of(first)
    assert changed > 500
    assert [names_of(tree) for tree in trees] == before


@pytest.mark.parametrize("change", ["subtree", "replace", "insert", "shrink", "other_role"])
@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
def test_mutants_are_formulas(made: Grammar, change: str) -> None:
    mutate: Callable = getattr(Breeder(made, None).toolbox, change)  # type: ignore[arg-type]
    different = 0
    for tree in drawn(made, 800):
        child = mutate(gp.PrimitiveTree(tree))[0]
        checked(made, child)
        different += names_of(child) != names_of(tree)
    # the genotype of Auto-Prox has a fixed shape, and reads all layers
    assert different > 100 or (made.name == "auto-prox" and change in ("insert", "shrink", "other_role"))


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
def test_individuals_stay_within_the_limits(made: Grammar) -> None:
    breeder = Breeder(made, None)  # type: ignore[arg-type]
    population = [breeder.founder() for _ in range(40)]
    for _ in range(1200):
        child = breeder.child(random.choice(population), population)
        assert len(child) <= MAX_NODES
        assert child.height <= MAX_HEIGHT
        assert child.canonical == canonical(checked(made, child))
        assert child.canonical.is_complete
        assert not child.fitness.valid
        population[random.randrange(len(population))] = child
    assert max(child.height for child in population) > 3


def test_what_is_too_large_or_too_high_is_no_individual() -> None:
    made = MADE["typed"]
    breeder = Breeder(made, None)  # type: ignore[arg-type]
    full = ["params"]
    for _ in range(5):
        full = ["add: Net, Net", *full, *full]
    assert breeder._individual(made.read(full)) is None  # 63 nodes, 5 levels
    assert breeder._individual(made.read(["tanh: Net"] * (MAX_HEIGHT + 1) + ["params"])) is None
    assert breeder._individual(made.read(["tanh: Net"] * MAX_HEIGHT + ["params"])) is not None


def test_another_role_changes_the_layers_that_are_read_and_nothing_else() -> None:
    made = MADE["typed"]
    seen = set()
    for tree in drawn(made, 1500):
        child = other_role(tree, made.pset)
        pairs = [(one.name, other.name) for one, other in zip(tree, child, strict=True) if one is not other]
        if not pairs:
            continue
        roles = {
            (before, after)
            for before in ROLES
            for after in ROLES
            if all(one.replace(before, "?") == other.replace(after, "?") for one, other in pairs)
        }
        assert roles, pairs
        seen |= roles
    assert ("msa", "mlp") in seen
    assert ("qkv", "fc2") in seen


@every_grammar
def test_the_same_seed_draws_the_same(made: Grammar) -> None:
    def drawing() -> list[list[str]]:
        breeder = Breeder(made, None)  # type: ignore[arg-type]
        founders = [breeder.founder() for _ in range(10)]
        return [names_of(breeder.child(random.choice(founders), founders)) for _ in range(50)]

    with seeded(7):
        first = drawing()
    with seeded(7):
        assert drawing() == first
    with seeded(8):
        assert drawing() != first


# --- Auto-Prox's genotype ---


def _inputs(formula: Formula) -> list[Formula]:
    return [node for node in formula.nodes() if not node.args]


def test_every_formula_has_the_genotypes_shape() -> None:
    made = MADE["auto-prox"]
    binaries, unaries = set(AUTO_PROX_BINARIES), set(AUTO_PROX_UNARIES)
    seen: set[str] = set()
    for tree in drawn(made, 1500):
        found = made.formula(tree)
        head, sides = found.args[0].head, found.args[0].args
        assert found.head is OPERATIONS["mean"]
        assert head.name in binaries  # type: ignore[union-attr]
        assert [node.arity for node in tree] == [1, 2, 1, 1, 0, 1, 1, 0]
        for side in sides:
            steps = []
            while side.args:
                steps.append(side.head.name)  # type: ignore[union-attr]
                (side,) = side.args
            assert set(steps) <= unaries
            assert len(steps) == 2 or (len(steps) == 3 and steps[0] == "mean")
            assert (side.head.statistic.name, side.head.probe) in terminals("noise")  # type: ignore[union-attr]
            seen.update(steps)
    assert seen == unaries


def test_the_published_genotype_can_be_said() -> None:
    """‖minmax(W)‖_F + sqrt(sigmoid(gradient of the output)): input_geno [t2, t4g], op_geno [[16, 8], [12, 14], 0]."""
    made = MADE["auto-prox"]
    one, two, three, four = (AUTO_PROX_UNARIES[number] for number in (16, 8, 12, 14))
    tree = made.read(
        ["mean over layers", AUTO_PROX_BINARIES[0], f"second {two}", f"first {one}", "weight",
         f"second {four}, averaged", f"first {three}", "act_grad[noise]"]
    )  # fmt: skip
    expected = parse("mean(fro(minmax(weight)) + mean(sqrt(sigmoid(act_grad[noise]))))")
    assert made.formula(tree) == expected


# --- the global generator ---


def test_seeding_leaves_the_global_generator_alone() -> None:
    random.seed(3)
    expected = random.random()
    random.seed(3)
    with seeded("run", 1):
        inside = random.random()
    assert random.random() == expected
    with seeded("run", 1):
        assert random.random() == inside
    with seeded("run", 2):
        assert random.random() != inside


def test_seeding_is_undone_by_an_error() -> None:
    random.seed(3)
    expected = random.random()
    random.seed(3)
    with pytest.raises(KeyError), seeded(1):
        raise KeyError(random.random())
    assert random.random() == expected


def test_draws_of_another_thread_do_not_count() -> None:
    def drawing() -> list[str]:
        return [names for _ in range(200) for names in names_of(Breeder(MADE["typed"], None).founder())]  # type: ignore[arg-type]

    with seeded(7):
        alone = drawing()
    ended = threading.Event()

    def disturb() -> None:
        while not ended.wait(0.0001):
            random.random()

    other = threading.Thread(target=disturb)
    other.start()
    with seeded(7):
        disturbed = drawing()
    ended.set()
    other.join()
    assert disturbed == alone
