"""Assign: from a record to blocks: attention and what follows it, or what mixes tokens in its place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from autoprox.primitives.find_blocks.attention import Core, find_cores
from autoprox.primitives.find_blocks.graph import Graph
from autoprox.primitives.find_blocks.record import Record, Use


@dataclass
class Pair:
    """Two layers in a row: what widens (several where gated), what narrows, and what mixes tokens in between.

    `mixes`: whether the pair mixes tokens, in between or because it works on tokens as if they were features.
    """

    fc1: list[Use]
    fc2: Use
    between: list[Use] = field(default_factory=list)
    mixes: bool = False

    @property
    def stream(self) -> int:
        return self.fc1[0].sources


@dataclass
class Found:
    """One block as uses: slot → uses in order, and the attention's core where there is one."""

    slots: dict[str, list[Use]]
    core: Core | None = None

    @property
    def uses(self) -> list[Use]:
        return [use for uses in self.slots.values() for use in uses]

    @property
    def first(self) -> int:
        return min(use.number for use in self.uses)


@dataclass
class Assignment:
    """The blocks of a record in the order in which they run, and why other uses of weights are in none."""

    blocks: list[Found]
    left_out: dict[int, str]


def assign(record: Record) -> Assignment:
    """Return the blocks that a record shows."""
    graph = Graph(record)
    cores = find_cores(graph)
    usable = [core for core in cores if core.reads or core.proj]
    reasons: dict[int, str] = {}
    taken = {use.number for core in cores for use in (*core.reads, *core.proj, *core.members)}
    pairs = [pair for pair in _pairs(graph, taken) if not _is_head(graph, pair)]
    blocks = _blocks(graph, usable, pairs, reasons) or _single(graph)
    used = {use.number for block in blocks for use in block.uses}
    for use in record.uses:
        if use.kind in ("linear", "convolution") and use.number not in used:
            reasons.setdefault(use.number, _reason(graph, use))
    return Assignment(sorted(blocks, key=lambda block: block.first), reasons)


def _pairs(graph: Graph, taken: set[int]) -> list[Pair]:
    """Return every two projections in a row that make an MLP.

    The second makes as many features as the first reads, or the first widens and the second narrows.
    """
    pairs: list[Pair] = []
    used = set(taken)
    for use in graph.uses:
        if use.number in used or not graph.is_projection(use) or not graph.few(use.sources):
            continue
        pair = _pair(graph, use)
        if pair is not None and not used & {u.number for u in pair.fc1}:
            used |= {u.number for u in (*pair.fc1, pair.fc2)}
            pairs.append(pair)
    return pairs


def _pair(graph: Graph, fc2: Use) -> Pair | None:
    samples = graph.record.samples
    near = [u for u in graph.record.members(fc2.sources) if not (u.rows <= samples < fc2.rows)]  # no gates by channel
    fc1, mixed = graph.projections_behind(sum(u.bit for u in near))
    if not fc1 or not all(graph.is_projection(u) for u in fc1) or len({u.sources for u in fc1}) > 1:
        return None
    inner, outer = sum(u.features[1] for u in fc1), fc1[0].features[0]
    if inner < outer and fc1[0].rows <= samples:  # squeeze and excitation
        return None
    if fc2.features[1] != outer and not (inner > outer and inner > fc2.features[1]):
        return None
    between = [u for u in near if graph.is_mixing(u)] if mixed else []
    scored = any(s.sources & fc1[0].bit for s in graph.softmaxes_of(fc2.softmaxes[0]))
    pair = Pair(fc1, fc2, between, mixes=bool(between) or scored or graph.is_mixing(fc1[0]))
    if pair.mixes and not graph.is_residual(pair.stream, fc2):
        return None
    return pair


def _is_head(graph: Graph, pair: Pair) -> bool:
    """Return whether the pair makes the result of the network and nothing is added to it."""
    outputs = graph.record.outputs
    return bool(pair.fc2.bit & outputs) and not graph.readers[pair.fc2.number] and pair.stream & outputs != pair.stream


def _blocks(graph: Graph, cores: list[Core], pairs: list[Pair], reasons: dict[int, str]) -> list[Found]:
    blocks = {id(core): Found({"qkv": core.reads, "proj": core.proj}, core) for core in cores}
    alone: list[Found] = []
    free, waiting = list(cores), []  # attentions, and pairs that mix tokens, that no MLP follows so far
    ends = 0  # what blocks so far end with
    for pair in pairs:
        core = _attention_before(graph, free, pair, ends)
        slots = {"fc1": pair.fc1, "fc2": [pair.fc2]}
        if core is not None:
            free.remove(core)
            blocks[id(core)].slots |= slots
        elif pair.mixes:
            waiting.append(pair)
            continue
        else:
            mixers = [w for w in waiting if _since(pair.stream, ends) & w.fc2.bit]
            waiting = [w for w in waiting if w not in mixers[-1:]]
            mixer = {"qkv": mixers[-1].fc1, "proj": [mixers[-1].fc2]} if mixers else _mixer(graph, pair, ends)
            alone.append(Found({**mixer, **slots}))
        ends |= pair.fc2.bit
    for pair in waiting:
        if cores and _kernel(pair.between):
            for use in (*pair.fc1, pair.fc2, *pair.between):
                reasons[use.number] = "convolution stage: no attention before it"
        else:
            alone.append(Found({"proj": pair.between, "fc1": pair.fc1, "fc2": [pair.fc2]}))
    for core in cores:
        if core.reason:
            uses = [use for uses in blocks.pop(id(core)).slots.values() for use in uses]
            reasons.update(dict.fromkeys((u.number for u in uses), core.reason))
    for found in (*blocks.values(), *alone):
        found.slots = {slot: uses for slot, uses in found.slots.items() if uses}
    return [*blocks.values(), *alone]


def _single(graph: Graph) -> list[Found]:
    """Return the blocks of networks with one projection after each convolution that is a residual branch (ConvMixer).

    They are looked for where there is neither attention nor MLP.
    """
    found = []
    for use in graph.uses:
        mixing = [m for m in graph.record.members(use.sources) if m.kind == "convolution"]
        if mixing and graph.is_projection(use) and mixing[-1].sources == use.sources & ~mixing[-1].bit:
            found.append(Found({"proj": mixing[-1:], "fc1": [use]}))
    return found


def _kernel(uses: Iterable[Use]) -> bool:
    return any(use.kind == "convolution" for use in uses)


def _since(stream: int, ends: int) -> int:
    """Return the nodes of a stream after the last block that ended in it."""
    last = (stream & ends).bit_length()
    return stream >> last << last


def _attention_before(graph: Graph, free: list[Core], pair: Pair, ends: int) -> Core | None:
    """Return the first attention without an MLP that the pair reads after the last block, or beside which it stands."""
    stream = pair.stream
    recent = _since(stream, ends)
    for use in list(graph.record.members(recent)):  # a local convolution after the attention
        if use.kind == "convolution":
            recent |= _since(use.sources, ends)
    for core in free:
        exits = core.last.bit | _spread(graph, core.last) if core.proj else core.mask
        if recent & exits or (core.stream == stream and core.members[0].number < pair.fc2.number):
            return core
    return None


def _spread(graph: Graph, last: Use) -> int:
    """Return the products by which states that attention gathered are given back to the tokens (state space)."""
    near = [use for use in graph.readers[last.number] if last.bit in use.sides]
    after = [use for reader in near for use in graph.readers[reader.number] if reader.bit in use.sides]
    return sum({use.bit for use in (*near, *after) if use.kind == "product"})


def _mixer(graph: Graph, pair: Pair, ends: int) -> dict[str, list[Use]]:
    """Return what mixes tokens before an MLP without attention: its first layers as qkv, its last as proj."""
    stream = pair.stream
    for last in reversed(list(graph.record.members(_since(stream, ends)))):
        together = [u for u in graph.record.members(stream) if graph.is_mixing(u) and u.sources == last.sources]
        direct = stream == sum(u.bit for u in together)
        if (
            last.kind in ("input", "recurrent", "product")
            or last.bit & ends
            or last.rows <= graph.record.samples < pair.fc2.rows
        ):
            continue
        if not graph.is_residual(last.sources, pair.fc2 if direct else last):
            entries, reached = _entries(graph, last, stream)
            if not reached:
                continue
            return {"qkv": entries, "proj": [last]}
        if direct and not graph.is_mixing(last):
            continue
        return {"proj": together if last in together else [last]}
    return {}


def _entries(graph: Graph, last: Use, stream: int) -> tuple[list[Use], bool]:
    """Return the layers through which a branch that ends in `last` reads the residual stream, and whether it does."""
    found: dict[int, Use] = {}
    todo, reached = [last], False
    seen: set[int] = set()
    while todo:
        use = todo.pop()
        if use.number in seen or len(seen) > 24:
            continue
        seen.add(use.number)
        if use is not last and use.kind in ("linear", "convolution") and use.sources & stream == use.sources:
            found[use.number] = use
        elif use.kind == "recurrent" and use.sources & stream == use.sources:
            reached = True
        else:
            todo += [u for u in graph.record.members(use.sources) if u.kind != "input" and not u.bit & stream]
    return [found[number] for number in sorted(found)], reached or bool(found)


def _reason(graph: Graph, use: Use) -> str:
    if use.bit & graph.record.outputs and not graph.readers[use.number]:
        return "classifier: its result is the network's"
    if use.rows <= graph.record.samples:
        return "one vector a sample: a gate, a condition or a head"
    if use.kind == "convolution":
        return "convolution: embeds, downsamples or mixes locally"
    sources = list(graph.record.members(use.sources))
    if any(source.kind == "input" for source in sources):
        return "embedding: it reads the network's input"
    return "neither reads what meets in an attention nor is one of two layers of an MLP"
