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


SPACE = """
from torch import nn


class Net(nn.Module):
    def __init__(self, width, heads, ratios):
        super().__init__()
        self.patches = nn.Conv2d(1, width, 4, 4)
        layers = zip(heads, ratios, strict=True)
        blocks = [nn.TransformerEncoderLayer(width, h, r * width, 0.0, batch_first=True) for h, r in layers]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(width, 10)

    def forward(self, images):
        return self.head(self.blocks(self.patches(images).flatten(2).transpose(1, 2)).mean(1))


class Mine:
    choices = {"width": [8, 12, 16, 20], "depth": [1, 2, 3], "heads[depth]": [2, 4], "ratio[depth]": [1, 2]}

    def build(self, arch):
        return Net(arch.width, arch.heads, arch.ratio)
"""
SIZES = ("--image-size", "8", "--channels", "1", "--classes", "10")


def table_of_space(count: int = 40) -> list[dict[str, object]]:
    """Architectures of the space, each once, with an accuracy that follows from their structure."""
    rng, rows = Random(0), {}
    while len(rows) < count:
        depth, width = rng.randint(1, 3), rng.choice([8, 12, 16, 20])
        heads, ratios = ([rng.choice(values) for _ in range(depth)] for values in ([2, 4], [1, 2]))
        accuracy = 40 + 6 * depth + width / 3 + sum(ratios) + sum(heads) / 7 + rng.uniform(0, 0.5)
        rows[str((width, heads, ratios))] = {
            "w": width,
            "depth": depth,
            "heads": heads,
            "ratio": ratios,
            "acc": accuracy,
        }
    return list(rows.values())


def as_lists(rows: list[dict[str, object]]) -> str:
    """One cell for each gene: `[2, 4]`."""
    lines = [f'{r["w"]},{r["depth"]},"{r["heads"]}","{r["ratio"]}",{r["acc"]}' for r in rows]
    return "\n".join(["w,depth,heads,ratio,acc", *lines])


def as_columns(rows: list[dict[str, object]]) -> str:
    """One column for each block; those that an architecture does not have are empty."""
    heads = [f"{gene}_{place}" for gene in ("h", "r") for place in (1, 2, 3)]
    lines = []
    for r in rows:
        genes = [[*r[gene], "", "", ""][:3] for gene in ("heads", "ratio")]  # type: ignore[misc]
        lines.append(",".join(map(str, [r["w"], r["depth"], *genes[0], *genes[1], r["acc"]])))
    return "\n".join([",".join(["w", "depth", *heads, "acc"]), *lines])


def test_lists_of_genes_are_read_from_a_cell_or_from_a_column_for_each_block() -> None:
    rows = table_of_space()
    Path("space.py").write_text(SPACE)
    Path("lists.csv").write_text(as_lists(rows))
    Path("columns.csv").write_text(as_columns(rows))
    own = ("--accuracy", "acc", "--space", "space.py:Mine", *SIZES)
    assert main(["bench", "import", "lists.csv", *own, "--genes", "width=w"]) == 0
    assert main(["bench", "import", "columns.csv", *own, "--genes", "width=w,heads=h,ratio=r"]) == 0
    lists, columns = (load_benchmark(name, ["space.py:Mine"]) for name in ("lists", "columns"))
    assert lists.architectures == columns.architectures
    assert [list(arch["heads"]) for arch in lists.architectures] == [row["heads"] for row in rows]
    assert lists.tasks["acc"].tolist() == columns.tasks["acc"].tolist() == [row["acc"] for row in rows]


@pytest.mark.slow
def test_an_imported_table_of_an_own_space_evolves_and_ranks(capsys: pytest.CaptureFixture[str]) -> None:
    Path("space.py").write_text(SPACE)
    Path("columns.csv").write_text(as_columns(table_of_space()))
    own = ("--space", "space.py:Mine")
    genes = ("--genes", "width=w", "--genes", "heads=h", "--genes", "ratio=r")
    assert main(["bench", "import", "columns.csv", "--accuracy", "acc", *genes, *own, *SIZES]) == 0
    small = ("--workers", "1", "--out")
    bench = ("--bench", "columns", *own)
    assert main(["evolve", *bench, "--generations", "1", "--population", "8", *small, "run"]) == 0
    assert main(["rank", *bench, "--proxies", "run,snip", *small, "ranked"]) == 0
    assert "depth" in capsys.readouterr().out
    assert main(["rank", "--bench", "columns", "--proxies", "run", *small, "none"]) == FAILED
    assert "add --space space.py:Mine" in capsys.readouterr().err


def test_a_wrong_gene_is_told_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("space.py").write_text(SPACE)
    own = ("--accuracy", "acc", "--space", "space.py:Mine", *SIZES, "--genes", "width=w")
    for cell, told in (("[2, 3]", "heads"), ("[2]", "heads"), ("2|4", "heads")):
        Path("wrong.csv").write_text(f'w,depth,heads,ratio,acc\n8,2,"[2, 4]","[1, 1]",50\n8,2,"{cell}","[1, 1]",51\n')
        assert main(["bench", "import", "wrong.csv", *own]) == FAILED
        error = capsys.readouterr().err
        assert error.startswith("error: wrong.csv: line 3")
        assert told in error
        assert len(error.splitlines()) == 1
