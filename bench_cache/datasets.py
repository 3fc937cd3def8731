"""Data sets to train on: three small ones by name, and any folder of images or .npz file.

Every data set is checked whole before anything is trained on it. What needs a package that autoprox does not depend
on (scikit-learn, tensorly, Pillow) says so; `pip install 'autoprox[datasets]'` brings them all.
"""

from __future__ import annotations

import gzip
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from autoprox.bench_cache.files import BenchmarkError, check_name, quoted
from autoprox.bench_cache.library import data_home
from autoprox.bench_cache.space import suggestion
from autoprox.bench_cache.spaces import InputSpec

#: Of images that come without a split, the share kept for the test, class by class.
TEST_SHARE = 0.3
#: Side in pixels that the images of a folder are scaled to, unless the user says otherwise.
FOLDER_SIZE = 32
_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images, split in two, as they go into a network.

    Attributes:
        name: the task's name in the benchmark that is made of it.
        train_images, test_images: float32, images × channels × size × size; over the training images the mean is 0
            and the standard deviation 1, for each channel.
        train_labels, test_labels: int64, class numbers from 0.
        num_classes: two or more; the training images show every class.
        patch_size: of the networks that are trained on it.
        balanced: whether accuracy is the mean over classes, for classes of unequal size.
        source: what it is, whose it is, and its licence, on one line.
        drawn: images and classes to show in place of the set's own, where these may not be passed on.

    Raises:
        BenchmarkError: no images, one class, a class without training image, entries that are not finite, images that
            are not square or that the patches do not divide.
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
        """The input of the networks that are trained on it."""
        channels, size = self.train_images.shape[1:3]
        return InputSpec(size, channels, self.num_classes, self.patch_size)

    @property
    def digest(self) -> str:
        """SHA-256 of the images and labels: trainings with another digest do not belong together."""
        digest = hashlib.sha256()
        for tensor in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()

    def probe_images(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The images and classes that may go with a benchmark: training images of one class after the other.

        Of digits, drawn ones (see `drawn_digits`): nothing is stated of the licence of the set's own images.
        """
        if self.drawn is not None:
            return self.drawn[0][:count], self.drawn[1][:count]
        of_class = [np.flatnonzero(self.train_labels.numpy() == kind) for kind in range(self.num_classes)]
        chosen = [rows[turn] for turn in range(count) for rows in of_class if turn < len(rows)][:count]
        return self.train_images[chosen].numpy(), self.train_labels[chosen].numpy()

    def limited(self, train: int | None, test: int | None) -> Dataset:
        """The same with at most so many training and test images, classes in proportion, drawn by a fixed seed."""
        kept = [
            slice(None) if count is None or count >= len(labels) else _in_proportion(labels.numpy(), count)
            for count, labels in ((train, self.train_labels), (test, self.test_labels))
        ]
        return replace(
            self,
            train_images=self.train_images[kept[0]],
            train_labels=self.train_labels[kept[0]],
            test_images=self.test_images[kept[1]],
            test_labels=self.test_labels[kept[1]],
        )


def load_dataset(ref: str, *, patch_size: int | None = None, image_size: int | None = None) -> Dataset:
    """Return a data set by name (see `BUILT_IN`), a folder with one folder of images for each class, or an .npz file.

    A folder may hold `train/` and `test/` (or `val/`), each with the folders of classes; else 30 % of each class are
    kept for the test. Its images are made square by scaling, `image_size` pixels wide. An .npz file holds `x_train`,
    `y_train`, `x_test`, `y_test`, or `images` and `labels`; images are n × size × size (one channel), n × size × size ×
    channels, or n × channels × size × size. `patch_size` is a quarter of the size, rounded to what divides it, unless
    given (built-in sets have their own).

    Raises:
        BenchmarkError: there is no such data set, or it cannot be trained on; says why, and what to do.
    """
    path = Path(ref).expanduser()
    try:
        if ref in BUILT_IN and not path.exists():
            found = BUILT_IN[ref].load()
        elif path.is_dir():
            found = _folder(path, image_size or FOLDER_SIZE)
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


@dataclass(frozen=True)
class BuiltIn:
    """A data set by name: what it is, how it may be used, and how to get it."""

    about: str
    licence: str
    load: Callable[[], Dataset]


def _digits() -> Dataset:
    """1,797 handwritten digits of 8 × 8 pixels, 16 grey levels; 1,000 to train on, the rest for the test."""
    with _coming_with("scikit-learn", "digits"):
        from sklearn.datasets import load_digits
    bundle = load_digits()
    images = np.asarray(bundle.images, dtype=np.float32)[:, None]
    order = np.random.default_rng(0).permutation(len(images))
    found = _split("digits", images, np.asarray(bundle.target), order[:1000], order[1000:], 2, source="digits")
    train = images[order[:1000]]
    drawn, classes = drawn_digits()
    return replace(found, drawn=((drawn - train.mean()) / train.std(), classes))


#: The ten digits as this project draws them, seven rows of five pixels each.
_GLYPHS = (
    ".###. #...# #..## #.#.# ##..# #...# .###.", "..#.. .##.. ..#.. ..#.. ..#.. ..#.. .###.",
    ".###. #...# ....# ...#. ..#.. .#... #####", ".###. #...# ....# ..##. ....# #...# .###.",
    "...#. ..##. .#.#. #..#. ##### ...#. ...#.", "##### #.... ####. ....# ....# #...# .###.",
    "..##. .#... #.... ####. #...# #...# .###.", "##### ....# ...#. ..#.. .#... .#... .#...",
    ".###. #...# #...# .###. #...# #...# .###.", ".###. #...# #...# .#### ....# ...#. .##..",
)  # fmt: skip


def drawn_digits(count: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Digits drawn for this project in the manner of the set's: float32, n × 1 × 8 × 8 from 0 to 16; and their classes.

    Each is a glyph of `_GLYPHS`, moved by up to a pixel, blurred along both axes, with a little noise; seeded.
    """
    rng = np.random.default_rng(0)
    classes = np.arange(count) % len(_GLYPHS)
    images = np.zeros((count, 1, 8, 8), np.float32)
    for image, kind in zip(images, classes, strict=True):
        rows = [[float(mark == "#") for mark in row] for row in _GLYPHS[kind].split()]
        down, right = int(rng.integers(0, 2)), int(rng.integers(1, 3))
        image[0, down : down + 7, right : right + 5] = rows
        for axis in (1, 2):
            image += 0.25 * (np.roll(image, 1, axis) + np.roll(image, -1, axis))
        image *= 16 / image.max()
        image += rng.normal(0, 0.5, image.shape)
    return np.clip(np.round(images), 0, 16), classes


def _fashion() -> Dataset:
    """Fashion-MNIST, grey, 28 × 28 pixels, 10 kinds of clothing: 60,000 to train on, 10,000 for the test."""
    files = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    arrays = [_idx(_fashion_file(f"{file}-ubyte.gz")) for file in files]
    images = np.concatenate([arrays[0], arrays[2]]).astype(np.float32)[:, None]
    labels = np.concatenate([arrays[1], arrays[3]])
    train = len(arrays[0])
    return _split("fashion", images, labels, np.arange(train), np.arange(train, len(labels)), 7, source="fashion")


def _fashion_file(name: str) -> Path:
    folders = (data_home() / "datasets" / "fashion-mnist", Path("/usr/share/datasets/fashion-mnist"))
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise BenchmarkError(
        f"data set fashion: {name} is not here; put the four .gz files of Fashion-MNIST into {folders[0]} "
        "(Debian: apt install dataset-fashion-mnist)"
    )


def _idx(path: Path) -> np.ndarray:
    """The array in a gzipped IDX file of unsigned bytes."""
    try:
        data = gzip.decompress(path.read_bytes())
        shape = np.frombuffer(data, ">u4", data[3], offset=4)
        return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)
    except (EOFError, gzip.BadGzipFile, ValueError, IndexError) as error:
        raise BenchmarkError(f"{path}: not a whole gzipped IDX file ({error})") from error


#: Indian Pines: the scene in blocks of 12 × 12 pixels; those marked are for the test, the others, without the pixels
#: within GUARD of a marked one, are to train on, so that no patch shares a pixel with one of the other side. Of 3,000
#: random halves this one leaves the rarest class the largest share on either side (.215).
PINES_BLOCK, PINES_GUARD, PINES_BANDS, PINES_PATCH = 12, 4, 8, 5
PINES_TEST = (
    "####..#.....#",
    "#....#......#",
    "..#..#..##...",
    ".#...#..####.",
    "....######...",
    "............#",
    "#..##.#.##.#.",
    "....#..#.....",
    "##..#..####..",
    ".#.#.#.##...#",
    "##....#..##.#",
    ".##..##..##..",
    ".##.#.##..##.",
)


def _pines() -> Dataset:
    """Indian Pines: 5 × 5 pixels of 8 principal bands around each pixel of the 12 land covers with 200 or more."""
    with _coming_with("tensorly", "pines"):
        from tensorly.datasets import load_indian_pines
    bundle = load_indian_pines()
    scene, cover = np.asarray(bundle["tensor"], dtype=np.float64), np.asarray(bundle["ticks"][0])
    kinds = [kind for kind in np.unique(cover) if kind and (cover == kind).sum() >= 200]
    train, test = pines_masks(cover.shape)
    rows, columns = np.nonzero((train | test) & np.isin(cover, kinds))
    bands = _principal(scene, train)
    reach = PINES_PATCH // 2
    padded = np.pad(bands, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (PINES_PATCH, PINES_PATCH), axis=(0, 1))
    images = windows[rows, columns].astype(np.float32)
    labels = np.searchsorted(kinds, cover[rows, columns])
    for_test = test[rows, columns]
    return _split(
        "pines",
        images,
        labels,
        np.flatnonzero(~for_test),
        np.flatnonzero(for_test),
        1,
        balanced=True,
        source="pines",
    )


def pines_masks(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Which pixels of the scene are to train on, and which for the test; the guard band is neither."""
    marked = np.array([[mark == "#" for mark in row] for row in PINES_TEST])
    test = np.kron(marked, np.ones((PINES_BLOCK, PINES_BLOCK), bool))[: shape[0], : shape[1]]
    padded = np.pad(test, PINES_GUARD)
    side = 2 * PINES_GUARD + 1
    near = np.lib.stride_tricks.sliding_window_view(padded, (side, side)).any((2, 3))
    return ~near, test


def _principal(scene: np.ndarray, train: np.ndarray) -> np.ndarray:
    """The first principal components of the training pixels' spectra, each with a fixed sign."""
    mean = scene[train].mean(0)
    _, axes = np.linalg.eigh(np.cov((scene[train] - mean).T))
    axes = axes[:, ::-1][:, :PINES_BANDS]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(PINES_BANDS)])
    return (scene - mean) @ axes


BUILT_IN: Mapping[str, BuiltIn] = MappingProxyType(
    {
        "digits": BuiltIn(
            "handwritten digits, grey 8 × 8, 10 classes (scikit-learn's load_digits; Alpaydin and Kaynak 1998)",
            "BSD-3 (scikit-learn)",
            _digits,
        ),
        "fashion": BuiltIn(
            "Fashion-MNIST, grey 28 × 28, 10 classes (Xiao, Rasul and Vollgraf, arXiv 1708.07747)",
            "MIT (Zalando SE)",
            _fashion,
        ),
        "pines": BuiltIn(
            "Indian Pines, 5 × 5 pixels of 8 principal bands, 12 land covers, split by guarded blocks "
            "(Baumgardner, Biehl and Landgrebe 2015, doi 10.4231/R7RX991C; in tensorly)",
            "CC BY 3.0",
            _pines,
        ),
    }
)


@contextmanager
def _coming_with(package: str, dataset: str) -> Iterator[None]:
    """An import inside that fails is an error that names the package."""
    try:
        yield
    except ImportError as error:
        raise BenchmarkError(
            f"data set {dataset} needs {package}, which is not installed: pip install 'autoprox[datasets]'"
        ) from error


def _npz(path: Path) -> Dataset:
    """The data set in an .npz file; nothing in it is run."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # numpy and zipfile have no common error for a damaged file
        raise BenchmarkError(f"{path}: not a readable .npz file of plain arrays ({error})") from error
    split, whole = ("x_train", "y_train", "x_test", "y_test"), ("images", "labels")
    if set(split) <= set(arrays):
        images = _channels_first(path, np.concatenate([arrays["x_train"], arrays["x_test"]]))
        labels = np.concatenate([arrays["y_train"].ravel(), arrays["y_test"].ravel()])
        count = len(arrays["x_train"])
        train, test = np.arange(count), np.arange(count, len(images))
    elif set(whole) <= set(arrays):
        images, labels = _channels_first(path, arrays["images"]), arrays["labels"].ravel()
        train, test = _held_out(path, labels)
    else:
        raise BenchmarkError(
            f"{path}: it has {', '.join(arrays) or 'no arrays'}; needed are {', '.join(split)}, or {', '.join(whole)}"
        )
    if len(images) != len(labels):
        raise BenchmarkError(f"{path}: {len(images)} images and {len(labels)} labels")
    _, numbers = np.unique(labels, return_inverse=True)
    return _split(_task_name(path), images, numbers, train, test, _quarter(images.shape[2]), source=f"{path.name}")


def _channels_first(path: Path, images: np.ndarray) -> np.ndarray:
    if images.dtype.kind not in "buif" or images.ndim not in (3, 4):
        raise BenchmarkError(f"{path}: images of type {images.dtype} and shape {images.shape} are no images")
    images = images.astype(np.float32)
    if images.ndim == 3:
        return images[:, None]
    return images if images.shape[2] == images.shape[3] else np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def _folder(path: Path, size: int) -> Dataset:
    """The data set in a folder with a folder for each class, or in `train/` and `test/` that hold these."""
    trains, tests = path / "train", next((path / name for name in ("test", "val") if (path / name).is_dir()), None)
    if trains.is_dir() and tests is not None:
        classes = _classes(trains)
        if _classes(tests) != classes:
            raise BenchmarkError(f"{tests}: its classes are not those of {trains}")
        parts = [_images(folder, classes, size) for folder in (trains, tests)]
        images, labels = (np.concatenate(both) for both in zip(*parts, strict=True))
        count = len(parts[0][1])
        train, test = np.arange(count), np.arange(count, len(labels))
    else:
        images, labels = _images(path, _classes(path), size)
        train, test = _held_out(path, labels)
    return _split(_task_name(path), images, labels, train, test, _quarter(size), source=path.name)


def _classes(path: Path) -> list[str]:
    classes = sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if len(classes) < 2:
        raise BenchmarkError(
            f"{path}: it has {'one class' if classes else 'no classes'}; it must hold a folder of images for each class"
        )
    return classes


def _images(path: Path, classes: list[str], size: int) -> tuple[np.ndarray, np.ndarray]:
    with _coming_with("Pillow", str(path)):
        from PIL import Image
    arrays, labels = [], []
    for number, name in enumerate(classes):
        files = sorted(file for file in (path / name).iterdir() if file.suffix.lower() in _SUFFIXES)
        if not files:
            raise BenchmarkError(f"{path / name}: there is no image in it")
        for file in files:
            try:
                with Image.open(file) as picture:
                    scaled = picture.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
                    arrays.append(np.asarray(scaled, dtype=np.float32).transpose(2, 0, 1))
            except Exception as error:  # Pillow raises many kinds for files that are no image
                raise BenchmarkError(f"{file}: it cannot be read as an image ({error})") from error
            labels.append(number)
    return np.stack(arrays), np.array(labels)


def _held_out(path: Path, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices to train on and for the test: `TEST_SHARE` of every class, drawn by a fixed seed."""
    kinds, counts = np.unique(labels, return_counts=True)
    if len(counts) and counts.min() < 2:
        raise BenchmarkError(f"{path}: class {kinds[counts.argmin()]} has one image; two are needed to train and test")
    test = _in_proportion(labels, share=TEST_SHARE)
    return np.setdiff1d(np.arange(len(labels)), test), test


def _in_proportion(labels: np.ndarray, count: int = 0, share: float = 0.0) -> np.ndarray:
    """Indices, ascending, of `count` items, or of a share of them, at least one of each class."""
    rng = np.random.default_rng(0)
    share = share or count / len(labels)
    kept = []
    for kind in np.unique(labels):
        of_kind = np.flatnonzero(labels == kind)
        kept.append(rng.permutation(of_kind)[: max(1, math.floor(share * len(of_kind) + 0.5))])
    return np.sort(np.concatenate(kept))


def _split(
    name: str,
    images: np.ndarray,
    labels: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    patch_size: int,
    *,
    balanced: bool = False,
    source: str,
) -> Dataset:
    """The data set of these images, normalised channel by channel to mean 0 and deviation 1 over the training images."""
    if not len(train) or not len(test):
        raise BenchmarkError(f"{name}: there are no images")
    mean = images[train].mean((0, 2, 3), keepdims=True, dtype=np.float64)
    deviation = images[train].std((0, 2, 3), keepdims=True, dtype=np.float64)
    normal = torch.from_numpy(((images - mean) / np.where(deviation > 0, deviation, 1.0)).astype(np.float32))
    classes = torch.from_numpy(np.asarray(labels, dtype=np.int64))
    known = BUILT_IN.get(source)
    return Dataset(
        name=name,
        train_images=normal[train],
        train_labels=classes[train],
        test_images=normal[test],
        test_labels=classes[test],
        num_classes=int(classes.max()) + 1,
        patch_size=patch_size,
        balanced=balanced,
        source=f"{known.about}; {known.licence}" if known else source,
    )


def _task_name(path: Path) -> str:
    """A file's or folder's name, as far as it can name a task."""
    kept = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "_" for letter in path.stem)
    return kept.lstrip("._-")[:64] or "images"


def _quarter(size: int) -> int:
    """The divisor of the size that is closest to a quarter of it, the smaller of two."""
    return min((d for d in range(1, size + 1) if size % d == 0), key=lambda d: (abs(d - size / 4), d))
