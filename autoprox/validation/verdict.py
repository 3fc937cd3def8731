"""Verdict of a validation: each guard in one sentence, whether it holds, and a sentence over all."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from autoprox.rank.stats import Estimate
from autoprox.validation.origin import Origin
from autoprox.validation.plan import IMAGES, WEIGHTS, ValidationPlan
from autoprox.validation.repeats import Repeats
from autoprox.validation.run import Findings, Judged

#: A proxy is not above chance where more than this share of shuffled labels give it as high a tau.
_SIGNIFICANT = 0.05
#: Rankings with other weights or images agree where their scores have this tau, as labels do between halves of seeds.
AGREE = 0.8


@dataclass(frozen=True)
class Guard:
    """One question to a proxy, what was found, and whether the proxy stands; None where there is no line to cross."""

    question: str
    holds: bool | None
    found: str


def guards(plan: ValidationPlan, found: Findings, origin: Origin) -> list[Guard]:
    """Return the guards of a validation in order; those that do not apply are left out."""
    return [
        *_chance(found),
        *_structure(found.over_all, "better than structure"),
        *_given(found.over_all),
        *_groups(plan, found),
        *_unseen_tasks(plan, found, origin),
        *_repeats(found),
        *_of_many(plan, found),
        *_held_out(plan, found, origin),
    ]


def _chance(found: Findings) -> Iterator[Guard]:
    shuffled = found.shuffled
    if shuffled is None:
        yield Guard("above chance", False, "it has no τ: some task has fewer than 3 scores")
        return
    yield Guard(
        "above chance",
        shuffled.p < _SIGNIFICANT,
        f"on shuffled labels τ is {_tau(shuffled.mean)} ± {_tau(shuffled.spread)} (95 % {_between(shuffled)}), and as "
        f"high as with the true ones with p = {shuffled.p:.3f}",
    )


def _structure(judged: Judged, question: str) -> Iterator[Guard]:
    if judged.comparison is not None:
        yield Guard(question, judged.comparison.low > 0, judged.comparison.distance)
    elif judged.mean.unscored:
        yield Guard(question, False, f"it has no score of {judged.mean.unscored} networks, so nothing is compared")


def _given(judged: Judged) -> Iterator[Guard]:
    if not math.isnan(judged.given.value):
        yield Guard(
            "more than structure",
            judged.given.low > 0,
            f"given fitted structure, partial τ {_estimate(judged.given)} is left of {_tau(judged.mean.tau.value)}",
        )


def _groups(plan: ValidationPlan, found: Findings) -> Iterator[Guard]:
    """Yield the tau over the trainable networks beside structure there, and the taus within the benchmark's groups."""
    learnt = found.trainable
    if learnt is not None and not math.isnan(learnt.mean.tau.value):
        beside = "" if learnt.comparison is None else f"; {learnt.comparison.distance}"
        yield Guard(
            "trainable networks",
            learnt.mean.tau.low > 0,
            f"without the networks at chance τ is {_estimate(learnt.mean.tau)}{beside}",
        )
    for group, tau in found.over_all.mean.within.items():
        if group in plan.ranking.benchmark.groups and not math.isnan(tau):
            yield Guard(f"within {group}", None, f"between networks of one {group} τ is {_tau(tau)}")


def _unseen_tasks(plan: ValidationPlan, found: Findings, origin: Origin) -> Iterator[Guard]:
    """Yield the taus on the tasks that evolution never saw, where it saw others of the benchmark."""
    for task in origin.unseen(plan.ranking.benchmark.name, plan.ranking.tasks):
        row, learnt = found.over_all.on(task), found.trainable
        above = "" if learnt is None else f", over the trainable networks {_estimate(learnt.on(task).tau)}"
        yield Guard(f"unseen task {task}", row.tau.low > 0, f"τ is {_estimate(row.tau)}{above}")


def _repeats(found: Findings) -> Iterator[Guard]:
    for kind, varied in ((WEIGHTS, "initial weights"), (IMAGES, "images")):
        if kind in found.repeats:
            yield Guard(f"other {kind}", found.repeats[kind].agreement >= AGREE, _repeated(found.repeats[kind], varied))


def _repeated(repeats: Repeats, varied: str) -> str:
    count = len(repeats.taus)
    sets = f"{count} sets of {varied}" if varied != IMAGES else f"{count} batches of {repeats.batch} images each"
    taus = ", ".join(_tau(tau) for tau in repeats.taus)
    return (
        f"with {sets} τ is {taus} (mean {_tau(repeats.mean)}, spread {_tau(repeats.spread)}); two of the rankings "
        f"agree with τ {_tau(repeats.agreement)}: {repeats.noise:.0%} of the variance of its ranks is noise; the mean "
        f"of the ranks has τ {_tau(repeats.averaged)}"
    )


def _of_many(plan: ValidationPlan, found: Findings) -> Iterator[Guard]:
    many = found.of_many
    if many is not None and many.tried > 1:
        yield Guard(
            "after so many tries",
            many.low > 0 and found.over_all.mean.tau.value > many.by_chance,
            f"{many.tried:,} formulas were tried on {plan.ranking.split}: the 95 % interval that covers all of them is "
            f"{_tau(many.low)} to {_tau(many.high)}, and the best of so many that mean nothing would have τ up to "
            f"{_tau(many.by_chance)}",
        )


def _held_out(plan: ValidationPlan, found: Findings, origin: Origin) -> Iterator[Guard]:
    ranking = plan.ranking
    known = bool(origin.provenance.get("tasks"))
    holds = origin.held_out(ranking.benchmark.name, ranking.split) if known else None
    yield Guard("held out", holds, " ".join([*found.origin, found.looks]).strip())


def conclusion(plan: ValidationPlan, found: Findings, asked: list[Guard]) -> str:
    """Return the verdict: better than chance or not, better than structure or not, and what does not hold."""
    ranking, mean = plan.ranking, found.over_all.mean
    holds = {guard.question: guard.holds for guard in asked}
    if not holds["above chance"]:
        judged = "no better than chance"
    elif holds.get("better than structure"):
        judged = "better than structure"
    elif "better than structure" in holds:
        judged = "better than chance and no better than structure"
    else:
        judged = "better than chance"
    missing = [guard.question for guard in asked if guard.holds is False and guard.question not in judged]
    rest = [name for name in missing if name not in ("above chance", "better than structure")]
    fails = f" What does not hold: {', '.join(rest)}." if rest else ""
    return (
        f"On {_where(plan)} {plan.proxy} is {judged}: its mean τ is {_estimate(mean.tau)} over {mean.n} networks and "
        f"{len(ranking.tasks)} {'task' if len(ranking.tasks) == 1 else 'tasks'}.{fails}"
    )


def _where(plan: ValidationPlan) -> str:
    name, split = plan.ranking.benchmark.name, plan.ranking.split
    return name if split == "all" else f"the {split} split of {name}"


def _estimate(estimate: Estimate) -> str:
    return f"{_tau(estimate.value)} ({_tau(estimate.low)} to {_tau(estimate.high)})"


def _between(shuffled) -> str:
    return f"{_tau(shuffled.low)} to {_tau(shuffled.high)}"


def _tau(value: float) -> str:
    return f"{value:.3f}"
