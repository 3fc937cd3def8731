"""Versions: what a run's results depend on besides its settings; its journal records them."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping

import numpy as np
import torch


def versions() -> dict[str, str]:
    """Return the versions of autoprox, torch and numpy in this process, and the kind of processor.

    That is its architecture and the vector instructions that torch uses, on which the last bits of sums depend: in a
    training that is unstable these become points of accuracy (docs/micro-vit.md).
    """
    package = sys.modules[__name__.partition(".")[0]]  # by name, because no lower room may import the top
    return {
        "autoprox": package.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
    }


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Return what differs as a part of a sentence, such as `torch 2.12.0 (now 2.13.0)`; "" if nothing does."""
    return ", ".join(
        f"{name} {before.get(name, 'unknown')} (now {now.get(name, 'unknown')})"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    )
