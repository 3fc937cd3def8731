"""`autoprox evolve` as people use it: killed, interrupted, resumed, misused; and what it prints."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import homes
import numpy as np
import pytest
import synthetic
from printed import everything

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.benchmarks.tabular import TabularArchitecture
from autoprox.cli.root import FAILED, INTERRUPTED, main
from autoprox.display.evolution import why_chosen
from autoprox.evolution import JOURNAL, EvolutionResult
from autoprox.evolve import COMBINATIONS, FORMULA, REFINEMENTS, STRATEGIES, EvolutionSettings, Journal, Report
from autoprox.proxy import PROXY_FILE, Proxy, resolve

BENCHMARK = synthetic.benchmark(16)
CHOICES = ("--tasks", "*_kd", "--generations", "6", "--population", "5", "--founders", "1", "--seed", "2")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's folder, with the benchmark in it."""
    made = homes.made(tmp_path_factory.mktemp("home"))
    BENCHMARK.save(made / "benchmarks" / "small.json")
    return made


@pytest.fixture(autouse=True)
def _in_a_folder_of_ones_own(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPROX_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)


def evolve(*arguments: str | Path) -> int:
    """Run the command here, on one worker."""
    return main(["evolve", "--workers", "1", *map(str, arguments)])


@pytest.fixture(scope="module")
def whole(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run in one go, which the others must equal."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AUTOPROX_HOME", str(home))
        out = tmp_path_factory.mktemp("whole") / "run"
        assert evolve("--bench", "small", *CHOICES, "--out", out) == 0
        yield out


def assert_same(out: Path, whole: Path) -> None:
    for name in (JOURNAL, PROXY_FILE, "report.json", "report.csv", "generations.csv"):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name


class Started:
    """The command in a process group of its own, as in a terminal."""

    def __init__(self, out: Path, *arguments: str | Path) -> None:
        self.out = out
        command = [sys.executable, "-m", "autoprox", "evolve", *map(str, arguments), "--out", str(out)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def wait_for(self, lines: int) -> None:
        """Wait until the journal has as many lines."""
        deadline = time.monotonic() + 120
        while not (self.out / JOURNAL).exists() or (self.out / JOURNAL).read_bytes().count(b"\n") < lines:
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.002)

    def end(self, number: int) -> tuple[int, str, str]:
        """Send a signal to the whole group; exit code, stdout and stderr."""
        os.killpg(self.process.pid, number)
        out, err = self.process.communicate(timeout=120)
        return self.process.returncode, out, err


# --- killed ---


@pytest.mark.slow
@pytest.mark.parametrize("lines", [2, 4, 7])
def test_a_killed_run_goes_on_to_the_same_result(tmp_path: Path, whole: Path, lines: int) -> None:
    out = tmp_path / "run"
    started = Started(out, "--bench", "small", *CHOICES, "--workers", "1")
    started.wait_for(lines)
    assert started.end(signal.SIGKILL)[0] == -signal.SIGKILL
    done = len(Journal.open(out / JOURNAL).records)
    assert lines - 1 <= done <= 7
    if lines > 2:  # the first generation may be in the journal and its proxy not yet
        assert Proxy.load(out / PROXY_FILE)
    assert evolve("--resume", "--out", out) == 0
    assert_same(out, whole)


@pytest.mark.slow
def test_killed_while_statistics_are_built(tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPROX_HOME", str(tmp_path / "home"))
    BENCHMARK.save(tmp_path / "home" / "benchmarks" / "small.json")
    started = Started(tmp_path / "run", "--bench", "small", *CHOICES, "--workers", "1")
    while len(list((tmp_path / "home" / "statistics").glob("*/*"))) < 3:
        assert started.process.poll() is None, started.process.communicate()
        time.sleep(0.002)
    started.end(signal.SIGKILL)
    assert len(Journal.open(tmp_path / "run" / JOURNAL).records) == 0
    assert evolve("--resume", "--out", tmp_path / "run") == 0
    assert_same(tmp_path / "run", whole)


# --- interrupted ---


def test_an_interrupt_leaves_a_proxy_and_says_how_to_go_on(tmp_path: Path, whole: Path) -> None:
    out = tmp_path / "run"
    started = Started(out, "--bench", "small", *CHOICES, "--workers", "2")
    started.wait_for(3)
    code, printed, errors = started.end(signal.SIGINT)
    assert code == INTERRUPTED
    assert "Traceback" not in errors
    assert re.search(r"^Interrupted after generation \d: the test split was not looked at\.$", printed, re.MULTILINE)
    assert f"Go on with: autoprox evolve --resume --out {out}\n" in printed
    assert resolve(str(out)).formula == Proxy.load(out / PROXY_FILE).formula
    assert {row["split"] for row in json.loads((out / "report.json").read_bytes())["rows"]} == {"evolve", "validation"}
    assert evolve("--resume", "--out", out) == 0
    assert_same(out, whole)


@pytest.mark.slow
def test_an_interrupt_while_workers_start(tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPROX_HOME", str(tmp_path / "home"))
    BENCHMARK.save(tmp_path / "home" / "benchmarks" / "small.json")
    started = Started(tmp_path / "run", "--bench", "small", *CHOICES, "--workers", "2")
    started.wait_for(1)
    while not list((tmp_path / "home" / "statistics").glob("*/*")):  # the first is built here, the rest by workers
        time.sleep(0.002)
    time.sleep(0.5)
    code, printed, errors = started.end(signal.SIGINT)
    assert code in (INTERRUPTED, -signal.SIGINT)  # a shell shows both as 130; CPython prefers the second inside exec()
    assert printed == ""
    *_, told, last = errors.splitlines()
    assert last == "interrupted"
    assert told.startswith("Nothing that was finished is lost. ")
    assert told.endswith(f"Go on with: autoprox evolve --resume --out {tmp_path / 'run'}")
    assert evolve("--resume", "--out", tmp_path / "run") == 0
    assert_same(tmp_path / "run", whole)


# --- what is printed ---


def test_a_run_says_what_it_does_and_what_came_out(
    tmp_path: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "[bold]odd"
    assert evolve("--bench", "small", *CHOICES, "--out", out) == 0
    assert_same(out, whole)
    printed = everything(capsys)
    assert f"→ {out}\n" in printed
    assert "tasks small:size_kd, small:shape_kd\n" in printed
    report = json.loads((out / "report.json").read_bytes())
    lines = [line for line in printed.splitlines() if line.startswith("generation ")]
    assert [int(line.split()[1]) for line in lines] == list(range(7))
    last = Journal.open(out / JOURNAL).records[-1]
    assert f"joint τ {last['best']['joint']:.3f}" in lines[-1]
    assert lines[-1].endswith(last["best"]["formula"])
    assert f"unique {last['unique']}" in lines[-1]
    assert f"formula  {report['formula']}\n" in printed
    for split in ("evolve", "validation", "test"):
        assert f"Kendall τ-b on the {split} split" in printed
    mean = next(r for r in report["rows"] if (r["predictor"], r["split"], r["task"]) == (FORMULA, "test", "mean"))
    assert f"{mean['tau']:.3f}" in printed
    assert "On test the formula" in printed
    assert "params" in printed
    assert f"Saved in {out}: proxy.json" in printed


def test_a_task_that_is_held_out_has_its_own_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    few = ("--tasks", "*_kd", "--generations", "0", "--population", "5", "--seed", "2")
    assert evolve("--bench", "small", *few, "--leave-out-task", "shape*", "--out", out) == 0
    printed = everything(capsys)
    assert "tasks small:size_kd\nheld out whole: small:shape_kd\n" in printed
    assert "Kendall τ-b on the test split of the tasks that were held out whole" in printed
    assert re.search(r"^Held out whole: On test the formula is (no )?better than structure", printed, re.MULTILINE)
    assert "Over the life of this run, test was looked at 1 time (evolve 1).\n" in printed
    assert evolve("--resume", "--out", out) == 0
    assert "test was looked at 2 times (evolve 2)" in capsys.readouterr().out
    assert "resume it without" in refused(capsys, "--resume", "--out", out, "--leave-out-bench", "mini-vit")


def test_the_help_says_what_the_choices_mean(capsys: pytest.CaptureFixture[str]) -> None:
    assert evolve("--help") == 0
    printed = "".join(capsys.readouterr().out.split())
    for name, record in [*STRATEGIES.items(), *COMBINATIONS.items(), *REFINEMENTS.items()]:
        assert f"{name}: {record.meaning}".replace(" ", "") in printed


@pytest.mark.parametrize(
    ("bench", "tasks", "weighted", "weights"),
    [
        ("small", "*_kd", "*_kd,shape_kd=3", (1, 3)),
        pytest.param("mini-vit", "*", "*,pines=2", (1, 1, 2), marks=pytest.mark.slow),
    ],
)
def test_weights_of_tasks_count(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    bench: str,
    tasks: str,
    weighted: str,
    weights: tuple[int, ...],
) -> None:
    """Weights reach the journal, the joint fitness, and the mean of the report."""
    joint = []
    for chosen, expected in ((tasks, (1,) * len(weights)), (weighted, weights)):
        out = tmp_path / str(len(joint))
        common = ("--generations", "1", "--population", "6", "--founders", "1", "--seed", "2", "--out", out)
        assert evolve("--bench", bench, "--tasks", chosen, *common) == 0
        journal, report = Journal.open(out / JOURNAL), json.loads((out / "report.json").read_bytes())
        assert tuple(journal.settings["weights"]) == expected
        joints = {text: found[0] for record in journal.records for text, found in record["judged"]}
        joints |= {row["formula"]: row["evolve"] for row in report["front"]}
        rows = [row for row in report["rows"] if (row["predictor"], row["split"]) == (FORMULA, "evolve")]
        taus = [row["tau"] for row in rows if row["task"] != "mean"]
        joint.append(joints[report["formula"]])
        assert joint[-1] == pytest.approx(np.average(taus, weights=expected))
        assert [row["tau"] for row in rows if row["task"] == "mean"] == pytest.approx([joint[-1]])
    assert joint[0] != joint[1]
    pairs = zip(journal.settings["tasks"], weights, strict=True)
    listed = ", ".join(task if weight == 1 else f"{task}={weight}" for task, weight in pairs)
    assert f"; the mean weighs {listed} " in " ".join(everything(capsys).split())


@pytest.mark.slow
def test_runs_are_numbered_and_the_last_is_gone_on_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ("--bench", "small", "--tasks", "size_kd, shape_kd,", "--population", "5", "--generations", "0")
    assert evolve(*few) == 0
    assert evolve(*few, "--seed", "1") == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["001", "002"]
    capsys.readouterr()
    assert evolve("--resume", "--generations", "1") == 0
    assert "→ runs/002" in everything(capsys)
    assert len(Journal.open(tmp_path / "runs" / "002" / JOURNAL).records) == 2


# --- misused ---


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one line that the command ends with, after the heading of a run that is gone on with."""
    assert evolve(*arguments) == FAILED
    error = capsys.readouterr().err.rpartition("error: ")
    assert error[0] == "" or error[0].startswith("autoprox evolve → ")
    return error[2].removesuffix("\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--bench", "smal"), "did you mean small?"),
        (("--bench", "nowhere.json"), "nowhere.json: there is no such file"),
        (("--bench", "small", "--tasks", "speed"), "no task is called 'speed'; there are size_kd, shape_kd, rare"),
        (("--bench", "small", "--bench", "small"), "two benchmarks are called small"),
        (
            ("--bench", "small", "--tasks", "*_kd", "--generations", "-1"),
            "generations is -1; it must be a whole",
        ),
        (("--bench", "small", "--tasks", "*_kd", "--population", "2"), "population is 2; it must be a whole number"),
        (
            ("--bench", "small", "--tasks", "*_kd", "--batch", "0"),
            "batch is 0; it must be a whole number",
        ),
        (("--bench", "small", "--workers", "0"), "workers is 0; it must be at least 1"),
        (("--resume",), "there is no run in runs/ to resume; name its directory with --out"),
        (("--resume", "--out", "nowhere"), "nowhere holds no run (no journal.jsonl); start one without --resume"),
        (("--bench", "small", "--tasks", "*_kd", "--out", "file/run"), "Not a directory"),
        (("--bench", "table.json"), "benchmark table is tabular: its networks cannot be built and probed"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: Sequence[str], message: str
) -> None:
    (tmp_path / "file").write_text("")
    table = Benchmark("table", None, None, "made up", (TabularArchitecture((("a", 1),)),), {"task": np.ones(1)})
    table.save(tmp_path / "table.json")
    error = refused(capsys, *arguments)
    assert message in error
    assert "\n" not in error
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--grammar", "free"), "'free' is not one of 'typed', 'auto-prox'"),
        (("--generations", "many"), "'many' is not a valid integer"),
        (("--out", "file"), "Directory 'file' is a file"),
        (("--colour",), "No such option"),
    ],
)
def test_wrong_usage_names_the_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: Sequence[str], message: str
) -> None:
    (tmp_path / "file").write_text("")
    error = refused(capsys, "--bench", "small", *arguments)
    assert message in error
    assert error.endswith("See 'autoprox evolve --help'.")


def test_a_read_only_folder_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, mode: int = 0o777) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(os, "mkdir", refuse)  # root, as in containers, would be allowed to write
    error = refused(capsys, "--bench", "small", "--tasks", "*_kd", "--out", "locked")
    assert error == (
        "locked/benchmarks: Permission denied; the run needs a folder that can be written and has room; "
        "or choose another --out"
    )


def test_a_run_is_not_started_over(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (whole / JOURNAL).read_bytes()
    error = refused(capsys, "--bench", "small", *CHOICES, "--out", whole)
    assert error == f"{whole} already holds a run; go on with --resume, or choose another --out"
    assert (whole / JOURNAL).read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--seed", "3"), "has --seed 2; resume it without --seed"),
        (("--population", "9"), "has --population 5; resume it without --population"),
        (("--grammar", "auto-prox"), "has --grammar typed; resume it without --grammar"),
        (("--strategy", "auto-prox"), "has --strategy elitist; resume it without --strategy"),
        (("--joint", "min"), "has --joint mean; resume it without --joint"),
        (("--costly",), "has --costly False; resume it without --costly"),
        (("--batch", "4"), "has --batch 2; resume it without --batch"),
        (("--retries", "0"), "has --retries 1; resume it without --retries"),
        (("--bench", "small"), "has its benchmarks and tasks; resume it without --bench and --tasks"),
        (("--tasks", "rare"), "has its benchmarks and tasks; resume it without --bench and --tasks"),
        (("--generations", "5"), "generations is 5, but the run in"),
    ],
)
def test_a_run_is_not_gone_on_with_otherwise(
    whole: Path, capsys: pytest.CaptureFixture[str], arguments: Sequence[str], message: str
) -> None:
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    assert message in refused(capsys, "--resume", "--out", whole, *arguments)
    assert {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()} == before


def test_settings_that_are_the_runs_may_be_repeated(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evolve("--resume", "--out", whole, "--seed", "2", "--generations", "6") == 0
    assert "On test the formula" in capsys.readouterr().out


def test_a_damaged_journal_is_one_line(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (whole / JOURNAL).read_bytes().split(b"\n")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / JOURNAL).write_bytes(b"\n".join([*lines[:3], b"x", *lines[4:]]))
    error = refused(capsys, "--resume", "--out", tmp_path / "run")
    assert "line 4 is damaged" in error
    assert error.endswith("start again with another --out")


def test_a_winner_that_is_not_the_last_best_is_explained(whole: Path) -> None:
    proxy = Proxy.load(whole / PROXY_FILE)
    last = Journal.open(whole / JOURNAL).records[-1]["best"]["formula"]
    report, settings = Report((), ()), EvolutionSettings((), ())
    other, same, fittest = (
        EvolutionResult(proxy, report, True, 6, text) for text in ("params", proxy.formula.text, last)
    )
    assert why_chosen(other, settings) == [
        "On validation it is the shortest that is as good as the best, within the noise; the very best on the evolve "
        "split was params"
    ]
    assert why_chosen(same, settings) == []
    assert bool(why_chosen(fittest, settings)) == (proxy.formula.text != last)
