"""Origin: where a proxy comes from, as far as its provenance and its run say, and what that means for a split."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoprox.bench_cache.benchmarks.table import STRUCTURE, Benchmark
from autoprox.evolution import JOURNAL
from autoprox.evolve import Journal, add_look, looks_so_far
from autoprox.evolve.looks import formulas_looked_at
from autoprox.primitives import OPERATIONS, Vocabulary
from autoprox.proxy import ProxyLike, any_proxy, named_proxy
from autoprox.rank.plan import MERGED

_NOT_HELD_OUT = "helped to choose it, so that these figures are not held out"
#: What the labels of a split had to do with a formula that was evolved on the benchmark.
_PART = {
    "all": f"the evolve and validation splits {_NOT_HELD_OUT}",
    "evolve": f"this split {_NOT_HELD_OUT}",
    "validation": f"this split {_NOT_HELD_OUT}",
    "test": "the test split had no part in it",
}


@dataclass(frozen=True)
class Origin:
    """Where a proxy comes from.

    `ref` is what names it, or the proxy itself. `provenance` is that of its file or record, empty where there is none.
    `run` is the directory of the run that evolved it, where the proxy was named by that.
    """

    ref: ProxyLike
    provenance: Mapping[str, Any]
    run: Path | None = None

    def evolved_on(self, benchmark: str) -> list[str]:
        """Return the tasks of a benchmark that evolution judged formulas on."""
        tasks = (str(task).split(":", 1) for task in self._list("tasks"))
        return [task[1] for task in tasks if len(task) == 2 and task[0] == benchmark]

    def unseen(self, benchmark: str, tasks: Sequence[str]) -> list[str]:
        """Return which of these tasks were held out whole by an evolution on others of the benchmark."""
        here = self.evolved_on(benchmark)
        return [task for task in tasks if here and task not in here]

    def tried(self, benchmark: str, split: str) -> int:
        """Return among how many formulas the proxy was chosen by labels of a split of a benchmark; 1: it was not.

        On evolve that is how many the run judged, on validation its finalists, and on test how many of the run's
        formulas were looked at there.
        """
        if split == "test":
            counted, shipped = formulas_looked_at(self.run) if self.run else 0, self.provenance.get("looks")
            return max(counted, shipped if isinstance(shipped, int) and self.evolved_on(benchmark) else 1)
        if not self.evolved_on(benchmark):
            return 1
        return self._finalists() if split == "validation" else max(self._formulas(), 1)

    def _finalists(self) -> int:
        """Return how many formulas validation chose from; a run from before this was recorded had ten."""
        finalists = self.provenance.get("finalists")
        return finalists if isinstance(finalists, int) else 10

    def _formulas(self) -> int:
        """Return how many formulas the run judged; a run from before this was recorded has it in its journal."""
        tried = self.provenance.get("tried")
        if isinstance(tried, int):
            return tried
        records = Journal.open(self.run / JOURNAL).records if self.run else []
        return int(records[-1]["unique"]) if records else 1

    def _list(self, name: str) -> Sequence[Any]:
        value = self.provenance.get(name, ())
        return value if isinstance(value, list) else ()

    def held_out(self, benchmark: str, split: str) -> bool:
        """Return whether no label of the split had a part in choosing the formula, as far as is known."""
        return split == "test" or not self.evolved_on(benchmark)

    def words(self, benchmark: str, tasks: Sequence[str], split: str) -> Iterator[str]:
        """Yield what is known of the origin, and what it means for a split of these tasks of a benchmark."""
        here = self.evolved_on(benchmark)
        evolved = [str(task) for task in self._list("tasks")]
        if not evolved:
            yield self._without_run()
        elif not here:
            yield f"It was evolved on {', '.join(evolved)}: {benchmark} had no part in it."
        else:
            yield f"It was evolved on {', '.join(here)} of {benchmark}: {_PART[split]}."
            if unseen := self.unseen(benchmark, tasks):
                yield f"Its evolution never saw labels of {', '.join(unseen)}."

    def _without_run(self) -> str:
        source, note = self.provenance.get("source"), self.provenance.get("note")
        if source and note:
            return f"It is of the zoo: {source}; {note}."
        return "No run is recorded for it, so that nothing is known of the labels that it was chosen on."

    def looks(self, benchmark: str, formula: str, *, again: bool) -> str:
        """Return how often test was looked at over the life of the run; count this look, unless it shows it `again`.

        Empty where the proxy is of no run.
        """
        if self.run is None:
            return ""
        return looks_so_far(self.run) if again else add_look(self.run, "validate", [benchmark], formula)


def origin_of(given: ProxyLike, benchmark: Benchmark, operations: Vocabulary = OPERATIONS) -> Origin:
    """Return the origin of a proxy, or of what names it on a benchmark: see `proxies_to_rank`.

    Raises:
        ProxyError: there is no such proxy, or its file cannot be used.
        FormulaError: a formula cannot be read.
    """
    if not isinstance(given, str | os.PathLike):
        proxy = any_proxy(given, operations)
        return Origin(proxy, proxy.provenance)
    ref = os.fspath(given)
    if ref in (*benchmark.columns, *STRUCTURE, *MERGED):
        return Origin(ref, {})
    return Origin(ref, any_proxy(given, operations).provenance, run_of(given))


def run_of(given: ProxyLike) -> Path | None:
    """Return the directory of the run that evolved a proxy, where that directory or a file in it names the proxy."""
    if not isinstance(given, str | os.PathLike) or (isinstance(given, str) and named_proxy(given) is not None):
        return None
    path = Path(os.path.expanduser(given))
    if not os.path.exists(path):  # unlike `Path.exists`, it takes a formula that is too long for a file's name
        return None
    folder = path if path.is_dir() else path.parent
    return folder if (folder / JOURNAL).exists() else None
