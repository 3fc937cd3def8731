"""`autoprox bench`: what the commands print and write, and that errors come through."""

import hashlib
import shlex
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from random import Random
from threading import Thread

import numpy as np
import pytest
from click.testing import CliRunner, Result
from printed import everything
from public_files import hytas_rows, ood_table, reference, vit_bench_rows, write_csv, write_json, write_pth
from scipy.stats import kendalltau

from autoprox.bench_cache.benchmarks.catalogue import PublicFile, PublicSource
from autoprox.bench_cache.benchmarks.readers import read_benchmark
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.bench_cache.spaces.registry import InputSpec, get_space
from autoprox.cli.commands import bench
from autoprox.cli.commands.bench import download
from autoprox.cli.root import FAILED, main


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for the user's benchmarks, and a terminal of 80 columns."""
    monkeypatch.setenv("AUTOPROX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path / "home"


def run(*arguments: object) -> Result:
    """Run `autoprox bench` with these arguments."""
    return CliRunner().invoke(bench.command, [str(argument) for argument in arguments])


def printed(*arguments: object) -> str:
    """Run it, check that it ended well, and return what it printed."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output or result.exception
    return result.output


def error(*arguments: object) -> BaseException:
    """Run it, check that nothing was printed, and return the error it ended with."""
    result = run(*arguments)
    assert result.output == ""
    assert result.exception is not None
    return result.exception


def test_import_to_a_file(tmp_path: Path, home: Path) -> None:
    raw, out = write_pth(tmp_path / "gt.pth", vit_bench_rows()), tmp_path / "deep" / "out.json"
    text = printed("import", raw, "--out", out)
    assert "vit-bench-101-autoformer: 5 architectures, tasks c100_kd, flower_base" in text
    assert str(out) in text
    assert out.read_bytes() == read_benchmark(raw).to_bytes()
    assert not home.exists()


def test_import_to_the_users_benchmarks(tmp_path: Path, home: Path) -> None:
    raw = write_json(tmp_path / "tiny.json", ood_table())
    printed("import", raw)
    printed("import", raw, "--name", "mine")
    assert sorted(path.name for path in (home / "benchmarks").iterdir()) == ["mine.json", "ood-vit-nas-tiny.json"]
    assert "mine: 5 architectures" in printed("show", "mine")


def test_a_bad_file_is_refused_and_nothing_written(tmp_path: Path) -> None:
    rows, out = vit_bench_rows(), tmp_path / "out.json"
    rows[3]["c100_kd_acc"] = float("nan")
    refusal = error("import", write_pth(tmp_path / "gt.pth", rows), "--out", out)
    assert isinstance(refusal, BenchmarkError)
    assert "record 3: c100_kd is nan" in str(refusal)
    assert not out.exists()
    assert isinstance(error("import", tmp_path / "none.pth"), FileNotFoundError)
    assert "autoprox bench download vit-bench-101" in str(error("show", "vit-bench-101-pit"))
    assert "did you mean vit-bench-101?" in str(error("download", "vit-bench-1o1"))


def example(count: int) -> Benchmark:
    """A benchmark with a task explained by depth, and the same labels shuffled, one of them missing."""
    space, rng = get_space("autoformer-vb101"), Random(0)
    archs = tuple({space.key(arch): arch for arch in (space.sample(rng) for _ in range(count))}.values())
    depth = np.array([float(space.depth(arch)) for arch in archs])
    labels = depth + np.random.default_rng(0).normal(size=len(archs))
    shuffled = np.random.default_rng(1).permutation(labels)
    shuffled[0] = np.nan
    tasks = {"a_long_name_of_a_good_task": labels, "shuffled": shuffled, "third": 100 - labels}
    return Benchmark("example", space.name, InputSpec(num_classes=10), "[red]made[/red] here", archs, tasks)


def test_show(tmp_path: Path) -> None:
    example(60).save(tmp_path / "example.json")
    text = printed("show", tmp_path / "example.json")
    splits = {name: len(rows) for name, rows in example(60).splits().items()}
    assert f"({splits['evolve']} evolve, {splits['validation']} validation, {splits['test']} test)" in text
    assert "224 px, 3 channels, 10 classes" in text
    assert "from [red]made[/red] here" in text, "text is not markup"
    lines = text.splitlines()
    assert all(len(line) <= 80 for line in lines if not line.startswith("warning"))
    accuracy, missing, structure, between = (
        next(number for number, line in enumerate(lines) if line.startswith(title))
        for title in ("accuracy in percent", "missing, ", "Kendall's tau-b with", "Kendall's tau-b between")
    )
    labels = example(60).tasks["a_long_name_of_a_good_task"]
    range_ = [f"{value:.2f}" for value in np.quantile(labels, (0, 0.5, 1))]
    assert lines[accuracy + 2].split() == ["a_long_name_of_a_good_task", "60", *range_, "60", "0"]
    assert lines[missing + 2].split()[:2] == ["shuffled", "1"]
    assert "depth" in lines[structure + 2].split("+")[-1]
    assert lines[between + 3].split()[:3] == ["3", "third", "-1.000"]
    warnings = [line for line in lines if line.startswith("warning")]
    assert len(warnings) == 1
    assert warnings[0].startswith("warning: shuffled: nothing structural explains it")


def test_show_what_is_tabular_and_small(tmp_path: Path) -> None:
    text = printed("show", write_csv(tmp_path / "ksc.csv", hytas_rows()))
    assert "hytas-ksc: 5 architectures" in text
    assert "tabular" in text
    assert "warning" not in text


def test_list(tmp_path: Path, home: Path) -> None:
    text = printed("list")
    assert "no others in" in text
    assert "mini-vit" in text
    for name in ("vit-bench-101", "ood-vit-nas-small", "hytas-ksc", "none stated"):
        assert name in text
    printed("import", write_csv(tmp_path / "ksc.csv", hytas_rows()))
    (home / "benchmarks" / "broken.json").write_text("{")
    lines = printed("list").splitlines()
    (line,) = (line.split() for line in lines if line.startswith("hytas-ksc "))
    assert (line[:3], line[4:]) == (["hytas-ksc", "tabular", "5"], ["kB", "oa"])
    assert any("broken" in line and "cannot be read" in line for line in lines)
    assert any("hytas-ksc ✓" in line for line in lines)


class Good(BaseHTTPRequestHandler):
    """Serves the file of the test below."""

    content = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_download(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = write_csv(tmp_path / "ksc.csv", hytas_rows()).read_bytes()
    monkeypatch.setattr(Good, "content", content)
    file = PublicFile("a-table", hashlib.sha256(content).hexdigest(), len(content), ("ksc.csv",))
    monkeypatch.setattr(download, "get_source", lambda name: PublicSource(name, "", "MIT", (file,)))
    with HTTPServer(("127.0.0.1", 0), Good) as server:
        thread = Thread(target=server.handle_request)
        thread.start()
        text = printed("download", "any", "--base", f"http://127.0.0.1:{server.server_port}")
        thread.join()
    assert "a-table: 5 architectures, tasks oa" in text
    assert "MIT" in text
    assert "a-table" in printed("list")
    assert (home / "benchmarks" / "a-table.json").is_file()


def test_show_public(tmp_path: Path) -> None:
    text = printed("show", reference("vit-bench-101", "gt_autoformer.pth"))
    assert [line.split(":")[1] for line in text.splitlines() if line.startswith("warning")] == [" chaoyang_base"]


def test_the_name_of_an_embedded_benchmark_is_reserved(tmp_path: Path, home: Path) -> None:
    raw = write_csv(tmp_path / "ksc.csv", hytas_rows())
    refusal = error("import", raw, "--name", "mini-vit")
    assert isinstance(refusal, BenchmarkError)
    assert str(refusal) == "mini-vit comes with autoprox; give yours another --name"
    assert not home.exists()
    printed("import", raw, "--name", "mini-vit", "--out", tmp_path / "mini-vit.json")  # a file may have any name


# --- train ---


def blobs(path: Path, count: int = 96) -> Path:
    """An .npz file of three classes of noisy images, 4 × 4 pixels."""
    rng, labels = np.random.default_rng(0), np.arange(count) % 3
    images = rng.normal(size=(3, 4, 4))[labels] + rng.normal(size=(count, 4, 4))
    np.savez(path, images=images, labels=labels)
    return path


TINY = ("--archs", "24", "--epochs", "1", "--seeds", "2", "--batch", "32", "--workers", "1")


def test_train_show_and_evolve(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    choices = ["bench", "train", "--dataset", str(blobs(tmp_path / "blobs.npz")), *TINY, "--out", "made.json"]
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/autoprox", *choices])  # as the program is called
    assert main(choices) == 0
    text = everything(capsys)
    assert text.startswith(
        "24 architectures of mini-vit on blobs, 2 seeds each: 24 trainings, 0 done; journal made.json.journal\n"
    )
    assert "made: 24 architectures, tasks blobs, " in text
    assert text.rstrip().endswith("Next: autoprox bench show made.json")
    made = Benchmark.load("made.json")
    assert made.seeds["blobs"].shape == (24, 2)
    assert made.card["command"] == shlex.join(["autoprox", *choices])

    first = Path("made.json").read_bytes()
    assert main([*choices, "--resume"]) == 0  # all is done: nothing is trained again
    assert "24 trainings, 24 done" in everything(capsys)
    assert Path("made.json").read_bytes() == first

    assert main(["bench", "show", "made.json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("reliability of the labels"))
    (row,) = (line.split() for line in lines[start:] if line.split()[:2] == ["blobs", "2"])
    assert row[2] == row[3] == f"{kendalltau(*made.seeds['blobs'].T).statistic:+.3f}"
    card = {words[0]: words[1:] for line in lines if (words := line.split())}
    assert card["recipe.epochs"] == ["1"]
    assert card["datasets.blobs.train_images"] == ["66"]
    assert card["datasets.blobs.spec.image_size"] == ["4"]
    assert card["command"][:3] == ["autoprox", "bench", "train"]
    shown = "".join("".join(lines).split())  # in 80 columns nothing is cut off
    assert made.card["datasets"]["blobs"]["sha256"] in shown
    assert "".join(made.card["command"].split()) in shown

    choices = ["evolve", "--bench", "made.json", "--generations", "1", "--population", "4", "--workers", "1"]
    assert main([*choices, "--out", "run"]) == 0
    assert "blobs" in everything(capsys)
    assert (tmp_path / "run" / "proxy.json").is_file()


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (("--dataset", "digts"), "there is no data set 'digts' (did you mean digits?)"),
        (("--dataset", "none.npz"), "there is no data set 'none.npz'"),
        (("--epochs", "0"), "--epochs is 0; it must be a whole number from 1"),
        (("--batch", "-1"), "--batch is -1; it must be a whole number from 1"),
        (("--lr", "nan"), "lr is nan; it must be a positive number"),
        (("--workers", "0"), "--workers is 0; it must be at least 1"),
        (("--archs", "0"), "--archs is 0; it must be at least 1"),
        (("--seeds", "0"), "--seeds is 0; it must be at least 1"),
        (("--train-images", "0"), "blobs: 0 images are too few for its 3 classes"),
        (("--image-size", "0"), "image size is 0; it must be at least 1"),
        (("--patch-size", "3"), "blobs: patches of 3 do not divide images of 4 px"),
        (("--space", "mini-vti"), "unknown space 'mini-vti' (did you mean mini-vit?)"),
        (("--name", "a/b"), "'a/b' cannot be the name of a benchmark"),
        (("--dataset", "blobs.npz"), "two data sets are called blobs"),
    ],
)
def test_what_cannot_be_trained_is_one_line_and_no_journal(
    choices: tuple[str, ...],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    blobs(tmp_path / "blobs.npz")
    assert main(["bench", "train", "--dataset", "blobs.npz", *TINY, "--out", "made.json", *choices]) == FAILED
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"error: {message}")
    assert shown.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blobs.npz"]


def test_a_journal_of_other_choices_is_not_gone_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["bench", "train", "--dataset", str(blobs(tmp_path / "blobs.npz")), *TINY, "--out", "made.json"]
    assert main([*command, "--archs", "1"]) == 0
    capsys.readouterr()
    assert main([*command, "--archs", "1"]) == FAILED
    assert "made.json.journal holds a run already; go on with --resume" in capsys.readouterr().err
    assert main([*command, "--archs", "2", "--resume"]) == FAILED
    assert capsys.readouterr().err == (
        "error: made.json.journal was begun with another archs (1, now 2); "
        "go on with the same options, or choose another --out\n"
    )
    assert main(["bench", "show", "made.json"]) == 0  # one architecture: nothing can be ranked, and nothing breaks
    assert "made: 1 architectures" in capsys.readouterr().out
