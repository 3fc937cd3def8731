"""Tools of the zoo's functions: lists of weights, losses and gradients, and what a network's modules compute."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from posixpath import commonpath

import torch
from torch import Tensor, nn

from autoprox.primitives import Block, LayerError
from autoprox.primitives.batch import logits_of, loss_of
from autoprox.primitives.capture import captured_forward, forward
from autoprox.primitives.errors import backward_failed
from autoprox.primitives.find_blocks.named import SLOTS
from autoprox.primitives.find_blocks.runs import canonical_blocks
from autoprox.primitives.find_blocks.used import may_use_part, used_in_part
from autoprox.primitives.sharing import computed_once
from autoprox.primitives.untouched import untouched
from autoprox.scoring import Layers, ProxyError, blocks_of, lead_nowhere, why_no_gradient


class ZooError(ProxyError):
    """A proxy that is undefined for a network or batch, or a record that is wrong; one line says why."""


#: Modules that hold weights, with the names of these.
_WEIGHTS: tuple[tuple[type[nn.Module], tuple[str, ...]], ...] = (
    (nn.Linear, ("weight",)),
    (nn.Conv1d, ("weight",)),
    (nn.Conv2d, ("weight",)),
    (nn.Conv3d, ("weight",)),
    (nn.MultiheadAttention, ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")),
)


def network_weights(model: nn.Module) -> list[str]:
    """Return the names of the weights of every linear and convolution, in the order of the modules.

    Patch embedding and classifier are among them. A weight that modules share is named once.

    Raises:
        LayerError: there are none.
    """
    return computed_once("network weights", (model,), lambda: _network_weights(model))


def _network_weights(model: nn.Module) -> list[str]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    weights = [
        getattr(module, name)
        for module in model.modules()
        for kind, own in _WEIGHTS
        if isinstance(module, kind)
        for name in own
    ]
    found = dict.fromkeys(names[id(weight)] for weight in weights if id(weight) in names)
    if not found:
        raise LayerError(f"{type(model).__name__} has no linear or convolution with a weight of its own")
    return list(found)


def whole_weights(model: nn.Module, inputs: Tensor, seed: int) -> None:
    """Check that the model's layers use their whole weights, for a proxy that reads these as they are declared.

    Raises:
        ZooError: a layer may use a part, as those of supernets do.
    """
    fix = "and this proxy reads whole weights; score a network that has the subnet's own weights"
    for path, module in model.named_modules():
        if may_use_part(module):
            raise ZooError(
                f"layer '{path}' is a {type(module).__name__}, which may use a part of its weight only, {fix}"
            )
    with untouched(model), torch.no_grad():
        for path in used_in_part(model, inputs, seed):
            raise ZooError(f"the forward pass uses a part of the weight of layer '{path}' only, {fix}")


def network_blocks(model: nn.Module, inputs: Tensor, layers: Layers = None) -> tuple[Block, ...]:
    """Return the model's blocks, their layers named as a forward pass knows them."""

    listed = "blocks" if layers is None else "given blocks"  # of which there is one list wherever results are shared
    return computed_once(listed, (model, inputs), lambda: canonical_blocks(model, blocks_of(model, inputs, layers)))


def block_linears(blocks: Sequence[Block]) -> list[str]:
    """Return the names of the blocks' linears, in forward order."""
    return [path for block in blocks for slot in SLOTS for path in block.linears.get(slot, ())]


def slot_linears(blocks: Sequence[Block], slot: str) -> list[str]:
    """Return the name of the linear `slot` of every block, in forward order.

    Raises:
        LayerError: not every block has exactly one.
    """
    if not all(len(block.linears.get(slot, ())) == 1 for block in blocks):
        raise LayerError(f"not every block has one '{slot}'")
    return [block.linears[slot][0] for block in blocks]


def block_paths(blocks: Sequence[Block]) -> list[str]:
    """Return the path of each block's module: the common beginning of its linears' paths.

    Raises:
        LayerError: blocks are not modules of their own, or run more than once.
    """
    linears = [[path.replace(".", "/") for path in block_linears([block])] for block in blocks]
    paths = [commonpath(each).replace("/", ".") if len(each) > 1 else "" for each in linears]
    if len(set(paths)) < len(paths) or not all(paths) or any("#" in path for each in linears for path in each):
        raise LayerError("needs blocks that are modules of their own and run once")
    return paths


def weight_name(known: Collection[str], layer: str) -> str:
    """Return the name of a layer's weight among the parameters `known`, whichever of the layer's runs is meant."""
    path = layer.partition("#")[0]
    return path if path in known else f"{path}.weight"


def detached(model: nn.Module, differentiable: Collection[str] = ()) -> dict[str, Tensor]:
    """Return the model's parameters by name, detached; those in `differentiable` require a gradient.

    Raises:
        LayerError: one of these is no parameter, because it is computed from others.
    """
    found = {name: p.clone().detach() if p.is_inference() else p.detach() for name, p in model.named_parameters()}
    for name in differentiable:
        if name not in found:
            raise LayerError(f"'{name}' is computed from others, not a parameter of the model")
        found[name] = found[name].requires_grad_()
    return found


def class_loss(model: nn.Module, parameters: Mapping[str, Tensor], x: Tensor, y: Tensor, seed: int) -> Tensor:
    """Return the cross-entropy of the model with these parameters, mean over the samples."""
    return loss_of(forward(model, parameters, x, seed), "data", y)


def random_classes(model: nn.Module, inputs: Tensor, seed: int) -> Tensor:
    """Draw a class for each sample from the seed: the same that a formula reads where there are no targets."""
    with untouched(model), torch.no_grad():
        classes = logits_of(forward(model, detached(model), inputs[:1], seed)).shape[-1]
    generator = torch.Generator().manual_seed(seed + 1)
    return (torch.rand(len(inputs), generator=generator) * classes).long().to(inputs.device)


def output_sum(model: nn.Module, parameters: Mapping[str, Tensor], x: Tensor, seed: int) -> Tensor:
    """Return the sum of the model's outputs with these parameters, over classes and samples."""
    return loss_of(forward(model, parameters, x, seed), "synflow", torch.empty(0))


def gradients(value: Tensor, of: Sequence[Tensor], *, create_graph: bool = False) -> list[Tensor]:
    """Return ∂value/∂t for each tensor t; 0 for one on which the value does not depend.

    Raises:
        ZooError: a gradient is not finite.
        LayerError: the backward pass raises an error.
    """
    try:
        found = torch.autograd.grad(value, of, create_graph=create_graph, allow_unused=True)
    except RuntimeError as error:
        raise backward_failed(error) from error
    slopes = [torch.zeros_like(t) if grad is None else grad for t, grad in zip(of, found, strict=True)]
    require_finite(slopes, "gradients")
    return slopes


def require_finite(tensors: Sequence[Tensor], what: str) -> None:
    """Check that tensors are finite.

    Raises:
        ZooError: one is not; the message calls them `what`.
    """
    # A finite sum has finite terms, and it is the faster test; an infinite sum can come from overflow.
    if not all(bool(torch.isfinite(t.sum())) or bool(torch.isfinite(t).all()) for t in tensors):
        raise ZooError(f"{what} are NaN or infinite; look at the initial weights and at the inputs")


def weight_gradients(
    model: nn.Module, names: Sequence[str], x: Tensor, y: Tensor, seed: int, at: Mapping[str, Tensor]
) -> list[Tensor]:
    """Return ∂L/∂W of the named weights, L the cross-entropy with the parameters `at`.

    Raises:
        ZooError: a gradient is not finite.
    """
    at = {**at, **{name: at[name].detach().requires_grad_() for name in names}}
    slopes = gradients(class_loss(model, at, x, y, seed), [at[name] for name in names])
    require_gradients(model, slopes)
    return slopes


def require_gradients(model: nn.Module, slopes: Sequence[Tensor]) -> None:
    """Check that gradients are not exactly 0 in most weights, because these show nothing of the model.

    Raises:
        ZooError: half of the weights inside the network, or more, have no gradient.
    """
    inside = slopes[1:-1] if len(slopes) > 3 else slopes  # patch embedding and classifier may have one all the same
    zero = sum(not bool(slope.any()) for slope in inside)
    if 2 * zero >= len(inside) and not (zero < len(inside) and lead_nowhere(model, slopes)):
        raise ZooError(
            f"no score: gradients are exactly 0 in {zero} of {len(inside)} layers, which nothing of the loss reaches: "
            f"{why_no_gradient(model)}"
        )


def correlations(rows: Tensor, what: str) -> Tensor:
    """Return Pearson's correlation of every two rows.

    Raises:
        ZooError: a row, which the message calls `what`, is constant and has no correlation.
    """
    centred = rows - rows.mean(1, keepdim=True)
    norms = centred.norm(dim=1, keepdim=True)
    if not bool((norms > 1e-12 * rows.abs().amax()).all()):
        raise ZooError(f"{what} is constant and has no correlation")
    return (centred / norms) @ (centred / norms).mT


def enough_samples(x: Tensor, least: int) -> None:
    """Check that a batch has at least so many samples.

    Raises:
        ZooError: it has fewer.
    """
    if len(x) < least:
        raise ZooError(f"needs at least {least} samples, not {len(x)}")


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosine of the angle between two tensors; 0 if one of them is zero."""
    return nn.functional.cosine_similarity(a.flatten().double(), b.flatten().double(), dim=0)


def outputs(model: nn.Module, layers: Sequence[str], x: Tensor, seed: int) -> list[Tensor]:
    """Return the outputs of linears in one forward pass without gradients, samples first and features last.

    Raises:
        ZooError: an output is not finite.
    """
    with torch.no_grad():
        _, seen = captured_forward(model, detached(model), x, seed, layers)
    found = [seen.by_sample(layer, seen.outputs[layer], len(x)) for layer in layers]
    require_finite(found, "activations")
    return found


@contextmanager
def module_outputs(model: nn.Module, paths: Sequence[str]) -> Iterator[Mapping[str, Tensor]]:
    """Open a context whose mapping, after a forward pass inside, holds each module's output by its path.

    What follows in the network gets a copy, because it might change it in place.
    """
    seen: dict[str, Tensor] = {}

    def keeper(path: str):
        def keep(module, args, output):
            if not isinstance(output, Tensor):
                raise LayerError(f"module '{path}' gives {type(output).__name__}, not a tensor")
            seen[path] = output
            return output.clone()

        return keep

    with ExitStack() as hooks:
        for path in paths:
            hooks.enter_context(model.get_submodule(path).register_forward_hook(keeper(path)))
        yield seen
