"""Evolution on samples: formulas are judged by a sample of each matrix, the finalists and the report exactly."""

from pathlib import Path

import evolution_runs
import numpy as np
import pytest
import synthetic

from autoprox.bench_cache.rank_correlation import kendalls
from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.bench_cache.runtime.home import statistics_home
from autoprox.bench_cache.statistics import scorer as scoring
from autoprox.bench_cache.statistics.scorer import network_scorer
from autoprox.bench_cache.statistics.store import StatisticsCache
from autoprox.bench_cache.statistics.together import sampled_scores
from autoprox.display.evolution import heading, why_chosen
from autoprox.evolution import JOURNAL, EvolutionResult, read_settings, run_evolution, start_evolution
from autoprox.evolve import SAMPLED, Invalid, Judge, Judgement, SettingsError, Task, report
from autoprox.evolve.joint import combined
from autoprox.primitives import parse

FORMULAS = [
    parse("sum(fro(minmax(weight[msa])))"),
    parse("sum(l1(weight_grad[noise] * weight)) + depth"),
    parse("mean(std(act[fc1, noise])) * params"),
]


@pytest.fixture(autouse=True)
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of all sizes count as large."""
    monkeypatch.setattr(scoring, "SMALL", 0)


def sampled_judge(root: Path) -> Judge:
    """A sampled judge of two tasks."""
    scorer = network_scorer(evolution_runs.BENCHMARK, root, sampled=True)
    return Judge([scorer], [Task(0, "size_kd"), Task(0, "shape_kd")], sampled=True)


def run(out: Path, **choices: object) -> EvolutionResult:
    """A short run on samples."""
    return run_evolution(evolution_runs.begin(out, fitness=SAMPLED, **choices))


@pytest.mark.parametrize("split", ["evolve", "validation"])
def test_the_fitness_is_that_of_the_sample(tmp_path: Path, split: str) -> None:
    judge, exact = sampled_judge(tmp_path), synthetic.judge(tmp_path, evolution_runs.BENCHMARK)
    (scores,) = sampled_scores(judge.scorers, FORMULAS, [judge.architectures(0, split)])
    taus = np.array([kendalls(scores, judge.accuracies(task, split)) for task in judge.tasks])
    rival = Judgement((2.0, 2.0), 2.0)  # above which no formula is: none is dropped unjudged
    for outcome, column in zip(judge.judge(FORMULAS, split, [rival]), taus.T.tolist(), strict=True):
        assert isinstance(outcome, Judgement)
        assert outcome.taus == tuple(column)
        assert outcome.joint == combined(column, judge.weights, "mean")
    assert judge.judge_exactly(FORMULAS, split) == exact.judge_exactly(FORMULAS, split)
    assert judge.judge(FORMULAS, split) != judge.judge_exactly(FORMULAS, split)


def test_only_samples_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPROX_HOME", str(tmp_path / "home"))  # else an earlier run's whole statistics may be there
    run(tmp_path / "run")
    names = {path.name for path in statistics_home().rglob("*.safetensors")}
    assert names
    assert all("-every8" in name for name in names)


def test_finalists_and_report_are_exact(tmp_path: Path) -> None:
    result = run(tmp_path / "run")
    exact = synthetic.judge(tmp_path / "elsewhere", evolution_runs.BENCHMARK)
    assert result.report == report(exact, result.proxy.formula)
    for row in result.front:
        (on_evolve,), (on_validation,) = (
            exact.judge([parse(row.formula)], split) for split in ("evolve", "validation")
        )
        assert isinstance(on_evolve, Judgement)
        assert isinstance(on_validation, Judgement)
        assert (row.evolve, row.validation) == (on_evolve.joint, on_validation.joint)
    fitness = [row.evolve for row in result.front]
    assert fitness == sorted(set(fitness))


def test_a_formula_without_an_exact_fitness_is_not_on_the_front(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[str] = []
    judge_exactly = Judge.judge_exactly

    def loses_the_first(judge: Judge, formulas: list, split: str) -> list:
        outcomes = judge_exactly(judge, formulas, split)
        if split == "evolve" and len(formulas) > 1:
            lost.append(formulas[0].text)
            outcomes[0] = Invalid("constant")
        return outcomes

    monkeypatch.setattr(Judge, "judge_exactly", loses_the_first)
    result = run(tmp_path / "run")
    assert lost
    assert lost[0] not in [row.formula for row in result.front]
    monkeypatch.undo()
    monkeypatch.setattr(scoring, "SMALL", 0)
    assert lost[0] == run(tmp_path / "again").proxy.formula.text  # which it would have been
    assert lost[0] != result.proxy.formula.text


def test_the_same_whatever_the_workers_and_where_it_stopped(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    folder = evolution_runs.begin(tmp_path / "stopped", fitness=SAMPLED)
    stopped = run_evolution(folder, workers=2, watch=evolution_runs.at_generation(1, evolution_runs.interrupt))
    assert not stopped.finished
    run_evolution(folder, workers=2)
    assert (folder / JOURNAL).read_bytes() == (tmp_path / "whole" / JOURNAL).read_bytes()
    assert (folder / "report.json").read_bytes() == (tmp_path / "whole" / "report.json").read_bytes()


def test_small_and_large_networks_are_judged_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = synthetic.mini(24)
    monkeypatch.setattr(scoring, "SMALL", int(small.structure()["params"].max()))
    pits = evolution_runs.BENCHMARK
    assert pits.structure()["params"].max() > scoring.SMALL
    scorers = [network_scorer(each, tmp_path, sampled=True) for each in (pits, small)]
    assert [scorer.stride for scorer in scorers] == [8, 1]
    judge = Judge(scorers, [Task(0, "size_kd"), Task(1, "small")], sampled=True)
    for sampled, exact in zip(judge.judge(FORMULAS), judge.judge_exactly(FORMULAS, "evolve"), strict=True):
        assert isinstance(sampled, Judgement)
        assert isinstance(exact, Judgement)
        assert sampled.taus[1] == exact.taus[1]
    assert judge.judge(FORMULAS) != judge.judge_exactly(FORMULAS, "evolve")


def test_small_networks_alone_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "SMALL", 10**6)
    with pytest.raises(SettingsError, match=r"the networks of small are small, .*leave out --fitness sampled"):
        evolution_runs.begin(tmp_path / "run", fitness=SAMPLED)


def test_small_networks_are_refused_beside_large_ones_that_are_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = synthetic.mini(24)
    monkeypatch.setattr(scoring, "SMALL", int(small.structure()["params"].max()))
    held_out = [synthetic.benchmark()]
    with pytest.raises(SettingsError, match="the networks of mini are small"):
        start_evolution([small], ["small"], tmp_path / "run", leave_out_benchmarks=held_out, fitness=SAMPLED)


def test_a_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="leave out --costly, --batch and --fitness"):
        evolution_runs.begin(tmp_path / "run", fitness=SAMPLED, grammar="tabular")


def test_no_such_fitness(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="fitness is 'half'; it must be one of exact, sampled"):
        evolution_runs.begin(tmp_path / "run", fitness="half")


def test_no_room_for_samples_is_said_before_they_are_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = network_scorer(evolution_runs.BENCHMARK, tmp_path, sampled=True)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(BenchmarkError, match=r"the statistics of small need another .* 0\.0 GB are free"):
        scorer.prepare(FORMULAS, range(5))


def test_the_words_say_that_fitness_is_sampled(tmp_path: Path) -> None:
    result = run(tmp_path / "run")
    settings = read_settings(tmp_path / "run")
    assert "fitness sampled" in heading(settings, tmp_path, 3).plain
    assert "fitness" not in heading(read_settings(evolution_runs.begin(tmp_path / "exact")), tmp_path, 3).plain
    (why,) = why_chosen(EvolutionResult(result.proxy, result.report, True, 3, "params"), settings)
    assert why.endswith("the very best on the evolve split, by a sample of each matrix, was params")


def test_room_counts_samples_alone(tmp_path: Path) -> None:
    scorer = network_scorer(evolution_runs.BENCHMARK, tmp_path, sampled=False)
    scorer.prepare(FORMULAS, [0])
    cache, subject = StatisticsCache(tmp_path), scorer.subjects[0]
    assert 0 < cache.size(subject, 8) < cache.size(subject) / 4
