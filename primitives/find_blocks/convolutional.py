"""Convolutional: networks without transformer blocks, each of whose convolutions and linears is a block of its own."""

from __future__ import annotations

from collections.abc import Sequence

from autoprox.primitives.find_blocks.assign import Assignment, Found
from autoprox.primitives.find_blocks.named import LAYER_SLOT
from autoprox.primitives.find_blocks.record import Record, Use

#: Where blocks hold a smaller share of the weights of projections, a network is convolutional: its MLPs are by chance.
LEAST = 0.8


def layer_by_layer(record: Record, assigned: Assignment) -> Assignment | None:
    """Return every convolution and linear as a block, in the order in which they run; None for a transformer.

    A network is convolutional if it has a convolution, no attention and no other layers that mix tokens in its place,
    and one of these holds: no block is found; a convolution of all channels together keeps the size of the image, as
    in a ResNet; or less than `LEAST` of the weights of the projections of tokens are in blocks, as in a MobileNet.
    """
    uses = [use for use in record.uses if use.kind in ("linear", "convolution") and use.name]
    if not any(use.kind == "convolution" for use in uses) or any(_attends(block) for block in assigned.blocks):
        return None
    whole = any(use.kind == "convolution" and use.groups == 1 and use.given[2:] == use.made[2:] for use in uses)
    if assigned.blocks and not whole and _share(record, uses, assigned) >= LEAST:
        return None
    return Assignment([Found({LAYER_SLOT: [use]}) for use in uses], {})


def _attends(block: Found) -> bool:
    return block.core is not None or "qkv" in block.slots


def _share(record: Record, uses: Sequence[Use], assigned: Assignment) -> float:
    """Return the share of the weights of the projections of tokens that is in blocks."""
    projections = [use for use in uses if use.kind == "linear" and use.rows > record.samples]
    inside = {use.number for block in assigned.blocks for use in block.uses}
    sizes = {use.number: use.weights for use in projections}
    total = sum(sizes.values())
    return sum(size for number, size in sizes.items() if number in inside) / total if total else 0.0
