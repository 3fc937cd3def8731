"""Data sets by reference: a built-in name, a folder of images by class, or an .npz file.

Some need a package that autoprox does not depend on: scikit-learn, tensorly or Pillow. Without it the error names the
package; `pip install 'autoprox[datasets]'` installs them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from autoprox.bench_cache.runtime.checks import BenchmarkError, quoted
from autoprox.bench_cache.spaces.base import suggestion
from autoprox.bench_cache.training.built_in import BUILT_IN, load_built_in
from autoprox.bench_cache.training.dataset import Dataset, in_proportion, joined, normalised
from autoprox.bench_cache.training.images import (
    channels_first,
    class_folders,
    classes_of,
    picture_files,
    plain_arrays,
    read_picture,
)

#: The share of each class that is kept for the test, where images come without a split.
TEST_SHARE = 0.3
#: The side in pixels that the images of a folder are scaled to, unless the user says otherwise.
FOLDER_SIZE = 32


def load_dataset(ref: str, *, patch_size: int | None = None, image_size: int | None = None) -> Dataset:
    """Return the data set that `ref` names: a built-in one (see `BUILT_IN`), a folder of images, or an .npz file.

    A folder has one folder of images for each class, or it has `train/` and `test/` (or `val/`) with such folders. The
    images are scaled to squares of `image_size` pixels.

    An .npz file has `x_train`, `y_train`, `x_test` and `y_test`, or it has `images` and `labels`. Images are n × size ×
    size (one channel), n × size × size × channels, or n × channels × size × size. If the images may not be passed on,
    the file can have others in `probe_images` and `probe_labels`, which a benchmark then shows in place of these.

    Where the images come without a split, 30 % of each class are kept for the test.

    Unless `patch_size` is given, it is the divisor of the size that is closest to a quarter of it; built-in sets have
    their own.

    Raises:
        BenchmarkError: there is no such data set, or it cannot be trained on; the message says why, and what to do.
    """
    path = Path(ref).expanduser()
    if image_size is not None and image_size < 1:
        raise BenchmarkError(f"image size is {image_size}; it must be at least 1")
    try:
        if ref in BUILT_IN and not path.exists():
            found = load_built_in(ref)
        elif path.is_dir():
            found = _folder(path, FOLDER_SIZE if image_size is None else image_size)
        elif path.suffix == ".npz" and path.is_file():
            found = _npz(path)
        else:
            known = ", ".join(BUILT_IN)
            raise BenchmarkError(
                f"there is no data set {quoted(ref)}{suggestion(ref, BUILT_IN)}: it is neither one of {known} nor a "
                "folder of images by class nor an .npz file"
            )
    except OSError as error:
        raise BenchmarkError(f"data set {ref}: {error.filename or path}: {error.strerror or error}") from error
    return found if patch_size is None else replace(found, patch_size=patch_size)


def _npz(path: Path) -> Dataset:
    """Return the data set in an .npz file; no code in the file is run."""
    arrays = plain_arrays(path)
    split, whole = ("x_train", "y_train", "x_test", "y_test"), ("images", "labels")
    if set(split) <= set(arrays):
        parts = [
            (channels_first(path, arrays[x]), classes_of(path, arrays[y]))
            for x, y in (("x_train", "y_train"), ("x_test", "y_test"))
        ]
        images, labels, train, test = joined(str(path), *parts)
    elif set(whole) <= set(arrays):
        images, labels = channels_first(path, arrays["images"]), classes_of(path, arrays["labels"])
        if len(images) != len(labels):
            raise BenchmarkError(f"{path}: {len(images)} images and {len(labels)} labels")
        train, test = _held_out(path, labels)
    else:
        raise BenchmarkError(
            f"{path}: it has {', '.join(arrays) or 'no arrays'}; needed are {', '.join(split)}, or {', '.join(whole)}"
        )
    kinds, numbers = np.unique(labels, return_inverse=True)
    return normalised(
        _task_name(path),
        images,
        numbers,
        train,
        test,
        _quarter(images.shape[2]),
        source=f"{path.name}",
        drawn=_shown(path, arrays, images.shape[1:], kinds),
    )


def _shown(
    path: Path, arrays: Mapping[str, np.ndarray], shape: tuple[int, ...], kinds: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the images and class numbers that an .npz file has to show in place of its own; None if it has none."""
    names = {"probe_images", "probe_labels"}
    if not names & set(arrays):
        return None
    if not names <= set(arrays):
        raise BenchmarkError(f"{path}: it has one of probe_images and probe_labels; they go together")
    images, labels = channels_first(path, arrays["probe_images"]), classes_of(path, arrays["probe_labels"])
    if images.shape[1:] != shape or len(images) != len(labels) or not np.isfinite(images).all():
        raise BenchmarkError(
            f"{path}: probe_images of shape {images.shape}, finite, one for each of {len(labels)} probe_labels, are "
            f"needed, each {' x '.join(map(str, shape))}"
        )
    if unknown := set(labels.tolist()) - set(kinds.tolist()):
        raise BenchmarkError(f"{path}: probe label {min(unknown)} is no class of the set")
    return images, np.searchsorted(kinds, labels)


def _folder(path: Path, size: int) -> Dataset:
    """Return the data set in a folder that has a folder for each class, or `train/` and `test/` with such folders."""
    trains, tests = path / "train", next((path / name for name in ("test", "val") if (path / name).is_dir()), None)
    if trains.is_dir() and tests is not None:
        classes = _classes(trains)
        if _classes(tests) != classes:
            raise BenchmarkError(f"{tests}: its classes are not those of {trains}")
        parts = [_images(folder, classes, size) for folder in (trains, tests)]
        images, labels, train, test = joined(str(path), *parts)
    else:
        images, labels = _images(path, _classes(path), size)
        train, test = _held_out(path, labels)
    return normalised(_task_name(path), images, labels, train, test, _quarter(size), source=path.name)


def _classes(path: Path) -> list[str]:
    classes = [folder.name for folder in class_folders(path)]
    if len(classes) < 2:
        raise BenchmarkError(
            f"{path}: it has {'one class' if classes else 'no classes'}; it must hold a folder of images for each class"
        )
    return classes


def _images(path: Path, classes: list[str], size: int) -> tuple[np.ndarray, np.ndarray]:
    arrays, labels = [], []
    for number, name in enumerate(classes):
        files = picture_files(path / name)
        if not files:
            raise BenchmarkError(f"{path / name}: there is no image in it")
        arrays += [read_picture(file, size, whole=True) for file in files]
        labels += [number] * len(files)
    return np.stack(arrays), np.array(labels)


def _held_out(path: Path, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices for training, and those for the test: `TEST_SHARE` of each class, drawn with a fixed seed."""
    kinds, counts = np.unique(labels, return_counts=True)
    if not len(labels):
        raise BenchmarkError(f"{path}: there are no images in it")
    if counts.min() < 2:
        raise BenchmarkError(f"{path}: class {kinds[counts.argmin()]} has one image; two are needed to train and test")
    test = in_proportion(labels, share=TEST_SHARE)
    return np.setdiff1d(np.arange(len(labels)), test), test


def _task_name(path: Path) -> str:
    """Return the name of a file or folder without what cannot be in the name of a task."""
    kept = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "_" for letter in path.stem
    )
    return kept.lstrip("._-")[:64] or "images"


def _quarter(size: int) -> int:
    """Return the divisor of the size that is closest to a quarter of it; of two, the smaller."""
    return min((d for d in range(1, size + 1) if size % d == 0), key=lambda d: (abs(d - size / 4), d))
