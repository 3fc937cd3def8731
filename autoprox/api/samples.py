"""Samples: what models are scored on, images with their classes, or Gaussian samples with random classes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from autoprox.api.arguments import ArgumentError, input_spec
from autoprox.bench_cache.spaces.registry import InputSpec
from autoprox.bench_cache.training.images import ImageBatch, read_images
from autoprox.scoring import gaussian_batch

_SPEC = InputSpec()
#: Gaussian samples, or images of a folder, where nothing is said.
COUNT = 2


@dataclass(frozen=True, eq=False)
class Samples:
    """What the networks run on. `images` and `file` are None for Gaussian samples; `count` is at least 1."""

    count: int
    image_size: int
    channels: int
    seed: int
    images: ImageBatch | None = None
    file: Path | None = None

    def tensors(self, classes: int | None) -> tuple[Tensor, Tensor | None]:
        """Return inputs and class numbers for a model; no class numbers where it has no classes, or images none.

        They are drawn on the CPU, so that they are the same on every device.
        """
        if self.images is not None:
            targets = self.images.targets
            return torch.from_numpy(self.images.images), None if targets is None else torch.from_numpy(targets)
        spec = input_spec(self.image_size, self.channels, classes or 1)
        inputs, targets = gaussian_batch(spec, self.count, self.seed)
        return torch.from_numpy(inputs), torch.from_numpy(targets).long() if classes else None

    def __str__(self) -> str:
        shape = f"{self.channels} × {self.image_size} × {self.image_size}"
        one = self.count == 1
        random = f"a random class (seed {self.seed})" if one else f"random classes (seed {self.seed})"
        if self.images is not None:
            known = self.images.targets is not None
            classes = ("its class" if one else "their classes") if known else random
            return f"{self.count} {'image' if one else 'images'} of {shape} from {self.file}, with {classes}"
        return f"{self.count} Gaussian {'sample' if one else 'samples'} of {shape} with {random}"


def chosen_samples(
    images: str | os.PathLike[str] | None,
    batch: int | None,
    image_size: int | None,
    channels: int | None,
    seed: int,
) -> Samples:
    """Return the samples that the arguments describe; None is an argument that is not given.

    Raises:
        ArgumentError: images are given, and an argument that they have of their own; or a number is below 1.
        BenchmarkError: the images cannot be read.
    """
    given = {"batch": batch, "image_size": image_size, "channels": channels}
    for name, value in given.items():
        if value is not None and (type(value) is not int or value < 1):
            raise ArgumentError(f"{name} is {value!r}; it must be a whole number of at least 1")
    size, count = image_size or _SPEC.image_size, batch or COUNT
    if images is None:
        return Samples(count, size, channels or _SPEC.in_channels, seed)
    file = Path(images).expanduser()
    folder = file.is_dir()
    for name in ("channels",) if folder else ("batch", "channels", "image_size"):
        if given[name] is not None:
            raise ArgumentError(
                f"--{name.replace('_', '-')} is for Gaussian samples; {images} has its own: leave it out, or --images"
            )
    found = read_images(file, size=size, count=count if folder else None)
    shape = found.images.shape
    return Samples(len(found.images), shape[2], shape[1], seed, found, file)
