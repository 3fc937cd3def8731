"""Formulas in plain English: every operation, statistic, role and probe has words, and parts are numbered in order."""

import re

import pytest

from autoprox.primitives import OPERATIONS, PROBES, ROLES, STATISTICS, Operation, OperationError, parse
from autoprox.primitives.kinds import CONV_ROLE, LEVELS, ROLE_WORDS
from autoprox.primitives.words import parts_of


def test_every_operation_role_and_statistic_has_words() -> None:
    assert not [name for name, operation in OPERATIONS.items() if not operation.words]
    assert not [name for name, statistic in STATISTICS.items() if not statistic.about]
    assert ROLE_WORDS.keys() == {*ROLES, CONV_ROLE}


def test_parts_are_in_order_with_their_words() -> None:
    parts = parts_of(parse("sum(fro(weight[mlp]) + 2 * fro(weight[mlp])) / depth"))
    assert [(part.name, part.short, part.words) for part in parts] == [
        ("#1", "weight[mlp]", f"weights, out × in; of {ROLE_WORDS['mlp']}"),
        ("#2", "fro(#1)", "the Euclidean (Frobenius) norm of #1, in each layer"),
        ("#3", "2 * #2", "2 times #2"),
        ("#4", "#2 + #3", "#2 plus #3"),
        ("#5", "sum(#4)", "the sum of #4, over all layers"),
        ("#6", "depth", "number of transformer blocks"),
        ("#7", "#5 / #6", "#5 divided by #6"),
    ]
    levels = ("matrix", "layer", "layer", "layer", "net", "net", "net")
    assert [part.kind for part in parts] == [LEVELS[level] for level in levels]


def test_a_statistic_says_its_probe() -> None:
    assert parts_of(parse("mean(l1(act_grad[fc1, noise]))"))[0].words.endswith(f"read on {PROBES['noise']}")


@pytest.mark.parametrize("name", OPERATIONS)
def test_words_have_each_argument_and_read_as_a_part_of_a_sentence(name: str) -> None:
    words = OPERATIONS[name].words
    assert "{0}" in words
    assert ("{1}" in words) == (OPERATIONS[name].arity == 2)
    assert not re.search(r"\.$|^[A-Z]|  ", words)


def half(x):
    return x / 2


def test_an_operation_without_words_is_called_by_its_name() -> None:
    larger = OPERATIONS.extended(Operation("half", "map", half, r"{0} / 2"))
    assert parts_of(parse("half(depth)", larger))[-1].words == "half of #1"


@pytest.mark.parametrize("words", ["half of it", "{1}", "{0} {", "{0} and {x}"])
def test_words_that_are_no_template_are_refused(words: str) -> None:
    with pytest.raises(OperationError, match=r"the words .* must have \{0\}, and no other braces"):
        OPERATIONS.extended(Operation("half", "map", half, r"{0} / 2", words=words))
