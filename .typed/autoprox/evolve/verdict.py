"""Verdict: what a report says of its formula, in words: whether it beats structure, and what is left given that."""

from __future__ import annotations

from autoprox.bench_cache.benchmarks.chance import TRAINABLE
from autoprox.evolve.report import FITTED, FORMULA, Lead, Report


def verdict(report: Report, split: str) -> list[str]:
    """Return sentences on a split of a report: the strongest structural baseline first, then params, then the rest."""
    strongest = report.strongest(split)
    if strongest is None:
        nothing = "Nothing is known of the architectures' structure, so there is nothing to compare with."
        return [nothing, *within_groups(report, split)]
    lines = [_beside_strongest(strongest)]
    mean = report.row(FORMULA, split)
    if mean.given_fitted is not None and strongest.low > 0:
        lines.append(f"Given {FITTED}, a partial τ of {mean.given_fitted:.3f} is left of its {mean.tau:.3f}.")
    for lead in report.leads:
        if lead.split == split and lead != strongest and (lead.baseline == "params" or lead.difference <= 0):
            lines.append(_beside(lead))
    return [*lines, *within_groups(report, split)]


def within_groups(report: Report, split: str) -> list[str]:
    """Return a sentence for each grouping of a benchmark: the taus of formula and best baseline within it."""
    lines = []
    of_split = [found for found in report.within if found.split == split]
    for benchmark, group in dict.fromkeys((found.benchmark, found.group) for found in of_split):
        taus = {
            found.predictor: found.tau for found in of_split if (found.benchmark, found.group) == (benchmark, group)
        }
        own = taus.pop(FORMULA, None)
        if own is None:
            continue
        best = max(taus, key=lambda name: taus[name], default="")
        beside = f"; that of {best}, the strongest baseline there, is {taus[best]:.3f}" if best else ""
        where = f"Over the {group} networks" if group == TRAINABLE else f"Within one {group}"
        lines.append(f"{where} of {benchmark} its mean τ on {split} is {own:.3f}{beside}.")
    return lines


def _beside_strongest(lead: Lead) -> str:
    if lead.low > 0:
        return f"On {lead.split} the formula is better than structure: {_distance(lead)}."
    return f"On {lead.split} the formula is no better than structure: {_distance(lead)}."


def _beside(lead: Lead) -> str:
    return f"Its {_distance(lead)}."


def _distance(lead: Lead) -> str:
    side = "above" if lead.difference > 0 else "below"
    return (
        f"mean τ is {abs(lead.difference):.3f} {side} that of {lead.baseline} "
        f"(95 % interval of the difference {lead.low:+.3f} to {lead.high:+.3f})"
    )
