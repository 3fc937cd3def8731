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
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from pages import DOCS, marks, write_part

from autoprox import __version__
from autoprox.bench_cache.benchmarks.library import load_benchmark
from autoprox.bench_cache.benchmarks.table import STRUCTURE, Benchmark
from autoprox.evolve import MEAN
from autoprox.evolve.report import FITTED
from autoprox.rank.plan import RankPlan, make_plan
from autoprox.rank.resampled import given_fitted
from autoprox.rank.scores import begin, collect, load
from autoprox.rank.stats import Estimate, Row, ScoreTable, predictors, rank_rows
from autoprox.rank.verdict import verdict
from autoprox.zoo import ZOO

PAGE = DOCS / "results.md"
BEGIN, END = marks("results.py")
#: Proxies that train for a few steps; `all` leaves them out.
FEW_STEP = tuple(name for name, proxy in ZOO.items() if not proxy.training_free)
#: What follows from sizes or initial weights, so that a thousand large networks can be scored.
CHEAP = tuple(name for name, proxy in ZOO.items() if proxy.cost in ("structure", "weights") and name != "az-complexity")


@dataclass(frozen=True)
class Measurement:
    """One ranking: which architectures of which benchmark, by which proxies, on how many samples.

    `source` is a name, or a file below DATA. `sample` draws so many of the architectures at random, 0 none.
    """

    name: str
    title: str
    source: str
    tasks: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ("all",)
    split: str = "all"
    batch: int = 2
    sample: int = 0

    def benchmark(self, data: Path) -> Benchmark:
        """Return the benchmark, of a file below DATA where there is one."""
        return load_benchmark(str(data / self.source) if "/" in self.source else self.source)

    def plan(self, data: Path) -> RankPlan:
        """Return the plan that `command` describes."""
        return make_plan(
            self.benchmark(data),
            tasks=self.tasks,
            proxies=self.proxies,
            split=self.split,
            sample=self.sample or None,
            batch=self.batch,
        )

    def command(self) -> str:
        """Return the command that ranks alike."""
        source = f"DATA/{self.source}" if "/" in self.source else self.source
        parts = [f"autoprox rank --bench {source}"]
        parts += [f"--tasks '{','.join(self.tasks)}'"] if self.tasks else []
        parts += [f"--proxies {','.join(self.proxies)}"] if self.proxies != ("all",) else []
        parts += [f"--sample {self.sample}"] if self.sample else []
        return " ".join([*parts, f"--split {self.split} --batch {self.batch} --out RUNS/{self.name}"])


KD = ("*_kd",)
EVERYTHING = ("all", *FEW_STEP)
MEASUREMENTS = (
    Measurement("mini-vit", "mini-vit", "mini-vit", proxies=EVERYTHING, split="test", batch=16),
    Measurement("micro-vit", "micro-vit", "micro-vit", proxies=EVERYTHING, split="test", batch=16),
    Measurement("vb101-pit", "ViT-Bench-101 PiT, kd", "vit-bench-101/gt_pit.pth", KD, split="test"),
    Measurement(
        "vb101-autoformer", "ViT-Bench-101 AutoFormer, kd", "vit-bench-101/gt_autoformer.pth", KD, split="test"
    ),
    Measurement("ood-tiny", "OoD-ViT-NAS tiny", "ood-vit-nas/tiny.json", ("imagenet",), CHEAP, sample=300),
    Measurement("ood-small", "OoD-ViT-NAS small", "ood-vit-nas/small.json", ("imagenet",), CHEAP, sample=300),
)
#: Tables of proxies that others computed.
TABULAR = tuple(
    Measurement(f"hytas-{name}", name.title() if name != "ksc" else "KSC", f"hytas/{name}.csv", sample=300)
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
    def rows(self) -> tuple[Row, ...]:
        """The rows of `autoprox rank`."""
        return rank_rows(self.table)

    @cached_property
    def means(self) -> dict[str, Row]:
        """Each proxy's row of means over the tasks."""
        return {row.proxy: row for row in self.rows if row.task == MEAN}

    @cached_property
    def given_fitted(self) -> dict[str, Estimate]:
        """The mean partial taus given fitted structure, with intervals from the resamples of `rank_rows`."""
        return {name: given_fitted(self.table, name) for name in predictors(self.table)}


def columns(measurement: Measurement, plan: RankPlan, found: ScoreTable) -> Iterator[Column]:
    """Yield the columns of a measurement: over all networks and, where some are at chance, over the trainable ones."""
    tasks = f"{len(plan.tasks)} tasks" if len(plan.tasks) > 1 else "1 task"
    split = "" if plan.split == "all" else f"{plan.split}, "
    yield Column(f"{measurement.title}<br>{split}n = {len(plan.architectures)}, {tasks}", found)
    learnt = found.of_trainable()
    if learnt is not None:
        sizes = sorted(int((~np.isnan(accuracies)).sum()) for accuracies in learnt.accuracies.values())
        yield Column(f"{measurement.title}, trainable<br>{split}n = {sizes[0]}–{sizes[-1]}, {tasks}", learnt)


# --- the page ---


def table(data: Path, runs: Path) -> None:
    """Write tables, verdicts and commands between the marks of the page; other sections stay as they are."""
    found = {each: finished(each, data, runs) for each in (*MEASUREMENTS, *TABULAR)}
    main, tabular = ([column for each in kind for column in found[each]] for kind in (MEASUREMENTS, TABULAR))
    parts = [*markdown(main, "proxy"), ""]
    if tabular:
        parts += ["Columns of HyTAS, which its authors computed:", "", *markdown(tabular, "column"), ""]
    parts += ["What `autoprox rank` says of each:", ""]
    for column in (*main, *tabular):
        parts.append(f"- {column.title.replace('<br>', ': ')}. {verdict(column.table, column.rows)}")
    parts += ["", f"The measurements, with autoprox {__version__} and the seed 0:", ""]
    parts += [f"    {each.command()}" for each, own in found.items() if own]
    write_part(PAGE, "results.py", parts)


def finished(measurement: Measurement, data: Path, runs: Path) -> list[Column]:
    """Return the columns of a measurement whose run has ended; none of another, which is named."""
    try:
        benchmark = measurement.benchmark(data)
        plan, scores = load(benchmark, runs / measurement.name)
    except (ValueError, OSError) as error:
        print(f"left out: {measurement.name}: {error}")
        return []
    return list(columns(measurement, plan, scores.table))


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
    taus = [column.means[name].tau.value for column in found if name in column.means]
    known = [tau for tau in taus if not math.isnan(tau)]
    return float(np.mean(known)) if known else -math.inf


def _cell(column: Column, name: str) -> str:
    row = column.means.get(name)
    if row is None or math.isnan(row.tau.value):
        return "–"
    missing = f" (n = {row.n})" if row.unscored else ""
    given = column.given_fitted[name]
    second = "" if math.isnan(given.value) else f"<br>{_estimate(given)}"
    return f"{_estimate(row.tau)}{missing}{second}"


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
