"""Tables of one's own: CSV of any dialect, JSON lines and Parquet as benchmarks; refusals name the line and the fix."""

import csv
import io
import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprox.bench_cache.benchmarks.own_table import TableColumns, read_own_table
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.bench_cache.spaces.registry import InputSpec, get_space

ACC = TableColumns({"acc": "acc"})
SPEC = InputSpec(24, 3, 10, 8)


def read(path: Path, content: str | bytes, meant: TableColumns = ACC) -> Benchmark:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_own_table(path, meant)[0]


@given(
    st.sampled_from(",;\t|"),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.booleans(),
    st.lists(
        st.tuples(st.text("ab c,;|'\t\"é", max_size=6), st.integers(20, 999), st.integers(0, 3)), min_size=2, max_size=6
    ),
)
def test_every_dialect_is_read_alike(
    tmp_path_factory: pytest.TempPathFactory,
    delimiter: str,
    coding: str,
    ending: str,
    quoting: int,
    comma: bool,
    rows: list[tuple[str, int, int]],
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=ending, quoting=quoting)  # type: ignore[arg-type]
    writer.writerow(["name", "acc", "size"])
    for place, (name, tenths, size) in enumerate(rows):
        accuracy = f"{tenths / 10:.1f}".replace(".", "," if comma else ".")
        writer.writerow([f"{place}{name}", accuracy, ["", "NA", "nan", "7"][size]])
    found = read(tmp_path_factory.mktemp("t") / "my.csv", text.getvalue().encode(coding))
    assert found.tasks["acc"].tolist() == [tenths / 10 for _, tenths, _ in rows]
    np.testing.assert_array_equal(found.columns["size"], [7.0 if size == 3 else np.nan for *_, size in rows])
    assert [arch["name"] for arch in found.architectures] == [f"{i}{name}".strip() for i, (name, *_) in enumerate(rows)]
    assert Benchmark.from_bytes(found.to_bytes()).to_bytes() == found.to_bytes()


def test_numbers_become_columns_and_texts_settings(tmp_path: Path) -> None:
    meant = TableColumns({"top1": "Top-1 (%)"}, left_out=("note",))
    found, unused = read_own_table(
        _written(tmp_path, ",Model,Top-1 (%),Params (M),family,note\n0,a,70,5,x,?\n1,b,,6.5,y,z\n"), meant
    )
    assert (found.name, found.space) == ("my", None)
    assert [dict(arch) for arch in found.architectures] == [
        {"Model": "a", "family": "x"},
        {"Model": "b", "family": "y"},
    ]
    assert {name: values.tolist() for name, values in found.columns.items()} == {"Params_M": [5, 6.5]}
    np.testing.assert_array_equal(found.tasks["top1"], [70, np.nan])
    assert unused == ("index",)


def _written(folder: Path, text: str) -> Path:
    (folder / "my.csv").write_text(text)
    return folder / "my.csv"


def test_fractions_are_exact_percentages(tmp_path: Path) -> None:
    found = read(tmp_path / "a.csv", "name,acc\na,0.07\nb,0.29\n", TableColumns({"acc": "acc"}, unit="fraction"))
    assert found.tasks["acc"].tolist() == [7.0, 29.0]


@pytest.mark.parametrize("name", ["pit-vb101", "mini-vit", "micro-vit", "autoformer-vb101"])
@pytest.mark.parametrize("form", ["lists", "numbered", "jsonl"])
def test_architectures_of_a_space_come_back(tmp_path: Path, name: str, form: str) -> None:
    space, rng = get_space(name), Random(1)
    chosen = list({space.key(arch): arch for arch in (space.sample(rng) for _ in range(8))}.values())
    genes = [space.to_json(arch) for arch in chosen]
    rows: list[dict[str, object]] = []
    for place, record in enumerate(genes):
        row: dict[str, object] = {"acc": 50.5 + place, "zen": place}
        for gene, value in record.items():
            if form == "numbered" and isinstance(value, list):
                row |= {f"my {gene}_{number}": entry for number, entry in enumerate(value)}
            else:
                row[f"my {gene}"] = (
                    value if form == "jsonl" else json.dumps(value) if isinstance(value, list) else value
                )
        rows.append(row)
    text = io.StringIO()
    if form == "jsonl":
        text.write("\n".join(map(json.dumps, rows)))
    else:
        writer = csv.DictWriter(text, list({column: None for row in rows for column in row}))
        writer.writeheader()
        writer.writerows(rows)
    spec = InputSpec(32, 3, 10, 8)
    meant = TableColumns({"acc": "acc"}, {gene: f"my {gene}" for gene in genes[0]}, name, spec)
    found = read(tmp_path / "my.csv", text.getvalue(), meant)
    assert [found.key(arch) for arch in found.architectures] == [space.key(arch) for arch in chosen]
    assert list(found.columns) == ["zen"]
    assert found.spec == spec


def test_a_byte_for_json_lines_nan_and_lists(tmp_path: Path) -> None:
    found = read(tmp_path / "a.jsonl", '{"name": "a", "acc": 50, "heads": [3, 4]}\n\n{"name": "b", "acc": NaN}\n')
    assert dict(found.architectures[0]) == {"name": "a", "heads": (3, 4)}
    assert np.isnan(found.tasks["acc"][1])


PIT = TableColumns({"acc": "acc"}, space="pit-vb101", spec=SPEC)
PIT_HEAD = "acc,base_dim,mlp_ratio,depth,num_heads\n"

REFUSED = {
    "no column": ("name,accu\na,1\n", "no column 'acc' .did you mean accu.*; the columns are name, accu"),
    "cells": ("name,acc\na,50\nb,60,70\n", "line 3: 3 cells for 2 columns"),
    "no header": ("1,2\n3,4\n", "only numbers|no column 'acc'"),
    "twice": ("acc,acc\n50,60\n", "line 1: columns 1 and 2 are both 'acc'"),
    "thousands": ('name,acc,p\na,50,"1,234,567"\n', "line 2, column p: '1,234,567' seems to have thousands"),
    "two readings": ("name;acc;p\na;50;1,234\n", "line 2, column p: '1,234' has a decimal comma or a thousands"),
    "two marks": ("name;acc;p\na;50,5;1\nb;50.5;1\n", "line 2, column acc: '50,5' has a decimal comma, but line 3"),
    "percent sign": ("name,acc\na,50%\n", "line 2, column acc: '50%' is not a number; leave out the %"),
    "too high": ("name,acc\na,50\nb,101\n", "line 3, column acc: '101' is not an accuracy from 0 to 100"),
    "fractions": ("name,acc\na,0.5\nb,0.7\n", "no accuracy is above 1; say what they are with --unit"),
    "all missing": ("name,acc\na,\nb,NA\n", "column acc: every accuracy is missing"),
    "mixed": ("name,acc,p\na,50,5\nb,60,5M\n", "line 3, column p: '5M' is no finite number"),
    "infinite": ("name,acc,p\na,50,5\nb,60,inf\n", "line 3, column p: 'inf' is no finite number"),
    "underscores": ("name,acc,p\na,50,5\nb,60,1_000\n", "line 3, column p: '1_000' seems to have thousands"),
    "same name": ("name,acc\na,50\nb,60\n\na,70\n", "line 2 and line 5 are the same architecture, 'a'"),
    "same numbers": ("p,acc\n1,50\n1,60\n", "line 2 and line 3 are the same architecture"),
    "no name": ("name,acc\n,50\nb,60\n", "line 2, column name: the architecture has no name"),
    "quote": ('name,acc\n"a,50\n', "not a CSV table: line 2"),
    "empty": ("name,acc\n", "a header and no rows"),
    "blank": ("\n\n", "nothing in the file but blank lines"),
    "not text": (b"name,acc\na,50\n\xff,60\n", "line 3: not UTF-8 text"),
    "array": ('[{"acc": 1}]', "a JSON array; write one object on each line"),
    "not an object": ('{"acc": 50}\n3\n', "line 2: 3 is not an object"),
    "json": ('{"acc": 50}\n{"acc": \n', "line 2: not a JSON object on one line"),
    "json twice": ('{"acc": 50, "acc": 51}\n', "line 1: .*acc is there twice"),
    "nested": ('{"acc": 50, "arch": {"a": 1}}\n', "line 1, column arch: .*flat list of them; give each a column"),
}


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_rightly_is_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(BenchmarkError, match=message) as caught:
        read(tmp_path / "my.csv", content)
    assert str(caught.value).startswith(f"{tmp_path / 'my.csv'}: ")
    assert "\n" not in str(caught.value)


GOOD = '50,16,4,"[2, 6, 4]","[2, 2, 2]"\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "acc,base_dim\n50,16\n",
            "gene mlp_ratio: there is no column 'mlp_ratio', nor mlp_ratio_0; map it with --genes",
        ),
        (PIT_HEAD + '50,17,4,"[2, 6, 4]","[2, 2, 2]"\n', "line 2: pit-vb101: base_dim 17 is not one of"),
        (PIT_HEAD + '50,16,4,"2 6 4","[2, 2, 2]"\n', "line 2: pit-vb101: depth"),
        (PIT_HEAD + '50,16,4,"[2, 6","[2, 2, 2]"\n', "line 2, column depth: .* is no JSON list such as"),
        (PIT_HEAD + '50,,4,"[2, 6, 4]","[2, 2, 2]"\n', "line 2, gene base_dim: empty"),
        (PIT_HEAD + GOOD + '60,16.0,4.0,"[2,6,4.0]","[2, 2, 2]"\n', "line 2 and line 3 are the same architecture"),
    ],
)
def test_architectures_outside_the_space_are_refused_by_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(BenchmarkError, match=message):
        read(tmp_path / "my.csv", content, PIT)


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow, the extra autoprox[parquet], is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"name": ["a", "b"], "acc": [50.5, None], "heads": [[3, 4], [5]], "p": [1, 2]})
    parquet.write_table(table, tmp_path / "my.parquet")
    found, _ = read_own_table(tmp_path / "my.parquet", ACC)
    assert dict(found.architectures[1]) == {"name": "b", "heads": (5,)}
    np.testing.assert_array_equal(found.tasks["acc"], [50.5, np.nan])
    with pytest.raises(BenchmarkError, match="not a whole Parquet file"):
        read(tmp_path / "cut.parquet", (tmp_path / "my.parquet").read_bytes()[:-9])


def test_parquet_without_its_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(BenchmarkError, match=r"needs pyarrow: pip install 'autoprox\[parquet\]'"):
        read(tmp_path / "my.parquet", b"PAR1" + bytes(20))
