"""Train run: networks trained one after another, in a directory from which a killed training goes on.

The directory holds `journal.jsonl` (the plan, then one line for each epoch of each network), `checkpoint.pt` (the
training that is under way), and the results: `result.json` and, for each row, `row_1.py`, which builds the network,
and its weights from each seed, `row_1_seed_0.pt`.
"""

from __future__ import annotations

import io
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch

from autoprox import __version__
from autoprox.bench_cache.runtime.files import write_atomically
from autoprox.bench_cache.runtime.journal import JournalError
from autoprox.bench_cache.runtime.versions import versions
from autoprox.bench_cache.spaces.registry import get_space
from autoprox.bench_cache.training.trainer import Training, telling
from autoprox.export.networks import network_files
from autoprox.train.comparison import Comparison, compared
from autoprox.train.found import Network, TrainError
from autoprox.train.plan import JOURNAL, TrainJournal, TrainPlan

CHECKPOINT, RESULT = "checkpoint.pt", "result.json"
FORMAT, VERSION = "autoprox-training-result", 1
#: Seconds between two checkpoints.
CHECKPOINT_EVERY = 20.0


@dataclass(frozen=True)
class TrainProgress:
    """How far a training is: a network's `epoch` is done, with its mean test accuracy over the seeds, in percent."""

    network: str
    epoch: int
    accuracy: float
    done: int
    total: int


@dataclass(frozen=True)
class TrainResult:
    """The test accuracies after the last epoch, in percent, networks × seeds, and the comparison if there is one."""

    accuracies: np.ndarray
    comparison: Comparison | None


def start_training(plan: TrainPlan, out: Path) -> None:
    """Create the directory of a training, with its journal.

    Raises:
        TrainError: there is something in the directory already.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        resume = "go on with --resume, or " if (out / JOURNAL).exists() else ""
        raise TrainError(f"{out} already holds {'a run' if resume else 'other files'}; {resume}choose another --out")
    TrainJournal.create(out / JOURNAL, plan.record())


def run_training(
    plan: TrainPlan,
    out: Path,
    *,
    on_progress: Callable[[TrainProgress], None] = lambda progress: None,
    on_notice: Callable[[str], None] = lambda line: None,
) -> TrainResult:
    """Carry a training from where its journal and checkpoint end to its end, and write the results.

    The test accuracy of every epoch is kept, to be looked at. Nothing is chosen by it: the result is that of the last.

    Raises:
        JournalError: there is no training in the directory, its journal is damaged, or another process carries it on.
        BenchmarkError: a network fails.
    """
    with TrainJournal.held(out / JOURNAL, on_notice) as journal:
        known: dict[tuple[str, int], list[float]] = {}
        for record in journal.records:
            known[record["network"], record["epoch"]] = record["test_accuracy"]

        def ended(network: Network, epoch: int, record: Mapping[str, Any]) -> None:
            if (network.name, epoch) not in known:
                journal.append({"number": len(known), "network": network.name, "epoch": epoch, **record})
                known[network.name, epoch] = record["test_accuracy"]
            done = plan.networks.index(network) * plan.recipe.epochs + epoch
            accuracy = float(np.mean(record["test_accuracy"]))
            on_progress(TrainProgress(network.name, epoch, accuracy, done, len(plan.networks) * plan.recipe.epochs))

        for network in plan.networks:
            if (network.name, plan.recipe.epochs) not in known:
                _train(plan, network, out, ended)
        accuracies = np.array([known[network.name, plan.recipe.epochs] for network in plan.networks])
        result = TrainResult(accuracies, _comparison(plan, accuracies))
        _write_result(plan, result, out)
    (out / CHECKPOINT).unlink(missing_ok=True)
    return result


def _train(
    plan: TrainPlan, network: Network, out: Path, ended: Callable[[Network, int, Mapping[str, Any]], None]
) -> None:
    """Train one network, from the checkpoint if that is of it; save the weights of a row."""
    space = get_space(plan.space)
    doing = f"training of {network.name}, {space.key(network.arch)}, on {plan.data.name}"
    with telling(doing):
        built = [space.build(network.arch, plan.data.spec, seed) for seed in plan.all_seeds]
        training = Training(built, plan.data, plan.recipe, plan.all_seeds, plan.device)
    _restore(training, network, out / CHECKPOINT)
    with telling(doing):
        saved = time.monotonic()
        while training.epoch < plan.recipe.epochs:
            found = training.run_epoch()
            record = {"loss": found.loss, "train_accuracy": found.accuracy, "test_accuracy": training.test_accuracies()}
            if training.epoch == plan.recipe.epochs and network in plan.rows:
                _save_network(plan, network, training, out)
            ended(network, training.epoch, record)
            if time.monotonic() - saved > CHECKPOINT_EVERY and training.epoch < plan.recipe.epochs:
                write_atomically(out / CHECKPOINT, _bytes({"network": network.name, **training.state()}))
                saved = time.monotonic()


def _restore(training: Training, network: Network, path: Path) -> None:
    """Go on from a checkpoint of this network, if there is one.

    Raises:
        JournalError: it cannot be read.
    """
    if not path.is_file():
        return
    try:
        state = torch.load(path, map_location=training.device, weights_only=True)
        if state["network"] == network.name:
            training.restore(state)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, EOFError, pickle.UnpicklingError) as error:
        raise JournalError(f"{path} is damaged ({error!s:.60}); remove it, and the network starts anew") from None


def _save_network(plan: TrainPlan, network: Network, training: Training, out: Path) -> None:
    write_atomically(
        out / f"{file_stem(network)}.py", network_files(plan.space, network.arch, plan.data.spec)["py"].encode()
    )
    for place, seed in enumerate(plan.all_seeds):
        write_atomically(out / weights_file(network, seed), _bytes(training.weights(place)))


def file_stem(network: Network) -> str:
    """Return what the names of a network's files begin with: `row_1` for row 1."""
    return network.name.replace(" ", "_")


def weights_file(network: Network, seed: int) -> str:
    """Return the name of the file with the weights of a network that was trained from a seed."""
    return f"{file_stem(network)}_seed_{seed}.pt"


def _bytes(state: Mapping[str, Any]) -> bytes:
    file = io.BytesIO()
    torch.save(dict(state), file)
    return file.getvalue()


def _comparison(plan: TrainPlan, accuracies: np.ndarray) -> Comparison | None:
    if plan.band is None:
        return None
    count = len(plan.rows)
    return compared(accuracies[:count], accuracies[count:], plan.band)


def _write_result(plan: TrainPlan, result: TrainResult, out: Path) -> None:
    space, spec = get_space(plan.space), plan.data.spec
    networks: Sequence[dict[str, Any]] = [
        {
            "name": network.name,
            "genes": space.to_json(network.arch),
            "params": _size(space.params, network.arch, spec),
            "flops": _size(space.flops, network.arch, spec),
            "accuracy": float(own.mean()),
            "accuracies": own.tolist(),
        }
        for network, own in zip(plan.networks, result.accuracies, strict=True)
    ]
    compared_words = [] if result.comparison is None else list(result.comparison.words())
    record = {
        "format": FORMAT,
        "version": VERSION,
        "autoprox": __version__,
        "versions": versions(),
        "settings": plan.record(),
        "networks": networks,
        "comparison": None if result.comparison is None else asdict(result.comparison),
        "words": compared_words,
    }
    data = orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    write_atomically(out / RESULT, data)


def _size(measure: Callable[[Any, Any], int], arch: Any, spec: Any) -> int | None:
    """Return a size of a network; None where the space has no closed form of it."""
    try:
        return measure(arch, spec)
    except ValueError:
        return None
