"""What the tests of durability share: a run in one go, which the others must equal, and a folder for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from durable import BENCHMARKS, Forker, Whole, Wholes


@pytest.fixture(autouse=True)
def _in_a_folder_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPROX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def benches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the benchmarks' files."""
    folder = tmp_path_factory.mktemp("benches")
    for name, benchmark in BENCHMARKS.items():
        benchmark.save(folder / f"{name}.json")
    return folder


@pytest.fixture(scope="session")
def wholes(benches: Path, tmp_path_factory: pytest.TempPathFactory) -> Wholes:
    """The runs that all tests of this folder share."""
    return Wholes(benches, tmp_path_factory.mktemp("wholes"))


@pytest.fixture
def whole(wholes: Wholes) -> Whole:
    """The run whose networks are scored from memory, which takes a second."""
    return wholes["mini"]


@pytest.fixture(scope="session")
def forker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forker]:
    """One for all tests of this folder."""
    made = Forker(tmp_path_factory.mktemp("forks"))
    yield made
    made.close()
