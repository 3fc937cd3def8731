"""The verdict: which baseline it names, and when it says that a formula is no better than structure."""

from autoprox.evolve import FITTED, FORMULA, Lead, Report, Row, verdict


def made(*leads: Lead, given_fitted: float | None = 0.4) -> Report:
    return Report((Row(FORMULA, "test", "", "mean", 30, 0.7, 0.6, 0.8, 0.5, given_fitted),), leads)


def test_better_than_the_strongest() -> None:
    found = made(Lead("test", "params", 0.2, 0.1, 0.3), Lead("test", FITTED, 0.1, 0.02, 0.18))
    assert verdict(found, "test") == [
        "On test the formula is better than structure: mean τ is 0.100 above that of fitted structure "
        "(95 % interval of the difference +0.020 to +0.180).",
        "Given fitted structure, a partial τ of 0.400 is left of its 0.700.",
        "Its mean τ is 0.200 above that of params (95 % interval of the difference +0.100 to +0.300).",
    ]


def test_ahead_but_not_surely_is_no_better() -> None:
    found = made(Lead("test", "params", 0.2, 0.1, 0.3), Lead("test", "width", 0.01, -0.02, 0.04))
    first, *others = verdict(found, "test")
    assert first.startswith("On test the formula is no better than structure: mean τ is 0.010 above that of width (")
    assert len(others) == 1  # params; there is no sentence on what is left where nothing is sure


def test_every_baseline_that_does_as_well_is_named() -> None:
    leads = [Lead("test", name, difference, -0.2, 0.2) for name, difference in (("depth", 0.0), ("width", -0.1))]
    lines = verdict(made(*leads, Lead("test", "flops", 0.1, 0.0, 0.2), Lead("evolve", "params", -0.9, -1, 1)), "test")
    assert "no better than structure: mean τ is 0.100 below that of width" in lines[0]
    assert [line for line in lines if "depth" in line]
    assert not [line for line in lines if "flops" in line or "params" in line]


def test_without_structure() -> None:
    assert verdict(made(), "test") == [
        "Nothing is known of the architectures' structure, so there is nothing to compare with."
    ]
