"""Output of a ranking: the files rank.csv, rank.json and rank.tex, all with the same numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from autoprox.bench_cache.runtime.files import write_atomically, write_csv
from autoprox.evolve import MEAN
from autoprox.rank.plan import RankPlan
from autoprox.rank.scores import Scores
from autoprox.rank.stats import TOPS, Correlations, Estimate, Row, ScoreTable, scores_on

CSV, JSON, TEX, POINTS = "rank.csv", "rank.json", "rank.tex", "scores.csv"

_TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_TEX |= {character: f"\\{character}" for character in "&%$#_{}"}


def flat(row: Row, seconds: float) -> dict[str, Any]:
    """Return the row as one line of a table; None where a number is not defined."""
    fields: dict[str, Any] = {"task": row.task, "proxy": row.proxy, "rank": row.rank}
    fields |= {"n": row.n, "unscored": row.unscored}
    for name in ("tau", "spearman", "pearson"):
        estimate: Estimate = getattr(row, name)
        fields |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    fields |= {"partial_tau": row.partial, "given_fitted": row.given_fitted, "binned_tau": row.binned, "bins": row.bins}
    fields |= {f"within_{name}": tau for name, tau in row.within.items()}
    fields |= {f"regret_{top}": value for top, value in zip(TOPS, row.regret, strict=True)}
    fields["seconds"] = seconds
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in fields.items()}


def save_table(
    out: Path, plan: RankPlan, scores: Scores, rows: Sequence[Row], between: Correlations, words: Sequence[str] = ()
) -> None:
    """Write rank.csv, rank.json, rank.tex, and every proxy's scores in scores.csv. `words` say what the table means."""
    lines = [flat(row, scores.seconds[row.proxy]) for row in rows]
    write_csv(out / CSV, lines)
    record = {
        "settings": plan.record(),
        "words": list(words),
        "rows": lines,
        "failures": [asdict(failure) for failure in scores.failures],
        "correlations": {
            "proxies": list(between.proxies),
            "kendall": _nulled(between.kendall),
            "spearman": _nulled(between.spearman),
        },
    }
    data = orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    write_atomically(out / JSON, data)
    write_atomically(out / TEX, to_latex(plan, rows, scores.seconds).encode())
    write_csv(out / POINTS, list(_points(plan, scores.table)))


def _points(plan: RankPlan, table: ScoreTable) -> Iterator[dict[str, Any]]:
    """Yield a row for each task and each of its architectures that has an accuracy; None where a proxy has no score."""
    for task, accuracies in table.accuracies.items():
        predicted = scores_on(table, task)
        for row in np.flatnonzero(~np.isnan(accuracies)):
            size = {} if table.params is None else {"size": float(table.params[row])}
            scores = {name: None if np.isnan(values[row]) else float(values[row]) for name, values in predicted.items()}
            head = {"task": task, "architecture": plan.architectures[row], "accuracy": float(accuracies[row])}
            yield {**head, **size, **scores}


def _nulled(matrix: np.ndarray) -> list[list[float | None]]:
    return [[None if math.isnan(value) else float(value) for value in line] for line in matrix]


# --- LaTeX ---


def to_latex(plan: RankPlan, rows: Sequence[Row], seconds: Mapping[str, float]) -> str:
    """Return LaTeX: one tabular for each task and one for their mean. It needs the package booktabs and no other."""
    tasks = list(dict.fromkeys(row.task for row in rows))
    parts = [f"% Made by autoprox rank on {plan.benchmark.name}. In the preamble: \\usepackage{{booktabs}}"]
    for task in tasks:
        of_task = [row for row in rows if row.task == task]
        parts += ["", f"% {'mean over the tasks' if task == MEAN else f'task {task}'}"]
        parts += _tabular(of_task, seconds, mean=task == MEAN)
    return "\n".join(parts) + "\n"


def _tabular(rows: Sequence[Row], seconds: Mapping[str, float], *, mean: bool) -> list[str]:
    heads = ["proxy", "mean rank" if mean else "rank", "$n$", r"$\tau_b$", "", r"$\rho$", "", "$r$", ""]
    heads += [r"$\tau_b\,|\,$params", r"$\tau_b\,|\,$fitted", r"$\tau_b$ in bins"]
    heads += [rf"$\tau_b$ in {tex_escape(name)}" for name in rows[0].within]
    heads += [*(f"regret@{top}" for top in TOPS), "s/arch."]
    lines = [f"\\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}", r"\toprule", " & ".join(heads) + r" \\", r"\midrule"]
    for row in rows:
        cells = [tex_escape(row.proxy), _number(row.rank, 1), str(row.n)]
        for estimate in (row.tau, row.spearman, row.pearson):
            interval = (
                "" if math.isnan(estimate.value) else f"[{_number(estimate.low, 2)}, {_number(estimate.high, 2)}]"
            )
            cells += [_number(estimate.value), interval]
        cells += [_number(tau) for tau in (row.partial, row.given_fitted, row.binned, *row.within.values())]
        cells += [_number(value, 2) for value in row.regret]
        lines.append(" & ".join([*cells, _number(seconds[row.proxy], 2)]) + r" \\")
    return [*lines, r"\bottomrule", r"\end{tabular}"]


def _number(value: float, digits: int = 3) -> str:
    """Return a number in math mode, which prints a true minus sign; a dash where it is not defined."""
    return "--" if math.isnan(value) else f"${value:.{digits}f}$"


def tex_escape(text: str) -> str:
    """Return LaTeX that prints the text."""
    return "".join(_TEX.get(character, character) for character in text)
