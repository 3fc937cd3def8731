"""Arguments: what the Python API and the command line take, read in the same way."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from autoprox.bench_cache.benchmarks.library import load_benchmarks
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.runtime.local_pool import Workers
from autoprox.bench_cache.spaces.registry import InputSpec, built_in
from autoprox.primitives import Vocabulary
from autoprox.scoring import FunctionProxy
from autoprox.vocabulary import vocabulary

_SPEC = InputSpec()

#: A benchmark, or the name or file of one.
BenchmarkLike = Benchmark | str | os.PathLike
#: A vocabulary, or what names a user's operations: FILE.py, FILE.py:NAME, or the name that a package offers.
Operations = Vocabulary | str | Sequence[str]


class ArgumentError(ValueError):
    """An argument of the Python API that cannot be; one line says why."""


def split_outside_brackets(text: str) -> list[str]:
    """Return the parts between commas; a comma inside brackets belongs to a formula and splits nothing."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([") - (character in ")]")
        if character == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def one_by_one(given: Any) -> list[Any]:
    """Return the entries of a list or tuple, or what is given as the only entry."""
    return list(given) if isinstance(given, list | tuple) else [given]


def texts(value: str | Iterable[str] | None) -> list[str]:
    """Return the names in a text, with commas between them, or in a list of such texts."""
    given = [value] if isinstance(value, str) else list(value or ())
    return [name for text in given for name in split_outside_brackets(text)]


def benchmarks(given: BenchmarkLike | Iterable[BenchmarkLike], spaces: Sequence[str] = ()) -> list[Benchmark]:
    """Return the benchmarks that are meant by one reference or several; `spaces` are the users' spaces of theirs.

    Raises:
        BenchmarkError: there is no such benchmark, or its file cannot be used.
        ArchitectureError: a space that is named cannot be loaded.
    """
    return load_benchmarks([given] if isinstance(given, BenchmarkLike) else list(given), spaces)


def spaces_of(found: Iterable[Benchmark], named: str | Iterable[str]) -> list[str]:
    """Return the users' spaces that are named, and then those of the benchmarks."""
    of_benchmarks = (each.space for each in found if each.space is not None and each.space not in built_in())
    return list(dict.fromkeys([*texts(named), *of_benchmarks]))


def known_operations(operations: Operations) -> tuple[Vocabulary, list[str]]:
    """Return the vocabulary that is meant, and the references that name a user's operations in it.

    Raises:
        OperationError: there are no such operations.
    """
    if isinstance(operations, Vocabulary):
        return operations, []
    references = texts(operations)
    return vocabulary(references), references


def input_spec(
    image_size: int, channels: int, classes: int = _SPEC.num_classes, patch_size: int | None = None
) -> InputSpec:
    """Return what networks read; a patch of which nothing is said is never larger than the image."""
    if patch_size is None:
        patch_size = max(min(_SPEC.patch_size, image_size), 1)
    return InputSpec(image_size, channels, classes, patch_size)


def checked_workers(workers: Workers) -> Workers:
    """Return the number of processes, or the executor that stands for them.

    Raises:
        ArgumentError: it is no whole number of at least 1.
    """
    if not isinstance(workers, Executor) and (type(workers) is not int or workers < 1):
        raise ArgumentError(f"workers is {workers!r}; it must be at least 1")
    return workers


def check_functions(proxies: Iterable[object], workers: Workers) -> None:
    """Check that worker processes can import the functions among the proxies.

    Raises:
        ArgumentError: there are several workers, and one of the functions has no name that they can import.
    """
    for proxy in proxies:
        if workers == 1 or not isinstance(proxy, FunctionProxy):
            continue
        home = sys.modules.get(getattr(proxy.function, "__module__", ""))
        try:
            pickle.dumps(proxy.function)
            importable = home is not None and hasattr(home, "__file__")
        except (pickle.PicklingError, AttributeError, TypeError):
            importable = False
        if not importable:
            raise ArgumentError(
                f"worker processes cannot import the function {proxy.name}: use --workers 1, or define it at the top "
                "of a file"
            )


def numbered_directories(under: Path) -> list[Path]:
    """Return the folders whose names are numbers, in the order of the numbers."""
    return sorted((path for path in under.glob("*") if path.name.isdigit()), key=lambda path: int(path.name))


def next_directory(under: Path) -> Path:
    """Return the folder with the next free number: `under/001` where there is none yet."""
    taken = numbered_directories(under)
    return under / f"{int(taken[-1].name) + 1 if taken else 1:03d}"


def run_directory(under: Path, begun: str, out: str | os.PathLike[str] | None, resume: bool) -> Path:
    """Return the folder of a run: `out`, or the next numbered one in `under`, or to resume the last one there.

    Raises:
        ArgumentError: there is no run to resume, which is a folder that has the file `begun`.
    """
    if out is not None:
        return Path(out).expanduser()
    if not resume:
        return next_directory(under)
    runs = [path for path in numbered_directories(under) if (path / begun).exists()]
    if not runs:
        raise ArgumentError(f"there is no run in {under}/ to resume; name its directory with --out")
    return runs[-1]
