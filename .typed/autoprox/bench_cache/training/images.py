"""Images: a folder of image files or an .npz file as a batch that networks read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.bench_cache.training.dataset import coming_with

#: The endings of image files.
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
#: The mean and the deviation of ImageNet's red, green and blue on the scale from 0 to 1, as torchvision states them.
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: The names that the arrays of an .npz file may have.
IMAGE_NAMES, TARGET_NAMES = ("images", "x"), ("targets", "labels", "y")


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """Images as networks read them, with their classes where these are known.

    Attributes:
        images: float32, n × channels × size × size, one or more, all finite.
        targets: int64, n class numbers from 0, or None where the folder or file has no classes.
        prepared: how the images were made from the files, in a few words.
    """

    images: np.ndarray
    targets: np.ndarray | None
    prepared: str


def read_images(ref: str | Path, *, size: int, count: int | None = None) -> ImageBatch:
    """Return images of a folder or an .npz file: the first of each class, then the second of each, up to `count`.

    A folder holds image files, or a folder of them for each class. Classes are numbered in the order of the folders'
    names, and images are read in the order of the files' names. Each is scaled until its shorter side has `size`
    pixels, cut to the square in its middle, and normalised by ImageNet's mean and deviation.

    An .npz file has `images` (or `x`), and it may have `targets` (or `labels`, or `y`). Images of whole numbers from 0
    to 255 (uint8) are normalised as image files are. Floats are read as they are. An image is size × size, size × size
    × channels, or channels × size × size; none is scaled. Without `count`, all images are read, in the file's order.

    Raises:
        BenchmarkError: there are no images, or one cannot be read; the message names the file, and what to do.
    """
    path = Path(ref).expanduser()
    if count is not None and count < 1:
        raise BenchmarkError(f"{count} images are none; ask for at least 1")
    try:
        if path.is_dir():
            return _folder(path, size, count)
        if path.is_file():
            return _npz(path, count)
    except OSError as error:
        raise BenchmarkError(f"{error.filename or path}: {error.strerror or error}") from error
    raise BenchmarkError(f"{path}: there is no such folder of images and no such .npz file")


def picture_files(folder: Path) -> list[Path]:
    """Return the image files in a folder, told by their endings, in the order of their names."""
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)


def class_folders(folder: Path) -> list[Path]:
    """Return the folders in a folder, in the order of their names, without hidden ones."""
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def read_picture(file: Path, size: int, *, whole: bool) -> np.ndarray:
    """Return an image file as red, green and blue from 0 to 255: float32, 3 × size × size.

    `whole` squeezes the whole picture into the square. Else the square in its middle is taken.

    Raises:
        BenchmarkError: the file cannot be read as an image, or Pillow is not installed.
    """
    with coming_with("Pillow", str(file.parent)):
        from PIL import Image, ImageOps
    try:
        with Image.open(file) as opened:
            picture = opened.convert("RGB")
            if whole:
                square = picture.resize((size, size), Image.Resampling.BILINEAR)
            else:
                square = ImageOps.fit(picture, (size, size), Image.Resampling.BICUBIC)
            return np.asarray(square, dtype=np.float32).transpose(2, 0, 1)
    except Exception as error:  # Pillow raises many kinds for files that are no image
        raise BenchmarkError(f"{file}: it cannot be read as an image ({error})") from error


def _folder(path: Path, size: int, count: int | None) -> ImageBatch:
    flat, classes = picture_files(path), class_folders(path)
    of_class = [(number, picture_files(folder)) for number, folder in enumerate(classes)]
    filled = [(number, files) for number, files in of_class if files]
    if flat and filled:
        raise BenchmarkError(
            f"{path}: it has images beside folders of images; move them into the folders of their classes, or apart"
        )
    if not flat and not filled:
        inside = ", ".join(folder.name for folder in classes[:6])
        raise BenchmarkError(
            f"{path}: there is no image in it, and none in its folders; "
            + (f"it has {inside}: name one that holds images or classes" if inside else "it has no folders either")
        )
    if len(filled) < len(classes) and filled:
        empty = next(folder.name for number, folder in enumerate(classes) if not of_class[number][1])
        raise BenchmarkError(
            f"{path / empty}: there is no image in it; remove the folder, or name one that has classes"
        )
    chosen = _in_turn([(0, flat)] if flat else filled, count)
    pictures = np.stack([read_picture(file, size, whole=False) for _, file in chosen])
    targets = None if flat else np.array([number for number, _ in chosen], dtype=np.int64)
    return ImageBatch(_normalised(pictures), targets, f"cut to {size} × {size}, normalised by ImageNet's mean")


def _in_turn(of_class: Sequence[tuple[int, Sequence[Any]]], count: int | None) -> list[tuple[int, Any]]:
    """Return (class, item) for the first item of each class, then for the second of each, up to `count`."""
    chosen: list[tuple[int, Any]] = []
    for turn in zip_longest(*(items for _, items in of_class)):
        chosen += [(number, item) for (number, _), item in zip(of_class, turn, strict=True) if item is not None]
        if count is not None and len(chosen) >= count:
            return chosen[:count]
    return chosen


def _npz(path: Path, count: int | None) -> ImageBatch:
    arrays = plain_arrays(path)
    pixels, classes = _named(path, arrays, IMAGE_NAMES), _named(path, arrays, TARGET_NAMES)
    if pixels is None:
        raise BenchmarkError(
            f"{path}: it has {', '.join(arrays) or 'no arrays'}; save with numpy.savez(FILE, images=..., targets=...)"
        )
    images, targets = channels_first(path, pixels), None if classes is None else _class_numbers(path, classes)
    if not len(images):
        raise BenchmarkError(f"{path}: there are no images in it")
    if targets is not None and len(targets) != len(images):
        raise BenchmarkError(f"{path}: {len(images)} images and {len(targets)} classes; each image has one")
    if count is not None:
        rows = np.arange(count) if targets is None else _rows_in_turn(targets, count)
        images, targets = images[rows[: len(images)]], None if targets is None else targets[rows]
    if not np.isfinite(images).all():
        raise BenchmarkError(f"{path}: some images have entries that are NaN or infinite")
    if pixels.dtype != np.uint8:
        if pixels.dtype.kind != "f":
            raise BenchmarkError(f"{path}: images are {pixels.dtype}; save them as uint8 from 0 to 255, or as float32")
        return ImageBatch(images, targets, "read as they are")
    if images.shape[1] != 3:
        raise BenchmarkError(
            f"{path}: uint8 images with {images.shape[1]} channels, not red, green and blue, cannot be normalised; "
            "save them as float32, as the networks read them"
        )
    return ImageBatch(_normalised(images), targets, "normalised by ImageNet's mean")


def _rows_in_turn(targets: np.ndarray, count: int) -> np.ndarray:
    of_class = [(int(kind), np.flatnonzero(targets == kind).tolist()) for kind in np.unique(targets)]
    return np.array([row for _, row in _in_turn(of_class, count)])


def _named(path: Path, arrays: dict[str, np.ndarray], names: Sequence[str]) -> np.ndarray | None:
    found = [name for name in names if name in arrays]
    if len(found) > 1:
        raise BenchmarkError(f"{path}: it has {' and '.join(found)}, which mean the same; keep one of them")
    return arrays[found[0]] if found else None


def _class_numbers(path: Path, classes: np.ndarray) -> np.ndarray:
    """Return class numbers as they are, and names of classes as numbers in the order of the names."""
    flat = classes_of(path, classes)
    if flat.dtype.kind in "US":
        return np.unique(flat, return_inverse=True)[1].astype(np.int64)
    if (flat != np.floor(flat)).any() or (flat < 0).any():
        raise BenchmarkError(f"{path}: classes are not whole numbers from 0")
    return flat.astype(np.int64)


def _normalised(pictures: np.ndarray) -> np.ndarray:
    """Return pictures from 0 to 255, n × 3 × size × size, on the scale of ImageNet's mean and deviation."""
    mean, deviation = (np.array(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    return ((pictures / 255.0 - mean) / deviation).astype(np.float32)


def plain_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz file by name; no code in the file is run.

    Raises:
        BenchmarkError: it is no such file, or it has objects that are no plain arrays.
    """
    try:
        # Without the outer `open`, numpy leaves a damaged file open.
        with open(path, "rb") as handle, np.load(handle, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # numpy and zipfile have no common error for a damaged file
        raise BenchmarkError(f"{path}: not a readable .npz file of plain arrays ({error})") from error


def channels_first(path: Path, images: np.ndarray) -> np.ndarray:
    """Return images as float32, n × channels × size × size.

    Raises:
        BenchmarkError: the array holds no images, or they are not square.
    """
    shape = images.shape
    if images.dtype.kind not in "buif" or images.ndim not in (3, 4) or 0 in shape[1:]:
        raise BenchmarkError(f"{path}: images of type {images.dtype} and shape {shape} are no images")
    images = images[:, None] if images.ndim == 3 else images
    images = images if images.shape[2] == images.shape[3] else images.transpose(0, 3, 1, 2)
    if images.shape[2] != images.shape[3]:
        raise BenchmarkError(f"{path}: images of shape {shape[1:]} are not square")
    return np.ascontiguousarray(images, dtype=np.float32)


def classes_of(path: Path, labels: np.ndarray) -> np.ndarray:
    """Return labels as one flat array of numbers or names.

    Raises:
        BenchmarkError: they are neither, or some are NaN.
    """
    if labels.dtype.kind not in "buifUS" or (labels.dtype.kind == "f" and not np.isfinite(labels).all()):
        raise BenchmarkError(f"{path}: labels of type {labels.dtype} are no class numbers or names, or some are NaN")
    return labels.ravel()
