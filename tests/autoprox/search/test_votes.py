"""Several proxies vote by rank; a search goes on with their votes; what networks read follows the proxy's benchmark."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from autoprox.bench_cache.benchmarks.library import load_benchmark
from autoprox.cli.root import main
from autoprox.primitives import parse
from autoprox.proxy import Proxy
from autoprox.search.candidate import Candidate
from autoprox.search.votes import counted, voting_scorer

SPACE = ("--space", "mini-vit", "--image-size", "8", "--patch-size", "2", "--classes", "10", "--workers", "1")


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("AUTOPROX_HOME", str(tmp_path / "home"))


def run(*arguments: object, code: int = 0) -> None:
    assert main([str(argument) for argument in arguments]) == code


def candidates(count: int) -> list[Candidate]:
    return [Candidate(None, f"a{number}", 1, 1, 1, 1, 1) for number in range(count)]


def test_a_score_is_the_mean_of_the_ranks() -> None:
    """By hand: ranks 0, 1, 2 of 2 by the one, and 2, ½, ½ of 2 by the other, where two are equal."""
    first, second = {"a0": 1.0, "a1": 5.0, "a2": 100.0}, {"a0": 9.0, "a1": -1.0, "a2": -1.0}

    def scorer(scores):
        return lambda part: (replace(each, score=scores.get(each.key), problem="none") for each in part)

    voted = list(voting_scorer([scorer(first), scorer(second)])(candidates(4)))
    assert [each.votes for each in voted] == [(1.0, 9.0), (5.0, -1.0), (100.0, -1.0), ()]
    assert [each.score for each in counted(voted)] == pytest.approx([0.5, 0.375, 0.625, None])
    assert voted[3].problem == "none"
    assert counted(candidates(2)) == candidates(2)


def test_votes_choose_what_both_proxies_like(tmp_path: Path, capsys) -> None:
    """Scores of very different size count alike, and the order of proxies does not matter."""
    run("search", *SPACE, "--proxy", "params", "--proxy", "0 - depth", "--budget", 60, "--out", tmp_path / "one")
    assert "2 proxies vote: the score is the mean of their ranks" in capsys.readouterr().err
    run("search", *SPACE, "--proxy", "0 - depth", "--proxy", "1000 * params", "--budget", 60, "--out", tmp_path / "two")
    one, two = (json.loads((tmp_path / name / "architectures.json").read_text()) for name in ("one", "two"))
    assert one["architectures"] == two["architectures"]
    assert one["others"] == ["0 - depth"]
    best = one["architectures"][0]
    assert best["arch"]["embed_dim"] == 48
    assert best["depth"] <= 2


def test_a_search_by_votes_goes_on(tmp_path: Path, capsys) -> None:
    votes = ("--proxy", "params / flops", "--proxy", "l2-norm", "--proxy", "0 - depth")
    run("search", *SPACE, *votes, "--population", 8, "--budget", 30, "--out", tmp_path / "whole")
    run("search", *SPACE, *votes, "--population", 8, "--budget", 13, "--out", tmp_path / "steps")
    run("search", "--resume", *votes, "--budget", 30, "--out", tmp_path / "steps")
    for name in ("architectures.csv", "networks/row_1.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "steps" / name).read_bytes()
    capsys.readouterr()
    run("search", "--resume", *votes[:4], "--out", tmp_path / "steps", code=2)
    assert "was started with another --proxy" in capsys.readouterr().err


def test_the_same_proxy_twice_is_refused(capsys) -> None:
    run("search", *SPACE, "--proxy", "params", "--proxy", "params", code=2)
    assert "the proxies are params, params; name one, or several that differ" in capsys.readouterr().err


def test_networks_read_what_they_read_in_the_proxys_benchmark(tmp_path: Path, capsys) -> None:
    Proxy(parse("params"), "mine", {"benchmarks": ["gone", "mini-vit"]}).save(tmp_path / "mine.json")
    proxy = ("--proxy", tmp_path / "mine.json", "--budget", "3", "--workers", "1")
    run("search", "--space", "mini-vit", *proxy, "--out", tmp_path / "found")
    assert (
        "space mini-vit (8 px, 1 channels, 10 classes, as in the proxy's benchmark mini-vit)" in capsys.readouterr().err
    )
    record = json.loads((tmp_path / "found" / "architectures.json").read_text())
    spec = load_benchmark("mini-vit").spec
    assert spec is not None
    assert record["spec"] == vars(spec)
    run("search", "--space", "mini-vit", *proxy, "--image-size", "16")
    assert "space mini-vit (16 px, 3 channels, 1,000 classes)" in capsys.readouterr().err
    run("search", "--space", "pit-vb101", *proxy)
    assert "space pit-vb101 (224 px, 3 channels, 1,000 classes)" in capsys.readouterr().err
