"""What each mechanism of evolution buys: variants beside the default, at equal evaluations, over several seeds.

    python benchmarks/ablation.py --out FOLDER [--bench NAME]... [--tasks A,B] [--unseen C,D] [--variant NAME]...
                                  [--evaluations N] [--seeds N] [--population N] [--transfer NAME]... [--runs N]
                                  [--test] [--page]

A run ends with the generation in which its evaluations are over; one evaluation is one canonical form judged on the
evolve split. A killed script goes on where it was: every run is a folder of its own in FOLDER, named by its variant and
seed, with the journal of its evolution and `ablation.json`, what the table needs. `--transfer` names benchmarks on
which nothing was evolved, and `--unseen` tasks of the same ones; tau there is on the validation split, and a formula
that is constant there has 0. The test split is looked at with `--test` alone, which does not go with `--runs`: there
several runs of other seeds stand for one, and the best of them on validation, and a vote of them by rank, get rows of
their own. `--page` writes the table into docs/results.md.

Variants that did not help are gone from the code. Their rows stay in `GONE`, each with the commit that had it.
"""

import json
import shlex
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import common
import numpy as np
from pages import DOCS, write_part

from autoprox.bench_cache.benchmarks.library import DEFAULT_BENCHMARK, load_benchmarks
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.rank_correlation import kendalls
from autoprox.bench_cache.runtime.files import write_atomically
from autoprox.bench_cache.runtime.home import statistics_home
from autoprox.bench_cache.statistics.columns import TabularScorer
from autoprox.bench_cache.statistics.scorer import network_scorer
from autoprox.evolution import JOURNAL, EvolutionWatcher, read_settings, run_evolution, start_evolution
from autoprox.evolve import FORMULA, TABULAR, Judge, choose_tasks, report
from autoprox.primitives import Formula, parse
from autoprox.zoo.az_nas import mean_rank

#: The variants by name: what each changes in the settings of the default.
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "2 samples": {"batch": 2},
    "no spectra": {"costly": False},
    "2 samples, no spectra": {"batch": 2, "costly": False},
    "no sums": {"refine": "none"},
    "as many founders as the population": {"founders": 1},
    "niches": {"strategy": "niches"},
    "20 nodes": {"max_nodes": 20},
    "given structure": {"joint": "given-structure"},
}
#: Between the seeds of runs that stand for one: those of seed s are s, 100 + s, 200 + s and so on.
APART = 100
#: Rows of variants that are gone from the code, each with the commit that had it.
GONE: tuple[tuple[str, ...], ...] = ()
#: What the table has without a spread.
COUNTS = ("evaluations", "seconds", "nodes")
ENDLESS = 10**6  # generations; evaluations end a run


def judge_of(benchmarks: Sequence[Benchmark], tasks: Sequence[str], grammar: str, batch: int) -> Judge:
    """The judge of the tasks, on the statistics that evolution keeps."""
    root = statistics_home()
    scorers = [
        TabularScorer(benchmark, network=network)
        if grammar == TABULAR
        else network_scorer(benchmark, root, network=network, batch=batch)
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


class Vote:
    """A judge for which the score of an architecture is the mean of its ranks by several formulas."""

    def __init__(self, judge: Judge, formulas: Sequence[Formula]) -> None:
        self._judge, self._formulas = judge, formulas

    def __getattr__(self, name: str) -> Any:
        return getattr(self._judge, name)

    def scores(self, formulas: Sequence[Formula], split: str) -> list[np.ndarray]:
        """The same for whatever formulas, in the form of `Judge.scores`."""
        return [
            mean_rank(of_one)[None].repeat(len(formulas), 0) for of_one in self._judge.scores(self._formulas, split)
        ]


@dataclass(frozen=True)
class Ablation:
    """What is compared on what; `elsewhere` are the benchmarks and tasks that only the results are judged on."""

    benchmarks: Sequence[Benchmark]
    tasks: Sequence[str]
    elsewhere: Mapping[str, tuple[Sequence[Benchmark], Sequence[str]]]
    evaluations: int
    choices: Mapping[str, Any]
    look: bool

    def facts(self, folder: Path, name: str, seed: int) -> dict[str, Any]:
        """Return the facts of a variant's run, which runs first where it has not."""
        file = folder / "ablation.json"
        if not file.exists():
            if not (folder / JOURNAL).exists():
                choices = {"generations": ENDLESS, **self.choices, **VARIANTS[name]}
                start_evolution(self.benchmarks, self.tasks, folder, seed=seed, **choices)
            write_atomically(file, json.dumps(evolved(folder, self.evaluations)).encode())
        facts = json.loads(file.read_bytes())
        formula, settings = parse(facts["formula"]), read_settings(folder)
        for where, (benchmarks, tasks) in self.elsewhere.items():
            judge = judge_of(benchmarks, tasks, settings.grammar, settings.batch)
            facts[where] = mean_tau(judge, formula, "validation")
        if self.look:
            judge = judge_of(self.benchmarks, self.tasks, settings.grammar, settings.batch)
            row = report(judge, formula, ["test"]).row(FORMULA, "test")
            facts |= {"test": row.tau, "test given fitted": row.given_fitted}
        return facts

    def together(self, out: Path, name: str, seed: int, runs: int) -> dict[str, dict[str, Any]]:
        """Return the facts of several runs that stand for one: of the best on validation, and of a vote by rank."""
        folders = [out / f"{name}-{seed + APART * number}" for number in range(runs)]
        of_each = [self.facts(folder, name, seed + APART * n) for n, folder in enumerate(folders)]
        spent = {what: sum(facts[what] for facts in of_each) for what in ("evaluations", "seconds")}
        formulas, settings = [parse(facts["formula"]) for facts in of_each], read_settings(folders[0])
        choices = settings.grammar, settings.batch
        judge = Vote(judge_of(self.benchmarks, self.tasks, *choices), formulas)
        of_split = {
            split: report(judge, formulas[0], [split]).row(FORMULA, split) for split in ("evolve", "validation")
        }
        voted = {split: row.tau for split, row in of_split.items()}
        voted |= {"nodes": sum(each.size for each in formulas), "given fitted": of_split["validation"].given_fitted}
        for where, (benchmarks, tasks) in self.elsewhere.items():
            voted[where] = mean_tau(Vote(judge_of(benchmarks, tasks, *choices), formulas), formulas[0], "validation")
        best = max(of_each, key=lambda facts: facts["validation"])
        return {f"the best of {runs} runs on validation": best | spent, f"a vote of {runs} runs": voted | spent}


def cell(values: Sequence[float | None]) -> str:
    """Mean and standard deviation over the seeds."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    spread = f" ± {statistics.stdev(known):.3f}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):.3f}{spread}"


def row_of(name: str, found: Sequence[Mapping[str, Any]], heads: Sequence[str]) -> list[str]:
    """The table's row of a variant."""
    counts = (f"{statistics.fmean(facts[what] for facts in found):,.0f}" for what in COUNTS)
    return [name, *counts, *(cell([facts[what] for facts in found]) for what in heads)]


def page(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of the part of docs/results.md."""
    yield f"    python benchmarks/ablation.py {shlex.join(sys.argv[1:])}"
    yield from ("", title, "", f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}")
    yield from (f"| {' | '.join(row)} |" for row in [*rows, *GONE])


@click.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the runs.")
@click.option("--bench", "benches", multiple=True, default=(DEFAULT_BENCHMARK,), show_default=True)
@click.option("--tasks", default="", help="Tasks as `autoprox evolve` takes them.")
@click.option("--unseen", default="", help="Tasks of the same benchmarks on which the results are judged too.")
@click.option("--variant", "names", multiple=True, type=click.Choice(list(VARIANTS)), help="Variants.  [default: all]")
@click.option("--evaluations", default=2000, show_default=True, help="Formulas that a run judges.")
@click.option("--seeds", default=5, show_default=True, help="Seeds of each variant.")
@click.option("--population", default=30, show_default=True, help="Formulas of a generation.")
@click.option("--grammar", default="typed", show_default=True, help="Grammar.")
@click.option("--transfer", multiple=True, metavar="NAME", help="Benchmarks on which the results are judged too.")
@click.option("--runs", default=1, show_default=True, help="How many runs stand for one, in further rows.")
@click.option("--test", "look", is_flag=True, help="Look at the test split.")
@click.option("--page", "write", is_flag=True, help="Write the table into docs/results.md.")
def main(out: Path, benches: Sequence[str], tasks: str, unseen: str, names: Sequence[str], evaluations: int,
         seeds: int, population: int, grammar: str, transfer: Sequence[str], runs: int, look: bool,
         write: bool) -> None:  # fmt: skip
    """Run what is missing and print one table: mean taus over the tasks, mean and standard deviation over the seeds."""
    if runs > 1 and look:
        raise click.UsageError("--runs does not go with --test")
    patterns, held = ([task for task in text.split(",") if task] for text in (tasks, unseen))
    benchmarks = load_benchmarks(benches)
    elsewhere = {each.name: ([each], ()) for each in load_benchmarks(transfer)} if transfer else {}
    if held:
        elsewhere = {unseen: (benchmarks, held), **elsewhere}
    choices = {"population": population, "grammar": grammar}
    ablation = Ablation(benchmarks, patterns, elsewhere, evaluations, choices, look)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names or VARIANTS}
    found_together: dict[str, list[dict[str, Any]]] = {}
    for seed in range(seeds):
        for name, of_variant in found.items():
            of_variant.append(ablation.facts(out / f"{name}-{seed}", name, seed))
            print(f"{name}, seed {seed}: {of_variant[-1]}", flush=True)
            for what, facts in ablation.together(out, name, seed, runs).items() if runs > 1 else ():
                found_together.setdefault(f"{name}: {what}", []).append(facts)
    heads = ["evolve", "validation", "given fitted", *elsewhere, *(["test", "test given fitted"] if look else [])]
    rows = [row_of(name, each, heads) for name, each in [*found.items(), *found_together.items()]]
    title = f"{', '.join(benches)} {tasks}: mean tau, {seeds} seeds, mean ± standard deviation"
    common.table(title, ["variant", *COUNTS, *heads], rows)
    if write:
        write_part(DOCS / "results.md", "ablation.py", page(title, ["variant", *COUNTS, *heads], rows))


if __name__ == "__main__":
    main()
