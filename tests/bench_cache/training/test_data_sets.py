"""Data sets: what can be trained on is read as it is, and what cannot is refused in one line before any training."""

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.bench_cache.training import built_in as builtin_datasets
from autoprox.bench_cache.training.built_in import PINES_PATCH, PINES_TEST, drawn_digits, pines_masks
from autoprox.bench_cache.training.by_reference import load_dataset

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.integers(0, 255, (30, 8, 8), dtype=np.uint8), np.arange(30) % 3


def save(path: Path, **arrays: object) -> str:
    np.savez(path / "set.npz", **arrays)  # type: ignore[arg-type]
    return str(path / "set.npz")


def folder(path: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 4) -> Path:
    for number, name in enumerate(classes):
        (path / name).mkdir(parents=True)
        for i in range(count):
            colour = np.full((10, 12, 3), 40 * number + i, np.uint8)
            Image.fromarray(colour).save(path / name / f"{i}.png")
    return path


def test_an_npz_file_without_a_split_keeps_three_tenths_of_each_class(tmp_path: Path) -> None:
    found = load_dataset(save(tmp_path, images=IMAGES, labels=LABELS))
    assert (found.name, found.num_classes, found.spec.image_size, found.patch_size) == ("set", 3, 8, 2)
    assert found.train_labels.bincount().tolist() == [7, 7, 7]
    assert found.test_labels.bincount().tolist() == [3, 3, 3]
    assert float(found.train_images.mean()) == pytest.approx(0, abs=1e-5)
    assert float(found.train_images.std(correction=0)) == pytest.approx(1, abs=1e-4)


def test_an_npz_file_with_a_split_keeps_it_and_labels_are_numbered(tmp_path: Path) -> None:
    colour = np.repeat(IMAGES[..., None], 3, -1)  # channels last
    ref = save(tmp_path, x_train=colour[:20], y_train=LABELS[:20] + 7, x_test=colour[20:], y_test=LABELS[20:] + 7)
    found = load_dataset(ref, patch_size=4)
    assert (len(found.train_labels), len(found.test_labels)) == (20, 10)
    assert found.train_images.shape[1:] == (3, 8, 8)
    assert found.train_labels.tolist() == LABELS[:20].tolist()
    assert found.patch_size == 4


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 3, 1, 2)])
def test_channels_may_be_first_or_last(tmp_path: Path, axes: tuple[int, ...]) -> None:
    last = RNG.integers(0, 255, (30, 8, 8, 2), dtype=np.uint8)
    found = load_dataset(save(tmp_path, images=last.transpose(axes), labels=LABELS))
    assert found.train_images.shape == (21, 2, 8, 8)
    for channel in range(2):
        own = found.train_images[:, channel].numpy()
        raw = np.array([min(last[..., channel], key=lambda image, own=image: _distance(image, own)) for image in own])
        np.testing.assert_allclose(own, (raw - raw.mean()) / raw.std(), atol=1e-4)


def _distance(raw: np.ndarray, normal: np.ndarray) -> float:
    """One minus the correlation of two images, which scaling leaves at 0."""
    return 1 - float(np.corrcoef(raw.ravel(), normal.ravel())[0, 1])


def test_folders_are_scaled_and_split_or_have_a_split(tmp_path: Path) -> None:
    whole = load_dataset(str(folder(tmp_path / "pets")), image_size=8)
    assert whole.train_images.shape == (6, 3, 8, 8)
    assert whole.test_labels.tolist() == [0, 1]
    folder(tmp_path / "both" / "train")
    folder(tmp_path / "both" / "val", count=2)
    both = load_dataset(str(tmp_path / "both"))
    assert (len(both.train_labels), len(both.test_labels)) == (8, 4)
    assert both.spec.image_size == 32


def test_fewer_images_are_drawn_in_proportion_and_have_another_digest(tmp_path: Path) -> None:
    whole = load_dataset(save(tmp_path, images=IMAGES, labels=LABELS))
    fewer = whole.limited(12, 3)
    assert fewer.train_labels.bincount().tolist() == [4, 4, 4]
    assert fewer.test_labels.bincount().tolist() == [1, 1, 1]
    assert fewer.digest == whole.limited(12, 3).digest != whole.digest
    assert whole.limited(None, 999).digest == whole.digest
    for too_few in (0, -1, 2):
        with pytest.raises(BenchmarkError, match=f"^set: {too_few} images are too few for its 3 classes$"):
            whole.limited(too_few, None)


def test_the_digest_is_of_every_pixel_and_label(tmp_path: Path) -> None:
    whole = load_dataset(save(tmp_path, images=IMAGES, labels=LABELS))
    digests = {whole.digest, replace(whole, test_images=whole.train_images, test_labels=whole.train_labels).digest}
    for part in ("train", "test"):
        pixels, labels = getattr(whole, f"{part}_images").clone(), getattr(whole, f"{part}_labels").clone()
        pixels[3, 0, 2, 2] += 0.01
        labels[0] = (labels[0] + 1) % 3
        digests |= {
            replace(whole, **{f"{part}_images": pixels}).digest,
            replace(whole, **{f"{part}_labels": labels}).digest,
        }
    assert len(digests) == 6
    assert replace(whole, name="other", patch_size=4).digest == whole.digest


def refused(ref: str | Path, message: str, **choices: int) -> None:
    with pytest.raises(BenchmarkError, match=message) as caught:
        load_dataset(str(ref), **choices)
    assert "\n" not in str(caught.value)


ARRAYS: list[tuple[dict[str, object], str]] = [
    ({"images": IMAGES[:0], "labels": LABELS[:0]}, "there are no images"),
    ({"images": IMAGES, "labels": LABELS * 0}, "all images are of one class"),
    ({"images": IMAGES, "labels": LABELS[:29]}, "30 images and 29 labels"),
    ({"pictures": IMAGES}, "it has pictures; needed are x_train, y_train, x_test, y_test, or images, labels"),
    ({"images": IMAGES[:, :6], "labels": LABELS}, "no set|square"),
    ({"images": np.where(IMAGES > 250, np.nan, IMAGES), "labels": LABELS}, "NaN or infinite"),
    ({"images": IMAGES.astype(object), "labels": LABELS}, "not a readable .npz file of plain arrays"),
    ({"images": IMAGES.astype(str), "labels": LABELS}, "no images"),
    ({"images": IMAGES, "labels": np.where(np.arange(30) == 4, 9, LABELS)}, "class 9 has one image"),
    ({"x_train": IMAGES[:9], "y_train": LABELS[:9] // 2, "x_test": IMAGES[9:], "y_test": LABELS[9:]},
     "class 2 has no training image"),
    ({"images": IMAGES, "labels": np.where(np.arange(30) == 4, np.nan, LABELS)}, "labels of type float64"),
    ({"images": IMAGES, "labels": LABELS + 0j}, "labels of type complex128"),
    ({"images": np.where(IMAGES > 250, np.inf, IMAGES), "labels": LABELS}, "NaN or infinite"),
    ({"images": IMAGES[:, :0, :0], "labels": LABELS}, r"shape \(30, 0, 0\) are no images"),
    ({"images": np.float32(3), "labels": LABELS}, r"shape \(\) are no images"),
    ({"images": np.repeat(IMAGES[:, None, :6], 3, 1), "labels": LABELS}, r"images of shape \(3, 6, 8\) are not square"),
    # As many labels as images in all, but not in each part: every label after the first part would be a wrong one.
    ({"x_train": IMAGES[:20], "y_train": LABELS[:18], "x_test": IMAGES[20:], "y_test": LABELS[18:]},
     "20 training images and 18 labels"),
    ({"x_train": IMAGES[:20], "y_train": LABELS[:20], "x_test": IMAGES[20:, :4, :4], "y_test": LABELS[20:]},
     r"training images of shape \(1, 8, 8\), test images of \(1, 4, 4\)"),
    ({"x_train": IMAGES[:20], "y_train": LABELS[:20], "x_test": IMAGES[:0], "y_test": LABELS[:0]}, "no images"),
    ({"images": IMAGES, "labels": LABELS, "probe_images": IMAGES}, "one of probe_images and probe_labels"),
    ({"images": IMAGES, "labels": LABELS, "probe_images": IMAGES[:2], "probe_labels": LABELS[:3]},
     "one for each of 3 probe_labels"),
    ({"images": IMAGES, "labels": LABELS, "probe_images": IMAGES[:2, :4, :4], "probe_labels": LABELS[:2]},
     "each 1 x 8 x 8"),
    ({"images": IMAGES, "labels": LABELS, "probe_images": IMAGES[:2], "probe_labels": LABELS[:2] + 9},
     "probe label 9 is no class"),
]  # fmt: skip


@pytest.mark.parametrize(("arrays", "message"), ARRAYS)
def test_arrays_that_cannot_be_trained_on_are_refused(tmp_path: Path, arrays: dict, message: str) -> None:
    refused(save(tmp_path, **arrays), message)


def _empty(path: Path) -> Path:
    path.mkdir()
    return path


def _one_class(path: Path) -> Path:
    return folder(path, ("cat",))


def _no_image(path: Path) -> Path:
    (folder(path) / "bird").mkdir()
    return path


def _corrupt(path: Path) -> Path:
    (folder(path) / "dog" / "1.png").write_bytes(b"\x89PNG torn")
    return path


def _other_classes(path: Path) -> Path:
    folder(path / "train")
    folder(path / "test", ("cat", "cow"))
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_empty, "it has no classes"),
        (_one_class, "it has one class"),
        (_no_image, "bird: there is no image in it"),
        (_corrupt, "1.png: it cannot be read as an image"),
        (_other_classes, "its classes are not those of"),
    ],
)
def test_folders_that_cannot_be_trained_on_are_refused(
    tmp_path: Path, make: Callable[[Path], Path], message: str
) -> None:
    refused(make(tmp_path / "set"), message)


def test_what_is_no_data_set_is_said_with_what_there_is(tmp_path: Path) -> None:
    refused("digit", r"no data set 'digit' \(did you mean digits\?\): it is neither one of digits, fashion, pines nor")
    refused(tmp_path / "none.npz", "there is no data set")
    (tmp_path / "torn.npz").write_bytes(Path(save(tmp_path, images=IMAGES, labels=LABELS)).read_bytes()[:300])
    refused(tmp_path / "torn.npz", "not a readable .npz file")
    (tmp_path / "text.npz").write_text("no archive")
    refused(tmp_path / "text.npz", "not a readable .npz file")
    refused(folder(tmp_path / "pets"), "image size is 0; it must be at least 1", image_size=0)
    refused(save(tmp_path, images=IMAGES, labels=LABELS), "patches of 3 do not divide images of 8 px", patch_size=3)


def test_nothing_in_an_npz_file_is_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple:
            return (Path(tmp_path / "ran").touch, ())

    refused(save(tmp_path, images=np.array([Bomb()], dtype=object), labels=LABELS), "not a readable .npz file")
    assert not (tmp_path / "ran").exists()


# --- the built-in sets ---


def test_no_patch_of_indian_pines_shares_a_pixel_with_the_other_side() -> None:
    train, test = pines_masks((145, 145))
    reach = PINES_PATCH // 2
    covered = [np.zeros((145 + 2 * reach, 145 + 2 * reach), bool) for _ in range(2)]
    for mask, pixels in zip((train, test), covered, strict=True):
        for down in range(PINES_PATCH):
            for right in range(PINES_PATCH):
                pixels[down : down + 145, right : right + 145] |= mask
    assert not np.any(covered[0] & covered[1])
    assert not np.any(train & test)
    assert len(PINES_TEST) == 13 and {len(row) for row in PINES_TEST} == {13}  # noqa: PT018
    assert train.sum() > 5000 < test.sum()


def test_indian_pines_has_its_twelve_covers_on_both_sides() -> None:
    pytest.importorskip("tensorly", reason="tensorly, which Indian Pines comes with, is not installed")
    found = load_dataset("pines")
    assert (len(found.train_labels), len(found.test_labels), found.num_classes) == (3483, 3751, 12)
    assert found.balanced
    for labels in (found.train_labels, found.test_labels):
        assert int(labels.bincount(minlength=12).min()) >= 40


def test_digits_are_shown_as_drawn_here() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn, which digits come with, is not installed")
    found = load_dataset("digits")
    shown, classes = found.probe_images(16)
    assert (len(found.train_labels), len(found.test_labels)) == (1000, 797)
    drawn, kinds = drawn_digits(16)
    assert classes.tolist() == kinds.tolist() == [n % 10 for n in range(16)]
    assert np.corrcoef(shown.ravel(), drawn.ravel())[0, 1] > 0.9999
    assert 0 <= drawn.min() < drawn.max() <= 16
    own = found.train_images.numpy().reshape(1000, -1)
    distances = np.abs(shown.reshape(16, 1, -1) - own[None]).max(2)
    assert distances.min() > 0.1  # none is an image of the set


def test_images_that_come_with_a_task_are_of_one_class_after_the_other(tmp_path: Path) -> None:
    found = load_dataset(save(tmp_path, images=IMAGES, labels=LABELS))
    images, classes = found.probe_images(8)
    assert classes.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert len(np.unique(images.reshape(8, -1), axis=0)) == 8
    assert all(any(np.array_equal(image, own) for own in found.train_images.numpy()) for image in images)


def idx(path: Path, array: np.ndarray) -> None:
    head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.write_bytes(gzip.compress(head + array.tobytes()))


def test_fashion_mnist_is_read_from_the_users_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPROX_HOME", str(tmp_path))
    home = tmp_path / "datasets" / "fashion-mnist"
    home.mkdir(parents=True)
    for part, count in (("train", 20), ("t10k", 10)):
        idx(home / f"{part}-images-idx3-ubyte.gz", RNG.integers(0, 255, (count, 28, 28), dtype=np.uint8))
        idx(home / f"{part}-labels-idx1-ubyte.gz", (np.arange(count) % 10).astype(np.uint8))
    found = load_dataset("fashion")
    assert (len(found.train_labels), len(found.test_labels), found.patch_size) == (20, 10, 7)
    (home / "train-images-idx3-ubyte.gz").write_bytes((home / "train-images-idx3-ubyte.gz").read_bytes()[:200])
    whole = (home / "train-images-idx3-ubyte.gz").read_bytes()
    for damaged in (whole[:200], whole[:20], b"", b"no gzip", whole[:10] + b"\xff" * 20 + whole[30:], whole[:-9]):
        (home / "train-images-idx3-ubyte.gz").write_bytes(damaged)
        refused("fashion", "train-images-idx3-ubyte.gz: not a whole gzipped IDX file")
    idx(home / "train-images-idx3-ubyte.gz", np.zeros((19, 28, 28), np.uint8))
    refused("fashion", "19 training images and 20 labels")


def test_fashion_mnist_that_is_not_here_is_said_with_where_to_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOPROX_HOME", str(tmp_path))
    monkeypatch.setattr(builtin_datasets, "Path", lambda folder: tmp_path / "none")  # nor where Debian puts it
    refused("fashion", f"put the four .gz files of Fashion-MNIST into {tmp_path}/datasets/fashion-mnist")


def test_an_npz_file_may_bring_images_to_show_in_place_of_its_own(tmp_path: Path) -> None:
    pictures = np.full((3, 8, 8), 7.0)
    path = save(tmp_path, images=IMAGES, labels=LABELS, probe_images=pictures, probe_labels=LABELS[:3])
    found = load_dataset(path)
    images, classes = found.probe_images(16)
    assert images.shape == (3, 1, 8, 8)
    assert classes.tolist() == [np.unique(LABELS).tolist().index(label) for label in LABELS[:3]]
    plain = load_dataset(save(tmp_path, images=IMAGES, labels=LABELS))
    assert found.digest == plain.digest
    assert not any(np.array_equal(image, own) for image in images for own in plain.train_images.numpy())
