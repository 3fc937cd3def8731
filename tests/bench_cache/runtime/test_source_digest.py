"""Digests of source code: of what is imported, wherever it stands, and of nothing else."""

from pathlib import Path

import pytest
import torch

from autoprox.bench_cache.runtime.source_digest import source_digest, source_file, source_files


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package in which a imports b, which imports c when it is called; nothing imports d."""
    for name, source in {
        "__init__": "from made_up import d",
        "a": "import os\nfrom made_up import b\n",
        "b": "def f():\n    from made_up.inner.c import g\n    return g",
        "inner/__init__": "",
        "inner/c": "def g(): ...",
        "d": "",
    }.items():
        path = tmp_path / "made_up" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "made_up"


def test_files_are_those_that_are_imported_directly_or_not(package: Path) -> None:
    assert source_files(["made_up.a"], "made_up") == [package / "a.py", package / "b.py", package / "inner" / "c.py"]
    assert source_files(["made_up.a"], "made_up.inner") == [package / "a.py"]
    assert source_file("made_up.inner") == package / "inner" / "__init__.py"


def test_a_digest_is_of_contents_facts_and_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other, same = (tmp_path / name for name in ("one.py", "other.py", "same.py"))
    for file, text in ((one, "1"), (other, "2"), (same, "1")):
        file.write_text(text)
    assert source_digest([one]) == source_digest([same])
    found = [source_digest(*of) for of in (([one],), ([other],), ([one, other],), ([one], "x"), ([], "1"))]
    monkeypatch.setattr(torch, "__version__", "1.0")
    assert len({*found, source_digest([one])}) == len(found) + 1
