"""Workers with disks of their own: they build the statistics that their disk lacks, and find the same scores."""

from __future__ import annotations

from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic

from autoprox.bench_cache.statistics.scorer import network_scorer
from autoprox.bench_cache.statistics.shards import ShardTask
from autoprox.bench_cache.statistics.together import shard_homes
from autoprox.primitives import parse

BENCHMARK = synthetic.mini(40)
FORMULAS = [parse("sum(fro(weight))"), parse("sum(fro(act[noise]))"), parse("params")]


class Elsewhere(Executor):
    """A worker whose disk is another: the path of a task is under a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.threads, self.tasks = folder, ThreadPoolExecutor(1), list[Any]()

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future:
        """As concurrent.futures says."""
        (task,) = args
        self.tasks.append(task)
        if isinstance(task, ShardTask):
            task = replace(task, members=replace(task.members, root=self._root(task.members.root)))
        else:
            task = replace(task, root=self._root(task.root))
        return self.threads.submit(fn, task)

    def _root(self, root: str) -> str:
        return str(self.folder / root.lstrip("/"))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As concurrent.futures says."""
        self.threads.shutdown(wait, cancel_futures=cancel_futures)


@pytest.mark.parametrize("built_here", [False, True])
def test_workers_with_a_disk_of_their_own_build_what_it_lacks(tmp_path: Path, built_here: bool) -> None:
    wanted = np.arange(6)
    expected = network_scorer(BENCHMARK, tmp_path / "own").scores(FORMULAS, wanted)
    root, seen = tmp_path / "here", list[tuple[int, int]]()
    if built_here:
        network_scorer(BENCHMARK, root).prepare(FORMULAS, wanted)
    before = sorted(root.rglob("*"))
    with Elsewhere(tmp_path / "there") as executor:
        chosen = network_scorer(BENCHMARK, root, executor=executor)
        chosen.prepare(FORMULAS, wanted, lambda *progress: seen.append(progress))
        there = sorted((tmp_path / "there").rglob("*.safetensors"))
        assert len(there) == 2 * len(wanted)
        np.testing.assert_array_equal(chosen.scores(FORMULAS, wanted), expected)
    assert seen == [(n, 6) for n in range(2, 7)]
    assert sorted((tmp_path / "there").rglob("*.safetensors")) == there
    assert sorted(root.rglob("*")) == before


def test_statistics_are_built_where_their_shard_will_be(tmp_path: Path) -> None:
    wanted = np.arange(8)
    made = synthetic.mini(8)
    with Elsewhere(tmp_path / "there") as executor:
        scorer = network_scorer(made, tmp_path / "here", executor=executor)
        scorer.prepare(FORMULAS, wanted, homes=shard_homes([scorer], [wanted]))
        prepared = {task.home for task in executor.tasks}
        executor.tasks.clear()
        scorer.scores(FORMULAS, wanted)
        assert prepared == {task.home for task in executor.tasks}
