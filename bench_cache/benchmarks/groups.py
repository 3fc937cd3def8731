"""Groups: architectures of one depth, family or size, within which a benchmark's taus are reported too.

A tau over all architectures can come from one coarse fact: in FlexiBERT the depth, in networks of several authors the
family. The tau within groups compares only pairs of one group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from autoprox.bench_cache.rank_correlation import tau_b
from autoprox.bench_cache.runtime.checks import BenchmarkError, check_name, quoted

#: The fewest architectures of a group for which a tau is computed.
FEWEST = 3
_LONGEST = 64


@dataclass(frozen=True)
class WithinTau:
    """Kendall's tau-b within groups; NaN where no group can be used.

    `groups` were used, with `pairs` pairs of architectures.
    """

    tau: float
    groups: int
    pairs: int


def within_tau(scores: np.ndarray, accuracies: np.ndarray, labels: np.ndarray) -> WithinTau:
    """Return the mean of tau-b within each group, weighted by the group's pairs n (n − 1) / 2.

    `labels` names the group of each architecture, "" for none. Architectures without a score or an accuracy are left
    out. A group with fewer than 3 architectures, or with one accuracy only, is not used. In a group that is used, a
    constant score counts as tau 0.
    """
    taus, weights = [], []
    for label in dict.fromkeys(labels.tolist()):
        inside = (labels == label) & ~np.isnan(scores) & ~np.isnan(accuracies)
        x, y = scores[inside], accuracies[inside]
        if label and len(x) >= FEWEST and len(np.unique(y)) > 1:
            taus.append(tau_b(x, y) if len(np.unique(x)) > 1 else 0.0)
            weights.append(len(x) * (len(x) - 1) // 2)
    tau = float(np.average(taus, weights=weights)) if taus else float("nan")
    return WithinTau(tau, len(taus), sum(weights))


def checked_groups(groups: Mapping[str, Any], count: int) -> Mapping[str, np.ndarray]:
    """Return the labels of `count` architectures by group, as read-only arrays of text.

    Raises:
        BenchmarkError: a name cannot be one, or an array has another length, or a label is no short line of text.
    """
    checked = {}
    for name, labels in groups.items():
        check_name(name, "group")
        array = np.array([check_label(label, f"group {name}") for label in labels], dtype=np.str_)
        if array.shape != (count,):
            raise BenchmarkError(f"group {name} has shape {array.shape} for {count} architectures")
        array.setflags(write=False)
        checked[name] = array
    return MappingProxyType(checked)


def check_label(label: object, what: str) -> str:
    """Return the name of a group; "" for None, which stands for no group in a file.

    Raises:
        BenchmarkError: it is no printable text of at most 64 characters.
    """
    if label is None:
        return ""
    if not isinstance(label, str) or len(label) > _LONGEST or not label.isprintable():
        raise BenchmarkError(f"{what} is {quoted(label)}, not a line of text with at most {_LONGEST} characters")
    return str(label)
