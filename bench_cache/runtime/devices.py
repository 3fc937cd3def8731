"""Devices: where networks and formulas run, what is held there, and arithmetic there that is as it is on a CPU."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from autoprox.bench_cache.runtime.local_pool import LocalPool, Workers, one_thread

#: What a device may be called, for help and messages.
DEVICES = "auto, cpu, cuda, cuda:N or mps"
#: Where everything runs if nothing is said: other devices round last bits in other ways.
CPU = "cpu"


class DeviceError(ValueError):
    """A device that is not there, or has no memory left; the message says how to go on."""


def chosen_device(name: str) -> torch.device:
    """Return the device of a name; `auto` is the first CUDA GPU, or the CPU where there is none.

    Raises:
        DeviceError: there is no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else CPU)
    kind = _checked_kind(name)
    if kind == "cuda" and int(name.partition(":")[2] or 0) >= torch.cuda.device_count():
        raise _missing(name, f"CUDA has {torch.cuda.device_count()} GPUs")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise _missing(name, "this PyTorch has no MPS")
    return torch.device(name)


def agreed_device(name: str, workers: Workers) -> str:
    """Return the name under which the workers find their device.

    Processes of this machine have what this machine has. The workers of another executor may be on other machines:
    each looks for the device when it begins its work.

    Raises:
        DeviceError: there is no such device, or it is left to each worker which device that is.
    """
    if not isinstance(workers, Executor) or isinstance(workers, LocalPool):
        return str(chosen_device(name))
    if name == "auto":
        raise DeviceError(
            "--device auto looks at this machine, and the workers of --dask or of an executor may be on others, where "
            "results would depend on who does the work: name cpu or cuda"
        )
    _checked_kind(name)
    return name


def kind_of(name: str) -> str:
    """Return the kind of a device, on which the last bits of results depend: `cuda` of `cuda:1`."""
    return name.partition(":")[0]


def _checked_kind(name: str) -> str:
    kind, colon, number = name.partition(":")
    if kind not in (CPU, "cuda", "mps") or (colon and (kind != "cuda" or not number.isdecimal() or len(number) > 3)):
        raise DeviceError(f"'{name:.40}' is no device; --device is {DEVICES}")
    return kind


def _missing(name: str, why: str) -> DeviceError:
    return DeviceError(
        f"there is no device '{name}' here, on {platform.node() or 'this machine'}: {why}; use --device cpu, or go on "
        "with a run that began on such a device where there is one"
    )


@contextmanager
def whole_float32() -> Iterator[None]:
    """Keep CUDA from rounding the factors of float32 products to ten bits inside (TF32), as it does in convolutions.

    Of cuDNN's algorithms, those are used that give the same result each time.
    """
    cudnn: Any = torch.backends.cudnn
    wanted = [(torch.backends.cuda.matmul, "allow_tf32", False), (cudnn, "allow_tf32", False)]
    wanted += [(cudnn, "deterministic", True), (cudnn, "benchmark", False)]
    before = [getattr(place, name) for place, name, _ in wanted]
    try:
        for place, name, value in wanted:
            setattr(place, name, value)
        yield
    finally:
        for (place, name, _), value in zip(wanted, before, strict=True):
            setattr(place, name, value)


@contextmanager
def computing() -> Iterator[None]:
    """Compute inside such that results depend on nothing but the kind of device: with whole float32, on one thread.

    On several threads of a CPU the order of sums, and with it the last bits, would depend on their number.

    Raises:
        DeviceError: the device has no memory left.
    """
    with one_thread(), whole_float32():
        try:
            yield
        except torch.cuda.OutOfMemoryError as error:
            raise DeviceError(
                f"a device has no memory left: use fewer --workers, which share it, or a smaller --batch; nothing that "
                f"was finished is lost ({str(error).partition('.')[0]})"
            ) from error


def held_on(device: torch.device, matrices: Tensor) -> Tensor:
    """Return matrices on the device if statistics then take at most half of its memory, else as they are.

    The other half is for computing, and for other processes that share the device. Only CUDA tells its memory.
    """
    if device.type != "cuda":
        return matrices
    free, whole = torch.cuda.mem_get_info(device)
    return matrices.to(device) if free - matrices.nbytes >= whole / 2 else matrices


def wait_for(device: torch.device) -> None:
    """Wait until the device has done what it was given, before a clock is read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
