"""Rank untrained vision transformers with a formula, and take the formula with you."""

import sys
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import torch

from autoprox import Proxy, get_space
from autoprox.bench_cache.spaces.registry import InputSpec
from autoprox.export import export


def main() -> None:
    # A proxy is a formula over what can be read off an untrained network. This one is SNIP, on the MLP layers only.
    proxy = Proxy.from_formula("sum(l1(weight[mlp] * weight_grad[mlp]))", name="snip-of-mlp")
    print(f"{proxy.name}: {proxy.formula}")

    # Four architectures of a search space, built when their turn comes; any of your own modules would do as well.
    space, spec = get_space("autoformer-tiny"), InputSpec(image_size=32, num_classes=10)
    architectures = [space.sample(Random(seed)) for seed in range(4)]
    models = {space.key(arch): partial(space.build, arch, spec) for arch in architectures}

    # One batch is enough. Put images and labels of your task here.
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(8, 3, 32, 32, generator=generator)
    targets = torch.randint(10, (8,), generator=generator)

    print("\n   score  parameters  architecture (width | heads | MLP ratios), best first")
    ranking = proxy.rank(models, images, targets)
    sizes = {space.key(arch): space.params(arch, spec) for arch in architectures}
    for key, score in ranking:
        print(f"{score:8.1f}  {sizes[key]:10,}  {key.partition(':')[2]}")

    # The same function without autoprox: one file that imports only torch.
    print(f"\nin LaTeX: {export(proxy, 'latex')}")
    with TemporaryDirectory() as folder:
        file = Path(folder) / "my_proxy.py"
        file.write_text(export(proxy, "python"), encoding="utf-8")
        sys.path.insert(0, folder)
        from my_proxy import score as exported_score

        best, score = ranking[0]
        again = exported_score(models[best](), images, targets)
    print(f"my_proxy.py scores the best {again:.1f}, as autoprox does")
    assert abs(again - score) <= 1e-6 * abs(score)


if __name__ == "__main__":
    main()
