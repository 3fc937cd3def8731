"""Source digest: tells whether stored numbers, or those of a worker, follow from the code that runs here."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

import torch


def source_digest(files: Iterable[Path], *facts: str) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of torch's version, the facts, and the files in this order.

    The names of the files do not count, so that the digest is the same wherever autoprox is installed.
    """
    digest = hashlib.sha256(f"{len(facts)} facts".encode())
    for part in (torch.__version__.encode(), *(fact.encode() for fact in facts)):
        digest.update(hashlib.sha256(part).digest())
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def source_file(name: str) -> Path:
    """Return the file of a module."""
    loaded = sys.modules.get(name)
    spec = None if loaded else find_spec(name)
    return Path(str(loaded.__file__ if loaded else spec and spec.origin))


def source_files(modules: Iterable[str], package: str) -> list[Path]:
    """Return the files of the modules and of what they import from the package, directly or not, by module name.

    The package's own `__init__` is left out: it gathers names for users, and so imports far more than is used here.
    """
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found[name] = source_file(name)
        waiting += [
            other for other in imported_names(found[name]) if other.startswith(f"{package}.") and _is_module(other)
        ]
    return [found[name] for name in sorted(found)]


def imported_names(file: Path) -> Iterator[str]:
    """Yield the names of modules that a file may import: `from a import b` reads the module a, and perhaps a.b."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _is_module(name: str) -> bool:
    try:
        return name in sys.modules or find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is a module, so this is something in it
        return False
