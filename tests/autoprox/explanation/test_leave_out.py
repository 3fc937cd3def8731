"""What is left of a formula without a part or a step."""

import pytest

from autoprox.explanation.leave_out import leave_outs, without_part
from autoprox.primitives import parse
from autoprox.primitives.words import parts_of

DEPTH = parse("depth")


@pytest.mark.parametrize(
    ("formula", "left"),
    [
        ("depth + width", "width"),
        ("depth - width", "neg(width)"),
        ("width - depth", "width"),
        ("depth / width", "invert(width)"),
        ("width / depth", "width"),
        ("pow(width, depth)", "abs(width)"),
        ("pow(depth, width)", "width"),
        ("maximum(depth, width)", "width"),
        ("log(depth) * 2 + width", "width"),  # a number alone is nothing
        ("depth + log(depth) * width", "width"),  # everywhere it stands
        ("exp(depth * sqrt(width))", "exp(sqrt(width))"),
        ("sum(fro(weight) * depth)", "sum(fro(weight))"),
        ("log(depth)", None),
        ("depth + 2", None),
    ],
)
def test_without_a_part(formula: str, left: str | None) -> None:
    found = without_part(parse(formula), DEPTH)
    assert (found and found.text) == left


def test_what_does_not_fit_without_a_part_is_not_there() -> None:
    assert (
        without_part(parse("sum(depth * fro(weight))"), parse("fro(weight)", complete=False)) is None
    )  # a network has no layers


def test_all_leave_outs_once_each_under_the_largest_part() -> None:
    parts = parts_of(parse("sum(fro(sqrt(weight)) + log(fan_in)) / depth"))
    assert [(each.what, each.formula.text) for each in leave_outs(parts)] == [
        ("#8", "sum(fro(sqrt(weight)) + log(fan_in))"),
        ("#7", "invert(depth)"),
        ("#5", "sum(fro(sqrt(weight))) / depth"),
        ("the step log of #5", "sum(fro(sqrt(weight)) + fan_in) / depth"),
        ("#3", "sum(log(fan_in)) / depth"),
        ("the step sqrt of #2", "sum(fro(weight) + log(fan_in)) / depth"),
    ]


def test_a_formula_of_one_part_has_nothing_to_leave_out() -> None:
    assert leave_outs(parts_of(parse("sum(l1(weight))"))) == ()
