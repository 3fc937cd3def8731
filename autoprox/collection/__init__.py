"""The collection: formulas that autoprox evolved and ships, each with where it comes from and its figures.

They are records of `collection.json`, which `benchmarks/collection.py` writes; docs/collection.md shows them.
`autoprox.Proxy.load(NAME)` returns one with its provenance.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from autoprox.collection.record import FILE, Figures, ShippedProxy, TaskFigures, read_collection

__all__ = ["COLLECTION", "Figures", "ShippedProxy", "TaskFigures"]

#: name → shipped formula, in the order in which `autoprox proxies` shows them.
COLLECTION: Mapping[str, ShippedProxy] = MappingProxyType({shipped.name: shipped for shipped in read_collection(FILE)})
