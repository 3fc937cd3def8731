"""Own spaces: spaces that a user writes as choices and a function `build`; all else follows, or is measured.

A user's space is a class, an instance of one, or a dict, with these names; only the first two are needed:

- `choices`: a dict of genes with their allowed values; see `genes.read_choices`.
- `build(arch)` returns the untrained network of an architecture; `build(arch, spec)` also sees what it must read.
- `name`: by default that of the class.
- `sample(rng)`, `mutate(arch, rng)`, `crossover(a, b, rng)` return an architecture, or a dict of its genes.
- `validate(arch)` raises ValueError, fails an assertion or returns False for what is not in the space.
- `params(arch, spec)`, `flops(arch, spec)`, `activations(arch, spec)`, `depth(arch)`, `width(arch)`.
- `min_params(spec)`, `min_flops(spec)`, `min_activations(spec)`.
- `layers(arch, model)` names the layers of the blocks, as `layers=` of `Proxy.score` takes them.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from autoprox.bench_cache.runtime.local_pool import one_thread
from autoprox.bench_cache.runtime.user_code import UserCodeError, called, on_path, seeded
from autoprox.bench_cache.spaces.base import ArchitectureError, InputSpec, Space, suggestion
from autoprox.bench_cache.spaces.genes import Genes, read_choices
from autoprox.primitives import LayerError, read_statistics
from autoprox.primitives.batch import logits_of
from autoprox.primitives.find_blocks.choose import blocks_of
from autoprox.primitives.find_blocks.explicit import GivenLayers
from autoprox.primitives.find_blocks.named import Block
from autoprox.primitives.untouched import one_pass, untouched

#: The names that a user's space may have.
NAMES = ("choices", "build", "name", "sample", "mutate", "crossover", "validate", "params", "flops", "activations",
         "depth", "width", "min_params", "min_flops", "min_activations", "layers")  # fmt: skip
#: Draws until a valid architecture is found, and how many of them go by before a mutation goes one step further.
TRIES, PATIENCE = 1000, 20
#: Architectures whose size is remembered; what was used longest ago is measured again.
REMEMBERED = 20_000


@dataclass(frozen=True)
class Structure:
    """What a network's size is: in parameters, multiply-adds and activations of one image, blocks, and width."""

    params: int
    flops: int
    activations: int
    depth: int
    width: float | None


class OwnSpace(Space[Genes]):
    """A space made of a user's choices and `build`.

    `written` has the names that the module's docstring lists. `reload` is a function with its arguments that gives this
    space again in another process. The code of the user may import from `folder`.

    Raises:
        ArchitectureError: something is missing or cannot be read; the message says what, and how to write it.
    """

    def __init__(
        self,
        written: object,
        name: str,
        digest: str = "",
        folder: Path | None = None,
        reload: tuple[Callable[..., Space[Any]], tuple[Any, ...]] | None = None,
    ) -> None:
        self._written = _as_object(written, name)
        for needed, example in (("choices", "choices = {'width': [48, 64]}"), ("build", "def build(self, arch): ...")):
            if not hasattr(self._written, needed):
                raise ArchitectureError(f"{name} has no '{needed}', which a space needs: {example}")
        self.name = getattr(self._written, "name", name)
        self.digest, self._folder, self._reload = digest, folder or Path.cwd(), reload
        self.choices = read_choices(self.name, self._written.choices)
        for each in NAMES:
            if each not in ("choices", "name") and not callable(getattr(self._written, each, len)):
                raise ArchitectureError(f"{self.name}: '{each}' is no function")
        self._measured: OrderedDict[tuple[str, InputSpec], Structure] = OrderedDict()

    def __reduce__(self) -> Any:
        return self._reload or object.__reduce__(self)

    def _has(self, name: str) -> bool:
        return hasattr(self._written, name)

    def _call(self, name: str, *arguments: Any, of: Genes | None = None) -> Any:
        """Call a function of the user's; what it raises becomes one line."""
        doing = f"{self.name}: {name}" + (f" of {of}" if of else "")
        with on_path(self._folder):
            try:
                return called(doing, getattr(self._written, name), *arguments)
            except UserCodeError as error:
                raise ArchitectureError(str(error)) from error

    # --- drawing and varying ---

    def sample(self, rng: Random) -> Genes:
        """Draw an architecture by the user's `sample`, or every value uniformly, until it is valid."""
        if self._has("sample"):
            return self.checked(self._call("sample", rng))
        for _ in range(TRIES):
            arch = self.choices.sample(rng)
            if self._is_valid(arch):
                return arch
        raise ArchitectureError(
            f"{self.name}: none of {TRIES:,} random architectures is valid; give it a function sample(rng)"
        )

    def mutate(self, arch: Genes, rng: Random) -> Genes:
        """Change one value; where no such architecture is valid, two, and so on."""
        if self._has("mutate"):
            return self.checked(self._call("mutate", arch, rng, of=arch))
        for attempt in range(TRIES):
            changed = arch
            for _ in range(1 + attempt // PATIENCE):
                changed = self.choices.mutate(changed, rng)
            if changed != arch and self._is_valid(changed):
                return changed
        raise ArchitectureError(
            f"{self.name}: {TRIES:,} mutations of {arch} are not valid; give it a function mutate(arch, rng)"
        )

    def crossover(self, a: Genes, b: Genes, rng: Random) -> Genes:
        """Take every value from either parent; the first parent where no such architecture is valid."""
        if self._has("crossover"):
            return self.checked(self._call("crossover", a, b, rng, of=a))
        for _ in range(TRIES):
            crossed = self.choices.crossover(a, b, rng)
            if self._is_valid(crossed):
                return crossed
        return a

    def validate(self, arch: Genes) -> None:
        """Refuse genes that are no choice of the space, and what the user's `validate` refuses."""
        self.checked(arch)

    def checked(self, record: object) -> Genes:
        """Return the architecture that a mapping of genes describes.

        Raises:
            ArchitectureError: it is not in the space.
        """
        arch = self.choices.read(record)
        reason = self._refusal(arch)
        if reason is not None:
            raise ArchitectureError(f"{self.name}: {arch} is not valid{reason}")
        return arch

    def _is_valid(self, arch: Genes) -> bool:
        return self._refusal(arch) is None

    def _refusal(self, arch: Genes) -> str | None:
        """Return why the user's `validate` refuses an architecture, after a colon; None if it does not."""
        if not self._has("validate"):
            return None
        with on_path(self._folder):
            try:
                answer = called(f"{self.name}: validate of {arch}", self._written.validate, arch)
            except UserCodeError as error:
                cause = error.__cause__
                if not isinstance(cause, ValueError | AssertionError):
                    raise ArchitectureError(str(error)) from error
                return f": {str(cause).splitlines()[0]}" if str(cause) else ""
        return "" if answer is False else None

    # --- the network ---

    def build(self, arch: Genes, spec: InputSpec, seed: int = 0) -> nn.Module:
        """Return the untrained network, in training mode.

        The random generators are seeded while the user's `build` runs, so weights follow from `seed` and `key(arch)`.
        """
        arch = self.checked(arch)
        with seeded(self.weight_generator(arch, seed).initial_seed()):
            model = self._call("build", arch, *self._spec_for("build", spec), of=arch)
        if not isinstance(model, nn.Module):
            raise ArchitectureError(f"{self.name}: build returns a {type(model).__name__}; a torch.nn.Module is needed")
        return model.train()

    def _spec_for(self, name: str, spec: InputSpec) -> tuple[InputSpec, ...]:
        """Return the input as the last argument of a user's function, where it takes one called `spec`."""
        return (spec,) if "spec" in inspect.signature(getattr(self._written, name)).parameters else ()

    def layers(self, arch: Genes, model: nn.Module) -> GivenLayers | None:
        """Return what the user's `layers` returns; None without it."""
        return self._call("layers", arch, model, of=arch) if self._has("layers") else None

    def find_blocks(self, arch: Genes, spec: InputSpec, model: nn.Module) -> Sequence[Block]:
        """Return the blocks that the user's `layers` names or, without it, those that a forward pass shows."""
        try:
            return blocks_of(model, _images(spec), self.layers(arch, model))
        except LayerError as error:
            told = str(error).partition("; pass layers=")[0]
            raise ArchitectureError(
                f"{self.name}: {arch}: {told}; give the space a function layers(arch, model) that names the layers"
            ) from error

    # --- its size ---

    def structure(self, arch: Genes, spec: InputSpec) -> tuple[int, int, int, int, float]:
        """Return params, FLOPs, activations, depth and width: those that the space states, and the others measured."""
        sizes = self.params(arch, spec), self.flops(arch, spec), self.activations(arch, spec)
        return (*sizes, self._depth(arch, spec), self._width(arch, spec))

    def check_input(self, arch: Genes, spec: InputSpec) -> None:
        """Check nothing: what a network can read is known when it has run."""

    def params(self, arch: Genes, spec: InputSpec) -> int:
        """Return the number of parameters: as stated, or of the built network."""
        return int(self._stated("params", arch, spec) if self._has("params") else self._measure(arch, spec).params)

    def flops(self, arch: Genes, spec: InputSpec) -> int:
        """Return the multiply-adds of one image: as stated, or counted in a forward pass."""
        return int(self._stated("flops", arch, spec) if self._has("flops") else self._measure(arch, spec).flops)

    def activations(self, arch: Genes, spec: InputSpec) -> int:
        """Return the output elements of convolutions and linears for one image: as stated, or counted."""
        stated = self._has("activations")
        return int(self._stated("activations", arch, spec) if stated else self._measure(arch, spec).activations)

    def depth(self, arch: Genes) -> int:
        """Return the number of blocks: as stated, or of the network that was measured last, else for 224 pixels."""
        return self._depth(arch, self._measured_spec(arch))

    def width(self, arch: Genes) -> float:
        """Return the embedding dimension: as stated, or of the network that was measured last, else for 224 pixels."""
        return self._width(arch, self._measured_spec(arch))

    def _depth(self, arch: Genes, spec: InputSpec) -> int:
        return int(self._stated("depth", arch, spec) if self._has("depth") else self._measure(arch, spec).depth)

    def _width(self, arch: Genes, spec: InputSpec) -> float:
        width = self._stated("width", arch, spec) if self._has("width") else self._measure(arch, spec).width
        if width is None:
            raise ArchitectureError(
                f"{self.name}: {arch}: no block shows its width; give the space a function width(arch), or layers"
            )
        return float(width)

    def _stated(self, name: str, arch: Genes, spec: InputSpec) -> float:
        found = self._call(name, arch, *self._spec_for(name, spec), of=arch)
        if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found < float("inf"):
            raise ArchitectureError(f"{self.name}: {name} of {arch} is {found!r:.60}, not a number from 0")
        return found

    def _measured_spec(self, arch: Genes) -> InputSpec:
        key = self.key(arch)
        return next((spec for known, spec in reversed(self._measured) if known == key), InputSpec())

    def _measure(self, arch: Genes, spec: InputSpec) -> Structure:
        """Return the size of the network, which is built and run once for each architecture and input."""
        key = self.key(arch), spec
        if key not in self._measured:
            self._measured[key] = self._measured_now(arch, spec)
            while len(self._measured) > REMEMBERED:
                self._measured.popitem(last=False)
        self._measured.move_to_end(key)
        return self._measured[key]

    def _measured_now(self, arch: Genes, spec: InputSpec) -> Structure:
        model, images = self.build(arch, spec), _images(spec)
        wanted = {(name, "") for name in ("params", "flops", "activations", "depth", "width")}
        with one_thread():  # small networks are faster so
            _check_output(f"{self.name}: {arch}", model, images, spec)
            found = read_statistics(model, self.find_blocks(arch, spec, model), wanted, images).net
        params, flops, activations, depth = (int(found[name]) for name in ("params", "flops", "activations", "depth"))
        return Structure(params, flops, activations, depth, found.get("width"))

    def min_params(self, spec: InputSpec) -> int:
        """Return what the user's space states, or 0: no network is smaller."""
        return int(self._call("min_params", spec)) if self._has("min_params") else 0

    def min_flops(self, spec: InputSpec) -> int:
        """Return what the user's space states, or 0: no network takes less."""
        return int(self._call("min_flops", spec)) if self._has("min_flops") else 0

    def min_activations(self, spec: InputSpec) -> int:
        """Return what the user's space states, or 0: no network makes less."""
        return int(self._call("min_activations", spec)) if self._has("min_activations") else 0

    # --- as text ---

    def to_json(self, arch: Genes) -> dict[str, Any]:
        """Return the genes, in the order of the choices; several values are an array."""
        return {gene: list(value) if isinstance(value, tuple) else value for gene, value in arch.items()}

    def from_json(self, record: Mapping[str, Any]) -> Genes:
        """Return the architecture that `to_json` wrote, checked."""
        return self.checked(record)

    def key(self, arch: Genes) -> str:
        """Return the name of the space, and the genes as JSON, by name."""
        return f"{self.name}:{self.choices.key(arch)}"


def _as_object(written: object, name: str) -> Any:
    """Return a user's space as an object with the names: an instance of a class, or the entries of a dict."""
    if isinstance(written, type):
        try:
            return called(f"{name}()", written)
        except UserCodeError as error:
            raise ArchitectureError(str(error)) from error
    if not isinstance(written, Mapping):
        return written
    for key in written:
        if key not in NAMES:
            raise ArchitectureError(
                f"{name}: unknown entry {key!r:.60}{suggestion(key, NAMES)}; a space has {', '.join(NAMES)}"
            )
    return SimpleNamespace(**written)


def _images(spec: InputSpec) -> Tensor:
    """Return one Gaussian image, the same each time."""
    size = (1, spec.in_channels, spec.image_size, spec.image_size)
    return torch.randn(size, generator=torch.Generator().manual_seed(0))


def _check_output(told: str, model: nn.Module, images: Tensor, spec: InputSpec) -> None:
    """Check that a network reads the input, and has a score for each class."""
    shape = " × ".join(map(str, images.shape[1:]))
    try:
        with untouched(model), torch.no_grad():
            output = one_pass(model, images)
    except LayerError as error:
        raise ArchitectureError(
            f"{told}: on an image of {shape}, {error}; the space must build for that input, or name another one "
            "(in a search: --image-size, --channels)"
        ) from error
    try:
        found = tuple(logits_of(output).shape)
    except LayerError as error:
        raise ArchitectureError(f"{told}: {error}") from error
    if found != (1, spec.num_classes):
        raise ArchitectureError(
            f"{told}: its output for an image has the shape {' × '.join(map(str, found))}; needed are scores of "
            f"{spec.num_classes} classes, 1 × {spec.num_classes}; the space must build for that, or name another number"
            " (in a search: --classes)"
        )
