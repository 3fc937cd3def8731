"""One network scored by many proxies: built once, run once for each probe, and each reduction computed once."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autoprox.bench_cache.runtime.devices import CPU, chosen_device, computing, wait_for
from autoprox.bench_cache.runtime.local_pool import give_back_memory
from autoprox.bench_cache.spaces.listed import input_of
from autoprox.bench_cache.spaces.registry import ArchitectureError, InputSpec, get_space
from autoprox.bench_cache.statistics.protocol import rounded
from autoprox.bench_cache.statistics.store import SHAPES, is_matrix
from autoprox.primitives import Block, Formula, LayerError, Reading, read_statistics
from autoprox.primitives.batch_norms import RUNNING, batch_norms_by
from autoprox.primitives.evaluate import finish_one, reductions
from autoprox.primitives.find_blocks.choose import blocks_of
from autoprox.primitives.kinds import read_slots
from autoprox.primitives.passes import Subject
from autoprox.primitives.reduce import reduce_layers
from autoprox.primitives.sharing import SharedResults, charged_clock, known_already, sharing_results
from autoprox.primitives.statistics import Terminal
from autoprox.scoring import (
    AnyProxy,
    Layers,
    ProxyError,
    gaussian_batch,
    is_convolutional,
    require,
    require_below_limit,
    require_roles,
)
from autoprox.zoo import ZooProxy

#: What may be raised on a network for which a proxy is not defined: our errors, those of torch and numpy, and those of
#: networks that somebody else wrote.
_REFUSALS = (ValueError, ArithmeticError, RuntimeError, TypeError, AttributeError, LookupError)
#: Characters of a reason that are kept.
_LONGEST = 200


@dataclass(frozen=True, eq=False)
class NetworkSetup:
    """What the networks of some tasks are built for and run on.

    `inputs` are float32, samples × channels × size × size; `targets` are class numbers, one for each sample. `images`
    says that the inputs are images of the benchmark, which no other inputs can replace.
    """

    spec: InputSpec
    inputs: np.ndarray
    targets: np.ndarray
    tasks: tuple[str, ...]
    images: bool = False

    def tensors(self, spec: InputSpec | None = None, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Return inputs and targets; for a network that reads another `spec`, Gaussian samples of that shape."""
        inputs, targets = self.inputs, self.targets
        if spec is not None and spec != self.spec:
            inputs, targets = gaussian_batch(spec, len(inputs), seed)
        return torch.from_numpy(inputs), torch.from_numpy(targets)


@dataclass(frozen=True)
class Score:
    """A proxy's score of one network, or None with the problem, and the seconds that it took."""

    value: float | None
    problem: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class NetworkJob:
    """What a worker needs to score one architecture, whose network is built once for each set-up."""

    space: str
    arch: Any
    setups: tuple[NetworkSetup, ...]
    seed: int
    proxies: tuple[AnyProxy, ...]
    batch_norm: str = RUNNING
    device: str = CPU


def score_network(job: NetworkJob) -> list[dict[str, Score]]:
    """Return every proxy's score by name, for each set-up.

    Weights and inputs are drawn on the CPU, so that they are the same on every device.

    Raises:
        DeviceError: there is no such device here, or it has no memory left.
    """
    found = []
    with computing(), batch_norms_by(job.batch_norm):
        for setup in job.setups:
            found.append(_setup_scores(job, setup))
            give_back_memory()
    return found


def _setup_scores(job: NetworkJob, setup: NetworkSetup) -> dict[str, Score]:
    space, device = get_space(job.space), chosen_device(job.device)
    spec = input_of(space, job.arch, setup.spec)
    if setup.images and spec != setup.spec:
        reason = f"it reads {spec.image_size} px, and the benchmark's images have {setup.spec.image_size} px"
        return {proxy.name: Score(None, reason) for proxy in job.proxies}
    try:
        model = space.build(job.arch, setup.spec, job.seed)
    except ArchitectureError as error:  # a list of networks may name one that the installed library lacks
        return {proxy.name: Score(None, _reason(error)) for proxy in job.proxies}
    layers = space.layers(job.arch, model)
    inputs, targets = (tensor.to(device) for tensor in setup.tensors(spec, job.seed))
    return model_scores(job.proxies, model.to(device), inputs, targets, job.seed, layers)


def model_scores(
    proxies: Sequence[AnyProxy],
    model: torch.nn.Module,
    inputs: Tensor,
    targets: Tensor,
    seed: int,
    layers: Layers = None,
) -> dict[str, Score]:
    """Return the proxies' scores of a model by name; what functions share with formulas is computed once.

    `layers` is that of `Proxy.score`.
    """
    formulas = {proxy.name: proxy.as_formula for proxy in proxies if proxy.as_formula is not None}
    subject = Subject(model, inputs, targets, seed)
    with sharing_results(subject) as shared:
        announce(shared, proxies, layers)
        scores = formula_scores(formulas, model, inputs, targets, seed, layers)
        for proxy in proxies:
            if proxy.as_formula is None:
                scores[proxy.name] = function_score(proxy, model, inputs, targets, seed, layers)
    return scores


def announce(shared: SharedResults, proxies: Sequence[AnyProxy], layers: Layers = None) -> None:
    """Tell ahead what the functions among the proxies will read, so that a pass that several read runs once."""
    for proxy in proxies:
        if isinstance(proxy, ZooProxy):
            shared.expect(proxy.needed(shared.subject, layers))


def function_score(
    proxy: AnyProxy,
    model: torch.nn.Module,
    inputs: Tensor,
    targets: Tensor | None,
    seed: int,
    layers: Layers = None,
) -> Score:
    """Return a proxy's score of a model, by the proxy's own `score`.

    Its seconds are what it would take alone: for a shared result they include what that took when it was computed.
    """
    began = charged_clock()
    try:
        value = proxy.score(model, inputs, targets, layers=layers, seed=seed)
    except _REFUSALS as error:
        return Score(None, _reason(error, proxy.name), charged_clock() - began)
    return _score(value, charged_clock() - began)


def _score(value: float, seconds: float) -> Score:
    if not math.isfinite(value):
        return Score(None, f"the score is {value}", seconds)
    return Score(float(rounded(np.array(value))), "", seconds)


def _reason(error: Exception, name: str = "") -> str:
    if isinstance(error, torch.cuda.OutOfMemoryError):
        raise error  # with fewer workers on the device there may be a score
    lines = str(error).removeprefix(f"{name}: ").splitlines()
    text = lines[0] if lines else ""
    ours = type(error).__module__.startswith("autoprox.")
    return (text if ours and text else f"{type(error).__name__}: {text}")[:_LONGEST]


# --- formulas ---


@dataclass
class _Work:
    """The numbers read from one network so far, and the seconds that each took."""

    model: torch.nn.Module
    blocks: Sequence[Block]
    inputs: Tensor
    targets: Tensor
    seed: int
    convolutional: bool
    numbers: Reading = field(default_factory=Reading)  # per layer and per network; matrices are not kept
    reduced: dict[Formula, list[float]] = field(default_factory=dict)
    problems: dict[tuple[str, str, str], str] = field(default_factory=dict)  # by statistic, probe and slot
    seconds: dict[str | Formula, float] = field(default_factory=dict)  # by run, and by reduction


def formula_scores(
    formulas: Mapping[str, Formula],
    model: torch.nn.Module,
    inputs: Tensor,
    targets: Tensor,
    seed: int,
    layers: Layers = None,
) -> dict[str, Score]:
    """Return the formulas' scores of a model by name; the model is left as it was.

    Each probe runs once for all formulas, and each reduction of matrices to a number per layer is computed once. A
    formula's seconds are those of the runs that it needs, of its reductions and of its arithmetic. Alone it might take
    a little less, because a run reads what any of the formulas needs.
    """
    try:
        blocks = blocks_of(model, inputs, layers)
    except _REFUSALS as error:
        return {name: Score(None, _reason(error)) for name in formulas}
    work = _Work(model, blocks, inputs, targets, seed, is_convolutional(blocks))
    refused = _refused(work, formulas)
    formulas = {name: formula for name, formula in formulas.items() if name not in refused}
    wanted = reductions(formulas.values(), work.convolutional)
    numbers = {(t.statistic.name, t.probe) for f in formulas.values() for t in f.terminals() if not _is_matrix(t)}
    _read(work, "shapes" if any(name in SHAPES for name, _ in numbers) else "", numbers)
    for runs in _together(wanted):
        _reduce(work, runs, [part for part in wanted if _runs(part) <= runs])
    return refused | {name: _finished(work, formula) for name, formula in formulas.items()}


def _refused(work: _Work, formulas: Mapping[str, Formula]) -> dict[str, Score]:
    """Return no score, with the reason, for the formulas with roles that the model does not have."""
    found = {}
    for name, formula in formulas.items():
        try:
            require_roles(work.model, formula, work.convolutional)
        except LayerError as error:
            found[name] = Score(None, _reason(error))
    return found


def _is_matrix(terminal: Terminal) -> bool:
    return is_matrix(terminal.statistic.name)


def _run(name: str, probe: str) -> str:
    """Return the name of the run from which a statistic is read; empty where nothing is run."""
    if name in SHAPES:
        return "shapes"
    return f"{probe} by halves" if name == "weight_grad_batches" else probe


def _runs(part: Formula) -> frozenset[str]:
    """Return the runs from which a reduction reads; the empty run of weights only where there is no other.

    Weights can be read in any run, so they need none of their own.
    """
    runs = frozenset(_run(t.statistic.name, t.probe) for t in part.terminals())
    return runs - {""} or runs


def _together(wanted: Iterable[Formula]) -> list[frozenset[str]]:
    """Return the runs in groups: those in one group are combined by a reduction, so their matrices are held together.

    The groups are worked off one after the other, so that the matrices of one group are in memory at a time.
    """
    import networkx as nx  # here, because it takes half a second, and every command imports this file

    graph = nx.Graph()
    for part in wanted:
        graph.add_nodes_from(_runs(part))
        graph.add_edges_from(pairwise(sorted(_runs(part))))
    return sorted((frozenset(runs) for runs in nx.connected_components(graph)), key=sorted)


def _reduce(work: _Work, runs: frozenset[str], wanted: Sequence[Formula]) -> None:
    """Read the matrices of a group of runs, compute the wanted reductions, and forget the matrices."""
    terminals = dict.fromkeys(t for part in wanted for t in part.terminals())
    reading = Reading()
    for run in sorted({_run(t.statistic.name, t.probe) for t in terminals}):
        pairs = {(t.statistic.name, t.probe) for t in terminals if _run(t.statistic.name, t.probe) == run}
        found = _read(work, run, pairs)
        reading.matrices.update(found.matrices)
        reading.samples.update(found.samples)
        reading.places.update(found.places)
    for terminal in terminals:
        _check(work, reading, terminal, terminal.role)
    for part in wanted:
        if not any(_key(t, t.role) in work.problems for t in part.terminals()):
            with _Timed(work.seconds, part):
                work.reduced.update(reduce_layers([part], reading))


def _read(work: _Work, run: str, pairs: set[tuple[str, str]]) -> Reading:
    """Return the statistics of one run. One that the model lacks is noted as a problem, and the others are read."""
    found = Reading()
    with _Timed(work.seconds, run):
        try:
            found = read_statistics(work.model, work.blocks, pairs, work.inputs, work.targets, work.seed)
            wait_for(work.inputs.device)
        except _REFUSALS as error:
            if len(pairs) == 1:
                work.problems.update({(*pair, ""): _reason(error) for pair in pairs})
    if not found.net and len(pairs) > 1:
        for pair in sorted(pairs):
            alone = _read(work, run, {pair})
            found.matrices.update(alone.matrices)
            found.samples.update(alone.samples)
    work.numbers.layers.update(found.layers)
    work.numbers.places.update(found.places)
    work.numbers.net.update(found.net)
    return found


def _key(terminal: Terminal, slot: str) -> tuple[str, str, str]:
    return terminal.statistic.name, terminal.probe, slot


def _check(work: _Work, reading: Reading, terminal: Terminal, slot: str) -> None:
    """Note a problem where a statistic is missing or not finite."""
    name, probe, _ = _key(terminal, slot)
    if (name, probe, "") in work.problems:
        work.problems[name, probe, slot] = work.problems[name, probe, ""]
        return
    try:
        require(work.model, reading, work.blocks, ((name, probe, (slot,) if slot else ()),))
    except (LayerError, ProxyError) as error:
        work.problems[name, probe, slot] = _reason(error)


def _finished(work: _Work, formula: Formula) -> Score:
    parts = reductions([formula], work.convolutional)
    runs = {_run(t.statistic.name, t.probe) for t in formula.terminals()}
    needed: list[str | Formula] = [*sorted(runs), *parts]
    seconds = sum(work.seconds.get(each, 0.0) for each in needed)
    began = time.perf_counter()
    for terminal in formula.terminals():
        for slot in _slots(work, terminal):
            if not _is_matrix(terminal):
                _check(work, work.numbers, terminal, slot)
            problem = work.problems.get(_key(terminal, slot))
            if problem:
                return Score(None, problem, seconds)
    try:
        value = finish_one(formula, work.numbers, work.reduced)
        require_below_limit(formula, value)
    except (LayerError, ProxyError) as error:
        return Score(None, _reason(error), seconds)
    seconds += time.perf_counter() - began
    known_already(formula, (work.model, work.inputs, work.targets, work.seed), value, seconds)
    return _score(value, seconds)


def _slots(work: _Work, terminal: Terminal) -> Sequence[str]:
    """Return the slots that a terminal reads: of a role with several, those that some block of the model has."""
    slots = read_slots(terminal.role, work.convolutional) if terminal.role else ("",)
    return [slot for slot in slots if work.numbers.places.get(slot, True)] or slots


class _Timed:
    """A context that adds the seconds spent inside it to an entry."""

    def __init__(self, seconds: dict[Any, float], key: Any) -> None:
        self.seconds, self.key = seconds, key

    def __enter__(self) -> None:
        self.began = charged_clock()

    def __exit__(self, *exception: object) -> None:
        self.seconds[self.key] = self.seconds.get(self.key, 0.0) + charged_clock() - self.began
