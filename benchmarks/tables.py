"""Formulas a second over a benchmark's table, and what they find in equal time: autoprox, its peers, an earlier build.

    python benchmarks/tables.py [--quick] [--bench NAME] [--peers PYTHON] [--earlier FOLDER]

All sides read the same statistics of the same architectures and have the same population. Each run is a process of its
own with one thread; the sides take turns, seed by seed.

- Peers are skipped where they are not installed. To have them: `python -m venv peers`, `peers/bin/pip install gplearn
  pyoperon` and what autoprox needs, then `--peers peers/bin/python`.
- gplearn maximises Kendall's tau on the evolve split, as autoprox does. It runs with its default penalty on length and
  without one, and its fitness is scipy's `kendalltau` or the tau of autoprox.
- pyoperon is written in C++ and maximises R² on the accuracies' ranks: it has no rank correlation.
- A forest of scikit-learn's says how much the columns tell of the accuracies.
- FOLDER is a checkout of an earlier build: `git worktree add ../earlier COMMIT`, then `--earlier ../earlier`.

Without --bench the table is hytas-indian, if that was imported (autoprox bench import indian.csv), else a made-up one.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import click
import numpy as np
from forest_comparison import forests
from gplearn_comparison import PARSIMONY, Outcome, gplearns, ours, scipys
from operon_comparison import operons

from autoprox.bench_cache.benchmarks.library import load_benchmark
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.benchmarks.tabular import TabularArchitecture
from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.evolve import kendall

HERE = Path(__file__).resolve()
USUAL = "hytas-indian"
NOW, EARLIER = "autoprox", "autoprox, earlier build"

Run = Callable[[Sequence[Benchmark], float, int, int], Outcome]

SIDES: dict[str, Run] = {
    NOW: ours,
    EARLIER: ours,
    **{
        f"gplearn, parsimony {parsimony:g}, {whose} tau": (
            lambda benchmarks, seconds, seed, population, parsimony=parsimony, tau=tau: gplearns(
                benchmarks, seconds, seed, parsimony, population, tau
            )
        )
        for parsimony in (PARSIMONY, 0.0)
        for whose, tau in (("scipy's", scipys), ("autoprox's", kendall))
    },
    "pyoperon, R² of ranks": operons,
    "forest, which is no formula": forests,
}
#: The packages that sides need, by the first word of their names.
PEERS = {"gplearn": "gplearn", "pyoperon": "pyoperon", "forest,": "sklearn"}


@dataclass(frozen=True)
class Setting:
    """How long, how often and with which population each side runs."""

    seconds: float
    seeds: int
    population: int


def made_up(architectures: int = 2000, columns: int = 14) -> Benchmark:
    """A table of noisy columns, and an accuracy that a product and a sum of some of them tell a part of."""
    rng = np.random.default_rng(0)
    found = {f"c{n}": rng.lognormal(size=architectures) for n in range(columns)}
    told = np.log(found["c0"]) + found["c1"] * found["c2"] ** 0.5 - 0.5 * found["c3"]
    accuracy = 60 + 8 * np.tanh(told / 3) + rng.normal(0, 2, architectures)
    settings = tuple(TabularArchitecture((("number", n),)) for n in range(architectures))
    return Benchmark("made-up", None, None, "made up", settings, {"accuracy": accuracy}, found)


def chosen(name: str, quick: bool) -> Benchmark:
    """The benchmark of a name; without one the usual one if it is here, else a made-up one."""
    if quick and not name:
        return made_up(200, 6)
    try:
        return load_benchmark(name or USUAL)
    except BenchmarkError:
        if name:
            raise
        return made_up()


def run(side: str, python: str, build: Path, file: Path, setting: Setting, seed: int) -> Outcome:
    """One run, in a process of its own."""
    task = {"side": side, "file": str(file), "seed": seed, **vars(setting)}
    environment = os.environ | {"PYTHONPATH": str(build), "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": ""}
    ran = subprocess.run(
        [python, str(HERE), "--run", json.dumps(task)], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return Outcome(**json.loads(ran.stdout))


def carried_out(task: dict) -> None:
    """Do what `run` asks for, and print the outcome."""
    benchmark = load_benchmark(task["file"])
    found = SIDES[task["side"]]([benchmark], task["seconds"], task["seed"], task["population"])
    print(json.dumps(vars(found)))


def has(package: str, python: str) -> bool:
    """Whether a Python has a package, and what autoprox needs."""
    if python == sys.executable:
        return find_spec(package) is not None
    command = [python, "-c", f"import {package}, click, autoprox.evolution"]
    environment = os.environ | {"PYTHONPATH": str(HERE.parent.parent)}
    return subprocess.run(command, env=environment, stderr=subprocess.DEVNULL, check=False).returncode == 0


def rows(found: dict[str, list[Outcome]]) -> list[list[str]]:
    """The lines of the table, with each rate as a multiple of gplearn's fastest and of the earlier build's."""
    from common import median, number

    rates = {side: median([o.judged / o.seconds for o in outcomes]) for side, outcomes in found.items()}
    of_gplearn = max((rate for side, rate in rates.items() if side.startswith("gplearn")), default=None)
    lines = []
    for side, outcomes in found.items():
        taus = [float(np.mean(outcome.taus)) for outcome in outcomes]
        spread = f"{median(taus):.4f} ({min(taus):.4f} … {max(taus):.4f})"
        if rates[side]:
            ratios = [number(rates[side] / other) if other else "" for other in (of_gplearn, rates.get(EARLIER))]
            lines.append([side, number(median([o.judged for o in outcomes])), number(rates[side]), *ratios, spread])
        else:
            lines.append([side, "–", "–", "–", "–", spread])
    return lines


@click.command()
@click.option("--quick", is_flag=True, help="A short run, for a check that everything works.")
@click.option("--bench", default="", metavar="NAME", help=f"A benchmark.  [default: {USUAL}, or a made-up one]")
@click.option("--seconds", type=float, help="Seconds of the processor for each run.  [default: 20]")
@click.option("--peers", default=sys.executable, metavar="PYTHON", help="A Python that has gplearn and pyoperon.")
@click.option("--earlier", type=click.Path(exists=True, path_type=Path), help="A checkout of an earlier build.")
@click.option("--run", "task", hidden=True)
def main(quick: bool, bench: str, seconds: float | None, peers: str, earlier: Path | None, task: str | None) -> None:
    """Print one table: formulas a second, and test tau at equal time."""
    if task:
        carried_out(json.loads(task))
        return
    from common import table  # not above: a run of an earlier build has not all that this imports

    setting = Setting(0.5, 1, 40) if quick else Setting(seconds or 20.0, 5, 1000)
    benchmark, skipped = chosen(bench, quick), []
    sides = {NOW: (sys.executable, HERE.parent.parent)}
    if earlier:
        sides[EARLIER] = (sys.executable, earlier.resolve())
    else:
        skipped.append("No earlier build: --earlier FOLDER was not given.")
    for peer, package in PEERS.items():
        if has(package, peers):
            sides |= {side: (peers, HERE.parent.parent) for side in SIDES if side.startswith(peer)}
        else:
            skipped.append(
                f"No {package}: it is not installed; --peers PYTHON names one with it and all that autoprox needs."
            )
    found: dict[str, list[Outcome]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory(prefix="autoprox-bench-") as folder:
        file = Path(folder) / f"{benchmark.name}.json"
        benchmark.save(file)
        for seed in range(setting.seeds):
            for side, (python, build) in sides.items():
                found[side].append(run(side, python, build, file, setting, seed))
    splits = benchmark.splits()
    table(
        f"{benchmark.name}: {len(splits['evolve']):,} architectures to evolve on, population {setting.population:,}, "
        f"{setting.seconds:g} s of one processor a run, {setting.seeds} seeds",
        ("", "formulas", "a second", "× gplearn", "× earlier", "test tau: median (range)"),
        rows(found),
        (
            "Formulas are distinct ones for autoprox, and all that are evaluated for the others. Multiples are of the "
            "fastest row of gplearn. A run ends with the generation in which its time is over.",
            "On validation autoprox and gplearn choose among their finalists; pyoperon has one. The test split is "
            "looked at once a run. The forest is fitted on evolve, in less time.",
            *skipped,
        ),
    )


if __name__ == "__main__":
    main()
