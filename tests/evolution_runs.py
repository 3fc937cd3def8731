"""Short runs of an evolution on a made-up benchmark, which may be stopped at a generation."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import synthetic

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.evolution import (
    EvolutionWatcher,
    start_evolution,
)

BENCHMARK = synthetic.benchmark(16)
CHOICES: dict[str, Any] = {"generations": 3, "population": 5, "seed": 1, "founders": 1}


def begin(out: Path, *benchmarks: Benchmark, **choices: Any) -> Path:
    start_evolution(benchmarks or [BENCHMARK], ["*_kd"], out, **{**CHOICES, **choices})
    return out


def at_generation(number: int, do: Callable[[], None]) -> EvolutionWatcher:
    def generation(record: Mapping[str, Any]) -> None:
        if record["generation"] == number:
            do()

    return EvolutionWatcher(generation=generation)


def interrupt() -> None:
    raise KeyboardInterrupt
