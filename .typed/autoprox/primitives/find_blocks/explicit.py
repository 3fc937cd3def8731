"""Explicit: blocks that the user names, checked for layers of the same kind that the list leaves out.

Uses torch and the standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import torch

from autoprox.primitives.errors import LayerError
from autoprox.primitives.find_blocks.named import SLOTS, Block, find_blocks, layer_of

#: What `layers=` takes: one mapping a block, or a function of the model that gives such a list.
GivenLayers = Sequence[Mapping[str, object]] | Callable[[torch.nn.Module], Sequence[Mapping[str, object]]]

_NUMBER = re.compile(r"\d+")


def given_blocks(model: torch.nn.Module, layers: GivenLayers, partial: bool = False) -> tuple[Block, ...]:
    """Return the blocks that `layers` names, or that it returns for the model.

    Raises LayerError for names that do not fit, and, unless `partial`, for a list that has `blocks.0.fc` but not
    `blocks.1.fc`: layers whose names differ from those of the list in numbers only belong to it.
    """
    named = layers(model) if callable(layers) else layers
    blocks = find_blocks(model, named)
    missing = [] if partial else left_out(model, blocks)
    if missing:
        shown = ", ".join(f"'{name}' ({slot})" for name, slot in missing[:3])
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise LayerError(
            f"layers= names {len(blocks)} blocks and leaves out layers of the same kind: {shown}{more}; "
            "add them, or say partial=True"
        )
    return blocks


def left_out(model: torch.nn.Module, blocks: Sequence[Block]) -> list[tuple[str, str]]:
    """Return (layer, slot) for every unlisted layer that differs from a listed one in the numbers of its name only."""
    modules = dict(model.named_modules(remove_duplicate=False))
    listed = {name.partition("#")[0] for block in blocks for names in block.linears.values() for name in names}
    known = {id(layer_weight(modules, name)) for name in listed}
    kinds: dict[str, str] = {}
    for slot in SLOTS:
        for block in blocks:
            kinds.update({_kind(name): slot for name in block.linears.get(slot, ())})
    names = [*modules, *(name for name, _ in model.named_parameters())]
    return [
        (name, kinds[_kind(name)])
        for name in names
        if name not in listed
        and _kind(name) in kinds
        and layer_of(modules, name) is not None
        and id(layer_weight(modules, name)) not in known
    ]


def layer_weight(modules: Mapping[str, torch.nn.Module], name: str) -> object:
    """Return the parameter itself, by which aliases of a layer are known."""
    if name in modules:
        return modules[name].weight
    owner, _, last = name.rpartition(".")
    return getattr(modules.get(owner), last, None)


def _kind(name: str) -> str:
    """Return the name without its numbers: `blocks.0.attn.qkv` and `blocks.1.attn.qkv#2` are of one kind.

    Only numbers that are a whole part of the path count: `fc1` and `fc2` are two kinds, and so are the first and the
    third part of a Sequential, which ends the path.
    """
    *path, last = name.partition("#")[0].split(".")
    return ".".join([*(_NUMBER.sub("*", part) if part.isdecimal() else part for part in path), last])
