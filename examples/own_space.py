"""A search space of your own: train a few of its architectures, evolve a proxy on them, and search with it."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor, nn

from autoprox.bench_cache.training.by_reference import load_dataset
from autoprox.bench_cache.training.run import TrainingPlan, begin, carry_out, make_benchmark
from autoprox.bench_cache.training.trainer import Recipe
from autoprox.evolution import run_evolution, start_evolution
from autoprox.search.batch import Batch
from autoprox.search.on_space import search
from autoprox.search.strategies import SearchSettings


class SmallViT(nn.Module):
    """Any network will do; here, torch's own transformer layers on patches of 2 × 2 pixels."""

    def __init__(self, width: int, heads: tuple[int, ...], ratio: tuple[int, ...]) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, 2)
        sizes = [(width, count, width * times, 0.0) for count, times in zip(heads, ratio, strict=True)]
        self.blocks = nn.Sequential(*(nn.TransformerEncoderLayer(*each, batch_first=True) for each in sizes))
        self.head = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.blocks(self.patches(images).flatten(2).transpose(1, 2)).mean(1))


class MySpace:
    choices = {"width": [16, 24, 32], "depth": [1, 2, 3], "heads[depth]": [2, 4], "ratio[depth]": [1, 2]}  # noqa: RUF012

    def build(self, arch) -> nn.Module:
        return SmallViT(arch.width, arch.heads, arch.ratio)


def main() -> None:
    space = f"{__file__}:MySpace"  # as --space takes it
    with TemporaryDirectory() as folder:
        os.environ["AUTOPROX_HOME"] = folder  # here the statistics of the networks are kept
        digits = load_dataset("digits")
        plan = TrainingPlan(space, (digits,), archs=32, seeds=1, recipe=Recipe(epochs=1, batch=50, lr=5e-3))
        journal, run = Path(folder, "journal"), Path(folder, "run")
        begin(journal, plan)
        benchmark = make_benchmark(carry_out(journal, plan, workers=1), "mine")
        print(f"trained {len(benchmark)} architectures of {benchmark.space_name}")
        start_evolution([benchmark], [], run, generations=3, population=8)
        proxy = run_evolution(run, spaces=[space]).proxy
        print(f"evolved: {proxy.formula}")
        given = benchmark.inputs["digits"]
        batch = Batch(images=given.images[:2].copy(), targets=given.targets[:2].copy())
        found = search(space, proxy, SearchSettings(budget=20, population=8), spec=digits.spec, batch=batch)
        print(f"train this one: {found.ranked[0].arch}")


if __name__ == "__main__":
    main()
