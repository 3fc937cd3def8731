"""Probes: read a model's statistics and leave it bit for bit as it was."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from autoprox.primitives.find_blocks.named import SLOTS, Block, LayerError
from autoprox.primitives.statistics import STATISTICS, Place


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
    wanted statistic needs. The model runs in evaluation mode with detached parameters and copies of its buffers, and
    its parameters, gradients, buffers, modes, hooks and the random generators are left as they were, also after an
    error. Raises LayerError for what the model does not have, and for a batch that does not fit.
    """
    wanted = set(wanted)
    names = {name for name, _ in wanted}
    shapes = bool(names & {"tokens", "flops"})
    runs = {probe: {name for name, p in wanted if p == probe} for probe in PROBED}
    _check_blocks(blocks, wanted, names)
    reading = Reading()
    with untouched(model):
        _read_structure(reading, model, blocks, names)
        if shapes or any(runs.values()):
            x = checked_batch(inputs, targets, "weight_grad_batches" in names)
            if shapes:
                _read_shapes(reading, model, blocks, x, seed, count="flops" in names)
            for probe, statistics in runs.items():
                if statistics:
                    batch = probe_batch(probe, x, targets, seed)
                    _read_probe(reading, model, blocks, probe, statistics, *batch, seed)
    return reading


#: Statistics that a block has one matrix of → the path of the module whose output that is.
OF_BLOCK: Mapping[str, Callable[[Block], str]] = MappingProxyType({"attn": lambda block: block.softmax})

#: The probes that run the network.
PROBED = ("data", "noise", "synflow")


def _check_blocks(blocks: Sequence[Block], wanted: set[tuple[str, str]], names: set[str]) -> None:
    """Refuse what cannot be read before anything runs."""
    if ("weight_grad_batches", "synflow") in wanted:
        raise LayerError("weight_grad_batches: synflow runs one sample, which has no mini-batches; use data or noise")
    if "heads" in names and not all(block.heads for block in blocks):
        raise LayerError(
            "heads: this model does not show its number of heads; pass layers=[{..., 'heads': NUMBER}, ...]"
        )
    for name in sorted(names & OF_BLOCK.keys()):
        if all(OF_BLOCK[name](block) for block in blocks):
            continue
        raise LayerError(
            f"{name}: this model does not show its attention probabilities: its blocks have no softmax module; "
            "if they have one of another name, pass layers=[{..., 'softmax': NAME}, ...]"
        )


def checked_batch(inputs: Tensor | None, targets: Tensor | None, halved: bool) -> Tensor:
    """The inputs, detached. Raises LayerError for what is no batch with its class numbers, and for an odd number of
    samples where the batch is `halved`."""
    if inputs is None:
        raise LayerError("this formula runs the network: give it a batch of inputs")
    if not isinstance(inputs, Tensor) or not inputs.ndim or not len(inputs):
        raise LayerError("the batch of inputs must be a tensor, samples first, with at least one sample")
    if halved and len(inputs) % 2:
        raise LayerError(f"weight_grad_batches halves the batch: give an even number of samples, not {len(inputs)}")
    if targets is not None and (targets.shape != inputs.shape[:1] or targets.is_floating_point()):
        raise LayerError(
            f"targets must be {len(inputs)} class numbers, one for each sample, "
            f"not a tensor of shape {tuple(targets.shape)} and {targets.dtype}"
        )
    return inputs.detach()


@contextmanager
def untouched(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode and gradients on inside; modes and random generators as before afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    state = random.getstate()
    try:
        with torch.random.fork_rng(_cuda_devices(model)), torch.inference_mode(False), torch.enable_grad():
            for module, _ in modes:
                module.training = False
            yield
    finally:
        random.setstate(state)
        for module, mode in modes:
            module.training = mode


def _cuda_devices(model: torch.nn.Module) -> list[int]:
    return sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})


def forward(model: torch.nn.Module, parameters: Mapping[str, Tensor], x: Tensor, seed: int) -> object:
    """The model's output with these parameters: the same whatever ran before, and its buffers stay as they are."""
    random.seed(seed)
    torch.default_generator.manual_seed(seed)
    for device in _cuda_devices(model):
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    return torch.func.functional_call(model, {**parameters, **buffers}, (x.clone(),))


def _slots(blocks: Sequence[Block]) -> list[str]:
    """The slots that every block has."""
    return [slot for slot in SLOTS if all(slot in block.linears for block in blocks)]


def _read_structure(reading: Reading, model: torch.nn.Module, blocks: Sequence[Block], names: set[str]) -> None:
    """What can be read without running the model: all numbers, and the weights if they are wanted."""
    slots = _slots(blocks)
    for name, statistic in STATISTICS.items():
        if statistic.of_net and (number := statistic.of_net(model, blocks)) is not None:
            reading.net[name] = float(number)
        if statistic.at_layer:
            for slot in slots:
                shown = [statistic.at_layer(Place(model, blocks, number, slot)) for number in range(len(blocks))]
                numbers = [float(number) for number in shown if number is not None]
                if len(numbers) == len(blocks):
                    reading.layers[name, slot] = numbers
    if "weight" in names:
        for slot in slots:
            places = [Place(model, blocks, number, slot) for number in range(len(blocks))]
            reading.matrices["weight", "", slot] = [_joined(place.weights, 0) for place in places]
    reading.samples["weight", ""] = 1


def _read_shapes(
    reading: Reading, model: torch.nn.Module, blocks: Sequence[Block], inputs: Tensor, seed: int, count: bool
) -> None:
    """Tokens of every layer, and, to `count`, multiply-adds as torch's own counter has them, on one all-zero sample."""
    counter = FlopCounterMode(display=False)
    slots = _slots(blocks)
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    paths = [block.linears[slot][0] for block in blocks for slot in slots]
    # The counter does not know the fused attention of every device, but it does know the products it consists of.
    with captured(model, paths) as seen, torch.no_grad(), sdpa_kernel(SDPBackend.MATH), ExitStack() as stack:
        if count:
            stack.enter_context(counter)
        forward(model, parameters, torch.zeros_like(inputs[:1]), seed)
    if count:
        reading.net["flops"] = counter.get_total_flops() / 2
    for slot in slots:
        outputs = [seen[block.linears[slot][0]] for block in blocks]
        reading.layers["tokens", slot] = [float(out.numel() // out.shape[-1]) for out in outputs]


def probe_batch(probe: str, inputs: Tensor, targets: Tensor | None, seed: int) -> tuple[Tensor, Tensor | None]:
    """The inputs and targets that a probe runs; without targets, random ones are drawn later."""
    if probe == "data":
        return inputs, targets
    if probe == "synflow":
        return torch.ones_like(inputs[:1]), None
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(inputs.shape, generator=generator, dtype=torch.float32, device="cpu").to(inputs), None


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
    y = _random_targets(len(x), seed) if y is None else y.clone()
    plain = names - {"weight_grad_batches"}
    if plain:
        for (name, slot), tensors in _run(model, blocks, probe, plain, x, y, seed).items():
            reading.matrices[name, probe, slot] = tensors
        for name in plain:
            reading.samples[name, probe] = 1 if name == "weight_grad" else len(x)
    if "weight_grad_batches" in names:
        halves = [
            _run(model, blocks, probe, {"weight_grad"}, part, labels, seed)
            for part, labels in zip(x.chunk(2), y.chunk(2), strict=True)
        ]
        for name, slot in halves[0]:
            both = zip(halves[0][name, slot], halves[1][name, slot], strict=True)
            reading.matrices["weight_grad_batches", probe, slot] = [torch.cat(pair) for pair in both]
        reading.samples["weight_grad_batches", probe] = 2


def _random_targets(samples: int, seed: int) -> Tensor:
    """Numbers in [0, 1) that become random classes once the number of classes is known."""
    generator = torch.Generator().manual_seed(seed + 1)
    return torch.rand(samples, generator=generator, dtype=torch.float32, device="cpu")


def logits_of(output: object) -> Tensor:
    """The class scores in what a model returns. Raises LayerError where there are none."""
    logits = getattr(output, "logits", output)
    logits = logits[0] if isinstance(logits, tuple) else logits
    if not isinstance(logits, Tensor):
        raise LayerError(f"the model returns {type(output).__name__}; class scores (samples × classes) are needed")
    return logits


def loss_of(output: object, probe: str, y: Tensor) -> Tensor:
    """The loss of a probe: the sum of the outputs for `synflow`, else cross-entropy. Raises LayerError for outputs
    that are no class scores, and targets that are no classes of the model."""
    logits = logits_of(output)
    if not logits.requires_grad:
        raise LayerError(
            "no gradient reaches the model's layers: its forward pass detaches them, or runs under no_grad"
        )
    if probe == "synflow":
        return logits.sum()
    if logits.ndim != 2 or len(logits) != len(y):
        raise LayerError(
            f"the model returns a tensor of shape {tuple(logits.shape)} for {len(y)} samples; "
            "class scores (samples × classes) are needed"
        )
    classes = logits.shape[1]
    y = (y * classes if y.is_floating_point() else y).to(logits.device).long()
    if not 0 <= int(y.min()) <= int(y.max()) < classes:
        raise LayerError(
            f"targets must be class numbers from 0 to {classes - 1}, as the model has {classes} classes; "
            f"there are some from {int(y.min())} to {int(y.max())}"
        )
    return functional.cross_entropy(_real(logits), y)


def _run(
    model: torch.nn.Module,
    blocks: Sequence[Block],
    probe: str,
    names: set[str],
    x: Tensor,
    y: Tensor,
    seed: int,
) -> dict[tuple[str, str], list[Tensor]]:
    """Forward, and backward where a gradient is wanted: (statistic, slot) → one matrix for each block."""
    slots = _slots(blocks)
    linears = [path for block in blocks for slot in slots for path in block.linears[slot]]
    parameters = {name: p.clone() if p.is_inference() else p.detach() for name, p in model.named_parameters()}
    if probe == "synflow":
        parameters = {name: p.abs() for name, p in parameters.items()}
    gradient = bool(names & {"weight_grad", "act_grad"})
    weights = _weight_names(model, linears)
    if gradient:
        for name in weights.values():
            parameters[name].requires_grad_()
    paths = linears if names & {"act", "act_grad"} else []
    of_block = {name: [OF_BLOCK[name](block) for block in blocks] for name in sorted(names & OF_BLOCK.keys())}
    paths = paths + [path for each in of_block.values() for path in each]
    of: dict[tuple[str, str], Tensor] = {}
    with captured(model, paths) as seen, torch.set_grad_enabled(gradient):
        output = forward(model, parameters, x, seed)
        if gradient:
            sources = {("act_grad", path): seen[path] for path in linears if "act_grad" in names}
            if "weight_grad" in names:
                sources |= {("weight_grad", path): parameters[_weight_name(weights, path)] for path in linears}
            grads = torch.autograd.grad(loss_of(output, probe, y), list(sources.values()), allow_unused=True)
            for (key, source), grad in zip(sources.items(), grads, strict=True):
                of[key] = torch.zeros_like(source) if grad is None else grad
    of |= {("act", path): seen[path].detach() for path in paths}
    found = {
        (name, slot): [
            _joined([_flat(of[name, path]) for path in block.linears[slot]], 0 if name == "weight_grad" else 1)
            for block in blocks
        ]
        for name in sorted(names - of_block.keys())
        for slot in slots
    }
    found |= {(name, "attn"): [_real(_flat(of["act", path])) for path in each] for name, each in of_block.items()}
    return found


def _weight_names(model: torch.nn.Module, linears: Iterable[str]) -> dict[str, str]:
    """path → the name of its weight among the parameters; layers may share one. Computed weights have none."""
    names = {id(p): name for name, p in model.named_parameters()}
    found = {path: names.get(id(model.get_submodule(path).weight)) for path in linears}
    return {path: name for path, name in found.items() if name is not None}


def _weight_name(weights: Mapping[str, str], path: str) -> str:
    if path not in weights:
        raise LayerError(f"weight_grad: the weight of '{path}' is computed from others, not a parameter of the model")
    return weights[path]


@contextmanager
def captured(model: torch.nn.Module, paths: Sequence[str]) -> Iterator[Mapping[str, Tensor]]:
    """The modules' outputs by path, as a forward pass inside the context produces them.

    What follows in the network gets a copy, because it might change it in place.
    """
    seen = _Seen()

    def keeper(path: str):
        def keep(module, args, output):
            if not isinstance(output, Tensor):
                raise LayerError(f"module '{path}' gives {type(output).__name__}, not a tensor")
            if output.is_floating_point() and torch.is_grad_enabled() and not output.requires_grad:
                output.requires_grad_()
            seen[path] = output
            return output.clone()

        return keep

    handles = []
    try:
        for path in paths:
            handles.append(model.get_submodule(path).register_forward_hook(keeper(path)))
        yield seen
    finally:
        for handle in handles:
            handle.remove()


class _Seen(dict[str, Tensor]):
    """Outputs by path."""

    def __missing__(self, path: str) -> Tensor:
        raise LayerError(f"layer '{path}' does not run in the model's forward pass, so it has no output to read")


def _joined(parts: Sequence[Tensor], axis: int) -> Tensor:
    return _real(parts[0] if len(parts) == 1 else torch.cat(list(parts), axis))


def _flat(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1, tensor.shape[-1])


def _real(tensor: Tensor) -> Tensor:
    """float32 or float64 as it is; half precision as float32."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()
