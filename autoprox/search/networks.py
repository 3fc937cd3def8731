"""The architectures of a search's result as files: JSON and YAML of the genes, and Python that builds the network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autoprox.bench_cache.runtime.files import write_atomically
from autoprox.bench_cache.spaces.registry import InputSpec
from autoprox.export.networks import genes_files, network_files

#: The folder of these files in the directory of a search. Row 1 has the files row_1.json, row_1.yaml and row_1.py.
NETWORKS = "networks"
_ROW = re.compile(r"row_(\d+)\.(json|yaml|py)")


def write_networks(out: Path, space: str | None, spec: InputSpec | None, archs: Sequence[Any]) -> None:
    """Write the files of each architecture, and remove those of rows that an earlier result had more.

    Without a space there are genes alone, as mappings, and no network can be built.
    """
    folder = out / NETWORKS
    for row, arch in enumerate(archs, 1):
        files = genes_files(dict(arch)) if space is None or spec is None else network_files(space, arch, spec)
        _write(folder, f"row_{row}", files)
    for path in folder.glob("row_*"):
        match = _ROW.fullmatch(path.name)
        if match and int(match[1]) > len(archs):
            path.unlink()


def _write(folder: Path, name: str, files: Mapping[str, str]) -> None:
    for ending, text in files.items():
        write_atomically(folder / f"{name}.{ending}", text.encode())
