"""A proxy in your own search loop, on your own network, whose layers have any names."""

from random import Random

import torch
from torch import Tensor, nn

from autoprox import Proxy


class MyBlock(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads, self.before, self.between = heads, nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_q, self.to_k, self.to_v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.expand, self.contract = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.before(x)
        q, k, v = (f(y).unflatten(2, (self.heads, -1)).transpose(1, 2) for f in (self.to_q, self.to_k, self.to_v))
        x = x + self.out(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.contract(nn.functional.gelu(self.expand(self.between(x))))


class MyViT(nn.Module):
    def __init__(self, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.embed, self.head = nn.Conv2d(3, width, 8, 8), nn.Linear(width, 10)
        self.layers = nn.Sequential(*(MyBlock(width, heads, 3 * width) for _ in range(depth)))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.layers(self.embed(images).flatten(2).transpose(1, 2)).mean(1))


def named_layers(depth: int) -> list[dict[str, object]]:
    """Where the linears of each block are; query, key and value may be three."""
    slots = {"qkv": ("to_q", "to_k", "to_v"), "proj": ("out",), "fc1": ("expand",), "fc2": ("contract",)}
    return [{slot: [f"layers.{n}.{name}" for name in names] for slot, names in slots.items()} for n in range(depth)]


def main() -> None:
    proxy = Proxy.from_formula("sum(log(fro(weight_grad) * fro(weight)))")  # or Proxy.load("runs/001/proxy.json")
    images, targets = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.arange(8)
    rng, best, chosen = Random(0), float("-inf"), None
    for trial in range(40):
        genes = {"width": rng.choice((40, 48, 56, 64)), "depth": rng.randint(2, 6), "heads": rng.choice((2, 4))}
        torch.manual_seed(1)  # so that equal genes have equal scores
        model = MyViT(**genes)
        if sum(p.numel() for p in model.parameters()) > 200_000:
            continue
        score = proxy.score(model, images, targets, layers=named_layers(genes["depth"]))
        if score > best:
            best, chosen = score, genes
            print(f"trial {trial:2}: {score:9.4f}  {genes}")
    print(f"train this one: {chosen}")


if __name__ == "__main__":
    main()
