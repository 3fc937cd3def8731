"""Niches: the best of each family of statistics live on, and the very best is never lost."""

from pathlib import Path

import pytest
from evolve_loop import MADE, records, run, settings

from autoprox.evolve import Individual, Judgement
from autoprox.evolve.strategies import family, survivors


def individual(names: list[str], joint: float) -> Individual:
    tree = MADE["typed"].read(names)
    made = Individual(tree, MADE["typed"].formula(tree))
    made.outcome, made.fitness.values = Judgement((joint,), joint), (joint, float(made.canonical.size))
    return made


def of_matrix(name: str, shape: str, joint: float) -> Individual:
    """Make an individual that reads one statistic, and has the fitness that is given."""
    reduce = f"fro: Matrix({shape} of msa)"
    return individual(["sum: Layer(2 per block)", reduce, f"{name}[msa, noise]" if shape == "act" else name], joint)


def test_half_of_the_places_are_for_families_and_half_for_the_best() -> None:
    weights = [of_matrix("weight[msa]", "weight", 0.9 - 0.01 * n) for n in range(8)]
    acts = [of_matrix("act", "act", 0.5 - 0.01 * n) for n in range(4)]
    grads = [of_matrix("act_grad", "act", 0.3 - 0.01 * n) for n in range(4)]
    sizes = [individual(["depth"], 0.1)]
    assert {family(each) for each in (*weights, *acts, *grads, *sizes)} == {
        frozenset({"weight"}), frozenset({"act"}), frozenset({"act_grad"}), frozenset()
    }  # fmt: skip
    kept = survivors([*sizes, *grads, *acts, *weights], 8)
    assert kept == [*weights[:6], *acts[:2]]  # two of each of the two best families, and the four best others
    assert survivors([*sizes, *grads, *acts, *weights], 16) == [*weights, *acts, *grads][:15] + sizes


@pytest.mark.parametrize("seed", range(3))
def test_the_best_is_never_lost(tmp_path: Path, seed: int) -> None:
    chosen = settings(strategy="niches", seed=seed)
    run(tmp_path / "journal", chosen)
    best = [record["best"]["joint"] for record in records(tmp_path / "journal")]
    assert best == sorted(best)
    assert all(len(record["population"]) == chosen.population for record in records(tmp_path / "journal"))
