"""Validate: guards against self-deception on one proxy, as one function that Python and the command line call."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from autoprox.api.arguments import (
    ArgumentError,
    BenchmarkLike,
    Operations,
    benchmarks,
    checked_workers,
    known_operations,
    next_directory,
    texts,
)
from autoprox.api.results import Result
from autoprox.bench_cache.runtime.devices import CPU, agreed_device
from autoprox.display.ranking import collected
from autoprox.display.terminal import progress_console, say
from autoprox.display.validation import validation_heading, validation_parts
from autoprox.proxy import ProxyLike
from autoprox.rank.output import flat
from autoprox.validation.origin import origin_of
from autoprox.validation.output import record, save_validation
from autoprox.validation.plan import ValidationPlan, make_validation_plan
from autoprox.validation.run import SCORES, Findings, begin_validation, run_validation
from autoprox.validation.verdict import Guard, conclusion, guards

_VALIDATIONS = Path("validations")


@dataclass(frozen=True, repr=False)
class Validation(Result):
    """What `autoprox.validate` returns.

    Attributes:
        verdict: what the guards say together, in a sentence.
        guards: each guard with its question, whether it holds, and what was found.
        findings: the numbers behind them; see `Findings`.
        plan: which architectures, tasks, seeds and batches; see `ValidationPlan`.
        out: the run directory, with which the same call goes on (`resume=True`).
    """

    verdict: str
    guards: tuple[Guard, ...]
    findings: Findings
    plan: ValidationPlan
    out: Path

    def record(self) -> dict[str, Any]:
        """Return all that was found as JSON, as `validation.json` has it."""
        return record(self.plan, self.findings, self.guards, self.verdict)

    def parts(self) -> Iterator[str | Text | Table]:
        """Yield the proxy beside the baselines, the guards, and the verdict."""
        return validation_parts(self.plan, self.findings, self.guards, self.verdict)

    def records(self) -> list[dict[str, Any]]:
        """Return a line for the proxy and each baseline on each task, as `validation.csv` has it."""
        return [flat(row, self.findings.seconds[row.proxy]) for row in self.findings.over_all.rows]

    def __repr__(self) -> str:
        return f"Validation(verdict={self.verdict!r}, out={str(self.out)!r})"


def validate(
    proxy: ProxyLike, benchmark: BenchmarkLike, *,
    tasks: str | Sequence[str] = (), split: str = "test", sample: int | None = None, max_params: float | None = None,
    batch: int | None = None, seed: int = 0, seeds: int = 3, batches: int = 2, tried: int | None = None,
    device: str = CPU,
    operations: Operations = (), space: str | Sequence[str] = (), workers: int = 1,
    out: str | os.PathLike[str] | None = None, resume: bool = False, progress: bool = True,
) -> Validation:  # fmt: skip
    """Run the guards against self-deception on a proxy and a benchmark; docs/validation.md defines each.

    `proxy` is what PROXY means on the command line, or an object: a `Proxy`, a formula, a record of the zoo. `tasks`
    are names or patterns; none means all. The architectures are those of `split`, at most `max_params` large, `sample`
    of them at random. Networks run on `batch` samples, by default 16 of the benchmark's images, or 2 Gaussian ones
    where it has none, and on `device`, as in `rank`. `seeds` sets of initial weights are compared, from `seed` on, and
    `batches` disjoint batches of images. `tried` is among how many formulas labels of this split chose the proxy; None
    is what its provenance says.

    Everything is kept in the directory `out`, by default the next of validations/001, validations/002, ... The same
    call with `resume` goes on with what is there, and with more `seeds` it scores only what is new. `progress` False
    prints nothing.

    Raises:
        RankError, BenchmarkError, ArgumentError, DeviceError: an argument cannot be.
        ProxyError, FormulaError: there is no such proxy, or its formula cannot be read.
        JournalError: what is in `out` is damaged, or another process works there.
    """
    if tried is not None and tried < 1:
        raise ArgumentError(f"tried is {tried}; it must be at least 1, for the proxy itself")
    checked_workers(workers)
    known, _ = known_operations(operations)
    (found,) = benchmarks(benchmark, texts(space))
    origin = origin_of(proxy, found, known)
    plan = make_validation_plan(
        found, origin, tasks=texts(tasks), split=split, sample=sample, max_params=max_params, batch=batch, seed=seed,
        seeds=seeds, batches=batches, device=agreed_device(device, workers), operations=known,
    )  # fmt: skip
    folder = next_directory(_VALIDATIONS) if out is None else Path(out).expanduser()
    if not resume and (folder / SCORES).exists():
        raise ArgumentError(f"{folder} already holds a validation; go on with --resume, or choose another --out")
    console = progress_console(silent=not progress)
    say(console, validation_heading(plan, folder, *begin_validation(plan, folder)))
    findings = run_validation(
        plan, origin, folder, lambda ranking, at: collected(console, ranking, at, workers), tried or 0
    )
    asked = guards(plan, findings, origin)
    result = Validation(conclusion(plan, findings, asked), tuple(asked), findings, plan, folder)
    save_validation(folder, findings, result.record())
    return result
