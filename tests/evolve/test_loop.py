"""The loop: the best are never lost, nothing is judged twice, and one seed is one result, whatever else happens."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import synthetic
from evolve_loop import MADE, Dice, both_grammars, every_way, records, run, settings

from autoprox.evolve import (
    STRATEGIES,
    Breeder,
    EvolutionSettings,
    Individual,
    Invalid,
    Journal,
    JournalError,
    Judgement,
    SettingsError,
    best_distinct,
    check_generations,
    evolve,
    restore,
)
from autoprox.evolve.loop import found
from autoprox.evolve.strategies import elitist
from autoprox.evolve.variation import generator
from autoprox.primitives import FormulaError


def fitnesses(record: dict[str, Any], chosen: EvolutionSettings) -> list[tuple[float, ...]]:
    """The fitness of each of a generation's population, as the dice give it."""
    made = MADE[chosen.grammar]
    found = []
    for names in record["population"]:
        tree = made.read(names)
        individual = Individual(tree, made.formula(tree))
        outcome = Dice().outcome(individual.canonical.text, "evolve")
        assert isinstance(outcome, Judgement)
        found.append((round(outcome.joint, 9), -individual.canonical.size))
    return found


# --- elites ---


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "niches"])  # it keeps families' best
@both_grammars
@pytest.mark.parametrize("seed", range(3))
def test_no_rank_ever_gets_worse(tmp_path: Path, strategy: str, written: str, seed: int) -> None:
    chosen = settings(strategy=strategy, grammar=written, seed=seed)
    run(tmp_path / "journal", chosen)
    before: list[tuple[float, ...]] = []
    for record in records(tmp_path / "journal"):
        now = fitnesses(record, chosen)
        assert now == sorted(now, reverse=True)
        assert len(now) == chosen.population
        assert record["best"]["joint"] == pytest.approx(now[0][0])
        assert all(new >= old for new, old in zip(now, before, strict=False))
        before = now
    assert before > fitnesses(records(tmp_path / "journal")[0], chosen)  # and it got better


@every_way
def test_no_two_of_a_population_rank_alike(tmp_path: Path, strategy: str) -> None:
    chosen = settings(strategy=strategy)
    breeder = run(tmp_path / "journal", chosen)
    for record in records(tmp_path / "journal"):
        trees = [breeder.grammar.read(names) for names in record["population"]]
        texts = [Individual(tree, breeder.grammar.formula(tree)).canonical.text for tree in trees]
        taus = [breeder.memo[text] for text in texts]
        assert len(set(taus)) == chosen.population


class Fixed(Breeder):
    """Every child has the given fitness, and the calls are counted."""

    def __init__(self, joint: Callable[[Individual], float | None]) -> None:
        super().__init__(MADE["typed"], Dice())  # type: ignore[arg-type]
        self.joint, self.children = joint, 0

    def mutant(self, parent: Individual, rng: random.Random) -> Individual:
        self.children += 1
        child = Individual(parent, parent.formula)
        joint = self.joint(parent)
        if joint is not None:
            child.outcome = Judgement((joint, float(self.children)), joint)
            child.fitness.values = (joint, float(parent.canonical.size))
        return child

    def child(self, parent: Individual, population: Sequence[Individual], rng: random.Random) -> Individual:
        return self.mutant(parent, rng)

    def evaluate(self, individuals: object, rivals: object = ()) -> None:
        pass


def population(size: int = 8) -> list[Individual]:
    return found(Breeder(MADE["typed"], Dice()), size, generator("founders"))  # type: ignore[arg-type]


def test_children_compete_with_the_best_so_far() -> None:
    dice, chosen = Dice(), settings(retries=2)
    rng = generator(0)
    breeder = Breeder(MADE["typed"], dice)  # type: ignore[arg-type]
    before = found(breeder, chosen.population, rng)
    STRATEGIES["elitist"].function(before, breeder, chosen.retries, rng)
    assert len(dice.rivals) == 1 + chosen.retries
    assert dice.rivals[0] == [individual.outcome for individual in before]
    assert all(len({rival.taus for rival in rivals}) == chosen.population for rivals in dice.rivals)
    worst = [min(rival.joint for rival in rivals) for rivals in dice.rivals]
    assert worst == sorted(worst)
    assert worst[0] < worst[-1]


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "niches"])  # it keeps families' best
@pytest.mark.parametrize("retries", [0, 3])
@pytest.mark.parametrize("joint", [lambda parent: -1.0, lambda parent: None], ids=["worse", "invalid"])
def test_a_child_that_beats_nobody_does_not_enter_and_is_varied_again_so_often(
    strategy: str, retries: int, joint: Callable
) -> None:
    before, breeder = population(), Fixed(joint)
    after = STRATEGIES[strategy].function(before, breeder, retries, generator(0))
    assert after == before
    assert breeder.children == len(before) * (1 + retries)


def test_a_child_as_good_as_the_worst_does_not_enter() -> None:
    before = population()
    worst = before[-1].fitness.values
    breeder = Fixed(lambda parent: worst[0])
    for individual in before:
        individual.canonical = before[-1].canonical  # children of its size
    assert elitist(before, breeder, 2, generator(0)) == before


@every_way
def test_a_better_child_enters_at_once(strategy: str) -> None:
    before, breeder = population(), Fixed(lambda parent: 0.999)
    after = STRATEGIES[strategy].function(before, breeder, 3, generator(0))
    assert breeder.children == len(before)  # no retries
    assert [individual.fitness.values[0] for individual in after[:3]] == [0.999] * 3
    assert len(after) == len(before)


def test_auto_prox_keeps_a_child_no_worse_than_its_parent() -> None:
    before, parents = population(40), []
    breeder = Fixed(lambda parent: parents.append(parent) or parent.outcome.joint)
    after = STRATEGIES["auto-prox"].function(before, breeder, 1, generator(0))
    assert breeder.children == len(before)
    assert after != before
    worst = {id(individual) for individual in before[25:]}  # five of the 20 in a pool are better
    assert not worst & {id(parent) for parent in parents}


def test_of_equal_rankings_the_smallest_is_kept() -> None:
    made = MADE["typed"]

    def individual(names: list[str], taus: tuple[float, ...]) -> Individual:
        tree = made.read(names)
        new = Individual(tree, made.formula(tree))
        new.outcome, new.fitness.values = Judgement(taus, sum(taus)), (sum(taus), float(new.canonical.size))
        return new

    large = individual(["square: Net", "params"], (0.3, 0.1))
    small = individual(["flops"], (0.3, 0.1))
    other = individual(["depth"], (0.1, 0.3))
    best = individual(["width"], (0.6, 0.1))
    invalid = Individual(made.read(["params"]), made.formula(made.read(["params"])))
    assert best_distinct([large, invalid, other, small, best, best], 10) == [best, other, small]
    assert best_distinct([small, best, other], 2) == [best, other]
    assert best_distinct([invalid], 3) == []


# --- each formula once ---


@every_way
@both_grammars
def test_no_formula_is_judged_twice(tmp_path: Path, strategy: str, written: str) -> None:
    dice = Dice()
    breeder = run(tmp_path / "journal", settings(strategy=strategy, grammar=written), judge=dice)
    on_evolve = [text for text, split in dice.calls if split == "evolve"]
    assert len(on_evolve) == len(set(on_evolve)) == len(breeder.memo)
    journalled = [text for record in records(tmp_path / "journal") for text, _ in record["judged"]]
    assert journalled == on_evolve
    assert records(tmp_path / "journal")[-1]["unique"] == len(on_evolve)
    assert {split for _, split in dice.calls} == {"evolve", "validation"}  # test is never looked at


def test_a_canonical_form_is_judged_once_however_it_is_written() -> None:
    dice, made = Dice(), MADE["typed"]
    breeder = Breeder(made, dice)  # type: ignore[arg-type]
    ways = [["add: Net, Net", "params", "depth"], ["add: Net, Net", "depth", "params"],
            ["tanh: Net", "neg: Net", "neg: Net", "add: Net, Net", "params", "depth"]]  # fmt: skip
    individuals = [Individual(tree, made.formula(tree)) for tree in map(made.read, ways)]
    breeder.evaluate(individuals[:2])
    breeder.evaluate(individuals)
    assert dice.calls == [(individuals[0].canonical.text, "evolve")]
    assert individuals[0].outcome is individuals[2].outcome


def test_children_are_new_formulas() -> None:
    breeder = Breeder(MADE["typed"], Dice())  # type: ignore[arg-type]
    rng = generator(0)
    parents = [breeder.founder(rng) for _ in range(8)]
    breeder.evaluate(parents)
    for _ in range(300):
        breeder.evaluate([breeder.child(rng.choice(parents), parents, rng)])
    assert len(breeder.memo) > 300


@every_way
def test_the_work_of_a_generation_is_bounded(tmp_path: Path, strategy: str) -> None:
    chosen = settings(strategy=strategy, retries=2)
    run(tmp_path / "journal", chosen)
    for record in records(tmp_path / "journal")[1:]:
        assert len(record["judged"]) <= chosen.population * (1 + chosen.retries)


# --- it works ---


@pytest.mark.slow
def test_evolution_beats_random_formulas(tmp_path: Path) -> None:
    """On a made-up benchmark, with as many formulas judged, and the first generation."""
    judge = synthetic.judge(tmp_path / "statistics", synthetic.benchmark(30))
    chosen = settings(generations=7, population=10)
    Journal.create(tmp_path / "journal", {})
    breeder = Breeder(MADE["typed"], judge)
    best = evolve(breeder, chosen, Journal.open(tmp_path / "journal"), lambda record: None)[0]
    chance = Breeder(MADE["typed"], judge)
    rng = generator("chance")
    while len(chance.memo) < len(breeder.memo):
        chance.evaluate([chance.founder(rng) for _ in range(len(breeder.memo) - len(chance.memo))])
    outcomes = chance.memo.values()
    joints = [outcome.joint if isinstance(outcome, Judgement) else -1.0 for outcome in outcomes]
    assert isinstance(best.outcome, Judgement)
    assert best.outcome.joint > np.quantile(joints, 0.95)
    generations = records(tmp_path / "journal")
    assert generations[-1]["best"]["joint"] > generations[0]["best"]["joint"]


# --- what cannot be ---


def test_no_valid_formula_at_all_is_one_clear_error(tmp_path: Path) -> None:
    class Never(Dice):
        def outcome(self, text: str, split: str) -> Invalid:
            return Invalid("never")

    with pytest.raises(SettingsError, match=r"^found only 0 distinct valid formulas of 8; use a smaller population$"):
        run(tmp_path / "journal", settings(), judge=Never())
    assert records(tmp_path / "journal") == []


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"generations": -1}, "generations is -1; it must be a whole number of at least 0"),
        ({"population": 3}, "population is 3; it must be a whole number of at least 4"),
        ({"population": 8.0}, "population is 8.0; it must be a whole number"),
        ({"seed": -5}, "seed is -5"),
        ({"seed": True}, "seed is True"),
        ({"retries": -1}, "retries is -1"),
        ({"batch": 0}, "batch is 0; it must be a whole number of at least 1"),
        ({"grammar": "free"}, "grammar is 'free'; it must be one of typed, auto-prox"),
        ({"strategy": "none"}, "strategy is 'none'; it must be one of elitist, auto-prox"),
        ({"joint": "max"}, "joint is 'max'; it must be one of mean, min, mean-spread, given-structure"),
    ],
)
def test_settings_that_cannot_be(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=f"^{message}"):
        settings(**choices)


@pytest.fixture
def journal(tmp_path: Path) -> list[dict[str, Any]]:
    run(tmp_path / "journal", settings(), until=2)
    return records(tmp_path / "journal")


def test_a_journal_that_this_version_could_not_have_written(journal: list[dict[str, Any]]) -> None:
    def restored() -> None:
        restore(Breeder(MADE["typed"], Dice()), journal)  # type: ignore[arg-type]

    restored()
    journal[-1]["population"][0] = ["squircle: Net", "params"]
    with pytest.raises(FormulaError, match="grammar typed has no node 'squircle: Net'"):
        restored()
    journal[-1]["population"][0] = ["tanh: Net", "neg: Net", "square: Net", "width"]
    with pytest.raises(JournalError, match=r"^the journal has no fitness of '-?.*width.*': it was written by another"):
        restored()


@pytest.mark.parametrize(
    "change",
    [
        {"best": None}, {"best": {"formula": "params", "joint": 0.1}}, {"unique": "9"}, {"population": []},
        {"population": ["params"]}, {"population": [[1]]}, {"judged": {}}, {"judged": [["params"]]},
        {"judged": [["params", 0.5]]}, {"judged": [["params", []]]}, {"judged": [["params", [0.5, "0.5"]]]},
        {"judged": [[3, "constant"]]},
    ],
    ids=str,
)  # fmt: skip
def test_a_generation_that_lacks_something_is_named_by_its_line(
    journal: list[dict[str, Any]], tmp_path: Path, change: dict[str, Any]
) -> None:
    check_generations(Journal(tmp_path / "journal", {}, journal))
    journal[1].update(change)
    with pytest.raises(JournalError, match=r"journal: line 3 is damaged; start again with another --out$"):
        check_generations(Journal(tmp_path / "journal", {}, journal))


def test_what_is_in_the_journal(journal: list[dict[str, Any]]) -> None:
    for number, record in enumerate(journal):
        assert list(record) == ["generation", "best", "unique", "front", "population", "judged"]
        assert list(record["best"]) == ["formula", "joint", "validation"]
        assert record["generation"] == number
    outcome = Dice().outcome(journal[-1]["best"]["formula"], "validation")
    assert journal[-1]["best"]["validation"] == (outcome.joint if isinstance(outcome, Judgement) else None)
    for text, judged in journal[0]["judged"]:
        outcome = Dice().outcome(text, "evolve")
        assert judged == (outcome.reason if isinstance(outcome, Invalid) else [outcome.joint, *outcome.taus])
    assert orjson.loads(orjson.dumps(journal)) == journal
