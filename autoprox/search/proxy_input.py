"""What the networks of a search read where nothing is said: what they read in the benchmark that the proxy is of."""

from __future__ import annotations

from collections.abc import Sequence

from autoprox.bench_cache.benchmarks.library import load_benchmark
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.bench_cache.spaces.registry import ArchitectureError, InputSpec
from autoprox.scoring import AnyProxy
from autoprox.search.batch import Batch


def input_of_proxies(space: str, proxies: Sequence[AnyProxy]) -> tuple[InputSpec, str] | None:
    """Return the input of the first benchmark of this space that a proxy was evolved on, and the benchmark's name.

    `space` is a name as `pinned` gives it. None where no such benchmark is here.
    """
    found = _benchmark(space, proxies)
    return None if found is None or found.spec is None else (found.spec, found.name)


def images_of_proxies(space: str, proxies: Sequence[AnyProxy], count: int) -> Batch | None:
    """Return the first images of that benchmark that fit that input; None where it has none."""
    found = _benchmark(space, proxies)
    if found is None:
        return None
    for given in found.inputs.values():
        if given.spec == found.spec:
            return Batch(images=given.images[:count].copy(), targets=given.targets[:count].copy())
    return None


def _benchmark(space: str, proxies: Sequence[AnyProxy]) -> Benchmark | None:
    for proxy in proxies:
        names = proxy.provenance.get("benchmarks")
        for name in names if isinstance(names, list) else []:
            try:
                benchmark = load_benchmark(str(name))
            except (BenchmarkError, ArchitectureError, OSError):  # it was a file, or is not downloaded here
                continue
            if benchmark.space == space and benchmark.spec is not None:
                return benchmark
    return None
