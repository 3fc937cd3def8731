"""Probes: read a model's statistics and leave it bit for bit as it was.

Uses torch and the standard library only, because an exported proxy carries this source with it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from autoprox.primitives.layers import SLOTS, Block, LayerError


@dataclass
class Reading:
    """Statistics of one model.

    `matrices[name, probe, slot]`: one 2-D tensor for each block; `samples[name, probe]`: how many samples or
    mini-batches are stacked in their rows; `layers[name, slot]`: one number for each block; `net[name]`: a number.
    """

    matrices: dict[tuple[str, str, str], Sequence[Tensor]] = field(default_factory=dict)
    samples: dict[tuple[str, str], int] = field(default_factory=dict)
    layers: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    net: dict[str, float] = field(default_factory=dict)


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
    `targets` are class numbers; without them the loss is against seeded random classes. Nothing is run that no
    wanted statistic needs. The model runs in evaluation mode with detached parameters, and its parameters,
    gradients, buffers, modes, hooks and the random generators are left as they were, also after an error.
    Raises LayerError for what the model does not have.
    """
    names = set(wanted)
    reading = Reading()
    with untouched(model, seed):
        _read_structure(reading, model, blocks, {name for name, _ in names})
        runs = {probe: {name for name, p in names if p == probe} for probe in ("data", "noise", "synflow")}
        if inputs is None and (any(runs.values()) or names & {("tokens", ""), ("flops", "")}):
            raise LayerError("this formula runs the network: give it a batch of inputs")
        if inputs is not None and names & {("tokens", ""), ("flops", "")}:
            _read_shapes(reading, model, blocks, inputs)
        for probe, statistics in runs.items():
            if statistics and inputs is not None:
                x, y = _batch(probe, inputs, targets, seed)
                _read_probe(reading, model, blocks, probe, statistics, x, y, seed)
    return reading


@contextmanager
def untouched(model: torch.nn.Module, seed: int) -> Iterator[None]:
    """Evaluation mode, seeded generators and gradients on inside; everything as before afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    state = random.getstate()
    try:
        with torch.random.fork_rng(devices), torch.inference_mode(False), torch.enable_grad():
            torch.manual_seed(seed)
            random.seed(seed)
            for module, _ in modes:
                module.training = False
            yield
    finally:
        random.setstate(state)
        for module, mode in modes:
            module.training = mode


def _read_structure(reading: Reading, model: torch.nn.Module, blocks: Sequence[Block], names: set[str]) -> None:
    """What can be read without running the model."""
    reading.net["params"] = float(sum(p.numel() for p in model.parameters()))
    reading.net["depth"] = float(len(blocks))
    for slot in SLOTS:
        if not all(slot in block.linears for block in blocks):
            continue
        weights = [
            torch.cat([model.get_submodule(path).weight.detach() for path in block.linears[slot]])
            if len(block.linears[slot]) > 1
            else model.get_submodule(block.linears[slot][0]).weight.detach()
            for block in blocks
        ]
        if "weight" in names:
            reading.matrices["weight", "", slot] = [_real(weight) for weight in weights]
        reading.layers["fan_in", slot] = [float(weight.shape[1]) for weight in weights]
        reading.layers["fan_out", slot] = [float(weight.shape[0]) for weight in weights]
        reading.layers["position", slot] = [(number + 1) / len(blocks) for number in range(len(blocks))]
        if all(block.heads for block in blocks):
            reading.layers["heads", slot] = [float(block.heads) for block in blocks]
        if slot == "qkv":
            reading.net["width"] = sum(reading.layers["fan_in", slot]) / len(blocks)
    reading.samples["weight", ""] = 1


def _read_shapes(reading: Reading, model: torch.nn.Module, blocks: Sequence[Block], inputs: Tensor) -> None:
    """Tokens of every layer, and multiply-adds as torch's own counter counts them, on one all-zero sample."""
    counter = FlopCounterMode(display=False)
    with _captured(model, blocks, with_softmax=False) as seen, torch.no_grad(), counter:
        model(torch.zeros_like(inputs[:1]))
    reading.net["flops"] = counter.get_total_flops() / 2
    for slot in SLOTS:
        if all(slot in block.linears for block in blocks):
            outputs = [seen[block.linears[slot][0]] for block in blocks]
            reading.layers["tokens", slot] = [float(out.numel() // out.shape[-1]) for out in outputs]


def _batch(probe: str, inputs: Tensor, targets: Tensor | None, seed: int) -> tuple[Tensor, Tensor | None]:
    if probe == "data":
        return inputs.clone() if inputs.is_inference() else inputs, targets
    if probe == "synflow":
        return torch.ones_like(inputs[:1]), None
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(inputs.shape, generator=generator).to(inputs), None


def _read_probe(
    reading: Reading,
    model: torch.nn.Module,
    blocks: Sequence[Block],
    probe: str,
    names: set[str],
    x: Tensor,
    y: Tensor | None,
    seed: int,
) -> None:
    """One run, and one for each half of the batch where gradients by mini-batch are wanted."""
    plain = names - {"weight_grad_batches"}
    if plain:
        found = _run(model, blocks, probe, plain, x, y, seed)
        for (name, slot), tensors in found.items():
            reading.matrices[name, probe, slot] = tensors
        for name in plain:
            reading.samples[name, probe] = 1 if name == "weight_grad" else len(x)
    if "weight_grad_batches" in names:
        if probe == "synflow" or len(x) % 2:
            raise LayerError("weight_grad_batches needs a batch of even size, under the probe data or noise")
        targets = _targets(y, len(x), seed)
        halves = [
            _run(model, blocks, probe, {"weight_grad"}, part, labels, seed)
            for part, labels in zip(x.chunk(2), targets.chunk(2), strict=True)
        ]
        for name, slot in halves[0]:
            both = zip(halves[0][name, slot], halves[1][name, slot], strict=True)
            reading.matrices["weight_grad_batches", probe, slot] = [torch.cat(pair) for pair in both]
        reading.samples["weight_grad_batches", probe] = 2


def _targets(y: Tensor | None, samples: int, seed: int) -> Tensor:
    """The targets, or numbers that become random classes once the number of classes is known."""
    if y is not None:
        return y
    generator = torch.Generator().manual_seed(seed + 1)
    return torch.rand(samples, generator=generator)


def _loss(output: object, probe: str, y: Tensor | None, seed: int) -> Tensor:
    logits = getattr(output, "logits", output)
    logits = logits[0] if isinstance(logits, tuple) else logits
    if not isinstance(logits, Tensor):
        raise LayerError(f"the model returns {type(output).__name__}; class scores (samples × classes) are needed")
    if probe == "synflow":
        return logits.sum()
    y = _targets(y, len(logits), seed)
    if y.is_floating_point():
        y = (y * logits.shape[-1]).long()
    return functional.cross_entropy(logits, y.to(logits.device))


def _run(
    model: torch.nn.Module,
    blocks: Sequence[Block],
    probe: str,
    names: set[str],
    x: Tensor,
    y: Tensor | None,
    seed: int,
) -> dict[tuple[str, str], list[Tensor]]:
    """Forward, and backward where a gradient is wanted: (statistic, slot) → one matrix for each block."""
    slots = [slot for slot in SLOTS if all(slot in block.linears for block in blocks)]
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    if probe == "synflow":
        parameters = {name: p.abs() for name, p in parameters.items()}
    gradient = bool(names & {"weight_grad", "act_grad"})
    leaves = [f"{path}.weight" for block in blocks for slot in slots for path in block.linears[slot]]
    leaves = [name for name in leaves if name in parameters]
    if gradient:
        parameters.update({name: parameters[name].requires_grad_() for name in leaves})
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with _captured(model, blocks, with_softmax="attn" in names) as seen, torch.set_grad_enabled(gradient):
        output = torch.func.functional_call(model, {**parameters, **buffers}, (x,))
        of: dict[str, Tensor] = {}
        if gradient:
            sources = {}
            if "weight_grad" in names:
                sources.update({f"weight_grad {name}": parameters[name] for name in leaves})
            if "act_grad" in names:
                paths = [path for block in blocks for slot in slots for path in block.linears[slot]]
                sources.update({f"act_grad {path}.weight": seen[path] for path in paths})
            grads = torch.autograd.grad(_loss(output, probe, y, seed), list(sources.values()), allow_unused=True)
            for (key, source), grad in zip(sources.items(), grads, strict=True):
                of[key] = torch.zeros_like(source) if grad is None else grad
    of.update({f"act {path}.weight": out.detach() for path, out in seen.items()})
    found: dict[tuple[str, str], list[Tensor]] = {}
    for name in sorted(names - {"attn"}):
        axis = 0 if name == "weight_grad" else 1
        for slot in slots:
            parts = [[_flat(of[f"{name} {path}.weight"]) for path in block.linears[slot]] for block in blocks]
            found[name, slot] = [_real(p[0] if len(p) == 1 else torch.cat(p, axis)) for p in parts]
    if "attn" in names:
        if not all(block.softmax for block in blocks):
            raise LayerError("attn: this model does not show its attention probabilities (no softmax module)")
        found["attn", "attn"] = [_real(_flat(seen[block.softmax].detach())) for block in blocks]
    return found


@contextmanager
def _captured(model: torch.nn.Module, blocks: Sequence[Block], with_softmax: bool) -> Iterator[Mapping[str, Tensor]]:
    """Outputs of the blocks' linears (and softmaxes) by path, as forward passes inside the context produce them."""
    paths = [path for block in blocks for slot in block.linears.values() for path in slot]
    if with_softmax:
        paths += [block.softmax for block in blocks if block.softmax]
    seen: dict[str, Tensor] = {}

    def keeper(path: str):
        def keep(module, args, output) -> None:
            seen[path] = output

        return keep

    handles = []
    try:
        for path in paths:
            handles.append(model.get_submodule(path).register_forward_hook(keeper(path)))
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _flat(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1, tensor.shape[-1])


def _real(tensor: Tensor) -> Tensor:
    """float32 or float64 as it is; half precision as float32."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()
