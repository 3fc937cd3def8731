"""Probes: read a model's statistics and leave it bit for bit as it was.

Uses torch and the standard library only, because an exported proxy carries this source with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from autoprox.primitives.batch import checked_batch
from autoprox.primitives.batch_norms import RUNNING, batch_norms_by
from autoprox.primitives.capture import Capture, Captured, unmasked
from autoprox.primitives.errors import LayerError
from autoprox.primitives.few_steps import BATCH, trained
from autoprox.primitives.find_blocks.named import SLOTS, Block, attribute
from autoprox.primitives.find_blocks.runs import canonical_blocks, layer_names, softmax_names
from autoprox.primitives.find_blocks.used import read_from_outside, require_whole, used_params, uses_parts
from autoprox.primitives.flops import count_flops
from autoprox.primitives.kinds import ATTENTION_ROLE, CONV_ROLE, steps_of
from autoprox.primitives.passes import CLASSES, SUM, Need, Pass, Subject, Wanted, Where
from autoprox.primitives.sharing import computed_once, met
from autoprox.primitives.statistics import STATISTICS, Network
from autoprox.primitives.untouched import one_pass, seed_everything, untouched


@dataclass
class Reading:
    """Statistics of one model.

    `matrices[name, probe, slot]`: one 2-D tensor for each block that has the slot; `samples[name, probe]`: how many
    samples or mini-batches are stacked in their rows; `layers[name, slot]`: one number for each such block;
    `net[name]`: a number; `places[slot]`: the numbers of the blocks that have it, empty where every block has all.
    """

    matrices: dict[tuple[str, str, str], Sequence[Tensor]] = field(default_factory=dict)
    samples: dict[tuple[str, str], int] = field(default_factory=dict)
    layers: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    net: dict[str, float] = field(default_factory=dict)
    places: dict[str, list[int]] = field(default_factory=dict)

    @property
    def convolutional(self) -> bool:
        """Return whether it is of a network without transformer blocks, of which each layer is a block."""
        return ("fan_in", CONV_ROLE) in self.layers


def read_statistics(
    model: torch.nn.Module,
    blocks: Sequence[Block],
    wanted: Iterable[tuple[str, str]],
    inputs: Tensor | None = None,
    targets: Tensor | None = None,
    seed: int = 0,
) -> Reading:
    """Read the wanted (statistic, probe) pairs; the probe is empty where the statistic has none.

    `inputs` is the batch, samples first; the probe `noise` uses its shape, `synflow` its shape but for one sample.
    The probe `stepsK` trains copies of the parameters for K steps of BATCH images (see `few_steps.trained`), and reads
    statistics with these on further images of the same kind, as many as the batch has.
    `targets` are class numbers; without them the loss is against seeded random classes. Nothing is run that no
    wanted statistic needs. The model runs in evaluation mode with detached parameters and copies of its buffers, and
    its parameters, gradients, buffers, modes, hooks and the random generators are left as they were, also after an
    error. Raises LayerError for what the model does not have, and for a batch that does not fit.
    """
    wanted = set(wanted)
    names = {name for name, _ in wanted}
    shapes = bool(names & OF_A_BLANK_SAMPLE) or (
        bool(names & _OF_WHAT_RUNS) and _reads_used_weights(model, blocks, inputs)
    )
    counts = "params" in names and uses_parts(model)
    if counts and inputs is None:
        require_whole(model, model.named_modules())
    few_steps = sorted({probe for _, probe in wanted if steps_of(probe)}, key=steps_of)
    runs = {probe: {name for name, p in wanted if p == probe} for probe in (*PROBED, *few_steps)}
    _check_blocks(blocks, wanted, names)
    blocks = canonical_blocks(model, blocks)
    reading = Reading()
    with untouched(model):
        network = Network(model, blocks)
        if not shapes and not counts and not any(runs.values()):
            _read_structure(reading, network, names)
            return reading
        x = checked_batch(inputs, targets, "weight_grad_batches" in names)
        if shapes:
            network = _read_shapes(reading, network, x, seed, names)
        if counts:
            network = replace(network, used_params=used_params(model, x, seed))
        _read_structure(reading, network, names)
        for probe, statistics in runs.items():
            if statistics:
                _read_probe(reading, _subject(model, x, targets, seed, probe), blocks, probe, statistics)
    return reading


#: Statistics that a block has one matrix of, from its softmaxes → where a forward pass is captured with them.
OF_BLOCK: Mapping[str, Callable[[Captured], Mapping[str, Tensor]]] = MappingProxyType(
    {"attn": lambda captured: captured.attention, "attn_logits": lambda captured: captured.logits}
)

#: Statistics for which one all-zero sample is run, whatever the probe.
OF_A_BLANK_SAMPLE = frozenset({"tokens", "flops", "activations"})

#: The probes that run the network, but for those that train it before.
PROBED = ("data", "noise", "synflow")


def _subject(model: torch.nn.Module, x: Tensor, targets: Tensor | None, seed: int, probe: str) -> Subject:
    """Return what a probe reads: of one that trains, the trained parameters too, which are made once for all."""
    steps = steps_of(probe)
    if not steps:
        return Subject(model, x, targets, seed)
    made = computed_once(("trained", steps), (model, x, seed), lambda: trained(model, x, steps, seed, BATCH))
    return Subject(model, x, targets, seed, made)


def _check_blocks(blocks: Sequence[Block], wanted: set[tuple[str, str]], names: set[str]) -> None:
    """Refuse what cannot be read before anything runs."""
    if ("weight_grad_batches", "synflow") in wanted:
        raise LayerError("weight_grad_batches: synflow runs one sample, which has no mini-batches; use data or noise")
    if "heads" in names and not any(block.heads for block in blocks):
        raise LayerError(
            "heads: this model does not show its number of heads; pass layers=[{..., 'heads': NUMBER}, ...]"
        )
    for name in sorted(names & OF_BLOCK.keys()):
        if not any(block.softmax for block in blocks):
            raise LayerError(
                f"{name}: this model does not show its attention probabilities: its blocks have no softmax over "
                "tokens; if they have one, pass layers=[{..., 'softmax': NAME}, ...] with the module that calls it"
            )


def _slots(blocks: Sequence[Block]) -> list[str]:
    """Return the slots that any block has."""
    return [slot for slot in SLOTS if any(slot in block.linears for block in blocks)]


def _read_structure(reading: Reading, network: Network, names: set[str]) -> None:
    """Read what can be read without running the model: all numbers, and the weights if they are wanted."""
    reading.places = {slot: [place.number for place in network.places(slot)] for slot in (*SLOTS, ATTENTION_ROLE)}
    slots = _slots(network.blocks)
    for name, statistic in STATISTICS.items():
        if statistic.of_net and (number := statistic.of_net(network)) is not None:
            reading.net[name] = float(number)
        if statistic.at_layer:
            for slot in slots:
                shown = [statistic.at_layer(place) for place in network.places(slot)]
                numbers = [float(number) for number in shown if number is not None]
                if len(numbers) == len(shown):
                    reading.layers[name, slot] = numbers
    if "weight" in names:
        for slot in slots:
            reading.matrices["weight", "", slot] = [_below(place.weights) for place in network.places(slot)]
    reading.samples["weight", ""] = 1


#: Statistics of weights and blocks, which are known without running the model, unless it is a supernet.
_OF_WHAT_RUNS = frozenset({"weight", "fan_in", "fan_out", "width", "heads", "depth", "position"})

_PLAIN = (
    torch.nn.Linear,
    torch.nn.Conv1d,
    torch.nn.Conv2d,
    torch.nn.modules.linear.NonDynamicallyQuantizableLinear,  # of nn.MultiheadAttention
)


def _is_plain(layer: object) -> bool:
    return isinstance(layer, torch.nn.Module) and type(layer) in _PLAIN and "weight" in layer._parameters


def _reads_used_weights(model: torch.nn.Module, blocks: Sequence[Block], inputs: Tensor | None) -> bool:
    """Return whether weights must be read as a forward pass uses them, because a layer is no plain one.

    Raises:
        LayerError: there are no inputs to run, and a layer may use a part of its weight, as those of supernets do.
    """
    layers = {name: attribute(model, name) for name in layer_names(blocks)}
    if inputs is not None:
        return not all(map(_is_plain, layers.values())) or bool(layers.keys() & read_from_outside(model).keys())
    require_whole(model, layers.items())
    return False


def _read_shapes(reading: Reading, network: Network, inputs: Tensor, seed: int, names: set[str]) -> Network:
    """Read the tokens of every layer, and what is wanted of multiply-adds, as torch counts them, and activations.

    One all-zero sample is run. The result is the network with the weights that this pass used.
    """
    model, blocks = network.model, network.blocks

    def blank_pass() -> Captured:
        capture = Capture(model, layer_names(blocks), (), 1, _plain, gradient=False)
        seed_everything(model, seed)
        with capture.watching(), batch_norms_by(RUNNING):
            one_pass(model, torch.zeros_like(inputs[:1]))
        return capture.captured

    # The counter does not know the fused attention of every device, but it does know the products it consists of.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        if "flops" in names:
            seen, flops = count_flops(blank_pass)
            reading.net["flops"] = flops / 2
        else:
            seen = blank_pass()
    if "activations" in names:
        reading.net["activations"] = float(seen.activations)
    seen.require(layer_names(blocks))
    for slot in _slots(blocks):
        first = [block.linears[slot][0] for block in blocks if slot in block.linears]
        reading.layers["tokens", slot] = [float(len(seen.rows(name, seen.outputs[name], 1))) for name in first]
    return replace(network, used={name: seen.matrix(name, weight).detach() for name, weight in seen.weights.items()})


def _plain(name: str, parameter: Tensor) -> Tensor:
    return parameter.clone() if parameter.is_inference() else parameter.detach()


def _read_probe(
    reading: Reading,
    subject: Subject,
    blocks: Sequence[Block],
    probe: str,
    names: set[str],
) -> None:
    """Do one pass, and one for each half of the batch where gradients by mini-batch are wanted."""
    samples = 1 if probe == "synflow" else len(subject.inputs)
    plain = names - {"weight_grad_batches"}
    if plain:
        for (name, slot), tensors in _of_pass(subject, blocks, Where(probe, 0, samples), plain).items():
            reading.matrices[name, probe, slot] = tensors
        for name in plain:
            reading.samples[name, probe] = 1 if name in ("weight", "weight_grad") else samples
    if "weight_grad_batches" in names:
        half = samples // 2
        halves = [_of_pass(subject, blocks, Where(probe, first, first + half), {"weight_grad"}) for first in (0, half)]
        for name, slot in halves[0]:
            both = zip(halves[0][name, slot], halves[1][name, slot], strict=True)
            reading.matrices["weight_grad_batches", probe, slot] = [torch.cat(pair) for pair in both]
        reading.samples["weight_grad_batches", probe] = 2


def _of_pass(
    subject: Subject, blocks: Sequence[Block], where: Where, names: set[str]
) -> dict[tuple[str, str], list[Tensor]]:
    """Run forward, and backward where a gradient is wanted; return (statistic, slot) → one matrix for each block."""
    layers = layer_names(blocks) if names - OF_BLOCK.keys() else []
    softmaxes = softmax_names(blocks) if names & OF_BLOCK.keys() else []
    loss = SUM if where.probe == "synflow" else CLASSES
    kinds = [kind for name, kind in (("act_grad", "act"), ("weight_grad", "weight")) if name in names]
    slopes = tuple((loss, kind, name) for kind in kinds for name in layers)

    def read(run: Pass) -> dict[tuple[str, str], list[Tensor]]:
        run.seen.require(layers)
        if where.probe == "synflow" or subject.trained:
            run.seen.require_no_copies()
        return _by_slot(blocks, run, loss, names)

    kept, bare = (tuple(layers), ()) if names & {"act", "act_grad"} else ((), tuple(layers))
    wanted = Wanted(kept, bare, tuple(softmaxes), slopes=slopes)
    need = Need(("statistics", *sorted(names)), where, wanted, read)
    return need.met_alone(subject) if subject.trained else met(subject, need)


def _by_slot(blocks: Sequence[Block], run: Pass, loss: str, names: set[str]) -> dict[tuple[str, str], list[Tensor]]:
    """Return (statistic, slot) → one matrix for each block that has it."""
    seen = run.seen

    def matrix(name: str, layer: str) -> Tensor:
        if name == "weight_grad":
            return seen.matrix(layer, _within(run.slope(loss, "weight", layer), seen.weights[layer].dtype))
        if name == "weight":
            return seen.matrix(layer, seen.weights[layer].detach())
        tensor = run.slope(loss, "act", layer) if name == "act_grad" else run.made(layer)
        return seen.rows(layer, _within(tensor, seen.outputs[layer].dtype), run.samples)

    found = {}
    for name in sorted(names - OF_BLOCK.keys()):
        for slot in _slots(blocks):
            groups = [block.linears[slot] for block in blocks if slot in block.linears]
            parts = [[matrix(name, layer) for layer in group] for group in groups]
            found[name, slot] = [_side_by_side(p, name) for p in parts]
    for name in sorted(names & OF_BLOCK.keys()):
        maps = OF_BLOCK[name](seen)
        finite = unmasked if name == "attn_logits" else _real
        groups = [block.softmaxes for block in blocks if block.softmax]
        found[name, "attn"] = [_below([finite(_flat(maps[softmax])) for softmax in group]) for group in groups]
    return found


def _within(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a tensor in the network's type, whose largest number stands for what is beyond it.

    So all statistics of a network have one type. Operations stop at 1e30, which every type of 32 bits can hold.
    """
    if tensor.dtype == dtype:
        return tensor
    most = torch.finfo(dtype).max
    return tensor.clamp(-most, most).to(dtype)


def _side_by_side(parts: Sequence[Tensor], name: str) -> Tensor:
    """Return several layers of one slot as one matrix: weights below one another, else side by side.

    Keys and values may have fewer tokens than queries: their rows are then padded with 0 at the end.
    """
    if name in ("weight", "weight_grad") or len(parts) == 1:
        return _below(parts)
    longest = max(len(part) for part in parts)
    padded = [functional.pad(part, (0, 0, 0, longest - len(part))) for part in parts]
    return _joined(padded, 1)


def _below(parts: Sequence[Tensor]) -> Tensor:
    """Return matrices of one slot below one another, padded with columns of 0 to the widest."""
    widest = max(part.shape[1] for part in parts)
    return _joined([functional.pad(p, (0, widest - p.shape[1])) if p.shape[1] < widest else p for p in parts], 0)


def _joined(parts: Sequence[Tensor], axis: int) -> Tensor:
    return _real(parts[0] if len(parts) == 1 else torch.cat(list(parts), axis))


def _flat(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1, tensor.shape[-1])


def _real(tensor: Tensor) -> Tensor:
    """Return float32 or float64 as it is, half precision as float32."""
    if tensor.is_complex():
        raise LayerError(f"a layer computes in {tensor.dtype}; operations take real numbers: leave it out with layers=")
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()
