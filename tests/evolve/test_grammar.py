"""Grammars: whatever is drawn, crossed or mutated is one complete, well-typed formula within the limits."""

import random
import threading
from typing import Any

import pytest
from deap import gp

from autoprox.evolve import GRAMMARS, Breeder, Grammar, grammar
from autoprox.evolve.grammar import MAX_HEIGHT, MAX_NODES, NET_TERMINALS, terminals
from autoprox.evolve.variation import MUTATIONS, crossover, generator, grow, other_role
from autoprox.primitives import OPERATIONS, Formula, FormulaError, canonical, parse
from autoprox.primitives.evaluate import is_readable
from autoprox.primitives.kinds import ROLES
from autoprox.primitives.operations import AUTO_PROX_BINARIES, AUTO_PROX_UNARIES

MADE = {name: grammar(name) for name in GRAMMARS}
COSTLY = {name: grammar(name, costly=True) for name in GRAMMARS}
every_grammar = pytest.mark.parametrize("made", [*MADE.values(), *COSTLY.values()], ids=lambda made: made.name)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Give each test draws of its own."""
    return generator(request.node.name)


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


def drawn(made: Grammar, count: int, rng: random.Random) -> list[gp.PrimitiveTree]:
    return [gp.PrimitiveTree(grow(made, made.pset.ret, 2, 6, rng)) for _ in range(count)]


# --- random trees ---


@every_grammar
def test_random_trees_are_complete_formulas(made: Grammar, rng: random.Random) -> None:
    found = {checked(made, tree).text for tree in drawn(made, 800, rng)}
    assert len(found) > 700


@pytest.mark.parametrize("name", GRAMMARS)
def test_trees_grow_between_the_given_heights(name: str, rng: random.Random) -> None:
    made = MADE[name]
    lowest = made.heights[made.pset.ret]
    assert lowest == min(tree.height for tree in drawn(made, 300, rng)) or name == "typed"
    for low, high in ((0, 0), (1, 2), (3, 3), (5, 7)):
        for _ in range(100):
            tree = gp.PrimitiveTree(grow(made, made.pset.ret, low, high, rng))
            assert tree.height <= max(high, lowest)


def test_a_statistic_that_came_later_is_not_drawn() -> None:
    assert parse("activations").is_complete
    assert NET_TERMINALS == ("params", "flops", "depth", "width")


@every_grammar
def test_every_type_can_be_grown_and_is_of_use(made: Grammar, rng: random.Random) -> None:
    types = {made.pset.ret}
    waiting = [made.pset.ret]
    while waiting:
        for primitive in made.pset.primitives[waiting.pop()]:
            waiting += [arg for arg in primitive.args if arg not in types]
            types.update(primitive.args)
    assert {kind for kind, nodes in made.pset.primitives.items() if nodes} <= types
    assert {kind for kind, nodes in made.pset.terminals.items() if nodes} <= types
    for kind in types:
        tree = gp.PrimitiveTree(grow(made, kind, 0, 0, rng))
        assert tree.root.ret is kind
        assert tree.height == made.heights[kind]


def test_the_whole_language_is_within_reach(rng: random.Random) -> None:
    used = {name.split(":")[0] for name in COSTLY["typed"].pset.mapping}
    assert set(OPERATIONS) - used == {"identity"}  # which does nothing
    cheap = {name.split(":")[0] for name in MADE["typed"].pset.mapping}
    assert used - cheap == {name for name, operation in OPERATIONS.items() if operation.costly}
    read = {node for tree in drawn(MADE["typed"], 1500, rng) for node in MADE["typed"].formula(tree).terminals()}
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
def test_a_tree_with_a_node_more_or_less_or_another_is_refused_or_typed(name: str, rng: random.Random) -> None:
    made = MADE[name]
    every = list(made.pset.mapping)
    for tree in drawn(made, 60, rng):
        names = names_of(tree)
        for changed in (names[:-1], [*names, names[-1]]):
            with pytest.raises(FormulaError):
                made.read(changed)
        names[rng.randrange(len(names))] = rng.choice(every)
        try:
            read = made.read(names)
        except FormulaError:
            continue
        assert made.formula(read).is_complete


# --- variation ---


@every_grammar
def test_crosses_are_formulas(made: Grammar, rng: random.Random) -> None:
    trees = drawn(made, 80, rng)
    before = [names_of(tree) for tree in trees]
    changed = 0
    for _ in range(1500):
        first, second = rng.choice(trees), rng.choice(trees)
        child = crossover(first, second, rng)
        checked(made, child)
        assert set(names_of(child)) <= set(names_of(first)) | set(names_of(second))
        changed += names_of(child) != names_of(first)
    assert changed > 500
    assert [names_of(tree) for tree in trees] == before


@pytest.mark.parametrize("change", MUTATIONS)
@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
def test_mutants_are_formulas(made: Grammar, change: str, rng: random.Random) -> None:
    different = 0
    for tree in drawn(made, 800, rng):
        child = MUTATIONS[change](tree, made, rng)
        checked(made, child)
        different += names_of(child) != names_of(tree)
    # the genotype of Auto-Prox has a fixed shape, reads all layers, and has no numbers
    assert different > 100 or (made.name == "auto-prox" and change in ("insert", "shrink", "other_role", "number"))


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
def test_individuals_stay_within_the_limits(made: Grammar, rng: random.Random) -> None:
    breeder = Breeder(made, None)  # type: ignore[arg-type]
    population = [breeder.founder(rng) for _ in range(40)]
    for _ in range(1200):
        child = breeder.child(rng.choice(population), population, rng)
        assert len(child) <= MAX_NODES
        assert child.height <= MAX_HEIGHT
        assert child.canonical == canonical(checked(made, child))
        assert child.canonical.is_complete
        assert not child.fitness.valid
        population[rng.randrange(len(population))] = child
    assert max(child.height for child in population) > 3


def test_what_is_too_large_or_too_high_is_no_individual() -> None:
    made = MADE["typed"]
    breeder = Breeder(made, None)  # type: ignore[arg-type]
    full = ["params"]
    for _ in range(5):
        full = ["add: Net, Net", *full, *full]
    assert breeder.individual(made.read(full)) is None  # 63 nodes, 5 levels
    assert breeder.individual(made.read(["tanh: Net"] * (MAX_HEIGHT + 1) + ["params"])) is None
    assert breeder.individual(made.read(["tanh: Net"] * MAX_HEIGHT + ["params"])) is not None


def test_another_role_changes_the_layers_that_are_read_and_nothing_else(rng: random.Random) -> None:
    made = MADE["typed"]
    seen = set()
    for tree in drawn(made, 1500, rng):
        child = other_role(tree, made, rng)
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
    def drawing(rng: random.Random) -> list[list[str]]:
        breeder = Breeder(made, None)  # type: ignore[arg-type]
        founders = [breeder.founder(rng) for _ in range(10)]
        return [names_of(breeder.child(rng.choice(founders), founders, rng)) for _ in range(50)]

    first = drawing(generator(7))
    assert drawing(generator(7)) == first
    assert drawing(generator(8)) != first


# --- Auto-Prox's genotype ---


def _inputs(formula: Formula) -> list[Formula]:
    return [node for node in formula.nodes() if not node.args]


def test_every_formula_has_the_genotypes_shape(rng: random.Random) -> None:
    made = MADE["auto-prox"]
    binaries, unaries = set(AUTO_PROX_BINARIES), set(AUTO_PROX_UNARIES)
    seen: set[str] = set()
    for tree in drawn(made, 1500, rng):
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


def test_a_generator_is_that_of_what_it_is_for() -> None:
    assert generator("run", 1).random() == generator("run", 1).random()
    assert generator("run", 1).random() != generator("run", 2).random()


def test_the_global_generator_is_left_alone_and_does_not_count() -> None:
    def drawing() -> list[str]:
        breeder, rng = Breeder(MADE["typed"], None), generator(7)  # type: ignore[arg-type]
        founders = [breeder.founder(rng) for _ in range(100)]
        children = [breeder.child(parent, founders, rng) for parent in founders]
        return [name for tree in [*founders, *children] for name in names_of(tree)]

    random.seed(3)
    before = random.getstate()
    alone = drawing()
    assert random.getstate() == before
    ended = threading.Event()

    def disturb() -> None:
        while not ended.wait(0.0001):
            random.random()

    other = threading.Thread(target=disturb)
    other.start()
    disturbed = drawing()
    ended.set()
    other.join()
    assert disturbed == alone


def test_the_costly_grammar_has_no_gram_matrices_of_tokens_and_no_spectra_of_gram_matrices() -> None:
    names = list(grammar("typed", costly=True).builders)
    assert any(name.startswith("gram: Matrix(weight of") for name in names)
    assert any(name.startswith("effective_rank: Matrix(act of") for name in names)
    assert not any(name.startswith(("gram: Matrix(a", "matmul: Matrix(a")) for name in names)
    assert not any(name.startswith(("nuclear: Matrix(weight.gram", "logdet: Matrix(weight.gram")) for name in names)


def test_what_is_drawn_for_convolutional_networks_too_reads_what_all_networks_have(rng: random.Random) -> None:
    made = grammar("typed", costly=True, convolutional=(False, True))
    for tree in drawn(made, 60, rng):
        assert is_readable(checked(made, tree), convolutional=True)
        checked(made, other_role(tree, made, rng))
    assert names_of(made.pset.mapping.values()) != names_of(COSTLY["typed"].pset.mapping.values())
    same = grammar("typed", costly=True, convolutional=(False,))
    assert list(same.builders) == list(COSTLY["typed"].builders)
