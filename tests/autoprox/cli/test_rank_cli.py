"""`autoprox rank` and `autoprox libra` as people use them: what they print, save and refuse."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree
from pathlib import Path

import homes
import numpy as np
import orjson
import pytest
import scipy.stats
import synthetic
from public_files import reference

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.benchmarks.tabular import TabularArchitecture
from autoprox.cli.root import FAILED, main
from autoprox.rank.output import tex_escape
from autoprox.rank.scores import SCORES

BENCHMARK = synthetic.benchmark(20)
#: Fast ones, and one that reads an odd batch badly.
PROXIES = ("--proxies", "l2-norm,snip", "--proxies", "mean(std(weight[mlp])),zico")
COMMAND = ("rank", "--bench", "small", "--tasks", "*_kd", "--batch", "3", "--workers", "1", *PROXIES)


def table() -> Benchmark:
    rng = np.random.default_rng(0)
    architectures = tuple(TabularArchitecture((("layer_num", int(n)), ("m_size", float(n)))) for n in range(60))
    y = 50 + rng.normal(size=60) + np.arange(60) / 20
    columns = {f"p_{k}": y + rng.normal(0, k / 3, 60) for k in (1, 2, 3)} | {"flat": np.zeros(60)}
    return Benchmark("table", None, None, "made up", architectures, {"oa": y}, columns)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = homes.made(tmp_path_factory.mktemp("home"))
    for benchmark in (BENCHMARK, table()):
        benchmark.save(made / "benchmarks" / f"{benchmark.name}.json")
    return made


@pytest.fixture(autouse=True)
def _in_a_folder_of_ones_own(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPROX_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def ranked(home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished run in a process of its own, and what it printed."""
    out = tmp_path_factory.mktemp("ranked") / "run"
    environment = {**os.environ, "AUTOPROX_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-m", "autoprox", *COMMAND, "--out", str(out)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr.splitlines()[:4] == [
        f"autoprox rank → {out}",
        "small, split all: 20 architectures",
        "tasks size_kd, shape_kd",
        "9 proxies, batch 3, seed 0",
    ]
    return out, done.stdout


def rows(out: Path, name: str = "rank.csv") -> list[dict[str, str]]:
    with (out / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# --- what is printed and saved ---


def test_what_is_printed(ranked: tuple[Path, str]) -> None:
    _, text = ranked
    lines = text.splitlines()
    notes = ("τ:", "No images", "Saved", "Next: ")
    tables = [line for line in lines if not line.startswith(notes) and "strongest of" not in line]
    assert max(map(len, tables)) <= 120
    titles = [line.strip() for line in lines if line.startswith(("task ", "mean over", "networks without"))]
    assert titles == [
        "task size_kd",
        "task shape_kd",
        "mean over the tasks",
        "networks without a score, which n does not count",
    ]
    failure = next(line for line in lines if re.match(r" ?zico +20 ", line))
    assert "halves the batch: give an even number" in failure
    assert "3 Gaussian samples with random classes (seed 0)" in text
    assert re.search(r"\w+, the best of \d proxies here, is (no )?better than structure: its mean τ", text)
    assert "correlations.svg" in lines[-2]
    assert lines[-1].startswith("Next: autoprox report ")


def test_the_csv_has_every_number(ranked: tuple[Path, str]) -> None:
    found = rows(ranked[0])
    assert len(found) == 10 * 3  # and fitted structure
    assert {row["task"] for row in found} == {"size_kd", "shape_kd", "mean"}
    params = next(row for row in found if (row["task"], row["proxy"]) == ("size_kd", "params"))
    x, y = BENCHMARK.structure()["params"], BENCHMARK.tasks["size_kd"]
    assert float(params["tau"]) == pytest.approx(scipy.stats.kendalltau(x, y).statistic)
    assert float(params["pearson"]) == pytest.approx(scipy.stats.pearsonr(x, y).statistic)
    assert float(params["regret_1"]) == pytest.approx(y.max() - y[x == x.max()].mean())
    assert (params["n"], params["unscored"], params["partial_tau"], params["seconds"]) == ("20", "0", "", "0.0")
    zico = next(row for row in found if (row["task"], row["proxy"]) == ("size_kd", "zico"))
    assert (zico["n"], zico["unscored"], zico["tau"], zico["regret_1"]) == ("0", "20", "", "")  # and not 0
    assert zico["rank"] == "10.0"
    assert params["given_fitted"] != ""
    snip = next(row for row in found if (row["task"], row["proxy"]) == ("mean", "snip"))
    assert float(snip["tau_low"]) < float(snip["tau"]) < float(snip["tau_high"])
    assert float(snip["seconds"]) > 0


def test_the_json_has_the_same_numbers_settings_failures_and_correlations(ranked: tuple[Path, str]) -> None:
    record = orjson.loads((ranked[0] / "rank.json").read_bytes())
    for line, row in zip(record["rows"], rows(ranked[0]), strict=True):
        assert {name: "" if value is None else str(value) for name, value in line.items()} == row
    assert record["settings"]["batch"] == 3
    assert [(f["proxy"], f["count"]) for f in record["failures"]] == [("zico", 20)]
    names, spearman = record["correlations"]["proxies"], record["correlations"]["spearman"]
    assert names[5:] == ["l2-norm", "snip", "mean(std(weight[mlp]))", "zico"]
    structure = BENCHMARK.structure()
    assert spearman[0][1] == pytest.approx(scipy.stats.spearmanr(structure["params"], structure["flops"]).statistic)
    assert spearman[0][8] is None  # zico has no scores


def test_the_latex_is_made_of_complete_tabulars(ranked: tuple[Path, str]) -> None:
    text = (ranked[0] / "rank.tex").read_text(encoding="utf-8")
    tabulars = re.findall(r"\\begin\{tabular\}\{(l r*|lr*)\}(.*?)\\end\{tabular\}", text, re.DOTALL)
    assert len(tabulars) == 3
    for columns, body in tabulars:
        lines = [line for line in body.strip().splitlines() if line.endswith(r"\\")]
        assert len(lines) == 1 + 10
        assert all(len(re.findall(r"(?<!\\)&", line)) == len(columns) - 1 for line in lines)
        assert [line for line in body.split() if line.endswith("rule")] == [r"\toprule", r"\midrule", r"\bottomrule"]
    assert set(re.findall(r"\\([a-z]+)", text)) <= {
        "usepackage", "begin", "end", "toprule", "midrule", "bottomrule", "tau", "rho", "textbackslash",
    }  # fmt: skip
    row = next(row for row in rows(ranked[0]) if row["proxy"] == "snip")
    assert f"snip & ${float(row['rank']):.1f}$ & 20 & ${float(row['tau']):.3f}$" in text
    assert all(line.count("$") % 2 == 0 for line in text.splitlines())


def test_names_are_escaped_for_latex() -> None:
    assert tex_escape("a_b & 50% {x} ~ ^ \\ # $") == (
        r"a\_b \& 50\% \{x\} \textasciitilde{} \textasciicircum{} \textbackslash{} \# \$"
    )


def test_the_pictures_are_pictures(ranked: tuple[Path, str]) -> None:
    for name in ("taus", "correlations"):
        assert (ranked[0] / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        root = xml.etree.ElementTree.fromstring((ranked[0] / f"{name}.svg").read_bytes())
        assert root.tag.endswith("svg")


def test_without_matplotlib_there_are_tables_and_no_pictures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["rank", "--bench", "table", "--out", "run"]) == 0
    text = capsys.readouterr().out
    assert "No pictures: a picture needs matplotlib: pip install 'autoprox[plot]'" in text
    assert not list(Path("run").glob("*.png"))
    assert rows(Path("run"))


# --- going on ---


@pytest.mark.slow
def test_a_finished_run_is_only_printed_again(ranked: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    out, text = ranked
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert main([*COMMAND, "--out", str(out)]) == FAILED
    assert "already holds a ranking; go on with --resume, or choose another --out" in capsys.readouterr().err
    for again in ([*COMMAND, "--resume"], ["rank", "--resume"]):  # a run knows its own choices
        assert main([*again, "--out", str(out)]) == 0
        printed = capsys.readouterr()
        assert "20 architectures, of which 20 are scored already" in printed.err
        assert printed.out == text
    assert main([*COMMAND, "--resume", "--batch", "1", "--out", str(out)]) == FAILED
    assert "a run with another setting: --batch is 3 there and 1 here" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.slow
def test_a_killed_run_goes_on(ranked: tuple[Path, str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "autoprox", *COMMAND, "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not (out / SCORES).exists() or (out / SCORES).read_bytes().count(b"\n") < 4:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = (out / SCORES).read_bytes().count(b"\n")
    assert 4 <= done < 25
    assert main(["rank", "--resume", "--out", str(out)]) == 0
    numbers = [{name: row[name] for name in row if name != "seconds"} for row in rows(out)]
    assert numbers == [{name: row[name] for name in row if name != "seconds"} for row in rows(ranked[0])]


# --- misuse ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bench", "none"], r"error: unknown benchmark 'none'"),
        (["--bench", "small", "--tasks", "no"], "error: no task is called 'no'; there are size_kd, shape_kd, rare"),
        (["--bench", "small", "--proxies", "synflo"], "error: 'synflo' is no .*did you mean 'synflow'"),
        (["--bench", "small", "--proxies", "sum(wieght)"], "error: unknown statistic 'wieght'"),
        (["--bench", "small", "--sample", "99"], "error: --sample is 99; it must be from 3 to 20"),
        (["--bench", "table", "--proxies", "snip"], "error: table is tabular"),
        (["--bench", "small", "--batch", "0"], "error: --batch is 0"),
        ([], "error: rank on what\\? Name a --bench"),
        (["--resume"], "error: there is no run in ranks/ to resume; name its directory with --out"),
    ],
)
def test_misuse_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rank", *arguments]) == FAILED
    printed = capsys.readouterr()
    assert re.match(message, printed.err)
    assert "Traceback" not in printed.err
    assert not Path("ranks").exists()


# --- libra ---


def test_libra_on_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["libra", "--bench", "table", "--out", "run"]) == 0
    text = capsys.readouterr().out
    record = orjson.loads(Path("run/libra.json").read_bytes())
    (choice,) = record["choices"]
    split = table().splits()
    assert choice["architectures"] == len(split["evolve"]) + len(split["validation"])
    assert choice["left_out"] == ["flat"]
    assert choice["chosen"][0] == "p_1"
    assert f"On the test split, {len(split['test'])} architectures" in text
    assert re.search(r"z1 p_1 +\d", text)
    test = {row["proxy"]: row for row in rows(Path("run"), "libra.csv") if row["task"] == "oa"}
    assert set(test) == {"libra", "z1", "z2", "z3", "params", "depth", "fitted structure"}
    at, y = split["test"], table().tasks["oa"]
    assert float(test["z1"]["tau"]) == pytest.approx(
        scipy.stats.kendalltau(table().columns["p_1"][at], y[at]).statistic
    )
    assert re.search(r"LIBRA's mean τ on test is \.\d{3}; (none|as well)", text)
    assert Path("run/libra-correlations.png").exists()


def test_libra_chooses_nothing_by_the_test_split(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    original = table()
    shuffled = original.tasks["oa"].copy()
    at = original.splits()["test"]
    shuffled[at] = shuffled[at][::-1]
    Benchmark("other", None, None, "", original.architectures, {"oa": shuffled}, original.columns).save("other.json")
    for bench in ("table", "other.json"):
        assert main(["libra", "--bench", bench, "--out", f"run-{bench}"]) == 0
    capsys.readouterr()
    first, second = (orjson.loads(Path(f"run-{b}/libra.json").read_bytes()) for b in ("table", "other.json"))
    assert first["choices"] == second["choices"]
    assert first["test"] != second["test"]


def test_libra_on_the_scores_of_a_run(ranked: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    out = ranked[0]
    arguments = ["libra", "--bench", "small", "--scores", str(out)]
    assert main([*arguments, "--tasks", "size_kd", "--out", "run"]) == 0
    text = capsys.readouterr().out
    assert "with one for all: zico" in text
    assert "task shape_kd" not in text
    assert main([*arguments, "--proxies", "snip,l2-norm", "--out", "named"]) == 0
    capsys.readouterr()
    for choice in orjson.loads(Path("named/libra.json").read_bytes())["choices"]:
        assert {candidate["proxy"] for candidate in choice["candidates"]} <= {"snip", "l2-norm"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", "1"], "--seed is for computing scores"),
        (["--proxies", "synflow"], "the run has no scores by synflow; it has params"),
        (["--tasks", "rare"], "the run has scores for the tasks size_kd, shape_kd only"),
    ],
)
def test_libra_says_what_a_run_lacks(
    ranked: tuple[Path, str], arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["libra", "--bench", "small", "--scores", str(ranked[0]), *arguments]) == FAILED
    assert message in capsys.readouterr().err


# --- the reference data ---


@pytest.mark.parametrize(
    ("table", "taus"),
    [
        ("gt_autoformer.pth", (0.548, 0.700, 0.315)),
        pytest.param("gt_pit.pth", (0.817, 0.865, 0.564), marks=pytest.mark.slow),
    ],
)
def test_params_on_vit_bench_101(table: str, taus: tuple[float, ...], capsys: pytest.CaptureFixture[str]) -> None:
    path = reference("vit-bench-101", table)
    assert main(["rank", "--bench", str(path), "--tasks", "*_kd", "--proxies", "params", "--out", "run"]) == 0
    capsys.readouterr()
    found = {row["task"]: float(row["tau"]) for row in rows(Path("run")) if row["proxy"] == "params"}
    expected = dict(zip(("c100_kd", "flower_kd", "chaoyang_kd"), taus, strict=True))
    assert {task: round(found[task], 3) for task in expected} == expected
