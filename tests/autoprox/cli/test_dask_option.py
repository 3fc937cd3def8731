"""`--dask` of search, rank and bench train: the work goes to the cluster, with the results of local processes."""

import json
from concurrent.futures import Executor, Future
from pathlib import Path

import pytest
import synthetic

from autoprox.cli import options
from autoprox.cli.root import main

SPACE = ("--space", "mini-vit", "--image-size", "8", "--patch-size", "2", "--classes", "10")
COMMANDS = {
    "search": ("search", *SPACE, "--proxy", "l2-norm", "--budget", "4"),
    "rank": ("rank", "--bench", "small.json", "--tasks", "a_kd", "--proxies", "l2-norm"),
    "train": ("bench", "train", "--dataset", "digits", "--archs", "2", "--seeds", "1", "--epochs", "1",
              "--train-images", "64"),
}  # fmt: skip


class Inline(Executor):
    """A cluster of one worker, which is this process."""

    begun = 0
    ended = False

    def submit(self, fn, /, *arguments, **named) -> Future:
        self.begun += 1
        outcome: Future = Future()
        outcome.set_result(fn(*arguments, **named))
        return outcome

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.ended = True


@pytest.mark.parametrize("command", ["search", "train", pytest.param("rank", marks=pytest.mark.slow)])
def test_the_work_goes_to_the_cluster(command: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUTOPROX_HOME", str(tmp_path / "home"))
    made, cluster = synthetic.benchmark(16), Inline()
    made.save(Path("small.json"))
    typed = [each.replace("a_kd", next(iter(made.tasks))) for each in COMMANDS[command]]
    monkeypatch.setattr(options, "DaskPool", lambda address: cluster if address == "tcp://here:1" else None)
    for out, where in (("there", ("--dask", "tcp://here:1")), ("here", ("--workers", "1"))):
        assert main([*typed, *where, "--out", out]) == 0
    assert cluster.begun >= 2
    assert cluster.ended
    assert told(command, Path("there")) == told(command, Path("here"))


def told(command: str, out: Path) -> list:
    """The numbers of a result, without times."""
    if command == "search":
        return json.loads((out / "architectures.json").read_text())["architectures"]
    file = out / "scores.jsonl" if command == "rank" else out.with_name(out.name + ".journal")
    records = [json.loads(line) for line in file.read_text().splitlines()[1:]]
    if command == "rank":
        return [
            [{name: score["value"] for name, score in each.items()} for each in line["networks"]] for line in records
        ]
    return sorted((line["arch"], line["accuracy"]) for line in records)


def test_workers_and_a_cluster_are_refused(capsys) -> None:
    assert main([*COMMANDS["search"], "--dask", "tcp://here:1", "--workers", "2"]) == 2
    assert "--dask uses the workers of its cluster; leave out --workers" in capsys.readouterr().err
