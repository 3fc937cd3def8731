"""Coverage: which public models are read without a word from the user, and why others are not.

    python benchmarks/coverage.py [LIBRARY | LIBRARY:FAMILY ...]

Builds the smallest model of each family with random weights, and prints what is found and what five proxies say.
Needs timm, transformers and torchvision, which autoprox itself does not.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import warnings
from collections import Counter
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from coverage_models import makers

from autoprox.primitives import LayerError, parse
from autoprox.primitives.find_blocks.describe import find_layers
from autoprox.scoring import ProxyError, formula_score

#: Column → formula. The last needs softmax attention.
FORMULAS = {
    "weight": "sum(fro(weight))",
    "snip": "sum(l1(weight * weight_grad))",
    "synflow": "sum(l1(weight * weight_grad[synflow]))",
    "act": "sum(std(act))",
    "attn": "mean(max(attn))",
}


def main(wanted: list[str]) -> None:
    """Print one line a family, then how many of each library each formula scores, and the reasons where it does not."""
    warnings.filterwarnings("ignore")
    scored: dict[str, Counter[str]] = {}
    reasons = []
    for library, family, name, make in makers():
        if wanted and library not in wanted and f"{library}:{family}" not in wanted:
            continue
        torch.manual_seed(0)
        with open(os.devnull, "w") as nothing, contextlib.redirect_stderr(nothing):
            model, sample = make()
        inputs = torch.cat([sample, sample.flip(0, 1) if sample.is_floating_point() else sample.flip(1)])
        shown, why = scores(model, inputs)
        line, has_softmax = found(model, inputs)
        counted = scored.setdefault(library, Counter())
        counted["families"] += 1
        counted["with softmax"] += has_softmax
        counted.update(column for column, value in shown.items() if not math.isnan(value))
        cells = " ".join("   -   " if math.isnan(v) else f"{v:7.3g}" for v in shown.values())
        print(f"{library:12} {family:17} {name:36.36} {line} {cells}", flush=True)
        reasons += [f"{library}:{family} {column}: {reason}" for column, reason in why.items()]
    for library, counted in scored.items():
        print(library, dict(counted))
    print("\n".join(reasons))


def scores(model: torch.nn.Module, inputs: torch.Tensor) -> tuple[dict[str, float], dict[str, str]]:
    """Column → score, NaN where there is none; and column → the reason."""
    shown, why = {}, {}
    targets = torch.tensor([0, 1])
    for column, text in FORMULAS.items():
        try:
            shown[column] = formula_score(parse(text), model, inputs, targets)
        except (LayerError, ProxyError) as error:
            shown[column], why[column] = math.nan, str(error)
        except Exception as error:
            shown[column], why[column] = math.nan, f"RAW {type(error).__name__}: {str(error)[:200]}"
    return shown, why


def found(model: torch.nn.Module, inputs: torch.Tensor) -> tuple[str, bool]:
    """Blocks, of which with attention and MLP, and the share of linear weights in them; whether there is a softmax."""
    try:
        finding = find_layers(model, inputs[:1])
    except LayerError:
        return "not found", False
    blocks = finding.blocks
    counts = [len(blocks)] + [sum(slot in b.linears for b in blocks) for slot in ("qkv", "proj", "fc2")]
    softmax = sum(bool(b.softmax) for b in blocks)
    return "{:3} blocks: qkv {:3} proj {:3} mlp {:3}".format(
        *counts
    ) + f" attn {softmax:3} {finding.covered:6.1%}", softmax > 0


if __name__ == "__main__":
    main(sys.argv[1:])
