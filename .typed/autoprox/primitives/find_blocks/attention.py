"""Attention: products of a forward pass that belong together, what they read, and what reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from autoprox.primitives.find_blocks.graph import Graph
from autoprox.primitives.find_blocks.record import Use


@dataclass
class Core:
    """Products that make one attention, with what lies between them (mixing of heads, products with positions).

    `reads` are the projections whose results meet, in order; `proj` reads the result; `attention` names the softmax
    (or the module of the fused attention) over tokens, empty where there is none; `reason` says why this is no
    attention of a block, where it is not.
    """

    members: list[Use]
    reads: list[Use] = field(default_factory=list)
    proj: list[Use] = field(default_factory=list)
    attention: list[str] = field(default_factory=list)
    reason: str = ""

    @property
    def mask(self) -> int:
        return sum(use.bit for use in self.members)

    @property
    def products(self) -> list[Use]:
        return [use for use in self.members if use.kind in ("product", "fused")]

    @property
    def stream(self) -> int:
        """Return what the first projection reads."""
        return self.reads[0].sources if self.reads else 0

    @property
    def last(self) -> Use:
        return (self.proj or self.members)[-1]


def find_cores(graph: Graph) -> list[Core]:
    """Return the attentions of a forward pass, in order. Those that share an output projection are one."""
    cores = [core for core in _grouped(graph) if _is_attention(graph, core)]
    for core in cores:
        _read(graph, core)
        _written(graph, core)
        core.attention = _softmaxes(graph, core)
    merged: dict[object, Core] = {}
    for core in cores:
        key = core.proj[0].number if core.proj else ("no projection", core.members[0].number)
        if key in merged:
            merged[key] = _together(merged[key], core)
        else:
            merged[key] = core
    return list(merged.values())


def _together(a: Core, b: Core) -> Core:
    reads = {use.number: use for use in (*a.reads, *b.reads)}
    return Core([*a.members, *b.members], [reads[n] for n in sorted(reads)], a.proj, [*a.attention, *b.attention])


def _grouped(graph: Graph) -> list[Core]:
    """Return products that read one another, with the mixing of heads in between."""
    of: dict[int, Core] = {}
    for use in graph.uses:
        if graph.is_product(use):
            near = [core for side in use.sides for core in _near_cores(graph, of, side)]
            members = {m.number: m for core in near for m in core.members} | {use.number: use}
            core = Core([members[number] for number in sorted(members)])
            of.update(dict.fromkeys(members, core))
        elif use.kind in ("linear", "convolution"):
            sources = list(graph.record.members(use.sources))
            if (
                sources
                and all(s.number in of for s in sources)
                and _mixes_heads(use, of[sources[-1].number].products[0])
            ):
                core = of[sources[-1].number]
                core.members.append(use)
                of[use.number] = core
    return list({id(core): core for core in of.values()}.values())


def _near_cores(graph: Graph, of: dict[int, Core], side: int) -> list[Core]:
    """Return the cores that a side of a product reads, unless it reads a residual stream."""
    members = list(graph.record.members(side))
    others = [use for use in members if use.number not in of]
    return [of[use.number] for use in members if use.number in of] if len(others) <= 2 else []


def _mixes_heads(use: Use, product: Use) -> bool:
    """Return whether a layer works on a product with heads as its features, and on nothing else."""
    made = product.made
    return len(made) >= 4 and use.features[0] == made[1] and sorted(use.given) == sorted(made) and made[1] != made[-1]


def _is_attention(graph: Graph, core: Core) -> bool:
    """Return whether two results meet: a product of one result with a table alone is none."""
    products = core.products
    if any(use.kind == "fused" for use in products):
        return True
    met = [use for use in products if all(use.sides)]
    inner = core.mask
    chained = any(side & inner for use in products for side in use.sides)
    return bool(met) and (chained or any(any(use.softmaxes) for use in met))


def _read(graph: Graph, core: Core) -> None:
    """Find the projections whose results meet."""
    inside = core.mask
    sides = [side & ~inside for product in core.products for side in product.sides]
    by_side = {side: graph.projections_behind(side, inside)[0] for side in sides if graph.few(side)}
    read = {use.sources for uses in by_side.values() for use in uses}
    # a sum that is projected for another side is the residual stream, which meets what is made of it
    by_side = {side: uses for side, uses in by_side.items() if side.bit_count() == 1 or side not in read}
    near = sum({use.bit for uses in by_side.values() for use in uses})
    # what reads only what is read here is a table of relative positions
    direct = {u.number: u for uses in by_side.values() for u in uses if not _reads_only(graph, u, near)}
    streams = {use.sources for use in direct.values() if use.sources}
    found: dict[int, Use] = {}
    for side, uses in by_side.items():
        own = [use for use in uses if use.number in direct]
        # else a residual stream itself, without a projection
        if not any(side & stream == stream for stream in streams) and len({use.sources for use in own}) == 1:
            found.update({use.number: use for use in own})
    core.reads = [found[number] for number in sorted(found)]
    outer = [use for use in core.products if not use.sources & inside]
    if outer and not any(all(use.sides) for use in outer):
        core.reason = "attention pooling: its query does not depend on the input"


def _reads_only(graph: Graph, use: Use, mask: int) -> bool:
    """Return whether what a node reads comes, perhaps through mixing layers, from nodes of a set alone."""
    behind, _ = graph.projections_behind(use.sources)
    return bool(behind) and not any(u.bit & ~mask for u in behind)


def _written(graph: Graph, core: Core) -> None:
    """Find the projection of the result: the first to read it without the residual stream."""
    inside, stream = core.mask, core.stream & ~graph.products
    reads = sum(use.bit for use in core.reads)
    frontier = sum(use.bit for use in core.members if not any(r.bit & inside for r in graph.readers[use.number]))
    mixing: list[Use] = []
    for use in graph.uses[core.members[-1].number + 1 :]:
        if not use.sources & frontier or use.bit & inside:
            continue
        rest = use.sources & ~(frontier | reads | stream)
        others = [o for o in graph.record.members(rest) if o.sources & ~(reads | inside)]
        joined = use.sources & stream and not _only_reader(graph, use, frontier)
        if joined or any(o.sources != stream and not graph.is_product(o) for o in others):
            continue
        if graph.is_projection(use):
            core.proj = [use]
            return
        if graph.is_mixing(use):
            frontier |= use.bit
            mixing.append(use)
    core.proj = mixing[:1]


def _only_reader(graph: Graph, use: Use, mask: int) -> bool:
    """Return whether a node is the only reader of a set: it projects the result beside a part of the stream."""
    readers = {r.number for source in graph.record.members(mask) for r in graph.readers[source.number]}
    return readers == {use.number} and not mask & graph.record.outputs


def _softmaxes(graph: Graph, core: Core) -> list[str]:
    """Return the names of what makes probabilities over tokens.

    That is fused attention, or a softmax over the last axis between two products or between a projection and a product.
    """
    names = [use.name for use in core.products if use.kind == "fused"]
    inside = core.mask
    for use in core.products:
        for mask in use.softmaxes:
            for number in range(mask.bit_length()):
                softmax = graph.record.softmaxes[number]
                between = softmax.sources & inside or not softmax.sources & graph.products
                if mask >> number & 1 and softmax.sources and softmax.axis == -1 and between:
                    names.append(softmax.name)
    for use in core.members:  # heads are mixed after the softmax
        if not graph.is_product(use):
            names += [
                s.name for n, s in enumerate(graph.record.softmaxes) if use.softmaxes[0] >> n & 1 and s.axis == -1
            ]
    return list(dict.fromkeys(names))


def heads_of(core: Core, counts: Sequence[int]) -> int:
    """Return the number of heads: what the module says, if its attention has an axis of that length; else axis 1."""
    shapes = [use.given for use in core.products] + [use.made for use in core.products]
    for count in counts:
        if any(count in shape[:-2] for shape in shapes) or any(
            shape[0] % count == 0 for shape in shapes if len(shape) == 3
        ):
            return count
    axes = [shape[1] for shape in shapes if len(shape) >= 4]
    return axes[0] if axes else 0
