"""Benchmarks by file and by name, and what is said when there is none."""

from pathlib import Path

import pytest
from public_files import hytas_rows, write_csv

from autoprox.bench_cache.benchmarks.library import Installed, install, installed, load_benchmark
from autoprox.bench_cache.benchmarks.readers import read_benchmark
from autoprox.bench_cache.runtime.checks import BenchmarkError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for the user's benchmarks."""
    monkeypatch.setenv("AUTOPROX_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_benchmark_is_found_by_file_or_by_name(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = write_csv(tmp_path / "ksc.csv", hytas_rows())
    benchmark = load_benchmark(raw)
    assert load_benchmark(str(raw)).to_bytes() == benchmark.to_bytes()
    assert install(benchmark) == home / "benchmarks" / "hytas-ksc.json"
    assert load_benchmark("hytas-ksc").to_bytes() == benchmark.to_bytes()
    (home / "benchmarks" / "broken.json").write_text("{")
    broken, found = installed()
    assert (broken.name, broken.benchmark) == ("broken", None)
    assert "not JSON" in broken.problem
    assert isinstance(found, Installed)
    assert found.name == "hytas-ksc"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hytas-ksc").mkdir()
    assert load_benchmark("hytas-ksc").name == "hytas-ksc"


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("vit-bench-101-pit", "not on this machine: run `autoprox bench download vit-bench-101` first"),
        ("vit-bench-101", "name one: vit-bench-101-autoformer or vit-bench-101-pit"),
        ("hytas-indain", r"unknown benchmark 'hytas-indain' \(did you mean hytas-indian\?\)"),
        ("mein", r"did you mean mine\?.*there are micro-vit, mini-vit, mine"),
        ("x" * 200, "autoprox bench list"),
        ("none.json", "none.json: there is no such file"),
        ("no/such", "no/such: there is no such file"),
        ("../benchmarks/mine", "there is no such file"),
        (str(Path(__file__).parent), "is a folder; name a file of it"),
    ],
)
def test_what_is_not_there_is_said_with_what_to_do(home: Path, tmp_path: Path, ref: str, message: str) -> None:
    install(read_benchmark(write_csv(tmp_path / "x.csv", hytas_rows()), name="mine"))
    with pytest.raises(BenchmarkError, match=message) as caught:
        load_benchmark(ref)
    assert "\n" not in str(caught.value)
