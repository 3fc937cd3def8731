"""How the values of options are read."""

from pathlib import Path

import click
import pytest

from autoprox.api.arguments import next_directory, split_outside_brackets
from autoprox.cli.options import Count


@pytest.mark.parametrize(
    ("text", "number"),
    [("6000000", 6e6), ("6e6", 6e6), ("6M", 6e6), ("6m", 6e6), ("1.4G", 1.4e9), ("1.4e9", 1.4e9), ("1B", 1e9),
     ("250k", 25e4), ("6_000_000", 6e6), ("0.5M", 5e5), (" 7M ", 7e6), ("2.5E+6", 2.5e6)],
)  # fmt: skip
def test_large_numbers_are_read(text: str, number: float) -> None:
    assert Count().convert(text, None, None) == number


@pytest.mark.parametrize("text", ["", "6X", "M", "-6M", "6 million", "1e999", "nan", "inf", "6MM", "1e-3", "0x10"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"is no number such as 6000000, 6e6, 6M or 1\.4G"):
        Count().convert(text, None, None)


def test_commas_inside_a_formula_do_not_part_it() -> None:
    assert split_outside_brackets("snip, mean(std(act[mlp, noise])),runs/001,") == [
        "snip",
        "mean(std(act[mlp, noise]))",
        "runs/001",
    ]
    assert split_outside_brackets("") == []


def test_runs_are_numbered(tmp_path: Path) -> None:
    assert next_directory(tmp_path) == tmp_path / "001"
    for name in ("002", "009", "notes"):
        (tmp_path / name).mkdir()
    assert next_directory(tmp_path) == tmp_path / "010"
