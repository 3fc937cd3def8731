"""The collection: its records are complete, short and named like no other; they are loaded and shown by name."""

from pathlib import Path

import pytest
from places import ROOT

from autoprox.cli.root import FAILED, main
from autoprox.collection import COLLECTION, Figures, ShippedProxy, TaskFigures
from autoprox.collection.record import MOST_NODES, read_collection, write_collection
from autoprox.display.collection import collection_tables, shipped_parts, where_from
from autoprox.display.terminal import Parts, as_text
from autoprox.primitives import parse
from autoprox.proxy import Proxy, resolve
from autoprox.rank.plan import proxies_to_rank
from autoprox.zoo import ZOO

FIGURES = Figures(
    benchmark="small", split="test", networks=30, tasks=2, tau=(0.5, 0.4, 0.6), given_fitted=(0.2, -0.05, 0.3),
    trainable=None, baseline="fitted structure", baseline_tau=0.45, lead=(0.05, -0.02, 0.12), noise=0.07,
    of_many=(0.3, 0.7), held_out=False, verdict="On the test split of small it is fine.",
    command="autoprox validate made-up --bench small",
    by_task=(TaskFigures("a", (0.6, 0.5, 0.7), 0.3, None, True), TaskFigures("c", (0.4, 0.3, 0.5), None, None, False)),
)  # fmt: skip
MADE_UP = ShippedProxy(
    name="made-up",
    formula="sum(fro(weight_grad))",
    summary="a norm of gradients",
    measures="How large the gradients are.",
    avoid="On networks of one block.",
    provenance={
        "benchmarks": ["small"], "tasks": ["small:a", "small:b"], "seed": 3, "generations": 7, "tried": 1234,
        "tau": {"evolve": {"small:a": 0.4, "mean": 0.41}, "validation": {"mean": 0.39}}, "looks": 1, "version": "0.1.0",
    },
    figures=(FIGURES,),
)  # fmt: skip


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch) -> ShippedProxy:
    """A made-up formula in place of the collection."""
    for module in ("proxy", "rank.plan", "cli.commands.proxies"):
        monkeypatch.setattr(f"autoprox.{module}.COLLECTION", {MADE_UP.name: MADE_UP})
    return MADE_UP


# --- the records ---


@pytest.mark.parametrize("name", COLLECTION)
def test_a_record_is_complete(name: str) -> None:
    record = COLLECTION[name]
    formula = parse(record.formula)
    assert formula.is_complete
    assert formula.text == record.formula
    assert formula.size <= MOST_NODES
    assert name not in ZOO
    assert all((record.summary, record.measures, record.avoid))
    assert {"benchmarks", "tasks", "seed", "generations", "tried", "looks", "version"} <= record.provenance.keys()
    assert record.figures
    proxy = Proxy.load(name)
    assert proxy.name == name
    assert proxy.provenance["tried"] == record.provenance["tried"]


@pytest.mark.parametrize("name", COLLECTION)
def test_the_page_has_every_record(name: str) -> None:
    page = (ROOT / "docs" / "collection.md").read_text(encoding="utf-8")
    record = COLLECTION[name]
    for text in (f"## {name}", f"    {record.formula}", record.measures, record.avoid, *where_from(record)):
        assert text in page
    assert all(found.verdict in page for found in record.figures)
    assert (ROOT / "docs" / "pictures" / f"{name}.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_records_are_written_and_read_again(tmp_path: Path) -> None:
    write_collection((MADE_UP,), tmp_path / "collection.json")
    assert read_collection(tmp_path / "collection.json") == (MADE_UP,)


# --- by name ---


def test_a_shipped_formula_is_loaded_with_its_provenance(shipped: ShippedProxy) -> None:
    proxy = Proxy.load("made-up")
    assert (proxy.text, proxy.name) == (shipped.formula, "made-up")
    assert proxy.provenance["tried"] == 1234
    assert proxy.provenance["tasks"] == ["small:a", "small:b"]
    assert proxy.provenance["note"] == "How large the gradients are. On networks of one block."
    with pytest.raises(ValueError, match="did you mean 'made-up'"):
        resolve("made-upp")


def test_it_is_ranked_under_its_name(shipped: ShippedProxy) -> None:
    import synthetic

    assert proxies_to_rank(synthetic.benchmark(8), ["made-up"])[-1].name == "made-up"


def test_it_is_listed_before_the_zoo_and_shown_in_full(
    shipped: ShippedProxy, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["proxies"]) == 0
    listed = capsys.readouterr().out
    assert listed.index("made-up") < listed.index("of the literature") < listed.index("snip")
    assert "small test .500 [.40,.60]" in listed
    assert main(["proxies", "made-up"]) == 0
    shown = capsys.readouterr().out
    for text in (shipped.formula, shipped.measures, shipped.avoid, "1,234 formulas tried", ".200 [-.05,.30]", "7%"):
        assert text in shown
    assert "Mean τ by split: evolve 0.410, validation 0.390." in shown
    assert "Test was looked at for 1 formula of its making." in shown
    assert "autoprox export made-up --to svg" in shown
    assert "c (not evolved on)" in shown


def test_an_entry_of_the_zoo_is_shown_in_full_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["proxies", "w-pca"]) == 0
    shown = capsys.readouterr().out
    assert ZOO["w-pca"].source in shown
    assert ZOO["w-pca"].note in shown
    assert main(["proxies", "w-pcaa"]) == FAILED
    assert "did you mean 'w-pca'?" in capsys.readouterr().err


def test_nothing_is_listed_of_an_empty_collection() -> None:
    assert collection_tables({}.values()) == []
    assert "made-up" in as_text(Parts([*collection_tables([MADE_UP]), *shipped_parts(MADE_UP)]))
