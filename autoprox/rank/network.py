"""One network scored by many proxies: built once, run once for each probe, every reduction computed once."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import networkx as nx
import numpy as np
import torch
from torch import Tensor

from autoprox.bench_cache.runtime.local_pool import give_back_memory, one_thread
from autoprox.bench_cache.spaces.registry import InputSpec, get_space
from autoprox.bench_cache.statistics.protocol import rounded
from autoprox.bench_cache.statistics.store import SHAPES, is_matrix
from autoprox.primitives import Block, Formula, LayerError, Reading, find_blocks, read_statistics
from autoprox.primitives.evaluate import finish_one, reduce_layers, reductions
from autoprox.primitives.kinds import role_slots
from autoprox.primitives.statistics import Terminal
from autoprox.scoring import ProxyError, require
from autoprox.zoo import ZOO
from autoprox.zoo.shared_results import SharedResults, sharing_results

#: What a function may raise on a network that it is not defined for: ours, and what torch and numpy raise.
_REFUSALS = (ValueError, ArithmeticError, RuntimeError)
_LONGEST = 200  # of a reason


@dataclass(frozen=True, eq=False)
class NetworkSetup:
    """What networks are built for and run on, and the tasks whose networks these are.

    `inputs`: float32, samples × channels × size × size; `targets`: integers, samples.
    """

    spec: InputSpec
    inputs: np.ndarray
    targets: np.ndarray
    tasks: tuple[str, ...]

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets."""
        return torch.from_numpy(self.inputs), torch.from_numpy(self.targets)


@dataclass(frozen=True)
class Score:
    """A proxy's score of one network, or None and why there is none; and the seconds that it took."""

    value: float | None
    problem: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class NetworkJob:
    """What one worker does for one architecture. `functions` are names of the zoo."""

    space: str
    arch: Any
    settings: tuple[NetworkSetup, ...]
    seed: int
    formulas: Mapping[str, Formula]
    functions: tuple[str, ...]


def score_network(job: NetworkJob) -> list[dict[str, Score]]:
    """Every proxy's score, for each setting. On one thread, so that sums are added in one order."""
    found = []
    with one_thread():
        for setting in job.settings:
            inputs, targets = setting.tensors()
            model = get_space(job.space).build(job.arch, setting.spec, job.seed)
            scores = formula_scores(job.formulas, model, inputs, targets, job.seed)
            scores |= function_scores(job, model, inputs, targets, scores)
            found.append(scores)
            del model
            give_back_memory()
    return found


def function_scores(
    job: NetworkJob, model: torch.nn.Module, inputs: Tensor, targets: Tensor, known: Mapping[str, Score]
) -> dict[str, Score]:
    """The zoo's functions on a model; what they have in common, with each other or with formulas, is computed once."""
    with sharing_results() as common:
        for name, formula in job.formulas.items():
            if known[name].value is not None:
                common.put(formula, (model, inputs, targets, job.seed), known[name].value, known[name].seconds)
        return {name: function_score(name, model, inputs, targets, job.seed, common) for name in job.functions}


def function_score(
    name: str, model: torch.nn.Module, inputs: Tensor, targets: Tensor, seed: int, common: SharedResults
) -> Score:
    """A function of the zoo on a model. Its seconds have those in them that something it uses took before."""
    began, saved = time.perf_counter(), common.saved
    try:
        value = ZOO[name].score(model, inputs, targets, seed=seed)
    except _REFUSALS as error:
        return Score(None, _reason(error, name), time.perf_counter() - began + common.saved - saved)
    return _score(value, time.perf_counter() - began + common.saved - saved)


def _score(value: float, seconds: float) -> Score:
    if not math.isfinite(value):
        return Score(None, f"the score is {value}", seconds)
    return Score(float(rounded(np.array(value))), "", seconds)


def _reason(error: Exception, name: str = "") -> str:
    lines = str(error).removeprefix(f"{name}: ").splitlines()
    text = lines[0] if lines else ""
    ours = type(error).__module__.startswith("autoprox.")
    return (text if ours and text else f"{type(error).__name__}: {text}")[:_LONGEST]


# --- formulas ---


@dataclass
class _Work:
    """One network's numbers, as they come in, and the seconds that they took."""

    model: torch.nn.Module
    blocks: Sequence[Block]
    inputs: Tensor
    targets: Tensor
    seed: int
    numbers: Reading = field(default_factory=Reading)  # per layer and network; matrices are not kept
    reduced: dict[Formula, list[float]] = field(default_factory=dict)
    problems: dict[tuple[str, str, str], str] = field(default_factory=dict)  # by statistic, probe and slot
    seconds: dict[str | Formula, float] = field(default_factory=dict)  # by run, and by reduction


def formula_scores(
    formulas: Mapping[str, Formula], model: torch.nn.Module, inputs: Tensor, targets: Tensor, seed: int
) -> dict[str, Score]:
    """The formulas' scores of a model, which is left as it was.

    A probe runs once for all formulas, and a reduction of matrices to a number per layer is computed once. A
    formula's seconds are those of the runs it needs (a run reads what any formula wants of it), of its reductions,
    and of its arithmetic: what it would take alone, or a little more.
    """
    try:
        blocks = find_blocks(model)
    except LayerError as error:
        return {name: Score(None, _reason(error)) for name in formulas}
    work = _Work(model, blocks, inputs, targets, seed)
    wanted = reductions(formulas.values())
    numbers = {(t.statistic.name, t.probe) for f in formulas.values() for t in f.terminals() if not _is_matrix(t)}
    _read(work, "shapes" if any(name in SHAPES for name, _ in numbers) else "", numbers)
    for runs in _together(wanted):
        _reduce(work, runs, [part for part in wanted if _runs(part) <= runs])
    return {name: _finished(work, formula) for name, formula in formulas.items()}


def _is_matrix(terminal: Terminal) -> bool:
    return is_matrix(terminal.statistic.name)


def _run(name: str, probe: str) -> str:
    """The run of the network that a statistic is read from; empty where nothing is run."""
    if name in SHAPES:
        return "shapes"
    return f"{probe} by halves" if name == "weight_grad_batches" else probe


def _runs(part: Formula) -> frozenset[str]:
    """The runs that a reduction reads. Weights, which every one of them has too, count only where there is no other."""
    runs = frozenset(_run(t.statistic.name, t.probe) for t in part.terminals())
    return runs - {""} or runs


def _together(wanted: Iterable[Formula]) -> list[frozenset[str]]:
    """Sets of runs whose matrices a reduction combines, so that they must be there at once; one set is, at a time."""
    graph = nx.Graph()
    for part in wanted:
        graph.add_nodes_from(_runs(part))
        graph.add_edges_from(pairwise(sorted(_runs(part))))
    return sorted((frozenset(runs) for runs in nx.connected_components(graph)), key=sorted)


def _reduce(work: _Work, runs: frozenset[str], wanted: Sequence[Formula]) -> None:
    """Read the runs' matrices, compute the wanted reductions, and forget the matrices."""
    terminals = dict.fromkeys(t for part in wanted for t in part.terminals())
    reading = Reading()
    for run in sorted({_run(t.statistic.name, t.probe) for t in terminals}):
        pairs = {(t.statistic.name, t.probe) for t in terminals if _run(t.statistic.name, t.probe) == run}
        found = _read(work, run, pairs)
        reading.matrices.update(found.matrices)
        reading.samples.update(found.samples)
    for terminal in terminals:
        _check(work, reading, terminal, terminal.role)
    for part in wanted:
        if not any(_key(t, t.role) in work.problems for t in part.terminals()):
            with _Timed(work.seconds, part):
                work.reduced.update(reduce_layers([part], reading))


def _read(work: _Work, run: str, pairs: set[tuple[str, str]]) -> Reading:
    """One run's statistics; what the model does not have is a problem of its own, and not of the others."""
    found = Reading()
    with _Timed(work.seconds, run):
        try:
            found = read_statistics(work.model, work.blocks, pairs, work.inputs, work.targets, work.seed)
        except LayerError as error:
            if len(pairs) == 1:
                work.problems.update({(*pair, ""): _reason(error) for pair in pairs})
    if not found.net and len(pairs) > 1:
        for pair in sorted(pairs):
            alone = _read(work, run, {pair})
            found.matrices.update(alone.matrices)
            found.samples.update(alone.samples)
    work.numbers.layers.update(found.layers)
    work.numbers.net.update(found.net)
    return found


def _key(terminal: Terminal, slot: str) -> tuple[str, str, str]:
    return terminal.statistic.name, terminal.probe, slot


def _check(work: _Work, reading: Reading, terminal: Terminal, slot: str) -> None:
    """Note as a problem what is missing or not finite."""
    name, probe, _ = _key(terminal, slot)
    if (name, probe, "") in work.problems:
        work.problems[name, probe, slot] = work.problems[name, probe, ""]
        return
    try:
        require(reading, work.blocks, ((name, probe, (slot,) if slot else ()),))
    except (LayerError, ProxyError) as error:
        work.problems[name, probe, slot] = _reason(error)


def _finished(work: _Work, formula: Formula) -> Score:
    parts = reductions([formula])
    runs = {_run(t.statistic.name, t.probe) for t in formula.terminals()}
    needed: list[str | Formula] = [*sorted(runs), *parts]
    seconds = sum(work.seconds.get(each, 0.0) for each in needed)
    began = time.perf_counter()
    for terminal in formula.terminals():
        for slot in role_slots(terminal.role) if terminal.role else ("",):
            if not _is_matrix(terminal):
                _check(work, work.numbers, terminal, slot)
            problem = work.problems.get(_key(terminal, slot))
            if problem:
                return Score(None, problem, seconds)
    value = finish_one(formula, work.numbers, work.reduced)
    return _score(value, seconds + time.perf_counter() - began)


class _Timed:
    """Adds the seconds inside to an entry."""

    def __init__(self, seconds: dict[Any, float], key: Any) -> None:
        self.seconds, self.key = seconds, key

    def __enter__(self) -> None:
        self.began = time.perf_counter()

    def __exit__(self, *exception: object) -> None:
        self.seconds[self.key] = self.seconds.get(self.key, 0.0) + time.perf_counter() - self.began
