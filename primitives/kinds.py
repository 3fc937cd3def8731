"""Kinds: the types of the formula language, and the names of layers and probes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType

#: Groups of linear layers. A transformer block has four: the fused query-key-value projection, the
#: attention output projection, and the two layers of the MLP.
ROLES = MappingProxyType(
    {
        "qkv": ("qkv",),
        "proj": ("proj",),
        "fc1": ("fc1",),
        "fc2": ("fc2",),
        "msa": ("qkv", "proj"),
        "mlp": ("fc1", "fc2"),
        "all": ("qkv", "proj", "fc1", "fc2"),
    }
)

#: Role → its layers in plain words.
ROLE_WORDS = MappingProxyType(
    {
        "qkv": "the query-key-value projections",
        "proj": "the output projections of attention",
        "fc1": "the first layers of the MLPs",
        "fc2": "the second layers of the MLPs",
        "msa": "both layers of attention, qkv and proj",
        "mlp": "both layers of the MLPs, fc1 and fc2",
        "all": "all linear layers of the blocks",
        "conv": "all convolutions and linears of a network without transformer blocks",
    }
)

#: The level of a kind in plain words.
LEVELS = MappingProxyType(
    {
        "matrix": "a matrix for each layer",
        "layer": "a number for each layer",
        "net": "a number for the network",
    }
)

#: How the network is run to read a statistic.
PROBES = MappingProxyType(
    {
        "data": "the given batch, cross-entropy against its targets",
        "noise": "Gaussian input of the batch's shape, cross-entropy against random targets",
        "synflow": "every parameter replaced by its magnitude, all-ones input, summed output",
    }
)

#: How probes are called that read a network after K steps of training: `stepsK`, K a whole number up to this.
MOST_STEPS = 9999
_STEPS = re.compile(r"steps([1-9][0-9]{0,3})")


def steps_of(probe: str) -> int:
    """Return after how many steps of training a probe reads a network: 0 for one that takes none."""
    found = _STEPS.fullmatch(probe)
    return int(found[1]) if found else 0


def probe_words(probe: str) -> str:
    """Return a probe in plain words.

    Raises:
        KeyError: there is no such probe.
    """
    steps = steps_of(probe)
    if not steps:
        return PROBES[probe]
    return f"made-up images with classes, after {steps} training step{'s' * (steps > 1)} on such images (not zero-cost)"


#: The role of what a block has one matrix of, whatever its layers.
ATTENTION_ROLE = "attn"

#: The role of the layers of a network without transformer blocks, of which each is a block.
CONV_ROLE = "conv"

#: Shape → what is stacked in the rows of its matrices: mini-batches, the samples of the batch, or nothing.
STACKED = MappingProxyType({"weight": "", "stacked": "batches", "act": "samples", "attn": "samples"})


class FormulaError(ValueError):
    """A formula that cannot be read or does not type-check. The message quotes it and points at the place."""


def role_slots(role: str) -> tuple[str, ...]:
    """Return the layers of one block that a role names, in forward order."""
    return ROLES.get(role, (role,))


def read_slots(role: str, convolutional: bool) -> tuple[str, ...]:
    """Return the layers of one block that a role reads in a network: where there are no transformer blocks, the layer.

    Such a network has nothing of the roles of a transformer block but `all`.
    """
    if not convolutional:
        return role_slots(role)
    return (CONV_ROLE,) if role in ("all", CONV_ROLE) else ()


@dataclass(frozen=True)
class Kind:
    """The type of a value.

    `matrix`: one 2-D tensor for each layer of `role`; `shape` says which matrices agree elementwise (`weight`
    out × in, `stacked` that for each mini-batch, `act` samples·tokens × features, `attn` samples·heads·tokens ×
    tokens; `weight.gram`, `act.batch` (one sample) and the like are computed from these). `layer`: one number for
    each layer, `slots` of them in every block. `net`: one number for the architecture.

    Layers of different roles combine when every block has equally many of them, in forward order:
    qkv with fc1, proj with fc2.
    """

    level: str
    shape: str = ""
    role: str = ""
    slots: int = 0

    def __str__(self) -> str:
        if self.level == "matrix":
            return f"Matrix({self.shape} of {self.role})"
        if self.level == "layer":
            return f"Layer({self.slots} per block)"
        return "Net"

    @property
    def stacked(self) -> bool:
        """Return whether the rows of the matrix are samples or mini-batches, one below the other."""
        base, *changes = self.shape.split(".")
        return bool(STACKED.get(base)) and not {"columns", "batch"} & set(changes)

    @property
    def reduced(self) -> Kind:
        """Return the kind after one reduction: matrix → layer → net."""
        return layer(len(role_slots(self.role))) if self.level == "matrix" else NET


NET = Kind("net")


def layer(slots: int) -> Kind:
    """Return the kind of one number per layer, `slots` layers in every block."""
    return Kind("layer", slots=slots)


def matrix(shape: str, role: str) -> Kind:
    """Return the kind of one matrix for each layer of `role`."""
    return Kind("matrix", shape=shape, role=role)


def derived_shape(shape: str, change: str) -> str:
    """Return the shape's name after an operation that makes `rows`, `columns`, `gram`, `batch` or `samples` of it.

    Taking mini-batches together turns stacked weights into weights.
    """
    if change == "batch" and shape in ("weight", "stacked"):
        return "weight"
    return f"{shape}.{change}"
