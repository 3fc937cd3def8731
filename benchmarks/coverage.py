"""Coverage: which public models are read without a word from the user, and why others are not.

    python benchmarks/coverage.py [--results FILE] [--again] [--seconds N] [--gigabytes N] [LIBRARY[:FAMILY] ...]
    python benchmarks/coverage.py --page [--results FILE]     write the tables into docs/coverage.md

Builds the smallest model of each family with random weights, one process a model, and prints what is found and what
five proxies say, as Markdown. Results are kept in FILE: what is there is not measured again, unless `--again` is given.
Needs timm, transformers and torchvision, which autoprox itself does not.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import resource
import sys
import time
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from coverage_models import makers
from pages import DOCS, write_part

from autoprox import fill_zeros
from autoprox.primitives import LayerError, evaluate, parse, read_statistics, requirements
from autoprox.primitives.find_blocks.choose import blocks_of
from autoprox.primitives.find_blocks.describe import find_layers
from autoprox.proxy import any_proxy
from autoprox.scoring import ProxyError, formula_reads, formula_score, require, require_below_limit

#: Column → formula. The last needs softmax attention.
FORMULAS = {
    "weight": "sum(fro(weight))",
    "snip": "sum(l1(weight * weight_grad))",
    "synflow": "sum(l1(weight * weight_grad[synflow]))",
    "act": "sum(std(act))",
    "attn": "mean(max(attn))",
}

#: Families of which less is in blocks are listed.
MOST = 0.8

#: What is loaded before the processes of the models start, so that these start at once.
_LOADED = ("torch", "torchvision", "timm", "transformers", "autoprox.scoring")

Row = dict[str, Any]


def main(arguments: Sequence[str]) -> None:
    """Measure the families that are wanted and not yet known, and print the tables of those that are wanted."""
    given = _options(arguments)
    known = _read(given.results)
    keys = [f"{library}:{family}" for library, family, _, _ in makers()]
    wanted = [k for k in keys if not given.families or k in given.families or k.partition(":")[0] in given.families]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_LOADED))
    missing = [key for key in wanted if given.again or key not in known]
    with ThreadPoolExecutor(given.jobs) as jobs, given.results.open("a", encoding="utf-8") as file:
        waiting = [jobs.submit(_in_a_process, context, key, given.seconds, given.gigabytes) for key in missing]
        for row in (done.result() for done in as_completed(waiting)):
            known[row["key"]] = row
            print(json.dumps(row), file=file, flush=True)
            print(_line(row), file=sys.stderr, flush=True)
    lines = tables([known[key] for key in wanted])
    if given.page:
        write_part(DOCS / "coverage.md", "coverage.py", lines)
    else:
        print("\n".join(lines))


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("families", nargs="*", metavar="LIBRARY[:FAMILY]")
    parser.add_argument("--results", type=Path, default=Path("coverage.jsonl"), help="where results are kept")
    parser.add_argument("--again", action="store_true", help="measure what is in the file too")
    parser.add_argument("--page", action="store_true", help="write the tables into docs/coverage.md")
    parser.add_argument("--jobs", type=int, default=2, help="models at a time")
    parser.add_argument("--seconds", type=float, default=600, help="time for one model")
    parser.add_argument("--gigabytes", type=float, default=10, help="memory for one model")
    return parser.parse_args(arguments)


def _read(path: Path) -> dict[str, Row]:
    """Return the newest row of each family in a file of results."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {row["key"]: row for row in map(json.loads, lines)}


def _in_a_process(context: Any, key: str, seconds: float, gigabytes: float) -> Row:
    """Return the row of a family, measured in a process of its own with a limit of time and memory."""
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(key, gigabytes, sender), daemon=True)
    start = time.monotonic()
    process.start()
    sender.close()
    row: Row = {"key": key, "failed": ""}
    try:
        row = row | receiver.recv() if receiver.poll(seconds) else row | {"failed": f"not done in {seconds:.0f} s"}
    except EOFError:
        process.join()
        row["failed"] = f"its process ended with code {process.exitcode}"
    process.kill()
    process.join()
    return row | {"seconds": round(time.monotonic() - start, 1)}


def _measure(key: str, gigabytes: float, sender: Any) -> None:
    """Send the row of a family."""
    torch.set_num_threads(1)  # more would wait for one another where models are measured beside other work
    resource.setrlimit(resource.RLIMIT_DATA, (int(gigabytes * 1e9),) * 2)
    warnings.filterwarnings("ignore")
    library, _, wanted = key.partition(":")
    name, make = next((name, make) for owner, family, name, make in makers() if (owner, family) == (library, wanted))
    torch.manual_seed(0)
    with open(os.devnull, "w") as nothing, contextlib.redirect_stderr(nothing):
        model, sample = make()
    inputs = torch.cat([sample, sample.flip(0, 1) if sample.is_floating_point() else sample.flip(1)])
    shown, why = scores(model, inputs)
    stopped = [column for column, reason in why.items() if "start at 0" in reason]
    filled = scores(fill_zeros(model), inputs)[0] if stopped else {}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    row = {"model": name, **found(model, inputs), "scores": shown, "why": why, "peak": round(peak, 2)}
    row |= {"filled": {column: filled[column] for column in stopped}}
    if shown["synflow"] is None and row["filled"].get("synflow") is None:
        row["function"] = {"synflow": of_function("synflow-all", fill_zeros(model) if stopped else model, inputs)}
    sender.send(row)


def of_function(name: str, model: torch.nn.Module, inputs: torch.Tensor) -> float | None:
    """Return the score by a function of the zoo, None where there is none."""
    try:
        return any_proxy(name).score(model, inputs, torch.tensor([0, 1]))
    except ProxyError:
        return None


def scores(model: torch.nn.Module, inputs: torch.Tensor) -> tuple[dict[str, float | None], dict[str, str]]:
    """Return column → score, None where there is none; and column → the reason.

    All formulas are scored from one reading. Where there is none, each is scored by itself, as a user would.
    """
    shown: dict[str, float | None] = {}
    why = {}
    targets = torch.tensor([0, 1])
    formulas = {column: parse(text) for column, text in FORMULAS.items()}
    try:
        blocks = blocks_of(model, inputs)
        softmax = any(block.softmax for block in blocks)
        read = requirements([f for column, f in formulas.items() if softmax or column != "attn"])
        reading = read_statistics(model, blocks, read, inputs, targets)
    except Exception:
        reading = None
    for column, formula in formulas.items():
        shown[column] = None
        try:
            if reading is None or (column == "attn" and not softmax):
                shown[column] = formula_score(formula, model, inputs, targets)
            else:
                require(model, reading, blocks, formula_reads(formula))
                value = evaluate(formula, reading)
                require_below_limit(formula, value)
                shown[column] = value
        except (LayerError, ProxyError) as error:
            why[column] = str(error)
        except Exception as error:
            why[column] = f"RAW {type(error).__name__}: {str(error)[:200]}"
    return shown, why


def found(model: torch.nn.Module, inputs: torch.Tensor) -> Row:
    """Return the numbers of blocks, of those with each slot, and the share of linear weights that is in blocks."""
    try:
        finding = find_layers(model, inputs[:1])
    except LayerError as error:
        return {"blocks": 0, "softmax": 0, "covered": 0.0, "left_out": [str(error)]}
    blocks = finding.blocks
    left: dict[str, int] = {}
    for item in finding.left_out:
        left[item.reason] = left.get(item.reason, 0) + item.weights
    return {
        "blocks": len(blocks),
        **{slot: sum(slot in b.linears for b in blocks) for slot in ("qkv", "proj", "fc1", "fc2")},
        "softmax": sum(bool(b.softmax) for b in blocks),
        "covered": round(finding.covered, 4),
        "left_out": sorted(left, key=lambda reason: -left[reason])[:3],
    }


def tables(rows: Sequence[Row]) -> list[str]:
    """Return the lines of the table of libraries, of that of families, and of the reasons, in Markdown."""
    counts = ("library", "families", *list(FORMULAS)[:-1], "with softmax attention", "attn")
    lines = [_cells(counts), _cells(["---"] * len(counts))]
    for library in dict.fromkeys(row["key"].partition(":")[0] for row in rows):
        lines.append(_cells(_counted(library, [r for r in rows if r["key"].startswith(f"{library}:")])))
    lines.append(_cells(_counted("all", rows)))
    heads = ("library", "family", "model", "blocks", "attention", "MLP", "softmax", "covered", *FORMULAS)
    lines += ["", _cells(heads), _cells(["---"] * len(heads)), *(_cells(_shown(row)) for row in rows)]
    lines += ["", "Where there is no score, and why:"]
    reasons: dict[str, list[str]] = {}
    for row in rows:
        for column, reason in ({"all": row["failed"]} if row["failed"] else row["why"]).items():
            if column != "attn" or row["softmax"]:
                reasons.setdefault(f"{row['key']}: {reason}", []).append(column)
    lines += ["", *(f"- {', '.join(columns)}: {reason}" for reason, columns in reasons.items())]
    few = [row for row in rows if not row["failed"] and row["covered"] < MOST]
    lines += [
        "",
        f"Less than {MOST:.0%} of the weights of linear layers are in blocks, and what most of the rest is:",
        "",
    ]
    return [*lines, *(f"- {row['key']}, {row['covered']:.1%}: {'; '.join(row['left_out'][:2])}" for row in few)]


def _cells(values: Iterable[object]) -> str:
    return "| " + " | ".join(map(str, values)) + " |"


def _shown(row: Row) -> list[str]:
    library, _, family = row["key"].partition(":")
    if row["failed"]:
        return [library, family, row["failed"], *[""] * (5 + len(FORMULAS))]
    counts = [row["blocks"], row.get("qkv", 0), row.get("fc2", 0), row["softmax"], f"{row['covered']:.1%}"]
    values = [_value(row, column) for column in FORMULAS]
    return [library, family, f"`{row['model']}`", *map(str, counts), *values]


def _value(row: Row, column: str) -> str:
    """Return a score: in brackets, of the model with zeros filled; in square brackets, by the function of the zoo."""
    found = [(row["scores"][column], "{:.3g}")]
    found += [(row.get("filled", {}).get(column), "({:.3g})"), (row.get("function", {}).get(column), "[{:.3g}]")]
    return next((form.format(value) for value, form in found if value is not None), "–")


def _counted(library: str, rows: Sequence[Row]) -> list[str]:
    """Return how many of a library's families each formula scores."""
    done = [row for row in rows if not row["failed"]]
    softmax = [row for row in done if row["softmax"]]

    def share(column: str, among: Sequence[Row], total: int) -> str:
        count = sum(row["scores"][column] is not None for row in among)
        text = f"{count} ({count / total:.0%})" if total else "0"
        for key, means in (("filled", "with zeros filled"), ("function", f"with {column}-all")):
            more = sum(row.get(key, {}).get(column) is not None for row in among)
            count += more
            text += f"; {count} ({count / total:.0%}) {means}" if more else ""
        return text

    plain = [share(column, done, len(rows)) for column in list(FORMULAS)[:-1]]
    return [library, str(len(rows)), *plain, str(len(softmax)), share("attn", softmax, len(softmax))]


def _line(row: Row) -> str:
    if row["failed"]:
        return f"{row['key']}: {row['failed']}"
    numbers = " ".join("-" if v is None else f"{v:.3g}" for v in row["scores"].values())
    return f"{' '.join(_shown(row)[:8])} {numbers} {row['seconds']} s {row['peak']} GB"


if __name__ == "__main__":
    main(sys.argv[1:])
