"""Joint fitness: a row of one table is all that a new way to combine tasks takes."""

import subprocess
import sys

import numpy as np
import pytest

from autoprox.evolve import COMBINATIONS, EvolutionSettings, SettingsError
from autoprox.evolve.joint import Combination, combined

TAUS, WEIGHTS = (0.2, 0.6, -0.1), (3.0, 1.0, 2.0)


def median(taus: tuple[float, ...], weights: tuple[float, ...]) -> float:
    return float(np.median(taus))


@pytest.mark.parametrize("name", COMBINATIONS)
def test_whether_weights_matter_is_said(name: str) -> None:
    changed = combined(TAUS, WEIGHTS, name) != combined(TAUS, (1.0, 1.0, 1.0), name)
    assert changed == COMBINATIONS[name].weighted


def test_a_row_of_ones_own_is_used_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        SettingsError, match=r"^joint is 'median'; it must be one of mean, min, mean-spread, given-structure$"
    ):
        EvolutionSettings((), (), joint="median")
    monkeypatch.setitem(COMBINATIONS, "median", Combination(median, "the median task"))
    assert EvolutionSettings((), (), joint="median").joint == "median"
    assert combined(TAUS, WEIGHTS, "median") == 0.2
    with pytest.raises(
        SettingsError, match=r"^joint is 'max'; it must be one of mean, min, mean-spread, given-structure, median$"
    ):
        EvolutionSettings((), (), joint="max")


def test_a_name_without_a_row_is_never_the_mean() -> None:
    with pytest.raises(
        ValueError, match=r"^joint is 'max'; it must be one of mean, min, mean-spread, given-structure$"
    ):
        combined(TAUS, WEIGHTS, "max")


_HELP = """
from autoprox.evolve.joint import COMBINATIONS, Combination
COMBINATIONS["median"] = Combination(lambda taus, weights: 0.0, "the median task")
from autoprox.cli.root import main
raise SystemExit(main(["evolve", "--help"]))
"""


@pytest.mark.slow
def test_a_row_of_ones_own_is_in_the_help() -> None:
    printed = subprocess.run([sys.executable, "-c", _HELP], capture_output=True, text=True, check=True).stdout
    assert "[mean|min|mean-spread|given-structure|median]" in "".join(printed.split())
    assert "median:themediantask." in "".join(printed.split())


def test_weights_that_do_nothing_are_refused() -> None:
    assert EvolutionSettings((), ("b:x", "b:y")).weights == (1.0, 1.0)
    assert EvolutionSettings((), ("b:x", "b:y"), weights=(2.0, 1.0)).weights == (2.0, 1.0)
    with pytest.raises(SettingsError, match=r"^joint is 'min', which heeds no weights; leave them out, or use mean, "):
        EvolutionSettings((), ("b:x", "b:y"), joint="min", weights=(2.0, 1.0))
    for wrong in ((1.0,), (1.0, 0.0), (1.0, -1.0), (1.0, "2")):
        with pytest.raises(SettingsError, match=r"^weights is .*; it must be one positive number for each task$"):
            EvolutionSettings((), ("b:x", "b:y"), weights=wrong)  # type: ignore[arg-type]
