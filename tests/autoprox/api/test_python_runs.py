"""`autoprox.evolve`, `rank` and `search` as functions: their results, how these are shown, and that the command line
does the same."""

import csv
import inspect
import json
import subprocess
import sys
from pathlib import Path

import homes
import pytest
import synthetic
import torch
from places import ROOT
from rich.console import Console
from tiny_vit import TinyVit

import autoprox
from autoprox.api.arguments import ArgumentError
from autoprox.api.results import FrameError, Result
from autoprox.bench_cache.runtime.devices import DeviceError
from autoprox.cli.root import main
from autoprox.models import ModelError
from autoprox.primitives import parse
from autoprox.rank.plan import RankError
from autoprox.search.candidate import SearchError

#: The name of a proxy, which would be read as HTML, and by rich as markup.
HOSTILE = "<script>[red]"
SMALL = synthetic.benchmark(16)
SIZE = {"image_size": 24, "classes": 10, "patch_size": 8}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    """A result of each function."""
    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AUTOPROX_HOME", str(homes.made(folder / "home")))
        patched.chdir(folder)
        evolved = autoprox.evolve(SMALL, tasks="*_kd", generations=1, population=4, out=folder / "evolved",
                                  progress=False)  # fmt: skip
        own = autoprox.Proxy.from_formula("mean(fan_in)", HOSTILE)
        ranked = autoprox.rank(SMALL, ["l2-norm,params", evolved.proxy, own, parse("sum(fan_out)"), parameters],
                               tasks=["*_kd"], out=folder / "ranked", progress=False)  # fmt: skip
        found = autoprox.search(
            "pit-vb101", "params", **SIZE, pareto=True, budget=30, out=folder / "found", progress=False
        )
        judged = autoprox.search(benchmark=SMALL, proxy=evolved.proxy, budget=12, progress=False)
    return {"evolve": evolved, "rank": ranked, "search": found, "judged": judged}


def parameters(model) -> float:
    return float(sum(parameter.numel() for parameter in model.parameters()))


@pytest.mark.parametrize("name", ["evolve", "rank", "search", "judged"])
def test_results_are_shown_everywhere_and_nothing_in_them_is_markup(name: str, results: dict[str, Result]) -> None:
    result = results[name]
    assert repr(result).startswith(type(result).__name__ + "(")
    assert "\n" not in repr(result)
    text, page = str(result), result._repr_html_()  # type: ignore[attr-defined]
    assert "<script" not in page
    assert page.startswith("<pre")
    if name == "rank":
        assert HOSTILE in text
        assert "&lt;script&gt;[red]" in page
    console = Console(width=120, record=True, file=None, force_terminal=False)
    with console.capture() as captured:
        console.print(result)
    assert [line.rstrip() for line in captured.get().splitlines()] == text.splitlines()


@pytest.mark.parametrize("name", ["evolve", "rank", "search", "judged"])
def test_records_have_one_set_of_fields(name: str, results: dict[str, Result]) -> None:
    records = results[name].records()
    assert records
    assert len({tuple(record) for record in records}) == 1


def test_a_frame_needs_pandas(results: dict[str, Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(FrameError, match=r"pip install 'autoprox\[pandas\]'"):
        results["rank"].to_frame()


def test_a_frame_has_the_records(results: dict[str, Result]) -> None:
    pytest.importorskip("pandas")
    frame = results["rank"].to_frame()
    assert list(frame.columns) == list(results["rank"].records()[0])
    assert len(frame) == len(results["rank"].records())


def test_what_was_ranked(results: dict[str, Result]) -> None:
    ranked = results["rank"]
    taus = {row["proxy"]: row["tau"] for row in ranked.records() if row["task"] == "size_kd"}
    assert taus["parameters"] == pytest.approx(taus["params"])  # a function of ours beside the table's fact
    assert {
        "l2-norm",
        HOSTILE,
        "sum(fan_out)",
        results["evolve"].proxy.name or results["evolve"].formula,
    } <= taus.keys()
    with open(ranked.out / "rank.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(ranked.records())
    assert all((ranked.out / name).exists() for name in ranked.saved)


def test_what_was_found_can_be_built(results: dict[str, Result]) -> None:
    found = results["search"]
    assert len(found.front) > 1
    assert found.ranked[: len(found.front)] == found.front
    assert (
        found.records()[0]["arch"]
        == json.loads(Path(found.out / "architectures.json").read_bytes())["architectures"][0]["arch"]
    )
    for rank in (1, len(found.ranked)):
        assert parameters(found.build(rank)) == found.ranked[rank - 1].params
    with pytest.raises(ArgumentError, match=r"rank is 31; it must be from 1 to 30"):
        found.build(31)
    assert results["judged"].verdicts
    assert parameters(results["judged"].build()) == results["judged"].best.params


@pytest.mark.parametrize("name", ["evolve", "rank", "search"])
def test_a_result_has_figures_and_a_page(name: str, results: dict[str, Result], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    figure = next(iter(results[name].figures().values()))
    assert "<svg" in figure._repr_html_()
    assert "<figcaption>" in figure._repr_html_()
    assert results[name].save_report(tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    with pytest.raises(ArgumentError, match="give it a directory"):
        results["judged"].figures()


@pytest.fixture
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPROX_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_elsewhere")
def test_the_command_line_writes_the_same(results: dict[str, Result], capsys: pytest.CaptureFixture[str]) -> None:
    size = ("--image-size", "24", "--classes", "10", "--patch-size", "8", "--workers", "1")
    assert main(["search", "--space", "pit-vb101", "--proxy", "params", *size, "--pareto", "--budget", "30",
                 "--out", "found"]) == 0  # fmt: skip
    printed = "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines())
    assert str(results["search"]) in printed
    for name in ("architectures.json", "architectures.csv"):
        assert Path("found", name).read_bytes() == Path(results["search"].out, name).read_bytes()


@pytest.mark.usefixtures("_elsewhere")
def test_a_search_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    autoprox.search("pit-vb101", "params", **SIZE, budget=5, out="a", progress=False)
    with pytest.raises(SearchError, match="was started with another image_size; resume it without image_size"):
        autoprox.search(out="a", resume=True, image_size=32)
    further = autoprox.search(out="a", resume=True, budget=9, progress=False)
    whole = autoprox.search("pit-vb101", "params", **SIZE, budget=9, progress=False)
    assert further.records() == whole.records()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: autoprox.search("mini-vit"), "Name a proxy: `autoprox proxies` lists"),
        (lambda: autoprox.search(proxy="params"), r"Name either a space \(.*\) or a benchmark"),
        (lambda: autoprox.search("mini-vit", "params", max_params=3), "raise max_params to that or more"),
        (lambda: autoprox.search("mini-vit", "params", pareto=True, objectives="score"), "at least two objectives"),
        (lambda: autoprox.search("mini-vit", "params", resume=True), "resume=True goes on with the search in out"),
        (lambda: autoprox.search("mini-vit", "params", latency_device="gpu"), "'gpu' is no device; device is auto"),
        (lambda: autoprox.search("mini-vit", "params", workers=0), "workers is 0; it must be at least 1"),
        (lambda: autoprox.rank(SMALL, "params", sample=1), "sample is 1; it must be from 3"),
        (lambda: autoprox.rank(SMALL, "params", batch=0), "batch is 0"),
        (lambda: autoprox.train(), "train what"),
        (lambda: autoprox.train("found"), "train on what.* Name a dataset: digits"),
        (lambda: autoprox.train("found", "digits", against="params"), "against is 'params'; it must be 'random'"),
        (lambda: autoprox.train(resume=True, out="found", rows=2), "resume it without rows"),
        (lambda: autoprox.rank(SMALL, lambda model: 1.0, workers=2), "the function <lambda>: use workers 1"),
        (lambda: autoprox.search("mini-vit", lambda model: 1.0, workers=2), "cannot import the function <lambda>"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("_elsewhere")
def test_errors_name_arguments(call, told: str, tmp_path: Path) -> None:
    with pytest.raises((SearchError, ArgumentError, RankError, DeviceError), match=told) as raised:
        call()
    assert "--" not in str(raised.value)
    assert not list(tmp_path.iterdir())  # nothing is begun


@pytest.mark.parametrize("name", ["evolve", "rank", "search"])
def test_help_shows_the_arguments(name: str) -> None:
    assert inspect.signature(getattr(autoprox, name)).parameters["progress"].default is True


def test_the_functions_are_there_in_every_order() -> None:
    code = (
        "import autoprox.search.strategies, autoprox\n"
        "from autoprox.rank.stats import TOPS\n"
        "from autoprox import evolve, rank, search\n"
        "assert callable(evolve) and callable(rank) and callable(search) and autoprox.rank is rank\n"
        "assert autoprox.search.strategies.STRATEGIES\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def tiny() -> torch.nn.Module:
    return TinyVit()


@pytest.mark.usefixtures("_elsewhere")
def test_models_are_scored_as_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    reference, shape = f"{ROOT / 'tests' / 'tiny_vit.py'}:TinyVit", ("--image-size", "8", "--device", "cpu")
    assert main(["score", "snip", "params", reference, *shape, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    network = TinyVit()
    found = autoprox.score(["snip", "params", parameters], {"named": reference, "built": tiny, HOSTILE: network},
                           image_size=8, device="cpu")  # fmt: skip
    assert capsys.readouterr().out == ""
    by_name = {(row["proxy"], row["model"]): row["score"] for row in found.records()}
    for entry in told["proxies"]:
        for model in ("named", "built"):
            assert by_name[entry["proxy"], model] == entry["ranking"][0]["score"]
    assert by_name["parameters", HOSTILE] == by_name["params", "named"]
    assert "&lt;script&gt;[red]" in found._repr_html_()
    assert HOSTILE in str(found)
    assert [rank for rank, _, _ in found.ranking(1)] == [1, 1, 1]
    assert [row.model for row in autoprox.score("params", [network, tiny, network], image_size=8).models] == [
        "TinyVit 1", "tiny", "TinyVit 3",
    ]  # fmt: skip


def test_what_cannot_be_scored_is_told() -> None:
    with pytest.raises(ArgumentError, match=r"score which model\?"):
        autoprox.score("snip", [])
    with pytest.raises(ArgumentError, match=r"score with what\?"):
        autoprox.score([], tiny)
    with pytest.raises(ArgumentError, match="batch is 0; it must be"):
        autoprox.score("snip", tiny, batch=0)
    with pytest.raises(ModelError, match="print: it returns a NoneType"):
        autoprox.score("snip", print)
