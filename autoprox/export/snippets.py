"""Snippets: the functions of an exported file that find layers and read statistics, with no more than a formula needs.

They do in few lines for one formula what `primitives` does for any. The tests compare the scores of both, bit for bit,
on every statistic and probe.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from autoprox.export.counting import ACTIVATIONS, COUNTED, LOGITS
from autoprox.export.needs import ATTENTION, MATRIX, Needs, NetworkRun
from autoprox.scoring import LIMIT

#: Width of the file.
LINE = 120

_LAYER_ERROR = '''\
# From here on: how the layers are found and read. The operations of the formula come last.
class LayerError(ValueError):
    """A model or a batch that lacks what the formula reads."""
'''

_PROXY_ERROR = '''\
class ProxyError(ValueError):
    """A model that has no score."""
'''

_FOUND = """\
    modules = dict(model.named_modules())
    if layers is None:
        names = {"qkv": "attn.qkv", "proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}
        found = [{slot: f"{path}.{name}".lstrip(".") for slot, name in names.items()} for path in modules]
        layers = [block for block in found if all(isinstance(modules.get(p), torch.nn.Linear) for p in block.values())]
"""

_FOUND_ATTENTION = """\
        for block in layers:
            attention = block["qkv"].removesuffix(".qkv")
            block |= {"softmax": f"{attention}.softmax", "heads": getattr(modules[attention], "num_heads", 0)}
"""

_NONE_FOUND = """\
    if not layers:
        raise LayerError(
            f"found no transformer block in {type(model).__name__}: no module is named like '*.attn.qkv'; "
            "pass layers=[{'qkv': NAME, 'proj': NAME, 'fc1': NAME, 'fc2': NAME}, ...], one item a block"
        )
"""

_LINEARS = """\
        for slot, paths in block.items():
            block[slot] = [paths] if isinstance(paths, str) else list(paths)
            if not block[slot] or not all(isinstance(modules.get(path), torch.nn.Linear) for path in block[slot]):
                raise LayerError(f"the formula reads '{slot}' of every block; {paths!r} names no linear layer")
"""

#: The same where weights are read: a layer whose forward pass is its own may use a part of its weight.
_PLAIN_LINEARS = """\
        for slot, paths in block.items():
            block[slot] = [paths] if isinstance(paths, str) else list(paths)
            if {getattr(type(modules.get(p)), "forward", None) for p in block[slot]} != {torch.nn.Linear.forward}:
                raise LayerError(f"the formula reads '{slot}' of every block; {paths!r} names no plain linear layer")
"""

_SOFTMAX = """\
        block["attn"] = [given.get("softmax")]
        if block["attn"][0] not in modules:
            raise LayerError(
                "attn: this model does not show its attention probabilities: its blocks have no softmax module; "
                "if they have one of another name, pass layers=[{..., 'softmax': NAME}, ...]"
            )
"""

_HEADS = """\
        block["heads"] = given.get("heads", 0)
        if not block["heads"]:
            raise LayerError(
                "heads: this model does not show its number of heads; pass layers=[{..., 'heads': NUMBER}, ...]"
            )
"""

_MATRIX = '''\
def matrix(name: str, paths: list[str], read: dict) -> Tensor:
    """Return a statistic of one layer, checked; where several linears make up the layer, they are joined."""
    whole = torch.cat([read[name, path].flatten(0, -2) for path in paths], 0 if name.startswith("weight") else 1)
    whole = whole if whole.dtype == torch.float64 else whole.float()
    if wrong := whole.numel() - int(torch.isfinite(whole).sum()):
        raise ProxyError(
            f"no score: {wrong} of {whole.numel()} entries of '{name}' of {', '.join(paths)} are NaN or infinite; "
            "look at the model's initial weights and at the inputs"
        )
    return whole
'''

#: What is checked too where SynFlow is read, whose products over all layers may be beyond what formulas compute with.
_BELOW_LIMIT = """\
    if bool((whole.abs() >= LIMIT).any()):
        raise ProxyError(f"no score: entries of '{name}' of {', '.join(paths)} are above LIMIT, where formulas stop")
"""

_CHECK_GRADIENT = '''\
def check_gradient(model: torch.nn.Module, name: str, *runs: dict) -> None:
    """Check that a gradient is not exactly 0 in half of the layers: such a model does not show what is scored."""
    read = [key for key in runs[0] if key[0] == name.removesuffix("_batches")]
    zero = sum(not any(bool(run[key].any()) for run in runs) for key in read)
    if 2 * zero >= len(read):
        zeros = [n for n, p in model.named_parameters() if "bias" not in n and p.dim() != 3 and not p.any()]
        named = ", ".join(zeros[:3]) + f" and {len(zeros) - 3} more" * (len(zeros) > 3)
        why = f"these start at 0: {named}" if zeros else "there is one class, or a scale of 0"
        raise ProxyError(
            f"no score: '{name}' is exactly 0 in {zero} of {len(read)} layers, which nothing of the loss reaches: "
            f"{why}; give other initial weights{', as autoprox.fill_zeros does' if zeros else ''}"
        )
'''

_UNTOUCHED = '''\
@contextmanager
def untouched(model: torch.nn.Module, seed: int) -> Iterator[dict[str, Tensor]]:
    """Yield parameters and copied buffers to run the model with: seeded, in evaluation mode, all put back later."""
    modes, state = [(module, module.training) for module in model.modules()], random.getstate()
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    try:
        with torch.random.fork_rng(devices), torch.inference_mode(False), torch.enable_grad():
            random.seed(seed)
            torch.default_generator.manual_seed(seed)
            for device in devices:
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
            for module, _ in modes:
                module.training = False
            own = {name: p.clone() if p.is_inference() else p.detach() for name, p in model.named_parameters()}
            yield own | {name: buffer.clone() for name, buffer in model.named_buffers()}
    finally:
        random.setstate(state)
        for module, mode in modes:
            module.training = mode
'''

_OUTPUTS = '''\
class Outputs(dict[str, Tensor]):
    """The outputs of modules by path, as a forward pass inside the context produces them."""

    def __init__(self, model: torch.nn.Module, paths: list[str]) -> None:
        self.hooks = [model.get_submodule(path).register_forward_hook(self.keeper(path)) for path in paths]

    def keeper(self, path: str):
        def keep(module: torch.nn.Module, args: tuple, output: Tensor) -> Tensor:
            if torch.is_grad_enabled() and not output.requires_grad:
                output.requires_grad_()
            self[path] = output
            return output.clone()  # what follows might change it in place

        return keep

    def __missing__(self, path: str) -> Tensor:
        raise LayerError(f"layer '{path}' does not run in the model's forward pass, so it has no output to read")

    def __enter__(self) -> Outputs:
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self.hooks:
            hook.remove()
'''

_LOGITS = """\
logits = getattr(output, "logits", output)
logits = logits[0] if isinstance(logits, tuple) else logits
if not isinstance(logits, Tensor) or not logits.requires_grad:
    raise LayerError("the model must return class scores (samples × classes) that depend on its layers")
"""

_CROSS_ENTROPY = """\
# A number in [0, 1) stands for a random class.
y = (y * logits.shape[-1] if y.is_floating_point() else y).to(logits.device).long()
if logits.ndim != 2 or logits.shape[:1] != y.shape or not 0 <= int(y.min()) <= int(y.max()) < logits.shape[1]:
    raise LayerError("the model must return class scores (samples × classes), and targets be its class numbers")
loss = torch.nn.functional.cross_entropy(logits if logits.dtype == torch.float64 else logits.float(), y)
"""

_PER_LAYER = '''\
def per_layer(blocks: list[dict], slots: tuple[str, ...], number: Callable[[int, dict, str], float]) -> Tensor:
    """Return a number for each layer, blocks × slots."""
    rows = [[float(number(row, block, slot)) for slot in slots] for row, block in enumerate(blocks)]
    return torch.tensor(rows, dtype=torch.float64)
'''


_OF_WEIGHTS = frozenset({"weight", "weight_grad", "weight_grad_batches", "fan_in", "fan_out"})


def block_finder(needs: Needs) -> str:
    """Return the function that finds the layers."""
    attention = bool(needs.names & {*ATTENTION, "heads"})
    lines = [
        "def find_blocks(model: torch.nn.Module, layers) -> list[dict]:\n",
        '    """Return the paths of each block\'s layers: those in `layers`, or else those with timm\'s names."""\n',
        _FOUND,
        _FOUND_ATTENTION if attention else "",
        _NONE_FOUND,
    ]
    if needs.slots or attention:
        given = "{slot: given.get(slot, ()) for slot in SLOTS}" if needs.slots else "{}"
        each = "for block, given in zip(blocks, layers, strict=True):" if attention else "for block in blocks:"
        lines += [
            f"    blocks = [{given} for given in layers]\n",
            f"    {each}\n",
            (_PLAIN_LINEARS if needs.names & _OF_WEIGHTS else _LINEARS) if needs.slots else "",
            _SOFTMAX if needs.names & ATTENTION else "",
            _HEADS if "heads" in needs.names else "",
            "    return blocks\n",
        ]
    else:
        lines.append("    return list(layers)\n")
    return "".join(lines)


def arguments(run: NetworkRun) -> list[str]:
    """Return the lists of paths that the function of a run takes."""
    names = set(run.names)
    return ["linears"] * bool(names - ATTENTION) + ["softmaxes"] * bool(names & ATTENTION)


def run_function(run: NetworkRun) -> str:
    """Return the function that runs the network once."""
    parameters = ["model: torch.nn.Module", *(f"{name}: list[str]" for name in arguments(run)), "x: Tensor"]
    parameters += ["y: Tensor"] * run.labelled + ["seed: int"]
    hooked = ["linears"] * bool(set(run.names) & {"act", "act_grad"}) + ["softmaxes"] * ("attn" in run.names)
    contexts = ["untouched(model, seed) as own"]
    if hooked:
        contexts.append(f"Outputs(model, {' + '.join(hooked)}) as outputs")
    if "attn_logits" in run.names:
        contexts.append("Inputs(model, softmaxes) as given")
    ways = "forwards and backwards" if run.differentiates else "forwards"
    if not run.differentiates:
        contexts.append("torch.no_grad()")
    lines = [
        _fitting(f"def {run.function}(", [", ".join(parameters)], ") -> dict:"),
        f'    """Run the network {ways}; return what is read by (statistic, path of the layer)."""',
        _fitting("    with ", contexts, ":", "("),
    ]
    if run.probe == "synflow":
        lines.append("        own |= {name: own[name].abs() for name, _ in model.named_parameters()}")
    lines += [f"        {line}" for line in (_backward(run) if run.differentiates else _forward(run))]
    *others, last = lines  # what is assigned last is returned instead
    value = last.strip().removeprefix("read = ").replace("read |= ", "read | ")
    return "\n".join([*others, f"    return {value}"]) + "\n"


def _fitting(before: str, parts: Sequence[str], after: str, bracket: str = "") -> str:
    """Return the parts with commas on one line, or, where that is too long, on a line each.

    `bracket` opens only where there are several lines; each part then ends with a comma.
    """
    line = f"{before}{', '.join(parts)}{after}"
    if len(line) <= LINE:
        return line
    indent = " " * (len(before) - len(before.lstrip()))
    comma, closing = ("," * bool(bracket), ")" if bracket else "")
    inner = "".join(f"{indent}    {part}{comma}\n" for part in parts)
    return f"{before}{bracket}\n{inner}{indent}{closing}{after}"


def _forward(run: NetworkRun) -> Iterator[str]:
    yield "torch.func.functional_call(model, own, (x.detach().clone(),))"
    yield from _kept(run, "read = ")


def _backward(run: NetworkRun) -> Iterator[str]:
    yield "names = {id(p): name for name, p in model.named_parameters()}"
    yield "of = {path: names.get(id(model.get_submodule(path).weight)) for path in linears}"
    first = "sources = "
    if "weight_grad" in run.names:
        yield "if None in of.values():"
        yield '    raise LayerError("weight_grad: the weight of a layer is computed from others, not a parameter")'
        yield 'sources = {("weight_grad", path): own[name].requires_grad_() for path, name in of.items()}'
        first = "sources |= "
    else:
        yield "for name in filter(None, of.values()):"
        yield "    own[name].requires_grad_()"
    yield "output = torch.func.functional_call(model, own, (x.detach().clone(),))"
    yield from _LOGITS.splitlines()
    if run.labelled:
        yield from _CROSS_ENTROPY.splitlines()
    if "act_grad" in run.names:
        yield first + '{("act_grad", path): outputs[path] for path in linears}'
    loss = "loss" if run.labelled else "logits.sum()"
    yield f"grads = torch.autograd.grad({loss}, list(sources.values()), allow_unused=True, materialize_grads=True)"
    yield "read = dict(zip(sources, grads, strict=True))"
    yield from _kept(run, "read |= ")


def _kept(run: NetworkRun, first: str) -> Iterator[str]:
    if "act" in run.names:
        yield first + '{("act", path): outputs[path].detach() for path in linears}'
        first = "read |= "
    if "attn" in run.names:
        yield first + '{("attn", path): outputs[path].detach() for path in softmaxes}'
        first = "read |= "
    if "attn_logits" in run.names:
        yield first + '{("attn_logits", path): given[path] for path in softmaxes}'


def _matrix_reader(needs: Needs) -> str:
    """Return the function that returns the matrix of a statistic."""
    checked = _BELOW_LIMIT.replace("LIMIT", LIMIT) if any(run.probe == "synflow" for run in needs.runs) else ""
    return _MATRIX.replace("    return whole\n", f"{checked}    return whole\n")


def functions(needs: Needs) -> list[str]:
    """Return the functions and classes that the file of a formula needs, besides `score` and the operations."""
    runs = {run.function: run for run in needs.runs}
    hooks = needs.counts or any(set(run.names) - {"weight_grad"} for run in needs.runs)
    per_layer = bool(needs.names & {"fan_in", "fan_out", "heads", "tokens", "position"})
    chosen = [
        (True, _LAYER_ERROR), (True, _PROXY_ERROR), (True, block_finder(needs)),
        (needs.matrices, _matrix_reader(needs)), (per_layer, _PER_LAYER),
        *((True, run_function(run)) for run in runs.values()),
        (any(run.differentiates for run in needs.runs), _CHECK_GRADIENT),
        (needs.counts, COUNTED),
        ("activations" in needs.names, ACTIVATIONS), (needs.batch, _UNTOUCHED), (hooks, _OUTPUTS),
        ("attn_logits" in needs.names, LOGITS),
    ]  # fmt: skip
    return [text.rstrip("\n") for wanted, text in chosen if wanted]


def reading_lines(needs: Needs) -> Iterator[str]:
    """Yield the lines of `score` that find the layers and run the network."""
    yield ("" if needs.names <= {"params", "flops", "activations"} else "blocks = ") + "find_blocks(model, layers)"
    if needs.slots and (needs.weights or needs.batch):
        yield "linears = [path for block in blocks for slot in SLOTS for path in block[slot]]"
    elif needs.counts:
        yield "linears: list[str] = []"
    if needs.names & ATTENTION:
        yield 'softmaxes = [block["attn"][0] for block in blocks]'
    if needs.weights:
        yield 'weights = {("weight", path): model.get_submodule(path).weight.detach() for path in linears}'
    if needs.batch:
        yield "if inputs is None:"
        yield '    raise LayerError("this formula runs the network: give it a batch of inputs")'
    if "weight_grad_batches" in needs.names:
        yield "if len(inputs) % 2:"
        yield '    raise LayerError("weight_grad_batches halves the batch: give an even number of samples")'
    if needs.checked_slots:
        yield "# Checked before the run: a weight that is not finite would spread to all that the run computes."
        each = f"for slot in {needs.slots_text(needs.checked_slots)}"
        yield f'checked = [{{slot: matrix("weight", block[slot], weights) {each}}} for block in blocks]'
    yield from _drawn_lines(needs)
    if needs.counts:
        names = ["tokens" if "tokens" in needs.names else "_", "flops" if "flops" in needs.names else "_"]
        yield f"{', '.join(names)} = counted(model, linears, inputs, seed)"
    if "activations" in needs.names:
        yield "activations = count_activations(model, inputs, seed)"
    for run in needs.runs:
        yield from _run_lines(run)


def _drawn_lines(needs: Needs) -> Iterator[str]:
    """Yield the lines that draw random classes, where there may be no targets, and Gaussian inputs."""
    if any(run.labelled for run in needs.runs):
        yield "generator = torch.Generator().manual_seed(seed + 1)"
        yield 'classes = torch.rand(len(inputs), generator=generator, dtype=torch.float32, device="cpu")'
    if any(run.probe == "noise" for run in needs.runs):
        yield "generator = torch.Generator().manual_seed(seed)"
        yield 'gaussian = torch.randn(inputs.shape, generator=generator, dtype=torch.float32, device="cpu").to(inputs)'


def _run_lines(run: NetworkRun) -> Iterator[str]:
    x = {"data": "inputs", "noise": "gaussian", "synflow": "torch.ones_like(inputs[:1])"}[run.probe]
    y = {"data": "classes if targets is None else targets", "noise": "classes"}.get(run.probe, "")
    model = ", ".join(["model", *arguments(run)])
    if run.halves:
        labels = f"({y})" if run.probe == "data" else y
        yield f"halves = zip({x}.chunk(2), {labels}.chunk(2), strict=True)"
        yield f"{run.variable} = [{run.function}({model}, *half, seed) for half in halves]"
    else:
        yield f"{run.variable} = {run.function}({', '.join([model, x, *([y] if run.labelled else []), 'seed'])})"
    for name in run.names:
        if MATRIX[name]:
            read = f'"{name}_batches", *{run.variable}' if run.halves else f'"{name}", {run.variable}'
            yield f"check_gradient(model, {read})"
