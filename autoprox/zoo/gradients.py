"""Proxies of the zoo from gradients: of weights or of the input, over a batch or for each sample.

Every function takes (model, inputs, targets, seed, layers), returns a score that is higher for better networks, and
leaves the model as it was. "All weights" are those of every linear and convolution: in the blocks, patch embedding,
pooling and classifier. A gradient that is not finite raises ZooError.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from autoprox.primitives import LayerError
from autoprox.primitives.batch import loss_of
from autoprox.primitives.capture import captured_forward
from autoprox.primitives.passes import CLASSES, Need, Pass, Subject, Wanted
from autoprox.primitives.sharing import computed_once, met
from autoprox.primitives.untouched import untouched
from autoprox.scoring import Layers
from autoprox.zoo.needs import (
    class_gradients,
    class_gradients_by_half,
    class_gradients_by_sample,
    class_scores,
    gradients_of,
    input_jacobian,
    outputs_of,
    sum_gradients_by_sample,
    synflow_pairs,
    whole_batch,
)
from autoprox.zoo.tools import (
    ZooError,
    block_linears,
    class_loss,
    correlations,
    cosine,
    detached,
    enough_samples,
    gradients,
    network_blocks,
    network_weights,
    require_gradients,
    weight_name,
    whole_weights,
)

#: Added to eigenvalues and correlations before their logarithm (codes of NWOT's first version and of EPE-NAS).
EPSILON = 1e-5


def _pairs(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Return (W, ∂L/∂W) of all weights, L the cross-entropy."""
    subject = Subject(model, inputs, targets, seed)
    weights = detached(model)
    slopes = met(subject, class_gradients(subject))
    return list(zip([weights[name] for name in network_weights(model)], slopes, strict=True))


def _synflow_pairs(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Return (|W|, ∂R/∂|W|) of all weights; see `needs.synflow_pairs`."""
    subject = Subject(model, inputs, targets, seed)
    return met(subject, synflow_pairs(subject))


def l2_norm_all(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None) -> float:
    """Return Σ ‖W‖₂ over all weights (arXiv 2101.08134, code).

    Raises:
        ZooError: the model is a supernet, whose subnet uses parts of its weights.
    """
    whole_weights(model, inputs, seed)
    weights = detached(model)
    return sum(float(weights[name].double().norm()) for name in network_weights(model))


def plain_all(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None) -> float:
    """Return Σ W ∂L/∂W over all weights (arXiv 2101.08134, code)."""
    return sum(float((w * g).double().sum()) for w, g in _pairs(model, inputs, targets, seed))


def grad_norm_all(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None) -> float:
    """Return Σ ‖∂L/∂W‖₂ over all weights (arXiv 2101.08134)."""
    return sum(float(g.double().norm()) for _, g in _pairs(model, inputs, targets, seed))


def snip_all(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None) -> float:
    """Return Σ |W ∂L/∂W| over all weights (SNIP, arXiv 1810.02340; as a proxy, arXiv 2101.08134)."""
    return sum(float((w * g).double().abs().sum()) for w, g in _pairs(model, inputs, targets, seed))


def synflow_all(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None) -> float:
    """Return Σ |W| |∂R/∂|W|| over all weights (SynFlow, arXiv 2006.05467; as a proxy, arXiv 2101.08134)."""
    return sum(float((w.double() * g).abs().sum()) for w, g in _synflow_pairs(model, inputs, targets, seed))


def logsynflow_all(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None) -> float:
    """Return Σ |W| |log(∂R/∂|W| + 1)| over all weights (LogSynFlow, FreeREA, arXiv 2207.05135).

    A sum ∂R/∂|W| + 1 that is not positive counts as 1e-30.
    """
    pairs = _synflow_pairs(model, inputs, targets, seed)
    return sum(float((w.double() * (g.double() + 1).clamp(min=1e-30).log()).abs().sum()) for w, g in pairs)


def zico_all(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None) -> float:
    """Return Σ_l log Σ_w mean_b |g_b| / std_b g_b over all weights (ZiCo, arXiv 2301.11300).

    g_b is the gradient on half b of the batch. A weight whose gradient is the same on both halves is left out, and so
    is a layer with no other weights.

    Raises:
        ZooError: there are fewer than two samples.
    """
    enough_samples(inputs, 2)
    subject = Subject(model, inputs, targets, seed)
    first, second = (met(subject, half) for half in class_gradients_by_half(subject))
    score = 0.0
    for a, b in zip(first, second, strict=True):
        std = (a - b).double().abs() / 2
        ratios = ((a.abs() + b.abs()).double() / 2 / std)[std > 0]
        score += math.log(ratios.sum()) if len(ratios) else 0.0
    return score


def grasp(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None) -> float:
    """Return Σ −W ⊙ H g over all weights, g = ∂L/∂W and H the Hessian of L (GraSP, arXiv 2002.07376; 2101.08134).

    H g is computed as the gradient of gᵀ stop(g). Attention runs on the math kernel, the only one that can be
    differentiated twice.
    """
    with untouched(model), sdpa_kernel(SDPBackend.MATH):
        names = network_weights(model)
        at = detached(model, names)
        weights = [at[name] for name in names]
        first = gradients(class_loss(model, at, inputs, targets, seed), weights, create_graph=True)
        require_gradients(model, first)
        inner = sum((g * g.detach()).sum() for g in first)
        assert isinstance(inner, Tensor)
        return -sum(
            float((w.detach() * h).double().sum()) for w, h in zip(weights, gradients(inner, weights), strict=True)
        )


def gradsign(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None) -> float:
    """Return Σ_w |Σ_i sign ∂L_i/∂w| over all weights, L_i the loss of sample i (GradSign, arXiv 2110.08616).

    Raises:
        ZooError: there are fewer than two samples.
    """
    enough_samples(inputs, 2)
    subject = Subject(model, inputs, targets, seed)
    signs = [torch.zeros_like(p) for p in map(detached(model).__getitem__, network_weights(model))]
    for sample in class_gradients_by_sample(subject):
        for total, g in zip(signs, met(subject, sample), strict=True):
            total += g.sign()
    return sum(float(total.abs().double().sum()) for total in signs)


def jacov(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None) -> float:
    """Return −Σ [log(v + ε) + 1/(v + ε)], v the eigenvalues of the correlations between the samples' input gradients.

    An input gradient is that of the summed outputs with respect to the input; ε = 1e-5. No targets are read (NWOT's
    first version, arXiv 2006.04647v1).

    Raises:
        ZooError: there are fewer than two samples, or a sample's input gradient is constant.
    """
    enough_samples(inputs, 2)
    subject = Subject(model, inputs, targets, seed)
    rows = met(subject, input_jacobian(subject))
    values = torch.linalg.eigvalsh(correlations(rows, "a sample's input gradient")).clamp(min=0) + EPSILON
    return -float((values.log() + 1 / values).sum())


def epe_nas(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None) -> float:
    """Return Σ_c |s_c|, where s_c = Σ_ij log(|ρ_ij| + ε) correlates the input gradients within class c.

    For a network of more than 100 classes, the score is Σ |s_c − s_c'| over ordered pairs of classes, divided by the
    number of classes that count (EPE-NAS, arXiv 2102.08099, code). A class counts if it has at least two samples in
    the batch. The first form needs one such class, the second form two.

    Raises:
        ZooError: too few classes count, or a sample's input gradient is constant.
    """
    subject = Subject(model, inputs, targets, seed)
    rows = met(subject, input_jacobian(subject))
    classes = met(subject, class_scores(subject)).shape[-1]
    sums = []
    for number in targets.unique().tolist():
        members = rows[targets == number]
        if len(members) > 1:
            within = correlations(members, "a sample's input gradient")
            sums.append((within.abs() + EPSILON).log().sum())
    least = 1 if classes <= 100 else 2
    if len(sums) < least:
        raise ZooError(f"needs two samples in each of at least {least} classes; the batch has {len(sums)} such classes")
    found = torch.stack(sums)
    if classes <= 100:
        return float(found.abs().sum())
    return float((found[:, None] - found).abs().sum() / len(found))


def te_nas_ntk(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None) -> float:
    """Return −λ_max / λ_min of the neural tangent kernel Θ_ij = ⟨∇ f(x_i), ∇ f(x_j)⟩ (TE-NAS, arXiv 2102.11535, code).

    f is the sum of the outputs. ∇ is over every parameter called weight, those of norms included. The gradients of all
    samples are in memory together: samples · parameters numbers.

    Raises:
        ZooError: there are fewer than two samples, or the kernel is singular.
    """
    enough_samples(inputs, 2)
    kernel = tangent_kernel(Subject(model, inputs, targets, seed))
    values = torch.linalg.eigvalsh(kernel)
    if not values[0] > values[-1] * len(values) * torch.finfo(next(model.parameters()).dtype).eps:
        raise ZooError("the neural tangent kernel is singular: samples that are alike, or gradients that are zero")
    return -float(values[-1] / values[0])


def tangent_kernel(subject: Subject) -> Tensor:
    """Return ⟨∇ f(x_i), ∇ f(x_j)⟩ of every two samples, samples × samples in float64; see `te_nas_ntk`.

    Raises:
        ZooError: no gradient reaches the weights, or one is not finite.
    """
    return computed_once(
        "tangent kernel", (subject.model, subject.inputs, subject.seed), lambda: _tangent_kernel(subject)
    )


def _tangent_kernel(subject: Subject) -> Tensor:
    rows = [met(subject, sample) for sample in sum_gradients_by_sample(subject)]
    kernel = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    for i, row in enumerate(rows):
        wide = row.double()
        for j in range(i + 1):
            kernel[i, j] = kernel[j, i] = wide @ rows[j].double()
    return kernel


#: CRoZe's perturbations, of the sizes that are common in adversarial training: how far weights move, relative to the
#: norm of their layer, and how far each entry of the input moves.
WEIGHT_STEP = 0.01
INPUT_STEP = 8 / 255


def croze(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None) -> float:
    """Return Σ_l |(1 + cos(g', W)) · |cos(g', g)| · (1 + cos(f', f))| over the blocks' linears (CRoZe, NeurIPS 2023).

    f and g are the output and the weight gradient of layer l; f' and g' are those of the perturbed network on the
    perturbed input. First each W moves by WEIGHT_STEP ‖W‖ along its gradient. Then each entry of the input moves by
    INPUT_STEP along the sign of the perturbed network's gradient. The form is that of the authors' code; both sizes
    are our choice.

    Raises:
        ZooError: the model is a supernet, whose subnet uses parts of its weights.
    """
    whole_weights(model, inputs, seed)
    subject = Subject(model, inputs, targets, seed)
    need = clean_pass(subject, layers)
    paths, names = list(need.wanted.layers), [name for _, _, name in need.wanted.slopes]
    f, g = met(subject, need)
    with untouched(model):
        clean = detached(model, names)
        adversarial = dict(clean)
        for name, grad in zip(names, g, strict=True):
            scale = WEIGHT_STEP * clean[name].norm() / grad.norm().clamp(min=1e-30)
            adversarial[name] = (clean[name] + scale * grad).detach()
        moved = inputs.detach().clone().requires_grad_()
        slope = gradients(class_loss(model, adversarial, moved, targets, seed), [moved])[0]
        attack = (moved + INPUT_STEP * slope.sign()).detach()
        adversarial |= {name: adversarial[name].requires_grad_() for name in names}
        f_, g_ = _outputs_and_gradients(model, paths, names, adversarial, attack, targets, seed)
    score = 0.0
    for name, a, a_, b, b_ in zip(names, f, f_, g, g_, strict=True):
        score += float(((1 + cosine(b_, clean[name].detach())) * cosine(b_, b).abs() * (1 + cosine(a_, a))).abs())
    return score


def clean_pass(subject: Subject, layers: Layers = None) -> Need:
    """Return the outputs of the blocks' linears, and the gradients of their weights."""
    model = subject.model
    paths = block_linears(network_blocks(model, subject.inputs, layers))
    known = dict(model.named_parameters())
    names = [weight_name(known, path) for path in paths]
    if missing := [name for name in names if name not in known]:
        raise LayerError(f"'{missing[0]}' is computed from others, not a parameter of the model")

    def read(run: Pass) -> tuple[list[Tensor], list[Tensor]]:
        return outputs_of(run, paths), gradients_of(model, run, CLASSES, names)

    slopes = tuple((CLASSES, "parameter", name) for name in names)
    return Need(("outputs and gradients", *paths), whole_batch(subject), Wanted(tuple(paths), slopes=slopes), read)


def _outputs_and_gradients(model, paths, names, parameters, x, y, seed) -> tuple[list[Tensor], list[Tensor]]:
    """Return the outputs of layers and the gradients of their weights, from one run."""
    output, seen = captured_forward(model, parameters, x, seed, paths)
    slopes = gradients(loss_of(output, "data", y), [parameters[name] for name in names])
    require_gradients(model, slopes)
    return [seen.by_sample(path, seen.outputs[path].detach(), len(x)) for path in paths], slopes
