"""Layers: where the attention and MLP linears of a vision transformer are, by name.

Uses torch and the standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from autoprox.primitives.errors import LayerError


@dataclass(frozen=True)
class Block:
    """One transformer block: the paths of its linear layers by slot, of its softmax, and its number of heads.

    In a network without transformer blocks, each convolution and linear is a block, with the slot `conv` alone.

    A slot may have several linears (separate query, key and value): they count as one layer, stacked in order.
    `name#2` is the second run of a layer in a forward pass. `softmax` has several names where a block has several
    attentions; it is empty and `heads` is 0 where unknown.
    """

    linears: Mapping[str, tuple[str, ...]]
    softmax: str | tuple[str, ...] = ""
    heads: int = 0

    @property
    def softmaxes(self) -> tuple[str, ...]:
        """The names in `softmax`."""
        return self.softmax if isinstance(self.softmax, tuple) else (self.softmax,) if self.softmax else ()


#: The slots of a transformer block, and the one slot of a block that is a layer of a convolutional network.
LAYER_SLOT = "conv"
SLOTS = ("qkv", "proj", "fc1", "fc2", LAYER_SLOT)

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
    if layers is not None:
        modules = dict(model.named_modules(remove_duplicate=False))
        blocks = tuple(_named_block(number, given, modules) for number, given in enumerate(layers))
        layer_by_layer = [set(block.linears) == {LAYER_SLOT} for block in blocks]
        if any(LAYER_SLOT in block.linears for block in blocks) and not all(layer_by_layer):
            raise LayerError("layers=: 'conv' is a layer of a network without transformer blocks, alone in every block")
    else:
        blocks = named_blocks(model)
    if not blocks:
        raise LayerError(
            f"found no transformer block in {type(model).__name__}: no module is named like '*.attn.qkv'; "
            "pass layers=[{'qkv': NAME, 'proj': NAME, 'fc1': NAME, 'fc2': NAME}, ...], one item a block"
        )
    return blocks


def named_blocks(model: torch.nn.Module) -> tuple[Block, ...]:
    """Return the blocks whose layers have the names of a known way of naming; none where there are none."""
    modules = dict(model.named_modules())
    return max((_found_blocks(modules, *naming) for naming in _NAMINGS), key=len)


def _found_blocks(modules, names, attention, softmax) -> tuple[Block, ...]:
    blocks = []
    for path in modules:
        wanted = (f"{path}.{name}".lstrip(".") for slot_names in names.values() for name in slot_names)
        if not all(isinstance(modules.get(name), torch.nn.Linear) for name in wanted):
            continue
        linears = {
            slot: tuple(f"{path}.{name}".lstrip(".") for name in slot_names) for slot, slot_names in names.items()
        }
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
            if layer_of(modules, path) is None:
                raise LayerError(f"layers[{number}]['{slot}']: module '{path}' {_why_no_layer(modules, path)}")
        if paths:
            linears[slot] = paths
        if len({weight.shape[1:] for path in paths if (weight := layer_of(modules, path)) is not None}) > 1:
            raise LayerError(f"layers[{number}]['{slot}']: {', '.join(paths)} do not have equally many input features")
    softmax, heads = given.get("softmax", ""), given.get("heads", 0)
    names = tuple(softmax) if isinstance(softmax, list | tuple) else (softmax,) if softmax else ()
    for name in names:
        if not isinstance(name, str) or name.partition("#")[0] not in modules:
            raise LayerError(f"layers[{number}]['softmax']: module '{name}' does not exist")
    if type(heads) is not int or heads < 0:
        raise LayerError(f"layers[{number}]['heads']: {heads!r} is not a number of heads")
    return Block(linears, "" if not names else names[0] if len(names) == 1 else names, heads)


_KINDS = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)


def layer_of(modules: Mapping[str, torch.nn.Module], name: str) -> torch.Tensor | None:
    """Return the weight of a linear layer or a convolution, or the parameter of that name; None where there is none.

    `#` and a number after the name say which of the layer's runs is meant.
    """
    path, mark, turn = name.partition("#")
    if mark and not (turn.isdecimal() and int(turn) > 0):
        return None
    if path in modules:
        weight = getattr(modules[path], "weight", None)
        known = isinstance(modules[path], _KINDS) or isinstance(weight, torch.nn.Parameter)
    else:
        owner, _, last = path.rpartition(".")
        weight = getattr(modules.get(owner), last, None)
        known = isinstance(weight, torch.nn.Parameter)
    return weight.detach() if known and isinstance(weight, torch.Tensor) and weight.ndim > 1 else None


def _why_no_layer(modules: Mapping[str, torch.nn.Module], name: str) -> str:
    path = name.partition("#")[0]
    if "#" in name and layer_of(modules, path) is not None:
        return "has no such run"
    return f"is a {type(modules[path]).__name__}, not a Linear" if path in modules else "does not exist"


def weight_of(model: torch.nn.Module, name: str) -> torch.Tensor:
    """Return the weight of a layer as the model declares it, out × in, outside of any gradient.

    It is the whole weight, also where a forward pass uses a part of it.
    """
    found = attribute(model, name.partition("#")[0])
    weight = found if isinstance(found, torch.Tensor) else getattr(found, "weight", None)
    assert isinstance(weight, torch.Tensor)
    return weight.detach().flatten(1)


def attribute(model: torch.nn.Module, path: str) -> object:
    """Return the module or parameter at a path; None where there is none, as for the name of a later run."""
    owner, _, last = path.rpartition(".")
    return getattr(model.get_submodule(owner), last, None)
