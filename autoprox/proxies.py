"""Proxies: the formulas of the literature that are shipped, by name.

To add one, write its record here. A proxy is listed only if its formula is that proxy; its note says where formula
and published code part. All formulas read the linears of the transformer blocks; patch embedding and classifier are
no part of the language.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Shipped:
    """A proxy of the literature: its formula, where it was published, and what to know before trusting it."""

    name: str
    formula: str
    source: str
    note: str


_ALL = (
    Shipped("params", "params", "baseline", "the size of the network: the opponent of every proxy"),
    Shipped("flops", "flops", "baseline", "multiply-adds of one forward pass of one sample"),
    Shipped("depth", "depth", "baseline", "the number of blocks"),
    Shipped("width", "width", "baseline", "the embedding dimension, averaged over the blocks"),
    Shipped(
        "l2-norm",
        "sum(fro(weight))",
        "Abdelfattah et al., Zero-Cost Proxies, arXiv 2101.08134, code",
        "reads the weights only",
    ),
    Shipped(
        "grad-norm",
        "sum(fro(weight_grad))",
        "Abdelfattah et al., Zero-Cost Proxies, arXiv 2101.08134",
        "the norm of each layer's gradient, summed",
    ),
    Shipped(
        "snip",
        "sum(l1(weight * weight_grad))",
        "Lee et al., SNIP, arXiv 1810.02340; as a proxy: arXiv 2101.08134",
        "the connection sensitivities, summed and not normalised",
    ),
    Shipped(
        "synflow",
        "sum(l1(weight * weight_grad[synflow]))",
        "Tanaka et al., SynFlow, arXiv 2006.05467; as a proxy: arXiv 2101.08134",
        "needs a batch for its shape only",
    ),
    Shipped(
        "logsynflow",
        "sum(l1(weight * log(weight_grad[synflow] + 1)))",
        "Cavagnero et al., FreeREA, arXiv 2207.05135",
        "the logarithm of what is not positive, which LayerNorm can bring about, is log 1e-30 here and NaN there",
    ),
    Shipped(
        "dss",
        "sum(nuclear(weight_grad[msa, synflow]) * nuclear(abs(weight[msa])))"
        " + sum(l1(weight_grad[mlp, synflow] * weight[mlp]))",
        "Zhou et al., TF-TAS, arXiv 2203.12217, code",
        "the code counts the classifier among the MLP layers, and proj only where it is square",
    ),
    Shipped(
        "auto-prox",
        "mean(fro(minmax(weight)) + mean(sqrt(sigmoid(act_grad))))",
        "Wei et al., Auto-Prox, arXiv 2312.09059; genotype of the released configurations",
        "their inputs t2 and t4g are read as weight and gradient of the layer's output",
    ),
    Shipped(
        "auto-prox-a",
        "sum(l1(weight_grad[msa, synflow])) + sum(mean(sigmoid(weight_grad[mlp, synflow])))",
        "Wei et al., Auto-Prox, arXiv 2312.09059, Eq. 2, 4 and 5, as ported in OoD-ViT-NAS, arXiv 2501.03782, code",
        "the port counts the classifier among the MLP layers",
    ),
    Shipped(
        "pruner-zero",
        "sum(sum(abs(weight * weight) * minmax(abs(weight_grad))))",
        "Dong et al., Pruner-Zero, arXiv 2406.02924, best tree",
        "a pruning metric, one number for each weight; summed over weights and layers to score a network",
    ),
    Shipped(
        "zico",
        "sum(log(sum(batch_mean(abs(weight_grad_batches)) / batch_std(weight_grad_batches))))",
        "Li et al., ZiCo, arXiv 2301.11300, code",
        "over the two halves of the batch, so its size must be even",
    ),
    Shipped(
        "pattern-count",
        "sum(pattern_count(act[fc1]))",
        "after the Ψ of L-SWAG (Casarin et al., arXiv 2505.07300, Eq. 1) and SWAP (Peng et al., ICLR 2024)",
        "counted layer by layer and summed over the GELU inputs; the papers count over all layers together",
    ),
)

#: name → proxy, in the order they are listed to users.
SHIPPED: Mapping[str, Shipped] = MappingProxyType({proxy.name: proxy for proxy in _ALL})
