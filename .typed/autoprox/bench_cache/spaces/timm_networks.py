"""The space `timm`: the image classifiers of the library timm, each known by its name and the size of its images.

timm is not needed until a network is built: `pip install 'autoprox[timm]'`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import torch
from torch import nn

from autoprox.bench_cache.runtime.checks import is_int
from autoprox.bench_cache.spaces.base import ArchitectureError, InputSpec, Space, shown, suggestion
from autoprox.bench_cache.spaces.listed import ListedSpace

_NAME = re.compile(r"[a-z0-9_]{1,80}")


@dataclass(frozen=True)
class TimmArch:
    """A network of timm: its name without the tag of trained weights, and the side of its square images in pixels."""

    name: str
    img_size: int


def _version() -> str:
    try:
        return importlib.metadata.version("timm")
    except importlib.metadata.PackageNotFoundError:
        return ""


@dataclass(frozen=True)
class TimmSpace(ListedSpace[TimmArch]):
    """All networks of the installed timm, whose version is a part of what their statistics depend on."""

    name: str
    version: str = field(default_factory=_version)

    def sample(self, rng: Random) -> TimmArch:
        """Return a random network of timm at its default size."""
        timm = self._timm()
        name = rng.choice(sorted(timm.list_models()))
        return TimmArch(name, int(timm.get_pretrained_cfg(name).input_size[-1]))

    def validate(self, arch: TimmArch) -> None:
        """Refuse what cannot be a name of timm; whether the installed timm has it is known when it is built."""
        self._require_type(arch, TimmArch)
        if not isinstance(arch.name, str) or not _NAME.fullmatch(arch.name):
            raise ArchitectureError(
                f"{self.name}: name {shown(arch.name)} is no name of timm: small letters, digits and '_', without a tag"
            )
        if not is_int(arch.img_size) or not 1 <= arch.img_size <= 4096:
            raise ArchitectureError(f"{self.name}: img_size {shown(arch.img_size)} is not an integer from 1 to 4096")

    def input_spec(self, arch: TimmArch, spec: InputSpec) -> InputSpec:
        """Return `spec` with the image size of the network."""
        return replace(spec, image_size=arch.img_size)

    def build(self, arch: TimmArch, spec: InputSpec, seed: int = 0) -> nn.Module:
        """Return timm.create_model(name, pretrained=False); its weights follow from `seed` and `key(arch)` alone.

        The network reads images of `arch.img_size`, with the channels and classes of `spec`; no weights are loaded.

        Raises:
            ArchitectureError: timm is not installed, or has no such network, or cannot build it for the input.
        """
        self.validate(arch)
        timm = self._timm()
        if not timm.is_model(arch.name):
            close = suggestion(arch.name, timm.list_models())
            raise ArchitectureError(f"{self.name}: timm {timm.__version__} has no network {arch.name!r}{close}")
        choices: dict[str, Any] = {"num_classes": spec.num_classes, "in_chans": spec.in_channels}
        default = timm.get_pretrained_cfg(arch.name)
        if default is not None and default.fixed_input_size and default.input_size[-1] != arch.img_size:
            choices["img_size"] = arch.img_size
        with torch.random.fork_rng([]):
            torch.manual_seed(self.weight_generator(arch, seed).initial_seed())
            try:
                return timm.create_model(arch.name, pretrained=False, **choices)
            except (TypeError, ValueError, RuntimeError, AssertionError) as error:
                reason = (str(error).splitlines() or [""])[0]
                raise ArchitectureError(
                    f"{self.name}: timm {timm.__version__} cannot build {arch.name} for {spec.in_channels} channels, "
                    f"{arch.img_size} px and {spec.num_classes} classes: {type(error).__name__}: {reason:.120}"
                ) from error

    def _timm(self) -> Any:
        try:
            return importlib.import_module("timm")
        except ImportError as error:
            raise ArchitectureError(
                f"{self.name}: timm cannot be imported ({error}): pip install 'autoprox[timm]'"
            ) from None

    def to_json(self, arch: TimmArch) -> dict[str, Any]:
        """Return the name and the image size."""
        return {"name": arch.name, "img_size": arch.img_size}

    def from_json(self, record: Mapping[str, Any]) -> TimmArch:
        """Return the architecture that `to_json` wrote, checked."""
        arch = TimmArch(*self._read_fields(record, ("name", "img_size")))
        self.validate(arch)
        return arch

    def key(self, arch: TimmArch) -> str:
        """Return `timm:NAME@PIXELS`."""
        return f"{self.name}:{arch.name}@{arch.img_size}"


LISTED: tuple[Space[Any], ...] = (TimmSpace("timm"),)
