"""What each mechanism of evolution buys: variants beside the default, at equal evaluations, over several seeds.

    python benchmarks/ablation.py --out FOLDER [--bench NAME]... [--tasks A,B] [--variant NAME]... [--evaluations N]
                                  [--seeds N] [--population N] [--transfer NAME]... [--test]

A run ends with the generation in which its evaluations are over; one evaluation is one canonical form judged on the
evolve split. A killed script goes on where it was: every run is a folder of its own in FOLDER, named by its variant and
seed, with the journal of its evolution and `ablation.json`, what the table needs. `--transfer` names benchmarks on
which nothing was evolved; tau there is on the validation split, and a formula that is constant there has 0. The test
split is looked at with `--test` alone.
"""

import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import common
import numpy as np

from autoprox.bench_cache.benchmarks.library import DEFAULT_BENCHMARK, load_benchmarks
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.runtime.files import write_atomically
from autoprox.bench_cache.runtime.home import statistics_home
from autoprox.bench_cache.statistics.columns import TabularScorer
from autoprox.bench_cache.statistics.scorer import network_scorer
from autoprox.evolution import JOURNAL, EvolutionWatcher, run_evolution, start_evolution
from autoprox.evolve import FORMULA, TABULAR, Judge, choose_tasks, report
from autoprox.evolve.fitness import kendalls
from autoprox.primitives import Formula, parse

#: The variants by name: what each changes in the settings of the default.
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "given-structure": {"joint": "given-structure"},
    "niches": {"strategy": "niches"},
    "sums": {"refine": "sums"},
    "niches+sums": {"strategy": "niches", "refine": "sums"},
}
ENDLESS = 10**6  # generations; evaluations end a run


def judge_of(benchmarks: Sequence[Benchmark], tasks: Sequence[str], grammar: str) -> Judge:
    """The judge of the tasks, on the statistics that evolution keeps."""
    root = statistics_home()
    scorers = [
        TabularScorer(benchmark, network=network)
        if grammar == TABULAR
        else network_scorer(benchmark, root, network=network)
        for benchmark in benchmarks
        for network in benchmark.networks()
    ]
    return Judge(scorers, choose_tasks(benchmarks, tasks))


def evolved(folder: Path, evaluations: int) -> dict[str, Any]:
    """The facts of one run, which goes on from where it was and ends when its evaluations are over."""

    def until(record: Any) -> None:
        if record["unique"] >= evaluations:
            raise KeyboardInterrupt

    began = time.monotonic()
    result = run_evolution(folder, watch=EvolutionWatcher(generation=until))
    with (folder / JOURNAL).open() as lines:
        done = json.loads([*lines][-1])["unique"]
    rows = {split: result.report.row(FORMULA, split) for split in ("evolve", "validation")}
    return {
        "formula": result.proxy.formula.text,
        "nodes": result.proxy.formula.size,
        "evaluations": done,
        "seconds": time.monotonic() - began,
        "evolve": rows["evolve"].tau,
        "validation": rows["validation"].tau,
        "given fitted": rows["validation"].given_fitted,
    }


def mean_tau(judge: Judge, formula: Formula, split: str) -> float:
    """The formula's mean tau on a split, 0 where it is constant."""
    scores = judge.scores([formula], split)
    pairs = zip(judge.places, judge.tasks, strict=True)
    taus = [kendalls(scores[place], judge.accuracies(task, split))[0] for place, task in pairs]
    return float(np.mean(np.nan_to_num(taus)))


def cell(values: Sequence[float | None]) -> str:
    """Mean and standard deviation over the seeds."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    spread = f" ± {statistics.stdev(known):.3f}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):.3f}{spread}"


@click.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the runs.")
@click.option("--bench", "benches", multiple=True, default=(DEFAULT_BENCHMARK,), show_default=True)
@click.option("--tasks", default="", help="Tasks as `autoprox evolve` takes them.")
@click.option("--variant", "names", multiple=True, type=click.Choice(list(VARIANTS)), help="Variants.  [default: all]")
@click.option("--evaluations", default=2000, show_default=True, help="Formulas that a run judges.")
@click.option("--seeds", default=5, show_default=True, help="Seeds of each variant.")
@click.option("--population", default=30, show_default=True, help="Formulas of a generation.")
@click.option("--grammar", default="typed", show_default=True, help="Grammar.")
@click.option("--transfer", multiple=True, metavar="NAME", help="Benchmarks on which the results are judged too.")
@click.option("--test", "look", is_flag=True, help="Look at the test split.")
def main(out: Path, benches: Sequence[str], tasks: str, names: Sequence[str], evaluations: int, seeds: int,
         population: int, grammar: str, transfer: Sequence[str], look: bool) -> None:  # fmt: skip
    """Run what is missing and print one table: mean taus over the tasks, mean and standard deviation over the seeds."""
    patterns = [task for task in tasks.split(",") if task]
    benchmarks, others = load_benchmarks(benches), load_benchmarks(transfer) if transfer else []
    judge, elsewhere = judge_of(benchmarks, patterns, grammar), {b.name: judge_of([b], (), grammar) for b in others}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names or VARIANTS}
    for seed in range(seeds):
        for name, of_variant in found.items():
            folder = out / f"{name}-{seed}"
            file = folder / "ablation.json"
            if not file.exists():
                if not (folder / JOURNAL).exists():
                    choices = {"generations": ENDLESS, "population": population, "grammar": grammar, **VARIANTS[name]}
                    start_evolution(benchmarks, patterns, folder, seed=seed, **choices)
                write_atomically(file, json.dumps(evolved(folder, evaluations)).encode())
            facts = json.loads(file.read_bytes())
            formula = parse(facts["formula"])
            facts |= {other: mean_tau(of_other, formula, "validation") for other, of_other in elsewhere.items()}
            if look:
                row = report(judge, formula, ["test"]).row(FORMULA, "test")
                facts |= {"test": row.tau, "test given fitted": row.given_fitted}
            of_variant.append(facts)
            print(f"{name}, seed {seed}: {facts}", flush=True)
    heads = ["evolve", "validation", "given fitted", *elsewhere, *(["test", "test given fitted"] if look else [])]
    rows = [
        [
            name,
            *(f"{statistics.fmean(f[what] for f in each):,.0f}" for what in ("evaluations", "seconds", "nodes")),
            *(cell([facts[what] for facts in each]) for what in heads),
        ]
        for name, each in found.items()
    ]
    title = f"{', '.join(benches)} {tasks}: mean tau, {seeds} seeds, mean ± standard deviation"
    common.table(title, ["variant", "evaluations", "seconds", "nodes", *heads], rows)


if __name__ == "__main__":
    main()
