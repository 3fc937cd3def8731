"""Choose: the blocks of a model: as the user lists them, as a forward pass shows them, or as their names tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from posixpath import commonpath

import torch
from torch import Tensor

from autoprox.primitives.errors import LayerError, described
from autoprox.primitives.find_blocks.as_built import is_as_built
from autoprox.primitives.find_blocks.describe import Finding, find_layers
from autoprox.primitives.find_blocks.explicit import GivenLayers, given_blocks
from autoprox.primitives.find_blocks.named import Block, named_blocks
from autoprox.primitives.find_blocks.runs import layer_names

#: What `layers=` takes: what a user may give, blocks that are known already, or None to look for them.
Layers = GivenLayers | tuple[Block, ...] | None


def blocks_of(
    model: torch.nn.Module,
    inputs: Tensor | None,
    layers: Layers = None,
    *,
    partial: bool = False,
    runs: bool = True,
) -> tuple[Block, ...]:
    """Return the blocks that `layers` gives; without it, those that a forward pass on one sample shows.

    timm's names are taken where they leave out nothing that the forward pass shows, because they also tell what has
    the place of a softmax. Names alone will do, if no block beside those named has other names, where the model is as
    a space built it, without inputs, and if what is read `runs` nothing.

    Raises:
        LayerError: nothing is found, a layer has two places, or a list does not fit; see `given_blocks`.
    """
    if layers is not None:
        known = () if callable(layers) else tuple(block for block in layers if isinstance(block, Block))
        return known or given_blocks(model, layers, partial)  # type: ignore[arg-type]
    named = named_blocks(model)
    if named and is_as_built(model):
        return named
    unnamed = _unnamed_siblings(model, named)
    batch = isinstance(inputs, Tensor) and inputs.ndim > 0 and len(inputs) > 0
    if named and not unnamed and not (batch and runs):
        return named
    if not batch:
        raise LayerError(_why_not_by_name(model, unnamed))
    assert inputs is not None
    try:
        finding = find_layers(model, inputs[:1].detach())
    except (RuntimeError, TypeError, ValueError, AttributeError, LookupError) as error:
        if named and not unnamed:
            return named
        why = str(error) if isinstance(error, LayerError) else described(error)
        raise LayerError(f"found no transformer block in {type(model).__name__}: {why}") from error
    if named and not unnamed and _tell_everything(named, finding):
        return tuple(_completed(block, finding) for block in named)
    if not finding.blocks:
        raise LayerError(
            f"found no transformer block in {type(model).__name__}: {finding.why_none}; "
            "pass layers=[{'qkv': NAME, 'proj': NAME, 'fc1': NAME, 'fc2': NAME}, ...], one item a block"
        )
    require_one_place(finding)
    return finding.blocks


def _why_not_by_name(model: torch.nn.Module, unnamed: Sequence[str]) -> str:
    where = f"of {type(model).__name__} by name"
    found = f"found some blocks {where}, but not '{unnamed[0]}'" if unnamed else f"found no transformer block {where}"
    return (
        f"{found}; give a batch of inputs, so that a forward pass shows the blocks, or pass "
        "layers=[{'qkv': NAME, 'proj': NAME, 'fc1': NAME, 'fc2': NAME}, ...], one item a block"
    )


def _unnamed_siblings(model: torch.nn.Module, blocks: Sequence[Block]) -> list[str]:
    """Return the paths of modules with linears whose paths differ from those of the blocks in numbers only."""
    paths = {_path(block) for block in blocks}
    kinds = {_kind(path) for path in paths if path}
    return [
        path
        for path, module in model.named_modules()
        if path not in paths
        and _kind(path) in kinds
        and any(isinstance(inner, torch.nn.Linear) for inner in module.modules())
    ]


def _path(block: Block) -> str:
    names = [name.replace(".", "/") for name in layer_names([block])]
    return commonpath(names).replace("/", ".") if len(names) > 1 else ""


def _kind(path: str) -> str:
    return ".".join("*" if part.isdecimal() else part for part in path.split("."))


def _tell_everything(named: Sequence[Block], finding: Finding) -> bool:
    """Return whether every named layer runs, and is all that the blocks of the forward pass have."""
    names = set(layer_names(named))
    return names <= {use.name for use in finding.record.uses} and set(layer_names(finding.blocks)) <= names


def _completed(block: Block, finding: Finding) -> Block:
    """Return a named block with the softmax and the heads that the forward pass shows, where its names do not tell.

    What is named as a softmax may stand in the place of one, or be idle, as where fused attention runs instead.
    """
    names = set(layer_names([block]))
    seen = next((found for found in finding.blocks if names & set(layer_names([found]))), block)
    idle = seen.softmaxes and not any(f"{name}.".startswith(f"{block.softmax}.") for name in seen.softmaxes)
    softmax = seen.softmax if idle or not block.softmax else block.softmax
    return replace(block, softmax=softmax, heads=block.heads or seen.heads)


def require_one_place(finding: Finding) -> None:
    """Raise LayerError for a layer that is in two places, with both."""
    places: dict[str, str] = {}
    for number, block in enumerate(finding.blocks):
        for slot, names in block.linears.items():
            for name in names:
                place = f"'{slot}' of block {number}"
                if name in places:
                    raise LayerError(
                        f"layer '{name}' may be {places[name]} or {place}: name the blocks with layers=[...]; "
                        "`autoprox layers MODEL` prints a list to start from"
                    )
                places[name] = place
