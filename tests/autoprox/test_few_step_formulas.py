"""Formulas that read networks after K steps of training: off unless asked for, and marked wherever they are shown."""

import json
from pathlib import Path

import pytest
import synthetic
from tiny_vit import TinyVit, batch

import autoprox
from autoprox.bench_cache.spaces.registry import get_space
from autoprox.bench_cache.statistics.store import StatisticsCache
from autoprox.bench_cache.statistics.subject import Subject
from autoprox.cli.root import main
from autoprox.evolution import JOURNAL
from autoprox.evolve import Journal, SettingsError
from autoprox.evolve.grammar import GRAMMARS, grammar, terminals
from autoprox.explanation.explained import about
from autoprox.export import export
from autoprox.export.sources import SourceError
from autoprox.primitives import parse, requirements
from autoprox.proxy import Proxy
from autoprox.rank.caption import made_inputs
from autoprox.rank.network import formula_scores
from autoprox.report import of_evolution

TEXT = "sum(fro(weight[steps2] - weight)) + mean(l1(weight_grad[mlp, steps2]))"
NOTE = "reads networks after 2 training steps: not zero-cost"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPROX_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def test_it_scores_alone_and_with_others_as_it_does_from_the_cache(tmp_path: Path) -> None:
    proxy, arch = Proxy.from_formula(TEXT), synthetic.architectures(8)[0]
    subject = Subject("pit-vb101", arch, synthetic.SPEC)
    model = get_space("pit-vb101").build(arch, synthetic.SPEC, 0)
    inputs = batch()[0].new_zeros(2, 3, 24, 24)
    alone = proxy.score(model, inputs)
    others = {"a": proxy.formula, "b": parse("sum(fro(act[steps2]))"), "c": parse("sum(fro(weight_grad))")}
    assert formula_scores(others, model, inputs, None, 0)["a"].value == pytest.approx(alone, rel=1e-9)  # rounded
    cache = StatisticsCache(tmp_path / "cache")
    pairs = requirements([proxy.formula])
    for _ in range(2):  # from the network, then from disk
        reading = cache.read(subject, [(*pair, slot) for pair in pairs for slot in ("qkv", "proj", "fc1", "fc2")])
        assert autoprox.primitives.evaluate(proxy.formula, reading) == pytest.approx(alone, rel=1e-6)
    assert cache.has(subject, pairs)
    assert not cache.has(subject, [("weight", "steps3")])


def test_it_is_no_training_free_proxy_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert not Proxy.from_formula(TEXT).training_free
    assert Proxy.from_formula("sum(fro(weight)) + sum(fro(act))").training_free
    assert Proxy.from_formula(TEXT).score(TinyVit(), *batch()) > 0
    assert main(["export", TEXT, "--to", "text"]) == 0
    shown = capsys.readouterr()
    assert shown.out == TEXT + "\n"
    assert NOTE in shown.err
    assert about(Proxy.from_formula(TEXT)) == [("cost", NOTE)]
    assert about(Proxy.from_formula("sum(fro(act))")) == []
    said = list(made_inputs({"steps20", "steps3"}, 7))
    assert [line.split("steps of training")[0][-3:] for line in said] == [" 3 ", "20 "]
    assert all(line.endswith("(seed 7): not zero-cost.") for line in said)


def test_an_exported_file_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SourceError, match="trains nothing"):
        export(Proxy.from_formula(TEXT), "python")
    assert main(["export", TEXT, "--to", "python"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("name", GRAMMARS)
def test_a_grammar_reads_trained_networks_where_it_is_told_to(name: str) -> None:
    without, made = grammar(name), grammar(name, steps=7)
    assert without.matrices == terminals("noise") == made.matrices[: len(without.matrices)]
    assert {probe for _, probe in made.matrices[len(without.matrices) :]} == {"steps7"}
    few_steps = {node for node in made.builders if "steps7" in node}
    assert few_steps
    assert made.builders.keys() - few_steps == without.builders.keys()


def test_evolution_reads_them_where_it_is_asked_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, out = synthetic.mini(24), tmp_path / "run"
    made.save(tmp_path / "mini.json")
    run = ("evolve", "--bench", "mini.json", "--tasks", "small", "--generations", "1", "--population", "4")
    assert main([*run, "--steps", "1", "--workers", "1", "--out", "run", "--json"]) == 0
    shown = capsys.readouterr()
    assert "The probe `steps1` read made-up images, after 1 step" in " ".join(shown.err.split())
    assert json.loads(shown.out)["provenance"]["steps"] == 1
    assert any("steps1" in text for record in Journal.open(out / JOURNAL).records for text, _ in record["judged"])
    cache = StatisticsCache(tmp_path / "home" / "statistics")
    network = made.networks()[0]
    subject = Subject("mini-vit", made.architectures[0], network.spec, input=network.input.first(2))
    assert cache.has(subject, terminals("data", 1))
    with pytest.raises(SettingsError, match="steps 1; resume it without"):
        autoprox.evolve(out=out, resume=True, steps=2)
    Proxy.from_formula(TEXT).save(out / "proxy.json")
    assert NOTE in " ".join(of_evolution.tell(out).summary)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--steps", "-1"), "steps is -1; it must be a whole number of at least 0"),
        (("--steps", "10000"), "steps is 10000; it must be 9999 at most"),
        (("--steps", "1", "--grammar", "tabular"), "--grammar tabular runs no networks; leave out --costly, --batch"),
    ],
)
def test_steps_that_cannot_be(options: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evolve", *options]) == 2
    assert message in capsys.readouterr().err
