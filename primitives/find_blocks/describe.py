"""Describe: the blocks of a model, what is in none of them and why, and the same as a `layers=` draft."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from autoprox.primitives.find_blocks.assign import Found, assign
from autoprox.primitives.find_blocks.attention import heads_of
from autoprox.primitives.find_blocks.convolutional import layer_by_layer
from autoprox.primitives.find_blocks.named import SLOTS, Block
from autoprox.primitives.find_blocks.record import Record, Use, record
from autoprox.primitives.untouched import one_pass, untouched

_NUMBER = re.compile(r"(?<![a-z])\d+|#\d+")

_HEADS = ("num_heads", "num_attention_heads", "heads", "n_heads", "num_head", "n_head", "nhead")


@dataclass(frozen=True)
class LeftOut:
    """A layer in no block: its name, how many weights it has, and why."""

    name: str
    weights: int
    reason: str


@dataclass(frozen=True)
class Finding:
    """The blocks of a model in the order in which they run, and what is in none of them."""

    blocks: tuple[Block, ...]
    left_out: tuple[LeftOut, ...]
    weights: Mapping[str, int]  # layer → entries of its weight, for the layers of blocks
    record: Record

    @property
    def covered(self) -> float:
        """Return the share of the weights of linear layers (convolutions apart) that are in blocks."""
        linear = {use.name.partition("#")[0] for use in self.record.uses if use.kind == "linear"}
        sizes = {n: s for n, s in self.weights.items() if n in linear}
        rest = {item.name: item.weights for item in self.left_out if item.name in linear and item.name not in sizes}
        total = sum(sizes.values()) + sum(rest.values())
        return sum(sizes.values()) / total if total else 0.0

    @property
    def why_none(self) -> str:
        """Return why layers are in no block, most weights first; for a message where there are no blocks."""
        weights: dict[str, int] = {}
        for item in self.left_out:
            weights[item.reason] = weights.get(item.reason, 0) + item.weights
        ordered = sorted(weights, key=lambda reason: -weights[reason])
        return "; ".join(ordered[:2]) or "its forward pass uses no weight of a linear layer"

    def __str__(self) -> str:
        """Return the table of what is found and what is left out, then the share of the weights that is in blocks."""
        rows = table(self)
        wide = max((len(row[0]) for row in rows), default=0)
        lines = [f"{what:{wide}}  {layers}  ({remark})" for what, layers, remark in rows]
        return "\n".join([*lines, f"{self.covered:.0%} of the weights of linear layers are in blocks"])

    def __repr__(self) -> str:
        return str(self)  # at a prompt and in a notebook, the table

    @property
    def draft(self) -> str:
        """Return the blocks as the text of a `layers=` list."""
        return "[\n" + "".join(f"    {_item(block)},\n" for block in self.blocks) + "]"


def _item(block: Block) -> dict[str, object]:
    item: dict[str, object] = {
        slot: names[0] if len(names) == 1 else list(names) for slot, names in block.linears.items()
    }
    if block.softmax:
        item["softmax"] = block.softmax
    if block.heads:
        item["heads"] = block.heads
    return item


def find_layers(model: torch.nn.Module, inputs: Tensor) -> Finding:
    """Return the blocks that one forward pass on the inputs shows, and what is in none of them and why.

    Printed, the result is a table; `draft` is the text of a list for `layers=`, to be changed by hand.

    Raises:
        LayerError: the forward pass fails.
    """
    with untouched(model):
        recorded = record(model, lambda: one_pass(model, inputs), inputs)
    assigned = assign(recorded)
    assigned = layer_by_layer(recorded, assigned) or assigned
    modules = dict(model.named_modules())
    blocks = tuple(_block(found, modules) for found in assigned.blocks)
    sizes = {use.name.partition("#")[0]: use.weights for use in recorded.uses if use.name}
    inside = {name.partition("#")[0] for b in blocks for names in b.linears.values() for name in names}
    left: dict[str, LeftOut] = {}
    for number, reason in sorted(assigned.left_out.items()):
        name = recorded.uses[number].name.partition("#")[0]
        if name and name not in inside:
            left.setdefault(name, LeftOut(name, sizes[name], reason))
    return Finding(blocks, tuple(left.values()), {n: s for n, s in sizes.items() if n in inside}, recorded)


def _block(found: Found, modules: Mapping[str, torch.nn.Module]) -> Block:
    linears = {slot: tuple(use.name for use in found.slots[slot]) for slot in SLOTS if slot in found.slots}
    if found.core is None:
        return Block(linears)
    counts = [count for use in found.core.products for count in _counts(use, modules)]
    names = found.core.attention
    softmax = tuple(names) if len(names) > 1 else names[0] if names else ""
    return Block(linears, softmax, heads_of(found.core, counts))


def _counts(use: Use, modules: Mapping[str, torch.nn.Module]) -> list[int]:
    """Return the numbers of heads that the module of a product, and the two modules around it, state."""
    path, found = use.module, []
    for _ in range(3):
        values = [getattr(modules.get(path), name, None) for name in _HEADS]
        found += [value for value in values if type(value) is int and value > 0]
        path = path.rpartition(".")[0]
    return found


def table(finding: Finding) -> list[tuple[str, str, str]]:
    """Return rows for people: (what, which layers, remark); blocks that differ in numbers only share a row."""
    rows: dict[tuple[str, str], int] = {}
    for block in finding.blocks:
        layers = "  ".join(f"{slot}: {', '.join(names)}" for slot, names in block.linears.items())
        remark = f"softmax in {block.softmax}" if block.softmax else "no softmax over tokens"
        key = (
            _NUMBER.sub("*", layers),
            _NUMBER.sub("*", remark if isinstance(block.softmax, str) else "several softmaxes"),
        )
        rows[key] = rows.get(key, 0) + 1
    shown = [(f"{count} blocks" if count > 1 else "1 block", *key) for key, count in rows.items()]
    left: dict[tuple[str, str], int] = {}
    for item in finding.left_out:
        key = (_NUMBER.sub("*", item.name), item.reason)
        left[key] = left.get(key, 0) + 1
    return shown + [(f"{count} left out", *key) for key, count in left.items()]
