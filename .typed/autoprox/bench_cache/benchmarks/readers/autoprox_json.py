"""Reader of our own JSON format (docs/benchmark-format.md)."""

from __future__ import annotations

from autoprox.bench_cache.benchmarks.readers.record import Content, Reader
from autoprox.bench_cache.benchmarks.table import FORMAT, Benchmark


def _recognises(content: Content) -> bool:
    return content.json.get("format") == FORMAT


def _read(content: Content) -> Benchmark:
    return Benchmark.from_bytes(content.data, content.spaces, changed=content.changed)


READER = Reader(f'JSON of autoprox, with "format": "{FORMAT}"', _recognises, _read)
