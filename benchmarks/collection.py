"""Collection: the shipped formulas' records with their figures, and the page and the pictures made of them.

    python benchmarks/collection.py add NAME RUN [FORMULA]        a record of the formula of a run of `autoprox evolve`,
                                                                  or of FORMULA, which it was shortened to
    python benchmarks/collection.py validate DATA RUNS [NAME ...] run `autoprox validate`, and keep what it found
    python benchmarks/collection.py page                          write docs/collection.md and its pictures

DATA is the folder of the public benchmarks' files. RUNS gets a directory of `autoprox validate` for each formula and
benchmark: a validation goes on where it was stopped. What a formula measures, and when not to use it, is written by
hand into the record, autoprox/collection/collection.json.
"""

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autoprox.api.validating import Validation, validate
from autoprox.bench_cache.benchmarks.library import load_benchmark
from autoprox.collection import Figures, ShippedProxy, TaskFigures
from autoprox.collection.record import FILE, MOST_NODES, read_collection, write_collection
from autoprox.display.collection import where_from
from autoprox.evolution import JOURNAL
from autoprox.evolve import Journal
from autoprox.evolve.looks import formulas_looked_at
from autoprox.export import export
from autoprox.primitives import parse
from autoprox.primitives.words import parts_of
from autoprox.proxy import Proxy
from autoprox.rank.stats import Estimate
from autoprox.validation.plan import WEIGHTS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "collection.md"
BEGIN, END = "<!-- made by benchmarks/collection.py: begin -->", "<!-- made by benchmarks/collection.py: end -->"
#: Fields of a run's provenance that a record keeps.
_KEPT = (
    "benchmarks",
    "tasks",
    "held_out",
    "seed",
    "generations",
    "population",
    "strategy",
    "joint",
    "refine",
    "batch",
    "fitness",
)


@dataclass(frozen=True)
class Bench:
    """A benchmark on which every shipped formula is validated; `source` is a name, or a file below DATA.

    Of a benchmark of `sizes`, only formulas of these are: another package would have to build its networks.
    """

    title: str
    source: str
    tasks: str = ""
    split: str = "test"
    sample: int | None = None
    seeds: int = 3
    batches: int = 2
    sizes: bool = False

    def command(self, name: str) -> str:
        """Return the command that validates a formula alike."""
        source = f"DATA/{self.source}" if "/" in self.source else self.source
        parts = [f"autoprox validate {name} --bench {source}"]
        parts += [f"--tasks '{self.tasks}'"] if self.tasks else []
        parts += [f"--split {self.split}"] if self.split != "test" else []
        parts += [f"--sample {self.sample}"] if self.sample else []
        parts += [f"--seeds {self.seeds} --batches {self.batches}"] if (self.seeds, self.batches) != (3, 2) else []
        return " ".join(parts)


BENCHES = (
    Bench("micro-vit", "micro-vit"),
    Bench("mini-vit", "mini-vit"),
    Bench("ViT-Bench-101 AutoFormer, kd", "vit-bench-101/gt_autoformer.pth", "*_kd"),
    Bench("ViT-Bench-101 PiT, kd", "vit-bench-101/gt_pit.pth", "*_kd"),
    Bench("OoD-ViT-NAS tiny", "ood-vit-nas/tiny.json", "imagenet", "test"),
    Bench("OoD-ViT-NAS small", "ood-vit-nas/small.json", "imagenet", "test"),
    Bench("timm-in1k", "timm-in1k", sizes=True),
)


# --- records ---


def add(name: str, run: Path, text: str = "") -> None:
    """Add the record of a run's formula, or of what it was shortened to, or replace the record's formula and origin."""
    found = Proxy.load(run)
    formula = parse(text) if text else found.formula
    if formula.size > MOST_NODES:
        raise SystemExit(f"{formula.size} nodes; a shipped formula has at most {MOST_NODES}")
    known = {field: found.provenance[field] for field in _KEPT if field in found.provenance}
    known["tried"] = found.provenance.get("tried") or Journal.open(run / JOURNAL).records[-1]["unique"]
    known["tau"] = found.provenance.get("tau", {}) if formula == found.formula else {}
    known["looks"] = formulas_looked_at(run) + (formula != found.formula)  # that is looked at when it is validated
    known["version"] = found.provenance["version"]
    if formula != found.formula:
        known["note"] = f"Shortened on the evolve and validation splits from {found.text}."
    old = stored().get(name)
    told = (old.summary, old.measures, old.avoid) if old else ("", "", "")
    _write(ShippedProxy(name, formula.text, *told, known))


def validated(data: Path, runs: Path, names: Sequence[str]) -> None:
    """Validate formulas on every benchmark that is there, and write what was found into their records."""
    for name in names or stored():
        shipped, found = stored()[name], []
        for bench in BENCHES:
            source = data / bench.source if "/" in bench.source else None
            if source is not None and not source.exists():
                print(f"left out: {bench.title}: {source} is not there")
                continue
            if bench.sizes and not _of_its_sizes(shipped, bench):
                continue
            print(name, bench.title, flush=True)
            out = runs / name / bench.title.replace(" ", "-").replace(",", "")
            result = validate(
                proxy_of(shipped),
                str(source or bench.source),
                tasks=bench.tasks,
                split=bench.split,
                sample=bench.sample,
                seeds=bench.seeds,
                batches=bench.batches,
                out=out,
                resume=True,
            )
            found.append(figures(bench, shipped, result))
        _write(replace(shipped, figures=tuple(found)))


def _of_its_sizes(shipped: ShippedProxy, bench: Bench) -> bool:
    """Return whether a formula reads nothing but sizes that the benchmark's table has."""
    sizes = load_benchmark(bench.source).structure()
    return all(str(terminal) in sizes for terminal in parse(shipped.formula).terminals())


def figures(bench: Bench, shipped: ShippedProxy, result: Validation) -> Figures:
    """Return what a validation found, as a record keeps it."""
    found, plan = result.findings, result.plan
    mean, lead, many = found.over_all.mean, found.over_all.comparison, found.of_many
    assert lead is not None
    assert many is not None
    return Figures(
        benchmark=bench.title,
        split=plan.ranking.split,
        networks=mean.n,
        tasks=len(plan.ranking.tasks),
        tau=_rounded(mean.tau),
        given_fitted=None if math.isnan(found.over_all.given.value) else _rounded(found.over_all.given),
        trainable=None if found.trainable is None else _rounded(found.trainable.mean.tau),
        baseline=lead.baseline,
        baseline_tau=round(lead.baseline_tau, 4),
        lead=(round(lead.difference, 4), round(lead.low, 4), round(lead.high, 4)),
        noise=round(found.repeats[WEIGHTS].noise, 4) if WEIGHTS in found.repeats else None,
        of_many=(round(many.low, 4), round(many.high, 4)),
        held_out=plan.ranking.benchmark.name not in shipped.provenance["benchmarks"],
        verdict=result.verdict,
        command=bench.command(shipped.name),
        by_task=tuple(_on_task(shipped, result, task) for task in plan.ranking.tasks),
    )


def _on_task(shipped: ShippedProxy, result: Validation, task: str) -> TaskFigures:
    row, learnt = result.findings.over_all.on(task), result.findings.trainable
    return TaskFigures(
        task=task,
        tau=_rounded(row.tau),
        given_fitted=None if math.isnan(row.given_fitted) else round(row.given_fitted, 4),
        trainable=None if learnt is None else _rounded(learnt.on(task).tau),
        seen=f"{result.plan.ranking.benchmark.name}:{task}" in shipped.provenance["tasks"],
    )


def _rounded(estimate: Estimate) -> tuple[float, float, float]:
    return round(estimate.value, 4), round(estimate.low, 4), round(estimate.high, 4)


def stored() -> dict[str, ShippedProxy]:
    """Return the records by name."""
    return {each.name: each for each in read_collection(FILE)}


def proxy_of(shipped: ShippedProxy) -> Proxy:
    """Return the proxy that `Proxy.load` returns once the record is part of the package."""
    return Proxy.from_formula(shipped.formula, shipped.name, shipped.carried)


def _write(shipped: ShippedProxy) -> None:
    write_collection(tuple((stored() | {shipped.name: shipped}).values()), FILE)


# --- the page ---


def page() -> None:
    """Write every formula's section between the marks of the page, and its picture beside the page."""
    lines = [line for shipped in stored().values() for line in section(shipped)]
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{after}")
    for shipped in stored().values():
        (PAGE.parent / "pictures").mkdir(exist_ok=True)
        (PAGE.parent / picture(shipped)).write_text(export(proxy_of(shipped), "svg"))


def picture(shipped: ShippedProxy) -> str:
    """Return the path of a formula's picture, from docs/."""
    return f"pictures/{shipped.name}.svg"


def section(shipped: ShippedProxy) -> Iterator[str]:
    """Yield the lines of a formula's section."""
    yield from (f"## {shipped.name}", "", shipped.summary, "", f"    {shipped.formula}", "")
    yield from (f"![The graph of {shipped.name}]({picture(shipped)})", "")
    yield from (f"**What it measures.** {shipped.measures}", "", f"**When not to use it.** {shipped.avoid}", "")
    yield from ("Part by part:", "", "| part | what it is |", "|---|---|")
    yield from (f"| {part.name} `{part.short}` | {part.words} |" for part in parts_of(parse(shipped.formula)))
    yield from ("", f"**Where it comes from.** {' '.join(where_from(shipped))}", "")
    yield "| benchmark | n | tasks | τ | given fitted | trainable | strongest structure | lead | noise | held out |"
    yield "|---" * 10 + "|"
    for found in shipped.figures:
        yield _line(found)
        yield from (_task_line(task) for task in (found.by_task if len(found.by_task) > 1 else ()))
    yield ""
    yield from (f"- {found.verdict}" for found in shipped.figures)
    yield ""
    yield from (f"    {found.command}" for found in shipped.figures)
    yield ""


def _line(found: Figures) -> str:
    noise = "–" if found.noise is None else f"{found.noise:.0%}"
    cells = [f"{found.benchmark}, {found.split}", str(found.networks), str(found.tasks)]
    cells += [_triple(each) for each in (found.tau, found.given_fitted, found.trainable)]
    cells += [f"{found.baseline} {_number(found.baseline_tau)}", _triple(found.lead), noise]
    return f"| {' | '.join([*cells, 'yes' if found.held_out else 'no'])} |"


def _task_line(found: TaskFigures) -> str:
    given = "–" if found.given_fitted is None else _number(found.given_fitted)
    cells = [_triple(found.tau), given, _triple(found.trainable), "", "", "", "no" if found.seen else "yes"]
    return f"| – {found.task} | | | {' | '.join(cells)} |"


def _triple(found: Sequence[float] | None) -> str:
    if found is None:
        return "–"
    return f"{_number(found[0])} [{_number(found[1], 2)}, {_number(found[2], 2)}]"


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}".replace("-", "−").replace("0.", ".", 1)


if __name__ == "__main__":
    action, *rest = sys.argv[1:] or [""]
    if action == "add" and len(rest) in (2, 3):
        add(rest[0], Path(rest[1]), *rest[2:])
    elif action == "validate" and len(rest) >= 2:
        validated(Path(rest[0]), Path(rest[1]), rest[2:])
    elif action == "page" and not rest:
        page()
    else:
        raise SystemExit(__doc__)
