"""Small matrices of large networks in memory: they change no score, stay within their limit, and spare reading."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import synthetic
import torch

from autoprox.bench_cache.statistics import held_small
from autoprox.bench_cache.statistics.held_small import HELD_SMALL, HeldSmall
from autoprox.bench_cache.statistics.in_memory import HELD
from autoprox.bench_cache.statistics.scorer import network_scorer
from autoprox.bench_cache.statistics.store import StatisticsCache
from autoprox.primitives import parse
from autoprox.primitives.reduce import Blocks, SmallMatrices

COUNT = 4
FORMULAS = [
    parse(text)
    for text in (
        "sum(fro(row_norm(weight[msa])))",
        "sum(l1(log(row_norm(weight[msa]))))",
        "sum(std(column_norm(act[noise])))",
        "sum(mean(minmax(column_norm(act[noise]))))",
        "sum(fro(sample_sum(act[noise])) * mean(row_norm(weight)))",
    )
]


@pytest.fixture(autouse=True)
def nothing_held() -> Iterator[None]:
    """Begin and end with nothing in memory."""
    HELD_SMALL.clear()
    yield
    HELD_SMALL.clear()


def scored(root: Path) -> np.ndarray:
    """Score the formulas one after another, by a new scorer each time, which remembers no number."""
    found = []
    for formula in FORMULAS:
        scorer = network_scorer(synthetic.benchmark(COUNT), root)
        scorer.store.path.unlink(missing_ok=True)
        found.append(scorer.scores([formula], range(COUNT))[0])
    return np.array(found)


def test_scores_are_the_same_however_much_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_small, "SHARE", 0.0)
    expected = scored(tmp_path)
    assert HELD_SMALL.nbytes == 0
    monkeypatch.setattr(held_small, "SHARE", 1 / 4)
    np.testing.assert_array_equal(scored(tmp_path), expected)
    everything = HELD_SMALL.nbytes
    assert everything > 0
    HELD_SMALL.clear()
    monkeypatch.setattr(held_small, "memory_limit", lambda: 4 * everything // 3)
    np.testing.assert_array_equal(scored(tmp_path), expected)
    assert 0 < HELD_SMALL.nbytes <= everything // 3


def test_large_matrices_are_not_read_again_for_what_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[list[tuple[str, str, str]]] = []
    plain = StatisticsCache.read

    def noted(self, subject, matrices=(), numbers=(), *, keep=True):
        read.append(list(matrices))
        return plain(self, subject, matrices, numbers, keep=keep)

    monkeypatch.setattr(StatisticsCache, "read", noted)
    scorer = network_scorer(synthetic.benchmark(COUNT), tmp_path)
    scorer.scores(FORMULAS[:1], [0])
    scorer.scores(FORMULAS[1:2], [0])
    scorer.scores(FORMULAS[2:3], [0])
    assert [sorted({name for name, _, _ in each}) for each in read] == [["weight"], ["act"]]


def test_what_was_used_longest_ago_goes_first_where_there_is_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_small, "memory_limit", lambda: 4 * 50)
    blocks = Blocks.of([torch.zeros(5, 1)])  # 20 bytes
    parts = [parse(text, complete=False) for text in ("row_norm(weight[qkv])", "row_norm(act[qkv])")]
    held, (one, other) = HeldSmall(), (("root", "one"), ("root", "other"))
    held.of(other, []).parts[parts[0]] = blocks
    held.make_room(other)
    held.of(one, []).parts.update({parts[0]: blocks, parts[1]: blocks})
    assert list(held.of(one, [parts[0]]).parts) == [parts[1], parts[0]]  # the second was used longest ago
    held.make_room(one)
    assert held.nbytes == 40
    assert list(held.of(one, []).parts) == [parts[0]]
    assert isinstance(held.of(other, []), SmallMatrices)
    assert list(held.of(other, []).parts) == [parts[0]]


def test_shards_leave_room_for_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Both together are within the limit."""
    HELD.clear()
    scorer = network_scorer(synthetic.mini(6), tmp_path)
    scorer.scores([parse("sum(fro(weight))")], range(6))
    assert len(HELD) > 0
    monkeypatch.setattr(HeldSmall, "nbytes", property(lambda self: held_small.memory_limit() - 1))
    scorer.scores([parse("sum(std(weight))")], range(6))
    assert len(HELD) == 0
    HELD.clear()
