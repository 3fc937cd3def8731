"""Built-in data sets: digits, Fashion-MNIST and Indian Pines, from packages and files that the user has.

To add one, write a function that returns its `Dataset`, and a row of `BUILT_IN`.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.bench_cache.runtime.home import data_home
from autoprox.bench_cache.training.dataset import Dataset, coming_with, joined, normalised


@dataclass(frozen=True)
class BuiltIn:
    """A built-in data set: what it is, its licence, and the function that loads it."""

    about: str
    licence: str
    load: Callable[[], Dataset]


def _digits() -> Dataset:
    """Return 1,797 handwritten digits of 8 × 8 pixels from 0 to 16; 1,000 are for training, the others for the test."""
    with coming_with("scikit-learn", "digits"):
        from sklearn.datasets import load_digits
    bundle = load_digits()
    images = np.asarray(bundle.images, dtype=np.float32)[:, None]
    order = np.random.default_rng(0).permutation(len(images))
    found = normalised("digits", images, np.asarray(bundle.target), order[:1000], order[1000:], 2)
    train = images[order[:1000]]
    drawn, classes = drawn_digits()
    return replace(found, drawn=((drawn - train.mean()) / train.std(), classes))


#: The ten digits as drawn for this project, in seven rows of five pixels each.
_GLYPHS = (
    ".###. #...# #..## #.#.# ##..# #...# .###.", "..#.. .##.. ..#.. ..#.. ..#.. ..#.. .###.",
    ".###. #...# ....# ...#. ..#.. .#... #####", ".###. #...# ....# ..##. ....# #...# .###.",
    "...#. ..##. .#.#. #..#. ##### ...#. ...#.", "##### #.... ####. ....# ....# #...# .###.",
    "..##. .#... #.... ####. #...# #...# .###.", "##### ....# ...#. ..#.. .#... .#... .#...",
    ".###. #...# #...# .###. #...# #...# .###.", ".###. #...# #...# .#### ....# ...#. .##..",
)  # fmt: skip


def drawn_digits(count: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Return drawn digits that resemble the set's, float32, n × 1 × 8 × 8 with values from 0 to 16, and their classes.

    Each is a glyph of `_GLYPHS`, moved by up to a pixel, blurred along both axes, with a little noise. The seed is
    fixed, so they are the same each time.
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
    """Return Fashion-MNIST: 10 kinds of clothing, 28 × 28 grey pixels; 60,000 for training, 10,000 for the test."""
    files = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    arrays = [_idx(_fashion_file(f"{file}-ubyte.gz")) for file in files]
    images, labels, train, test = joined("data set fashion", (arrays[0], arrays[1]), (arrays[2], arrays[3]))
    return normalised("fashion", images.astype(np.float32)[:, None], labels, train, test, 7)


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
    """Return the array in a gzipped IDX file of unsigned bytes."""
    try:
        data = gzip.decompress(path.read_bytes())
        shape = np.frombuffer(data, ">u4", data[3], offset=4)
        return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)
    except (EOFError, gzip.BadGzipFile, zlib.error, ValueError, IndexError) as error:
        raise BenchmarkError(f"{path}: not a whole gzipped IDX file ({error})") from error


#: Indian Pines is split by blocks of 12 × 12 pixels. The marked blocks are for the test. The others are for training,
#: without the pixels that are within GUARD pixels of a marked block, so that no training patch shares a pixel with a
#: test patch. Of 3,000 random splits, this one leaves the rarest class the largest share on either side (.215).
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
    """Return Indian Pines: 5 × 5 pixels of 8 principal bands around each pixel of a land cover with 200 pixels or more.

    There are 12 such land covers.
    """
    with coming_with("tensorly", "pines"):
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
    return normalised(
        "pines",
        images,
        labels,
        np.flatnonzero(~for_test),
        np.flatnonzero(for_test),
        1,
        balanced=True,
    )


def pines_masks(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return two masks of the scene's pixels: for training, and for the test; the guard band is in neither."""
    marked = np.array([[mark == "#" for mark in row] for row in PINES_TEST])
    test = np.kron(marked, np.ones((PINES_BLOCK, PINES_BLOCK), bool))[: shape[0], : shape[1]]
    padded = np.pad(test, PINES_GUARD)
    side = 2 * PINES_GUARD + 1
    near = np.lib.stride_tricks.sliding_window_view(padded, (side, side)).any((2, 3))
    return np.logical_not(near), test


def _principal(scene: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Return the scene's first principal components, computed on the training pixels; each axis has a fixed sign."""
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


def load_built_in(name: str) -> Dataset:
    """Return a data set of `BUILT_IN`; its source says what it is, and its licence."""
    known = BUILT_IN[name]
    return replace(known.load(), source=f"{known.about}; {known.licence}")
