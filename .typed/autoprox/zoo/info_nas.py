"""Info-NAS (IJCAI 2026): a closed form of the sizes of a vision transformer's blocks, tuned on accuracies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from autoprox.primitives import LayerError
from autoprox.primitives.find_blocks.named import weight_of
from autoprox.scoring import Layers
from autoprox.zoo.record import ZooProxy
from autoprox.zoo.tools import network_blocks, slot_linears


@dataclass(frozen=True)
class BlockSizes:
    """The sizes of a block: its width, its number of heads, and the hidden width of its MLP over its width."""

    width: int
    heads: int
    mlp_ratio: float


#: The constants of the code. Its authors tuned them, and the weights below, on accuracies.
HEAD_POWER = 1.144643514073649
MLP_POWER = 0.5606274602095567
WIDTH_POWER = 2.1458925400545126
HEAD_SHIFT = 3.0298981004448753
HEAD_GAIN = 4.405264203339544
NARROWEST = 0.10875665504668165
STEEPNESS = 27.196547689121708
#: How much capacity, gradient and consistency count.
WEIGHTS = (10.5544027118415, 1.211460571390166, -3.1005067530389736)
#: The input that the constants belong to: pixels times colours, whatever the network reads.
INPUT_SIZE = 224 * 224 * 3
#: The standard deviations of capacity, gradient and consistency over the 1,001 networks of OoD-ViT-NAS tiny.
DEVIATIONS = (8.48754932e4, 1.01780331e8, 1.49304970e9)


def info_nas(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None) -> float:
    """Return w_B B / σ_B + w_G G / σ_G + w_S S / σ_S of the three parts that `information` returns.

    It is Info-NAS (Info-Driven Zero-Cost Proxy, IJCAI 2026), as released in code. We had no text of the paper. The
    authors standardise each part over the networks that they compare (see `standardised_scores`), so that the score of
    a network depends on the others. To score one network, we divide by fixed deviations instead: those over
    OoD-ViT-NAS tiny, where the ranks are the same either way. The score has no unit.

    Raises:
        LayerError: a block has no attention heads, or not one fc1.
    """
    return float(np.divide(information(block_sizes(model, inputs, layers)), DEVIATIONS) @ WEIGHTS)


def block_sizes(model: nn.Module, inputs: Tensor, layers: Layers = None) -> list[BlockSizes]:
    """Return the sizes of the model's blocks in forward order; the width is the number of features that fc1 reads.

    Raises:
        LayerError: a block has no attention heads, or not one fc1.
    """
    blocks = network_blocks(model, inputs, layers)
    found = []
    for number, (block, path) in enumerate(zip(blocks, slot_linears(blocks, "fc1"), strict=True)):
        if not block.heads:
            raise LayerError(f"block {number} shows no number of heads; pass layers=[{{..., 'heads': NUMBER}}, ...]")
        hidden, width = weight_of(model, path).shape[:2]
        found.append(BlockSizes(width, block.heads, hidden / width))
    return found


def information(blocks: Sequence[BlockSizes]) -> np.ndarray:
    """Return capacity B, gradient G and consistency S of a network, from its blocks' sizes in forward order.

    For block i = 0, 1, … with width d, h heads and MLP ratio r:

        I_i = 2 ^ (12 − 2 / max(17 − i, 1))
        u_i = I_i (ln d)^WIDTH_POWER r^MLP_POWER (k (1 + HEAD_GAIN ln(h + HEAD_SHIFT)))^HEAD_POWER
        k = 1 / (1 + exp(−STEEPNESS (h d / INPUT_SIZE − NARROWEST)))
        B = Σ_i u_i,  G = Σ_i |I_{i+1} u_{i+1} − I_{i−1} u_{i−1}|,  S = Σ_{i<j} |I_i u_i − I_j u_j|

    The code means 64 h in place of h in k, to judge from its names, but repeats a list where it should multiply. Its
    constants were tuned with h, so h it is here.
    """
    information_in = [2 ** (12 - 2 / max(17 - i, 1)) for i in range(len(blocks))]
    used = [before * _utilisation(block) for before, block in zip(information_in, blocks, strict=True)]
    flow = np.multiply(information_in, used)
    between = np.abs(flow[:, None] - flow)
    return np.array([sum(used), np.abs(flow[2:] - flow[:-2]).sum(), between.sum() / 2])


def _utilisation(block: BlockSizes) -> float:
    """Return u / I of a block; see `information`."""
    width = block.heads * block.width / INPUT_SIZE
    bottleneck = 1 / (1 + math.exp(-STEEPNESS * (width - NARROWEST)))
    heads = bottleneck * (1 + HEAD_GAIN * math.log(block.heads + HEAD_SHIFT))
    return math.log(block.width) ** WIDTH_POWER * block.mlp_ratio**MLP_POWER * heads**HEAD_POWER


def standardised_scores(networks: Sequence[Sequence[BlockSizes]]) -> np.ndarray:
    """Return the scores of networks among themselves, as the authors compute them: float64, one for each network.

    Each part is standardised over the networks; one that is the same in all of them counts as 0.
    """
    parts = np.array([information(blocks) for blocks in networks])
    deviations = parts.std(0)
    centred = parts - parts.mean(0)
    return np.divide(centred, deviations, out=np.zeros_like(parts), where=deviations > 0) @ WEIGHTS


INFO_NAS = ZooProxy(
    name="info-nas",
    source="Info-NAS: Info-Driven Zero-Cost Proxy, IJCAI 2026, code",
    cost="structure",
    reads="width, heads and MLP ratio of every block",
    function=info_nas,
    probes=(),
    latex=r"w_B \frac{B}{\sigma_B} + w_G \frac{G}{\sigma_G} + w_S \frac{S}{\sigma_S}",
    note="no network is run; its ten constants were tuned on accuracies, those of all of OoD-ViT-NAS tiny among them; "
    "parts are scaled by fixed deviations, where the code standardises them over the networks compared",
)
