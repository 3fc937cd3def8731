"""Devices: where networks run, and float32 there as it is on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from autoprox.api.arguments import ArgumentError

#: What a device may be called, for help and messages.
DEVICES = "auto, cpu, cuda, cuda:N or mps"


def chosen_device(name: str) -> torch.device:
    """Return the device of a name; `auto` is the first CUDA GPU, or the CPU where there is none.

    Raises:
        ArgumentError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and (kind != "cuda" or not number.isdecimal())):
        raise ArgumentError(f"'{name:.40}' is no device; --device is {DEVICES}")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        there = torch.cuda.device_count()
        raise ArgumentError(f"there is no device '{name}' here: CUDA has {there} GPUs; use --device cpu")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ArgumentError("there is no device 'mps' here; use --device cpu")
    return torch.device(name)


@contextmanager
def whole_float32() -> Iterator[None]:
    """Keep CUDA from rounding the factors of float32 products to ten bits inside (TF32), as it does in convolutions."""
    places: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [place.allow_tf32 for place in places]
    try:
        for place in places:
            place.allow_tf32 = False
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.allow_tf32 = value
