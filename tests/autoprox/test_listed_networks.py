"""Commands on a benchmark of listed networks: what they rank and score, and what they refuse with a reason."""

import sys
from pathlib import Path

import pytest
from public_files import timm_files

from autoprox.bench_cache.benchmarks.readers import read_benchmark
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.spaces.registry import InputSpec
from autoprox.bench_cache.spaces.timm_networks import TimmArch
from autoprox.cli import main
from autoprox.search.candidate import SearchError
from autoprox.search.limits import Limits
from autoprox.search.on_benchmark import search_benchmark
from autoprox.search.strategies import SearchSettings


def test_evolution_of_network_formulas_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read_benchmark(timm_files(tmp_path / "made")[0]).save(tmp_path / "it.json")
    assert main(["evolve", "--bench", str(tmp_path / "it.json"), "--out", str(tmp_path / "run")]) != 0
    message = capsys.readouterr().err
    assert "are of many kinds" in message
    assert "--grammar tabular" in message
    assert not (tmp_path / "run").exists()


def test_a_space_that_cannot_be_varied_is_not_searched(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "--space", "timm", "--proxy", "params", "--out", "nowhere"]) != 0
    assert "read it from a benchmark's table" in capsys.readouterr().err


BENCHMARK = Benchmark(
    "mine",
    "timm",
    InputSpec(224, 3, 10),
    "made up",
    (TimmArch("test_vit", 160), TimmArch("test_vit2", 160), TimmArch("no_such_network", 160)),
    {"top": [41.0, 42.0, 57.0]},
    {"params": [4e5, 5e5, 9e5], "flops": [4e7, 5e7, 9e7]},
)


def test_a_search_says_what_each_network_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(SearchError, match=r"none of the first 3 architectures has a score: .*autoprox\[timm\]"):
        search_benchmark(BENCHMARK, "sum(fro(weight))", SearchSettings("random", 3))
    by_table = search_benchmark(BENCHMARK, "params", SearchSettings("random", 3, limits=Limits(max_params=5e5)))
    assert sorted(candidate.score or 0 for candidate in by_table.candidates) == [4e5, 5e5]


def test_a_search_scores_networks_at_their_own_image_size() -> None:
    pytest.importorskip("timm")
    found = search_benchmark(BENCHMARK, "sum(std(act[noise]))", SearchSettings("random", 3))
    scores = {candidate.arch.name: (candidate.score, candidate.problem) for candidate in found.candidates}
    assert scores["test_vit"][0]
    assert scores["test_vit2"][0]
    assert "no network 'no_such_network'" in scores["no_such_network"][1]
