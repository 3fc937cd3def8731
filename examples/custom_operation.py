"""Teach the formula language an operation of your own, and let evolution use it."""

import os
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from autoprox import OPERATIONS, Operation, Proxy, get_space, load_benchmark
from autoprox.bench_cache.spaces.registry import InputSpec
from autoprox.evolution import EvolutionWatcher, run_evolution, start_evolution
from autoprox.primitives import OperationError


def hoyer(x: Tensor) -> Tensor:
    """(√n − ‖x‖₁ / ‖x‖₂) / (√n − 1): 0 where all entries are equal, 1 where one alone is not zero (Hoyer 2004)"""
    entries = x.flatten(-2)  # the last two axes are the matrix, those before it a batch
    largest = entries.abs().amax(-1, keepdim=True)
    entries = entries / torch.where(largest > 0, largest, 1.0)  # so that squares neither overflow nor vanish
    root = entries.shape[-1] ** 0.5
    one, two = entries.abs().sum(-1), entries.square().sum(-1).sqrt()
    sparsity = (root - one / two.clamp(min=1.0)) / max(root - 1, 1e-9)
    return torch.where(two > 0, sparsity.clamp(0.0, 1.0), 0.0)


def main() -> None:
    # `reduce`: a matrix becomes one number for each layer, and layers one number for the network.
    record = Operation("hoyer", "reduce", hoyer, r"\operatorname{{hoyer}}\left({0}\right)", nonnegative=True)
    operations = OPERATIONS.extended(record)  # a new vocabulary; the shared one stays as it is

    # An operation must be total: finite in, finite out. What is not is refused here, not in generation 180.
    try:
        OPERATIONS.extended(Operation("logs", "reduce", lambda x: x.log().sum((-2, -1)), r"\sum \log {0}"))
    except OperationError as error:
        print(f"refused: {error}\n")

    # It is now a word like any other, in formulas, in Proxy.score and in exported files.
    proxy = Proxy.from_formula("mean(hoyer(weight_grad[mlp]) - hoyer(act[mlp]))", operations=operations)
    print(proxy.formula)
    space, spec = get_space("autoformer-tiny"), InputSpec(image_size=32, num_classes=10)
    images, targets = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.arange(8)
    for arch in map(space.sample, map(Random, range(3))):
        print(f"{proxy.score(space.build(arch, spec), images, targets):8.5f}  {space.key(arch)}")

    # Evolution draws from the vocabulary that it is given. A real run has all networks, more generations, and a folder.
    benchmark = load_benchmark("mini-vit").of_architectures(range(100))
    with TemporaryDirectory() as folder:
        os.environ["AUTOPROX_HOME"] = folder  # here the statistics of the networks are kept
        run, tried = Path(folder, "run"), list[str]()
        start_evolution([benchmark], ["digits"], run, operations, generations=2, population=12)
        watch = EvolutionWatcher(generation=lambda record: tried.extend(text for text, _ in record["judged"]))
        found = run_evolution(run, operations=operations, watch=watch).proxy.formula
    print(f"\nevolved: {found}\ntried: {min((text for text in tried if 'hoyer' in text), key=len)}")


if __name__ == "__main__":
    main()
