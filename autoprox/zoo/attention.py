"""Proxies of the zoo from attention maps: how sure heads are of one token, and how far they look.

Every function takes (model, inputs, targets, seed, layers), returns a score that is higher for better networks, and
leaves the model as it was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from autoprox.primitives.passes import Subject
from autoprox.primitives.sharing import met
from autoprox.scoring import Layers
from autoprox.zoo.needs import attention_maps
from autoprox.zoo.record import ZooProxy
from autoprox.zoo.tools import ZooError

#: So many tokens at most may stand before those of the patches: class, distillation and register tokens.
MOST_EXTRA = 8


def head_confidence(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None) -> float:
    """Return the mean over blocks of mean max_j P_ij, over the samples, heads and queries i of each.

    It is the confidence of heads (Voita et al., arXiv 1905.09418, section 4), in untrained networks as in Serianni and
    Kalita, arXiv 2306.00288.
    """
    subject = Subject(model, inputs, targets, seed)
    found = [[a.double().amax(-1).flatten() for a in maps] for maps in met(subject, attention_maps(subject, layers))]
    return _mean_over_blocks(found)


def attention_distance(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None) -> float:
    """Return the mean over blocks of mean Σ_j P_ij d_ij, over the samples, heads and patches i of each.

    d_ij is the Euclidean distance of the patches i and j in the grid, counted in patches of the queries' grid; of a
    window, in its own grid (Dosovitskiy et al., arXiv 2010.11929, appendix D.7). Tokens before those of the patches are
    left out, and what is left of a row is not scaled up to 1. Keys on a coarser grid stand at its centres.

    Raises:
        ZooError: images are not square, or the tokens are no square grid with at most `MOST_EXTRA` tokens before it.
    """
    if inputs.ndim != 4 or inputs.shape[-1] != inputs.shape[-2]:
        raise ZooError(f"needs square images, not inputs of shape {tuple(inputs.shape)}")
    subject = Subject(model, inputs, targets, seed)
    found = []
    for maps in met(subject, attention_maps(subject, layers)):
        found.append([(patches(a).double() * distances(a)).sum(-1).flatten() for a in maps])
    return _mean_over_blocks(found)


def _mean_over_blocks(found: Sequence[Sequence[Tensor]]) -> float:
    return float(torch.stack([torch.cat(list(parts)).mean().cpu() for parts in found]).mean())


def grid_side(tokens: int) -> int:
    """Return the side of the square grid that tokens are, but for a few before them.

    Raises:
        ZooError: they are none.
    """
    side = math.isqrt(tokens)
    if tokens - side**2 > MOST_EXTRA or side < 2:
        raise ZooError(f"{tokens} tokens are no square grid of patches, with at most {MOST_EXTRA} tokens before it")
    return side


def patches(attention: Tensor) -> Tensor:
    """Return the attention of patches to patches, … × queries × keys, without other tokens."""
    queries, keys = (grid_side(length) ** 2 for length in attention.shape[-2:])
    return attention[..., -queries:, -keys:]


def distances(attention: Tensor) -> Tensor:
    """Return the distances between the patches of queries and those of keys, in patches of the queries' grid."""
    grid, coarser = (grid_side(length) for length in attention.shape[-2:])

    def centres(side: int) -> Tensor:
        along = (torch.arange(side, dtype=torch.float64, device=attention.device) + 0.5) * grid / side
        return torch.cartesian_prod(along, along)

    return (centres(grid)[:, None] - centres(coarser)).norm(dim=-1)


ATTENTION = (
    ZooProxy(
        name="head-confidence",
        source="Serianni and Kalita, arXiv 2306.00288; the confidence of Voita et al., ACL 2019, arXiv 1905.09418",
        cost="forward",
        reads="attention probabilities",
        function=head_confidence,
        needs=(attention_maps,),
        latex=r"\mathbb{E}_{l,h,i} \max_j P_{l,h,ij}",
        note="mean over queries of the largest attention probability; at initialisation close to one over the number "
        "of tokens, so compare networks with equally many tokens",
    ),
    ZooProxy(
        name="attention-entropy",
        source="the attention entropy of Zhai et al., ICML 2023, arXiv 2303.06296, here in untrained networks",
        cost="forward",
        reads="attention probabilities",
        formula="mean(neg(sum(attn * log(attn)) / sum(attn)))",
        note="mean entropy of a row in nats, since rows sum to 1; ours as a proxy: no published work says that higher "
        "is better, and head-confidence says the contrary",
    ),
    ZooProxy(
        name="attention-distance",
        source="the attention distance of Dosovitskiy et al., ViT, ICLR 2021, arXiv 2010.11929, appendix D.7, here in "
        "untrained networks",
        cost="forward",
        reads="attention probabilities between patches",
        function=attention_distance,
        needs=(attention_maps,),
        latex=r"\mathbb{E}_{l,h,i} \sum_j P_{l,h,ij} \left\|x_i - x_j\right\|_2",
        note="in patches, not in pixels; class and register tokens are left out; ours as a proxy: no published work "
        "says that higher is better",
    ),
)
