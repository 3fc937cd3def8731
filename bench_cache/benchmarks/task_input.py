"""Task input: what the networks of a task read, their input and a few labelled images, in memory and in the file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from autoprox.bench_cache.runtime.checks import BenchmarkError, check_fields, quoted
from autoprox.bench_cache.spaces.registry import ArchitectureError, InputSpec


@dataclass(frozen=True, eq=False)
class TaskInput:
    """What the networks of a task read: their input, and a few labelled images for the probe `data`.

    Attributes:
        spec: the size of the images and the number of classes.
        images: float32, n × channels × size × size, as the networks were trained on them. Each number has six
            significant digits, as in the file, so that statistics are the same before and after saving.
        targets: n class numbers.
        source: whose the images are, and their licence.

    Raises:
        BenchmarkError: there are no images, the images have another shape, or a target is no class.
    """

    spec: InputSpec
    images: np.ndarray
    targets: np.ndarray
    source: str = ""

    def __post_init__(self) -> None:
        size = (self.spec.in_channels, self.spec.image_size, self.spec.image_size)
        for name, array in (("images", _six_digits(self.images)), ("targets", np.array(self.targets, dtype=np.int64))):
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if self.images.shape[1:] != size or not len(self.images) or self.targets.shape != (len(self.images),):
            raise BenchmarkError(f"images of shape {self.images.shape} are not some of {size}, with a target each")
        if not np.isfinite(self.images).all():
            raise BenchmarkError("some images have entries that are NaN or infinite")
        if self.targets.min() < 0 or self.targets.max() >= self.spec.num_classes:
            raise BenchmarkError(f"targets are not class numbers from 0 to {self.spec.num_classes - 1}")

    def to_json(self) -> dict[str, Any]:
        """Return the object that stands for the input in a benchmark's file."""
        images = [[[[float(f"{v:.6g}") for v in row] for row in plane] for plane in image] for image in self.images]
        return {
            "spec": asdict(self.spec), "source": self.source, "targets": self.targets.tolist(), "images": images
        }  # fmt: skip


@dataclass(frozen=True)
class Network:
    """The networks that stand for some tasks of a benchmark: one for each architecture, all with the same input.

    The networks of a tabular benchmark cannot be built, so their `spec` is None.
    """

    spec: InputSpec | None
    input: TaskInput | None
    tasks: tuple[str, ...]


def read_task_input(task: str, record: object) -> TaskInput:
    """Return the input that `TaskInput.to_json` wrote for a task.

    Raises:
        BenchmarkError: `record` is not such an object; the message names the task.
    """
    try:
        found = check_fields(record, ("spec", "images", "targets", "source"), ())
        spec = read_spec(found["spec"])
        if spec is None or not isinstance(found["source"], str):
            raise BenchmarkError("spec is an object, and source a text")
        try:
            images, targets = np.array(found["images"], dtype=np.float64), np.array(found["targets"])
        except (ValueError, TypeError, OverflowError) as error:
            raise BenchmarkError(f"images or targets are no arrays of numbers ({error})") from error
        if targets.dtype.kind != "i":
            raise BenchmarkError("targets are not whole numbers")
        return TaskInput(spec, images, targets, found["source"])
    except BenchmarkError as error:
        raise BenchmarkError(f"inputs of {quoted(task)}: {error}") from error


def read_spec(record: object) -> InputSpec | None:
    """Return the input spec in a file's field, where null means that there is none.

    Raises:
        BenchmarkError: a field is missing or unknown, or its value cannot be used.
    """
    if record is None:
        return None
    fields = ("image_size", "in_channels", "num_classes", "patch_size")
    try:
        return InputSpec(**check_fields(record, fields, ()))
    except (BenchmarkError, ArchitectureError) as error:
        raise BenchmarkError(f"spec: {error}") from error


def _six_digits(images: np.ndarray) -> np.ndarray:
    """Return a float32 copy; a number is rounded to six significant digits, or infinite if float32 cannot hold it."""
    with np.errstate(over="ignore"):
        array = np.array(images, dtype=np.float32)
    return np.array([float(f"{value:.6g}") for value in array.ravel()], dtype=np.float32).reshape(array.shape)
