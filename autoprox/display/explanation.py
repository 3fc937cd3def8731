"""What is shown of an explanation: the proxy in words, its parts with their numbers, and what each of them carries."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from rich.table import Column, Table
from rich.text import Text

from autoprox.display.terminal import UNDEFINED, correlation, make_table, names, number, numbers, size
from autoprox.explanation.explained import SPLITS, Example, Explained, Numbers, Without, about, latex_of

#: What the examples are called.
_NAMES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#: A part whose loss costs no more than this carries nothing.
_NOTHING = 0.005
#: Heads of the columns with splits and structural facts, which must be narrow.
_SHORT = {"evolve": "evolve", "validation": "valid."}
_HEADS = {"params": "params", "flops": "FLOPs", "activations": "activ.", "depth": "depth", "width": "width"}


def explanation_parts(found: Explained) -> Iterator[str | Text | Table]:
    """Yield an explanation as texts and tables."""
    yield from _heading(found)
    if found.parts:
        table = make_table("the formula, part by part; the last part is the score", "", "part", "is", "in words", gap=1)
        for each in found.parts:
            table.add_row(each.part.name, each.part.short, each.part.kind, each.part.words)
        yield table
    yield _numbers_table(found)
    yield (
        "τ is Kendall's τ-b over architectures: with structure over evolve and validation, with accuracy (acc.) on "
        "each of them, mean over the tasks."
    )
    if found.parts:
        yield (
            "What is for each layer is read as its mean over the layers, a matrix as the mean magnitude of its entries."
        )
    if found.without:
        yield _without_table(found.without)
    yield from verdict_lines(found)


def _heading(found: Explained) -> Iterator[str]:
    proxy = found.proxy
    yield proxy.text if proxy.name in ("", proxy.text) else f"{proxy.name}: {proxy.text}"
    if proxy.as_formula is None:
        yield f"a function, not a formula: {latex_of(proxy)}"
    yield from (f"{name}: {text}" for name, text in about(proxy))
    counts = ", ".join(f"{count} of {split}" for split, count in found.counts.items())
    yield (
        f"on {found.benchmark}: {counts}; tasks {', '.join(found.tasks)}; batch {found.batch}, seed {found.seed}; "
        "test is not looked at"
    )
    for name, example in zip(_NAMES, found.examples, strict=False):
        yield f"{name} is architecture {example.number}: {_told(example)}"


def _told(example: Example) -> str:
    facts = [f"{fact} {size(value)}" for fact, value in example.structure.items()]
    known = {task: value for task, value in example.accuracies.items() if not math.isnan(value)}
    accuracies = [f"{task} {number(value, '.2f')} %" for task, value in known.items()]
    return ", ".join([*facts, *accuracies] or ["nothing is known of it"])


def _numbers_table(found: Explained) -> Table:
    """Return the table of numbers: of each part, or of the proxy where it has none."""
    facts = list(found.whole.structure)
    heads = [
        *_NAMES[: len(found.examples)],
        *(f"τ\n{_HEADS.get(fact, fact)}" for fact in facts),
        *(f"τ acc.\n{_SHORT[split]}" for split in SPLITS),
    ]
    table = make_table("in numbers", "", Column("part", overflow="fold"), *numbers(*heads), gap=1)
    rows = [(each.part.name, each.part.short, each.numbers) for each in found.parts]
    for name, short, row in rows or [("", found.proxy.name, found.whole)]:
        table.add_row(name, short, *_cells(row, facts))
    return table


def _cells(row: Numbers, facts: Sequence[str]) -> list[str]:
    values = [number(value, ".4g") for value in row.values]
    taus: list[float] = [row.structure[fact] for fact in facts] + [row.accuracy[split] for split in SPLITS]
    return values + [correlation(tau, 2) for tau in taus]


def _without_table(rows: Sequence[Without]) -> Table:
    table = make_table(
        "what the ranking is without one part or step, the most costly first",
        names("without"),
        *numbers("τ acc.\nevolve", "cost", "τ acc.\nvalid."),
        Column("what is left", overflow="fold"),
        gap=1,
    )
    for row in rows:
        taus = [row.numbers.accuracy[split] for split in SPLITS]
        table.add_row(row.what, correlation(taus[0]), correlation(row.cost), correlation(taus[1]), row.formula)
    return table


def verdict_lines(found: Explained) -> Iterator[str]:
    """Yield what carries the ranking, in words."""
    on = {split: correlation(tau) for split, tau in found.whole.accuracy.items()}
    yield (
        f"τ with accuracy is {on['evolve']} on evolve and {on['validation']} on validation."
        f"{_closest(found.whole.structure)}"
    )
    lost = [row for row in found.without if not math.isnan(row.cost)]
    if lost and lost[0].cost > _NOTHING:
        first = lost[0]
        yield (
            f"{first.what} carries most: without it τ on evolve is "
            f"{correlation(first.numbers.accuracy['evolve'])}, which costs {correlation(first.cost)}."
        )
    idle = [row.what for row in lost if row.cost <= _NOTHING]
    if idle:
        yield f"Nothing is lost (at most {correlation(_NOTHING)}) without one of these: {', '.join(idle)}."
    short = [row for row in lost if row.cost <= _NOTHING]
    if short:
        best = min(short, key=lambda row: (row.size, -row.numbers.accuracy["evolve"]))
        yield f"The shortest of these: {best.formula}"


def _closest(structure: Mapping[str, float]) -> str:
    known = {fact: tau for fact, tau in structure.items() if not math.isnan(tau)}
    if not known:
        return ""
    closest = max(known, key=lambda fact: abs(known[fact]))
    return f" Of structure, it is closest to {closest}: τ {correlation(known[closest]) or UNDEFINED}."
