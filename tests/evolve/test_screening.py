"""Screening: of large networks, formulas are first estimated on a sample of the statistics; judgements stay exact."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import synthetic
import torch

from autoprox.bench_cache.rank_correlation import kendalls
from autoprox.bench_cache.statistics import scorer as scoring
from autoprox.bench_cache.statistics.large import STRIDE, LargeScorer
from autoprox.bench_cache.statistics.store import SHAPES, StatisticsCache, slots_of, thinned
from autoprox.bench_cache.statistics.together import estimates
from autoprox.evolve import Breeder, Invalid, Judge, Judgement, fitness, grammar
from autoprox.evolve.fitness import MARGIN, Outcome
from autoprox.evolve.joint import combined
from autoprox.evolve.variation import generator
from autoprox.primitives import Formula, Reading, evaluate, parse
from autoprox.primitives.evaluate import requirements

BENCHMARK = synthetic.benchmark()
FORMULAS = [
    parse(text)
    for text in (
        "sum(fro(minmax(weight[msa])) + sqrt(mean(sigmoid(act_grad[msa, noise]))))",
        "sum(l1(weight_grad[noise] * weight))",
        "mean(std(act[fc1, noise])) - depth",
        "sum(mean(attn[noise])) * params",
        "sum(l1_mean(weight_grad[synflow]))",
    )
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the statistics of this file's tests are."""
    return tmp_path_factory.mktemp("statistics")


@pytest.fixture
def large(root: Path, monkeypatch: pytest.MonkeyPatch) -> Judge:
    """A judge of networks that count as large."""
    monkeypatch.setattr(scoring, "SMALL", 0)
    return synthetic.judge(root, BENCHMARK)


#: The same as they are on a sample: what adds up entries counts as often as the whole has as many.
ON_SAMPLE = [
    parse(text)
    for text in (
        "sum(8 * fro(minmax(weight[msa])) + sqrt(mean(sigmoid(act_grad[msa, noise]))))",
        "sum(64 * l1(weight_grad[noise] * weight))",
        *(formula.text for formula in FORMULAS[2:]),
    )
]


def sampled(scorer: LargeScorer, index: int, formula: Formula) -> Reading:
    """The statistics of a formula, thinned here."""
    pairs = [pair for pair in requirements([formula]) if pair[0] not in ("params", "depth")]
    wanted = [(*pair, slot) for pair in pairs for slot in slots_of(pair[0])]
    reading = StatisticsCache(scorer.root).read(scorer.subjects[index], wanted, SHAPES)
    for key, blocks in reading.matrices.items():
        reading.matrices[key] = [thinned(matrix, reading.samples[key[:2]], STRIDE) for matrix in blocks]
    return reading


def test_thinned_keeps_every_stride_th_row_of_each_sample_and_column() -> None:
    matrix = torch.arange(2 * 5 * 4.0).reshape(10, 4)
    assert thinned(matrix, 2, 3).tolist() == [[0, 3], [12, 15], [20, 23], [32, 35]]
    assert torch.equal(thinned(matrix, 1, 1), matrix)


def test_an_estimate_is_the_formula_on_thinned_statistics(large: Judge) -> None:
    scorer = large.scorers[0]
    assert isinstance(scorer, LargeScorer)
    at = large.architectures(0, "evolve")[:5]
    (found,) = estimates([scorer], FORMULAS, [at])
    for row, formula in zip(found, ON_SAMPLE, strict=True):
        expected = [evaluate(formula, sampled(scorer, index, formula)) for index in at]
        np.testing.assert_allclose(row, expected, rtol=1e-5, err_msg=formula.text)


def test_what_is_judged_is_exact_and_what_is_not_is_estimated_far_below_the_bar(large: Judge) -> None:
    exact, scorer = large.judge(FORMULAS), large.scorers[0]
    assert isinstance(scorer, LargeScorer)
    (scores,) = estimates([scorer], FORMULAS, [large.architectures(0, "evolve")])
    taus = np.array([kendalls(scores, large.accuracies(task, "evolve")) for task in large.tasks])
    estimated = [combined(column, large.weights, large.combination) for column in taus.T.tolist()]
    rival = Judgement((0.0,), float(np.median(estimated)) + MARGIN - 1e-9)
    dropped = 0
    for estimate, outcome, plain in zip(estimated, large.judge(FORMULAS, rivals=[rival]), exact, strict=True):
        if isinstance(outcome, Invalid) and outcome != plain:
            dropped += 1
            assert estimate < rival.joint - MARGIN
            assert "too far below" in outcome.reason
        else:
            assert estimate >= rival.joint - MARGIN
            assert outcome == plain
    assert 0 < dropped < len(FORMULAS)
    assert large.judge(FORMULAS) == exact  # without rivals, everything is judged


@pytest.mark.parametrize("at_once", [1, 2])
def test_what_is_judged_raises_the_bar(large: Judge, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The best estimates first: each is judged as long as it is not far below the worst of as many of the best as
    there were rivals, those that rank alike counted once."""
    twice = [*FORMULAS, *FORMULAS]
    exact, guesses = large.judge(twice), large._estimated(twice, "evolve")
    assert guesses is not None
    monkeypatch.setattr(fitness, "AT_ONCE", at_once)
    rivals = [Judgement((-1.0,), -1.0), Judgement((-0.9,), -0.9), Judgement((-0.9,), -0.9)]
    best, expected = {rival.taus: rival.joint for rival in rivals}, []
    order = np.argsort(-guesses, kind="stable").tolist()
    while order and guesses[order[0]] >= sorted(best.values())[-2] - MARGIN:
        bar, next_ones, order = sorted(best.values())[-2], order[:at_once], order[at_once:]
        expected += [n for n in next_ones if guesses[n] >= bar - MARGIN]
        for outcome in (exact[n] for n in next_ones):
            if isinstance(outcome, Judgement):
                best[outcome.taus] = outcome.joint
    found = large.judge(twice, rivals=rivals)
    assert 2 <= len(expected) < len(twice)
    assert [number for number in range(len(twice)) if found[number] == exact[number]] == sorted(expected)


def test_networks_that_are_not_kept_run_once(root: Path, large: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitness, "AT_ONCE", 1)
    asked: list[int] = []
    judge = large.judge_exactly

    def judge_exactly(formulas: Sequence[Formula], split: str) -> list[Outcome]:
        asked.append(len(formulas))
        return judge(formulas, split)

    monkeypatch.setattr(large, "judge_exactly", judge_exactly)
    rivals = [Judgement((-1.0 - number,), -1.0) for number in range(len(FORMULAS) + 1)]
    large.judge(FORMULAS, rivals=rivals)
    assert asked == [1] * len(FORMULAS)
    assert isinstance(large.scorers[0], LargeScorer)
    large.scorers[0].kept.remove(int(large.architectures(0, "evolve")[0]))
    large.judge(FORMULAS, rivals=rivals)
    assert asked[len(FORMULAS) :] == [len(FORMULAS)]


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_what_is_kept_changes_no_outcome(large: Judge, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitness, "AT_ONCE", at_once)
    twice, rivals = [*FORMULAS, *FORMULAS], [Judgement((-1.0,), -1.0), Judgement((-0.9,), -0.9)]
    kept = large.judge(twice, rivals=rivals)
    scorer = large.scorers[0]
    assert isinstance(scorer, LargeScorer)
    scorer.kept.remove(int(large.architectures(0, "evolve")[0]))
    assert large.judge(twice, rivals=rivals) == kept
    assert at_once == 100 or any("too far below" in each.reason for each in kept if isinstance(each, Invalid))


def test_the_population_has_exact_fitness(large: Judge) -> None:
    breeder = Breeder(grammar("typed", probe="noise"), large)
    rng = generator(1)
    founders = [breeder.founder(rng) for _ in range(12)]
    breeder.evaluate(founders)
    children = [breeder.child(parent, founders, rng) for parent in founders]
    best = max((f for f in founders if isinstance(f.outcome, Judgement)), key=lambda f: f.fitness)
    breeder.evaluate(children, rivals=[best])
    reference = synthetic.judge(large.scorers[0].root, BENCHMARK)  # type: ignore[union-attr]
    for child in children:
        if isinstance(child.outcome, Judgement):
            assert reference.judge([child.canonical])[0] == child.outcome


def test_small_networks_are_judged_at_once(root: Path) -> None:
    judge = synthetic.judge(root, synthetic.mini(24), tasks=("small",))
    assert judge.judge(FORMULAS, rivals=[Judgement((0.99,), 0.99)]) == judge.judge(FORMULAS)


def test_samples_are_kept_and_made_again_when_damaged(large: Judge, tmp_path: Path) -> None:
    scorer = LargeScorer(BENCHMARK, tmp_path)
    scorer.prepare(FORMULAS, [0])
    files = sorted(tmp_path.rglob(f"*-every{STRIDE}.safetensors"))
    assert [file.name.split("-every")[0] for file in files] == [
        "act-noise", "act_grad-noise", "attn-noise", "weight-any", "weight_grad-noise", "weight_grad-synflow",
    ]  # fmt: skip
    cache, subject = StatisticsCache(tmp_path), scorer.subjects[0]
    read = cache.read_sample(subject, [("act", "noise")], STRIDE).matrices
    first = {key: [matrix.clone() for matrix in blocks] for key, blocks in read.items()}  # not the mapped file
    damaged = files[0].read_bytes()[:-8] + bytes(8)
    files[0].write_bytes(damaged)
    again = StatisticsCache(tmp_path).read_sample(subject, [("act", "noise")], STRIDE)
    assert files[0].read_bytes() != damaged
    for key, blocks in first.items():
        assert all(torch.equal(a, b) for a, b in zip(blocks, again.matrices[key], strict=True))
