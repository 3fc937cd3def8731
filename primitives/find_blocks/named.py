"""Layers: where the attention and MLP linears of a vision transformer are, by name.

Uses torch and the standard library only, because an exported proxy carries this source with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch


class LayerError(ValueError):
    """A model whose layers cannot be found, or lack what a formula reads."""


@dataclass(frozen=True)
class Block:
    """One transformer block: the paths of its linear layers by slot, of its softmax, and its number of heads.

    A slot may have several linears (separate query, key and value): they count as one layer, stacked in order.
    `softmax` is empty and `heads` is 0 where unknown.
    """

    linears: Mapping[str, tuple[str, ...]]
    softmax: str = ""
    heads: int = 0


SLOTS = ("qkv", "proj", "fc1", "fc2")

# One row for each way of naming: the layers of a block relative to it, the attention module, its softmax.
_NAMINGS = (
    (
        {"qkv": ("attn.qkv",), "proj": ("attn.proj",), "fc1": ("mlp.fc1",), "fc2": ("mlp.fc2",)},
        "attn",
        "attn.softmax",
    ),
)


def find_blocks(model: torch.nn.Module, layers: Sequence[Mapping[str, object]] | None = None) -> tuple[Block, ...]:
    """The transformer blocks of a model, in the order the model declares them.

    Without `layers`, they are found by their names (`….attn.qkv`, `.attn.proj`, `.mlp.fc1`, `.mlp.fc2`). With it,
    each item is one block: `{"qkv": NAME, "proj": NAME, "fc1": NAME, "fc2": NAME}`, where NAME is a module path or
    a list of them, and optionally `"softmax": NAME` and `"heads": NUMBER`. Raises LayerError for a name that is not
    a linear layer of the model, and where nothing is found.
    """
    modules = dict(model.named_modules())
    if layers is not None:
        blocks = tuple(_named_block(number, given, modules) for number, given in enumerate(layers))
    else:
        blocks = max((_found_blocks(modules, *naming) for naming in _NAMINGS), key=len)
    if not blocks:
        raise LayerError(
            f"found no transformer block in {type(model).__name__}: no module is named like '*.attn.qkv'; "
            "pass layers=[{'qkv': NAME, 'proj': NAME, 'fc1': NAME, 'fc2': NAME}, ...], one item a block"
        )
    return blocks


def _found_blocks(modules, names, attention, softmax) -> tuple[Block, ...]:
    blocks = []
    for path in modules:
        linears = {
            slot: tuple(f"{path}.{name}".lstrip(".") for name in slot_names) for slot, slot_names in names.items()
        }
        present = [all(isinstance(modules.get(n), torch.nn.Linear) for n in paths) for paths in linears.values()]
        if not all(present):
            continue
        heads = getattr(modules[f"{path}.{attention}".lstrip(".")], "num_heads", 0)
        map_path = f"{path}.{softmax}".lstrip(".")
        blocks.append(Block(linears, map_path if map_path in modules else "", heads if type(heads) is int else 0))
    return tuple(blocks)


def _named_block(number: int, given: Mapping[str, object], modules: Mapping[str, torch.nn.Module]) -> Block:
    if not isinstance(given, Mapping):
        raise LayerError(f"layers[{number}]: {given!r:.80} is no mapping from {', '.join(SLOTS)} to names of modules")
    unknown = {str(key) for key in given} - {*SLOTS, "softmax", "heads"}
    if unknown:
        raise LayerError(f"layers[{number}]: unknown key '{min(unknown)}'; use {', '.join(SLOTS)}, softmax, heads")
    linears = {}
    for slot in SLOTS:
        names = given.get(slot, ())
        paths = (names,) if isinstance(names, str) else tuple(names) if isinstance(names, list | tuple) else (names,)
        for path in paths:
            if not isinstance(path, str):
                raise LayerError(f"layers[{number}]['{slot}']: {path!r} is not the name of a module")
            if not isinstance(modules.get(path), torch.nn.Linear):
                found = f"is a {type(modules[path]).__name__}, not a Linear" if path in modules else "does not exist"
                raise LayerError(f"layers[{number}]['{slot}']: module '{path}' {found}")
        if paths:
            linears[slot] = paths
        if len({weight_of(modules[path]).shape[1] for path in paths}) > 1:
            raise LayerError(f"layers[{number}]['{slot}']: {', '.join(paths)} do not have equally many input features")
    softmax, heads = given.get("softmax", ""), given.get("heads", 0)
    if softmax and (not isinstance(softmax, str) or softmax not in modules):
        raise LayerError(f"layers[{number}]['softmax']: module '{softmax}' does not exist")
    if type(heads) is not int or heads < 0:
        raise LayerError(f"layers[{number}]['heads']: {heads!r} is not a number of heads")
    return Block(linears, str(softmax), heads)


def weight_of(module: torch.nn.Module) -> torch.Tensor:
    """The weights of a linear layer, out × in, outside of any gradient."""
    weight = module.weight
    assert isinstance(weight, torch.Tensor)
    return weight.detach()
