"""NumberStore: what was computed is found again, whole or not at all, and never takes more than its room."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest
import synthetic
from torch import Tensor

from autoprox.bench_cache.statistics import large, number_store
from autoprox.bench_cache.statistics.large import LargeScorer
from autoprox.bench_cache.statistics.number_store import NumberStore, scope
from autoprox.primitives import OPERATIONS, Operation, Vocabulary, parse

SHAPE = (3, 2)
NUMBERS = {"a": np.arange(6.0).reshape(SHAPE), "b": np.array([[1.5, np.nan], [0, -1e300], [np.pi, 1e-300]])}


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> bool:
    """Whether the arrays are equal bit for bit."""
    return found.keys() == expected.keys() and all(found[k].tobytes() == expected[k].tobytes() for k in found)


def test_what_is_written_is_read_by_its_scope_and_part(tmp_path: Path) -> None:
    NumberStore(tmp_path).write("one", NUMBERS)
    store = NumberStore(tmp_path)
    assert same(store.read("one", ["a", "b", "c"], SHAPE), NUMBERS)
    assert store.read("another", ["a"], SHAPE) == {}
    assert store.read("one", ["a"], (2, 2)) == {}
    store.write("one", {"a": NUMBERS["b"]})
    assert same(store.read("one", ["a"], SHAPE), {"a": NUMBERS["b"]})


def test_reading_makes_no_file(tmp_path: Path) -> None:
    store = NumberStore(tmp_path / "new")
    assert store.read("one", ["a"], SHAPE) == {}
    assert not (tmp_path / "new").exists()


def test_a_changed_number_is_not_found(tmp_path: Path) -> None:
    store = NumberStore(tmp_path)
    store.write("one", NUMBERS)
    with sqlite3.connect(store.path) as database:
        database.execute("update numbers set data = ? where part = 'a'", (bytes(48),))
        database.execute("update numbers set part = 'c' where part = 'b'")
    database.close()
    assert store.read("one", ["a", "b", "c"], SHAPE) == {}


@pytest.mark.parametrize("damage", [b"", b"not a database, and long enough to be looked at" * 50])
def test_a_damaged_file_is_made_anew(tmp_path: Path, damage: bytes) -> None:
    store = NumberStore(tmp_path)
    store.write("one", NUMBERS)
    store.path.write_bytes(damage)
    assert store.read("one", ["a"], SHAPE) == {}
    store.write("one", NUMBERS)
    assert same(store.read("one", ["a", "b"], SHAPE), NUMBERS)


def test_where_nothing_can_be_written_nothing_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    store = NumberStore(tmp_path / "file")
    store.write("one", NUMBERS)
    assert store.read("one", ["a"], SHAPE) == {}


def test_another_run_that_writes_for_long_is_not_waited_for_and_its_file_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(number_store, "PATIENCE", 0.1)
    store = NumberStore(tmp_path)
    store.write("one", NUMBERS)
    other = sqlite3.connect(store.path)
    other.execute("begin immediate")
    store.write("one", {"c": NUMBERS["a"]})
    other.rollback()
    other.close()
    assert same(store.read("one", ["a", "b", "c"], SHAPE), NUMBERS)


def test_what_was_used_longest_ago_makes_room(tmp_path: Path) -> None:
    store = NumberStore(tmp_path, limit=300_000)
    large = np.zeros((100, 50))  # 40 kB
    for number in range(12):
        store.write("one", {f"{number}": large + number})
        store.read("one", ["0"], large.shape)
    names = [f"{number}" for number in range(12)]
    left = [int(name) for name in store.read("one", names, large.shape)]
    assert left[0] == 0
    assert left[1:] == list(range(12))[-len(left) + 1 :]
    assert 3 < len(left) < 8
    assert store.path.stat().st_size < 400_000


def test_a_scope_is_of_the_subjects_in_their_order() -> None:
    assert scope(["a", "b"]) == scope(["a", "b"])
    assert len({scope(["a", "b"]), scope(["b", "a"]), scope(["a"])}) == 3


def test_a_second_run_computes_nothing_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = synthetic.benchmark(12)
    formulas = [parse("sum(fro(weight))"), parse("sum(l1(act[msa, noise])) * depth")]
    first = LargeScorer(benchmark, tmp_path)
    expected = first.scores(formulas, range(12))
    tasks = []
    plain = large.reduce_network
    monkeypatch.setattr(large, "reduce_network", lambda task: tasks.append(task) or plain(task))
    second = LargeScorer(benchmark, tmp_path)
    found = second.scores([*formulas, parse("sum(fro(weight[qkv]))")], range(12))
    np.testing.assert_array_equal(found[:2], expected)
    assert all(part.text == "fro(weight[qkv])" or not part.args for task in tasks for part in task.parts)


def double_l1(x: Tensor) -> Tensor:
    return x.abs().mean((-2, -1)) * 2


def single_l1(x: Tensor) -> Tensor:
    return x.abs().mean((-2, -1))


def test_a_redefined_operation_is_computed_again_in_the_next_run(tmp_path: Path) -> None:
    """Its name does not say what it computes, so its numbers are not stored; what it is applied to may be."""
    benchmark = synthetic.benchmark(8)
    scores = []
    for function in (single_l1, double_l1):
        operations = OPERATIONS.extended(Operation("mine", "reduce", function, "{0}"))
        next_run = LargeScorer(benchmark, tmp_path)
        next_run.small = False
        scores.append(next_run.scores([parse("sum(mine(weight))", operations)], range(8)))
    np.testing.assert_allclose(scores[1], 2 * scores[0])


def test_an_operation_that_took_the_name_of_another_does_not_get_its_numbers(tmp_path: Path) -> None:
    benchmark = synthetic.benchmark(8)
    other = Vocabulary(OPERATIONS["sum"], Operation("l1_mean", "reduce", double_l1, "{0}"), proven=True)
    scores = []
    for operations in (OPERATIONS, other, OPERATIONS):
        next_run = LargeScorer(benchmark, tmp_path)
        next_run.small = False
        scores.append(next_run.scores([parse("sum(l1_mean(weight))", operations)], range(8)))
    np.testing.assert_allclose(scores[1], 2 * scores[0])
    np.testing.assert_array_equal(scores[2], scores[0])
