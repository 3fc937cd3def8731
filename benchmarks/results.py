"""Results: every proxy of the zoo on every benchmark, and the tables of docs/results.md.

    python benchmarks/results.py score DATA RUNS [NAME ...]   score the networks of all measurements, or of those named
    python benchmarks/results.py table DATA RUNS              write the tables of what is scored into docs/results.md

DATA is the folder of the public benchmarks' files. RUNS gets a run directory of `autoprox rank` for each measurement:
scoring goes on where it was stopped, and `autoprox rank` with the command in docs/results.md and the same --out shows
the run in full.
"""

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from micro_vit import trainable

from autoprox import __version__
from autoprox.bench_cache.benchmarks.library import load_benchmark
from autoprox.bench_cache.benchmarks.table import STRUCTURE, Benchmark
from autoprox.evolve import MEAN
from autoprox.evolve.report import FITTED, draws, interval, partial_tau, resampled_taus
from autoprox.rank.plan import RankPlan, make_plan
from autoprox.rank.scores import Scores, begin, collect, load
from autoprox.rank.stats import UNDEFINED, Estimate, ScoreTable, predictors, rank_rows, scores_on
from autoprox.zoo import ZOO

PAGE = Path(__file__).resolve().parents[1] / "docs" / "results.md"
BEGIN, END = "<!-- made by benchmarks/results.py: begin -->", "<!-- made by benchmarks/results.py: end -->"
#: Proxies that train for a few steps; `all` leaves them out.
FEW_STEP = tuple(name for name, proxy in ZOO.items() if not proxy.training_free)
#: What follows from sizes or initial weights, so that a thousand large networks can be scored.
CHEAP = tuple(name for name, proxy in ZOO.items() if proxy.cost in ("structure", "weights") and name != "az-complexity")


@dataclass(frozen=True)
class Measurement:
    """One ranking: which architectures of which benchmark, by which proxies, on how many samples.

    `source` is a name, or a file below DATA. With `learnt`, networks at chance level are left out of each task too, as
    a column of its own.
    """

    name: str
    title: str
    source: str
    tasks: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ("all",)
    split: str = "all"
    batch: int = 2
    learnt: bool = False

    def benchmark(self, data: Path) -> Benchmark:
        """Return the benchmark, of a file below DATA where there is one."""
        return load_benchmark(str(data / self.source) if "/" in self.source else self.source)

    def plan(self, data: Path) -> RankPlan:
        """Return the plan that `command` describes."""
        return make_plan(
            self.benchmark(data), tasks=self.tasks, proxies=self.proxies, split=self.split, batch=self.batch
        )

    def command(self) -> str:
        """Return the command that ranks alike."""
        source = f"DATA/{self.source}" if "/" in self.source else self.source
        parts = [f"autoprox rank --bench {source}"]
        parts += [f"--tasks '{','.join(self.tasks)}'"] if self.tasks else []
        parts += [f"--proxies {','.join(self.proxies)}"] if self.proxies != ("all",) else []
        return " ".join([*parts, f"--split {self.split} --batch {self.batch} --out RUNS/{self.name}"])


KD = ("*_kd",)
EVERYTHING = ("all", *FEW_STEP)
MEASUREMENTS = (
    Measurement("mini-vit", "mini-vit", "mini-vit", proxies=EVERYTHING, split="test", batch=16),
    Measurement("micro-vit", "micro-vit", "micro-vit", proxies=EVERYTHING, split="test", batch=16, learnt=True),
    Measurement("vb101-pit", "ViT-Bench-101 PiT, kd", "vit-bench-101/gt_pit.pth", KD, batch=4),
    Measurement("vb101-autoformer", "ViT-Bench-101 AutoFormer, kd", "vit-bench-101/gt_autoformer.pth", KD, batch=4),
    Measurement("ood-tiny", "OoD-ViT-NAS tiny", "ood-vit-nas/tiny.json", ("imagenet",), CHEAP),
    Measurement("ood-small", "OoD-ViT-NAS small", "ood-vit-nas/small.json", ("imagenet",), CHEAP),
)
#: Tables of proxies that others computed.
TABULAR = tuple(
    Measurement(f"hytas-{name}", name.title() if name != "ksc" else "KSC", f"hytas/{name}.csv")
    for name in ("indian", "houston", "ksc")
)


def score(data: Path, runs: Path, names: Sequence[str]) -> None:
    """Score the networks of the measurements, each from where its run ends."""
    known = {measurement.name: measurement for measurement in (*MEASUREMENTS, *TABULAR)}
    for name in names or known:
        plan = known[name].plan(data)
        begin(plan, runs / name)
        collect(plan, runs / name, on_progress=lambda done, of, name=name: print(name, done, "of", of, flush=True))


# --- numbers ---


@dataclass(frozen=True, eq=False)
class Column:
    """The numbers of one measurement: each proxy's mean over the tasks of tau, and of tau given fitted structure."""

    title: str
    table: ScoreTable

    @cached_property
    def taus(self) -> dict[str, Estimate]:
        """The mean taus, as `autoprox rank` computes them."""
        return {row.proxy: row.tau for row in rank_rows(self.table) if row.task == MEAN}

    @cached_property
    def scored(self) -> dict[str, int]:
        """Of how many of its labelled architectures each proxy has a score, on the task with the fewest."""
        return {row.proxy: row.n for row in rank_rows(self.table) if row.task == MEAN}

    @cached_property
    def given_fitted(self) -> dict[str, Estimate]:
        """The mean partial taus given fitted structure, with intervals from the resamples of `rank_rows`."""
        counts = draws(np.random.default_rng(0), len(next(iter(self.table.accuracies.values()))))
        found = {}
        for name in predictors(self.table):
            values = [_partial(self.table, task, name, counts) for task in self.table.accuracies]
            means = np.mean(values, axis=0)
            known = name != FITTED and not math.isnan(self.taus[name].value)
            found[name] = Estimate(float(means[0]), *interval(means[1:])) if known else UNDEFINED
        return found


def _partial(table: ScoreTable, task: str, name: str, counts: np.ndarray) -> np.ndarray:
    """Return the partial tau given fitted structure, first over the architectures and then in each resample."""
    y, z, x = table.accuracies[task], table.fitted[task], scores_on(table, task)[name]
    there = ~np.isnan(x) & ~np.isnan(y)
    weights = np.vstack([np.ones((1, int(there.sum()))), counts[:, there]])
    pairs = [resampled_taus(a[there], b[there], weights) for a, b in ((x, y), (x, z), (z, y))]
    return np.array([partial_tau(*each) for each in zip(*pairs, strict=True)])


def columns(measurement: Measurement, scores: Scores, benchmark: Benchmark, plan: RankPlan) -> Iterator[Column]:
    """Yield the columns of a measurement; the second one leaves out the networks that did not learn."""
    count = len(plan.architectures)
    tasks = f"{len(plan.tasks)} tasks" if len(plan.tasks) > 1 else "1 task"
    split = "" if plan.split == "all" else f"{plan.split}, "
    yield Column(f"{measurement.title}<br>{split}n = {count}, {tasks}", scores.table)
    if measurement.learnt:
        at = list(plan.architectures)
        learnt = {task: trainable(benchmark, task)[at] for task in plan.tasks}
        kept = {task: np.where(learnt[task], values, np.nan) for task, values in scores.table.accuracies.items()}
        numbers = sorted(int(each.sum()) for each in learnt.values())
        title = f"{measurement.title}, trainable<br>{split}n = {numbers[0]}–{numbers[-1]}, {tasks}"
        yield Column(title, replace(scores.table, accuracies=kept))


# --- the page ---


def table(data: Path, runs: Path) -> None:
    """Write the tables and their commands between the marks of the page; other sections stay as they are."""
    main, ranked = [], []
    for measurement in MEASUREMENTS:
        found = finished(measurement, data, runs)
        ranked += [measurement] if found else []
        main += found
    parts = [*markdown(main, "proxy"), ""]
    tabular = [column for measurement in TABULAR for column in finished(measurement, data, runs)]
    if tabular:
        parts += ["Columns of HyTAS, which its authors computed:", "", *markdown(tabular, "column"), ""]
    ranked += [measurement for measurement in TABULAR if tabular]
    parts += [f"autoprox {__version__}, seed 0 everywhere. The measurements:", ""]
    parts += [f"    {measurement.command()}" for measurement in ranked]
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n" + "\n".join(parts) + f"\n\n{END}{after}")


def finished(measurement: Measurement, data: Path, runs: Path) -> list[Column]:
    """Return the columns of a measurement whose run has ended; none of another, which is named."""
    try:
        benchmark = measurement.benchmark(data)
        plan, scores = load(benchmark, runs / measurement.name)
    except (ValueError, OSError) as error:
        print(f"left out: {measurement.name}: {error}")
        return []
    return list(columns(measurement, scores, benchmark, plan))


def markdown(found: Sequence[Column], head: str) -> Iterator[str]:
    """Yield the lines of a table with a row for each proxy: baselines first, and then by the mean of tau."""
    names = dict.fromkeys(name for column in found for name in predictors(column.table))
    baselines = [name for name in names if name in (*STRUCTURE, FITTED)]
    others = sorted((name for name in names if name not in baselines), key=lambda name: -_mean_tau(found, name))
    yield f"| {head} | " + " | ".join(column.title for column in found) + " |"
    yield "|---" * (len(found) + 1) + "|"
    for name in [*baselines, *others]:
        shown = f"**{name}**" if name in baselines else f"{name} (few steps)" if name in FEW_STEP else name
        yield f"| {shown} | " + " | ".join(_cell(column, name) for column in found) + " |"


def _mean_tau(found: Sequence[Column], name: str) -> float:
    taus = [column.taus[name].value for column in found if name in column.taus]
    known = [tau for tau in taus if not math.isnan(tau)]
    return float(np.mean(known)) if known else -math.inf


def _cell(column: Column, name: str) -> str:
    tau = column.taus.get(name, UNDEFINED)
    if math.isnan(tau.value):
        return "–"
    scored, most = column.scored[name], max(column.scored.values())
    missing = f" (n = {scored})" if scored < most else ""
    given = column.given_fitted[name]
    second = "" if math.isnan(given.value) else f"<br>{_estimate(given)}"
    return f"{_estimate(tau)}{missing}{second}"


def _estimate(estimate: Estimate) -> str:
    return f"{_number(estimate.value, 3)} [{_number(estimate.low, 2)}, {_number(estimate.high, 2)}]"


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−").replace("0.", ".", 1) if abs(value) < 1 else f"{value:.{digits}f}"


if __name__ == "__main__":
    if len(sys.argv) < 4 or sys.argv[1] not in ("score", "table"):
        raise SystemExit(__doc__)
    where = Path(sys.argv[2]), Path(sys.argv[3])
    if sys.argv[1] == "score":
        score(*where, sys.argv[4:])
    else:
        table(*where)
