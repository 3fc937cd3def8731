"""`autoprox search`: what it prints and saves, what it refuses, and that a killed search ends as if it had not been."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from places import ROOT
from printed import everything
from public_files import reference

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.runtime import files
from autoprox.bench_cache.spaces.registry import InputSpec, get_space
from autoprox.cli.root import INTERRUPTED, main
from autoprox.display.search import SearchScreen
from autoprox.proxy import Proxy
from autoprox.search.run import JOURNAL

PIT = get_space("pit-vb101")
SPEC = InputSpec(24, 3, 10, 8)
INPUT = ("--image-size", "24", "--classes", "10", "--patch-size", "8")
SPACE = ("search", "--space", "pit-vb101", *INPUT, "--workers", "1")
NOISE = "sum(l1(weight * weight_grad[noise]))"


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("AUTOPROX_HOME", str(tmp_path / "home"))


def run(*arguments: object, code: int = 0) -> None:
    assert main([str(argument) for argument in arguments]) == code


def results(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in ("architectures.json", "architectures.csv", JOURNAL)]


def interrupting(monkeypatch, count: int) -> None:
    """Ctrl-C after so many architectures."""
    shown = SearchScreen.progress

    def progress(self, progress) -> None:
        shown(self, progress)
        if progress.done == count:
            raise KeyboardInterrupt

    monkeypatch.setattr(SearchScreen, "progress", progress)


def save_benchmark(path: Path) -> Benchmark:
    by_size = {PIT.params(arch, SPEC): arch for arch in PIT.architectures()}  # type: ignore[attr-defined]
    archs = [by_size[size] for size in sorted(by_size)[:30]]
    archs = [archs[number * 7 % 30] for number in range(30)]
    accuracy = np.linspace(50, 60, 30)
    holes = np.where(np.arange(30) == np.argmax([PIT.params(a, SPEC) for a in archs]), np.nan, accuracy)
    bench = Benchmark("small", "pit-vb101", SPEC, "made up", tuple(archs), {"full": accuracy, "holes": holes})
    bench.save(path)
    return bench


# Searching a space


def test_the_best_are_printed_and_saved(tmp_path: Path, capsys) -> None:
    out = tmp_path / "found"
    run(*SPACE, "--proxy", NOISE, "--max-params", "300K", "--budget", 20, "--top", 4, "--population", 8, "--out", out)
    shown = everything(capsys)
    assert f"proxy {NOISE}\n" in shown
    assert "pit-vb101 (24 px, 3 channels, 10 classes), parameters ≤ 300,000" in shown
    assert "strategy evolution, budget 20, seed 0" in shown
    assert "scored 20 of 20, best" in shown
    assert "The best 4 of 20 architectures" in shown
    saved = json.loads((out / "architectures.json").read_text())
    assert (saved["finished"], saved["scored"], saved["proxy"]) == (True, 20, NOISE)
    assert saved["settings"]["limits"]["max_params"] == 300_000
    assert [row["rank"] for row in saved["architectures"]] == [1, 2, 3, 4]
    proxy = Proxy.load(out / "proxy.json")
    for row in saved["architectures"]:
        arch = PIT.from_json(row["arch"])
        assert row["params"] == PIT.params(arch, SPEC) <= 300_000
        assert (row["flops"], row["activations"]) == (PIT.flops(arch, SPEC), PIT.activations(arch, SPEC))
        assert (row["depth"], row["width"]) == (PIT.depth(arch), PIT.width(arch))
        assert f"{row['score']:.7g}" in shown
        assert PIT.key(arch).partition(":")[2].replace("|", " | ") in shown
    model = PIT.build(PIT.from_json(saved["architectures"][0]["arch"]), SPEC)
    assert saved["architectures"][0]["score"] == proxy.score(model, torch.zeros(2, 3, 24, 24))
    with open(out / "architectures.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [int(row["rank"]) for row in table] == list(range(1, 21))
    scores = [float(row["score"]) for row in table]
    assert scores == sorted(scores, reverse=True)
    assert [json.loads(row["arch"]) for row in table[:4]] == [row["arch"] for row in saved["architectures"]]


def test_ties_are_told(capsys) -> None:
    run(*SPACE, "--proxy", "depth", "--max-params", "1M", "--budget", 40)
    shown = capsys.readouterr().out
    assert "of 40 share the best score." in shown
    run(*SPACE, "--proxy", "params", "--max-params", "1M", "--budget", 40)
    assert "share the best score" not in capsys.readouterr().out


def test_without_out_nothing_is_written(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    run("search", "--space", "autoformer-tiny", "--proxy", "params", "--max-params", "6e6", "--max-flops", "1.4G",
        "--strategy", "random", "--budget", 30)  # fmt: skip
    shown = capsys.readouterr().out
    assert "with params 1.00" in shown
    assert max(len(line) for line in shown.splitlines() if not line.startswith("Next: ")) <= 120
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--space pit-vb101", "Name a --proxy"),
        ("--proxy params", "either a --space"),
        ("--proxy params --space pit-vb101 --bench x", "either a --space"),
        ("--proxy params --space pit-vb102", "did you mean pit-vb101"),
        ("--proxy parms --space pit-vb101", "did you mean 'params'"),
        ("--proxy sum(l1(wieght)) --space pit-vb101", "unknown statistic 'wieght'"),
        ("--proxy params --bench nowhere", "unknown benchmark 'nowhere'"),
        ("--proxy params --space pit-vb101 --max-params 6X", "'6X' is no number such as"),
        ("--proxy params --space pit-vb101 --max-params 100K", "the smallest has 186,312; raise --max-params"),
        ("--proxy params --space pit-vb101 --max-flops 1M", "the smallest has 86,109,472"),
        ("--proxy params --space pit-vb101 --min-params 9G", "widen the limits"),
        ("--proxy params --space pit-vb101 --min-params 9M --max-params 8M", "above --max-params"),
        ("--proxy params --space pit-vb101 --budget 0", "budget is 0"),
        ("--proxy params --space pit-vb101 --workers 0", "workers is 0; it must be at least 1"),
        ("--proxy params --space pit-vb101 --tasks a", "tasks and split are a benchmark's"),
        ("--proxy params --space autoformer-tiny --image-size 33", "not a multiple of --patch-size"),
        ("--proxy synflow --space pit-vb101 --batch 0", "0 samples"),
        ("--proxy synflow --space pit-vb101 --batch 2 --batch-file FILE", "leave it out"),
        ("--proxy synflow --space pit-vb101 --batch-file FILE", "not a readable .npz file"),
        ("--proxy synflow --space pit-vb101 --images OUT", "does not exist"),
        ("--proxy params --space pit-vb101 --resume", "name it"),
        ("--out OUT --resume", "holds no search"),
    ],
)
def test_what_cannot_be_searched_is_one_error(tmp_path: Path, options: str, told: str, capsys) -> None:
    """Nothing is begun: the same directory can be used for the corrected command."""
    (tmp_path / "file.npz").write_bytes(b"nothing of the kind")
    out = tmp_path / "out"
    given = options.replace("FILE", str(tmp_path / "file.npz")).replace("OUT", str(out)).split(" ")
    run("search", *given, *(() if "--resume" in given else ("--out", out)), code=2)
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert told in error
    assert not out.exists()


def test_images_from_a_file(tmp_path: Path, capsys) -> None:
    pixels = np.random.default_rng(0).normal(size=(2, 3, 24, 24)).astype(np.float32)
    np.savez(tmp_path / "batch.npz", images=pixels, targets=np.array([1, 9]))
    given = (*SPACE, "--proxy", "snip", "--max-params", "300K", "--batch-file", tmp_path / "batch.npz")
    run(*given, "--budget", 3, "--out", tmp_path / "a")
    run(*given, "--budget", 2, "--out", tmp_path / "b")
    (tmp_path / "batch.npz").unlink()
    run("search", "--resume", "--budget", 3, "--out", tmp_path / "b", "--workers", 1)
    assert results(tmp_path / "a")[1] == results(tmp_path / "b")[1]
    (tmp_path / "b" / "batch.npz").write_bytes((tmp_path / "a" / "batch.npz").read_bytes()[:-1])
    capsys.readouterr()
    run("search", "--resume", "--out", tmp_path / "b", code=2)
    assert "no .npz file" in capsys.readouterr().err


# Directories


@pytest.mark.slow
def test_a_killed_search_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    given = [*SPACE, "--proxy", NOISE, "--max-params", "300K", "--budget", "40", "--population", "12"]
    run(*given, "--out", tmp_path / "whole")
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "autoprox", *given, "--out", str(killed)], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if (killed / JOURNAL).exists() and (killed / JOURNAL).read_bytes().count(b"\n") > 8:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.005)
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert 8 < (killed / JOURNAL).read_bytes().count(b"\n") < 41
    assert not (killed / "architectures.json").exists()
    run("search", "--resume", "--out", killed, "--workers", 1)
    assert results(killed) == results(tmp_path / "whole")


def test_a_torn_last_line_does_not_count(tmp_path: Path) -> None:
    run(*SPACE, "--proxy", "params", "--budget", 30, "--out", tmp_path / "whole")
    run(*SPACE, "--proxy", "params", "--budget", 30, "--out", tmp_path / "torn")
    journal = (tmp_path / "torn" / JOURNAL).read_bytes()
    for cut in (len(journal) - 1, len(journal) - 30, len(journal) // 2):
        (tmp_path / "torn" / JOURNAL).write_bytes(journal[:cut])
        run("search", "--resume", "--out", tmp_path / "torn")
        assert results(tmp_path / "torn") == results(tmp_path / "whole")


def test_a_finished_search_can_be_gone_on_with(tmp_path: Path, capsys) -> None:
    given = (*SPACE, "--proxy", "depth * width", "--population", 8, "--seed", 3)
    run(*given, "--budget", 43, "--out", tmp_path / "whole")
    run(*given, "--budget", 20, "--out", tmp_path / "steps")
    once = results(tmp_path / "steps")
    run(*given, "--budget", 20, "--out", tmp_path / "steps", "--resume")
    assert results(tmp_path / "steps") == once
    run(*given, "--resume", "--budget", 43, "--out", tmp_path / "steps")
    assert results(tmp_path / "steps")[:2] == results(tmp_path / "whole")[:2]
    capsys.readouterr()
    run("search", "--resume", "--budget", 20, "--out", tmp_path / "steps", code=2)
    assert "budget is 20, but the search in" in capsys.readouterr().err


def test_nothing_is_written_over(tmp_path: Path, capsys) -> None:
    run(*SPACE, "--proxy", "params", "--budget", 5, "--out", tmp_path / "a")
    before = results(tmp_path / "a")
    run(*SPACE, "--proxy", "params", "--budget", 5, "--out", tmp_path / "a", code=2)
    assert "already holds a search; go on with --resume" in capsys.readouterr().err
    assert results(tmp_path / "a") == before
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.tex").write_text("precious")
    run(*SPACE, "--proxy", "params", "--budget", 5, "--out", tmp_path / "b", code=2)
    assert "already holds other files; choose another --out" in capsys.readouterr().err
    (tmp_path / "c").mkdir()
    run(*SPACE, "--proxy", "params", "--budget", 5, "--out", tmp_path / "c")


@pytest.mark.parametrize(
    "other",
    ["--seed 1", "--proxy flops", "--space autoformer-tiny", "--max-params 7M", "--strategy random", "--batch 4",
     "--image-size 32", "--tasks a", "--split test", "--population 9", "--bench BENCH", "--images BENCH"],
)  # fmt: skip
def test_a_search_cannot_change_half_way(tmp_path: Path, other: str, capsys) -> None:
    save_benchmark(tmp_path / "bench.json")
    run(*SPACE, "--proxy", "params", "--budget", 5, "--out", tmp_path / "a")
    given = other.replace("BENCH", str(tmp_path / "bench.json")).split()
    run("search", *given, "--resume", "--out", tmp_path / "a", code=2)
    assert f"was started with another {given[0]}; resume it without" in capsys.readouterr().err


def damage_line(out: Path) -> None:
    lines = (out / JOURNAL).read_bytes().splitlines(keepends=True)
    (out / JOURNAL).write_bytes(b"".join([*lines[:2], b'{"key": 3\n', *lines[3:]]))


def swap_lines(out: Path) -> None:
    lines = (out / JOURNAL).read_bytes().splitlines(keepends=True)
    (out / JOURNAL).write_bytes(b"".join([lines[0], lines[2], lines[1], *lines[3:]]))


def change_proxy(out: Path) -> None:
    Proxy.from_formula("flops").save(out / "proxy.json")


def another_version(out: Path) -> None:
    (out / JOURNAL).write_bytes((out / JOURNAL).read_bytes().replace(b'"version":1', b'"version":2', 1))


def drop_settings(out: Path) -> None:
    (out / JOURNAL).write_bytes((out / JOURNAL).read_bytes().replace(b'"settings"', b'"setings"', 1))


def another_journal(out: Path) -> None:
    (out / JOURNAL).write_bytes(b'{"format":"autoprox-journal","version":1}\n')


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (damage_line, "line 3 is damaged"),
        (swap_lines, "architecture 1 of the stored history is not what this search would score"),
        (change_proxy, "proxy.json is not what the search was started with"),
        (another_version, "journal version 2, this autoprox reads 1"),
        (drop_settings, "the plan on line 1 cannot be read"),
        (another_journal, "line 1 is not the beginning of a search's journal"),
        (lambda out: (out / JOURNAL).write_bytes(b""), "line 1 is not the beginning"),
    ],
)
def test_a_damaged_directory_is_refused(tmp_path: Path, damage, told: str, capsys) -> None:
    run(*SPACE, "--proxy", "params", "--budget", 5, "--out", tmp_path / "a")
    damage(tmp_path / "a")
    before = (tmp_path / "a" / JOURNAL).read_bytes()
    run("search", "--resume", "--out", tmp_path / "a", code=2)
    assert told in capsys.readouterr().err
    assert (tmp_path / "a" / JOURNAL).read_bytes() == before


def test_one_process_goes_on_with_a_search(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PATIENCE", 0)
    fcntl = pytest.importorskip("fcntl", reason="file locks are POSIX")
    run(*SPACE, "--proxy", "params", "--budget", 5, "--out", tmp_path / "a")
    with open(tmp_path / "a" / JOURNAL, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        run("search", "--resume", "--budget", 9, "--out", tmp_path / "a", code=2)
    assert "another process is going on with the search" in capsys.readouterr().err


def test_ctrl_c_keeps_what_was_found(tmp_path: Path, monkeypatch, capsys) -> None:
    given = (*SPACE, "--proxy", "params", "--budget", 30, "--out")
    with monkeypatch.context() as patch:
        interrupting(patch, 13)
        run(*given, tmp_path / "a", code=INTERRUPTED)
    shown = everything(capsys)
    assert "The best 10 of 13 architectures" in shown
    assert "Interrupted after 13 of 30 architectures." in shown
    assert f"autoprox search --resume --out {tmp_path / 'a'}" in shown
    saved = json.loads((tmp_path / "a" / "architectures.json").read_text())
    assert (saved["finished"], saved["scored"]) == (False, 13)
    run("search", "--resume", "--out", tmp_path / "a")
    run(*given, tmp_path / "b")
    assert results(tmp_path / "a") == results(tmp_path / "b")


def test_ctrl_c_without_a_directory_says_so(monkeypatch, capsys) -> None:
    interrupting(monkeypatch, 2)
    run(*SPACE, "--proxy", "params", "--budget", 30, code=INTERRUPTED)
    assert "A search without --out cannot be resumed." in everything(capsys)


# Benchmarks


def test_the_choice_on_a_benchmark_is_judged(tmp_path: Path, capsys) -> None:
    bench = save_benchmark(tmp_path / "bench.json")
    out = tmp_path / "out"
    run("search", "--bench", tmp_path / "bench.json", "--proxy", "params", "--out", out)
    shown = everything(capsys)
    assert "benchmark small, all of its 30 architectures, no limits" in shown
    assert "The best 10 of 30 architectures" in shown
    assert "has no accuracy on holes and cannot be judged there" in shown
    largest = int(np.argmax(bench.structure()["params"]))
    accuracy = bench.tasks["full"]
    verdict = json.loads((out / "architectures.json").read_text())["verdicts"][0]
    assert verdict["choices"][0]["accuracy"] == accuracy[largest]
    cells = next(line for line in shown.splitlines() if line.strip().startswith("full")).split()
    regret = 60 - accuracy[largest]
    rank = 1 + sum(accuracy > accuracy[largest])
    assert cells[:6] == ["full", "30/30", "60.00", f"{accuracy[largest]:.2f}", f"{rank}", f"{regret:.2f}"]
    assert cells[9:] == ["55.00", "5.00"]
    next_line = next(line for line in shown.splitlines() if line.strip().startswith("holes")).split()
    assert next_line[1] == "29/29"


def test_a_search_on_a_benchmark_goes_on(tmp_path: Path) -> None:
    save_benchmark(tmp_path / "bench.json")
    given = ("search", "--bench", tmp_path / "bench.json", "--proxy", "sum(fro(weight))", "--tasks", "f*",
             "--workers", 1, "--max-params", "300K")  # fmt: skip
    run(*given, "--budget", 12, "--out", tmp_path / "whole")
    run(*given, "--budget", 5, "--out", tmp_path / "steps")
    run(*given, "--budget", 12, "--out", tmp_path / "steps", "--resume")
    assert results(tmp_path / "steps")[:2] == results(tmp_path / "whole")[:2]


def test_a_proxy_evolved_on_the_benchmark_is_told_so(tmp_path: Path, capsys) -> None:
    save_benchmark(tmp_path / "bench.json")
    Proxy.from_formula("depth", "evolved", {"benchmarks": ["small", "other"]}).save(tmp_path / "proxy.json")
    given = ("search", "--bench", tmp_path / "bench.json", "--proxy", tmp_path / "proxy.json")
    run(*given)
    shown = everything(capsys)
    assert "proxy evolved: depth\n" in shown
    assert "This proxy was evolved on small: only --split test judges it" in shown
    assert "are first alike by proxy" in shown
    run(*given, "--split", "test")
    shown = everything(capsys)
    assert "This proxy was evolved on" not in shown
    assert "benchmark small, the test split of its 30 architectures" in shown


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--strategy evolution", "strategy is random, not evolution"),
        ("--image-size 32", "leave out image size"),
        ("--tasks nothing", "no task is called 'nothing'; there are full, holes"),
        ("--max-params 10", "the smallest has"),
        ("--split tset", "'tset' is not one of"),
    ],
)
def test_what_cannot_be_searched_on_a_benchmark(tmp_path: Path, options: str, told: str, capsys) -> None:
    save_benchmark(tmp_path / "bench.json")
    run("search", "--bench", tmp_path / "bench.json", "--proxy", "params", *options.split(), code=2)
    assert told in capsys.readouterr().err


def test_a_table_is_searched_if_the_formula_can_be_computed(capsys) -> None:
    file = reference("hytas", "indian.csv")
    run("search", "--bench", file, "--proxy", "flops", "--budget", 50)
    assert "The best 10 of 50" in capsys.readouterr().out
    run("search", "--bench", file, "--proxy", "l2-norm", code=2)
    assert "is tabular: its networks cannot be built" in capsys.readouterr().err
