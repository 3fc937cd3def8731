"""A small zoo in place of the zoo: formulas, a function that fails on some networks, a function that trains."""

import dataclasses
from collections.abc import Callable

import torch

from autoprox.primitives import find_blocks
from autoprox.zoo import ZOO, ZooError, ZooProxy

FORMULAS = {
    "weights": "sum(fro(weight))",
    "snip": "sum(l1(weight * weight_grad))",
    "both": "sum(l1(weight_grad[noise] * weight_grad[synflow]))",
    "zico": "sum(log(sum(batch_mean(abs(weight_grad_batches)) / batch_std(weight_grad_batches))))",
    "shapes": "sum(fan_in[qkv] / tokens[fc1]) * flops",
    "attention": "mean(fro(attn[noise])) + mean(max(act[fc1])) * depth",
    "closed": "depth * width",
}


def fails_on_deep(
    model: torch.nn.Module, inputs: torch.Tensor, targets: torch.Tensor, seed: int, layers: object
) -> float:
    depth = len(find_blocks(model))
    if depth > 12:
        raise ZooError(f"{depth} blocks are too many")
    if depth == 11:
        raise RuntimeError("linalg.svd: did not converge\nmore")
    return float(inputs.sum()) + depth + seed


def zoo_entry(function: Callable[..., float], *, training_free: bool = True) -> ZooProxy:
    return ZooProxy("f", "made up", "forward", "all", "none", function=function, latex="f", training_free=training_free)


SMALL = {name: dataclasses.replace(ZOO["snip"], name=name, formula=text, latex="") for name, text in FORMULAS.items()}
SMALL["fails"] = dataclasses.replace(zoo_entry(fails_on_deep), name="fails")
SMALL["steps"] = dataclasses.replace(zoo_entry(lambda *_: 1.0, training_free=False), name="steps")
