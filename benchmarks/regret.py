"""Regret: how far the network that a search chooses is below the best one, against how many networks it scores.

    python benchmarks/regret.py score DATA RUNS [NAME ...]   score the networks of all benchmarks, or of those named
    python benchmarks/regret.py table DATA RUNS              write table and picture: docs/search.md, docs/regret.svg

DATA is the folder of the public benchmarks' files; benchmarks that are absent are left out. RUNS gets a run directory
of `autoprox rank` for each benchmark: scoring goes on where it was stopped.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from pages import DOCS, write_part

from autoprox.bench_cache.benchmarks.library import load_benchmark
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.evolve.report import FITTED
from autoprox.pictures import save_figure
from autoprox.rank.plan import make_plan
from autoprox.rank.scores import begin, collect, load
from autoprox.rank.stats import ScoreTable, scores_on

SEEDS = 20
#: What chooses at random among what was scored.
RANDOM = "random"
#: Budgets of the table; where there are fewer networks, the last one stands for all of them.
BUDGETS = (1, 10, 30, 100)
#: Budgets of the picture, evenly spread over its logarithmic axis.
POINTS = 40


@dataclass(frozen=True)
class Measurement:
    """A benchmark, its tasks, the proxies that search on it, and the samples that these read."""

    name: str
    title: str
    source: str
    tasks: tuple[str, ...] = ()
    batch: int = 2
    proxies: tuple[str, ...] = ("auto-prox", "snip", "synflow", "l2-norm")

    def benchmark(self, data: Path) -> Benchmark:
        """Return the benchmark, of a file below DATA where there is one."""
        return load_benchmark(str(data / self.source) if "/" in self.source else self.source)


KD = ("*_kd",)
#: The proxies of large networks, which take a pass each, or none.
LARGE = ("synflow", "l2-norm")
MEASUREMENTS = (
    Measurement("mini-vit", "mini-vit", "mini-vit", batch=16),
    Measurement("vb101-autoformer", "ViT-Bench-101 AutoFormer, kd", "vit-bench-101/gt_autoformer.pth", KD, 2, LARGE),
    Measurement("vb101-pit", "ViT-Bench-101 PiT, kd", "vit-bench-101/gt_pit.pth", KD, 2, LARGE),
)


def score(data: Path, runs: Path, names: Sequence[str]) -> None:
    """Score all networks of each benchmark that is there, each from where its run ends."""
    for each in (each for each in MEASUREMENTS if not names or each.name in names):
        try:
            benchmark = each.benchmark(data)
        except (ValueError, OSError) as error:
            print(f"left out: {each.name}: {error}")
            continue
        plan = make_plan(benchmark, tasks=each.tasks, proxies=each.proxies, split="all", batch=each.batch)
        begin(plan, runs / each.name)
        collect(plan, runs / each.name, on_progress=lambda done, of: print(done, "of", of, flush=True))


# --- numbers ---


@dataclass(frozen=True, eq=False)
class Regrets:
    """The regrets of one benchmark: by what chooses, seeds × budgets, in points, as means over the tasks."""

    measurement: Measurement
    count: int
    tasks: int
    curves: dict[str, np.ndarray]

    @cached_property
    def budgets(self) -> list[int]:
        """The budgets of the table."""
        return sorted({min(budget, self.count) for budget in BUDGETS} | {self.count})


def regrets(measurement: Measurement, table: ScoreTable) -> Regrets:
    """Return the curves of a benchmark, where each seed scores its networks in an order of its own.

    At a budget b, a proxy chooses the highest score of the first b networks; where several share it, the mean of their
    accuracies counts. Random choice has the mean of all b.
    """
    names = [RANDOM, "params", FITTED, *measurement.proxies]
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for task, accuracies in table.accuracies.items():
        scores, known = scores_on(table, task), np.flatnonzero(~np.isnan(accuracies))
        count = len(known)
        for name in names:
            own = np.zeros(len(accuracies)) if name == RANDOM else scores[name]
            orders = [np.random.default_rng(seed).permutation(known) for seed in range(SEEDS)]
            found[name].append(np.array([accuracies[known].max() - _chosen(own[o], accuracies[o]) for o in orders]))
    curves = {name: np.mean(of_tasks, axis=0) for name, of_tasks in found.items()}
    return Regrets(measurement, count, len(table.accuracies), curves)


def _chosen(scores: np.ndarray, accuracies: np.ndarray) -> np.ndarray:
    """Return, for each budget, the mean accuracy of those that share the highest score so far; NaN is never chosen."""
    worth = np.where(np.isnan(scores), -np.inf, scores)
    best, total, tied, chosen = -np.inf, 0.0, 0, []
    for value, accuracy in zip(worth, accuracies, strict=True):
        if value > best:
            best, total, tied = value, 0.0, 0
        if value == best:
            total, tied = total + accuracy, tied + 1
        chosen.append(total / tied)
    return np.array(chosen)


# --- the page ---


def table(data: Path, runs: Path) -> None:
    """Write the table into docs/search.md, and the picture beside it, from the runs that have ended."""
    found = []
    for each in MEASUREMENTS:
        try:
            found.append(regrets(each, load(each.benchmark(data), runs / each.name)[1].table))
        except (ValueError, OSError) as error:
            print(f"left out: {each.name}: {error}")
    write_part(DOCS / "search.md", "regret.py", markdown(found))
    save_figure(picture(found), DOCS / "regret", ("svg",))


def markdown(found: Sequence[Regrets]) -> Iterator[str]:
    """Yield a table for each benchmark: mean regret over the seeds ± its standard deviation."""
    for each in found:
        heads = [f"{budget} scored" if budget < each.count else f"all {budget}" for budget in each.budgets]
        yield f"**{each.measurement.title}**, {each.count} networks, mean of {each.tasks} tasks, regret in points:"
        yield ""
        yield f"| chosen by | {' | '.join(heads)} |"
        yield "|---" * (len(heads) + 1) + "|"
        for name, curves in each.curves.items():
            cells = [f"{curves[:, b - 1].mean():.2f} ± {curves[:, b - 1].std(ddof=1):.2f}" for b in each.budgets]
            shown = name if name in each.measurement.proxies else f"**{name}**"
            yield f"| {shown} | {' | '.join(cells)} |"
        yield ""


def picture(found: Sequence[Regrets]) -> Figure:
    """Return a panel for each benchmark: the mean regret against the budget, with a standard deviation on each side."""
    figure = Figure(figsize=(4.2 * len(found), 3.8), layout="constrained")
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    names = list(dict.fromkeys(name for each in found for name in each.curves))
    for each, axes in zip(found, panels, strict=True):
        for name, curves in each.curves.items():
            x = np.unique(np.geomspace(1, each.count, POINTS).round().astype(int))
            mean, spread = curves.mean(0)[x - 1], curves.std(0, ddof=1)[x - 1]
            line = "-" if name in each.measurement.proxies else "--"
            colour = f"C{names.index(name)}"
            axes.plot(x, mean, line, color=colour, label=name, linewidth=1.5)
            axes.fill_between(x, mean - spread, mean + spread, color=colour, alpha=0.12, linewidth=0)
        axes.set_xscale("log")
        axes.set_title(f"{each.measurement.title}, n = {each.count}", fontsize=10)
        axes.set_xlabel("networks scored")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(bottom=0)
    panels[0].set_ylabel("regret, points of accuracy")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=9, frameon=False)
    return figure


if __name__ == "__main__":
    if len(sys.argv) < 4 or sys.argv[1] not in ("score", "table"):
        raise SystemExit(__doc__)
    where = Path(sys.argv[2]), Path(sys.argv[3])
    if sys.argv[1] == "score":
        score(*where, sys.argv[4:])
    else:
        table(*where)
