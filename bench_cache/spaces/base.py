"""What a search space is: the input it is built for, its errors, and the operations every space offers.

To add a space, write one module in this folder with a tuple `SPACES` of its `Space` instances; `registry.py` finds it.
A new family also has its architecture (a frozen dataclass), its network and its subclass of `Space` there, as `pit.py`
does.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from random import Random
from reprlib import Repr
from typing import Any, Generic, TypeVar

from torch import Generator, nn

from autoprox.bench_cache.runtime.checks import is_int, is_number
from autoprox.primitives.find_blocks.explicit import GivenLayers
from autoprox.primitives.find_blocks.named import Block, find_blocks

Arch = TypeVar("Arch")


class ArchitectureError(ValueError):
    """An architecture, space name or input that cannot be used; the message says which gene, and what is allowed."""


@dataclass(frozen=True)
class InputSpec:
    """What a network reads and predicts: square images of `in_channels`, and `num_classes` logits.

    Raises:
        ArchitectureError: a field that is not a positive integer, or a patch larger than the image.
    """

    image_size: int = 224
    in_channels: int = 3
    num_classes: int = 1000
    patch_size: int = 16

    def __post_init__(self) -> None:
        for field in ("image_size", "in_channels", "num_classes", "patch_size"):
            value = getattr(self, field)
            if not is_int(value) or value < 1:
                raise ArchitectureError(f"input: {field} {value!r} is not a positive integer")
        if self.patch_size > self.image_size:
            raise ArchitectureError(f"input: patch_size {self.patch_size} is larger than image_size {self.image_size}")


class Space(ABC, Generic[Arch]):
    """A set of architectures that can be drawn, varied, checked, sized and built.

    Every random choice comes from the generator passed in; nothing here reads or moves a global one.
    `sample`, `mutate` and `crossover` return valid architectures when given valid ones. `params`, `flops`,
    `activations`, `depth`, `width` and `key` take a valid architecture and do not check it again; `build` does.
    """

    name: str
    #: A digest of the source that the space follows from, where that is a user's; see `registry`.
    digest = ""  # without a type, or it would be a field of every dataclass
    #: Whether the networks have no transformer blocks, so that each of their layers is a block.
    convolutional = False

    @abstractmethod
    def sample(self, rng: Random) -> Arch:
        """Return an architecture with every gene drawn uniformly from its choices."""

    @abstractmethod
    def mutate(self, arch: Arch, rng: Random) -> Arch:
        """Return a copy of `arch` in which one gene has another value."""

    @abstractmethod
    def crossover(self, a: Arch, b: Arch, rng: Random) -> Arch:
        """Return an architecture each of whose genes comes from `a` or from `b`, with equal chances."""

    @abstractmethod
    def validate(self, arch: Arch) -> None:
        """Raise `ArchitectureError`, naming the gene, its value and the allowed ones, if `arch` is not in the space."""

    @abstractmethod
    def build(self, arch: Arch, spec: InputSpec, seed: int = 0) -> nn.Module:
        """Return the untrained network, in training mode; its weights follow from `seed` and `key(arch)` alone.

        Raises:
            ArchitectureError: `arch` is not in the space, or the network cannot read `spec`.
        """

    @abstractmethod
    def params(self, arch: Arch, spec: InputSpec) -> int:
        """Return the number of parameters, in closed form; equals that of the built network."""

    @abstractmethod
    def flops(self, arch: Arch, spec: InputSpec) -> int:
        """Return the multiply-adds of one forward pass on one image, each counted once, in closed form."""

    @abstractmethod
    def activations(self, arch: Arch, spec: InputSpec) -> int:
        """Return the output elements of all convolutions and linears on one image, in closed form."""

    @abstractmethod
    def depth(self, arch: Arch) -> int:
        """Return the number of transformer blocks; where there are none, of convolutions and linears."""

    @abstractmethod
    def width(self, arch: Arch) -> float:
        """Return the embedding dimension, averaged over the blocks where it varies; NaN where there is none."""

    @abstractmethod
    def to_json(self, arch: Arch) -> dict[str, Any]:
        """Return the genes as JSON values; equal architectures give equal values, in the same order."""

    @abstractmethod
    def from_json(self, record: Mapping[str, Any]) -> Arch:
        """Return the architecture that `to_json` wrote.

        Raises:
            ArchitectureError: a field is missing, unknown or of the wrong type, or the result is not in the space.
        """

    @abstractmethod
    def key(self, arch: Arch) -> str:
        """Return one line of text that names the space and every gene: equal exactly for equal architectures."""

    @abstractmethod
    def min_params(self, spec: InputSpec) -> int:
        """Return the smallest `params` of any architecture of the space."""

    @abstractmethod
    def min_flops(self, spec: InputSpec) -> int:
        """Return the smallest `flops` of any architecture of the space."""

    @abstractmethod
    def min_activations(self, spec: InputSpec) -> int:
        """Return the smallest `activations` of any architecture of the space."""

    def structure(self, arch: Arch, spec: InputSpec) -> tuple[int, int, int, int, float]:
        """Return params, FLOPs, activations, depth and width of the network for `spec`.

        Raises:
            ArchitectureError: the network cannot read `spec`.
        """
        sizes = self.params(arch, spec), self.flops(arch, spec), self.activations(arch, spec)
        return (*sizes, self.depth(arch), self.width(arch))

    def check_input(self, arch: Arch, spec: InputSpec) -> None:
        """Check, as far as that takes no network, that the networks can read `spec`.

        Raises:
            ArchitectureError: they cannot.
        """
        self.params(arch, spec)

    def layers(self, arch: Arch, model: nn.Module) -> GivenLayers | None:
        """Return what names the layers of a network's blocks, as `layers=` of `Proxy.score` takes it.

        None leaves it to whoever reads the network to find them.
        """
        return None

    def find_blocks(self, arch: Arch, spec: InputSpec, model: nn.Module) -> Sequence[Block]:
        """Return the blocks of a network that `build` returned: by the names that its layers have.

        Raises:
            LayerError: no blocks are found.
        """
        return find_blocks(model)

    def weight_generator(self, arch: Arch, seed: int) -> Generator:
        """Return the generator of a network's initial weights: seeded by SHA-256 of `seed` and `key(arch)`."""
        digest = hashlib.sha256(f"{seed}\n{self.key(arch)}".encode()).digest()
        return Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)

    def _require_type(self, arch: object, kind: type) -> None:
        if not isinstance(arch, kind):
            raise ArchitectureError(f"{self.name}: expected {kind.__name__}, got {type(arch).__name__}")

    def _require_choice(self, gene: str, value: object, choices: Collection[Any]) -> None:
        if not any(is_choice(value, choice) for choice in choices):
            raise ArchitectureError(f"{self.name}: {gene} {shown(value)} is not one of {listed(choices)}")

    def _read_fields(self, record: object, fields: tuple[str, ...]) -> list[Any]:
        """Return the values of exactly `fields` from a JSON object, arrays as tuples."""
        if not isinstance(record, Mapping):
            raise ArchitectureError(
                f"{self.name}: an architecture is an object with {listed(fields)}, got {type(record).__name__}"
            )
        for found in record:
            if found not in fields:
                raise ArchitectureError(
                    f"{self.name}: unknown field {shown(found)}{suggestion(found, fields)}; "
                    f"the fields are {listed(fields)}"
                )
        for field in fields:
            if field not in record:
                raise ArchitectureError(f"{self.name}: field {field} is missing; the fields are {listed(fields)}")
        return [tuple(value) if isinstance(value := record[field], list) else value for field in fields]


def is_choice(value: object, choice: object) -> bool:
    """Tell whether a gene's value is this choice, where True is not 1, 192.0 is not 192, but 4 is 4.0."""
    if isinstance(choice, str):
        return isinstance(value, str) and value == choice
    if isinstance(choice, tuple):
        return isinstance(value, tuple) and len(value) == len(choice) and all(map(is_choice, value, choice))
    return (is_int(value) if is_int(choice) else is_number(value)) and value == choice


def shown(value: object) -> str:
    """Return a value as an error quotes it: on one line, sequences in brackets, cut where long or deep."""
    quoted = Repr()
    quoted.maxlist = quoted.maxstring = quoted.maxother = 60
    return quoted.repr(list(value) if isinstance(value, tuple) else value)


def listed(choices: Iterable[object]) -> str:
    """Return allowed values as an error lists them: `192, 216, 240`."""
    return ", ".join(
        shown(c) if isinstance(c, tuple) else ratio_text(c) if isinstance(c, float) else f"{c}" for c in choices
    )


def suggestion(name: object, known: Iterable[str]) -> str:
    """Return ` (did you mean X?)` for the known name closest to a mistyped one, or nothing."""
    close = get_close_matches(str(name)[:60], list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def ratio_text(ratio: float) -> str:
    """Return a ratio as a key writes it: the shortest exact form, `4` and `3.5`."""
    return f"{ratio:.17g}"
