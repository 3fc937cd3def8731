"""The notebooks of examples/ and the blocks of docs/python.md run, each in a folder of its own."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import homes
import pytest
from places import ROOT

PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Statistics of networks, which the page and a notebook share."""
    return homes.made(tmp_path_factory.mktemp("home"))


@pytest.fixture(autouse=True)
def _elsewhere(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPROX_HOME", str(home))
    monkeypatch.chdir(tmp_path)


def code_of(notebook: Path) -> list[str]:
    """Return the code cells."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def shown(cells: list[str], name: str) -> Iterator[object]:
    """Run the cells one after the other, as a notebook does, and yield the value of each last line that has one."""
    names: dict[str, object] = {"__name__": name}
    for number, source in enumerate(cells, 1):
        body = ast.parse(source, f"{name}, cell {number}")
        last = body.body.pop() if isinstance(body.body[-1], ast.Expr) else None
        exec(compile(body, f"{name}, cell {number}", "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), f"{name}, last line of cell {number}", "eval"), names)
            if value is not None:
                yield value


def test_the_blocks_of_the_page_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 5
    assert list(shown(blocks, "python.md")) == []
    assert "weights are untrained" in capsys.readouterr().out.lower()  # of print(scored)
    assert {path.name for path in tmp_path.iterdir()} == {"run", "rank", "front", "trained"}


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run_and_show_tables_and_figures(notebook: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pages = [value._repr_html_() for value in shown(code_of(notebook), notebook.stem) if hasattr(value, "_repr_html_")]
    assert any(page.startswith("<pre") for page in pages)
    assert ("<svg" in "".join(pages)) == (notebook.stem != "score_my_models")
    assert capsys.readouterr().out


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_short_and_can_be_read_by_jupyter(notebook: Path) -> None:
    record = json.loads(notebook.read_text(encoding="utf-8"))
    assert (record["nbformat"], record["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in record["cells"]}) == len(record["cells"]) < 24
    assert notebook.stat().st_size < 200_000
    assert not [output for cell in record["cells"] for output in cell.get("outputs", ()) if output.get("ename")]
