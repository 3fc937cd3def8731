"""Data set: labelled images for training and for the test, as a network reads them; checked before any training."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from autoprox.bench_cache.runtime.checks import BenchmarkError, check_name
from autoprox.bench_cache.spaces.registry import InputSpec


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images for training and for the test, as a network reads them.

    Attributes:
        name: the name of its task in a benchmark.
        train_images, test_images: float32, images × channels × size × size; each channel has mean 0 and standard
            deviation 1 over the training images.
        train_labels, test_labels: int64, class numbers from 0.
        num_classes: two or more; every class has training images.
        patch_size: that of the networks that are trained on it.
        balanced: whether accuracy is the mean over the classes, for classes of unequal size.
        source: what it is, whose it is, and its licence, on one line.
        drawn: images and classes to show in place of the set's own, where these may not be passed on; else None.

    Raises:
        BenchmarkError: there are no images; there is one class, or a class without training images; an entry is not
            finite; or the images are not square, or patches do not divide them.
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    num_classes: int
    patch_size: int
    balanced: bool = False
    source: str = ""
    drawn: tuple[np.ndarray, np.ndarray] | None = None

    def __post_init__(self) -> None:
        check_name(self.name, "data set")
        for part, images, labels in (
            ("training", self.train_images, self.train_labels),
            ("test", self.test_images, self.test_labels),
        ):
            if images.ndim != 4 or images.shape[2] != images.shape[3] or len(images) != len(labels):
                shape = tuple(images.shape)
                raise BenchmarkError(f"{self.name}: {part} images of shape {shape} for {len(labels)} labels are no set")
            if not len(images):
                raise BenchmarkError(f"{self.name}: there are no {part} images")
            if not torch.isfinite(images).all():
                raise BenchmarkError(f"{self.name}: some {part} images have entries that are NaN or infinite")
            if int(labels.min()) < 0 or int(labels.max()) >= self.num_classes:
                raise BenchmarkError(f"{self.name}: {part} labels are not numbers from 0 to {self.num_classes - 1}")
        if self.num_classes < 2:
            raise BenchmarkError(f"{self.name}: all images are of one class; there is nothing to learn")
        missing = set(range(self.num_classes)) - set(self.train_labels.tolist())
        if missing:
            raise BenchmarkError(f"{self.name}: class {min(missing)} has no training image")
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise BenchmarkError(f"{self.name}: training and test images differ in shape")
        if self.patch_size < 1 or self.train_images.shape[2] % self.patch_size:
            raise BenchmarkError(
                f"{self.name}: patches of {self.patch_size} do not divide images of {self.train_images.shape[2]} px"
            )

    @property
    def spec(self) -> InputSpec:
        """The input and classes of the networks that are trained on it."""
        channels, size = self.train_images.shape[1:3]
        return InputSpec(size, channels, self.num_classes, self.patch_size)

    @property
    def digest(self) -> str:
        """The SHA-256 of the images and labels: trainings on data of two digests cannot be compared."""
        digest = hashlib.sha256()
        for tensor in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()

    def to(self, device: torch.device) -> Dataset:
        """Return the data set with its images and labels on a device."""
        if device == self.train_images.device:
            return self
        parts = ("train_images", "train_labels", "test_images", "test_labels")
        return replace(self, **{part: getattr(self, part).to(device) for part in parts})

    def probe_images(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return up to `count` images, and their classes, that may be passed on with a benchmark.

        They are training images that go through the classes in turn or, if there are any, the `drawn` ones. Of digits
        those are `drawn_digits`, because no licence is stated for the set's own images.
        """
        if self.drawn is not None:
            return self.drawn[0][:count], self.drawn[1][:count]
        of_class = [np.flatnonzero(self.train_labels.numpy() == kind) for kind in range(self.num_classes)]
        chosen = [rows[turn] for turn in range(count) for rows in of_class if turn < len(rows)][:count]
        return self.train_images[chosen].numpy(), self.train_labels[chosen].numpy()

    def limited(self, train: int | None, test: int | None) -> Dataset:
        """Return the data set with about so many training and test images, drawn in proportion with a fixed seed.

        The number is rounded for each class, so the total can differ by half an image for each. None keeps all.

        Raises:
            BenchmarkError: there would be fewer images than classes.
        """
        for count in (train, test):
            if count is not None and count < self.num_classes:
                raise BenchmarkError(f"{self.name}: {count} images are too few for its {self.num_classes} classes")
        kept = [
            slice(None) if count is None or count >= len(labels) else in_proportion(labels.numpy(), count)
            for count, labels in ((train, self.train_labels), (test, self.test_labels))
        ]
        return replace(
            self,
            train_images=self.train_images[kept[0]],
            train_labels=self.train_labels[kept[0]],
            test_images=self.test_images[kept[1]],
            test_labels=self.test_labels[kept[1]],
        )


def normalised(
    name: str,
    images: np.ndarray,
    labels: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    patch_size: int,
    *,
    balanced: bool = False,
    source: str = "",
    drawn: tuple[np.ndarray, np.ndarray] | None = None,
) -> Dataset:
    """Return the data set of these images, with each channel scaled to mean 0 and deviation 1 over the training ones.

    `train` and `test` are indices. The `drawn` images come on the scale of the others, and are scaled as these are.

    Raises:
        BenchmarkError: there are no images for training or for the test, or the data set cannot be one.
    """
    if not len(train) or not len(test):
        raise BenchmarkError(f"{name}: there are no images")
    if not np.isfinite(images).all():
        raise BenchmarkError(f"{name}: some images have entries that are NaN or infinite")
    mean = images[train].mean((0, 2, 3), keepdims=True, dtype=np.float64)
    deviation = images[train].std((0, 2, 3), keepdims=True, dtype=np.float64)
    scale = np.where(deviation > 0, deviation, 1.0)
    normal = torch.from_numpy(((images - mean) / scale).astype(np.float32))
    classes = torch.from_numpy(np.asarray(labels, dtype=np.int64))
    return Dataset(
        name=name,
        train_images=normal[train],
        train_labels=classes[train],
        test_images=normal[test],
        test_labels=classes[test],
        num_classes=int(classes.max()) + 1,
        patch_size=patch_size,
        balanced=balanced,
        source=source,
        drawn=None if drawn is None else (((drawn[0] - mean) / scale).astype(np.float32), drawn[1]),
    )


def joined(
    where: str, train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the images and the labels of both parts as one array each, then the training and the test indices.

    Raises:
        BenchmarkError: a part has more or fewer labels than images, or the images of the parts differ in shape; the
            message begins with `where`.
    """
    for part, (images, labels) in (("training", train), ("test", test)):
        if len(images) != len(labels):
            raise BenchmarkError(f"{where}: {len(images)} {part} images and {len(labels)} labels")
    if train[0].shape[1:] != test[0].shape[1:]:
        raise BenchmarkError(
            f"{where}: training images of shape {train[0].shape[1:]}, test images of {test[0].shape[1:]}"
        )
    images, labels = (np.concatenate(both) for both in zip(train, test, strict=True))
    count = len(train[0])
    return images, labels, np.arange(count), np.arange(count, len(images))


def in_proportion(labels: np.ndarray, count: int = 0, share: float = 0.0) -> np.ndarray:
    """Return the indices, ascending, of about `count` or a share of the items: in proportion, at least one a class."""
    rng = np.random.default_rng(0)
    share = share or count / len(labels)
    kept = []
    for kind in np.unique(labels):
        of_kind = np.flatnonzero(labels == kind)
        kept.append(rng.permutation(of_kind)[: max(1, math.floor(share * len(of_kind) + 0.5))])
    return np.sort(np.concatenate(kept))


@contextmanager
def coming_with(package: str, dataset: str) -> Iterator[None]:
    """Turn an import that fails inside into an error that names the package.

    Raises:
        BenchmarkError: the package is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise BenchmarkError(
            f"data set {dataset} needs {package}, which is not installed: pip install 'autoprox[datasets]'"
        ) from error
