"""`proxy.score` beside a bare forward and backward of the same network: what reading and evaluating adds.

    python benchmarks/latency.py [--quick]

"Own" is what the formula itself needs: forward, and backward to what it reads, with the same parameters detached in the
same way, in evaluation mode, without hooks or a function mode. "Plain" is `loss.backward()` to all parameters, as a
training step has it. The three take turns; ratios are medians of the turns. The target is a score within 1.15 × its own
forward and backward at 224 px, and within 1.3 × on mini-vit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import click
import numpy as np
import torch
from common import REAL_SIZE, alternating, number, table
from torch import Tensor, nn

from autoprox import Proxy
from autoprox.bench_cache.spaces.registry import InputSpec, get_space
from autoprox.primitives import find_blocks
from autoprox.primitives.batch import loss_of, probe_batch
from autoprox.primitives.untouched import untouched

#: A formula for each kind of backward: none, to weights, to activations, to both; under one probe each.
FORMULAS = {
    "activations": "sum(l1(act))",
    "SNIP": "sum(l1(weight * weight_grad))",
    "SynFlow": "sum(l1(weight * weight_grad[synflow]))",
    "Fisher-like": "sum(fro(act * act_grad))",
    "Auto-Prox": "mean(fro(minmax(weight)) + mean(sqrt(sigmoid(act_grad))))",
}


@dataclass(frozen=True)
class Case:
    """A network and a batch."""

    name: str
    space: str
    spec: InputSpec
    batch: int
    target: float  # of score / own

    def build(self) -> tuple[nn.Module, Tensor, Tensor]:
        """The network in training mode, as a user has it, images and targets."""
        space = get_space(self.space)
        generator = torch.Generator().manual_seed(0)
        size = (self.batch, self.spec.in_channels, self.spec.image_size, self.spec.image_size)
        images = torch.randn(size, generator=generator)
        targets = torch.randint(self.spec.num_classes, (self.batch,), generator=generator)
        return space.build(space.sample(Random(0)), self.spec), images, targets


def own_run(proxy: Proxy, model: nn.Module, images: Tensor, targets: Tensor) -> Callable[[], object]:
    """The formula's own forward and backward, without hooks or a function mode.

    An activation's gradient is reached through the layer's bias, whose gradient is its sum over rows: a backward that
    is as long, without a hook to hold the activation.
    """
    wanted = {name for name, _, _ in proxy.reads}
    probe = next(probe for _, probe, _ in proxy.reads if probe)
    x, y = probe_batch(probe, images, targets, 0)
    y = targets[: len(x)] if y is None else y
    kinds = ["weight"] * ("weight_grad" in wanted) + ["bias"] * ("act_grad" in wanted)
    linears = [path for block in find_blocks(model) for slot in block.linears.values() for path in slot]
    names = [f"{path}.{kind}" for kind in kinds for path in linears]

    def run() -> None:
        with untouched(model):
            parameters = {name: p.detach() for name, p in model.named_parameters()}
            if probe == "synflow":
                parameters = {name: p.abs() for name, p in parameters.items()}
            for name in names:
                parameters[name].requires_grad_()
            with torch.set_grad_enabled(bool(names)):
                output = torch.func.functional_call(model, parameters, (x,))
                if names:
                    torch.autograd.grad(loss_of(output, probe, y), [parameters[name] for name in names])

    return run


def plain_run(model: nn.Module, images: Tensor, targets: Tensor) -> Callable[[], object]:
    """Forward, and backward to all parameters."""

    def run() -> None:
        model.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(images), targets).backward()

    return run


def rows_of(case: Case, repeats: int) -> list[list[str]]:
    """The rows of a network."""
    model, images, targets = case.build()
    plain = plain_run(model, images, targets)
    rows = []
    for name, text in FORMULAS.items():
        proxy = Proxy.from_formula(text)
        runs = [lambda p=proxy: p.score(model, images, targets), own_run(proxy, model, images, targets), plain]
        alternating(runs, 1)
        taken = alternating(runs, repeats)
        score, own, whole = 1e3 * np.median(taken, axis=0)
        ratio, of_plain = np.median(taken[:, :1] / taken[:, 1:], axis=0)
        rows.append(
            [
                f"{case.name}: {name}",
                number(score),
                number(own),
                number(whole),
                f"{ratio:.2f}",
                f"{of_plain:.2f}",
                f"{case.target}",
                "met" if ratio <= case.target else "missed",
            ]
        )
    return rows


@click.command()
@click.option("--quick", is_flag=True, help="A short run, for a check that everything works.")
@click.option("--threads", default=1, show_default=True, help="torch's threads; one is the steadiest.")
def main(quick: bool, threads: int) -> None:
    """Print one table: milliseconds of a score and of the bare runs, and their ratios."""
    torch.set_num_threads(threads)
    small = InputSpec(8, 1, 10, 2)
    cases = [
        (Case("mini-vit, batch 2", "mini-vit", small, 2, 1.3), 20 if quick else 100),
        (Case("AutoFormer-T 224 px, batch 2", "autoformer-tiny", REAL_SIZE, 2, 1.15), 2 if quick else 5),
    ]
    if not quick:
        cases.append((Case("AutoFormer-T 224 px, batch 16", "autoformer-tiny", REAL_SIZE, 16, 1.15), 3))
    rows: list[list[str]] = []
    for case, repeats in cases:
        rows += [*([[]] if rows else []), *rows_of(case, repeats)]
    table(
        "Latency of proxy.score beside the formula's own forward and backward",
        ("", "score ms", "own ms", "plain ms", "score / own", "score / plain", "target", ""),
        rows,
    )


if __name__ == "__main__":
    main()
