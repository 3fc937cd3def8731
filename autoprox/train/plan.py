"""TrainPlan: all that a training depends on, checked once, and kept in the first line of its journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from autoprox.bench_cache.runtime.journal import Journal, JournalError
from autoprox.bench_cache.spaces.registry import InputSpec, get_space, recorded_space, space_record
from autoprox.bench_cache.training.by_reference import load_dataset
from autoprox.bench_cache.training.dataset import Dataset
from autoprox.bench_cache.training.trainer import Recipe
from autoprox.train.found import Found, Network, TrainError, rivals

JOURNAL = "journal.jsonl"
#: What the parameters of a random architecture may differ by from the row's, as a share of them.
BAND = 0.05


class TrainJournal(Journal):
    """The journal of a training: one line for each epoch of each network, in their order, with values for each seed."""

    FORMAT: ClassVar[str] = "autoprox-trained"
    COUNTER: ClassVar[str] = "number"
    RUN: ClassVar[str] = "training"
    TITLE: ClassVar[str] = "a training's journal"


@dataclass(frozen=True)
class DataChoice:
    """A data set as it is named: see `load_dataset`; None keeps its default, and all images."""

    ref: str
    image_size: int | None = None
    patch_size: int | None = None
    train_images: int | None = None
    test_images: int | None = None

    def load(self) -> Dataset:
        """Return the data set.

        Raises:
            BenchmarkError: there is none, or it cannot be trained on.
        """
        found = load_dataset(self.ref, image_size=self.image_size, patch_size=self.patch_size)
        return found.limited(self.train_images, self.test_images)

    def fitting(self, spec: InputSpec | None) -> DataChoice:
        """Return the choice with the image and patch size of a search, for a folder of which nothing is said."""
        if spec is None or self.image_size is not None or not Path(self.ref).expanduser().is_dir():
            return self
        patch = spec.patch_size if self.patch_size is None else self.patch_size
        return DataChoice(self.ref, spec.image_size, patch, self.train_images, self.test_images)


@dataclass(frozen=True)
class TrainPlan:
    """What is trained: networks of a space on a data set, each from `seeds` seeds, the first of which is `seed`.

    Where rows are compared with random architectures, `networks` has the rows first, then one for each; `band` is what
    their parameters may differ by, as a share. It is None without a comparison.

    Raises:
        TrainError: a number is out of range.
        ArchitectureError: the networks cannot read the data set.
    """

    space: str
    networks: tuple[Network, ...]
    choice: DataChoice
    data: Dataset = field(repr=False)
    recipe: Recipe = field(default_factory=Recipe)
    seeds: int = 1
    seed: int = 0
    device: str = "cpu"
    band: float | None = None

    def __post_init__(self) -> None:
        if type(self.seeds) is not int or self.seeds < 1:
            raise TrainError(f"seeds is {self.seeds!r}; it must be a whole number from 1")
        if type(self.seed) is not int or self.seed < 0:
            raise TrainError(f"seed is {self.seed!r}; it must be a whole number from 0")
        space = get_space(self.space)
        for network in self.networks:
            space.check_input(network.arch, self.data.spec)

    @property
    def rows(self) -> tuple[Network, ...]:
        """The networks of the search's result, without the random ones."""
        return self.networks if self.band is None else self.networks[: len(self.networks) // 2]

    @property
    def all_seeds(self) -> range:
        """The seeds of each network's trainings."""
        return range(self.seed, self.seed + self.seeds)

    def record(self) -> dict[str, Any]:
        """Return all that the result depends on, as JSON; the images by their SHA-256."""
        space, data = get_space(self.space), self.data
        return {
            "space": space_record(self.space),
            "networks": [{"name": each.name, "genes": space.to_json(each.arch)} for each in self.networks],
            "dataset": asdict(self.choice),
            "images": {
                "name": data.name,
                "source": data.source,
                "training": len(data.train_labels),
                "test": len(data.test_labels),
                "balanced": data.balanced,
                "sha256": data.digest,
            },
            "spec": asdict(data.spec),
            "recipe": asdict(self.recipe),
            "seeds": self.seeds,
            "seed": self.seed,
            "device": self.device,
            "band": self.band,
        }


def make_plan(
    found: Found,
    rows: Sequence[Network],
    choice: DataChoice,
    recipe: Recipe,
    *,
    seeds: int = 1,
    seed: int = 0,
    device: str = "cpu",
    band: float | None = None,
) -> TrainPlan:
    """Return the plan of training rows of a result and, with a `band`, a random architecture for each.

    Raises:
        BenchmarkError: there is no such data set, or it cannot be trained on.
        TrainError: a number is out of range, or no random architecture is found.
    """
    if band is not None and not 0 <= band < 1:
        raise TrainError(f"band is {100 * band:g} %; it must be from 0 to below 100")
    choice = choice.fitting(found.spec)
    data = choice.load()
    others = () if band is None else rivals(found.space, data.spec, rows, band, seed)
    return TrainPlan(found.space, (*rows, *others), choice, data, recipe, seeds, seed, device, band)


def read_plan(out: Path, spaces: Sequence[str] = ()) -> TrainPlan:
    """Return the plan of the training in a directory.

    Raises:
        JournalError: there is none, or its journal cannot be read.
        TrainError: the data set has other images than it had.
        ArchitectureError: the space is not there, or has changed.
    """
    stored = TrainJournal.open(out / JOURNAL).settings
    try:
        plan = _plan_of(stored, spaces)
    except (KeyError, TypeError, AttributeError) as error:
        raise JournalError(f"{out / JOURNAL}: the settings on line 1 cannot be read ({error!r:.80})") from None
    if plan.data.digest != stored["images"]["sha256"]:
        raise TrainError(
            f"{plan.choice.ref} has other images than when {out} was begun; start again with another --out"
        )
    return plan


def _plan_of(stored: Mapping[str, Any], spaces: Sequence[str]) -> TrainPlan:
    space, choice = recorded_space(stored["space"], spaces), DataChoice(**stored["dataset"])
    known = get_space(space)
    networks = tuple(Network(each["name"], known.from_json(each["genes"])) for each in stored["networks"])
    recipe = Recipe(**stored["recipe"])
    return TrainPlan(
        space,
        networks,
        choice,
        choice.load(),
        recipe,
        stored["seeds"],
        stored["seed"],
        stored["device"],
        stored["band"],
    )
