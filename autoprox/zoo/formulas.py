"""The zoo's proxies that are formulas of our language. To add one, write its record here.

A formula reads the linears of the transformer blocks. Patch embedding, pooling and classifier are no part of the
language. Where published code reads these too, functions.py has a second proxy over all weights, called NAME-all.
"""

from __future__ import annotations

from autoprox.zoo.lswag import SOURCE as LSWAG
from autoprox.zoo.lswag import DepthRange, ablation, lswag_formula
from autoprox.zoo.record import ZooProxy

ZERO_COST = "Abdelfattah et al., Zero-Cost Proxies, ICLR 2021, arXiv 2101.08134"
_AUTO_PROX = "Wei et al., Auto-Prox, AAAI 2024, arXiv 2312.09059"
_BLOCK_WEIGHTS = "weights of the blocks' linears"
_BLOCK_GRADIENTS = "weight gradients of the blocks' linears"
_BOTH = "weights and weight gradients of the blocks' linears"
_SYNFLOW = "weights and weight gradients of the blocks' linears under the SynFlow loss"
_PARTS = ablation(DepthRange())

FORMULAS = (
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
        source="baseline; the complexity score of AZ-NAS",
        cost="structure",
        reads="multiply-adds of one forward pass of one sample",
        formula="flops",
        note="counted by torch, which runs the network on one blank sample",
    ),
    ZooProxy(
        name="activations",
        source="baseline; Radosavovic et al., Designing Network Design Spaces, CVPR 2020, arXiv 2003.13678",
        cost="structure",
        reads="output elements of all convolutions and linears for one sample",
        formula="activations",
        note="outputs of matrix products between activations are not counted, which timm's tables (macts) count where "
        "attention is not fused",
    ),
    ZooProxy(
        name="depth",
        source="baseline",
        cost="structure",
        reads="the number of blocks",
        formula="depth",
        note="the strongest baseline where all networks are of one width, as in OoD-ViT-NAS tiny",
    ),
    ZooProxy(
        name="width",
        source="baseline",
        cost="structure",
        reads="the embedding dimension",
        formula="width",
        note="averaged over the blocks",
    ),
    ZooProxy(
        name="depth-times-width",
        source="baseline",
        cost="structure",
        reads="the number of blocks and the embedding dimension",
        formula="depth * width",
        note="what many norms at initialisation amount to",
    ),
    ZooProxy(
        name="l2-norm",
        source=f"{ZERO_COST}, code",
        cost="weights",
        reads=_BLOCK_WEIGHTS,
        formula="sum(fro(weight))",
        note="at initialisation nearly a function of the widths",
    ),
    ZooProxy(
        name="plain",
        source=f"{ZERO_COST}, code",
        cost="backward",
        reads=_BOTH,
        formula="sum(sum(weight * weight_grad))",
        note="signed, so that it is close to 0; not normalised",
    ),
    ZooProxy(
        name="grad-norm",
        source=ZERO_COST,
        cost="backward",
        reads=_BLOCK_GRADIENTS,
        formula="sum(fro(weight_grad))",
        note="the norm of each layer's gradient, summed",
    ),
    ZooProxy(
        name="grad-l1",
        source="ours, after GradSign (arXiv 2110.08616): a norm of gradients in place of the signs of single samples",
        cost="backward",
        reads=_BLOCK_GRADIENTS,
        formula="sum(l1(weight_grad))",
        note="the magnitudes of the gradients, which GradSign throws away",
    ),
    ZooProxy(
        name="act-norm",
        source="ours, after GradSign (arXiv 2110.08616): a norm of activations in place of the signs of single samples",
        cost="forward",
        reads="outputs of the blocks' linears",
        formula="sum(fro(act))",
        note="the norm of each layer's output, summed",
    ),
    ZooProxy(
        name="act-grad-norm",
        source="ours, after GradSign (arXiv 2110.08616): a norm of gradients in place of the signs of single samples",
        cost="backward",
        reads="output gradients of the blocks' linears",
        formula="sum(fro(act_grad))",
        note="the norm of the gradient of each layer's output, summed",
    ),
    ZooProxy(
        name="snip",
        source="Lee et al., SNIP, ICLR 2019, arXiv 1810.02340; as a proxy: arXiv 2101.08134",
        cost="backward",
        reads=_BOTH,
        formula="sum(l1(weight * weight_grad))",
        note="the connection sensitivities, summed and not normalised; see snip-all",
    ),
    ZooProxy(
        name="synflow",
        source="Tanaka et al., SynFlow, NeurIPS 2020, arXiv 2006.05467; as a proxy: arXiv 2101.08134",
        cost="backward",
        reads=_SYNFLOW,
        formula="sum(l1(weight * weight_grad[synflow]))",
        note="needs a batch for its shape only; without patch embedding and classifier it ranks PiT far worse than "
        "synflow-all, which has a score above 1e30 too",
    ),
    ZooProxy(
        name="logsynflow",
        source="Cavagnero et al., FreeREA, WACV 2023, arXiv 2207.05135",
        cost="backward",
        reads=_SYNFLOW,
        formula="sum(l1(weight * log(weight_grad[synflow] + 1)))",
        note="LayerNorm can make the logarithm's argument negative: it counts as 1e-30 here, and the code gives NaN",
    ),
    ZooProxy(
        name="fisher",
        source="Turner et al., BlockSwap, ICLR 2020, arXiv 1906.04113; as a proxy: arXiv 2101.08134",
        cost="backward",
        reads="outputs of the blocks' linears and their gradients",
        formula="sum(sum(batch_mean(square(sample_sum(act * act_grad)))) / 2)",
        note="channels are the features of a linear, pixels its tokens; the loss is the batch mean, as in the code, "
        "which sums each channel as often as it has weights: that is this with `* fan_in` inside the outer sum",
    ),
    ZooProxy(
        name="dss",
        source="Zhou et al., TF-TAS, CVPR 2022, arXiv 2203.12217, code",
        cost="backward",
        reads=_SYNFLOW,
        formula="sum(nuclear(weight_grad[msa, synflow]) * nuclear(abs(weight[msa])))"
        " + sum(l1(weight_grad[mlp, synflow] * weight[mlp]))",
        note="the code counts the classifier among the MLP layers, and reads proj only where it is square",
    ),
    ZooProxy(
        name="auto-prox",
        source=f"{_AUTO_PROX}; genotype of the released configurations",
        cost="backward",
        reads="weights and output gradients of the blocks' linears",
        formula="mean(fro(minmax(weight)) + mean(sqrt(sigmoid(act_grad))))",
        note="we read their inputs t2 and t4g as weight and output gradient; mean over layers, as in their code",
    ),
    ZooProxy(
        name="auto-prox-sum",
        source=f"{_AUTO_PROX}; genotype of the released configurations",
        cost="backward",
        reads="weights and output gradients of the blocks' linears",
        formula="sum(fro(minmax(weight)) + mean(sqrt(sigmoid(act_grad))))",
        note="our variant of auto-prox: summed over layers, so that it grows with the depth",
    ),
    ZooProxy(
        name="auto-prox-a",
        source=f"{_AUTO_PROX}, Eq. 2, 4 and 5, as ported in OoD-ViT-NAS, arXiv 2501.03782, code",
        cost="backward",
        reads="weight gradients of the blocks' linears under the SynFlow loss",
        formula="sum(l1(weight_grad[msa, synflow])) + sum(mean(sigmoid(weight_grad[mlp, synflow])))",
        note="l1 is not divided by the number of entries, as in the port, which reads the classifier too",
    ),
    ZooProxy(
        name="auto-prox-a-normalised",
        source=f"{_AUTO_PROX}, Eq. 2, 4 and 5",
        cost="backward",
        reads="weight gradients of the blocks' linears under the SynFlow loss",
        formula="sum(l1_mean(weight_grad[msa, synflow])) + sum(mean(sigmoid(weight_grad[mlp, synflow])))",
        note="l1 divided by the number of entries, as in the authors' vocabulary",
    ),
    ZooProxy(
        name="pruner-zero",
        source="Dong et al., Pruner-Zero, ICML 2024, arXiv 2406.02924, best tree",
        cost="backward",
        reads=_BOTH,
        formula="sum(sum(abs(weight * weight) * minmax(abs(weight_grad))))",
        note="a pruning metric, one number for each weight; summed over weights and layers to score a network",
    ),
    _PARTS["zico"],
    _PARTS["lswag-lambda"],
    ZooProxy(
        name="lswag-layers",
        source=f"{LSWAG}, Eq. 1",
        cost="backward",
        reads="inputs of the GELUs (fc1), and weight gradients of two mini-batches",
        formula=lswag_formula(),
        note="Λ × Ψ with Ψ counted block by block, at full depth; see lswag",
    ),
    ZooProxy(
        name="swap-layers",
        source="Peng et al., SWAP, ICLR 2024; the Ψ of L-SWAG, arXiv 2505.07300, Eq. 1",
        cost="forward",
        reads="inputs of the GELUs (fc1)",
        formula="sum(pattern_count(act[fc1]))",
        note="counted block by block and summed; the papers count over all layers together: see swap",
    ),
    ZooProxy(
        name="nwot-layers",
        source="Mellor et al., NWOT, ICML 2021, arXiv 2006.04647",
        cost="forward",
        reads="inputs of the GELUs (fc1)",
        formula="sum(agreement_logdet(act[fc1]))",
        note="one kernel for each block; the paper has one for all layers together: see nwot; where two samples switch "
        "every neuron alike, the determinant is 0 and counts as 1e-30",
    ),
)
