"""`autoprox bench import --accuracy`: a table of one's own, from the file to an evolution, a ranking and LIBRA."""

from pathlib import Path
from random import Random

import pytest

from autoprox.bench_cache.benchmarks.library import load_benchmark
from autoprox.cli.root import FAILED, main


@pytest.fixture(autouse=True)
def _in_a_folder_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPROX_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    rng = Random(0)
    rows = [(f"net{i}", rng.uniform(1, 90), rng.uniform(1, 9), rng.uniform(0, 1)) for i in range(60)]
    lines = [f"{name};{40 + p / 3 + 2 * a:.2f};{p:.2f};{a:.3f};{b:.3f}".replace(".", ",") for name, p, a, b in rows]
    Path("my.csv").write_text("\n".join(["model;Top-1;params;Snip (a);other", *lines]))


def test_a_table_goes_through_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "import", "my.csv", "--accuracy", "Top-1"]) == 0
    out = capsys.readouterr().out
    assert "my: 60 architectures, tasks Top-1, written to" in out
    assert "columns: params, Snip_a, other" in out
    assert main(["bench", "show", "my"]) == 0
    small = ("--workers", "1", "--out")
    evolved = ("evolve", "--bench", "my", "--grammar", "tabular", "--generations", "2", "--population", "8")
    assert main([*evolved, *small, "run"]) == 0
    assert main(["rank", "--bench", "my", *small, "ranked"]) == 0
    assert main(["libra", "--bench", "my", *small, "merged"]) == 0
    assert "Snip_a" in capsys.readouterr().out


def test_too_few_architectures_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    Path("few.csv").write_text("name,acc,p\na,50,1\nb,60,2\n")
    assert main(["bench", "import", "few.csv", "--accuracy", "acc"]) == 0
    assert "too few to evolve on" in capsys.readouterr().out
    assert main(["evolve", "--bench", "few", "--grammar", "tabular", "--workers", "1"]) == FAILED
    assert "the benchmark has 2, about 50, 20 and 30 %" in capsys.readouterr().err
    assert main(["rank", "--bench", "few", "--workers", "1"]) == FAILED
    assert "has 2 architectures with an accuracy; too few to rank, which needs 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--genes", "a=b"), "--genes is for a table of your own: name its --accuracy too"),
        (("--accuracy", "Top-1", "--classes", "10"), "--classes is for networks of a space: name a --space too"),
        (("--accuracy", "Top-1", "--space", "nope"), "unknown space 'nope'"),
        (("--accuracy", "a=params,a=other"), "two columns are the task a"),
        (("--accuracy", "Top-2"), "there is no column 'Top-2' (did you mean Top-1?)"),
        (("--accuracy", "Top-1", "--space", "pit-vb101", "--genes", "heads=other"), "has no gene 'heads'"),
    ],
)
def test_wrong_options_are_told(arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "import", "my.csv", *arguments]) == FAILED
    assert message in capsys.readouterr().err


def test_names_with_commas_stand_in_quotes() -> None:
    Path("odd.csv").write_text('name,"acc, clean",p\na,50,1\nb,60,2\n')
    assert main(["bench", "import", "odd.csv", "--accuracy", '"acc, clean"', "--leave-out", "p", "--name", "n"]) == 0
    assert list(load_benchmark("n").tasks) == ["acc_clean"]
