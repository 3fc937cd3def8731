"""The zoo: every proxy of the literature, by name, in the order in which they are shown.

To add one, write its record here: a formula where the language can say it, else a function. Formulas read the linears
of the transformer blocks; patch embedding and classifier are no part of the language.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from autoprox.zoo_proxy import COSTS, ZooError, ZooProxy

__all__ = ["COSTS", "ZOO", "ZooError", "ZooProxy"]

_ALL = (
    ZooProxy(
        name="params",
        source="baseline",
        cost="structure",
        reads="the number of parameters",
        formula="params",
        note="the size of the network: the opponent of every proxy",
    ),
    ZooProxy(
        name="flops",
        source="baseline",
        cost="structure",
        reads="multiply-adds of one forward pass",
        formula="flops",
        note="multiply-adds of one forward pass of one sample",
    ),
    ZooProxy(
        name="depth",
        source="baseline",
        cost="structure",
        reads="the number of blocks",
        formula="depth",
        note="the number of blocks",
    ),
    ZooProxy(
        name="width",
        source="baseline",
        cost="structure",
        reads="the embedding dimension",
        formula="width",
        note="the embedding dimension, averaged over the blocks",
    ),
    ZooProxy(
        name="l2-norm",
        source="Abdelfattah et al., Zero-Cost Proxies, arXiv 2101.08134, code",
        cost="weights",
        reads="weights of the blocks' linears",
        formula="sum(fro(weight))",
        note="reads the weights only",
    ),
    ZooProxy(
        name="grad-norm",
        source="Abdelfattah et al., Zero-Cost Proxies, arXiv 2101.08134",
        cost="backward",
        reads="weight gradients of the blocks' linears",
        formula="sum(fro(weight_grad))",
        note="the norm of each layer's gradient, summed",
    ),
    ZooProxy(
        name="snip",
        source="Lee et al., SNIP, arXiv 1810.02340; as a proxy: arXiv 2101.08134",
        cost="backward",
        reads="weights and weight gradients of the blocks' linears",
        formula="sum(l1(weight * weight_grad))",
        note="the connection sensitivities, summed and not normalised",
    ),
    ZooProxy(
        name="synflow",
        source="Tanaka et al., SynFlow, arXiv 2006.05467; as a proxy: arXiv 2101.08134",
        cost="backward",
        reads="weights and weight gradients under the SynFlow loss of the blocks' linears",
        formula="sum(l1(weight * weight_grad[synflow]))",
        note="needs a batch for its shape only",
    ),
    ZooProxy(
        name="logsynflow",
        source="Cavagnero et al., FreeREA, arXiv 2207.05135",
        cost="backward",
        reads="weights and weight gradients under the SynFlow loss of the blocks' linears",
        formula="sum(l1(weight * log(weight_grad[synflow] + 1)))",
        note="the logarithm of what is not positive, which LayerNorm can bring about, is log 1e-30 here and NaN there",
    ),
    ZooProxy(
        name="dss",
        source="Zhou et al., TF-TAS, arXiv 2203.12217, code",
        cost="backward",
        reads="weights and weight gradients under the SynFlow loss of the blocks' linears",
        formula="sum(nuclear(weight_grad[msa, synflow]) * nuclear(abs(weight[msa])))"
        " + sum(l1(weight_grad[mlp, synflow] * weight[mlp]))",
        note="the code counts the classifier among the MLP layers, and proj only where it is square",
    ),
    ZooProxy(
        name="auto-prox",
        source="Wei et al., Auto-Prox, arXiv 2312.09059; genotype of the released configurations",
        cost="backward",
        reads="weights and output gradients of the blocks' linears",
        formula="mean(fro(minmax(weight)) + mean(sqrt(sigmoid(act_grad))))",
        note="their inputs t2 and t4g are read as weight and gradient of the layer's output",
    ),
    ZooProxy(
        name="auto-prox-a",
        source="Wei et al., Auto-Prox, arXiv 2312.09059, Eq. 2, 4 and 5, as ported in OoD-ViT-NAS, arXiv 2501.03782",
        cost="backward",
        reads="weights and weight gradients under the SynFlow loss of the blocks' linears",
        formula="sum(l1(weight_grad[msa, synflow])) + sum(mean(sigmoid(weight_grad[mlp, synflow])))",
        note="the port counts the classifier among the MLP layers",
    ),
    ZooProxy(
        name="pruner-zero",
        source="Dong et al., Pruner-Zero, arXiv 2406.02924, best tree",
        cost="backward",
        reads="weights and weight gradients of the blocks' linears",
        formula="sum(sum(abs(weight * weight) * minmax(abs(weight_grad))))",
        note="a pruning metric, one number for each weight; summed over weights and layers to score a network",
    ),
    ZooProxy(
        name="zico",
        source="Li et al., ZiCo, arXiv 2301.11300, code",
        cost="backward",
        reads="weight gradients of the blocks' linears, for each of two mini-batches",
        formula="sum(log(sum(batch_mean(abs(weight_grad_batches)) / batch_std(weight_grad_batches))))",
        note="over the two halves of the batch, so its size must be even",
    ),
    ZooProxy(
        name="swap-layers",
        source="after the Ψ of L-SWAG (Casarin et al., arXiv 2505.07300, Eq. 1) and SWAP (Peng et al., ICLR 2024)",
        cost="forward",
        reads="inputs of the GELUs (fc1)",
        formula="sum(pattern_count(act[fc1]))",
        note="counted layer by layer and summed over the GELU inputs; the papers count over all layers together",
    ),
)

#: name → proxy, in the order they are shown.
ZOO: Mapping[str, ZooProxy] = MappingProxyType({proxy.name: proxy for proxy in _ALL})
