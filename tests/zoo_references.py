"""Reference implementations of the formulas and of some functions, from the papers and written without the language."""

import copy
import itertools
import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.stats import entropy
from tiny_vit import TinyVit, batch
from torch import Tensor, nn

LINEARS = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")


def linears(model: TinyVit, *names: str) -> list[nn.Linear]:
    return [block.get_submodule(name) for block in model.blocks for name in names or LINEARS]


def number(value: Tensor) -> float:
    return float(value.detach())


def with_gradients(model: TinyVit, probe: str = "data") -> TinyVit:
    model = copy.deepcopy(model)
    inputs, targets = batch()
    if probe == "synflow":
        for parameter in model.parameters():
            parameter.data.abs_()
        model(torch.ones(1, 3, 8, 8)).sum().backward()
    else:
        nn.functional.cross_entropy(model(inputs), targets).backward()
    return model


def synflow_of(log: bool) -> Callable[[TinyVit], float]:
    def score(model: TinyVit) -> float:
        found = with_gradients(model, "synflow")
        terms = [layer.weight * (layer.weight.grad + 1).log() if log else layer.weight * layer.weight.grad
                 for layer in linears(found)]  # fmt: skip
        return number(sum(term.abs().sum() for term in terms))

    return score


def dss(model: TinyVit) -> float:
    found = with_gradients(model, "synflow")
    diversity = sum(
        torch.linalg.matrix_norm(layer.weight.grad, "nuc") * torch.linalg.matrix_norm(layer.weight, "nuc")
        for layer in linears(found, "attn.qkv", "attn.proj")
    )
    saliency = sum((layer.weight.grad * layer.weight).abs().sum() for layer in linears(found, "mlp.fc1", "mlp.fc2"))
    return number(diversity + saliency)


def auto_prox_a(model: TinyVit) -> float:
    found = with_gradients(model, "synflow")
    msa = sum(layer.weight.grad.abs().sum() for layer in linears(found, "attn.qkv", "attn.proj"))
    mlp = sum(layer.weight.grad.sigmoid().mean() for layer in linears(found, "mlp.fc1", "mlp.fc2"))
    return number(msa + mlp)


def summed(reduce: Callable[[nn.Linear], Tensor]) -> Callable[[TinyVit], float]:
    """The sum of a number of each linear, with its gradients."""
    return lambda model: number(sum(reduce(layer) for layer in linears(with_gradients(model))))


def with_outputs(model: TinyVit) -> list[Tensor]:
    """The linears' outputs with their gradients, in forward order."""
    model, (inputs, targets), kept = copy.deepcopy(model), batch(), []

    def keep(module: nn.Module, args: object, output: Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    for layer in linears(model):
        layer.register_forward_hook(keep)
    nn.functional.cross_entropy(model(inputs), targets).backward()
    return kept


def fisher(model: TinyVit) -> float:
    outputs = with_outputs(model)
    return number(sum(((x * x.grad).sum(1) ** 2).mean(0).sum() / 2 for x in outputs))


def auto_prox(model: TinyVit) -> list[float]:
    scores = []
    for layer, output in zip(linears(model), with_outputs(model), strict=True):
        weight = layer.weight
        scaled = (weight - weight.min()) / (weight.max() - weight.min())
        scores.append(number(scaled.norm() + output.grad.sigmoid().sqrt().mean()))
    return scores


def auto_prox_normalised(model: TinyVit) -> float:
    found = with_gradients(model, "synflow")
    msa = sum(layer.weight.grad.abs().mean() for layer in linears(found, "attn.qkv", "attn.proj"))
    mlp = sum(layer.weight.grad.sigmoid().mean() for layer in linears(found, "mlp.fc1", "mlp.fc2"))
    return number(msa + mlp)


def halves(model: TinyVit) -> list[tuple[np.ndarray, ...]]:
    """Of each linear, the weight gradients of the batch's two halves."""
    inputs, targets = batch()
    gradients = []
    for half in (slice(0, 2), slice(2, 4)):
        part = copy.deepcopy(model)
        nn.functional.cross_entropy(part(inputs[half]), targets[half]).backward()
        gradients.append([layer.weight.grad.double().numpy() for layer in linears(part)])
    return list(zip(*gradients, strict=True))


def lswag_lambda(model: TinyVit) -> float:
    deviations = [np.std(np.abs(pair), axis=0) for pair in halves(model)]
    return sum(math.log((1 / deviation[deviation > 0]).sum()) for deviation in deviations)


def nwot_layers(model: TinyVit) -> float:
    total = 0.0
    for x in with_outputs(model)[2::4]:
        codes = (x > 0).flatten(1).numpy()
        kernel = [[float((one == other).sum()) for other in codes] for one in codes]
        total += np.linalg.slogdet(np.array(kernel))[1]
    return total


def zico(model: TinyVit) -> float:
    total = 0.0
    for pair in halves(model):
        deviation = np.std(pair, axis=0)
        kept = deviation > 0
        total += math.log((np.mean(np.abs(pair), axis=0)[kept] / deviation[kept]).sum())
    return total


def pruner_zero(model: TinyVit) -> float:
    total = 0.0
    for layer in linears(with_gradients(model)):
        gradient = layer.weight.grad.abs()
        scaled = (gradient - gradient.min()) / (gradient.max() - gradient.min())
        total += number(((layer.weight * layer.weight).abs() * scaled).sum())
    return total


def pattern_count(model: TinyVit) -> float:
    model, total = copy.deepcopy(model), []

    def count(module: nn.Module, args: object, output: Tensor) -> None:
        gelu = nn.functional.gelu(output).flatten(1)  # what an activation passes on is positive where its input is
        total.append(len({tuple(neuron.tolist()) for neuron in (gelu > 0).T}))

    for layer in linears(model, "mlp.fc1"):
        layer.register_forward_hook(count)
    model(batch()[0])
    return float(sum(total))


def attention_entropy(model: TinyVit) -> float:
    model, rows = copy.deepcopy(model), []

    def keep(module: nn.Module, args: object, output: Tensor) -> None:
        rows.extend(output.detach().double().flatten(0, -2).tolist())

    for block in model.blocks:
        block.attn.softmax.register_forward_hook(keep)
    model(batch()[0])
    return float(np.mean([-sum(p * math.log(p) for p in row) for row in rows]))


def info_nas(model: TinyVit) -> float:
    """Written block by block after the authors' description of each factor."""
    flows, total = [], 0.0
    for i, block in enumerate(model.blocks):
        heads, width = block.attn.num_heads, block.mlp.fc1.in_features
        before = 2.0 ** (12 - 2 / max(17 - i, 1))
        penalty = 1 + math.exp(-27.196547689121708 * (heads / (224 * 224 * 3 / width) - 0.10875665504668165))
        head = (1 + 4.405264203339544 * math.log(heads + 3.0298981004448753)) / penalty
        used = math.log(width) ** 2.1458925400545126 * head**1.144643514073649
        used *= (block.mlp.fc1.out_features / width) ** 0.5606274602095567
        total += before * used
        flows.append(before * before * used)
    gradient = sum(abs(after - earlier) for earlier, after in zip(flows, flows[2:], strict=False))
    consistency = sum(abs(a - b) for a, b in itertools.combinations(flows, 2))
    return (
        10.5544027118415 * total / 8.48754932e4
        + 1.211460571390166 * gradient / 1.01780331e8
        - 3.1005067530389736 * consistency / 1.49304970e9
    )


def intrain(model: TinyVit) -> float:
    """With numpy's covariance and eigenvalues, on the Gaussian input and classes of seed 0."""
    model, kept = copy.deepcopy(model), []
    noise = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    classes = (torch.rand(4, generator=torch.Generator().manual_seed(1)) * 5).long()
    for layer in linears(model):
        layer.register_forward_hook(lambda module, args, output: kept.append(output.detach().double()))
    nn.functional.cross_entropy(model(noise), classes).backward()
    capacity = 0.0
    for output in kept:
        values = np.linalg.eigvalsh(np.cov(output.flatten(0, 1).T.numpy(), bias=True)) + 1e-10
        capacity += math.log(values.sum() ** 2 / (values**2).sum())
    gradients = [parameter.grad.double().numpy() for parameter in model.parameters()]
    health = sum(min(1, np.std(g) / (np.abs(g).max() + 1e-10)) for g in gradients)
    return capacity * (1 + health) / math.log(len(kept) + 1)


def ibfs(model: TinyVit) -> float:
    """From the singular values of the samples' gradients."""
    rows = []
    for image in batch()[0]:
        alone = copy.deepcopy(model)
        alone(image[None]).sum().backward()
        found = [p.grad.flatten().double() for name, p in alone.named_parameters() if name.endswith("weight")]
        rows.append(torch.cat(found).numpy())
    squares = np.linalg.svd(np.array(rows), compute_uv=False) ** 2
    return float(entropy(squares))


def w_pca(model: TinyVit) -> float:
    total = 0
    for x in with_outputs(model)[2::4]:
        rows = x.detach().double().flatten(0, 1).numpy()
        shares = np.linalg.svd(rows - rows.mean(0), compute_uv=False) ** 2
        together, count = 0.0, 0
        while together <= 0.99 * shares.sum():
            together += shares[count]
            count += 1
        total += count
    return float(sum(p.numel() for p in model.parameters()) * total)


REFERENCES: dict[str, Callable[[TinyVit], float]] = {
    "params": lambda model: float(sum(p.numel() for p in model.parameters())),
    # 4 patches of 48 → 6; two blocks of four linears on 4 tokens and two products of 4 × 4 × 6; the classifier.
    "flops": lambda model: 4 * 48 * 6 + 2 * (4 * (6 * 18 + 6 * 6 + 2 * 6 * 9) + 2 * 4 * 4 * 6) + 6 * 5,
    "activations": lambda model: 4 * 6 + 2 * 4 * (18 + 6 + 9 + 6) + 5,  # of the same layers
    "depth": lambda model: 2.0,
    "width": lambda model: 6.0,
    "depth-times-width": lambda model: 12.0,
    "l2-norm": lambda model: number(sum(layer.weight.norm() for layer in linears(model))),
    "plain": summed(lambda layer: (layer.weight * layer.weight.grad).sum()),
    "grad-norm": summed(lambda layer: layer.weight.grad.norm()),
    "grad-l1": summed(lambda layer: layer.weight.grad.abs().sum()),
    "act-norm": lambda model: number(sum(x.norm() for x in with_outputs(model))),
    "act-grad-norm": lambda model: number(sum(x.grad.norm() for x in with_outputs(model))),
    "snip": summed(lambda layer: (layer.weight * layer.weight.grad).abs().sum()),
    "synflow": synflow_of(log=False),
    "logsynflow": synflow_of(log=True),
    "dss": dss,
    "fisher": fisher,
    "auto-prox": lambda model: float(np.mean(auto_prox(model))),
    "auto-prox-sum": lambda model: sum(auto_prox(model)),
    "auto-prox-a": auto_prox_a,
    "auto-prox-a-normalised": auto_prox_normalised,
    "pruner-zero": pruner_zero,
    "zico": zico,
    "lswag-lambda": lswag_lambda,
    "lswag-layers": lambda model: lswag_lambda(model) * pattern_count(model),
    "swap-layers": pattern_count,
    "nwot-layers": nwot_layers,
    "attention-entropy": attention_entropy,
    "info-nas": info_nas,
    "intrain": intrain,
    "ibfs": ibfs,
    "w-pca": w_pca,
}  # fmt: skip
REFERENCES["az-complexity"] = REFERENCES["flops"]
