"""ZooProxy: one proxy of the literature, a formula or a function, with its source and what to know of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from autoprox.primitives import Formula, LayerError, parse
from autoprox.primitives.batch import checked_batch
from autoprox.primitives.batch_norms import batch_norms_by
from autoprox.primitives.passes import Need, Subject
from autoprox.scoring import Layers, ProxyError, blocks_of, formula_probes, formula_score, halves_batch
from autoprox.zoo.needs import Needs, listed
from autoprox.zoo.tools import ZooError, random_classes

#: cost → what a proxy of that cost computes, the cheapest first.
COSTS: Mapping[str, str] = MappingProxyType(
    {
        "structure": "sizes only; nothing is run",
        "weights": "the weights are read; nothing is run",
        "forward": "forward passes",
        "backward": "forward passes and gradients of one loss for each batch",
        "per-sample": "gradients of many losses: of every sample, or of many outputs",
        "second-order": "gradients of gradients",
        "few-step": "a few steps of training",
    }
)

#: (model, inputs, targets, seed, layers) → score, higher for better networks. It leaves the model exactly as it was.
ZooFunction = Callable[[nn.Module, Tensor, Tensor, int, Layers], float]


@dataclass(frozen=True)
class ZooProxy:
    """A proxy of the literature: where it was published, how it is computed, and what to know before trusting it.

    It has either a `formula`, as text of our language, or a `function`.

    - `cost` is a key of COSTS; `reads` says in words what is read; `note` says how it differs from published code.
    - `latex` and `probes` follow from a formula, and are given for a function. The network runs under the probes:
      `data` is the given batch, `noise` is Gaussian input, `synflow` is an input of ones.
    - `direction` is +1 if the published quantity is higher for better networks, −1 if it is lower. The score itself is
      always higher for better networks.
    - `training_free` is False for a proxy that takes steps of training.
    - `needs` says what a function reads of passes that it may share with other proxies.

    Raises:
        ZooError: the record is not complete.
        FormulaError: the formula cannot be read.
    """

    name: str
    source: str
    cost: str
    reads: str
    note: str
    formula: str = ""
    function: ZooFunction | None = None
    latex: str = ""
    direction: int = 1
    training_free: bool = True
    probes: tuple[str, ...] = ("data",)
    needs: tuple[Needs, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.formula) == (self.function is not None):
            raise ZooError(f"'{self.name}' must have either a formula or a function")
        if self.formula:
            formula = parse(self.formula)
            object.__setattr__(self, "latex", formula.latex)
            object.__setattr__(self, "probes", formula_probes(formula))
        if not (self.latex and self.source and self.reads and self.note):
            raise ZooError(f"'{self.name}' lacks its LaTeX, its source, what it reads or its note")
        if self.cost not in COSTS or self.direction not in (1, -1):
            raise ZooError(f"'{self.name}' has cost {self.cost!r} and direction {self.direction!r}")

    @property
    def text(self) -> str:
        """The text that stands for the proxy in journals: its formula, or the name of the function."""
        return self.formula or self.name

    @property
    def as_formula(self) -> Formula | None:
        """The formula; None for a function."""
        return parse(self.formula) if self.formula else None

    @property
    def halves_batch(self) -> bool:
        """Whether the batch must have an even number of samples; a function checks its batch itself."""
        return self.as_formula is not None and halves_batch(self.as_formula)

    @property
    def provenance(self) -> Mapping[str, object]:
        """The source and the note."""
        return {"source": self.source, "note": self.note}

    def score(
        self,
        model: nn.Module,
        inputs: Tensor | None = None,
        targets: Tensor | None = None,
        *,
        layers: Layers = None,
        seed: int = 0,
        partial: bool = False,
        batch_norm: str | None = None,
    ) -> float:
        """Return the score of an untrained model on a batch and its class numbers; higher is better.

        Without targets the classes are drawn at random from `seed`. The model is left bit for bit as it was.
        `batch_norm` is that of `Proxy.score`.

        Raises:
            ZooError: the proxy is undefined for this network or batch: a value is not finite, a matrix is singular,
                there are too few samples, or a layer is missing.
        """
        try:
            given = None if layers is None else blocks_of(model, inputs, layers, partial=partial)
            with batch_norms_by(batch_norm):
                value = self._value(model, inputs, targets, given, seed)
        except (LayerError, ProxyError, torch.linalg.LinAlgError) as error:
            raise ZooError(f"{self.name}: {error}") from error
        if not math.isfinite(value):
            raise ZooError(f"{self.name}: the score is {value}; look at the initial weights and at the inputs")
        return value

    def needed(self, subject: Subject, layers: Layers = None) -> Sequence[Need]:
        """Return what `score` will read of passes that it may share; nothing where the proxy is undefined."""
        try:
            given = None if layers is None else blocks_of(subject.model, subject.inputs, layers)
            return listed(self.needs, subject, given)
        except (ValueError, ArithmeticError, RuntimeError, TypeError, AttributeError, LookupError):
            return ()  # `score` says why

    def _value(
        self, model: nn.Module, inputs: Tensor | None, targets: Tensor | None, layers: Layers, seed: int
    ) -> float:
        if self.function is None:
            return formula_score(parse(self.formula), model, inputs, targets, layers=layers, seed=seed)
        batch = torch.empty(0) if inputs is None and not self.probes else checked_batch(inputs, targets, False)
        if targets is None:
            targets = random_classes(model, batch, seed) if self.probes else torch.empty(0)
        return float(self.function(model, batch, targets, seed, layers))
