"""What a search takes as its proxy: formulas, names, files and plain functions, each made an `AnyProxy`."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from autoprox.bench_cache.benchmarks.table import STRUCTURE
from autoprox.primitives import Formula, statistic
from autoprox.primitives.statistics import Terminal
from autoprox.proxy import Proxy, ProxyError, resolve
from autoprox.scoring import AnyProxy, Layers
from autoprox.search.batch import Batch
from autoprox.search.candidate import SearchError

#: A function of an untrained network that returns a number, higher for better networks.
ScoreFunction = Callable[[torch.nn.Module], float]

#: What a search takes as its proxy: a proxy, a formula, a function, or a text or path that `resolve` understands.
ProxyLike = AnyProxy | Formula | ScoreFunction | str | os.PathLike


@dataclass(frozen=True)
class FunctionProxy:
    """A plain function of an untrained network, made an `AnyProxy`."""

    function: ScoreFunction
    probes: tuple[str, ...] = ()
    as_formula: None = None
    halves_batch: bool = False
    training_free: bool = True

    @property
    def name(self) -> str:
        """The function's name."""
        return getattr(self.function, "__name__", type(self.function).__name__)

    @property
    def text(self) -> str:
        """The function's name: it is all that can be recorded of a function."""
        return self.name

    @property
    def provenance(self) -> Mapping[str, object]:
        """Empty: nothing is known of where a function comes from."""
        return {}

    def score(
        self,
        model: torch.nn.Module,
        inputs: Tensor | None = None,
        targets: Tensor | None = None,
        *,
        layers: Layers = None,
        seed: int = 0,
        partial: bool = False,
    ) -> float:
        """Return what the function gives for the model; it does not see the other arguments.

        Raises:
            ProxyError: the score is not finite.
        """
        found = self.function(model)
        score = float(found.detach() if isinstance(found, Tensor) else found)
        if not math.isfinite(score):
            raise ProxyError(f"the score is {score}")
        return score


def as_proxy(proxy: ProxyLike, batch: Batch) -> AnyProxy:
    """Return the proxy that is meant, checked against the batch that it will read.

    Without images, a formula that reads the probe `data` is refused, because it can be written with `noise` instead.
    A function of the zoo cannot: it reads the Gaussian samples and random classes of `Batch.tensors`.

    Raises:
        ProxyError: no such proxy is found, or it cannot be read.
        FormulaError: a formula cannot be read.
        SearchError: a formula reads images that the batch does not have, or halves of an odd number of samples.
    """
    found = _resolved(proxy)
    formula = found.as_formula
    if formula is not None and batch.images is None and "data" in found.probes:
        raise SearchError(
            "the formula reads images (the probe 'data'), which a search does not have. Use Gaussian noise instead: "
            f"{_on_noise(formula)}; or give it images of your own (--images)"
        )
    if found.halves_batch and batch.samples % 2:
        raise SearchError(f"weight_grad_batches halves the batch: it needs an even number, not {batch.samples}")
    return found


def _resolved(proxy: ProxyLike) -> AnyProxy:
    if isinstance(proxy, Formula):
        return Proxy(proxy)
    if isinstance(proxy, str | os.PathLike):
        return resolve(proxy)
    return FunctionProxy(proxy) if callable(proxy) else proxy


def _on_noise(formula: Formula) -> Formula:
    """Return the same formula with the probe `noise` wherever it has `data`."""
    replaced = {}
    for node in formula.nodes():
        if isinstance(node.head, Terminal) and node.head.probe == "data":
            roles = [node.head.role] if node.head.statistic.takes_role else []
            replaced[node] = statistic(node.head.statistic.name, *roles, "noise")
    return formula.rebuilt(replaced)


def reads_structure_only(proxy: AnyProxy) -> bool:
    """Return whether a proxy reads nothing but the facts of `STRUCTURE`, so that no network is needed."""
    formula = proxy.as_formula
    return formula is not None and all(t.statistic.name in STRUCTURE for t in formula.terminals())


def reads_columns(proxy: AnyProxy) -> bool:
    """Return whether a proxy is a formula that reads a column of a table."""
    formula = proxy.as_formula
    return formula is not None and any(t.statistic.column for t in formula.terminals())
