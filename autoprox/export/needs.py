"""Needs: what the exported file of a formula reads from a model, and the expressions that read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from autoprox.export.sources import SourceError
from autoprox.primitives import Formula, Terminal
from autoprox.primitives.kinds import CONV_ROLE, role_slots, steps_of

#: Statistic of the network → the expression for it in `score`.
NET = {
    "params": "sum(p.numel() for p in model.parameters())",
    "depth": "len(blocks)",
    "width": 'sum(weights["weight", block["qkv"][0]].shape[1] for block in blocks) / len(blocks)',
    "flops": "flops",
    "activations": "activations",
}

#: Statistic of layers → the expression in `score` for layer `slot` of `block`, which is block number `row`.
LAYER = {
    "fan_in": 'weights["weight", block[slot][0]].shape[1]',
    "fan_out": 'sum(weights["weight", path].shape[0] for path in block[slot])',
    "heads": 'block["heads"]',
    "tokens": "tokens[block[slot][0]]",
    "position": "(row + 1) / len(blocks)",
}

#: Statistic that is a matrix for each layer → whether it takes a backward pass.
MATRIX = {
    "weight": False,
    "weight_grad": True,
    "weight_grad_batches": True,
    "act": False,
    "act_grad": True,
    "attn": False,
    "attn_logits": False,
}

#: The statistics that are read from the softmax of a block.
ATTENTION = frozenset({"attn", "attn_logits"})


@dataclass(frozen=True)
class NetworkRun:
    """One run of the network: its probe, the statistics that it reads, and whether it runs each half of the batch."""

    probe: str
    names: tuple[str, ...]
    halves: bool = False

    @property
    def differentiates(self) -> bool:
        """Return whether the run has a backward pass."""
        return any(MATRIX[name] for name in self.names)

    @property
    def labelled(self) -> bool:
        """Return whether the loss is taken against class numbers."""
        return self.differentiates and self.probe != "synflow"

    @property
    def function(self) -> str:
        """Return the name of the function that does it; runs that differ only in their batch share one."""
        return f"read_{'_and_'.join(self.names)}" + ("_synflow" if self.probe == "synflow" else "")

    @property
    def variable(self) -> str:
        """Return the variable of `score` that holds the result."""
        return f"{self.probe}_halves" if self.halves else self.probe


class Needs:
    """The needs of a formula: what its file must read.

    Raises:
        SourceError: no exported file can read one of the statistics.
    """

    def __init__(self, formula: Formula) -> None:
        terminals = formula.terminals()
        self.names = {terminal.statistic.name for terminal in terminals}
        if any(terminal.role == CONV_ROLE for terminal in terminals):
            raise SourceError(
                f"an exported file reads transformer blocks, and the role '{CONV_ROLE}' is of networks without; "
                "export to text, latex, json, dot or svg"
            )
        trains = next((terminal for terminal in terminals if steps_of(terminal.probe)), None)
        if trains:
            raise SourceError(
                f"an exported file trains nothing, and the formula reads {trains}, after {steps_of(trains.probe)} "
                "training steps; export to text, latex, json, dot or svg, and score with autoprox"
            )
        unknown = self.names - {*NET, *LAYER, *MATRIX}
        if unknown:
            raise SourceError(f"an exported file cannot read '{min(unknown)}'; export to text, latex, json, dot or svg")
        slots = {slot for t in terminals if t.role for slot in role_slots(t.role)}
        slots |= {"qkv"} if "width" in self.names else set()
        self.slots = tuple(slot for slot in role_slots("all") if slot in slots)
        weighed = {s for t in terminals if t.statistic.name == "weight" for s in role_slots(t.role)}
        self.weight_slots = tuple(slot for slot in role_slots("all") if slot in weighed)
        self.matrices = any(t.statistic.name in MATRIX for t in terminals)
        self.runs = tuple(_runs(terminals))

    @property
    def counts(self) -> bool:
        """Return whether tokens or multiply-adds are counted, which takes a run of its own with the layers hooked."""
        return bool(self.names & {"tokens", "flops"})

    @property
    def batch(self) -> bool:
        """Return whether the file takes a batch of inputs."""
        return bool(self.runs) or self.counts or "activations" in self.names

    @property
    def weights(self) -> bool:
        """Return whether the file reads weights, or their shapes."""
        return bool(self.names & {"weight", "fan_in", "fan_out", "width"})

    @property
    def checked_slots(self) -> tuple[str, ...]:
        """Return the layers whose weights the file checks before it runs the network."""
        return self.weight_slots if self.runs else ()

    def slots_text(self, slots: Sequence[str]) -> str:
        """Return the expression for a tuple of layers: SLOTS where these are all that the file reads."""
        return "SLOTS" if tuple(slots) == self.slots else f"({', '.join(map(quoted, slots))}{',' * (len(slots) == 1)})"


def quoted(text: str) -> str:
    """Return the text as a Python string in double quotes, as the formatter writes it."""
    return f'"{text}"'


def _runs(terminals: Sequence[Terminal]) -> Iterator[NetworkRun]:
    for probe in ("data", "noise", "synflow"):
        names = {t.statistic.name for t in terminals if t.statistic.name in MATRIX and t.probe == probe}
        if plain := sorted(names - {"weight_grad_batches"}):
            yield NetworkRun(probe, tuple(plain))
        if "weight_grad_batches" in names:
            yield NetworkRun(probe, ("weight_grad",), halves=True)


def matrix_text(terminal: Terminal) -> str:
    """Return the expression in `score` for the matrix of layer `slot` of `block`."""
    name = terminal.statistic.name
    if name == "weight_grad_batches":
        return f'torch.cat([matrix("weight_grad", block[slot], half) for half in {terminal.probe}_halves])'
    return f'matrix("{name}", block[slot], {terminal.probe or "weights"})'


def samples_text(terminal: Terminal) -> str:
    """Return the expression in `score` for how many samples or mini-batches the rows of a statistic stack."""
    if terminal.statistic.name == "weight_grad_batches":
        return "2"
    return (
        "len(inputs)"
        if terminal.statistic.name in ("act", "act_grad", *ATTENTION) and terminal.probe != "synflow"
        else "1"
    )
