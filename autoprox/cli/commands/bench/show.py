"""Print what there is to know of a benchmark."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click
from rich.table import Column, Table
from rich.text import Text

from autoprox.bench_cache.benchmarks.chance import TIMES_CHANCE
from autoprox.bench_cache.benchmarks.describe import Description, describe
from autoprox.bench_cache.benchmarks.library import load_benchmarks
from autoprox.bench_cache.benchmarks.table import SPLITS, STRUCTURE
from autoprox.cli.options import spaces_option
from autoprox.cli.output import Output, output_options
from autoprox.display.terminal import UNDEFINED, make_table, names, number, numbers

TAU, PERCENT = "+.3f", ".2f"


@click.command("show")
@click.argument("benchmark")
@spaces_option
@output_options
def command(benchmark: str, spaces: Sequence[str], output: Output) -> None:
    """Print what there is to know of BENCHMARK, a file or a name, and warn of labels that look shuffled."""
    description = describe(load_benchmarks([benchmark], spaces)[0])
    output.print(_parts(description), lambda: _record(description))


def _record(description: Description) -> dict[str, Any]:
    """Return all facts as JSON values; a pair of tasks is one name, `A and B`."""
    between = {" and ".join(pair): tau for pair, tau in description.tau_between.items()}
    facts = {name: value for name, value in vars(description).items() if name not in ("tau_between", "with_images")}
    images = {
        task: {
            "count": len(network.input.images),
            "shape": network.input.images.shape[1:],
            "sha256": network.input.digest,
        }
        for network in description.with_images
        if network.input is not None
        for task in network.tasks
    }
    return _as_json({**facts, "tau_between": between, "images": images, "warnings": description.warnings})


def _as_json(value: Any) -> Any:
    """Return records and mappings as dicts, as deep as they go."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _as_json(entry) for name, entry in value.items()}
    return [_as_json(entry) for entry in value] if isinstance(value, list | tuple) else value


def _parts(description: Description) -> Iterator[str | Text | Table]:
    """Yield the heading, a table for each kind of fact, and the warnings."""
    yield _heading(description)
    tables = (
        _accuracy_table,
        _missing_table,
        _trainable_table,
        _reliability_table,
        _structure_table,
        _within_table,
        _between_table,
        _images_table,
        _card_table,
    )
    for table in (draw(description) for draw in tables):
        if table.rows:
            yield table
    for warning in description.warnings:
        yield Text(f"\nwarning: {warning}", "bold yellow")


def _heading(description: Description) -> str:
    spec = description.spec
    built = "tabular: its networks cannot be built"
    if spec is not None:
        built = (
            f"space {description.space}, built for {spec.image_size} px, {spec.in_channels} channels, "
            f"{spec.num_classes} classes, patches of {spec.patch_size}"
        )
    sizes = ", ".join(f"{description.splits[split]} {split}" for split in SPLITS)
    head = f"{description.name}: {description.architectures} architectures ({sizes})"
    return f"{head}\n{built}\nfrom {description.source}"


def _accuracy_table(description: Description) -> Table:
    table = _table("accuracy in percent", "task", "labelled", "lowest", "median", "highest", "distinct", "tied")
    for facts in description.tasks:
        range_ = (number(value, PERCENT) for value in (facts.lowest, facts.median, facts.highest))
        table.add_row(facts.task, str(facts.labelled), *range_, str(facts.distinct), str(facts.tied))
    return table


def _missing_table(description: Description) -> Table:
    table = _table("missing, and labelled by split", "task", "missing", *SPLITS)
    for facts in description.tasks:
        if facts.missing:
            table.add_row(facts.task, str(facts.missing), *(str(facts.splits[split]) for split in SPLITS))
    return table


def _trainable_table(description: Description) -> Table:
    """Return how many networks are at chance; no rows where all do better, or chance is not known."""
    title = f"networks at chance, an accuracy below {TIMES_CHANCE:g} times it, and trainable ones by split"
    table = _table(title, "task", "chance", "at chance", *SPLITS, "halves, trainable")
    for facts in description.tasks:
        if (found := facts.trainable) is not None and found.untrainable:
            sizes = (str(found.splits[split]) for split in SPLITS)
            chance, halves = number(found.chance, PERCENT), number(found.halves, TAU)
            table.add_row(facts.task, chance, str(found.untrainable), *sizes, halves)
    return table


def _reliability_table(description: Description) -> Table:
    """Return what the trainings of several seeds say of the labels; `reliability.Reliability` defines each column."""
    title = "reliability of the labels, between seeds: tau-b, and deviations in percent points"
    columns = ("seeds", "halves", "single", "spread", "noise", "ceiling, 1 seed", "ceiling, mean")
    table = _table(title, "task", *columns)
    for facts in description.tasks:
        if (found := facts.reliability) is not None:
            taus = (number(tau, TAU) for tau in (found.halves, found.single))
            deviations = (number(points, PERCENT) for points in (found.spread, found.noise))
            ceilings = (number(tau, TAU) for tau in (found.ceiling_one, found.ceiling_mean))
            table.add_row(facts.task, str(found.seeds), *taus, *deviations, *ceilings)
    return table


def _images_table(description: Description) -> Table:
    """Return the images that the probe `data` reads: a line for all tasks that share them."""
    columns: list[Column | str] = [*numbers("images", "size", "classes"), names("SHA-256"), "whose"]
    table = make_table("images for the probe data", "task", *columns, ruled=False)
    for network in description.with_images:
        if (found := network.input) is not None:
            size = " × ".join(map(str, found.images.shape[1:]))
            counts = str(len(found.images)), size, str(found.spec.num_classes)
            table.add_row(_several(network.tasks), *counts, found.short_digest, found.source)
    return table


def _several(tasks: Sequence[str]) -> str:
    return ", ".join(tasks) if len(tasks) <= 3 else f"{tasks[0]} and {len(tasks) - 1} others"


def _card_table(description: Description) -> Table:
    """Return the data card: a line for each fact, and a nested fact under its path, such as `recipe.epochs`."""
    table = make_table("data card", names("fact"), "", ruled=False)
    for path, value in _facts(description.card):
        table.add_row(path, Text(value))
    return table


def _facts(card: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in card.items():
        if isinstance(value, Mapping):
            yield from _facts(value, f"{above}{name}.")
        elif isinstance(value, list):
            yield from ((f"{above}{name}" if not place else "", str(entry)) for place, entry in enumerate(value))
        else:
            yield f"{above}{name}", str(value)


def _structure_table(description: Description) -> Table:
    table = _table("Kendall's tau-b with structure", "task", *STRUCTURE, "closest", "R²")
    for facts in description.tasks:
        taus = (number(facts.tau[fact], TAU) if fact in facts.tau else UNDEFINED for fact in STRUCTURE)
        name = Text(facts.task, style="yellow" if facts.warning else "")
        table.add_row(name, *taus, facts.check.strongest or UNDEFINED, number(facts.check.r2, PERCENT))
    return table


def _within_table(description: Description) -> Table:
    """Return the taus with structure within the benchmark's groups, a line for each task and grouping."""
    title = "Kendall's tau-b with structure within groups, the mean weighted by pairs"
    table = _table(title, "task", "within", "groups", "pairs", *STRUCTURE)
    for facts in description.tasks:
        for group, found in facts.within.items():
            used = next(iter(found.values()), None)
            sizes = (str(used.groups), f"{used.pairs:,}") if used else ("", "")
            taus = (number(found[fact].tau, TAU) if fact in found else UNDEFINED for fact in STRUCTURE)
            table.add_row(facts.task, group, *sizes, *taus)
    return table


def _between_table(description: Description) -> Table:
    """Return the lower triangle of the taus; a head has a task's number, because names are too wide there."""
    heads = (str(place) for place in range(1, len(description.tasks)))
    table = _table("Kendall's tau-b between tasks", "task", *heads)
    for row, facts in enumerate(description.tasks[1:], start=1):
        others = (other.task for other in description.tasks[:row])
        taus = (number(description.tau_between[other, facts.task], TAU) for other in others)
        table.add_row(f"{row + 1} {facts.task}", *taus)
    return table


def _table(title: str, first: str, *heads: str) -> Table:
    """Return a table of numbers, whose heads break in a narrow terminal."""
    columns = (Column(head, justify="right", overflow="fold") for head in heads)
    return make_table(title, names(first), *columns, ruled=False)
