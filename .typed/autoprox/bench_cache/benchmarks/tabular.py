"""Tabular benchmarks: in place of a space they have the settings of architectures, and sizes that the table states."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from autoprox.bench_cache.runtime.checks import Scalar, is_number

#: Where a table may have what a space would compute: the first of these names that is a column or a setting counts.
SOURCES = {
    "params": ("params", "m_size"),
    "flops": ("flops",),
    "activations": ("activations",),
    "depth": ("depth", "layer_num"),
    "width": ("width", "embed_dim"),
}


@dataclass(frozen=True)
class TabularArchitecture(Mapping[str, Any]):
    """An architecture of a tabular benchmark: its settings as the table has them; no space can build it."""

    pairs: tuple[tuple[str, Scalar | tuple[Scalar, ...]], ...]

    def __getitem__(self, name: str) -> Any:
        for key, value in self.pairs:
            if key == name:
                return value
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def key(self) -> str:
        """Return one line of text: two are equal exactly if the settings are, in any order and with 4.0 equal to 4."""
        whole = {
            name: [_whole(entry) for entry in value] if isinstance(value, tuple) else _whole(value)
            for name, value in self.pairs
        }
        return "tabular:" + orjson.dumps(whole, option=orjson.OPT_SORT_KEYS).decode()


def tabular_structure(
    architectures: Sequence[Mapping[str, Any]], columns: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return those facts of `SOURCES` that the table has, float64 of shape (architectures,).

    A setting with a value for each layer counts as its mean.
    """
    found = {fact: _first(names, architectures, columns) for fact, names in SOURCES.items()}
    return {fact: values for fact, values in found.items() if values is not None}


def _first(
    names: Sequence[str], architectures: Sequence[Mapping[str, Any]], columns: Mapping[str, np.ndarray]
) -> np.ndarray | None:
    for name in names:
        if name in columns:
            return columns[name]
        values: list[Any] = [arch.get(name) for arch in architectures]
        if all(_is_numeric(value) for value in values):
            return np.array([np.mean(value) for value in values], dtype=np.float64)
    return None


def _is_numeric(value: object) -> bool:
    return bool(value) and all(map(is_number, value)) if isinstance(value, tuple) else is_number(value)


def _whole(value: Scalar) -> Scalar:
    return int(value) if isinstance(value, float) and value.is_integer() else value
