"""`autoprox report`: its pages have the numbers of the runs, load nothing, and work in a browser."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import homes
import numpy as np
import pytest
import synthetic

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.benchmarks.tabular import TabularArchitecture
from autoprox.cli.root import main
from autoprox.evolve import kendall
from autoprox.report.tellers import read_rows

MADE = synthetic.benchmark(16)
#: A benchmark whose tasks have names that would be read as HTML.
HOSTILE = "<script>alert(1)</script>"
#: What opens no tag that must be closed.
VOID = {"meta", "link", "path", "use"}

ONE = ("--workers", "1")
BENCH = ("--bench", "small.json", "--tasks", "*_kd")
SPACE = ("--space", "mini-vit", "--image-size", "8", "--channels", "1", "--classes", "10", "--patch-size", "2",
         "--budget", "30")  # fmt: skip
#: A command for each kind of run.
COMMANDS = {
    "evolved": ("evolve", *BENCH, "--generations", "2", "--population", "5", *ONE),
    "ranked": ("rank", *BENCH, "--proxies", "l2-norm,snip,mean(std(weight[mlp]))", *ONE),
    "found": ("search", *BENCH, "--proxy", "l2-norm", *ONE),
    "drawn": ("search", *SPACE, "--proxy", "params", *ONE),
    "front": ("search", *SPACE, "--proxy", "l2-norm", "--pareto", "--objectives", "score,params", *ONE),
    "trained": ("train", "drawn", "--rows", "1-3", "--dataset", "digits", "--train-images", "50", "--test-images", "50",
                "--device", "cpu", "--epochs", "2"),
}  # fmt: skip
FAST = ("evolved", "ranked", "drawn")


class Runs:
    """A folder whose runs, with their pages, are made when they are first asked for: `runs / "ranked"`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        MADE.save(folder / "small.json")

    def __truediv__(self, run: str) -> Path:
        if not (self.folder / run).exists():
            if run == "trained":
                assert self / "drawn"
            with pytest.MonkeyPatch.context() as patched:
                patched.setenv("AUTOPROX_HOME", str(homes.made(self.folder / "home")))
                patched.chdir(self.folder)
                assert main([*COMMANDS[run], "--out", run]) == 0
                assert main(["report", run]) == 0
        return self.folder / run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """A folder with a run of each kind."""
    return Runs(tmp_path_factory.mktemp("runs"))


def page(runs: Runs, run: str) -> str:
    return (runs / run / "report.html").read_text(encoding="utf-8")


class Reader(HTMLParser):
    """The tags, names and text of a page; every tag that is opened must be closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: list[str] = []
        self.links: list[str] = []
        self.headings: list[str] = []
        self.cells: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name == "id":
                self.names.append(str(value))
            if name in ("src", "href", "xlink:href", "action", "data"):
                self.links.append(str(value))
        if tag not in VOID:
            self.open.append(tag)
            if tag == "td":
                self.cells.append("")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        if self.open and self.open[-1] == "td":
            self.cells[-1] += data


@pytest.mark.parametrize("run", [run if run in FAST else pytest.param(run, marks=pytest.mark.slow) for run in COMMANDS])
def test_a_page_is_well_formed_and_loads_nothing(runs: Runs, run: str) -> None:
    read = Reader(page(runs, run))
    assert len(set(read.names)) == len(read.names)
    assert all(link.startswith(("#", "data:")) for link in read.links)
    assert {link[1:] for link in read.links if link.startswith("#")} <= set(read.names)
    assert "default-src 'none'" in page(runs, run)
    assert re.findall(r"url\((?!#)", page(runs, run)) == []
    assert "prefers-color-scheme: dark" in page(runs, run)


def test_a_page_of_evolve_has_the_numbers_of_its_report(runs: Runs) -> None:
    read, record = Reader(page(runs, "evolved")), json.loads((runs / "evolved" / "report.json").read_text())
    assert read.headings == [
        "Beside structure", "Scores and accuracy", "The formula", "Complexity and fitness", "Generations",
        "Settings and versions",
    ]  # fmt: skip
    for row in record["rows"]:
        assert f"{row['tau']:.3f} ({row['low']:.2f} to {row['high']:.2f})" in read.cells
    assert record["formula"] in page(runs, "evolved").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert "torch" in read.cells


def test_the_scores_of_evolve_have_the_taus_of_its_report(runs: Runs) -> None:
    rows, record = (
        read_rows(runs / "evolved" / "scores.csv"),
        json.loads((runs / "evolved" / "report.json").read_text()),
    )
    for told in record["rows"]:
        if told["task"] == "mean":
            continue
        of_task = [row for row in rows if (row["split"], row["task"]) == (told["split"], told["task"])]
        x, y = (np.array([float(row[name]) for row in of_task]) for name in (told["predictor"], "accuracy"))
        assert told["tau"] == pytest.approx(np.nan_to_num(kendall(x, y)))
        accuracies = MADE.tasks[told["task"]]
        assert all(float(row["accuracy"]) == accuracies[int(row["architecture"])] for row in of_task)


def test_a_page_of_rank_has_its_rows_and_scores(runs: Runs) -> None:
    read, record = Reader(page(runs, "ranked")), json.loads((runs / "ranked" / "rank.json").read_text())
    points = read_rows(runs / "ranked" / "scores.csv")
    for row in record["rows"]:
        assert f"{row['tau']:.3f} ({row['tau_low']:.2f} to {row['tau_high']:.2f})" in read.cells
        if row["task"] != "mean":
            of_task = [each for each in points if each["task"] == row["task"]]
            x, y = (np.array([float(each[name]) for each in of_task]) for name in (row["proxy"], "accuracy"))
            assert row["tau"] == pytest.approx(kendall(x, y))
    assert "better than structure" in page(runs, "ranked")


def test_a_page_of_search_has_its_architectures(runs: Runs) -> None:
    read, rows = Reader(page(runs, "drawn")), read_rows(runs / "drawn" / "architectures.csv")
    assert rows[0]["arch"] in read.cells
    assert f"{int(rows[0]['params']):,}" in read.cells


@pytest.mark.slow
def test_a_page_of_a_search_on_a_benchmark_has_its_accuracies(runs: Runs) -> None:
    assert "The benchmark&#x27;s accuracies" in page(runs, "found")


@pytest.mark.slow
def test_a_page_of_a_front_marks_it(runs: Runs) -> None:
    read, rows = Reader(page(runs, "front")), read_rows(runs / "front" / "architectures.csv")
    inside = sum(row["front"] == "True" for row in rows)
    assert 0 < inside < len(rows)
    assert (read.cells.count("yes"), read.cells.count("no")) == (inside, len(rows) - inside)
    assert f"the {inside} of the front are marked" in page(runs, "front")


def test_text_of_a_run_is_no_html(tmp_path: Path, runs: Runs) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs / "evolved", run)
    for name in ("report.json", "scores.csv"):
        text = (run / name).read_text(encoding="utf-8").replace("size_kd", HOSTILE)
        (run / name).write_text(text, encoding="utf-8")
    assert main(["report", str(run)]) == 0
    text = (run / "report.html").read_text(encoding="utf-8")
    assert HOSTILE not in text
    assert HOSTILE in Reader(text).cells


@pytest.mark.slow
def test_figures_for_a_paper(runs: Runs, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        command = ["report", str(runs / "evolved"), "--out", str(tmp_path / "page.html"), "--figures"]
        assert main([*command, str(tmp_path / folder)]) == 0
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    stems = ("formula", "front", "generations", "scores", "taus")
    assert names == [f"{stem}.{ending}" for stem in stems for ending in ("pdf", "png", "svg")]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("damaged", [None, b"", b"[]", b"{}", b'{"rows": 3}'])
def test_what_is_no_run_is_one_line(damaged: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if damaged is not None:
        (tmp_path / "report.json").write_bytes(damaged)
    assert main(["report", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path}")
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "report.html").exists()


# --- in a browser ---

CHROMIUM = shutil.which("chromium")
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr", "--dump-dom",
)  # fmt: skip
#: Sorts the first table by its second column, downwards and upwards, and writes what it sees into the title.
CLICKS = """<script>
const button = document.querySelectorAll("th button")[2];
const column = () => [...button.closest("table").tBodies[0].rows].map((row) => row.cells[2].textContent);
button.click(); const down = column(); button.click(); const up = column();
document.title = JSON.stringify({down, up, loaded: performance.getEntriesByType("resource").length,
  sort: button.parentElement.getAttribute("aria-sort")});
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_tables_sort_and_nothing_is_loaded_in_a_browser(runs: Runs, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    (tmp_path / "page.html").write_text(page(runs, "evolved").replace("</body>", f"{CLICKS}</body>"), encoding="utf-8")
    done = subprocess.run(
        [CHROMIUM, *OPTIONS, f"--user-data-dir={tmp_path / 'profile'}", f"file://{tmp_path / 'page.html'}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in done.stderr
    match = re.search(r"<title>(.*?)</title>", done.stdout)
    assert match is not None
    seen = json.loads(match[1])
    assert [float(cell) for cell in seen["up"]] == sorted(float(cell) for cell in seen["up"])
    assert seen["down"] == seen["up"][::-1]
    assert (seen["loaded"], seen["sort"]) == (0, "ascending")


def test_a_benchmark_with_one_task_and_no_structure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    architectures = tuple(TabularArchitecture((("m", float(n)),)) for n in range(60))
    y = 50 + rng.normal(size=60)
    Benchmark(
        "t", None, None, "made up", architectures, {"oa": y}, {f"p{n}": y + rng.normal(size=60) for n in range(4)}
    ).save(tmp_path / "t.json")
    monkeypatch.chdir(tmp_path)
    command = ["evolve", "--bench", "t.json", "--grammar", "tabular", "--generations", "2", "--population", "5"]
    assert main([*command, "--out", "run"]) == 0
    assert main(["report", "run"]) == 0
    assert "mean over tasks" not in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_page_of_train_has_its_accuracies_and_settings(runs: Runs) -> None:
    read, record = Reader(page(runs, "trained")), json.loads((runs / "trained" / "result.json").read_text())
    assert read.headings == ["Over the epochs", "Networks", "Settings and versions"]
    for network in record["networks"]:
        assert f"{network['accuracy']:.2f}" in read.cells
        assert f"{network['params']:,}" in read.cells
    assert "Curves of test accuracy, % over 2 epochs." in page(runs, "trained")
    assert record["settings"]["images"]["sha256"] in page(runs, "trained")
