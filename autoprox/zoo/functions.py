"""The zoo's proxies that our language cannot say: functions, by family.

To add one, write its function and its record in a file of its own, and name the record in FUNCTIONS. The records of
az_nas.py, features.py, few_step.py and gradients.py are here.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from autoprox.primitives.find_blocks.named import weight_of
from autoprox.scoring import Layers
from autoprox.zoo.attention import ATTENTION
from autoprox.zoo.az_nas import after_each_part, az_expressivity, az_trainability, passages
from autoprox.zoo.features import entropic, eznas, meco, nwot, patterns, squared_inputs, teacher_attention, zen
from autoprox.zoo.few_step import gennas, sigeo, training_speed
from autoprox.zoo.formulas import ZERO_COST
from autoprox.zoo.gradients import (
    clean_pass,
    croze,
    epe_nas,
    grad_norm_all,
    gradsign,
    grasp,
    jacov,
    l2_norm_all,
    logsynflow_all,
    plain_all,
    snip_all,
    synflow_all,
    te_nas_ntk,
    zico_all,
)
from autoprox.zoo.ibfs import IBFS
from autoprox.zoo.info_nas import INFO_NAS
from autoprox.zoo.intrain import INTRAIN
from autoprox.zoo.lswag import DepthRange, ablation
from autoprox.zoo.needs import (
    class_gradients,
    class_gradients_by_half,
    class_gradients_by_sample,
    class_scores,
    gelu_inputs,
    input_jacobian,
    noise_scores,
    sum_gradients_by_sample,
    synflow_pairs,
)
from autoprox.zoo.record import ZooProxy
from autoprox.zoo.tools import block_linears, network_blocks, whole_weights
from autoprox.zoo.w_pca import W_PCA

_GELU = "inputs of the GELUs (fc1)"
_ALL = "all linears and convolutions, with patch embedding, pooling and classifier"
_TIES = "at most 2^S patterns of S samples, so that small batches tie"
_PARTS = ablation(DepthRange())

_OVER_ALL = (
    ZooProxy(
        name="l2-norm-all",
        source=f"{ZERO_COST}, code",
        cost="weights",
        reads=f"weights of {_ALL}",
        function=l2_norm_all,
        probes=(),
        latex=r"\sum_l \left\|W_l\right\|_2",
        note="biases, norms, tokens and positions are left out, as in the code",
    ),
    ZooProxy(
        name="plain-all",
        source=f"{ZERO_COST}, code",
        cost="backward",
        reads=f"weights and gradients of {_ALL}",
        function=plain_all,
        needs=(class_gradients,),
        latex=r"\sum_l \sum W_l \odot \nabla_{W_l} L",
        note="signed, so that it is close to 0",
    ),
    ZooProxy(
        name="grad-norm-all",
        source=ZERO_COST,
        cost="backward",
        reads=f"weight gradients of {_ALL}",
        function=grad_norm_all,
        needs=(class_gradients,),
        latex=r"\sum_l \left\|\nabla_{W_l} L\right\|_2",
        note="the norm of each layer's gradient, summed",
    ),
    ZooProxy(
        name="snip-all",
        source="Lee et al., SNIP, ICLR 2019, arXiv 1810.02340; as a proxy: arXiv 2101.08134",
        cost="backward",
        reads=f"weights and gradients of {_ALL}",
        function=snip_all,
        needs=(class_gradients,),
        latex=r"\sum_l \left\|W_l \odot \nabla_{W_l} L\right\|_1",
        note="the connection sensitivities, summed and not normalised",
    ),
    ZooProxy(
        name="synflow-all",
        source="Tanaka et al., SynFlow, NeurIPS 2020, arXiv 2006.05467; as a proxy: arXiv 2101.08134",
        cost="backward",
        reads=f"weights and gradients of {_ALL}, under the SynFlow loss",
        function=synflow_all,
        needs=(synflow_pairs,),
        probes=("synflow",),
        latex=r"\sum_l \left\||W_l| \odot \nabla_{|W_l|} R\right\|_1",
        note="all parameters are replaced by their magnitudes, norms and biases too; softmax and LayerNorm break the "
        "conservation that the paper proves for linear flow",
    ),
    ZooProxy(
        name="logsynflow-all",
        source="Cavagnero et al., FreeREA, WACV 2023, arXiv 2207.05135",
        cost="backward",
        reads=f"weights and gradients of {_ALL}, under the SynFlow loss",
        function=logsynflow_all,
        needs=(synflow_pairs,),
        probes=("synflow",),
        latex=r"\sum_l \left\||W_l| \odot \log\left(\nabla_{|W_l|} R + 1\right)\right\|_1",
        note="the logarithm of what is not positive is log 1e-30",
    ),
    ZooProxy(
        name="zico-all",
        source="Li et al., ZiCo, ICLR 2023, arXiv 2301.11300, code",
        cost="backward",
        reads=f"weight gradients of {_ALL}, for each of two mini-batches",
        function=zico_all,
        needs=(class_gradients_by_half,),
        latex=r"\sum_l \log \sum_w \frac{\mathbb{E}_b\left|\nabla_w L_b\right|}{\sigma_b\left[\nabla_w L_b\right]}",
        note="mean and deviation over mini-batches: ports that take them over the weights of one batch compute "
        "something else; weights of deviation 0 are left out",
    ),
)

_GRADIENTS = (
    ZooProxy(
        name="grasp",
        source="Wang et al., GraSP, ICLR 2020, arXiv 2002.07376; as a proxy: arXiv 2101.08134",
        cost="second-order",
        reads=f"weights, gradients and Hessian-vector product of {_ALL}",
        function=grasp,
        latex=r"\sum_l \sum -W_l \odot \left(H \nabla L\right)_l",
        note="no temperature, one batch; the sign is that of the code, and of little use as a proxy",
    ),
    ZooProxy(
        name="gradsign",
        source="Zhang and Jia, GradSign, ICLR 2022, arXiv 2110.08616",
        cost="per-sample",
        reads=f"weight gradients of every sample, of {_ALL}",
        function=gradsign,
        needs=(class_gradients_by_sample,),
        latex=r"\sum_w \left|\sum_i \operatorname{sign} \nabla_w L_i\right|",
        note="the paper takes all parameters; biases and norms are left out here",
    ),
    ZooProxy(
        name="jacov",
        source="Mellor et al., arXiv 2006.04647, version 1; as a proxy: arXiv 2101.08134",
        cost="backward",
        reads="gradient of the summed outputs for the input",
        function=jacov,
        needs=(input_jacobian,),
        latex=r"-\sum_i \left[\log(v_i + \epsilon) + \frac{1}{v_i + \epsilon}\right]",
        note="v are the eigenvalues of the samples' correlations, ε = 1e-5; identical samples give about −1e5",
    ),
    ZooProxy(
        name="epe-nas",
        source="Lopes et al., EPE-NAS, ICANN 2021, arXiv 2102.08099, code",
        cost="backward",
        reads="gradient of the summed outputs for the input, class by class",
        function=epe_nas,
        needs=(input_jacobian, class_scores),
        latex=r"\sum_c \left|\sum_{ij \in c} \log\left(\left|\rho_{ij}\right| + \epsilon\right)\right|",
        note="needs classes with two samples or more in the batch, which random targets of many classes do not give; "
        "for more than 100 classes, the mean of |s_c − s_c'|",
    ),
    ZooProxy(
        name="te-nas-ntk",
        source="Chen et al., TE-NAS, ICLR 2021, arXiv 2102.11535, code",
        cost="per-sample",
        reads="gradients of the summed outputs of every sample, for all weights",
        function=te_nas_ntk,
        needs=(sum_gradients_by_sample,),
        latex=r"-\frac{\lambda_{\max}(\Theta)}{\lambda_{\min}(\Theta)}, \quad"
        r" \Theta_{ij} = \left\langle \nabla_\theta f(x_i), \nabla_\theta f(x_j) \right\rangle",
        direction=-1,
        note="the condition number, lower is better; TE-NAS also counts linear regions, which assumes ReLU",
    ),
    ZooProxy(
        name="croze",
        source="Ha et al., CRoZe, NeurIPS 2023, code",
        cost="backward",
        reads="weights, outputs and weight gradients of the blocks' linears, clean and adversarial",
        function=croze,
        needs=(clean_pass,),
        latex=r"\sum_l \left|\left(1 + \cos(g'_l, W_l)\right) \left|\cos(g'_l, g_l)\right|"
        r" \left(1 + \cos(f'_l, f_l)\right)\right|",
        note="a step of 1 % of its norm for each weight matrix, a step of 8/255 for the input: both are our choice",
    ),
)

_FEATURES = (
    ZooProxy(
        name="swap",
        source="Peng et al., SWAP, ICLR 2024, arXiv 2403.04161",
        cost="forward",
        reads=_GELU,
        function=patterns,
        needs=(gelu_inputs,),
        latex=r"\left|\bigcup_l \left\{ \left[x_{l,j}(s) > 0\right]_{s=1}^S \right\}_j\right|",
        note=f"all layers are counted together; the code hooks ReLU on four axes, and a ViT has none; {_TIES}; "
        "without the factor exp(−(P − μ)²/σ) of the regularised variant, which prefers networks of size μ",
    ),
    ZooProxy(
        name="nwot",
        source="Mellor et al., NWOT, ICML 2021, arXiv 2006.04647",
        cost="forward",
        reads=_GELU,
        function=nwot,
        needs=(gelu_inputs,),
        latex=r"\log \left|\det \sum_l \left(C_l C_l^\top + (1 - C_l)(1 - C_l)^\top\right)\right|",
        note="one kernel for all layers, as in the code; ports that hook nn.GELU see nothing where F.gelu is called; "
        "undefined for samples that the network cannot tell apart",
    ),
    _PARTS["lswag-psi"],
    _PARTS["lswag"],
    ZooProxy(
        name="eznas",
        source="Akhauri et al., EZNAS, NeurIPS 2022, arXiv 2209.07413; top program of the released code",
        cost="forward",
        reads="inputs of the blocks' linears under Gaussian input",
        function=eznas,
        needs=(squared_inputs,),
        probes=("noise",),
        latex=r"\frac{1}{N} \sum_{l=1}^N \left\|X_l\right\|_F^2",
        note="evolved on convolutions between ReLU and batch normalisation; on a ViT the inputs of qkv and fc1 come "
        "from LayerNorm, so that the score nearly follows from structure; our language has no inputs of layers",
    ),
    ZooProxy(
        name="zen",
        source="Lin et al., Zen-NAS, ICCV 2021, arXiv 2102.01063, Alg. 1",
        cost="forward",
        reads="class scores of two close Gaussian inputs",
        function=zen,
        needs=(noise_scores,),
        probes=("noise",),
        latex=r"\log \mathbb{E} \left|f(x) - f(x + 0.01 \varepsilon)\right|",
        note="what is left without batch normalisation; one pair of inputs for each sample, class scores in place of "
        "the features before pooling",
    ),
    ZooProxy(
        name="meco",
        source="Jiang et al., MeCo, NeurIPS 2023, code",
        cost="forward",
        reads="outputs of the blocks' linears on one Gaussian input",
        function=meco,
        probes=("noise",),
        latex=r"\sum_l \frac{C_l}{8} \lambda_{\min}\left(\operatorname{corr} X_l\right)",
        note="rows are channels, as in the paper; on a ViT the code would take tokens as rows; eight random channels "
        "of each layer (MeCo_opt), because correlations of more channels than tokens are always singular",
    ),
    ZooProxy(
        name="entropic",
        source="entropic score, arXiv 2310.04179, abstract",
        cost="forward",
        reads=_GELU,
        function=entropic,
        needs=(gelu_inputs,),
        latex=r"\mathbb{E}_{l,j} \left[-p \log p - (1 - p) \log(1 - p)\right], \quad p = P(x_{l,j} > 0)",
        note="the exact form is not known to us: ours is the entropy of each neuron being on; meant to be combined "
        "with LogSynFlow, which sees the size",
    ),
    ZooProxy(
        name="az-expressivity",
        source="Lee and Ham, AZ-NAS, CVPR 2024, arXiv 2403.19232",
        cost="forward",
        reads="residual stream after attention and after MLP, Gaussian input",
        function=az_expressivity,
        needs=(after_each_part,),
        probes=("noise",),
        latex=r"\sum_l -\sum_i \tilde\lambda_i \log \tilde\lambda_i",
        note="the residual stream is found by the name norm2; no progressivity on a ViT",
    ),
    ZooProxy(
        name="az-trainability",
        source="Lee and Ham, AZ-NAS, CVPR 2024, arXiv 2403.19232",
        cost="backward",
        reads="residual stream after attention and after MLP, and gradients between them, Gaussian input",
        function=az_trainability,
        needs=(passages,),
        probes=("noise",),
        latex=r"\mathbb{E}_l \left[2 - s_l - \frac{1}{s_l}\right], \quad s ="
        r" \sigma_{\max}\left(\frac{g_{\mathrm{in}}^\top g_{\mathrm{out}}}{BN}\right)",
        note="attention and MLP of each block, with their skip connections; stages' transitions are left out",
    ),
    ZooProxy(
        name="az-complexity",
        source="Lee and Ham, AZ-NAS, CVPR 2024, arXiv 2403.19232",
        cost="structure",
        reads="multiply-adds of one forward pass of one sample",
        formula="flops",
        note="FLOPs; autoprox.zoo.az_nas.log_rank_sum merges the three",
    ),
)

_FEW_STEP = (
    ZooProxy(
        name="gennas",
        source="Li et al., GenNAS, NeurIPS 2021, arXiv 2108.01899",
        cost="few-step",
        reads="tokens of three blocks, regressed onto 2-D sine waves for three steps",
        function=gennas,
        latex=r"-\frac{1}{3} \sum_{s=1}^3 \operatorname{MSE}\left(X_s V_s, \sin 2\pi(u y + v x + \varphi)\right)",
        direction=-1,
        training_free=False,
        note="the paper evolves its targets and trains for seconds on a GPU; stages, waves, steps and rate are ours",
    ),
    ZooProxy(
        name="sigeo",
        source="SiGeo, arXiv 2311.13169, abstract",
        cost="few-step",
        reads=f"loss, and weight gradients of every sample, of {_ALL}, after three steps",
        function=sigeo,
        latex=r"\log \mathbb{E}_i \left\|\nabla L_i\right\|^2 - L",
        training_free=False,
        note="the paper warms a supernet up; the exact score is not known to us, ours is Fisher's trace and the loss",
    ),
    ZooProxy(
        name="training-speed",
        source="TSE-E of Ru et al., NeurIPS 2021, arXiv 2006.04492; the images are ours",
        cost="few-step",
        reads="losses of a hundred steps of training on classes of smooth Gaussian noise",
        function=training_speed,
        latex=r"-\frac{1}{10} \sum_{t=91}^{100} L_t",
        direction=-1,
        training_free=False,
        probes=("noise",),
        note="the paper trains on the task itself; a hundred steps cost two hundred times what other proxies cost",
    ),
)

FUNCTIONS = (*_OVER_ALL, *_GRADIENTS, *_FEATURES, *_FEW_STEP, *ATTENTION, INFO_NAS, INTRAIN, IBFS, W_PCA)


def tvt(teacher: nn.Module) -> ZooProxy:
    """Return TVT (arXiv 2311.14337, code) with a convolutional teacher.

    The teacher returns its last feature map, samples × channels × height × width. The score adds the student's
    similarity to the teacher's attention and its capability: −MSE of attention maps + Σ ‖W‖₂ (see `tvt_score`).
    """
    return ZooProxy(
        name="tvt",
        source="Wei et al., TVT, arXiv 2311.14337, code",
        cost="forward",
        reads="last features of teacher and student, weights of the blocks' linears",
        function=partial(tvt_score, teacher),
        latex=r"-\operatorname{MSE}\left(\frac{a_s}{\|a_s\|}, \frac{a_t}{\|a_t\|}\right) + \sum_l \left\|W_l\right\|_2",
        note="the reference gives its two terms uncombined; added here, where the weights' term outweighs the other",
    )


def tvt_score(
    teacher: nn.Module, model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None
) -> float:
    """Return −MSE of attention maps + Σ ‖W‖₂ over the blocks' linears: `teacher_attention` plus the weights' norms."""
    whole_weights(model, inputs, seed)
    norms = 0.0
    for path in block_linears(network_blocks(model, inputs, layers)):
        norms += float(weight_of(model, path).double().norm())
    return teacher_attention(model, teacher, inputs, seed, layers) + norms
