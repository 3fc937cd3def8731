"""What an evolution needs: peak memory, disk for cached statistics, and the time until its first generation is judged.

    python benchmarks/footprint.py [--quick]

Every row is a process of its own with an empty AUTOPROX_HOME (or, where it says so, with the statistics of the row
above), from the start of Python. Peak memory is the largest resident size that the system noted of a process; the
operating system shares files and libraries between processes, so a sum over processes is an upper bound, but for the
process that workers are forks of, which shares nearly all that it has with them.
"""

import multiprocessing
import os
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click


@dataclass(frozen=True)
class Row:
    """One evolution: whose networks, how many workers, how far."""

    name: str
    real_size: bool
    networks: int
    workers: int
    generations: int
    population: int
    home: str


@dataclass(frozen=True)
class Footprint:
    """What it took. Memory in bytes, NaN where the system does not say."""

    started: float  # when Python and the libraries were there
    built: float  # when the statistics were
    first: float  # when the first generation was judged
    memory: float
    worker: float  # of the largest worker
    networks: int  # whose statistics are on disk
    disk: int


def peak_memory(pid: int) -> float:
    """The largest resident size so far of a process in bytes (Linux)."""
    status = Path(f"/proc/{pid}/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), float("nan"))


def evolution(row: Row, began: float) -> Footprint:
    """Run it in this process, which does nothing else."""
    os.environ["AUTOPROX_HOME"] = row.home
    from common import mini, real_size  # here: a run's workers import this file too, and what it imports is not theirs

    from autoprox.evolution import EvolutionWatcher, run_evolution, start_evolution

    benchmark = real_size(row.networks, others=3) if row.real_size else mini(row.networks)
    started = time.time() - began
    times, workers = {"built": started}, [0.0]

    def building(done: int, of: int) -> None:
        times["built"] = time.time() - began

    def generation(record: Mapping[str, Any]) -> None:
        times.setdefault("first", time.time() - began)
        workers.extend(peak_memory(child.pid or 0) for child in multiprocessing.active_children())
        if record["generation"] == row.generations:
            raise KeyboardInterrupt  # before anything is reported on the test split

    with tempfile.TemporaryDirectory() as folder:
        start_evolution(
            [benchmark], (), Path(folder) / "run", generations=row.generations + 1, population=row.population
        )
        run_evolution(Path(folder) / "run", workers=row.workers, watch=EvolutionWatcher(building, generation))
    entries = [path for path in Path(row.home).glob("statistics/*/*") if path.is_dir()]  # beside the numbers of parts
    size = sum(file.stat().st_size for entry in entries for file in entry.iterdir())
    peaks = peak_memory(os.getpid()), max(workers)
    return Footprint(started, times["built"], times["first"], *peaks, len(entries), size)


def measured(row: Row) -> Footprint:
    """The footprint of a row, in a new process."""
    began = time.time()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(evolution, row, began).result()


def cells(row: Row, found: Footprint) -> list[str]:
    """A line of the table."""
    from common import number

    return [
        row.name,
        str(row.workers),
        f"{found.started:.1f}",
        f"{found.built:.1f}",
        f"{found.first:.1f}",
        number(found.memory / 1e6),
        number(found.worker / 1e6) if found.worker else "",
        str(found.networks),
        number(found.disk / 1e6),
        number(found.disk / found.networks / 1e6),
    ]


def plan(quick: bool, folder: Path) -> list[Row]:
    """The rows; those with the same home follow each other."""
    small, large = (24, 7) if quick else (200, 10)
    far, many = (1, 8) if quick else (10, 30)
    few = 5 if quick else 10  # as few networks have as few different rankings
    return [
        Row(f"mini-vit, {small} architectures, cold", False, small, 1, far, many, str(folder / "one")),
        Row(f"mini-vit, {small} architectures, cached", False, small, 1, far, many, str(folder / "one")),
        Row(f"mini-vit, {small} architectures, cold", False, small, 2, far, many, str(folder / "two")),
        Row(f"autoformer-tiny 224 px, {large + 6} architectures, cold", True, large, 2, 1, few, str(folder / "large")),
    ]


@click.command()
@click.option("--quick", is_flag=True, help="A short run, for a check that everything works.")
def main(quick: bool) -> None:
    """Print one table: seconds to the first generation, peak memory, and bytes on disk."""
    with tempfile.TemporaryDirectory(prefix="autoprox-bench-") as folder:
        rows = [(row, measured(row)) for row in plan(quick, Path(folder))]
    from common import table

    table(
        "What an evolution needs",
        ("", "workers", "started\ns", "statistics\ns", "generation 0\ns", "main\nMB", "a worker\nMB",
         "kept\nnetworks", "disk\nMB", "a network\nMB"),
        [cells(row, found) for row, found in rows],
        (
            "Seconds from the start of Python. Peak memory of the main process, and of the largest worker, until "
            f"generation {rows[0][0].generations} (real-size: {rows[-1][0].generations}).",
            "Kept networks: architectures of the evolve split, and of small ones the validation split too, for each "
            "input that the tasks have.",
        ),
    )  # fmt: skip


if __name__ == "__main__":
    main()
