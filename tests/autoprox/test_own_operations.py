"""Evolution with operations of a user: drawn, recorded in the journal, and asked for when a run goes on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import homes
import numpy as np
import orjson
import pytest
import synthetic
import torch
from torch import Tensor

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.benchmarks.tabular import TabularArchitecture
from autoprox.cli.root import main
from autoprox.evolution import JOURNAL, EvolutionWatcher, read_settings, run_evolution, start_evolution
from autoprox.evolve import TABULAR, Journal, SettingsError
from autoprox.primitives import OPERATIONS, Operation, Vocabulary
from autoprox.proxy import PROXY_FILE, Proxy, ProxyError

BENCHMARK = synthetic.benchmark(16)
CHOICES: dict[str, Any] = {"generations": 2, "population": 12, "founders": 1, "seed": 4}
FILES = (JOURNAL, "report.json", "report.csv", "generations.csv", PROXY_FILE)


def top_mean(x: Tensor) -> Tensor:
    """The mean of the rows' largest magnitudes"""
    return x.abs().amax(-1).mean(-1)


def softsign(x: Tensor) -> Tensor:
    """x / (1 + |x|)"""
    return torch.nn.functional.softsign(x)


TOP = Operation("top", "reduce", top_mean, r"\operatorname{{top}}\left({0}\right)", nonnegative=True)
SOFT = Operation("soft", "map", softsign, r"\operatorname{{soft}}\left({0}\right)", increasing=True)
OWN = OPERATIONS.extended(TOP, SOFT)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True, scope="module")
def _home(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AUTOPROX_HOME", str(homes.made(tmp_path_factory.mktemp("home"))))
        yield


def begin(name: str, operations: Vocabulary = OWN, **choices: Any) -> Path:
    start_evolution([BENCHMARK], ["*_kd"], Path(name), operations, **{**CHOICES, **choices})
    return Path(name)


@pytest.fixture(scope="module")
def whole(_home: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in one go, which the others must equal."""
    out = begin(str(tmp_path_factory.mktemp("whole") / "run"))
    run_evolution(out, operations=OWN)
    return out


def assert_same(out: Path, other: Path) -> None:
    for name in FILES:
        assert (out / name).read_bytes() == (other / name).read_bytes(), name


def test_evolution_judges_formulas_of_them(whole: Path) -> None:
    judged = [text for record in Journal.open(whole / JOURNAL).records for text, _ in record["judged"]]
    for name in ("top", "soft"):
        assert any(f"{name}(" in text for text in judged)
        assert any(f"{name}(" not in text for text in judged)


def test_the_journal_and_the_proxy_name_them(whole: Path) -> None:
    assert read_settings(whole).own_operations == ("top", "soft")
    assert Proxy.load(whole, OWN).provenance["own_operations"] == ["top", "soft"]


@pytest.mark.slow
def test_a_run_without_them_is_as_before() -> None:
    plain = begin("plain", OPERATIONS)
    assert orjson.loads((plain / JOURNAL).read_bytes())["settings"]["own_operations"] == []
    run_evolution(plain)
    head, *lines = (plain / JOURNAL).read_bytes().split(b"\n")
    older = orjson.loads(head)
    del older["settings"]["own_operations"]  # as journals were before there was such a setting
    Path("older").mkdir()
    (plain / "benchmarks").rename("older/benchmarks")
    (Path("older") / JOURNAL).write_bytes(orjson.dumps(older) + b"\n" + lines[0] + b"\n")
    run_evolution(Path("older"))
    assert (Path("older") / JOURNAL).read_bytes().split(b"\n")[1:] == lines


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.slow
def test_a_run_gone_on_with_is_the_run_in_one_go(whole: Path, workers: int) -> None:
    def interrupt(record: Mapping[str, Any]) -> None:
        if record["generation"] == 1:
            raise KeyboardInterrupt

    out = begin("run")
    assert not run_evolution(out, operations=OWN, watch=EvolutionWatcher(generation=interrupt)).finished
    run_evolution(out, operations=OWN, workers=workers)
    assert_same(out, whole)


def test_a_winner_with_one_is_saved_and_read_with_the_vocabulary() -> None:
    """The accuracies are a wave of the column. No built-in operation is a wave, so every good formula has this one."""
    rng = np.random.default_rng(0)
    column = rng.uniform(-3, 3, 60)
    rows = tuple(TabularArchitecture((("number", number),)) for number in range(60))
    table = Benchmark("table", None, None, "made up", rows, {"oa": 50 + 40 * np.sin(7 * column)}, {"column": column})
    wave = OPERATIONS.extended(Operation("wave", "map", seventh_sine, r"\sin 7{0}"))
    start_evolution([table], [], Path("run"), wave, grammar=TABULAR, **CHOICES)
    result = run_evolution(Path("run"), operations=wave)
    assert "wave(" in result.proxy.formula.text
    assert Proxy.load(Path("run"), wave).formula == result.proxy.formula
    with pytest.raises(ProxyError, match="unknown operation 'wave'"):
        Proxy.load(Path("run"))


def seventh_sine(x: Tensor) -> Tensor:
    """sin 7x"""
    return torch.sin(7 * x)


@pytest.mark.parametrize(
    ("begun", "now", "told"),
    [
        (OWN, OPERATIONS, r"own \(top, soft\), and now has others \(none\); call run_evolution"),
        (OWN, OPERATIONS.extended(TOP), r"own \(top, soft\), and now has others \(top\); call"),
        (OPERATIONS, OWN, r"own \(none\), and now has others \(top, soft\); call"),
    ],
    ids=["none", "fewer", "more"],
)
def test_other_operations_are_refused_when_a_run_goes_on(begun: Vocabulary, now: Vocabulary, told: str) -> None:
    out = begin("run", begun)
    before = (out / JOURNAL).read_bytes()
    with pytest.raises(SettingsError, match=f"^the run in run was started with operations of its {told}") as caught:
        run_evolution(out, operations=now)
    assert "\n" not in str(caught.value)
    assert (out / JOURNAL).read_bytes() == before


def test_the_command_line_refuses_to_go_on_with_them(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evolve", "--resume", "--out", str(whole)]) == 2
    assert "was started with operations of its own (top, soft)" in capsys.readouterr().err


def test_what_evolution_cannot_use_is_refused_before_anything_is_written() -> None:
    costly = OPERATIONS.extended(Operation("slow", "reduce", top_mean, r"{0}", costly=True))
    part = Vocabulary(*list(OPERATIONS.values())[1:], proven=True)
    for operations, choices, told in (
        (OWN, {"grammar": "auto-prox"}, "the grammar auto-prox does not use the operation 'top'; start with another"),
        (costly, {}, "the grammar typed does not use the operation 'slow'; start with costly=True"),
        (part, {}, f"the vocabulary has no built-in operation '{next(iter(OPERATIONS))}'; make it with OPERATIONS.ext"),
    ):
        with pytest.raises(SettingsError, match=f"^{told}") as caught:
            begin("run", operations, **choices)
        assert "\n" not in str(caught.value)
        assert not Path("run").exists()


@pytest.mark.slow
def test_a_function_that_workers_cannot_find_is_refused() -> None:
    hidden = OPERATIONS.extended(Operation("hidden", "reduce", lambda x: top_mean(x), "{0}"))
    out = begin("run", hidden, generations=0)
    with pytest.raises(SettingsError, match="'hidden' cannot be sent to worker processes"):
        run_evolution(out, operations=hidden, workers=2)
    assert run_evolution(out, operations=hidden).finished
