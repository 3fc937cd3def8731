"""What is shown of a training: the progress of its epochs, the accuracies, and whether search helped."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import TaskID
from rich.table import Table
from rich.text import Text

from autoprox.bench_cache.spaces.registry import InputSpec, get_space
from autoprox.display.terminal import UNDEFINED, make_table, names, number, numbers, progress_bar, say, size
from autoprox.train.plan import TrainPlan
from autoprox.train.run import RESULT, TrainProgress, TrainResult, file_stem, weights_file


def heading(plan: TrainPlan, out: Path, searched: InputSpec | None) -> Iterator[str]:
    """Yield lines that say what is trained, on what, and how; and where the search was for another input."""
    data, recipe, spec = plan.data, plan.recipe, plan.data.spec
    yield f"autoprox train → {out}"
    yield f"{', '.join(network.name for network in plan.networks)} of the space {get_space(plan.space).name}"
    yield (
        f"data set {data.name}: {len(data.train_labels):,} images for training, {len(data.test_labels):,} for the "
        f"test; {_input(spec)}"
    )
    if searched is not None and searched != spec:
        yield f"The search was for {_input(searched)}: the same genes are built for this data set."
    mixed = ", mixed precision" if plan.device.startswith("cuda") else ""
    yield (
        f"{recipe.epochs} epochs, batch {recipe.batch}, learning rate {recipe.lr:g}, "
        f"seed{'s' if plan.seeds > 1 else ''} {', '.join(map(str, plan.all_seeds))}, on {plan.device}{mixed}"
    )


def _input(spec: InputSpec) -> str:
    return (
        f"{spec.image_size} px, {spec.in_channels} channel{'s' if spec.in_channels > 1 else ''}, "
        f"{spec.num_classes:,} classes, patches of {spec.patch_size}"
    )


class TrainScreen:
    """The progress of a training: a bar on a terminal; elsewhere lines, ten for a network alone, else one for each."""

    def __init__(self, console: Console, plan: TrainPlan) -> None:
        self.console, self.epochs = console, plan.recipe.epochs
        self.every = max(1, self.epochs // 10) if len(plan.networks) == 1 else self.epochs
        self.bars = progress_bar(console, "training", "network", "test")
        total = len(plan.networks) * self.epochs
        self.task: TaskID = self.bars.add_task("", total=total, network=UNDEFINED, test=UNDEFINED)

    def __enter__(self) -> TrainScreen:
        self.bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bars.stop()

    def notice(self, line: str) -> None:
        """Print what the user should know."""
        say(self.console, line)

    def progress(self, progress: TrainProgress) -> None:
        """Show how far the training is."""
        accuracy = f"{progress.accuracy:.2f} %"
        self.bars.update(self.task, completed=progress.done, network=progress.network, test=accuracy)
        if not self.console.is_terminal and (progress.epoch % self.every == 0 or progress.epoch == self.epochs):
            say(self.console, f"{progress.network}: epoch {progress.epoch} of {self.epochs}, test accuracy {accuracy}")


def training_parts(plan: TrainPlan, result: TrainResult) -> Iterator[str | Text | Table]:
    """Yield the accuracies, and the comparison in words."""
    yield _table(plan, result)
    if result.comparison is not None:
        yield from result.comparison.words()


def next_steps(plan: TrainPlan, out: Path) -> Iterator[str]:
    """Yield what is saved, and the command that comes next."""
    first = plan.rows[0]
    yield (
        f"Saved in {out}: {RESULT}, journal.jsonl and, for each row, a Python file that builds the network and its "
        f"weights, such as {file_stem(first)}.py and {weights_file(first, plan.seed)}"
    )
    yield f"Next: autoprox report {shlex.quote(str(out))}"


def resume_command(out: Path, own: str = "") -> str:
    """Return the command that goes on with the training in a folder; `own` is what `as_options` returns."""
    return f"autoprox train --resume --out {shlex.quote(str(out))}{own}"


def _table(plan: TrainPlan, result: TrainResult) -> Table:
    balanced = "mean over classes, " if plan.data.balanced else ""
    title = f"Test accuracy on {plan.data.name} after the last epoch ({balanced}%)"
    table = make_table(title, names("network"), *numbers("params", "mean", "lowest", "highest"), "architecture")
    space = get_space(plan.space)
    for network, own in zip(plan.networks, result.accuracies, strict=True):
        genes = Text(space.key(network.arch).partition(":")[2].replace("|", " | "))
        params = _params(plan, network.arch)
        table.add_row(
            network.name, params, *(number(value, ".2f") for value in (own.mean(), own.min(), own.max())), genes
        )
    return table


def _params(plan: TrainPlan, arch: object) -> str:
    try:
        return size(get_space(plan.space).params(arch, plan.data.spec))
    except ValueError:
        return UNDEFINED
