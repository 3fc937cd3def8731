"""Batch: what the networks of a search run on, images with their classes or Gaussian samples."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from autoprox.bench_cache.spaces.registry import InputSpec
from autoprox.bench_cache.training.images import read_images
from autoprox.primitives.batch_norms import BATCH_NORMS, RUNNING
from autoprox.scoring import gaussian_batch
from autoprox.search.candidate import SearchError

#: The seed of the Gaussian samples. It is the same in every search, so that their scores can be compared.
SAMPLES_SEED = 0


@dataclass(frozen=True, eq=False)
class Batch:
    """Images with their classes, or the number of Gaussian samples that stand in for them.

    `images` are float32 of shape samples × channels × size × size; `targets` are their class numbers, integers of
    shape (samples,). With both, a formula may read the probe `data`, and `samples` is set to their number.
    `batch_norm` is that of `Proxy.score`.

    Raises:
        SearchError: `samples` is no whole number of at least 1, or the arrays do not go together.
    """

    samples: int = 2
    images: np.ndarray | None = None
    targets: np.ndarray | None = None
    batch_norm: str = RUNNING

    def __post_init__(self) -> None:
        if type(self.samples) is not int or self.samples < 1:
            raise SearchError(f"a batch has {self.samples!r} samples; it must be a whole number of at least 1")
        if self.batch_norm not in BATCH_NORMS:
            raise SearchError(f"batch_norm is {self.batch_norm!r:.40}; it must be {' or '.join(BATCH_NORMS)}")
        if (self.images is None) != (self.targets is None):
            raise SearchError("a batch has both images and targets, or neither")
        if self.images is None or self.targets is None:
            return
        images, targets = self.images, self.targets
        if images.dtype != np.float32 or images.ndim != 4 or not len(images) or not np.isfinite(images).all():
            raise SearchError(
                "images must be finite float32 of shape samples × channels × size × size, "
                f"not {images.dtype} of shape {images.shape}"
            )
        if targets.dtype.kind not in "iu" or targets.shape != images.shape[:1]:
            raise SearchError(
                f"targets must be {len(images)} class numbers, not {targets.dtype} of shape {targets.shape}"
            )
        object.__setattr__(self, "samples", len(images))

    @classmethod
    def from_images(cls, ref: str | Path, spec: InputSpec, samples: int = 2) -> Batch:
        """Return images as networks built for `spec` read them: `samples` of a folder, or all of an .npz file.

        `read_images` says what a folder and a file may hold, and how images are chosen and prepared.

        Raises:
            BenchmarkError: there are no images, or one cannot be read.
            SearchError: the images have no classes.
        """
        count = samples if Path(ref).expanduser().is_dir() else None
        found = read_images(ref, size=spec.image_size, count=count)
        if found.targets is None:
            raise SearchError(
                f"{ref}: these images have no classes; use a folder with a folder for each class, or an .npz file with "
                "targets"
            )
        return cls(images=found.images, targets=found.targets)

    def to_bytes(self) -> bytes:
        """Return images and targets as the bytes of an .npz file, which `from_bytes` reads."""
        assert self.images is not None
        assert self.targets is not None
        file = io.BytesIO()
        np.savez(file, images=self.images, targets=self.targets)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Batch:
        """Return the batch in the bytes of an .npz file with the arrays `images` and `targets`.

        Pickled objects are refused, so that no code in the file can run.

        Raises:
            SearchError: the bytes are no such file, or the arrays make no batch.
        """
        try:
            arrays = np.load(io.BytesIO(data), allow_pickle=False)
            if isinstance(arrays, np.ndarray):
                raise SearchError("it is one array; save both with numpy.savez(FILE, images=..., targets=...)")
            return cls(images=arrays["images"], targets=arrays["targets"])
        except KeyError:
            raise SearchError("it lacks images or targets; numpy.savez(FILE, images=..., targets=...)") from None
        except SearchError:
            raise
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise SearchError(f"it is no .npz file of plain arrays, or cut off ({error!s:.80})") from None

    def check(self, spec: InputSpec) -> None:
        """Check that networks built for `spec` can run on the images.

        Raises:
            SearchError: the images have another shape, or a target is no class of the networks.
        """
        if self.images is None or self.targets is None:
            return
        shape = (spec.in_channels, spec.image_size, spec.image_size)
        if self.images.shape[1:] != shape:
            found = " × ".join(map(str, self.images.shape[1:]))
            raise SearchError(f"the images are {found}, but the networks read {' × '.join(map(str, shape))}")
        if not 0 <= self.targets.min() <= self.targets.max() < spec.num_classes:
            raise SearchError(
                f"the targets go from {self.targets.min()} to {self.targets.max()}, "
                f"but the networks have the classes 0 to {spec.num_classes - 1}"
            )

    def tensors(self, spec: InputSpec) -> tuple[Tensor, Tensor]:
        """Return the inputs and class numbers that a proxy reads; without images, those that `gaussian_batch` draws."""
        if self.images is None or self.targets is None:
            inputs, targets = gaussian_batch(spec, self.samples, SAMPLES_SEED)
        else:
            inputs, targets = self.images, self.targets
        return torch.from_numpy(inputs), torch.from_numpy(targets.astype(np.int64))
