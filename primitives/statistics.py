"""Statistics: the terminals of the language, what each one is and how it is read.

To add one that is known from the model alone, write the function that reads it and its record in `_ALL`. One that the
network must run for also takes a line in `probe`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

from torch import Tensor, nn

from autoprox.primitives.find_blocks.named import Block, weight_of
from autoprox.primitives.find_blocks.runs import layer_names
from autoprox.primitives.kinds import (
    ATTENTION_ROLE,
    CONV_ROLE,
    NET,
    PROBES,
    ROLES,
    STACKED,
    FormulaError,
    Kind,
    derived_shape,
    layer,
    matrix,
    role_slots,
    steps_of,
)


@dataclass(frozen=True)
class Network:
    """A model with its blocks, as statistics are read from it.

    `used` has the weights as a forward pass used them, out × in, by the names of their layers: of a supernet, a part of
    what the model declares. It is empty where nothing was run. `used_params` is how many parameters a forward pass
    used, and None where all that are declared count.
    """

    model: nn.Module
    blocks: Sequence[Block]
    used: Mapping[str, Tensor] = field(default_factory=dict)
    used_params: int | None = None

    @cached_property
    def weights(self) -> Mapping[str, Tensor]:
        """Return the weights of all layers of the blocks by name, out × in: as used, else as the model declares."""
        return {
            name: self.used[name] if name in self.used else weight_of(self.model, name)
            for name in layer_names(self.blocks)
        }

    def places(self, slot: str) -> list[Place]:
        """Return the places of a slot: one for each block that has it; of `attn`, one for each with a softmax."""
        having = [bool(block.softmaxes) if slot == ATTENTION_ROLE else slot in block.linears for block in self.blocks]
        return [Place(self, number, slot) for number, there in enumerate(having) if there]


@dataclass(frozen=True)
class Place:
    """Where a layer statistic is read: a slot of one block of a model; `number` counts the blocks from 0."""

    network: Network
    number: int
    slot: str

    @property
    def block(self) -> Block:
        """Return the block."""
        return self.network.blocks[self.number]

    @property
    def weights(self) -> list[Tensor]:
        """Return the weights in the slot, out × in each; separate query, key and value are three."""
        return [self.network.weights[name] for name in self.block.linears[self.slot]]


#: Reads a layer statistic at a place; None if the model does not show it.
LayerReader = Callable[[Place], float | None]
#: Reads a statistic of the network; None if the model does not show it.
NetReader = Callable[[Network], float | None]


@dataclass(frozen=True)
class Statistic:
    """One terminal of the language.

    `level` and `shape` give its kind; `probed` says that the network must be run under a probe; `gradient`
    that it must also be differentiated; `drawn` that evolution's grammars draw it; `latex` is its symbol; `column`
    names the column of a table that it stands for, and is empty for what is read from a network.

    Of a matrix: `role` is its one role, if a block has one such matrix whatever its layers, and is empty where a
    formula names the role; `sized_by` are the layer statistics that its size follows from, those of the layer itself,
    or of the layer `sized_at` of its block.

    Of a layer or the network: `at_layer` or `of_net` reads it from the model; neither is there if the network must run,
    which `probe` sees to.
    """

    name: str
    level: str
    latex: str
    about: str
    shape: str = ""
    probed: bool = False
    gradient: bool = False
    drawn: bool = True
    column: str = ""
    role: str = ""
    sized_by: tuple[str, ...] = ("fan_out", "fan_in", "tokens")
    sized_at: str = ""
    at_layer: LayerReader | None = None
    of_net: NetReader | None = None

    @property
    def takes_role(self) -> bool:
        """Return whether a formula says which layers it is of."""
        return self.level in ("matrix", "layer") and not self.role

    @property
    def slots(self) -> tuple[str, ...]:
        """Return the places in a block where a matrix of it may be."""
        return role_slots(self.role) if self.role else (*role_slots("all"), CONV_ROLE)

    @property
    def stacks(self) -> str:
        """Return what is stacked in the rows of its matrices: `batches`, `samples` or, empty, nothing."""
        return STACKED.get(self.shape, "")


def _fan_in(place: Place) -> float:
    return place.weights[0].shape[1]


def _fan_out(place: Place) -> float:
    return sum(weight.shape[0] for weight in place.weights)


def _position(place: Place) -> float:
    return (place.number + 1) / len(place.network.blocks)


def _heads(place: Place) -> float | None:
    return place.block.heads or None


def _params(network: Network) -> float:
    if network.used_params is not None:
        return network.used_params
    return sum(parameter.numel() for parameter in network.model.parameters())


def _depth(network: Network) -> float:
    return len(network.blocks)


def _width(network: Network) -> float | None:
    widths = [_fan_in(place) for place in network.places("qkv")]
    return sum(widths) / len(widths) if widths else None


_ALL = (
    Statistic("weight", "matrix", r"W", "weights, out × in", shape="weight"),
    Statistic(
        "weight_grad",
        "matrix",
        r"\nabla_W L",
        "gradient of the loss for the weights, out × in",
        shape="weight",
        probed=True,
        gradient=True,
    ),
    Statistic(
        "weight_grad_batches",
        "matrix",
        r"\nabla_W L_b",
        "the same for each of two mini-batches (halves of the batch), stacked: 2·out × in",
        shape="stacked",
        probed=True,
        gradient=True,
    ),
    Statistic("act", "matrix", r"A", "output of the layer, samples·tokens × features", shape="act", probed=True),
    Statistic(
        "act_grad",
        "matrix",
        r"\nabla_A L",
        "gradient of the loss for the output of the layer, samples·tokens × features",
        shape="act",
        probed=True,
        gradient=True,
    ),
    Statistic(
        "attn",
        "matrix",
        r"P",
        "attention probabilities, samples·heads·tokens × tokens; one matrix per block, no role",
        shape="attn",
        probed=True,
        role=ATTENTION_ROLE,
        sized_by=("heads", "tokens"),
        sized_at="qkv",
    ),
    Statistic("fan_in", "layer", r"d^{\mathrm{in}}", "input features of the layer", at_layer=_fan_in),
    Statistic("fan_out", "layer", r"d^{\mathrm{out}}", "output features of the layer", at_layer=_fan_out),
    Statistic("heads", "layer", r"h", "attention heads of the layer's block", at_layer=_heads),
    Statistic("tokens", "layer", r"n", "tokens in the layer's output", probed=True),
    Statistic(
        "position", "layer", r"\frac{l}{L}", "block number over the number of blocks, 1/L to 1", at_layer=_position
    ),
    Statistic(
        "params",
        "net",
        r"|\theta|",
        "parameters of the network; of a supernet, those that the subnet uses",
        of_net=_params,
    ),
    Statistic("flops", "net", r"\mathrm{FLOPs}", "multiply-adds of one forward pass of one sample"),
    Statistic("depth", "net", r"L", "number of transformer blocks", of_net=_depth),
    Statistic("width", "net", r"\bar{d}", "embedding dimension, mean over the blocks", of_net=_width),
    Statistic(
        "activations",
        "net",
        r"|A|",
        "output elements of all convolutions and linears in one forward pass of one sample",
        drawn=False,  # a seeded evolution draws from the terminals: one more, and it finds something else
    ),
    Statistic(
        "attn_logits",
        "matrix",
        r"S",
        "logits of the attention probabilities, scaled and with bias; masked ones are the lowest other of their row",
        shape="attn",
        probed=True,
        drawn=False,
        role=ATTENTION_ROLE,
        sized_by=("heads", "tokens"),
        sized_at="qkv",
    ),
)

#: name → statistic, in the order of the reference table.
STATISTICS = MappingProxyType({statistic.name: statistic for statistic in _ALL})

#: What the statistics of a table are written as: `column[NAME]`. There is one for every name, and none in STATISTICS.
COLUMN = "column"
_COLUMN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def column(name: str) -> Statistic:
    """Return the statistic that a column of a benchmark's table stands for, known without a network.

    It is one number for each network.

    Raises:
        FormulaError: no column of a benchmark can have the name.
    """
    if not _COLUMN_NAME.fullmatch(name):
        raise FormulaError(
            f"'{COLUMN}' takes the name of a column, a letter or digit, then letters, digits, '.', '_' and '-', "
            f"not '{name[:40]}'"
        )
    symbol = name.replace("_", r"\_")
    return Statistic(f"{COLUMN}[{name}]", "net", rf"\mathrm{{{symbol}}}", "a column of the benchmark", column=name)


@dataclass(frozen=True)
class Terminal:
    """A statistic as it stands in a formula: with its role and its probe (empty where it has none)."""

    statistic: Statistic
    role: str = ""
    probe: str = ""

    @property
    def kind(self) -> Kind:
        """Return matrix(shape, role), layer(slots) or net."""
        if self.statistic.level == "matrix":
            shape = self.statistic.shape
            one_sample = self.probe == "synflow" and self.statistic.stacks == "samples"
            return matrix(derived_shape(shape, "batch") if one_sample else shape, self.role)
        return layer(len(role_slots(self.role))) if self.statistic.level == "layer" else NET

    @property
    def marked(self) -> tuple[str, tuple[str, ...]]:
        """Return name and marks, as `terminal` takes them: role and probe, or the name of the column."""
        if self.statistic.column:
            return COLUMN, (self.statistic.column,)
        return self.statistic.name, tuple(
            mark for mark in (self.role, self.probe) if mark not in ("", self.statistic.role)
        )

    @property
    def _shown(self) -> list[str]:
        """Return role and probe, unless they go without saying."""
        return [mark for mark in (self.role, self.probe) if mark not in ("", "all", "data", self.statistic.role)]

    def __str__(self) -> str:
        """Return `name[role, probe]`, leaving out the defaults `all` and `data`."""
        shown = self._shown
        return f"{self.statistic.name}[{', '.join(shown)}]" if shown else self.statistic.name

    @property
    def latex(self) -> str:
        """Return the symbol with role and probe as a superscript."""
        marks = self._shown
        return self.statistic.latex if not marks else f"{{{self.statistic.latex}}}^{{\\mathrm{{{','.join(marks)}}}}}"


def terminal(name: str, *marks: str) -> Terminal:
    """Return a statistic with its role and probe, in any order: `terminal("weight_grad", "msa", "noise")`.

    Left out, the role is `all` and the probe is `data`; of `weight`, none. `terminal("column", NAME)` is a column of a
    table.

    Raises:
        FormulaError: a name, role or probe does not exist, or does not apply.
    """
    if name == COLUMN:
        if len(marks) != 1:
            raise FormulaError(f"'{COLUMN}' takes the name of one column of the table: {COLUMN}[NAME]")
        return Terminal(column(marks[0]))
    if name not in STATISTICS:
        raise FormulaError(f"unknown statistic '{name[:40]}'; there are {', '.join(STATISTICS)}")
    statistic = STATISTICS[name]
    roles = (*ROLES, CONV_ROLE) if statistic.takes_role else ()
    # `tokens` runs the network but is the same number under every probe; synflow has one sample, so no mini-batches.
    # Weights are known without a run, but for those that steps of training make.
    is_matrix = statistic.level == "matrix"
    probes = tuple(PROBES) if statistic.probed and is_matrix else ()
    if statistic.stacks == "batches":
        probes = tuple(probe for probe in probes if probe != "synflow")
    role, probe = "", ""
    for mark in marks:
        if mark in roles and not role:
            role = mark
        elif (mark in probes or (is_matrix and steps_of(mark))) and not probe:
            probe = mark
        else:
            named = (*probes, "stepsK") if is_matrix else ()
            allowed = " and ".join(
                f"one {what} of {', '.join(names)}" for what, names in (("role", roles), ("probe", named)) if names
            )
            raise FormulaError(f"'{name}' takes {allowed or 'no role or probe'}, not '{mark[:40]}'")
    return Terminal(statistic, role or ("all" if roles else statistic.role), probe or ("data" if probes else ""))
