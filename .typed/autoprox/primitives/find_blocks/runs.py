"""Runs: the numbered names of what runs in a forward pass, from the names that blocks have their layers by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from autoprox.primitives.find_blocks.named import Block, attribute
from autoprox.primitives.find_blocks.watch import layer_name, numbered


def layer_names(blocks: Sequence[Block]) -> list[str]:
    """Return the names of all layers of the blocks."""
    return [name for block in blocks for names in block.linears.values() for name in names]


def softmax_names(blocks: Sequence[Block]) -> list[str]:
    """Return the names of all softmaxes of the blocks."""
    return [name for block in blocks for name in block.softmaxes]


def canonical_blocks(model: torch.nn.Module, blocks: Sequence[Block]) -> tuple[Block, ...]:
    """Return the blocks with the names by which a forward pass knows their layers.

    A layer goes by the first name that its weight has among the parameters, a softmax by the first path of its module.
    Where the same one is named several times, under one path or several and without a number, these are its first,
    second, … run.
    """
    first: dict[int, str] = {}
    for name, parameter in model.named_parameters():
        first.setdefault(id(parameter), layer_name(name))
    modules = dict(model.named_modules())
    paths = {id(module): path for path, module in modules.items()}
    turns: Counter[str] = Counter()

    def run(path: str, mark: str, turn: str) -> str:
        turns[path] = int(turn) if mark else turns[path] + 1
        return numbered(path, turns[path])

    def layer(name: str) -> str:
        path, mark, turn = name.partition("#")
        found = modules[path] if path in modules else attribute(model, path)
        weight = found if isinstance(found, Tensor) else getattr(found, "weight", None)
        return run(first.get(id(weight), path), mark, turn)

    def softmax(name: str) -> str:
        path, mark, turn = name.partition("#")
        found = modules[path] if path in modules else attribute(model, path)
        return run(paths.get(id(found), path), mark, turn)

    return tuple(
        replace(
            block,
            linears={slot: tuple(layer(name) for name in names) for slot, names in block.linears.items()},
            softmax=tuple(softmax(name) for name in block.softmaxes),
        )
        for block in blocks
    )
