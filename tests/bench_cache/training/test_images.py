"""Folders of image files and .npz files as batches that networks read."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.bench_cache.training.images import IMAGENET_DEVIATION, IMAGENET_MEAN, read_images


def picture(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (10, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def normalised(colour: tuple[int, ...]) -> np.ndarray:
    return (np.array(colour) / 255 - IMAGENET_MEAN) / IMAGENET_DEVIATION


def test_classes_are_folders_and_take_turns(tmp_path: Path) -> None:
    for name, reds in {"bird": (10, 20, 30), "ant": (40,), ".hidden": (99,)}.items():
        for place, red in enumerate(reds):
            picture(tmp_path / name / f"{place}.png", (red, 0, 0))
    (tmp_path / "ant" / "notes.txt").write_text("no image")
    found = read_images(tmp_path, size=6, count=3)
    assert found.images.shape == (3, 3, 6, 6)
    assert found.images.dtype == np.float32
    assert found.targets is not None
    assert found.targets.tolist() == [0, 1, 1]  # ant, bird, bird
    np.testing.assert_allclose(found.images[:, 0, 2, 2], [normalised((red, 0, 0))[0] for red in (40, 10, 20)], 1e-5)
    assert read_images(tmp_path, size=6).images.shape[0] == 4


def test_a_flat_folder_has_no_classes(tmp_path: Path) -> None:
    picture(tmp_path / "b.png", (2, 0, 0))
    picture(tmp_path / "a.JPG", (1, 0, 0))
    found = read_images(str(tmp_path), size=4)
    assert found.targets is None
    assert found.images.shape == (2, 3, 4, 4)


def test_the_square_in_the_middle_is_taken(tmp_path: Path) -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    image = read_images(tmp_path, size=10).images[0]
    np.testing.assert_allclose(
        image[:, 3:7, 3:7], np.broadcast_to(normalised((255,) * 3)[:, None, None], (3, 4, 4)), 1e-5
    )


@pytest.mark.parametrize(("x", "y"), [("images", "targets"), ("x", "y"), ("images", "labels")])
def test_floats_of_an_npz_file_are_read_as_they_are(tmp_path: Path, x: str, y: str) -> None:
    images = np.random.default_rng(0).normal(size=(5, 2, 4, 4)).astype(np.float32)
    np.savez(tmp_path / "a.npz", **{x: images, y: [7, 7, 3, 7, 3]})
    found = read_images(tmp_path / "a.npz", size=99)
    np.testing.assert_array_equal(found.images, images)
    assert found.targets is not None
    assert found.targets.tolist() == [7, 7, 3, 7, 3]
    few = read_images(tmp_path / "a.npz", size=99, count=3)
    assert few.targets is not None
    assert few.targets.tolist() == [3, 7, 3]
    np.testing.assert_array_equal(few.images, images[[2, 0, 4]])


def test_bytes_of_an_npz_file_are_normalised_as_files_are(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 6, 6, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=pixels)
    for place, image in enumerate(pixels):
        (tmp_path / "files").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / "files" / f"{place}.png")
    found, files = read_images(tmp_path / "a.npz", size=6, count=2), read_images(tmp_path / "files", size=6, count=2)
    np.testing.assert_array_equal(found.images, files.images)
    assert found.targets is None


def test_names_of_classes_are_numbered_in_their_order(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 4, 4), np.float32), y=["cat", "ant", "cat"])
    found = read_images(tmp_path / "a.npz", size=4)
    assert found.images.shape == (3, 1, 4, 4)
    assert found.targets is not None
    assert found.targets.tolist() == [1, 0, 1]


FLOATS = np.zeros((2, 3, 4, 4), np.float32)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": FLOATS}, "it has pictures; save with"),
        ({"images": FLOATS, "x": FLOATS}, "images and x, which mean the same"),
        ({"images": FLOATS, "y": [1]}, "2 images and 1 classes"),
        ({"images": FLOATS, "y": [1, -1]}, "not whole numbers from 0"),
        ({"images": FLOATS, "y": [1, 0.5]}, "not whole numbers from 0"),
        ({"images": FLOATS[:0]}, "there are no images"),
        ({"images": FLOATS * np.nan}, "NaN or infinite"),
        ({"images": FLOATS.astype(int)}, "save them as uint8"),
        ({"images": np.zeros((2, 4, 4), np.uint8)}, "with 1 channels"),
        ({"images": np.zeros((2, 3, 4, 5), np.float32)}, "not square"),
        ({"images": np.array([{}], dtype=object)}, "no code in the file|not a readable .npz file of plain arrays"),
    ],
)
def test_an_npz_file_that_is_no_batch_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(BenchmarkError, match=message) as error:
        read_images(tmp_path / "a.npz", size=4)
    assert str(error.value).startswith(str(tmp_path))
    assert "\n" not in str(error.value)


def test_a_folder_that_is_no_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="no such folder of images and no such"):
        read_images(tmp_path / "missing", size=4)
    with pytest.raises(BenchmarkError, match="it has no folders either"):
        read_images(tmp_path, size=4)
    picture(tmp_path / "train" / "ant" / "0.png", (0, 0, 0))
    with pytest.raises(BenchmarkError, match="it has train: name one that holds images or classes"):
        read_images(tmp_path, size=4)
    picture(tmp_path / "0.png", (0, 0, 0))
    picture(tmp_path / "train" / "0.png", (0, 0, 0))
    with pytest.raises(BenchmarkError, match="images beside folders of images"):
        read_images(tmp_path, size=4)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "0.png").write_bytes(b"no image")
    with pytest.raises(BenchmarkError, match=r"broken/0\.png: it cannot be read as an image"):
        read_images(tmp_path / "broken", size=4)
    (tmp_path / "empty" / "ant").mkdir(parents=True)
    picture(tmp_path / "empty" / "bird" / "0.png", (0, 0, 0))
    with pytest.raises(BenchmarkError, match="ant: there is no image in it; remove the folder"):
        read_images(tmp_path / "empty", size=4)
    with pytest.raises(BenchmarkError, match="0 images are none"):
        read_images(tmp_path / "empty", size=4, count=0)
