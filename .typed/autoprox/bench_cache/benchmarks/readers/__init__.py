"""Readers of benchmark files: one module for each format, and a function that finds the right one by the content.

To add a format, write a module here with a constant `READER` (see `record`). Nothing else names it.

No file is trusted: no code in it is run, and one bad record refuses the whole file.
"""

from __future__ import annotations

import os
import pkgutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from autoprox.bench_cache.benchmarks.readers.record import Content, Reader
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.runtime.checks import BenchmarkError, parse_json, read_bounded

__all__ = ["READERS", "Reader", "read_benchmark"]

#: The readers, in the order of their modules' names. The first that recognises a file reads it.
READERS: tuple[Reader, ...] = tuple(
    pkgutil.resolve_name(f"{__name__}.{module}:READER")
    for module in sorted(module.name for module in pkgutil.iter_modules(__path__))
    if module != "record"
)


def read_benchmark(
    path: str | os.PathLike[str], name: str | None = None, spaces: Sequence[str] = (), *, changed: bool = False
) -> Benchmark:
    """Return the benchmark in a file: our own JSON or one of the public formats, which its content tells.

    `name` replaces the default name. The default of our JSON is the name in the file. The public formats have
    vit-bench-101-autoformer, vit-bench-101-pit, ood-vit-nas-tiny (-small, -base), and `hytas-` with the first word of
    the file's name, such as hytas-indian, because a HyTAS file does not say which scene it is of.
    `spaces` and `changed` are those of `Benchmark.from_bytes`.

    Raises:
        BenchmarkError: no reader recognises the file, or one record cannot be used; the message names the file, the
            record, and why.
        OSError: the file cannot be read.
    """
    try:
        content = Content(read_bounded(path), Path(path).stem, Path(path).parent, spaces, changed)
        reader = next((reader for reader in READERS if reader.recognises(content)), None)
        benchmark = _refuse(content) if reader is None else reader.read(content)
        return benchmark if name is None else replace(benchmark, name=name)
    except BenchmarkError as error:
        raise BenchmarkError(f"{path}: {error}") from error


def _refuse(content: Content) -> Benchmark:
    """Raise the error of a file that no reader recognises."""
    if content.is_json_object:
        parse_json(content.data)  # says where it breaks off, if it does
    kind = "JSON of no known benchmark" if content.is_json_object else "no known benchmark format"
    raise BenchmarkError(f"{kind}; known are: {'; '.join(reader.name for reader in READERS)}")
