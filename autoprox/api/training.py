"""Train: what a search found, as one function that Python and the command line call."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table
from rich.text import Text

from autoprox.api.arguments import ArgumentError, next_directory, one_by_one
from autoprox.api.results import KeptResult
from autoprox.api.searching import Search
from autoprox.bench_cache.runtime.devices import chosen_device
from autoprox.bench_cache.spaces.registry import InputSpec, get_space
from autoprox.bench_cache.training.built_in import BUILT_IN
from autoprox.bench_cache.training.trainer import Recipe
from autoprox.display.terminal import progress_console, show
from autoprox.display.training import TrainScreen, heading, training_parts
from autoprox.train.comparison import Comparison
from autoprox.train.found import chosen_rows, read_found
from autoprox.train.plan import BAND, DataChoice, TrainPlan, make_plan, read_plan
from autoprox.train.run import TrainResult, run_training, start_training, weights_file

_TRAINED = Path("trained")
_RECIPE = Recipe()
#: How many seeds each network is trained from: alone, and in a comparison.
ALONE, COMPARED = 1, 5
#: What is meant where nothing is said. `band` is in percent.
DEFAULTS: Mapping[str, Any] = {
    "rows": (1,),
    "band": 100 * BAND,
    "epochs": _RECIPE.epochs,
    "batch": _RECIPE.batch,
    "lr": _RECIPE.lr,
    "seed": 0,
    "device": "auto",
    **dict.fromkeys(("dataset", "against", "seeds", "train_images", "test_images", "image_size", "patch_size")),
}


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Trained(KeptResult):
    """What `autoprox.train` returns.

    Attributes:
        plan: all that the result depends on; see `TrainPlan`.
        result: the test accuracies after the last epoch; see `TrainResult`.
        out: the directory, which has the weights too.
    """

    plan: TrainPlan
    result: TrainResult
    out: Path

    @property
    def accuracies(self) -> dict[str, np.ndarray]:
        """The test accuracies by network, one for each seed, in percent."""
        return {each.name: own for each, own in zip(self.plan.networks, self.result.accuracies, strict=True)}

    @property
    def comparison(self) -> Comparison | None:
        """Whether search helped; None where nothing was compared."""
        return self.result.comparison

    def network(self, row: int = 1, seed: int | None = None) -> torch.nn.Module:
        """Return a trained network of the search's result, in evaluation mode, on the CPU.

        Raises:
            ArgumentError: the row was not trained, or not from this seed.
        """
        seed = self.plan.seed if seed is None else seed
        found = [each for each in self.plan.rows if each.name == f"row {row}"]
        if not found or seed not in self.plan.all_seeds:
            trained = ", ".join(each.name for each in self.plan.rows)
            seeds = ", ".join(map(str, self.plan.all_seeds))
            raise ArgumentError(f"row {row} with seed {seed} was not trained; there are {trained} with seeds {seeds}")
        network = get_space(self.plan.space).build(found[0].arch, self.plan.data.spec, seed)
        state = torch.load(self.out / weights_file(found[0], seed), map_location="cpu", weights_only=True)
        network.load_state_dict(state)
        return network.eval()

    def parts(self) -> Iterator[str | Text | Table]:
        """Yield the accuracies, and in words whether search helped."""
        return training_parts(self.plan, self.result)

    def records(self) -> list[dict[str, Any]]:
        """Return a line for each network and seed: its test accuracy in percent, and its genes (`arch`)."""
        space = get_space(self.plan.space)
        return [
            {"network": network.name, "seed": seed, "accuracy": float(accuracy), "arch": space.to_json(network.arch)}
            for network, own in zip(self.plan.networks, self.result.accuracies, strict=True)
            for seed, accuracy in zip(self.plan.all_seeds, own, strict=True)
        ]

    def __repr__(self) -> str:
        means = ", ".join(f"{name}: {own.mean():.2f} %" for name, own in self.accuracies.items())
        return f"Trained({means}, out={str(self.out)!r})"


def train(
    result: Search | str | os.PathLike[str] | None = None, dataset: str | os.PathLike[str] | None = None, *,
    rows: int | Sequence[int] | None = None, against: str | None = None, band: float | None = None,
    epochs: int | None = None, batch: int | None = None, lr: float | None = None,
    seed: int | None = None, seeds: int | None = None, device: str | None = None,
    train_images: int | None = None, test_images: int | None = None,
    image_size: int | None = None, patch_size: int | None = None,
    space: str | None = None, out: str | os.PathLike[str] | None = None, resume: bool = False, progress: bool = True,
) -> Trained:  # fmt: skip
    """Train architectures that a search found from scratch, and tell their test accuracy after the last epoch.

    `result` is what `autoprox.search(..., out=DIR)` returned, or its directory; `rows` are places in it, 1 for the
    best. `dataset` is digits, fashion, pines, a folder of images by class, or an .npz file. With `against` "random", a
    random architecture for each row, whose parameters differ by `band` (5) percent at most, is trained alike.

    It is the trainer that makes benchmarks: AdamW with the highest rate `lr`, warm-up and cosine, `epochs` passes in
    steps of `batch` images, no augmentation; mixed precision on a GPU. Each network is trained from `seeds` seeds (1,
    or 5 in a comparison), the first of which is `seed`. `space` names a user's own space (FILE.py:NAME).

    Everything is kept in the directory `out`, by default the next of trained/001, trained/002, ... With `resume`, the
    training there goes on, and takes no other choice. `progress` False prints nothing.

    Raises:
        TrainError, ArgumentError, BenchmarkError, ArchitectureError: an argument cannot be, or a network fails.
        JournalError: there is no training in `out` to resume, or its files are damaged.
    """
    given = {"dataset": dataset, "rows": rows, "against": against, "band": band, "epochs": epochs, "batch": batch,
             "lr": lr, "seed": seed, "seeds": seeds, "device": device, "train_images": train_images,
             "test_images": test_images, "image_size": image_size, "patch_size": patch_size}  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    own, searched = [space] if space else [], None
    if resume:
        folder = _resumed(out, result, given)
        plan = read_plan(folder, own)
    else:
        plan, searched = _plan(result, own, {**DEFAULTS, **given})
        folder = next_directory(_TRAINED) if out is None else Path(out).expanduser()
        start_training(plan, folder)
    console = progress_console(silent=not progress)
    show(console, heading(plan, folder, searched))
    with TrainScreen(console, plan) as screen:
        trained = run_training(plan, folder, on_progress=screen.progress, on_notice=screen.notice)
    return Trained(plan=plan, result=trained, out=folder)


def _resumed(out: str | os.PathLike[str] | None, result: object, given: Mapping[str, Any]) -> Path:
    if out is None:
        raise ArgumentError("--resume goes on with the training in --out DIR; name it")
    if given or result is not None:
        named = f"--{min(given).replace('_', '-')}" if given else "RESULT"
        raise ArgumentError(f"{out} has its own settings; resume it without {named}")
    return Path(out).expanduser()


def _plan(result: Any, own: list[str], choices: Mapping[str, Any]) -> tuple[TrainPlan, InputSpec | None]:
    """Return the plan that the arguments describe, and what the networks of the search read."""
    folder = result.out if isinstance(result, Search) else result
    if folder is None:
        raise ArgumentError("train what? Name RESULT, the directory of a search; a search has one where --out names it")
    if choices["dataset"] is None:
        raise ArgumentError(f"train on what? Name a --dataset: {', '.join(BUILT_IN)}, a folder, or an .npz file")
    if choices["against"] not in (None, "random"):
        raise ArgumentError(f"--against is {choices['against']!r:.40}; it must be 'random'")
    found, compared = read_found(Path(folder).expanduser(), own), choices["against"] is not None
    options = ("image_size", "patch_size", "train_images", "test_images")
    plan = make_plan(
        found,
        chosen_rows(found, one_by_one(choices["rows"])),
        DataChoice(os.fspath(choices["dataset"]), **{name: choices[name] for name in options}),
        Recipe(choices["epochs"], choices["batch"], choices["lr"]),
        seeds=choices["seeds"] if choices["seeds"] is not None else COMPARED if compared else ALONE,
        seed=choices["seed"],
        device=str(chosen_device(choices["device"])),
        band=choices["band"] / 100 if compared else None,
    )
    return plan, found.spec
