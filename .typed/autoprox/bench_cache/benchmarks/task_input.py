"""Task input: what the networks of a task read, their input and a few labelled images, in memory and in the file."""

from __future__ import annotations

import base64
import hashlib
import math
import zlib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from autoprox.bench_cache.runtime.checks import MAX_BYTES, BenchmarkError, check_fields, is_int, quoted
from autoprox.bench_cache.spaces.registry import ArchitectureError, InputSpec

#: So many numbers of images are written as text that people can read; more are packed.
READABLE = 2**16


@dataclass(frozen=True, eq=False)
class TaskInput:
    """What the networks of a task read: their input, and a few labelled images for the probe `data`.

    Attributes:
        spec: the size of the images and the number of classes.
        images: float32, n × channels × size × size, as the networks were trained on them. Each number has six
            significant digits, as in the file, so that statistics are the same before and after saving.
        targets: n class numbers.
        source: whose the images are, and their licence.
        random_targets: whether the class numbers were drawn at random, because the images have no classes.

    Raises:
        BenchmarkError: there are no images, the images have another shape, or a target is no class.
    """

    spec: InputSpec
    images: np.ndarray
    targets: np.ndarray
    source: str = ""
    random_targets: bool = False

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

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the images and of the class numbers: numbers from images of two digests cannot be compared."""
        digest = hashlib.sha256(self.images.tobytes())
        digest.update(self.targets.tobytes())
        return digest.hexdigest()

    @property
    def short_digest(self) -> str:
        """The beginning of the digest, as tables and captions show it."""
        return self.digest[:12]

    def first(self, count: int) -> TaskInput:
        """Return the input with its first `count` images only, or this one if it has no more."""
        if len(self.images) <= count:
            return self
        return replace(self, images=self.images[:count], targets=self.targets[:count])

    def to_json(self) -> dict[str, Any]:
        """Return the object that stands for the input in a benchmark's file."""
        found = {
            "spec": asdict(self.spec),
            "source": self.source,
            "targets": self.targets.tolist(),
            "images": _packed(self.images) if self.images.size > READABLE else _readable(self.images),
        }
        return found | ({"random_targets": True} if self.random_targets else {})


def _readable(images: np.ndarray) -> list[Any]:
    return [[[[float(f"{v:.6g}") for v in row] for row in plane] for plane in image] for image in images]


def _packed(images: np.ndarray) -> dict[str, Any]:
    """Return images as their shape and, in base 64, the zlib-compressed bytes of little-endian float32."""
    data = zlib.compress(images.astype("<f4").tobytes())
    return {"shape": list(images.shape), "zlib": base64.b64encode(data).decode()}


def _unpacked(record: Mapping[str, Any]) -> np.ndarray:
    """Return the images that `_packed` wrote.

    Raises:
        BenchmarkError: the shape is none, or the data has more or fewer bytes than it.
    """
    found = check_fields(record, ("shape", "zlib"), ())
    shape, text = found["shape"], found["zlib"]
    if not isinstance(shape, list) or len(shape) != 4 or not all(is_int(size) and size > 0 for size in shape):
        raise BenchmarkError(f"shape of the images is {quoted(shape)}, not four positive integers")
    size = 4 * math.prod(shape)
    if size > MAX_BYTES * 4:
        raise BenchmarkError(f"images of shape {quoted(shape)} are more than a benchmark's file can hold")
    try:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(base64.b64decode(text, validate=True), size + 1)
    except (TypeError, ValueError, zlib.error) as error:
        raise BenchmarkError(f"zlib of the images is damaged ({error})") from error
    if len(data) != size or not unpacker.eof:
        raise BenchmarkError(f"zlib of the images has not the {size} bytes of their shape {quoted(shape)}")
    return np.frombuffer(data, dtype="<f4").reshape(shape)


@dataclass(frozen=True)
class Network:
    """The networks that stand for some tasks of a benchmark: one for each architecture, all with the same input.

    The networks of a tabular benchmark cannot be built, so their `spec` is None.
    """

    spec: InputSpec | None
    input: TaskInput | None
    tasks: tuple[str, ...]


def inputs_to_json(inputs: Mapping[str, TaskInput]) -> dict[str, Any]:
    """Return the object that stands for the inputs of tasks in a benchmark's file.

    Where several tasks have the same input, it stands at the first. The others have the name of that task.
    """
    written: dict[str, Any] = {}
    first: dict[Any, str] = {}
    for task, found in inputs.items():
        same = first.setdefault(_identity(found), task)
        written[task] = found.to_json() if same == task else same
    return written


def read_task_inputs(record: Mapping[str, Any]) -> dict[str, TaskInput]:
    """Return the inputs by task that `inputs_to_json` wrote.

    Raises:
        BenchmarkError: `record` has something else; the message names the task.
    """
    inputs: dict[str, TaskInput] = {}
    for task, found in record.items():
        try:
            inputs[task] = _same(inputs, found) if isinstance(found, str) else _read_task_input(found)
        except BenchmarkError as error:
            raise BenchmarkError(f"inputs of {quoted(task)}: {error}") from error
    return inputs


def _same(earlier: Mapping[str, TaskInput], task: str) -> TaskInput:
    if task not in earlier:
        raise BenchmarkError(f"they are those of {quoted(task)}, which has none above it")
    return earlier[task]


def _read_task_input(record: object) -> TaskInput:
    found = check_fields(record, ("spec", "images", "targets", "source"), ("random_targets",))
    spec, random_targets = read_spec(found["spec"]), found.get("random_targets", False)
    if spec is None or not isinstance(found["source"], str) or not isinstance(random_targets, bool):
        raise BenchmarkError("spec is an object, source a text, and random_targets true or false")
    try:
        packed = isinstance(found["images"], Mapping)
        images = _unpacked(found["images"]) if packed else np.array(found["images"], dtype=np.float64)
        targets = np.array(found["targets"])
    except (ValueError, TypeError, OverflowError) as error:
        if isinstance(error, BenchmarkError):
            raise
        raise BenchmarkError(f"images or targets are no arrays of numbers ({error})") from error
    if targets.dtype.kind != "i":
        raise BenchmarkError("targets are not whole numbers")
    return TaskInput(spec, images, targets, found["source"], random_targets)


def networks_of(spec: InputSpec | None, tasks: Collection[str], inputs: Mapping[str, TaskInput]) -> tuple[Network, ...]:
    """Return what is built for each architecture: one network for each input that the tasks have.

    Tasks with the same input share a network. So do the tasks without one, whose network is that of `spec`.
    """
    shared = tuple(task for task in tasks if task not in inputs)
    by_input: dict[Any, Network] = {}
    for task, found in inputs.items():
        known = by_input.get(_identity(found), Network(found.spec, found, ()))
        by_input[_identity(found)] = replace(known, tasks=(*known.tasks, task))
    return ((Network(spec, None, shared),) if shared else ()) + tuple(by_input.values())


def _identity(found: TaskInput) -> Any:
    """Return what is equal exactly for inputs that are the same in everything."""
    return found.spec, found.digest, found.source, found.random_targets


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
    # Images made of bytes have few different numbers. They are told apart by their bits, so that -0 stays -0.
    bits, places = np.unique(array.view(np.uint32), return_inverse=True)
    rounded = np.array([float(f"{value:.6g}") for value in bits.view(np.float32)], dtype=np.float32)
    return rounded[places].reshape(array.shape)
