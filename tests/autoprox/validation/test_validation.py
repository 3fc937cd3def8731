"""`validate`, as a function and as a command: what it says, what it keeps, how it goes on, what it refuses."""

import re
from pathlib import Path

import homes
import orjson
import pytest
import synthetic
from printed import everything

import autoprox
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.cli.root import FAILED, main
from autoprox.evolution import JOURNAL
from autoprox.evolve import add_look, count_looks
from autoprox.evolve.report import DEPTH_WIDTH, FITTED
from autoprox.proxy import Proxy
from autoprox.rank.plan import make_plan
from autoprox.rank.scores import collect
from autoprox.rank.stats import rank_rows
from autoprox.validation.origin import Origin, origin_of
from autoprox.validation.plan import make_validation_plan

BENCHMARK = synthetic.benchmark(24)
GRADIENT = "sum(fro(weight_grad))"
CHOICES = {"tasks": "*_kd", "split": "all", "seeds": 2, "progress": False}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory):
    return autoprox.validate(GRADIENT, BENCHMARK, out=tmp_path_factory.mktemp("validated") / "run", **CHOICES)


def held(result) -> dict[str, bool | None]:
    return {guard.question: guard.holds for guard in result.guards}


def test_its_numbers_are_those_of_rank(found, tmp_path: Path) -> None:
    plan = make_plan(BENCHMARK, tasks=["*_kd"], proxies=[GRADIENT])
    rows = rank_rows(collect(plan, tmp_path / "run").table)
    for task in ("size_kd", "shape_kd", "mean"):
        of_rank = next(row for row in rows if (row.task, row.proxy) == (task, GRADIENT))
        own = next(row for row in found.findings.over_all.rows if (row.task, row.proxy) == (task, GRADIENT))
        assert (own.tau, own.n, own.partial, own.given_fitted) == (
            of_rank.tau, of_rank.n, of_rank.partial, of_rank.given_fitted,
        )  # fmt: skip


def test_it_stands_beside_every_baseline(found) -> None:
    proxies = {row.proxy for row in found.findings.over_all.rows}
    assert proxies == {"params", "flops", "activations", "depth", "width", DEPTH_WIDTH, FITTED, GRADIENT}
    assert found.findings.over_all.comparison.baselines == 7


def test_weights_are_repeated_and_images_only_where_there_are_some(found) -> None:
    assert list(found.findings.repeats) == ["weights"]
    assert len(found.findings.repeats["weights"].taus) == 2
    assert found.findings.repeats["weights"].taus[0] == pytest.approx(found.findings.over_all.mean.tau.value)
    mini = synthetic.mini(24)
    plan = make_validation_plan(mini, Origin(GRADIENT, {}), split="all")
    (first, second) = plan.repeats()["images"]
    assert [(each.batch, each.draw, each.seed) for each in (first, second)] == [(2, 0, 0), (2, 1, 0)]
    assert len(plan.rankings()) == 1 + 2 + 2
    assert make_validation_plan(mini, Origin("depth * width", {}), split="all").repeats() == {}
    assert list(make_validation_plan(mini, Origin("l2-norm", {}), split="all").repeats()) == ["weights"]


@pytest.mark.slow
def test_the_same_call_goes_on_and_more_seeds_score_only_what_is_new(found) -> None:
    before = {path: path.read_bytes() for path in found.out.rglob("scores.jsonl")}
    assert len(before) == 2
    again = autoprox.validate(GRADIENT, BENCHMARK, out=found.out, resume=True, **CHOICES)
    assert again.record() == found.record()
    more = autoprox.validate(GRADIENT, BENCHMARK, out=found.out, resume=True, **{**CHOICES, "seeds": 3})
    assert len(more.findings.repeats["weights"].taus) == 3
    assert {path: path.read_bytes() for path in before} == before
    with pytest.raises(ValueError, match="holds a run with another setting: proxies is"):
        autoprox.validate("params", BENCHMARK, out=found.out, resume=True, **CHOICES)


def test_what_is_saved_and_shown(found) -> None:
    record = orjson.loads((found.out / "validation.json").read_bytes())
    assert record["verdict"] == found.verdict
    assert record["formula"] == GRADIENT
    assert record["shuffled_labels"]["p"] == found.findings.shuffled.p
    assert record["all"]["comparison"]["baseline"] == found.findings.over_all.comparison.baseline
    text = str(found)
    assert found.verdict in text.replace("\n", " ")
    assert "guards against self-deception" in text
    assert "No run is recorded for it" in re.sub(r"\s+", " ", text)
    assert len(found.records()) == 8 * 3


def test_a_verdict_says_what_does_not_hold(found) -> None:
    assert held(found)["above chance"]
    assert held(found)["held out"] is None
    better = held(found)["better than structure"]
    assert ("no better than structure" in found.verdict) is not better
    assert found.verdict.startswith(f"On small {GRADIENT} is better than ")


def test_many_tries_widen_the_interval(found) -> None:
    many = autoprox.validate(GRADIENT, BENCHMARK, out=found.out, resume=True, tried=10_000, **CHOICES)
    usual = found.findings.over_all.mean.tau
    assert many.findings.of_many.low < usual.low
    assert many.findings.of_many.high > usual.high
    assert "after so many tries" in held(many)
    assert "after so many tries" not in held(found)
    with pytest.raises(ValueError, match="tried is 0"):
        autoprox.validate(GRADIENT, BENCHMARK, out=found.out, tried=0, **CHOICES)


# --- where a proxy comes from ---


def run(folder: Path, **provenance: object) -> Path:
    """A run directory, as far as validate reads one."""
    from autoprox.evolve import Journal

    Proxy.from_formula(GRADIENT, "evolved", provenance).save(folder / "proxy.json")
    Journal.create(folder / JOURNAL, {})
    return folder


@pytest.mark.slow
def test_a_run_that_was_evolved_here_says_so_and_counts_its_looks(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", tasks=["small:size_kd"], tried=500)
    add_look(folder, "evolve", ["small"], GRADIENT)
    origin = origin_of(str(folder), BENCHMARK)
    assert origin.evolved_on("small") == ["size_kd"]
    assert [origin.tried("small", split) for split in ("all", "evolve", "validation", "test")] == [500, 500, 10, 1]
    assert [origin.held_out("small", split) for split in ("all", "evolve", "validation", "test")] == [False] * 3 + [
        True
    ]
    assert origin.tried("other", "all") == 1
    result = autoprox.validate(folder, BENCHMARK, out=tmp_path / "out", **{**CHOICES, "seeds": 1})
    assert held(result)["held out"] is False
    (unseen,) = (guard for guard in result.guards if guard.question == "unseen task shape_kd")
    tau = next(row.tau for row in result.findings.over_all.rows if (row.task, row.proxy) == ("shape_kd", str(folder)))
    assert unseen.found == f"τ is {tau.value:.3f} ({tau.low:.3f} to {tau.high:.3f})"
    assert result.findings.of_many.tried == 500
    assert result.findings.origin == (
        "It was evolved on size_kd of small: the evolve and validation splits helped to choose it, so that these "
        "figures are not held out.",
        "Its evolution never saw labels of shape_kd.",
    )
    assert result.findings.looks == "Over the life of this run, test was looked at 2 times (evolve 1, validate 1)."
    again = autoprox.validate(folder, BENCHMARK, out=tmp_path / "out", resume=True, **{**CHOICES, "seeds": 1})
    assert again.findings.looks == result.findings.looks  # the same figures are no new look


@pytest.mark.slow
def test_rank_counts_its_looks_too(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", tasks=["small:size_kd"], tried=500)
    first, again = (
        autoprox.rank(
            BENCHMARK, [str(folder)], tasks="*_kd", out=tmp_path / "ranks" / "001", resume=resume, progress=False
        )
        for resume in (False, True)
    )
    assert first.words[-1] == f"{folder}: Over the life of this run, test was looked at 1 time (rank 1)."
    assert again.words == first.words
    autoprox.rank(BENCHMARK, [folder], tasks="*_kd", split="evolve", out=tmp_path / "ranks" / "002", progress=False)
    assert count_looks(folder) == 1


def test_a_run_of_another_benchmark_is_held_out(tmp_path: Path) -> None:
    origin = origin_of(str(run(tmp_path / "run", tasks=["far:a", "far:b"])), BENCHMARK)
    assert list(origin.words("small", ["rare"], "all")) == ["It was evolved on far:a, far:b: small had no part in it."]
    assert origin.held_out("small", "all")


def test_the_zoo_says_its_source() -> None:
    (line,) = origin_of("info-nas", BENCHMARK).words("small", ["rare"], "all")
    assert line.startswith("It is of the zoo: ")


# --- the command ---


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    BENCHMARK.save(tmp_path / "benchmarks" / "small.json")
    monkeypatch.setenv("AUTOPROX_HOME", str(homes.made(tmp_path)))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMAND = ("validate", "depth * width", "--bench", "small", "--tasks", "*_kd", "--split", "all", "--workers", "1")


def test_the_command_prints_the_guards(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(COMMAND) == 0
    shown = everything(capsys)
    assert shown.startswith("autoprox validate → validations/001\ndepth * width\nsmall, split all: 24 architectures")
    assert "Saved in validations/001: validation.csv, validation.json, scores/" in shown
    assert main((*COMMAND, "--json")) == 0
    printed = capsys.readouterr().out
    assert orjson.loads(printed) == orjson.loads((home / "validations" / "002" / "validation.json").read_bytes())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("validate", "synflo", "--bench", "small"), "did you mean 'synflow'?"),
        (("validate", "all", "--bench", "small"), "'all' is no shipped proxy"),
        ((*COMMAND, "--seeds", "0"), "seeds is 0 and batches 2; both must be at least 1"),
        ((*COMMAND, "--tried", "0"), "tried is 0; it must be at least 1"),
        (("validate", "params", "--bench", "none"), "unknown benchmark 'none'"),
    ],
)
def test_errors_are_one_line(
    home: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert main(arguments) == FAILED
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (home / "validations").exists()


def test_a_column_of_a_table_is_judged_like_a_proxy(tmp_path: Path) -> None:
    from autoprox.bench_cache.benchmarks.tabular import TabularArchitecture

    rows = tuple(TabularArchitecture((("layer_num", n), ("embed_dim", 48))) for n in range(40))
    y = 50 + synthetic.np.random.default_rng(0).normal(size=40)
    table = Benchmark("table", None, None, "made up", rows, {"oa": y}, {"snip": y + 1, "m_size": y * 0 + 5})
    result = autoprox.validate("snip", table, out=tmp_path / "run", **{**CHOICES, "tasks": ()})
    assert result.findings.over_all.mean.tau.value == pytest.approx(1)
    assert result.findings.repeats == {}
    assert held(result)["better than structure"]
